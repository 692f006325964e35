"""ir.Program -> a standalone NumPy module."""

from __future__ import annotations

from codegen.ir import (
    Apply,
    Bound,
    Buffer,
    Copy,
    Fill,
    Function,
    Load,
    MatMul,
    Program,
    Reduce,
    Span,
    Statement,
    Step,
    Store,
    View,
)
from codegen.passes import block_gates, expand_pointwise, merge_neighbours
from codegen.printers.module import ModulePrinter
from codegen.printers.views import bound_text, grouping
from codegen.ufuncs import UFUNCS

# Numbers in a loop are arrays of no axes: a Python number costs a ufunc twice the time of a short call.
NUMBER_NAMES = {0.0: "ZERO", 0.5: "HALF", 1.0: "ONE", 2.0: "TWO", -1.0: "MINUS_ONE"}


def print_numpy(program: Program) -> str:
    """The source of a NumPy module that computes ``program``."""
    return NumPyPrinter(program).source()


class NumPyPrinter(ModulePrinter):
    """Prints Applies as ufunc calls with ``out=``. ``work`` is the workspace in the emitted functions."""

    xp = "np"
    imports = ("import threading", "from collections.abc import Mapping", "", "import numpy as np")
    needs = "numpy"
    loop_note = " (each call writes to its last argument)"

    def __init__(self, program: Program) -> None:
        self.numbers: dict[float, str] = {}
        super().__init__(program)

    def prepare(self, function: Function) -> Function:
        """Assigns become Applies, gates are laid out in blocks, equal calls on neighbours are merged."""
        return merge_neighbours(block_gates(expand_pointwise(function)))

    def extra_parts(self) -> list[str]:
        """The numbers that loops use."""
        lines = [f"{name} = np.array({value!r}, DTYPE)" for value, name in self.numbers.items()]
        return ["\n" + "\n".join(lines) + "\n"] if lines else []

    def preamble(self) -> list[str]:
        """Local names of the functions that are called."""
        lines = []
        if self.ufuncs:
            names = sorted(self.ufuncs)
            lines.append(f"    {', '.join(names)} = {', '.join(f'{self.xp}.{name}' for name in names)}")
        if any(buffer.groups > 1 and buffer.shape == "matrix" for buffer in self.function.buffers().values()):
            lines.append("    product = np.dot if batch == 1 else np.matmul  # one row: all blocks at once")
        return lines

    # What the caller gave for the whole sequence, and only pointwise calls read, is used as it is.

    def in_workspace(self, buffer: Buffer) -> bool:
        """Buffers of the workspace: all but scalars and what is read in the caller's arrays."""
        return super().in_workspace(buffer) and buffer.name not in self._given()

    def _given(self) -> set[str]:
        cached: tuple[Function, set[str]] | None = self.__dict__.get("_given_table")
        if cached is None or cached[0] is not self.function:
            cached = (self.function, _read_as_given(self.function))
            self.__dict__["_given_table"] = cached
        return cached[1]

    def allocation(self, buffer: Buffer) -> list[tuple[str, str]]:
        """Blocked buffers hold one gate after the other; with one row the layouts are the same memory."""
        if buffer.groups == 1:
            return super().allocation(buffer)
        name, gates, width = self.views.buffer(buffer), buffer.groups, buffer.columns // buffer.groups
        if buffer.shape == "matrix":
            flat, by_block = f"({buffer.rows}, {buffer.columns})", f"({gates}, {buffer.rows}, {width})"
            regrouped = f"self.{name}.reshape({buffer.rows}, {gates}, {width}).transpose(1, 0, 2)"
            return [
                (name, f"np.zeros({flat} if batch == 1 else {by_block}, DTYPE)"),
                (f"{name}_by_block", f"{regrouped} if batch == 1 else self.{name}"),
            ]
        rows = f"{bound_text(buffer.length)}, " if buffer.shape == "sequence" else ""
        return [(name, f"np.zeros(({rows}{gates}, batch, {width}), DTYPE)")]

    # Statements.

    def simple(self, statement: Statement) -> list[str]:
        """One or a few lines per statement."""
        if isinstance(statement, MatMul):
            return self._matmul(statement)
        if isinstance(statement, Apply):
            return [self._apply(statement)]
        shown = grouping(statement)
        if isinstance(statement, Copy):
            return [f"{self._target(statement.target, shown)} = {self._view(statement.source, shown)}"]
        if isinstance(statement, Fill):
            return [f"{self._target(statement.target, shown)} = {statement.value!r}"]
        if isinstance(statement, Reduce):
            return self._reduce(statement)
        if isinstance(statement, Load):
            return self._load(statement)
        if isinstance(statement, Store):
            return self._store(statement)
        raise AssertionError(f"{type(statement).__name__} must be expanded by a pass before printing")

    def _matmul(self, statement: MatMul) -> list[str]:
        left = self._flat(statement.left)
        if statement.target.buffer.groups > 1:
            right = self.views.buffer(statement.right.buffer)
            return [f"product({left}, {right}, {self._gates(statement.target)})"]
        right, target = self._flat(statement.right), self._flat(statement.target)
        if statement.accumulate:
            return [f"{target} += {left} @ {right}"]
        function = (
            "dot" if statement.target.whole else "matmul"
        )  # dot is quicker to call, but wants a contiguous target
        self.ufuncs.add(function)
        return [f"{function}({left}, {right}, {self._out(target)})"]

    def _gates(self, view: View) -> str:
        """A blocked target of a product: gate by gate, or all gates as one row when there is one row."""
        if isinstance(view.time, Step):
            text = self.views.whole_step(view, None)
            return self.step_view(view, "product", f"{text}.reshape(T, 1, -1) if batch == 1 else {text}")
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
        arguments = [self._view(a, shown) if isinstance(a, View) else self._number(a) for a in statement.arguments]
        return f"{text}({', '.join(arguments)}, {self._out(self._view(statement.target, shown))})"

    def _out(self, target: str) -> str:
        """The argument that says where a call writes: by name, but in a loop by position, which is quicker."""
        return f"out={target}" if self.entries is None else target

    def _number(self, value: float) -> str:
        if self.entries is None and value not in NUMBER_NAMES:
            return repr(value)
        if value not in self.numbers:
            wanted = NUMBER_NAMES.get(value, f"NUMBER_{len(self.numbers) + 1}")
            self.numbers[value] = self.module_names.name(("number", value), wanted)
        return self.numbers[value]

    def _reduce(self, statement: Reduce) -> list[str]:
        source = self._view(statement.source)
        if statement.kind == "all":
            return [f"loss {'+=' if statement.accumulate else '='} float({source}.sum())"]
        target = self._view(statement.target)
        if statement.kind == "rows":
            lines = (
                [f"{self._target(statement.target)} += {source}.sum(axis=(0, 1))"]
                if statement.accumulate
                else [f"{source}.sum(axis=(0, 1), out={target})"]
            )
        elif statement.kind == "units":
            lines = [f"{source}.sum(axis=-1, keepdims=True, out={target})"]
        else:
            self.helpers.add("_logsumexp")
            lines = [f"_logsumexp({source}, out={target})"]
        if statement.unless_state is not None:
            return [f"if {statement.unless_state!r} not in given:", *("    " + line for line in lines)]
        return lines

    def _load(self, statement: Load) -> list[str]:
        name = statement.name
        if statement.target.buffer.name in self._given():
            target = self.views.buffer(statement.target.buffer)
            if statement.what == "weight":
                normalised = "(weights / weights.sum(dtype=np.float64)).astype(DTYPE)[:, :, None]"
                return [
                    "if weights is None:",
                    f"    {target} = np.full((1, 1, 1), 1.0 / (T * batch), DTYPE)",
                    "else:",
                    "    weights = np.asarray(weights)",
                    f"    {target} = {normalised}",
                ]
            if statement.what == "classes":
                one_hot = f"np.asarray(targets[{name!r}])[:, :, None] == np.arange({statement.target.columns})"
                return [f"{target} = ({one_hot}).astype(DTYPE)"]
            return [f"{target} = np.asarray(targets[{name!r}])"]
        target = self._target(statement.target)
        if statement.what == "input":
            return [f"{target} = inputs[{name!r}]"]
        if statement.what == "target":
            return [f"{target} = targets[{name!r}]"]
        if statement.what == "classes":
            return [f"{target} = np.asarray(targets[{name!r}])[:, :, None] == np.arange({statement.target.columns})"]
        if statement.what == "weight":
            scaled = "(np.asarray(weights) / np.sum(weights, dtype=np.float64))[:, :, None]"
            return [f"{target} = 1.0 / (T * batch) if weights is None else {scaled}"]
        default = self._view(statement.default) if isinstance(statement.default, View) else repr(statement.default)
        first = "[0]" if statement.target.buffer.shape == "step" else ""
        return [f"{target} = given[{name!r}]{first} if {name!r} in given else {default}"]

    def _store(self, statement: Store) -> list[str]:
        if statement.what == "loss":
            return []
        value = self._view(statement.source)
        if statement.source.buffer.shape == "step":
            value += "[None]"
        table = {
            "output": "outputs",
            "state": "last",
            "input_gradient": "input_gradients",
            "state_gradient": "state_gradients",
        }[statement.what]
        return [f"{table}[{statement.name!r}] = {value}.copy()"]

    # Views.

    def _target(self, view: View, shown: int | None = None) -> str:
        """A view that is assigned to as a whole."""
        text = self._view(view, shown)
        return text if text.endswith("]") else f"{text}[...]"

    def _flat(self, view: View) -> str:
        """A view as a matrix: time and batch are one axis."""
        if isinstance(view.time, Step):
            return self.step_view(view, None)
        text = self.views.text(view)
        if isinstance(view.time, Span):
            text += f".reshape(-1, {view.columns})"
        return self.bind(f"{text}.T" if view.transposed else text, view.label or "matrix")

    def _view(self, view: View, shown: int | None = None) -> str:
        if isinstance(view.time, Step):
            return self.step_view(view, shown if view.columns not in (1, shown) and view.buffer.groups == 1 else None)
        text = self.views.text(view, shown)
        return self.bind(f"{text}.T" if view.transposed and shown is None else text, view.label)


def _read_as_given(function: Function) -> set[str]:
    """Buffers that hold a target or the step weights and are only read as whole sequences, outside loops."""
    loads = {
        statement.target.buffer.name: statement.target
        for statement in function.body
        if isinstance(statement, Load) and statement.what in ("target", "classes", "weight")
    }
    whole = Span(Bound(0), Bound(0, 1))
    for statement in function.statements():
        if isinstance(statement, Load):
            continue
        for view in _views(statement):
            if view.buffer.name in loads and (view.time != whole or not view.whole):
                del loads[view.buffer.name]
    return {name for name, target in loads.items() if target.time == whole and target.whole}


def _views(statement: Statement) -> list[View]:
    return [
        value
        for field in vars(statement).values()
        for value in (field if isinstance(field, tuple) else (field,))
        if isinstance(value, View)
    ]
