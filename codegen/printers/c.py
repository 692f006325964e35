"""ir.Program -> a NumPy module whose loops over t, products and pointwise statements are C, compiled on import."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from codegen.ir import (
    ONCE,
    Buffer,
    Function,
    Fused,
    Loop,
    MatMul,
    Reduce,
    SparseMatMul,
    StackMatMul,
    Staggered,
    Statement,
    Store,
    views_of,
)
from codegen.names import words_of
from codegen.passes import fuse_pointwise, keep_in_registers, share_buffers, sink_pointwise, stack_products
from codegen.printers.c_carried import CarriedText
from codegen.printers.c_library import CALLS, IMPORTS, LIBRARY
from codegen.printers.c_loops import RegionText, StepText, is_compiled
from codegen.printers.c_places import VECTORS
from codegen.printers.c_sparse import FUNCTIONS as SPARSE_FUNCTIONS
from codegen.printers.c_support import common_text, core_text
from codegen.printers.c_sweep import SUMS
from codegen.printers.loops import LoopText
from codegen.printers.numpy import NumPyPrinter
from codegen.printers.views import wrapped
from codegen.program import Program
from codegen.sweep import Sweep
from codegen.walk import statements_in, targets_of

WORTH = Loop | Staggered | Fused | MatMul | SparseMatMul | StackMatMul | Sweep  # a call of C; NumPy has the rest
PASSED = {"parameter": "vector", "direction": "direction", "gradient": "gradient"}  # storage -> name in Python


def print_c(program: Program) -> str:
    """The source of a NumPy module with a C core that computes ``program``."""
    return CPrinter(program).source()


class CPrinter(NumPyPrinter):
    """Runs of loops, products and pointwise statements become a call of a C function each; so does a stream's step."""

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
            "GCC_LEVEL",
            "GCC_VECTORS",
            "CORE_FUNCTIONS",
            "THREADS",
            "_Call",
            "_Given",
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
        calls = [CALLS.replace("{step}", region.name) for region in self.regions if isinstance(region, StepText)]
        return [*super().extra_parts(), source + LIBRARY, *calls]

    def _start(self, function: Function) -> None:
        super()._start(function)
        self._given: set[str] = set()  # C reads the workspace alone
        self._users = _users(function)
        self._compiled: list[RegionText] = []
        self._held: list[Statement] = []  # what the first region does once for all stretches
        self._packing: list[str] = []  # the calls for that, which pack matrices, too

    def lines(self, statements: Sequence[Statement]) -> list[str]:
        """Statements outside of loops: runs of those that C can do as calls, the others as NumPy has them."""
        result: list[str] = []
        run: list[Statement] = []
        after: list[Statement] = []  # totals of what the run computes: they come after it

        def finish() -> None:
            worth = any(isinstance(each, WORTH) for each in run)
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
        apart = self._held if self.views.stretched else None
        after = []
        for statement in run:
            if isinstance(statement, Sweep):
                self.swept = CarriedText(self, statement, self.scratch(SUMS, len(self._compiled) + 1))
                after = ["    sensitivities.time += T"]
        vector_size = self.program.vector_size + self.program.inner_size
        region = RegionText(name, self.program.dtype, run, self._users, apart, vector_size)
        self._held = []
        notes = [note for statement in run for note in self._note(statement.note, "    ")]
        steps = "1" if self.function.name == "stream" else "T"
        self._add(region)
        if region.packing:
            about_matrices = [note for statement in apart or () for note in self._note(statement.note, "    ")]
            arguments = self._arguments(region, region.packing)
            self._packing += [*about_matrices, f"    _core.{name}_pack({arguments}, 1, batch)"]
        call = f"    _core.{name}({self._arguments(region, region.lines)}, {steps}, batch)"
        return [*notes, *self._set_carried(region), call, *after]

    def _set_carried(self, region: RegionText) -> list[str]:
        """What a sweep carries from call to call, as the end of the table: the caller's arrays, and the time."""
        carried = list(region.places.carried.values())
        if not carried:
            return []
        table = f"work.{self._table(len(self._compiled))}"
        numbers = [each if each.endswith(".time") else f"_address({each})" for each in carried]
        return [f"    {table}[-{len(carried)}:] = (", *wrapped(numbers, 8), "    )"]

    def lines_of_weights(self, statements: Sequence[Statement]) -> list[str]:
        """What C can do of them, after the rest, stands in the function that packs matrices."""
        held = len(statements)
        while held and is_compiled(statements[held - 1]) and not isinstance(statements[held - 1], MatMul):
            held -= 1
        self.views.stretched = False  # these are no part of a stretch
        lines = self.lines(statements[:held])
        self.views.stretched = True
        self._held = list(statements[held:])
        return lines

    def lines_before_stretches(self) -> list[str]:
        """Matrices are packed once."""
        held, self._held = self._held, []  # where no region follows
        return [*self._packing, *self.lines(held)]

    def _add(self, region: RegionText) -> None:
        self.regions.append(region)
        self._compiled.append(region)

    def _arguments(self, region: RegionText, lines: Sequence[str]) -> str:
        """What that one of a region's functions which has these lines is given, but for the lengths."""
        table, vectors = self._passed(region, lines)
        return ", ".join([table, *vectors.values()])

    def _passed(self, region: RegionText, lines: Sequence[str]) -> tuple[str, dict[str, str]]:
        """The same: the table, and the addresses of vectors by their names in C."""
        used = words_of(lines)
        vectors = {
            name: f"_address({PASSED[storage]})" if name in used else "None" for storage, name in VECTORS.items()
        }
        places = region.places
        held = places.memory or places.scratch or places.tables or places.carried
        return f"work.{self._table(len(self._compiled))}" if held else "None", vectors

    def _loop(self, loop: Loop, in_order: bool) -> LoopText:
        """The step of a stream, the only loop that is no part of a run: its views are the number of its row."""
        name = f"{self.function.name}_step"
        step = StepText(name, self.program.dtype, loop)
        self._add(step)
        lines = [*step.lines, *step.packing]
        table, vectors = self._passed(step, lines)
        given = f"work.{self._given_name()}"
        fields = {"memory": f"ctypes.addressof({table})" if table != "None" else table, **vectors, "batch": "batch"}
        before = [
            f"    _core.{name}_pack({self._arguments(step, lines)}, 1, batch)",
            "    work.vectors = *work.vectors[-1:], vector  # that whose address steps have, and the new one",
            *(f"    {given}.{field} = {value}" for field, value in fields.items() if value != "None"),
        ]
        return LoopText(before, [], self._steps(1), [], f"_core.{name}")

    def _workspace_class(self) -> list[str]:
        """What is not needed at the same time shares memory: all but what holds the steps of a chunk. Totals may come
        after the statements that follow them."""
        chunked = {name for region in self._compiled for name in region.chunked}
        body = sorted(self.function.body, key=_is_total)
        self.function = share_buffers(replace(self.function, body=tuple(body)), chunked, threads=True)
        return super()._workspace_class()

    def _allocations(self, copied: str = ONCE) -> list[str]:
        """Packed matrices and what gradients are summed up in, too."""
        times = {"one": "", "each": "THREADS * ", "others": "(THREADS - 1) * "}
        packed = [
            f"        self.{self.scratch(name, number)} = np.empty({times[whose]}{size}, DTYPE)"
            for number, region in enumerate(self._compiled, start=1)
            for name, (size, whose) in region.places.scratch.items()
        ]
        return [*super()._allocations(copied), *packed]

    def _cut_views(self) -> list[str]:
        """The tables of addresses, too."""
        lines = super()._cut_views()
        if self.function.name == "stream":
            given = f"self.{self._given_name()}"
            lines += [
                "        self.vectors = ()",
                f"        {given} = _Given()",
                f"        here = ctypes.pointer({given})",
                f"        self.{self._steps(1)} = [(ctypes.byref(_Call(here, row)),) for row in range(ROWS)]",
            ]
        for number, region in enumerate(self._compiled, start=1):
            arrays = [self._array(buffer) for buffer in region.places.memory.values()]
            arrays += [f"self.{self.scratch(name, number)}" for name in region.places.scratch]
            sides = {True: "backward", False: "forward"}
            arrays += [
                f"{self.pattern(pattern)}.{sides[back]}.table" for pattern, back in region.places.tables.values()
            ]
            if region.places.carried:
                arrays.append(f"more={len(region.places.carried)}")
            if arrays:
                lines += [f"        self.{self._table(number)} = _memory(", *wrapped(arrays, 12), "        )"]
        return lines

    def allocation(self, buffer: Buffer) -> list[tuple[str, str]]:
        """Some buffers hold the steps of a chunk; stacked sources lie in what each thread has."""
        if buffer.shape == "stack":
            return []
        for region in self._compiled:
            if buffer.name in region.chunked:
                name, (rows, steps) = self.views.buffer(buffer), region.chunked[buffer.name]
                chunk = f"max({rows} // batch, 1)" if steps == 1 else f"max({rows} // ({steps} * batch), 1) * {steps}"
                return [(name, f"np.zeros(({chunk}, batch, {buffer.columns}), DTYPE)")]
        return super().allocation(buffer)

    def _given_name(self) -> str:
        """The workspace's attribute that holds what all steps of a stream are given."""
        return self.names.name(("given",), "given_to_steps")

    def _table(self, number: int) -> str:
        """The workspace's attribute that holds a region's table of addresses."""
        return self.names.name(("memory", number), f"memory_{number}")

    def scratch(self, name: str, number: int) -> str:
        """The workspace's attribute that holds what a region has beside its buffers."""
        return self.names.name(("scratch", name, number), f"{name}_{number}")

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
