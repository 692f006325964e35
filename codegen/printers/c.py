"""ir.Program -> a NumPy module whose loops over t and pointwise statements are C, compiled when it is imported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from codegen.ir import ONCE, Buffer, Function, Fused, Loop, Staggered, Statement, views_of
from codegen.passes import fuse_pointwise, keep_in_registers, sink_pointwise, stack_products
from codegen.printers.c_ahead import ROWS
from codegen.printers.c_library import IMPORTS, LIBRARY
from codegen.printers.c_loops import VECTORS, RegionText, StepText, is_compiled
from codegen.printers.c_support import core_text, products_text
from codegen.printers.loops import LoopText
from codegen.printers.numpy import NumPyPrinter
from codegen.printers.views import wrapped
from codegen.program import Program
from codegen.walk import statements_in

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
        self.module_names.taken |= {*IMPORTS, "importlib", "CORE", "PRODUCTS", "FLAGS", "CORE_FUNCTIONS"}

    def prepare(self, function: Function) -> Function:
        """Pointwise statements of one shape become one loop; what stands outside of C is that of NumPy."""
        return keep_in_registers(fuse_pointwise(sink_pointwise(stack_products(function))))

    def extra_parts(self) -> list[str]:
        """The C source and how it is built."""
        core = core_text(self.program.dtype, [region.text() for region in self.regions])
        names = [name for region in self.regions for name in region.functions]
        listed = "\n".join(f"    {name!r}," for name in names)
        source = f'\nPRODUCTS = r"""\n{products_text(self.program.dtype)}"""\n\nCORE = r"""\n{core}"""\n'
        source += f"CORE_FUNCTIONS = (\n{listed}\n)\n"
        return [*super().extra_parts(), source + LIBRARY]

    def _start(self, function: Function) -> None:
        super()._start(function)
        self._given: set[str] = set()  # C reads the workspace alone
        self._private = _private_buffers(function)
        self._compiled: list[RegionText] = []

    def lines(self, statements: Sequence[Statement]) -> list[str]:
        """Statements outside of loops: runs of those that C can do as calls, the others as NumPy has them."""
        result: list[str] = []
        run: list[Statement] = []
        for statement in (*statements, None):
            if statement is not None and is_compiled(statement):
                run.append(statement)
                continue
            worth = any(isinstance(each, Loop | Staggered | Fused) for each in run)
            result += self._call(run) if worth else super().lines(run)
            run = []
            if statement is not None:
                result += super().lines([statement])
        return result

    def _call(self, run: Sequence[Statement]) -> list[str]:
        name = f"{self.function.name}_{len(self._compiled) + 1}"
        region = RegionText(name, self.program.dtype, run, self._private)
        notes = [note for statement in run for note in self._note(statement.note, "    ")]
        steps = "1" if self.function.name == "stream" else "T"
        return [*notes, f"    _core.{name}({self._arguments(region)}, {steps}, batch)"]

    def _arguments(self, region: RegionText) -> str:
        """What a region's functions are given, but for the lengths."""
        self.regions.append(region)
        self._compiled.append(region)
        vectors = [f"_address({PASSED[storage]})" if storage in region.vectors else "None" for storage in VECTORS]
        table = f"work.memory_{len(self._compiled)}" if region.memory or region.packed else "None"
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
        """Packed matrices, too."""
        packed = [
            f"        self.{name}_{number} = np.empty({size}, DTYPE)"
            for number, region in enumerate(self._compiled, start=1)
            for name, size in region.packed
        ]
        return [*super()._allocations(copied), *packed]

    def _cut_views(self) -> list[str]:
        """The tables of addresses, too."""
        lines = super()._cut_views()
        if self.function.name == "stream":
            lines.append(f"        self.{self._steps(1)} = [(row,) for row in range(ROWS)]")
        for number, region in enumerate(self._compiled, start=1):
            arrays = [self._array(buffer) for buffer in region.memory.values()]
            arrays += [f"self.{name}_{number}" for name, _ in region.packed]
            if arrays:
                lines += [f"        self.memory_{number} = _memory(", *wrapped(arrays, 12), "        )"]
        return lines

    def allocation(self, buffer: Buffer) -> list[tuple[str, str]]:
        """Some buffers of one step hold those of a chunk of steps."""
        if any(buffer.name in region.chunked for region in self._compiled):
            name = self.views.buffer(buffer)
            return [(name, f"np.zeros((max({ROWS} // batch, 1), batch, {buffer.columns}), DTYPE)")]
        return super().allocation(buffer)

    def _array(self, buffer: Buffer) -> str:
        name = self.views.buffer(buffer)
        return name if buffer.storage == "constant" else f"self.{name}"


def _private_buffers(function: Function) -> set[str]:
    """The buffers that one statement outside of loops, or one loop, alone touches."""
    users: Counter[str] = Counter()
    for statement in function.body:
        users.update({view.buffer.name for inner in statements_in(statement) for view in views_of(inner)})
    return {name for name, count in users.items() if count == 1}
