"""Check "differences": the compiled float64 kernel's gradients equal central differences of its own loss.

At the network's true sizes and delays. Differences are extrapolated (Richardson 1911): with
D(h) = (L(p + h v) - L(p - h v))/2h, the error of (4 D(h/2) - D(h))/3 is about h^4 times a fifth derivative from
truncation and 2^-52 L/h from rounding: each below 1e-12 L at h = 1e-3 where the derivatives along the unit vector v are
of the size of L. The tolerance, 1e-6 of the derivative's scale, leaves room for losses that bend more. Where a function
has a kink within h of the point, a smaller h is right: the best of a few h counts, and a wrong derivative
agrees with none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from rnngraph.compile import compile as compile_graph
from rnngraph.kernel import Kernel
from rnngraph.verify.report import VerificationRow, row

Array = NDArray[Any]

TOLERANCE = 1e-6
STEPS = (1e-3, 1e-4, 1e-5, 1e-6)
ENTRIES = 3  # of each quantity, besides one random direction
BATCH = 2
MOST_STEPS = 40
ATTEMPTS = 20


def check_differences(graph: nx.MultiDiGraph, loss: object, seed: int) -> list[VerificationRow]:
    """One row per parameter, input and given state, with the worst of a random direction and some random entries."""
    kernel = compile_graph(graph, loss, dtype="float64", wrt=("parameters", "inputs", "state"))
    with np.errstate(all="ignore"):  # values outside a function's domain are drawn anew
        problem = _draw(kernel, seed)
        if problem is None:
            detail = f"the loss is not finite at {ATTEMPTS} random points"
            return [row("differences", "L", float("nan"), TOLERANCE, detail)]
        return problem.rows(np.random.default_rng([seed, 5]))


class _Problem:
    """Parameters and data at which the loss is finite; ``quantities`` maps (kind, name) to the array it may vary."""

    def __init__(self, kernel: Kernel, seed: int, attempt: int) -> None:
        rng = np.random.default_rng([seed, attempt, 4])
        self.kernel = kernel
        states = kernel.program.states
        self.T = min(max((depth for depth, _, _ in states.values()), default=0) + 3, MOST_STEPS)
        self.parameters: dict[str, Array] = {
            name: rng.normal(scale=0.6 / np.sqrt(shape[0]) if len(shape) > 1 else 0.4, size=shape)
            for name, shape in kernel.parameter_shapes.items()
        }
        self.inputs: dict[str, Array] = {
            name: rng.normal(size=(self.T, BATCH, size)) for name, size in kernel.program.inputs.items()
        }
        self.state: dict[str, Array] = {
            name: rng.normal(scale=0.5, size=(depth, BATCH, size))
            for name, (depth, size, initial) in states.items()
            if not isinstance(initial, str)
        }
        self.targets = {name: self._target(rng, name, kind) for name, kind in kernel.losses.items()}
        self.weights = rng.uniform(0.5, 1.5, size=(self.T, BATCH))
        self.weights[self.T // 2, 0] = 0.0  # a masked step

    def _target(self, rng: np.random.Generator, name: str, kind: str) -> Array:
        size = self.kernel.program.outputs[name]
        if kind == "cross_entropy":
            return rng.integers(0, size, size=(self.T, BATCH))
        if kind == "binary_cross_entropy":
            return rng.uniform(size=(self.T, BATCH, size))
        return rng.normal(size=(self.T, BATCH, size))

    def loss(self) -> float:
        return self.kernel.loss(self.parameters, self.inputs, self.targets, self.state, self.weights)

    def rows(self, rng: np.random.Generator) -> list[VerificationRow]:
        loss, gradients = self.kernel.loss_and_gradient(
            self.parameters, self.inputs, self.targets, self.state, self.weights
        )
        kinds: list[tuple[str, Mapping[str, Array], Mapping[str, Array]]] = [
            ("dL/d{}", self.parameters, gradients),
            ("dL/d{}", self.inputs, gradients.inputs),
            ("dL/d{}(t<=0)", self.state, gradients.state),
        ]
        detail = f"T={self.T}, batch={BATCH}, float64"
        rows = [row("differences", "L", abs(loss - self.loss()) / max(1.0, abs(loss)), TOLERANCE, detail)]
        for title, arrays, derived in kinds:
            for name, array in arrays.items():
                directions = _directions(array, rng)
                error = max(self._error(array, np.asarray(derived[name]), direction, loss) for direction in directions)
                compared = f"a random direction and {len(directions) - 1} of {array.size} entries, {detail}"
                quantity = title.format(name)
                if array is self.state.get(name) and name in self.kernel.program.ahead:
                    quantity = quantity.replace("t<=0", "t>T")
                rows.append(row("differences", quantity, error, TOLERANCE, compared))
        return rows

    def _error(self, array: Array, derived: Array, direction: Array, loss: float) -> float:
        """Deviation of the derivative along a direction, relative to its size, the gradient's and the loss's."""
        expected = float((derived * direction).sum())
        spread = float(np.sqrt(np.mean(derived**2)))
        scale = abs(expected) + spread + 1e-4 * abs(loss) + np.finfo(float).tiny
        return min(abs(estimate - expected) / scale for estimate in self._estimates(array, direction, expected, scale))

    def _estimates(self, array: Array, direction: Array, expected: float, scale: float) -> list[float]:
        centre = array.copy()

        def moved(step: float) -> float:
            array[...] = centre + step * direction
            return self.loss()

        estimates: list[float] = []
        for h in STEPS:
            wide, narrow = _central(moved, h), _central(moved, h / 2)
            estimates.append((4 * narrow - wide) / 3)
            if abs(estimates[-1] - expected) <= 0.1 * TOLERANCE * scale:
                break
        array[...] = centre
        return estimates


def _central(function: Callable[[float], float], h: float) -> float:
    return (function(h) - function(-h)) / (2 * h)


def _directions(array: Array, rng: np.random.Generator) -> list[Array]:
    """A random unit vector, and the unit vectors of some random entries."""
    direction = rng.normal(size=array.shape)
    directions = [direction / np.linalg.norm(direction)]
    for position in rng.permutation(array.size)[:ENTRIES]:
        single = np.zeros(array.size)
        single[position] = 1.0
        directions.append(single.reshape(array.shape))
    return directions


def _draw(kernel: Kernel, seed: int) -> _Problem | None:
    for attempt in range(ATTEMPTS):
        problem = _Problem(kernel, seed, attempt)
        if np.isfinite(problem.loss()):
            return problem
    return None
