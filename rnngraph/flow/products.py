"""Products of one-step Jacobians along a trajectory: ds(t)/ds(t-k), delay lines included.

The state s(t) holds, for every node that is read with a delay, its last values: u(t), u(t-1), ..., u(t-D+1) for the
longest delay D out of u. Then s(t) depends on s(t-1) and the inputs alone, and its Jacobian ds(t)/ds(t-1) has the
companion form: one row of blocks per node, below it shifts (Pascanu, Mikolov and Bengio 2013, equation 5, with delays).

The total derivative dv(t)/du(t-k) is what adding to the value of u at t-k changes in v at t, through every path, those
at t-k itself included: the delta of backpropagation through time is made of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from rnngraph.flow.links import Link, Network
from rnngraph.flow.trajectory import Array, Trajectory


@dataclass(frozen=True)
class StateLayout:
    """Where each value of the state lies: ``places`` maps (node, age) to the slice of u(t - age)."""

    places: Mapping[tuple[str, int], slice]
    size: int


def state_layout(network: Network, depths: Mapping[str, int]) -> StateLayout:
    """The state of the nodes in ``depths``, each with so many values, youngest first."""
    places: dict[tuple[str, int], slice] = {}
    start = 0
    for name, depth in depths.items():
        for age in range(depth):
            places[name, age] = slice(start, start + network.size(name))
            start += network.size(name)
    return StateLayout(places, start)


@dataclass(frozen=True)
class Chain:
    """Jacobians of one sequence, through the nodes ``through`` only (None: all)."""

    trajectory: Trajectory
    layout: StateLayout
    through: Collection[str] | None = None

    def one_step(self, sequence: int) -> Array:
        """ds(t)/ds(t-1) for t = 1..T, (T, state size, state size)."""
        rows = self._rows(sequence, None)
        return self._stacked(rows, self.layout.size)

    def impulse(self, sequence: int, source: str) -> Array:
        """ds(t)/du(t) for u = ``source``: the identity at u's own place, and what depends on u at the same t."""
        rows = self._rows(sequence, source)
        return self._stacked(rows, self.trajectory.network.size(source), shifts=False)

    def by_lag(self, sequence: int, source: str | None, longest: int, one_step: Array) -> Iterator[tuple[int, Array]]:
        """For k = 1..``longest``: k and ds(t)/du(t-k), or ds(t)/ds(t-k) where ``source`` is None, (T-k, state, ...).

        Row i belongs to t = i + 1 + k, so that t - k runs from 1. ``one_step`` is what the method of this name gives.
        """
        T = self.trajectory.T
        if source is None:
            product: Array = np.broadcast_to(np.eye(self.layout.size), (T, self.layout.size, self.layout.size))
        else:
            product = self.impulse(sequence, source)
        for lag in range(1, longest + 1):
            with np.errstate(over="ignore", invalid="ignore", under="ignore"):  # an exploding product becomes inf
                product = one_step[lag:] @ product[: T - lag]
            yield lag, product

    def _stacked(self, rows: Mapping[str, Array], columns: int, shifts: bool = True) -> Array:
        stacked = np.zeros((self.trajectory.T, self.layout.size, columns))
        for (name, age), place in self.layout.places.items():
            if age == 0:
                if name in rows:
                    stacked[:, place] = rows[name]
            elif shifts:
                stacked[:, place, self.layout.places[name, age - 1]] = np.eye(place.stop - place.start)
        return stacked

    def _rows(self, sequence: int, impulse: str | None) -> dict[str, Array]:
        """The derivative of every signal at t by s(t-1), or by an addition to ``impulse`` at t; none where it is 0."""
        network = self.trajectory.network
        columns = self.layout.size if impulse is None else network.size(impulse)
        rows: dict[str, Array] = {}
        for signal in network.order:
            if signal not in network.into or not self._allowed(signal):
                continue
            total = np.zeros((self.trajectory.T, network.size(signal), columns))
            reached = False
            for link in network.into[signal]:
                if link.delay == 0 and link.source in rows:
                    total += self._apply(link, rows[link.source], sequence)
                elif link.delay > 0 and impulse is None and (link.source, link.delay - 1) in self.layout.places:
                    place = self.layout.places[link.source, link.delay - 1]
                    total[:, :, place] += self.trajectory.jacobian(link, sequence)
                else:
                    continue
                reached = True
            if signal == impulse:
                total += np.eye(columns)
                reached = True
            if reached:
                rows[signal] = total
        return rows

    def _apply(self, link: Link, rows: Array, sequence: int) -> Array:
        """The link's Jacobian times ``rows``."""
        if link.parameter is not None:
            product: Array = self.trajectory.matrix(link) @ rows
            return product
        return self.trajectory.derivative(link)[:, sequence, :, None] * rows

    def _allowed(self, signal: str) -> bool:
        return self.through is None or self.trajectory.network.node(signal) in self.through


def spectral_norms(matrices: Array) -> Array:
    """The largest singular value of each matrix, (n,); infinite for a matrix that holds inf or NaN."""
    if 0 in matrices.shape:
        return np.zeros(matrices.shape[0])
    largest = np.abs(matrices).max(axis=(1, 2))
    finite = np.isfinite(largest)
    scale = np.where(finite & (largest > 0), largest, 1.0)
    scaled = np.where(finite[:, None, None], matrices, 0.0) / scale[:, None, None]  # neither over- nor underflow
    if scaled.shape[1] < scaled.shape[2]:
        scaled = scaled.transpose(0, 2, 1)
    gram = scaled.transpose(0, 2, 1) @ scaled  # of its eigenvalues, the largest is as exact as the matrix
    norms = scale * np.sqrt(np.maximum(np.linalg.eigvalsh(gram)[:, -1], 0.0))
    return np.where(finite, norms, np.inf)
