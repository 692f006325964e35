"""The text of a stream in an emitted module: one time step at a time, in ring buffers whose rows serve in cyclic order.

What belongs to time t lies in one row of each buffer, in cyclic order: with ROWS rows, the row of t is that of
t + ROWS. The views that a step works with are cut once for each row, so that a step with a delay of 1000 does what a
step with a delay of 1 does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from codegen.ir import Bound, Fill, Function, Fused, Load, Loop, Span, Statement, Step, Store, View, written
from codegen.printers.loops import indented
from codegen.printers.stretches import StretchPrinter
from codegen.printers.views import wrapped
from codegen.walk import map_views

WHEN_SET = "a copy, made when parameters are set"  # in place of once per call

RINGS = '''
def _ring(rows, first):
    """The rows of a ring buffer as views, in cyclic order from row ``first`` on."""
    views = list(rows)
    return views[first:] + views[:first]


def _last(rows, stop, depth):
    """The ``depth`` rows of a ring buffer before row ``stop``, oldest first, in fresh memory."""
    return rows[{xp}.arange(stop - depth, stop) % ROWS]
'''

STREAM = '''
class Stream:
    """The network one time step at a time, in ring buffers of its own that each step changes in place.

    ``params`` and ``state`` as for ``forward``; ``batch`` sequences go side by side. A step makes no arrays, and a
    delay costs memory, not time. ``time`` counts the steps since the stream began or was given a state. A stream is
    for one thread at a time.
    """

    def __init__(self, params, batch=1, state=None):
        self.batch = batch
        self._work = work = {workspace}(batch)
{protect}        self._rows = [
            (
                [(name, views[row], views[row].shape) for name, views in work.inputs.items()],{whole_rows}
                work.{steps}[row],
                {name: views[row] for name, views in work.outputs.items()},
            )
            for row in range(ROWS)
        ]
        self.params = params
        self.restore(state)

    @property
    def params(self):
        """The parameters, which may be set. After a change in place call ``refresh``: steps use copies of weights."""
        return self._params

    @params.setter
    def params(self, params):
        self._step, self._start, self._read = _stream(self._work, pack(params).vector, self.batch)
        self._params = params

    def refresh(self):
        """Go on with the values that ``params`` has now."""
        self.params = self._params

    def step(self, inputs):
        """One time step: inputs and outputs (batch, size) by name.

        The outputs are the stream's own arrays, which later steps overwrite: copy those that are to be kept.
        """
        given,{whole} views, outputs = self._rows[self.time % ROWS]{choose}
        if len(inputs) != len(given):
            raise ValueError(f"inputs: found {list(inputs)}; expected {list(INPUTS)}")
        for name, target, shape in given:
            if name not in inputs:
                raise ValueError(f"inputs: {name!r} is missing; expected {list(INPUTS)}")
            value = inputs[name]
            if value.shape != shape:
                raise ValueError(f"input {name!r}: found shape {value.shape}; expected {shape}")
            target[...] = {value}
        self._step(*views)
        self.time += 1
        return outputs

    @property
    def state(self):
        """The state after the last step as ``forward`` takes and returns it, in arrays of its own."""
        return self._read(self.time)

    def restore(self, state):
        """Go on from ``state``, or a part of it: what is not given starts from its initial value."""
        self._start({given})
        self.time = 0

    def reset(self):
        """Start anew, before t = 1."""
        self.restore(None)
'''

WHOLE = {  # where units of a layer may be given side by side
    "{whole_rows}": """
                [(name, views[row], views[row].shape) for name, views in work.layers.items()],""",
    "{whole}": " whole,",
    "{choose}": """
        if len(inputs) == len(whole):  # by layer
            given = whole""",
}

PROTECT = """\
        for views in work.outputs.values():
            for view in views:
                view.flags.writeable = False  # the steps to come read what a step gave
