"""Statements and views that print alike for every array module that resembles NumPy: what stands outside of loops."""

from __future__ import annotations

from codegen.blocks import BlockSweep
from codegen.ir import Copy, Entrywise, Fill, Load, Reduce, Span, SparseMatMul, Step, Store, Turn, View
from codegen.printers.blocks import BlockText
from codegen.printers.entrywise import entrywise_lines
from codegen.printers.sparse import first_row, reach
from codegen.printers.stream import StreamPrinter
from codegen.printers.sweep import SweepText
from codegen.printers.units import load_line, store_line
from codegen.printers.views import slice_text
from codegen.sweep import Sweep

# Where the caller's results are collected in the emitted functions.
STORES = {
    "output": "outputs",
    "state": "last",
    "input_gradient": "input_gradients",
    "state_gradient": "state_gradients",
}


class StatementPrinter(StreamPrinter):
    """Adds to the frame what copies, fills, reductions, loads and stores look like."""

    # Views. ``shown``: the width of the groups when the operands of a statement are shown by group.

    def view(self, view: View, shown: int | None = None) -> str:
        """A view as an expression; inside a loop a name."""
        if isinstance(view.time, Step) or view.steps > 1:
            return self.step_view(view, shown if view.columns not in (1, shown) and view.buffer.groups == 1 else None)
        text = self.views.text(view, shown)
        return self.bind(f"{text}.T" if view.transposed and shown is None else text, view.label)

    def target(self, view: View, shown: int | None = None) -> str:
        """A view that is assigned to as a whole."""
        text = self.view(view, shown)
        return text if text.endswith("]") else f"{text}[...]"

    def sweep_text(self, statement: Sweep) -> SweepText:
        """The printer of a sweep's statements."""
        if isinstance(statement, BlockSweep):
            return BlockText(self, statement)
        return SweepText(self, statement)

    def bind_view(self, view: View) -> str:
        """A parameter or constant inside a loop: a name that is bound before it."""
        text = self.views.text(view)
        return self.bind(f"{text}.T" if view.transposed else text, view.label or "matrix")

    def matrix(self, view: View) -> str:
        """A view as a matrix: time and batch are one axis."""
        if isinstance(view.time, Step) or view.steps > 1:
            return self.step_view(view, None)
        text = self.views.text(view)
        if isinstance(view.time, Span):
            text += f".reshape(-1, {view.columns})"
        return self.bind(f"{text}.T" if view.transposed else text, view.label or "matrix")

    # Statements.

    def total(self, text: str) -> str:
        """The sum that makes up the loss, as it is added."""
        return text

    def copy(self, statement: Copy, shown: int | None = None) -> list[str]:
        """An assignment of one view to another."""
        return [f"{self.target(statement.target, shown)} = {self.view(statement.source, shown)}"]

    def entrywise(self, statement: Entrywise) -> list[str]:
        """A line about matrices without time."""
        return entrywise_lines(statement, self.xp, self.view, self.helpers, self.target)

    def fill(self, statement: Fill, shown: int | None = None) -> list[str]:
        """An assignment of a number."""
        return [f"{self.target(statement.target, shown)} = {statement.value!r}"]

    def reduce(self, statement: Reduce) -> list[str]:
        """A sum over rows, units or everything, or log-sum-exp over units."""
        source = self.view(statement.source)
        if statement.kind == "all":
            return [f"loss {'+=' if statement.accumulate else '='} {self.total(f'{source}.sum()')}"]
        target = self.view(statement.target)
        if statement.kind == "rows":
            summed = f"{source}.sum(axis=(0, 1)"
            added = f"{self.target(statement.target)} += {summed})"
            lines = [added if statement.accumulate else f"{summed}, out={target})"]
        elif statement.kind == "units":
            lines = [f"{source}.sum(axis=-1, keepdims=True, out={target})"]
        else:
            self.helpers.add("_logsumexp")
            lines = [f"_logsumexp({source}, out={target})"]
        if statement.unless_state is None:
            return lines
        return [f"if {statement.unless_state!r} not in given:", *("    " + line for line in lines)]

    def turn(self, statement: Turn) -> list[str]:
        """Rows of a sequence as those of a history, which a ring has twice: what is read then lies in one piece."""
        source, target = statement.source, statement.target
        if isinstance(source.time, Step) or source.buffer.shape == "step":
            text = f"{self.view(source)}.T"
        else:
            text = f"{self.view(source)}.swapaxes(1, 2)"
        if not self.views.rings:
            return [f"{self.target(target)} = {text}"]
        rows = self.views.buffer(target.buffer)
        both = f"{rows}.reshape(2, ROWS, {target.buffer.columns}, batch)"
        if isinstance(target.time, Span):
            return [f"{both}[:, {slice_text(target.time.start, target.time.stop)}] = {text}"]
        assert isinstance(target.time, Step) and self.entries is not None
        name = self.views.step_name(target, "twice")
        own = f"self.{rows}.reshape(2, ROWS, {target.buffer.columns}, -1).swapaxes(0, 1)"
        self.entries.setdefault(name, self.by_step(own, target.time))
        return [f"{name}[...] = {text}"]

    def rows_read(self, statement: SparseMatMul) -> str:
        """Inside a loop, the name of the rows of the history that a step reads."""
        source, (first, last) = statement.source, reach(statement)
        begin = first_row(source, first)
        assert self.entries is not None
        name = self.names.name(("read", source.buffer.name, begin, last - first), f"{source.buffer.name}_rows")
        history, rings = f"self.{self.views.buffer(source.buffer)}", self.views.rings
        text = f"_each_step({history}, {0 if rings else begin}, {last - first + 1}, {'ROWS' if rings else 'T'})"
        self.entries.setdefault(name, self.by_step(text, Step(begin)))
        return name

    def load(self, statement: Load) -> list[str]:
        """What the caller gave, copied into its place."""
        if statement.units and statement.what == "state":
            return [load_line(statement, self.view(statement.target))]
        target, name = self.target(statement.target), statement.name
        if statement.what == "weight" and self.in_blocks:
            return [f"{target} = weights[:, :, None]"]
        if statement.what == "weight":
            return [
                "if weights is None:",
                f"    {target} = 1.0 / (T * batch)",
                "else:",
                f"    weights = {self.xp}.asarray(weights)",
                f"    {target} = (weights / weights.sum(dtype=np.float64))[:, :, None]",
            ]
        if statement.what == "share":
            return [f"{target} = shares[:, :, None]"]
        if statement.what == "noise":
            uniform = f"sensitivities.signs[{name!r}].random((T, batch, {statement.target.columns}))"
            return [f"{target} = {self.xp}.asarray({uniform} < 0.5) * 2.0 - 1.0"]
        if statement.what in ("state", "state_tangent"):
            default = self.view(statement.default) if isinstance(statement.default, View) else repr(statement.default)
            first = "[0]" if statement.target.buffer.shape == "step" else ""
            value = "0.0" if statement.what == "state_tangent" else f"given[{name!r}]{first}"
            return [f"{target} = {value} if {name!r} in given else {default}"]
        if statement.what == "classes":
            return [f"{target} = {self.one_hot(statement)}"]
        return [f"{target} = {'inputs' if statement.what == 'input' else 'targets'}[{name!r}]"]

    def one_hot(self, statement: Load) -> str:
        """Integer classes as rows of 0 and 1."""
        classes = f"{self.xp}.asarray(targets[{statement.name!r}])[:, :, None]"
        return f"{classes} == {self.xp}.arange({statement.target.columns})"

    def store(self, statement: Store) -> list[str]:
        """What the caller gets, copied out of the workspace."""
        if statement.what == "loss":
            return []
        value = self.view(statement.source)
        if statement.source.buffer.shape == "step":
            value += "[None]"
        if statement.units:
            return [store_line(statement, value)]
        if statement.what == "output" and self.views.stretched:
            return [f"outputs[{statement.name!r}][...] = {value}"]
        return [f"{STORES[statement.what]}[{statement.name!r}] = {value}.copy()"]
