"""Truncated backpropagation through time over a stream: one step at a time, in memory that does not grow.

Williams and Peng (1990), "An efficient gradient-based algorithm for on-line training of recurrent network
trajectories", Neural Computation 2: every k1 steps, the loss of those k1 steps goes back k2 steps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnngraph.errors import DataError

Arrays = Mapping[str, Any]


@dataclass
class WindowStream:
    """Where a stream stands. ``owner``: the emitted module that runs it. ``t``: steps so far. ``last``: the state after
    them, as ``Kernel.forward`` takes it.

    ``inputs`` and ``targets`` hold the last k2 steps, each step twice, k2 rows apart, so that the steps of a window
    lie side by side: arrays (2 k2, batch, ...). ``starts`` has the states at which the windows to come begin, by the
    number of steps before them. A step changes the object in place; ``copy`` keeps a point of the stream.
    """

    owner: Any
    k1: int
    k2: int
    batch: int
    t: int
    last: Arrays | None
    inputs: dict[str, Any]
    targets: dict[str, Any]
    starts: dict[int, Arrays | None]

    def copy(self) -> WindowStream:
        """The same point of the stream, with arrays of its own where steps write."""
        return dataclasses.replace(
            self,
            inputs={name: ring.copy() for name, ring in self.inputs.items()},
            targets={name: ring.copy() for name, ring in self.targets.items()},
            starts=dict(self.starts),
        )


def start_stream(
    module: Any, windows: tuple[int, int], xp: Any, inputs: Arrays, targets: Arrays, state: Arrays | None
) -> WindowStream:
    """A stream before its first step, with arrays for steps like ``inputs`` and ``targets``, (1, batch, ...)."""
    k1, k2 = windows

    def rings(steps: Arrays) -> dict[str, Any]:
        return {name: xp.zeros((2 * k2, *step.shape[1:]), step.dtype) for name, step in steps.items()}

    batch = next(iter(inputs.values())).shape[1]
    own = None if state is None else {node: value.copy() for node, value in state.items()}
    return WindowStream(module, k1, k2, batch, 0, own, rings(inputs), rings(targets), {0: own})


def advance(
    module: Any, params: Any, stream: WindowStream, xp: Any, dtype: Any, inputs: Arrays, targets: Arrays
) -> tuple[float, Any]:
    """One step: its loss, and the window's gradient at every k1-th step, else None."""
    row = stream.t % stream.k2
    for rings, steps in ((stream.inputs, inputs), (stream.targets, targets)):
        for name, ring in rings.items():
            ring[row] = ring[row + stream.k2] = xp.asarray(steps[name][0])
    shares = xp.zeros((1, stream.batch), dtype)
    shares[...] = 1.0 / stream.batch
    loss, last = module.window_loss(params, inputs, targets, stream.last, shares)
    t = stream.t + 1
    starts = dict(stream.starts)
    if (t + stream.k2) % stream.k1 == 0:  # a window to come begins here
        starts[t] = last
    gradient = None
    if t % stream.k1 == 0:
        start = max(t - stream.k2, 0)
        first = start % stream.k2
        rows = slice(first, first + t - start)
        shares = xp.zeros((t - start, stream.batch), dtype)
        shares[-stream.k1 :] = 1.0 / stream.batch
        _, vector, _ = module.window_gradient(
            params,
            {name: ring[rows] for name, ring in stream.inputs.items()},
            {name: ring[rows] for name, ring in stream.targets.items()},
            starts[start],
            shares,
        )
        gradient = module.Gradients(vector)
        following = max(t + stream.k1 - stream.k2, 0)
        starts = {moment: kept for moment, kept in starts.items() if moment >= following}
    # Only now: a step that fails leaves the stream as it was, but for a row that its repetition writes again.
    stream.last, stream.t, stream.starts = last, t, starts
    return float(loss), gradient


def array_module(module: Any, backend: str) -> Any:
    """The array module of an emitted module: numpy, or cupy."""
    return module.cp if backend == "cupy" else np


def carried_state(state: Any, nodes: Any, batch: int, module: Any) -> Any:
    """The state as it is where it carries what ``module`` made, else the checked nodes; DataError for that of
    another kernel or of an earlier step."""
    carried: Any = getattr(state, "sensitivities", None)
    if carried is None and not isinstance(state, WindowStream):
        return nodes
    kinds = [getattr(module, name) for name in ("Sensitivities", "Block") if hasattr(module, name)]
    if type(carried) not in kinds:
        raise DataError(
            "state", "what another kernel carries on", "None, or what this kernel returned",
            "start with None, or give dict(state): the values of the nodes alone",
        )  # fmt: skip
    if carried.batch != batch:
        raise DataError("state", f"sensitivities of {carried.batch} sequences", f"{batch}", "start with None")
    if state.time != carried.time:
        raise DataError(
            "state", f"that of step {state.time}", f"that of step {carried.time}, the last one",
            "pass on what the last call returned, or a copy(): a call changes it in place",
        )  # fmt: skip
    return state