"""


@dataclasses.dataclass
class _Parts:
    """The statements of a stream's function by when they run: once for its parameters, once for its state, at each
    step; and what it is given and gives."""

    weights: list[Statement] = dataclasses.field(default_factory=list)
    start: list[Statement] = dataclasses.field(default_factory=list)
    loops: list[Loop] = dataclasses.field(default_factory=list)
    inputs: list[Load] = dataclasses.field(default_factory=list)
    outputs: list[Store] = dataclasses.field(default_factory=list)
    state: list[Store] = dataclasses.field(default_factory=list)


class StreamPrinter(StretchPrinter):
    """Adds to the frame what a function called "stream" looks like: it runs for any T, one step a call."""

    on_device = "{}"  # what becomes of a mapping of arrays that the caller gives
    as_array = "{}"  # and of one array
    protect = PROTECT

    def _function(self, function: Function) -> list[str]:
        if function.name != "stream":
            return super()._function(function)
        rows = function.rows_of_a_step()
        function = _with_rings(function, rows)
        self._start(function)
        self.views.rings = True
        self.workspace = self.module_names.name(("workspace", function.name), "StreamWorkspace")
        parts = _parts(function)
        (loop,) = parts.loops
        weights, start = self.lines(parts.weights), self.lines(parts.start)
        text = self._loop(loop, in_order=True)
        closures = [f"    step = {text.function}"] if text.function else ["", *_signature("step", text.names)]
        closures += indented(text.body, 8)
        closures += ["", "    def start(given):", *(f"    {line}" for line in start or ["    pass"])]
        closures += ["", "    def state(row):", *self._read_all(parts.state)]
        parameters = [
            "def _stream(work, vector, batch):",
            '    """The functions of a stream with these parameters: step, start (from a state), '
            'state (after ``row`` steps)."""',
            *self._local_buffers([*weights, *text.before, *closures]),
            *self.preamble(),
            *weights,
            *text.before,
            *closures,
            "",
            "    return step, start, state",
        ]
        stream = STREAM.replace("{workspace}", self.workspace).replace("{steps}", self._steps(1))
        given = self.on_device.replace("{}", "_checked_state(state, self.batch)")
        stream = (
            stream.replace("{protect}", self.protect)
            .replace("{given}", given)
            .replace("{value}", self.as_array.replace("{}", "value"))
        )
        whole = self.program.layers and any(load.units for load in parts.inputs)
        for mark, added in WHOLE.items():
            stream = stream.replace(mark, added if whole else "")
        return [
            f"ROWS = {rows}  # of a ring buffer: the longest delay and the present",
            "",
            *RINGS.replace("{xp}", self.xp).splitlines(),
            "",
            "",
            f"class {self.workspace}:",
            '    """Ring buffers of ``Stream``, and the views of the steps, which use their rows in cyclic order."""',
            "",
            "    def __init__(self, batch):",
            *self._allocations(copied=WHEN_SET),
            *self._cut_views(),
            *self._by_name("inputs", [(load.name, load.target, load.units) for load in parts.inputs]),
            *(self._by_name("layers", [(load.name, load.target, ()) for load in parts.inputs]) if whole else []),
            *self._by_name("outputs", [(store.name, store.source, store.units) for store in parts.outputs]),
            "",
            "",
            *parameters,
            "",
            *stream.rstrip().splitlines(),
        ]

    def by_step(self, text: str, time: Step) -> str:
        """Of a ring, the rows in cyclic order."""
        return f"_ring({text}, {time.offset})" if self.views.rings else text

    def _by_name(self, attribute: str, named: list[tuple[str, View, tuple[str, ...]]]) -> list[str]:
        """An attribute of the workspace: the rows of each input or output, by unit where units run as a layer."""
        rows = [
            f"            **_rows_of({self._turns(view)}, LAYERS[{name!r}]),"
            if units
            else f"            {name!r}: {self._turns(view)},"
            for name, view, units in named
        ]
        return [f"        self.{attribute} = {{", *rows, "        }"]

    def _turns(self, view: View) -> str:
        """The rows of a view that goes through all t, in cyclic order."""
        assert isinstance(view.time, Span)
        step = dataclasses.replace(view, time=Step(view.time.start.constant))
        assert isinstance(step.time, Step)
        return self.by_step(self.views.whole_step(step, None), step.time)

    def _read_all(self, stores: list[Store]) -> list[str]:
        """The state after ``row`` steps."""
        if not self.program.layers:
            return ["        return {", *map(self._read, stores), "        }"]
        layers, nodes = ([each for each in stores if bool(each.units) == whole] for whole in (True, False))
        parts = [["            {", *map("    {}".format, map(self._read, part)), "            },"] if part
                 else ["            {},"] for part in (layers, nodes)]  # fmt: skip
        return ["        return UnitStates(", *parts[0], *parts[1], "        )"]

    def _read(self, store: Store) -> str:
        """The entry of a node in the state after ``row`` steps."""
        view = store.source
        if not isinstance(view.time, Span):
            return f"            {store.name!r}: {self.views.text(view)}[None].copy(),"
        stop, depth = view.time.stop.constant, view.time.stop.constant - view.time.start.constant
        rows = self.views.text(dataclasses.replace(view, time=Span(Bound(0), view.buffer.length)))
        return f"            {store.name!r}: _last({rows}, {f'row + {stop}' if stop else 'row'}, {depth}),"


def _with_rings(function: Function, rows: int) -> Function:
    """The function with every sequence of so many rows; what is written once fills them all."""
    ring = Bound(rows)

    def of_rows(view: View) -> View:
        if view.buffer.shape == "history":  # twice, so that the rows of a step lie one after the other
            return dataclasses.replace(view, buffer=dataclasses.replace(view.buffer, length=Bound(2 * rows)))
        if view.buffer.shape != "sequence":
            return view
        return dataclasses.replace(view, buffer=dataclasses.replace(view.buffer, length=ring))

    body = []
    for statement in function.body:
        statement = map_views(statement, of_rows)
        if isinstance(statement, Fill) and statement.once and isinstance(statement.target.time, Span):
            target = dataclasses.replace(statement.target, time=Span(Bound(0), ring))
            statement = dataclasses.replace(statement, target=target)
        body.append(statement)
    return dataclasses.replace(function, body=tuple(body))


def _parts(function: Function) -> _Parts:
    parts = _Parts()
    for statement in function.body:
        if isinstance(statement, Loop):
            parts.loops.append(statement)
        elif isinstance(statement, Store):
            (parts.outputs if statement.what == "output" else parts.state).append(statement)
        elif isinstance(statement, Load) and statement.what == "input":
            parts.inputs.append(statement)
        else:
            target = statement.parts[0].target if isinstance(statement, Fused) else written(statement)
            assert target is not None
            (parts.weights if target.buffer.shape in ("matrix", "vector") else parts.start).append(statement)
    return parts


def _signature(name: str, arguments: Sequence[str]) -> list[str]:
    """The first lines of a function inside another."""
    line = f"    def {name}({', '.join(arguments)}):"
    if len(line) <= 110:
        return [line]
    return [f"    def {name}(", *wrapped(arguments, 8), "    ):"]
