"""ir.Program -> a standalone NumPy module."""

from __future__ import annotations

from codegen.ir import (
    Apply,
    Bound,
    Buffer,
    Copy,
    Entrywise,
    Fill,
    Function,
    Load,
    Loop,
    MatMul,
    Reduce,
    Span,
    SparseGradient,
    SparseMatMul,
    StackMatMul,
    Statement,
    Step,
    Store,
    Turn,
    View,
    views_of,
)
from codegen.passes import block_gates, expand_pointwise, merge_neighbours, share_buffers, stack_products
from codegen.printers.recurrences import Recurrence, RecurrenceText, recurrence_of
from codegen.printers.sparse import first_row, gathered_rows, reach
from codegen.printers.stacks import StackText, stack_allocation
from codegen.printers.statements import StatementPrinter
from codegen.printers.views import bound_text, grouping, wrapped
from codegen.program import Program
from codegen.ufuncs import UFUNCS

# Numbers in a loop are arrays of no axes: a Python number costs a ufunc twice the time of a short call.
NUMBER_NAMES = {0.0: "ZERO", 0.5: "HALF", 1.0: "ONE", 2.0: "TWO", -1.0: "MINUS_ONE"}


def print_numpy(program: Program) -> str:
    """The source of a NumPy module that computes ``program``."""
    return NumPyPrinter(program).source()


