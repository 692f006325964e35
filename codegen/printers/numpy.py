"""ir.Program -> a standalone NumPy module.

The module's own names: ``w`` is the workspace (buffers and the views that loops step through, cut once per T and batch).
"""

from __future__ import annotations

import base64
from collections.abc import Iterable

from codegen.ir import (
    Apply,
    Assign,
    Bound,
    Buffer,
    Copy,
    Fill,
    Function,
    Load,
    Loop,
    MatMul,
    Program,
    Reduce,
    Span,
    Statement,
    Step,
    Store,
    View,
    views_of,
)
from codegen.names import Namer, comment_text
from codegen.passes import expand_pointwise, merge_neighbours
from codegen.printers import support
from codegen.ufuncs import UFUNCS

RESERVED = {
    "np", "cp", "threading", "base64", "w", "t", "T", "batch", "params", "inputs", "targets", "state", "weights", "outputs", "given",
    "last", "vector", "gradient", "input_gradients", "state_gradients", "loss", "forward", "loss_and_gradient", "step", "init",
    "initial_state", "pack", "release_workspaces", "Parameters", "Gradients", "DTYPE", "PARAMETERS", "VECTOR_SIZE", "INPUTS",
    "OUTPUTS", "STATES", "RULES", "INITIALISATION", "stream",
}  # fmt: skip


def print_numpy(program: Program) -> str:
    """The source of a NumPy module that computes ``program``."""
    return NumPyPrinter(program).source()


