"""ir.Program -> a standalone CuPy module: products by cuBLAS, everything pointwise by kernels of one CUDA source."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.ir import (
    Bound,
    Copy,
    Entrywise,
    Fill,
    Function,
    Fused,
    Load,
    MatMul,
    Reduce,
    SparseGradient,
    SparseMatMul,
    Statement,
    Step,
    Store,
    Turn,
    View,
)
from codegen.names import mangle
from codegen.passes import fuse_pointwise, keep_in_registers, pack_products, share_buffers
from codegen.passes.fuse_pointwise import MOMENT, iteration_space
from codegen.printers.cuda import Kernel, fused_kernel, module_text, row_reduction, sparse_gradient, sparse_sums
from codegen.printers.sparse import first_row, gathered_rows, reach
from codegen.printers.statements import StatementPrinter
from codegen.printers.views import bound_text, wrapped
from codegen.program import Program

LAUNCHING = '''
_module = cp.RawModule(code=CUDA, options=("--std=c++14",))  # compiled at the first call that needs it
BLOCK = (256,)


@functools.cache
def _kernel(name):
    """One of the kernels of CUDA."""
    return _module.get_function(name)


def _grid(elements):
    """The grid that gives each element a thread of its own, and the number of elements as a kernel's argument."""
    return (max(1, -(-elements // BLOCK[0])),), np.int64(elements)
'''

ON_DEVICE = '''
def _on_device(arrays):
    """The mapping with each array on the device."""
{units}    return {name: cp.asarray(array) for name, array in arrays.items()}
'''

UNITS_ON_DEVICE = """\
    if isinstance(arrays, UnitStates):
        return UnitStates(_on_device(arrays.layers), _on_device(arrays.nodes))
"""

NAME = "@name@"  # stands for a kernel's name until it is known that no equal one exists


def print_cupy(program: Program) -> str:
    """The source of a CuPy module that computes ``program``."""
    return CuPyPrinter(program).source()


class CuPyPrinter(StatementPrinter):
    """Prints Fused statements as launches of kernels; the loop over t stays in Python."""

    xp = "cp"
    imports = (
        "import functools",
        "import threading",
        "from collections.abc import Mapping",
        "",
        "import cupy as cp",
        "import numpy as np",
    )
    needs = "cupy and numpy"
    held_bytes = "1 << 34"
    stretch_bytes = "1 << 26"
    on_device, as_array = "_on_device({})", "cp.asarray({})"
    protect = ""  # CuPy has no arrays to read only

    def __init__(self, program: Program) -> None:
        self.kernels: dict[str, str] = {}  # text -> name
        super().__init__(program)
        self.module_names.taken |= {"functools", "BLOCK", "CUDA"}

    def prepare(self, function: Function) -> Function:
        """Products get contiguous operands, pointwise statements of one shape become one kernel."""
        return share_buffers(keep_in_registers(fuse_pointwise(pack_products(function))))

    def extra_parts(self) -> list[str]:
        """The CUDA source and how it is launched."""
        on_device = ON_DEVICE.replace("{units}", UNITS_ON_DEVICE if self.program.layers else "")
        parts = [*super().extra_parts(), on_device]
        if not self.kernels:
            return parts
        cuda = module_text(self.program.dtype, [text.replace(NAME, name) for text, name in self.kernels.items()])
        return [*parts, f'\nCUDA = r"""\n{cuda}"""\n' + LAUNCHING]

    def preamble(self) -> list[str]:
        """What the caller gave moves to the device; grids and kernels get local names."""
        lines = [] if self.function.name == "stream" else ["    inputs, given = _on_device(inputs), _on_device(given)"]
        if self.takes_targets:
            lines += ["    targets = _on_device(targets)"]
        if self.ufuncs:
            names = sorted(self.ufuncs)
            lines.append(f"    {', '.join(names)} = {', '.join(f'cp.{name}' for name in names)}")
        lines += [f"    {', '.join(names)} = _grid({elements})" for elements, names in self._spaces.items()]
        lines += [f'    {name} = _kernel("{name}")' for name in self._launched]
        return lines

    def _start(self, function: Function) -> None:
        super()._start(function)
        self._spaces: dict[str, tuple[str, str]] = {}  # number of elements -> names of its grid and of itself
        self._launched: dict[str, None] = {}  # a set in order

    def _result(self) -> list[str]:
        return [line.replace("return loss", "return float(loss)") for line in super()._result()]

    # Statements.

    def simple(self, statement: Statement) -> list[str]:
        """One or a few lines per statement."""
        if isinstance(statement, Fused):
            kernel = fused_kernel(NAME, statement, self.program.dtype)
            return self._launch(kernel, [part.target for part in statement.parts], *iteration_space(statement.parts[0]))
        if isinstance(statement, MatMul):
            self.ufuncs.add("matmul")
            left, right, target = (self.matrix(view) for view in (statement.left, statement.right, statement.target))
            return [f"matmul({left}, {right}, out={target})"]
        if isinstance(statement, SparseMatMul):
            return self._sparse(statement)
        if isinstance(statement, SparseGradient):
            return self._sparse_gradient(statement)
        if isinstance(statement, Turn):
            return self.turn(statement)
        if isinstance(statement, Entrywise):
            return self.entrywise(statement)
        if isinstance(statement, Copy):
            return self.copy(statement)
        if isinstance(statement, Fill):
            return self.fill(statement)
        if isinstance(statement, Reduce):
            return self.reduce(statement)
        if isinstance(statement, Load):
            return self.load(statement)
        assert isinstance(statement, Store), f"{type(statement).__name__} must be fused by a pass before printing"
        return self.store(statement)

    def _sparse(self, statement: SparseMatMul) -> list[str]:
        """A launch with a thread for each unit and sequence."""
        pattern, source = statement.pattern, statement.source
        units = pattern.rows if statement.transposed else pattern.columns
        sums = f"{self.pattern(pattern)}.{'backward' if statement.transposed else 'forward'}"
        weights = self.bind(f"{self.views.text(statement.values)}[{sums}.entries]", f"ordered_{pattern.name}")
        kernel = sparse_sums(NAME, statement, self.program.dtype)
        if isinstance(source.time, Step):
            history = self.rows_read(statement)
        else:
            history = f"{self.views.buffer(source.buffer)}[{first_row(source, reach(statement)[0])}:]"
        more = [history, weights, self.bind(f"{sums}.table", f"table_{pattern.name}"), self._batch()]
        rows, _ = iteration_space(Fill(statement.target, 0.0))
        return self._launch(kernel, [statement.target], rows, units, more)

    def _sparse_gradient(self, statement: SparseGradient) -> list[str]:
        """A launch with a thread for each entry."""
        left = gathered_rows(statement)
        kernel = sparse_gradient(NAME, statement, left, self.program.dtype)
        more = [f"{self.pattern(statement.pattern)}.places", "np.int64(T * batch)", self._batch()]
        count = len(statement.pattern)
        zero = [] if count == statement.pattern.weights else [f"{self.target(statement.target)} = 0.0"]
        return [*zero, *self._launch(kernel, [statement.target], count, 1, more)]

    def _batch(self) -> str:
        return self.bind("np.int64(batch)", "sequences")

    def _launch(
        self, kernel: Kernel, targets: list[View], rows: object, columns: int, more: Sequence[str] = ()
    ) -> list[str]:
        """The call of a kernel with a thread for each of rows x columns elements; ``more`` arguments stand behind the
        kernel's views. Equal kernels are one."""
        if kernel.text not in self.kernels:
            labels = dict.fromkeys(MOMENT.sub("", view.label) for view in targets)
            wanted = mangle(f"set_{'_'.join(labels)}")[:40].rstrip("_")
            self.kernels[kernel.text] = self.module_names.name(("kernel", kernel.text), wanted)
        name = self.kernels[kernel.text]
        self._launched[name] = None
        count, steps = _elements(rows, columns), targets[0].steps
        grid, elements = self._space(count) if steps <= 1 else self._space_of_a_turn(count, steps)
        arguments = [*(self.view(view) for view in kernel.arguments), *more, elements]
        line = f"{name}({grid}, BLOCK, ({', '.join(arguments)}))"
        if len(line) <= 100:
            return [line]
        return [f"{name}({grid}, BLOCK, (", *wrapped(arguments, 4), "))"]

    def _space(self, elements: str) -> tuple[str, str]:
        if elements not in self._spaces:
            number = len(self._spaces) + 1
            grid, count = (self.names.name((word, number), f"{word}_{number}") for word in ("grid", "elements"))
            self._spaces[elements] = grid, count
        return self._spaces[elements]

    def _space_of_a_turn(self, elements: str, steps: int) -> tuple[str, str]:
        """Those of a loop that takes several steps at once, ``elements`` in each: a part of each turn's views."""
        assert self.entries is not None, "a step outside a loop"
        number = len(self.loops) + 1, elements, steps
        names = tuple(self.names.name((word, number), f"{word}_of_turn") for word in ("grid", "elements"))
        turns = f"[_grid(min({steps}, T - t) * {elements}) for t in range(0, T, {steps})]"
        self.entries.setdefault(f"({names[0]}, {names[1]})", turns)
        return names[0], names[1]

    def reduce(self, statement: Reduce) -> list[str]:
        """Outside of loops as NumPy has it."""
        if self.entries is not None:  # inside a loop: a kernel, which needs no memory of its own
            kernel = row_reduction(NAME, statement, self.program.dtype)
            return self._launch(kernel, [statement.target], "batch", 1)
        return super().reduce(statement)


def _elements(rows: object, columns: int) -> str:
    """rows x columns in terms of T and batch; ``rows`` as iteration_space gives them."""
    if isinstance(rows, int):
        return str(rows * columns)
    factors = [] if columns == 1 else [str(columns)]
    if isinstance(rows, tuple):
        length = bound_text(Bound(*rows))
        factors.insert(0, f"({length})" if " " in length else length)
    return " * ".join(["batch", *factors])