class NumPyPrinter(StatementPrinter):
    """Prints Applies as ufunc calls with ``out=``. ``work`` is the workspace in the emitted functions."""

    xp = "np"
    imports: tuple[str, ...] = ("import threading", "from collections.abc import Mapping", "", "import numpy as np")
    needs = "numpy"
    product_size = 10**6
    loop_note = " (each call writes to its last argument)"

    def __init__(self, program: Program) -> None:
        self.numbers: dict[float, str] = {}
        super().__init__(program)

    def prepare(self, function: Function) -> Function:
        """Assigns become Applies, gates lie in blocks, equal calls on neighbours are merged, taps stacked by parts;
        what is not needed at the same time shares memory."""
        function = stack_products(merge_neighbours(block_gates(expand_pointwise(function))))
        return share_buffers(
            function, _read_as_given(function), whole=lambda each: self._recurrence(each, function) is not None
        )

    def extra_parts(self) -> list[str]:
        """The numbers that loops use."""
        lines = [f"{name} = np.array({value!r}, DTYPE)" for value, name in self.numbers.items()]
        return [*super().extra_parts(), *(["\n" + "\n".join(lines) + "\n"] if lines else [])]

    def preamble(self) -> list[str]:
        """Local names of the functions that are called."""
        lines = []
        if self.ufuncs:
            for names in (line.strip().rstrip(",").split(", ") for line in wrapped(sorted(self.ufuncs), 0, 50)):
                lines.append(f"    {', '.join(names)} = {', '.join(f'{self.xp}.{name}' for name in names)}")
        if any(buffer.groups > 1 and buffer.shape == "matrix" for buffer in self.function.buffers().values()):
            lines.append("    product = np.dot if batch == 1 else np.matmul  # one row: all blocks at once")
        return lines

    # What the caller gave for the whole sequence, and only pointwise calls read, is used as it is.

    def in_workspace(self, buffer: Buffer) -> bool:
        """Buffers of the workspace: all but scalars and what is read in the caller's arrays."""
        return super().in_workspace(buffer) and buffer.name not in self._given

    def _start(self, function: Function) -> None:
        super()._start(function)
        self._given = _read_as_given(function)
        self.recurrences = 0

    def allocation(self, buffer: Buffer) -> list[tuple[str, str]]:
        """Blocked buffers hold one gate after the other; with one row the layouts are the same memory. A stack holds as
        many steps as stay in the cache."""
        if buffer.shape == "stack":
            return [stack_allocation(self.views, buffer)]
        if buffer.groups == 1:
            return super().allocation(buffer)
        name, gates, width = self.views.buffer(buffer), buffer.groups, buffer.columns // buffer.groups
        if buffer.shape == "matrix":
            flat, by_block = f"({buffer.rows}, {buffer.columns})", f"({gates}, {buffer.rows}, {width})"
            regrouped = f"self.{name}.reshape({buffer.rows}, {gates}, {width}).transpose(1, 0, 2)"
            return [
                (name, f"np.zeros({flat} if batch == 1 else {by_block}, DTYPE)"),
                (self.views.by_block(buffer), f"{regrouped} if batch == 1 else self.{name}"),
            ]
        return [(name, self.array(buffer))]

    def shape(self, buffer: Buffer) -> str:
        """That of a blocked buffer has an axis for the gates."""
        if buffer.groups == 1 or buffer.shape == "matrix":
            return super().shape(buffer)
        rows = f"{bound_text(buffer.length)}, " if buffer.shape == "sequence" else ""
        return f"({rows}{buffer.groups}, batch, {buffer.columns // buffer.groups})"

    # Statements.

    def _statement(self, statement: Statement) -> list[str]:
        """Linear recurrences of few units are cut into blocks of time."""
        found = self._recurrence(statement, self.function)
        if not isinstance(statement, Loop) or found is None:
            return super()._statement(statement)
        self.helpers.add("_Recurrence")
        self.recurrences += 1
        name = self.names.name(("recurrence", self.recurrences), f"recurrence_{self.recurrences}")
        text = RecurrenceText(found, statement.backward, name, self.views.text)
        self.once += [f"self.{line}" for line in text.once()]
        if found.carried is not None:
            self.ufuncs |= {"add", "multiply"}
        notes = [note for inner in (statement, *statement.body) for note in self._note(inner.note, "    ")]
        return [*notes, *("    " + line for line in text.lines())]

    def _recurrence(self, statement: Statement, function: Function) -> Recurrence | None:
        """The linear recurrence that a loop is, where its text is not that of a loop."""
        if not isinstance(statement, Loop) or function.name == "stream":
            return None
        return recurrence_of(statement, function)

    def simple(self, statement: Statement) -> list[str]:
        """One or a few lines per statement."""
        if isinstance(statement, MatMul):
            return self._matmul(statement)
        if isinstance(statement, Entrywise):
            return self.entrywise(statement)
        if isinstance(statement, StackMatMul):
            text = StackText(self.views, statement)
            self.helpers |= {"_stretch", "_windows"}
            self.once += [line for line in text.once() if line not in self.once]
            self.ufuncs.add(text.function)
            return text.lines()
        if isinstance(statement, SparseMatMul):
            return self._sparse(statement)
        if isinstance(statement, SparseGradient):
            sides = [self.view(view) for view in (gathered_rows(statement), statement.right, statement.target)]
            return [f"{self.pattern(statement.pattern)}.gradient({', '.join(sides)})"]
        if isinstance(statement, Turn):
            return self.turn(statement)
        if isinstance(statement, Apply):
            return [self._apply(statement)]
        if isinstance(statement, Copy):
            return self.copy(statement, grouping(statement))
        if isinstance(statement, Fill):
            return self.fill(statement, grouping(statement))
        if isinstance(statement, Reduce):
            return self.reduce(statement)
        if isinstance(statement, Load):
            return self.load(statement)
        assert isinstance(statement, Store), f"{type(statement).__name__} must be expanded by a pass before printing"
        return self.store(statement)

    def _matmul(self, statement: MatMul) -> list[str]:
        left = self.matrix(statement.left)
        if statement.target.buffer.groups > 1:
            right = self.views.buffer(statement.right.buffer)
            return [f"product({left}, {right}, {self._gates(statement.target)})"]
        right, target = self.matrix(statement.right), self.matrix(statement.target)
        if statement.accumulate:
            return [f"{target} += {left} @ {right}"]
        # dot is quicker to call, but wants a contiguous target.
        function = "dot" if statement.target.whole else "matmul"
        self.ufuncs.add(function)
        return [f"{function}({left}, {right}, {self._out(target)})"]

    def _sparse(self, statement: SparseMatMul) -> list[str]:
        """A call of what is bound once: the weights in the order of their entries, and the function that sums."""
        source, pattern = statement.source, self.pattern(statement.pattern)
        side = "backward" if statement.transposed else "forward"
        first, last = reach(statement)
        weights = self.views.text(statement.values)
        arguments = f"{weights}, batch{', add=True' if statement.accumulate else ''}"
        begin = first_row(source, first)
        if isinstance(source.time, Step):
            function = self.bind(f"{pattern}.{side}.start({arguments})", f"sum_{statement.pattern.name}")
            return [f"{function}({self.rows_read(statement)}, {self.view(statement.target)})"]
        assert isinstance(source.time, Span)
        steps = bound_text(Bound(source.time.stop.constant - source.time.start.constant, source.time.stop.times))
        history, target = self.views.buffer(source.buffer), self.view(statement.target)
        each = f"_each_step({history}, {begin}, {last - first + 1}, {steps})"
        return [
            f"summed = {pattern}.{side}.start({arguments})",
            f"for rows, sums in zip({each}, {target}, strict=True):",
            "    summed(rows, sums)",
        ]

    def _gates(self, view: View) -> str:
        """A blocked target of a product: gate by gate, or all gates as one row when there is one row."""
        if isinstance(view.time, Step):
            return self.step_view(view, "product", f"{{}}.reshape(-1, 1, {view.columns}) if batch == 1 else {{}}")
        name = self.views.text(view)
        return self.bind(f"{name}.reshape(1, -1) if batch == 1 else {name}", f"{name}_product")

    def _apply(self, statement: Apply) -> str:
        text = UFUNCS[statement.function].text
        if text.startswith("np."):
            text = text.removeprefix("np.")
            self.ufuncs.add(text)
        else:
            self.helpers.add(text)
        shown = grouping(statement)
        arguments = [self.view(a, shown) if isinstance(a, View) else self._number(a) for a in statement.arguments]
        target = self._out(self.view(statement.target, shown), text not in ("maximum", "minimum"))
        return f"{text}({', '.join(arguments)}, {target})"

    def _out(self, target: str, by_position: bool = True) -> str:
        """The argument that says where a call writes: by name, but in a loop by position, which is quicker.

        NumPy 2.4 deprecates a third position for maximum and minimum.
        """
        return target if by_position and self.entries is not None else f"out={target}"

    def _number(self, value: float) -> str:
        if self.entries is None and value not in NUMBER_NAMES:
            return repr(value)
        if value not in self.numbers:
            wanted = NUMBER_NAMES.get(value, f"NUMBER_{len(self.numbers) + 1}")
            self.numbers[value] = self.module_names.name(("number", value), wanted)
        return self.numbers[value]

    def total(self, text: str) -> str:
        """The loss is a Python number."""
        return f"float({text})"

    def load(self, statement: Load) -> list[str]:
        """Targets and weights that are read in the caller's arrays are only named; all else is copied."""
        if statement.target.buffer.name not in self._given:
            return super().load(statement)
        target = self.views.buffer(statement.target.buffer)
        if statement.what == "weight" and self.in_blocks:
            return [f"{target} = weights[:, :, None]"]
        if statement.what == "weight":
            return [
                "if weights is None:",
                f"    {target} = np.full((1, 1, 1), 1.0 / (T * batch), DTYPE)",
                "else:",
                "    weights = np.asarray(weights)",
                f"    {target} = (weights / weights.sum(dtype=np.float64)).astype(DTYPE)[:, :, None]",
            ]
        if statement.what == "share":
            return [f"{target} = shares[:, :, None]"]
        if statement.what == "classes":
            return [f"{target} = ({self.one_hot(statement)}).astype(DTYPE)"]
        return [f"{target} = np.asarray(targets[{statement.name!r}])"]


def _read_as_given(function: Function) -> set[str]:
    """Buffers that hold a target or the step weights and are only read as whole sequences, outside loops."""
    loads = {
        statement.target.buffer.name: statement.target
        for statement in function.body
        if isinstance(statement, Load) and statement.what in ("target", "classes", "weight", "share")
    }
    whole = Span(Bound(0), Bound(0, 1))
    for statement in function.statements():
        if isinstance(statement, Load):
            continue
        for view in views_of(statement):
            if view.buffer.name in loads and (view.time != whole or not view.whole):
                del loads[view.buffer.name]
    return {name for name, target in loads.items() if target.time == whole and target.whole}
