"""The text of ``forward`` in an emitted module: it runs through a sequence in stretches, so that no history is kept.

The buffers hold one stretch, whatever the length of the sequence: so many steps as stay in the cache, or as make
products over all steps efficient. The state goes on from stretch to stretch as it does from call to call.
"""

from __future__ import annotations

import numpy as np

from codegen.ir import Fused, Loop, Staggered, Statement, Store, written
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
