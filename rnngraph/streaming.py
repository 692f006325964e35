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

Arrays = Mapping[str, Any]


@dataclass
class WindowStream:
    """Where a stream stands. ``t``: steps so far. ``last``: the state after them, as ``Kernel.forward`` takes it.

    ``inputs`` and ``targets`` hold the last k2 steps, each step twice, k2 rows apart, so that the steps of a window
    lie side by side: arrays (2 k2, batch, ...). ``starts`` has the states at which the windows to come begin, by the
    number of steps before them. A step changes the object in place; ``copy`` keeps a point of the stream.
    """

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
    windows: tuple[int, int], xp: Any, inputs: Arrays, targets: Arrays, state: Arrays | None
) -> WindowStream:
    """A stream before its first step, with arrays for steps like ``inputs`` and ``targets``, (1, batch, ...)."""
    k1, k2 = windows

    def rings(steps: Arrays) -> dict[str, Any]:
        return {name: xp.zeros((2 * k2, *step.shape[1:]), step.dtype) for name, step in steps.items()}

    batch = next(iter(inputs.values())).shape[1]
    return WindowStream(k1, k2, batch, 0, state, rings(inputs), rings(targets), {0: state})


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
    loss, stream.last = module.window_loss(params, inputs, targets, stream.last, shares)
    stream.t += 1
    if (stream.t + stream.k2) % stream.k1 == 0:  # a window to come begins here
        stream.starts[stream.t] = stream.last
    if stream.t % stream.k1:
        return float(loss), None
    start = max(stream.t - stream.k2, 0)
    state = stream.starts[start]
    following = max(stream.t + stream.k1 - stream.k2, 0)
    stream.starts = {t: kept for t, kept in stream.starts.items() if t >= following}
    first = start % stream.k2
    rows = slice(first, first + stream.t - start)
    shares = xp.zeros((stream.t - start, stream.batch), dtype)
    shares[-stream.k1 :] = 1.0 / stream.batch
    _, gradient, _ = module.window_gradient(
        params,
        {name: ring[rows] for name, ring in stream.inputs.items()},
        {name: ring[rows] for name, ring in stream.targets.items()},
        state,
        shares,
    )
    return float(loss), module.Gradients(gradient)


def array_module(module: Any, backend: str) -> Any:
    """The array module of an emitted module: numpy, or cupy."""
    return module.cp if backend == "cupy" else np
