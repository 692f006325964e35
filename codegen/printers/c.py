"""ir.Program -> a NumPy module whose loops over t and pointwise statements are C, compiled when it is imported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from codegen.ir import (
    ONCE,
    Buffer,
    Function,
    Fused,
    Loop,
    MatMul,
    Reduce,
    SparseMatMul,
    Staggered,
    Statement,
    Store,
    views_of,
)
from codegen.passes import fuse_pointwise, keep_in_registers, sink_pointwise, stack_products
from codegen.printers.c_library import IMPORTS, LIBRARY
from codegen.printers.c_loops import RegionText, StepText, is_compiled
from codegen.printers.c_places import VECTORS
from codegen.printers.c_sparse import FUNCTIONS as SPARSE_FUNCTIONS
from codegen.printers.c_support import common_text, core_text
from codegen.printers.loops import LoopText
from codegen.printers.numpy import NumPyPrinter
from codegen.printers.views import wrapped
from codegen.program import Program
from codegen.walk import statements_in, targets_of

PASSED = {"parameter": "vector", "direction": "direction", "gradient": "gradient"}  # storage -> name in Python


def print_c(program: Program) -> str:
    """The source of a NumPy module with a C core that computes ``program``."""
    return CPrinter(program).source()


class CPrinter(NumPyPrinter):
    """Runs of loops and pointwise statements become one call of a C function each, and so does a stream's step."""

    imports = (*(f"import {name}" for name in IMPORTS), *NumPyPrinter.imports)
    needs = "numpy and a C compiler"

    def __init__(self, program: Program) -> None:
        self.regions: list[RegionText] = []
        super().__init__(program)
        self.module_names.taken |= {
            *IMPORTS,
            "concurrent",
            "importlib",
            "CORE",
            "COMMON",
            "FLAGS",
            "CORE_FUNCTIONS",
            "THREADS",
        }

    def prepare(self, function: Function) -> Function:
        """Pointwise statements of one shape become one loop; what stands outside of C is that of NumPy."""
        return keep_in_registers(fuse_pointwise(sink_pointwise(stack_products(function))))

    def extra_parts(self) -> list[str]:
        """The C source and how it is built."""
        sparse = [SPARSE_FUNCTIONS] if any(region.places.tables for region in self.regions) else []
        core = core_text(self.program.dtype, [*sparse, *(region.text() for region in self.regions)])
        names = [name for region in self.regions for name in region.functions]
        listed = "\n".join(f"    {name!r}," for name in names)
        source = f'\nCOMMON = r"""\n{common_text(self.program.dtype)}"""\n\nCORE = r"""\n{core}"""\n'
        source += f"CORE_FUNCTIONS = (\n{listed}\n)\n"
        return [*super().extra_parts(), source + LIBRARY]

    def _start(self, function: Function) -> None:
        super()._start(function)
        self._given: set[str] = set()  # C reads the workspace alone
        self._users = _users(function)
        self._compiled: list[RegionText] = []

    def lines(self, statements: Sequence[Statement]) -> list[str]:
        """Statements outside of loops: runs of those that C can do as calls, the others as NumPy has them."""
        result: list[str] = []
        run: list[Statement] = []
        after: list[Statement] = []  # totals of what the run computes: they come after it

        def finish() -> None:
            worth = any(isinstance(each, Loop | Staggered | Fused | MatMul | SparseMatMul) for each in run)
            result.extend(self._call(run) if worth else super(CPrinter, self).lines(run))
            result.extend(super(CPrinter, self).lines(after))
            run.clear()
            after.clear()

        for statement in statements:
            summed = {view.buffer.name for total in after for view in views_of(total)}
            if is_compiled(statement):
                if any(view.buffer.name in summed for view in targets_of(statements_in(statement))):
                    finish()
                run.append(statement)
            elif run and _is_total(statement):
                after.append(statement)
            else:
                finish()
                result += super().lines([statement])
        finish()
        return result

    def _call(self, run: Sequence[Statement]) -> list[str]:
        name = f"{self.function.name}_{len(self._compiled) + 1}"
        region = RegionText(name, self.program.dtype, run, self._users)
        notes = [note for statement in run for note in self._note(statement.note, "    ")]
        steps = "1" if self.function.name == "stream" else "T"
        return [*notes, f"    _core.{name}({self._arguments(region)}, {steps}, batch)"]

    def _arguments(self, region: RegionText) -> str:
        """What a region's functions are given, but for the lengths."""
        self.regions.append(region)
        self._compiled.append(region)
        vectors = [
            f"_address({PASSED[storage]})" if storage in region.places.vectors else "None" for storage in VECTORS
        ]
        held = region.places.memory or region.places.scratch or region.places.tables
        table = f"work.memory_{len(self._compiled)}" if held else "None"
        return f"{table}, {', '.join(vectors)}"

    def _loop(self, loop: Loop, in_order: bool) -> LoopText:
        """The step of a stream, the only loop that is no part of a run: its views are the number of its row."""
        name = f"{self.function.name}_step"
        step = StepText(name, self.program.dtype, loop)
        arguments = self._arguments(step)
        before = [
            f"    _core.{name}_pack({arguments}, 1, batch)",
            f"    arguments = {arguments}",
            "    work.vector = vector  # whose address the steps have",
            f"    advance = _core.{name}",
        ]
        return LoopText(before, ["row"], self._steps(1), ["advance(*arguments, row, batch)"])

    def _allocations(self, copied: str = ONCE) -> list[str]:
        """Packed matrices and what gradients are summed up in, too."""
        times = {"one": "", "each": "THREADS * ", "others": "(THREADS - 1) * "}
        packed = [
            f"        self.{name}_{number} = np.empty({times[whose]}{size}, DTYPE)"
            for number, region in enumerate(self._compiled, start=1)
            for name, (size, whose) in region.places.scratch.items()
        ]
        return [*super()._allocations(copied), *packed]

    def _cut_views(self) -> list[str]:
        """The tables of addresses, too."""
        lines = super()._cut_views()
        if self.function.name == "stream":
            lines.append(f"        self.{self._steps(1)} = [(row,) for row in range(ROWS)]")
        for number, region in enumerate(self._compiled, start=1):
            arrays = [self._array(buffer) for buffer in region.places.memory.values()]
            arrays += [f"self.{name}_{number}" for name in region.places.scratch]
            sides = {True: "backward", False: "forward"}
            arrays += [
                f"{self.pattern(pattern)}.{sides[back]}.table" for pattern, back in region.places.tables.values()
            ]
            if arrays:
                lines += [f"        self.memory_{number} = _memory(", *wrapped(arrays, 12), "        )"]
        return lines

    def allocation(self, buffer: Buffer) -> list[tuple[str, str]]:
        """Some buffers hold the steps of a chunk."""
        for region in self._compiled:
            if (rows := region.chunked.get(buffer.name)) is not None:
                name = self.views.buffer(buffer)
                return [(name, f"np.zeros((max({rows} // batch, 1), batch, {buffer.columns}), DTYPE)")]
        return super().allocation(buffer)

    def _array(self, buffer: Buffer) -> str:
        name = self.views.buffer(buffer)
        return name if buffer.storage == "constant" else f"self.{name}"


def _is_total(statement: Statement) -> bool:
    """Whether it makes a number of whole arrays, or gives one to the caller: nothing in C reads such a number."""
    if isinstance(statement, Reduce):
        return statement.kind == "all"
    return isinstance(statement, Store) and statement.what == "loss"


def _users(function: Function) -> Counter[str]:
    """How many statements touch a buffer; a loop is one."""
    users: Counter[str] = Counter()
    for statement in function.body:
        users.update({view.buffer.name for inner in statements_in(statement) for view in views_of(inner)})
    return users
