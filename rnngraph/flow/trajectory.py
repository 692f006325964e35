"""The Jacobians of all links along one run of a network on data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnngraph.equations import Expression, meaning
from rnngraph.evaluate import Evaluation, evaluate_expression
from rnngraph.flow.links import Link, Network

Array = NDArray[np.float64]


@dataclass
class Trajectory:
    """A network's values on inputs (T, batch, size): the Jacobian of a link for every t of one sequence.

    ``parameters``, ``inputs`` and ``state`` are float64 arrays that are checked already.
    """

    network: Network
    parameters: Mapping[str, Array]
    inputs: Mapping[str, Array]
    state: Mapping[str, Array]
    T: int
    batch: int
    _evaluation: Evaluation = field(init=False)
    _derivatives: dict[Expression, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        system = self.network.system
        self._evaluation = Evaluation(system, self.T, self.batch, self.inputs, self.parameters, self.state)

    def matrix(self, link: Link) -> Array:
        """W^T of a link with a parameter, (destination size, source size)."""
        assert link.parameter is not None
        matrix: Array = np.transpose(self._evaluation.matrices[link.parameter])
        return matrix

    def derivative(self, link: Link) -> Array:
        """The pointwise derivative of a link without a parameter at t = 1..T, (T, batch, destination size)."""
        shape = (self.T, self.batch, self.network.size(link.destination))
        if link.derivative not in self._derivatives:
            self._derivatives[link.derivative] = np.asarray(self._evaluate(link.derivative), dtype=np.float64)
        return np.broadcast_to(self._derivatives[link.derivative], shape)

    def jacobian(self, link: Link, sequence: int) -> Array:
        """The Jacobian of a link at t = 1..T, (T, destination size, source size), or without the first axis where it is
        the same for all t."""
        if link.parameter is not None:
            return self.matrix(link)
        derivative = self.derivative(link)[:, sequence]
        if self.network.size(link.source) != derivative.shape[1]:
            return derivative[:, :, None]
        return derivative[:, :, None] * np.eye(derivative.shape[1])

    def _evaluate(self, expression: Expression) -> Any:
        values: dict[Expression, Any] = {}
        for symbol in expression.free_symbols:
            found = meaning(symbol)
            if isinstance(found, str):
                values[symbol] = self._evaluation.matrices[found]
            else:
                times = range(1 - found.delay, self.T + 1 - found.delay)
                values[symbol] = np.stack([self._evaluation.value(found.signal, time) for time in times])
        return evaluate_expression(expression, values, self._evaluation.functions)
