"""The text of ``forward`` in an emitted module: it runs through a sequence in stretches, so that no history is kept.

The buffers hold one stretch, whatever the length of the sequence: so many steps as stay in the cache, or as make
products over all steps efficient. The state goes on from stretch to stretch as it does from call to call.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from codegen.ir import Function, Fused, Loop, Staggered, Statement, Store, written
from codegen.printers.module import VIEW_BYTES, ModulePrinter
from codegen.printers.signatures import signature
from codegen.program import Program

CONSTANTS = """
STRETCH_BYTES = {bytes}  # what the steps of a stretch may take in the workspace of ``forward``
STRETCH_ROWS = 512  # the fewest rows, time and batch as one, that make an efficient product
"""

WHOLE = """\
    T, batch = _lengths(inputs)
    given = _checked_state(state, batch)
    vector = pack(params).vector
    steps = min(T, max(STRETCH_BYTES // ({step_bytes}), STRETCH_ROWS // batch, 1))
    work = _workspace({workspace}, steps, batch)
    outputs = {
{outputs}
    }
    if steps == T:
        return outputs, _forward(T, batch, work, vector, inputs, given, outputs, True)
    for first in range(0, T, steps):
        stop = min(first + steps, T)
        part = {name: value[first:stop] for name, value in inputs.items()}
        results = {name: value[first:stop] for name, value in outputs.items()}
        given = _forward(stop - first, batch, work, vector, part, given, results, first == 0)
    return outputs, given"""

SIGNATURE = '''\
def _forward(T, batch, work, vector, inputs, given, outputs, fresh):
    """A stretch of ``forward``: fills the outputs, returns the state after it. ``fresh``: the parameters may be new."""
    last = {}'''


def constants_text(stretch_bytes: str) -> str:
    """How long stretches are."""
    return CONSTANTS.replace("{bytes}", stretch_bytes)


def whole_lines(program: Program, workspace: str, xp: str, numbers: int, views: int) -> list[str]:
    """The statements of ``forward``; a step takes so many numbers for each sequence of the batch, and bytes of
    views."""
    counted = [f"{numbers * np.dtype(program.dtype).itemsize} * batch"] if numbers else []
    counted += [str(views or 1)] if views or not counted else []
    rows = [f"        {name!r}: {xp}.empty((T, batch, {size}), DTYPE)," for name, size in program.outputs.items()]
    text = WHOLE.replace("{outputs}", "\n".join(rows)).replace("{workspace}", workspace)
    return text.replace("{step_bytes}", " + ".join(counted)).splitlines()


def of_weights(statement: Statement) -> bool:
    """Whether a statement outside of loops computes what depends on the parameters alone: matrices and vectors."""
    if isinstance(statement, Loop | Staggered | Store):
        return False
    target = statement.parts[0].target if isinstance(statement, Fused) else written(statement)
    return target is not None and target.buffer.shape in ("matrix", "vector")


class StretchPrinter(ModulePrinter):
    """Adds to the frame what ``forward`` looks like where nothing is read ahead."""

    stretch_bytes = "1 << 19"  # what the steps of a stretch may take

    def extra_parts(self) -> list[str]:
        """How long stretches are."""
        found = any(self._in_stretches(function) for function in self.program.functions)
        return [*super().extra_parts(), *([constants_text(self.stretch_bytes)] if found else [])]

    def _function(self, function: Function) -> list[str]:
        if not self._in_stretches(function):
            return super()._function(function)
        self._start(function)
        self.workspace = self.module_names.name(("workspace", function.name), "ForwardWorkspace")
        return self._whole_and_part(function)

    def _in_stretches(self, function: Function) -> bool:
        """Whether a function goes through a sequence in stretches: it keeps no history, and nothing is read ahead.
        Units that run as layers are given and returned for all t at once."""
        return function.name == "forward" and not self.program.ahead and not self.program.layers

    def _whole_and_part(self, function: Function) -> list[str]:
        """The function that runs a stretch, and the one that goes through all of them. What depends on the parameters
        alone is computed for the first stretch."""
        self.views.stretched = True
        weights = [statement for statement in function.body if of_weights(statement)]
        once = self.lines_of_weights(weights)
        body = self.lines([statement for statement in function.body if not of_weights(statement)])
        once += self.lines_before_stretches()
        buffers = [each for each in function.buffers().values() if self.in_workspace(each)]
        numbers = sum(each.columns for each in buffers if each.shape == "sequence" and each.host is None)
        views = VIEW_BYTES * sum(len(entries) for entries, _ in self.loops)
        return [
            *self._workspace_class(),
            "",
            "",
            *SIGNATURE.splitlines(),
            *self._local_buffers([*once, *body]),
            *self.preamble(),
            *(["    if fresh:", *(f"    {line}" for line in once)] if once else []),
            *body,
            "    return last",
            "",
            "",
            *signature(self.program, function.name, False),
            *whole_lines(self.program, self.workspace, self.xp, numbers, views),
        ]

    def lines_of_weights(self, statements: Sequence[Statement]) -> list[str]:
        """The lines of what depends on the parameters alone."""
        return self.lines(statements)

    def lines_before_stretches(self) -> list[str]:
        """What a target does before the first of many stretches beside this."""
        return []