class NumPyPrinter:
    """Prints one program. A new array module is a subclass that overrides ``xp``, ``prepare`` and single statements."""

    xp = "np"
    imports = ("import threading", "", "import numpy as np")
    needs = "numpy"

    def __init__(self, program: Program) -> None:
        self.program = program
        self.helpers: set[str] = set()
        self.constants: dict[str, Buffer] = {}
        self.module_names = Namer(RESERVED)
        self.lines: list[str] = []

    def prepare(self, function: Function) -> Function:
        """The passes that this target needs."""
        return merge_neighbours(expand_pointwise(function))

    def source(self) -> str:
        """The whole module."""
        functions = [self._function(self.prepare(function)) for function in self.program.functions]
        parts = [self._docstring(), *self.imports, *self._tables(), *self._constants()]
        text = "\n".join(parts)
        for template in (support.PARAMETERS, support.INIT, support.CHECKS):
            text += "\n" + template.replace("{xp}", self.xp)
        for name in sorted(self.helpers):
            text += "\n" + self._helper(name)
        for lines in functions:
            text += "\n\n" + "\n".join(lines) + "\n"
        text += "\n" + support.STEP.replace("{{", "{").replace("}}", "}")
        return text

    def _helper(self, name: str) -> str:
        return support.HELPERS[name].replace("{xp}", self.xp)

    # The head of the file.

    def _docstring(self) -> str:
        lines = [comment_text(self.program.title), "", *(comment_text(line) for line in self.program.header)]
        lines += ["", f"Generated source: it needs {self.needs} alone. Arrays are time-major: (T, batch, size)."]
        return '"""' + "\n".join(line.rstrip() for line in lines).rstrip() + '\n"""\n'

    def _tables(self) -> list[str]:
        program = self.program
        lines = ["", f"DTYPE = np.dtype({program.dtype!r})", f"VECTOR_SIZE = {program.vector_size}"]
        lines += ["# name: (shape, offset in the vector, distance of two rows in the vector)", "PARAMETERS = {"]
        lines += [f"    {p.name!r}: ({p.shape!r}, {p.offset}, {p.stride})," for p in program.parameters]
        lines += ["}", f"INPUTS = {program.inputs!r}  # name: size", f"OUTPUTS = {program.outputs!r}  # name: size"]
        lines += [f"STATES = {program.states!r}  # node: (depth, size, initial value)"]
        lines += ["", *(line for text in program.rules.values() for line in ("", text.rstrip(), ""))]
        lines += ["RULES = {" + ", ".join(f"{name!r}: {name}" for name in program.rules) + "}"]
        lines += ["INITIALISATION = {", *(f"    {p.name!r}: {p.rule!r}," for p in program.parameters), "}"]
        return lines

    def _constants(self) -> list[str]:
        lines: list[str] = []
        for buffer in self.constants.values():
            name = self._constant_name(buffer)
            values = buffer.values
            assert values is not None
            if values.size <= 64:
                lines.append(f"{name} = {self.xp}.array({values.tolist()!r}, DTYPE)")
                continue
            data = base64.b64encode(values.astype("<f8").tobytes()).decode("ascii")
            lines += ["import base64", f"{name} = {self.xp}.asarray(np.frombuffer(base64.b64decode(", *(
                f"    {data[k : k + 100]!r}" for k in range(0, len(data), 100)
            ), f'), "<f8").reshape({values.shape!r}).astype(DTYPE))']  # fmt: skip
        return ["", *lines] if lines else []

    def _constant_name(self, buffer: Buffer) -> str:
        self.constants[buffer.name] = buffer
        return self.module_names.name(("constant", buffer.name), f"fixed_{buffer.name}")

    # Functions.

    def _function(self, function: Function) -> list[str]:
        self.names = Namer(RESERVED)
        self.function = function
        self.workspace = self.module_names.name(("workspace", function.name), f"{function.name.title().replace('_', '')}Workspace")
        self.step_views: list[tuple[Loop, list[View]]] = []
        self.ufuncs: set[str] = set()
        self.lines = []
        body: list[str] = []
        for statement in function.body:
            body += self._statement(statement)
        return [*self._workspace_class(), "", "", *self._signature(), *self._unpack(), *body, *self._result()]

    def _signature(self) -> list[str]:
        if self.function.name == "forward":
            return [
                "def forward(params, inputs, state=None):",
                '    """The outputs for a whole sequence, and the state after it.',
                "",
                "    ``inputs``: (T, batch, size) by name. ``state``: (depth, batch, size) by node, or a part of it. Returns",
                "    outputs (T, batch, size) by name, and the state as a dictionary.",
                '    """',
            ]
        result = "The loss" if self.function.name == "loss" else "The loss and its gradients"
        losses = ", ".join(
            f"{name!r} {'integer classes (T, batch)' if kind == 'classes' else '(T, batch, size)'}"
            for name, kind in self.program.losses.items()
        )
        return [
            f"def {self.function.name}(params, inputs, targets, state=None, weights=None):",
            f'    """{result} over a whole sequence.',
            "",
            "    ``inputs``: (T, batch, size) by name. ``targets`` by output: " + comment_text(losses) + ".",
            "    ``state``: (depth, batch, size) by node, or a part of it. ``weights``: (T, batch); the loss is the weighted mean.",
            '    """',
        ]

    def _unpack(self) -> list[str]:
        lines = ["    T, batch = _lengths(inputs)", f"    w = _workspace({self.workspace}, T, batch)"]
        lines += ["    given = {} if state is None else state", "    vector = pack(params).vector"]
        if self.function.name == "forward":
            lines += ["    outputs, last = {}, {}"]
        elif self.function.name == "loss_and_gradient":
            lines += [f"    gradient = {self.xp}.empty(VECTOR_SIZE, DTYPE)"]
            if "inputs" in self.program.wrt:
                lines += ["    input_gradients = {name: " + self.xp + ".zeros((T, batch, size), DTYPE) for name, size in INPUTS.items()}"]
            if "state" in self.program.wrt:
                lines += ["    state_gradients = {"]
                lines += [f"        node: {self.xp}.zeros((depth, batch, size), DTYPE) for node, (depth, size, _) in STATES.items()", "    }"]
        for buffer in self.function.buffers().values():
            name = self._buffer_name(buffer)
            if buffer.storage in ("parameter", "gradient"):
                vector = "vector" if buffer.storage == "parameter" else "gradient"
                stop = buffer.offset + buffer.rows * buffer.columns
                note = f"  # {comment_text(buffer.note)}" if buffer.storage == "parameter" and buffer.note else ""
                lines.append(f"    {name} = {vector}[{buffer.offset}:{stop}].reshape({buffer.rows}, {buffer.columns}){note}")
            elif buffer.storage == "workspace" and buffer.shape != "scalar":
                lines.append(f"    {name} = w.{name}")
        if self.ufuncs:
            names = sorted(self.ufuncs)
            lines.append(f"    {', '.join(names)} = {', '.join(f'{self.xp}.{name}' for name in names)}")
        return lines

    def _result(self) -> list[str]:
        if self.function.name == "forward":
            return ["    return outputs, last"]
        if self.function.name == "loss":
            return ["    return loss"]
        extra = "".join(
            f", {argument}" if word in self.program.wrt else ", None"
            for word, argument in (("inputs", "input_gradients"), ("state", "state_gradients"))
        )
        return [f"    return loss, Gradients(gradient{extra if extra != ', None, None' else ''})"]

    def _workspace_class(self) -> list[str]:
        lines = [f"class {self.workspace}:", f'    """Buffers and views of ``{self.function.name}`` for one T and batch."""', ""]
        lines += ["    def __init__(self, T, batch):"]
        buffers = [b for b in self.function.buffers().values() if b.storage == "workspace" and b.shape != "scalar"]
        for buffer in buffers:
            shape = {
                "sequence": f"({_bound(buffer.length)}, batch, {buffer.columns})",
                "step": f"(batch, {buffer.columns})",
                "matrix": f"({buffer.rows}, {buffer.columns})",
                "vector": f"({buffer.columns},)",
            }[buffer.shape]
            note = f"  # {comment_text(buffer.note)}" if buffer.note else ""
            lines.append(f"        self.{self._buffer_name(buffer)} = {self.xp}.zeros({shape}, DTYPE){note}")
        for number, (loop, views) in enumerate(self.step_views, start=1):
            lines += [f"        self.steps_{number} = list(", "            zip("]
            for view in views:
                lines.append(f"                {self._rows_of_all_steps(view, loop.backward)},")
            lines += ["                strict=True,", "            )", "        )"]
        if not buffers:
            lines.append("        pass")
        return lines

    def _rows_of_all_steps(self, view: View, backward: bool) -> str:
        """The view of every step in the loop's order."""
        assert isinstance(view.time, Step)
        rows = _slice(Bound(view.time.offset), Bound(view.time.offset, 1))
        columns = "" if view.whole else f", :, {view.start}:{view.stop}"
        array = f"self.{self._buffer_name(view.buffer)}[{rows}{columns}]"
        return f"{array}[::-1]" if backward else array

    def _buffer_name(self, buffer: Buffer) -> str:
        return self.names.name(("buffer", buffer.name), buffer.name)

    # Statements.

    def _statement(self, statement: Statement) -> list[str]:
        lines = [f"    # {comment_text(statement.note)}"] if statement.note else []
        if isinstance(statement, Loop):
            return lines + self._loop(statement)
        return lines + ["    " + line for line in self._simple(statement)]

    def _loop(self, loop: Loop) -> list[str]:
        views: dict[View, None] = {}
        for statement in loop.body:
            for view in views_of(statement):
                if isinstance(view.time, Step):
                    views.setdefault(view)
        self.step_views.append((loop, list(views)))
        names = [self._step_name(view) for view in views]
        number = len(self.step_views)
        one_line = f"    for {', '.join(names)}{',' if len(names) == 1 else ''} in w.steps_{number}:"
        if len(one_line) <= 110:
            lines = [one_line]
        else:
            lines = ["    for (", *_wrapped(names, 8), f"    ) in w.steps_{number}:"]
        for statement in loop.body:
            if statement.note:
                lines.append(f"        # {comment_text(statement.note)}")
            lines += ["        " + line for line in self._simple(statement)]
        return lines

    def _step_name(self, view: View) -> str:
        key = ("step", view.buffer.name, view.time, view.start, view.stop)
        return self.names.name(key, view.label or view.buffer.name)

    def _simple(self, statement: Statement) -> list[str]:
        if isinstance(statement, MatMul):
            return self._matmul(statement)
        if isinstance(statement, Apply):
            return [self._apply(statement)]
        if isinstance(statement, Copy):
            return [f"{self._target(statement.target)} = {self._view(statement.source)}"]
        if isinstance(statement, Fill):
            return [f"{self._target(statement.target)} = {statement.value!r}"]
        if isinstance(statement, Reduce):
            return self._reduce(statement)
        if isinstance(statement, Load):
            return self._load(statement)
        if isinstance(statement, Store):
            return self._store(statement)
        raise AssertionError(f"{type(statement).__name__} must be expanded by a pass before printing")

    def _matmul(self, statement: MatMul) -> list[str]:
        left, right = self._flat(statement.left), self._flat(statement.right)
        target = self._flat(statement.target)
        if statement.accumulate:
            return [f"{target} += {left} @ {right}"]
        self.ufuncs.add("matmul")
        return [f"matmul({left}, {right}, out={target})"]

    def _apply(self, statement: Apply) -> str:
        text = UFUNCS[statement.function].text
        if text.startswith("np."):
            text = text.removeprefix("np.")
            self.ufuncs.add(text)
        else:
            self.helpers.add(text)
        arguments = ", ".join(self._view(a) if isinstance(a, View) else repr(a) for a in statement.arguments)
        return f"{text}({arguments}, out={self._view(statement.target)})"

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
        target, name = self._target(statement.target), statement.name
        if statement.what == "input":
            return [f"{target} = inputs[{name!r}]"]
        if statement.what == "target":
            return [f"{target} = targets[{name!r}]"]
        if statement.what == "classes":
            return [f"{target} = targets[{name!r}][:, :, None] == {self.xp}.arange({statement.target.columns})"]
        if statement.what == "weight":
            column = self._view(statement.target)
            return [
                "if weights is None:",
                f"    {target} = 1.0 / (T * batch)",
                "else:",
                f"    {column}[:, :, 0] = weights / weights.sum(dtype=np.float64)",
            ]
        default = self._view(statement.default) if isinstance(statement.default, View) else repr(statement.default)
        reshaped = "[0]" if statement.target.buffer.shape == "step" else ""
        return [f"{target} = given[{name!r}]{reshaped} if {name!r} in given else {default}"]

    def _store(self, statement: Store) -> list[str]:
        if statement.what == "loss":
            return []
        value = self._view(statement.source)
        if statement.source.buffer.shape == "step":
            value += "[None]"
        table = {
            "output": "outputs", "state": "last", "input_gradient": "input_gradients", "state_gradient": "state_gradients"
        }[statement.what]  # fmt: skip
        return [f"{table}[{statement.name!r}] = {value}.copy()"]

    # Views.

    def _target(self, view: View) -> str:
        """A view that is assigned to as a whole."""
        text = self._view(view)
        return text if text.endswith("]") else f"{text}[...]"

    def _flat(self, view: View) -> str:
        """A view as a matrix: time and batch are one axis."""
        text = self._view(view, transpose=False)
        if isinstance(view.time, Span):
            text += f".reshape(-1, {view.columns})"
        return f"{text}.T" if view.transposed else text

    def _view(self, view: View, transpose: bool = True) -> str:
        buffer = view.buffer
        if isinstance(view.time, Step):
            return self._step_name(view)
        name = self._constant_name(buffer) if buffer.storage == "constant" else self._buffer_name(buffer)
        columns = "" if view.whole else f"{view.start}:{view.stop}"
        if isinstance(view.time, Span):
            whole = view.time.start == Bound(0) and view.time.stop == buffer.length
            rows = ":" if whole else _slice(view.time.start, view.time.stop)
            text = f"{name}[{rows}, :, {columns}]" if columns else (name if whole else f"{name}[{rows}]")
        elif buffer.shape == "matrix":
            assert view.rows is not None
            whole = view.rows == (0, buffer.rows)
            rows = ":" if whole else f"{view.rows[0]}:{view.rows[1]}"
            if view.vector:
                text = f"{name}[{view.rows[0]}, {columns}]" if columns else f"{name}[{view.rows[0]}]"
            else:
                text = f"{name}[{rows}, {columns}]" if columns else (name if whole else f"{name}[{rows}]")
        else:
            text = f"{name}[:, {columns}]" if columns else name
        return f"{text}.T" if view.transposed and transpose else text


def _bound(bound: Bound) -> str:
    if bound.times == 0:
        return str(bound.constant)
    return "T" if bound.constant == 0 else f"T + {bound.constant}"


def _slice(start: Bound, stop: Bound) -> str:
    return f"{_bound(start)}:{_bound(stop)}" if "+" not in _bound(start) + _bound(stop) else f"{_bound(start)} : {_bound(stop)}"


def _wrapped(names: Iterable[str], indent: int) -> list[str]:
    """Comma-separated names in lines of at most about 100 characters."""
    lines: list[str] = []
    line = " " * indent
    for name in names:
        if len(line) + len(name) > 100:
            lines.append(line.rstrip())
            line = " " * indent
        line += f"{name}, "
    lines.append(line.rstrip())
    return lines
