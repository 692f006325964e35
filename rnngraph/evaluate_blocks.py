"""The reference interpreter of a System that runs in blocks: ``Evaluation`` in each, its ``Carry`` between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rnngraph.equations import Carry, Contribution, Outer, PointwiseSum, Read, meaning
from rnngraph.evaluate import Array, Evaluation, Functions, numpy_functions
from rnngraph.system import System


@dataclass
class BlockEvaluation:
    """One evaluation of a System with ``carry`` on data, given as to ``Evaluation``; T is that of the sequence."""

    system: System
    T: int
    batch: int
    given: Mapping[str, Array]
    parameters: Mapping[str, Array]
    state: Mapping[str, Array] = field(default_factory=dict)
    functions: Functions = field(default_factory=numpy_functions)
    number: Callable[[Any], Any] = float

    @property
    def carry(self) -> Carry:
        """What goes from block to block."""
        assert self.system.carry is not None, "a System without blocks: use Evaluation"
        return self.system.carry

    def totals(self) -> dict[str, Array]:
        """Every total by name: the loss and the gradients over the whole sequence."""
        carried = self._start()
        state = dict(self.state)
        sums: dict[str, Array] = {}
        for first in range(0, self.T, self.carry.length):
            steps = min(self.carry.length, self.T - first)
            given = {name: values[first : first + steps] for name, values in self.given.items()}
            given.update(self._seeds(steps))
            block = Evaluation(
                self.system, steps, self.batch, given, self.parameters, state, self.functions, self.number
            )
            error = self._error(block)
            for total in self.system.totals:
                value = block.total(total)
                if total.kind == "gradient" and total.of in carried:
                    shape = self.system.shapes[total.of]
                    value = value + (error[:, None, :] @ carried[total.of]).sum(axis=0).reshape(shape)
                sums[total.name] = sums[total.name] + value if total.name in sums else value
            jacobian = self._jacobian(block)
            carried = {name: jacobian @ before + self._direct(name, block) for name, before in carried.items()}
            state = {
                node: np.stack([block.value(node, t) for t in range(steps - depth + 1, steps + 1)])
                for node, depth in self.system.state_depths.items()
            }
        return sums

    def _zeros(self, *shape: int) -> Array:
        zeros: Array = np.full(shape, self.number(0))
        return zeros

    def _start(self) -> dict[str, Array]:
        """P before t = 1, (batch, state, parameters): 0, and the unit matrix for a learned initial value in use."""
        names = {*self.carry.direct, *self.carry.initial.values()}
        carried = {
            name: self._zeros(self.batch, self.carry.size, int(np.prod(shape)))
            for name, shape in self.system.shapes.items()
            if name in names
        }
        for state, name in self.carry.initial.items():
            size = self.system.signals[state].size
            for k in range(self.system.state_depths[state] * size if state not in self.state else 0):
                carried[name][:, self.carry.starts[state] + k, k % size] = self.number(1)
        return carried

    def _seeds(self, steps: int) -> dict[str, Array]:
        """The unit matrix in the rows of v(T-k), at t = T-k."""
        seeds = {}
        for state, name in self.carry.seeds.items():
            size, depth = self.system.signals[state].size, self.system.state_depths[state]
            seeds[name] = self._zeros(steps, self.batch, self.carry.size, size)
            for k in range(max(0, depth - steps), depth):
                for unit in range(size):
                    row = self.carry.starts[state] + k * size + unit
                    seeds[name][steps - depth + k, :, row, unit] = self.number(1)
        return seeds

    def _error(self, block: Evaluation) -> Array:
        """dL_block/ds(0), (batch, state)."""
        parts = [
            values
            for state in self.carry.starts
            for values in block.boundary(self.system.state_adjoints[state], self.system.state_depths[state])
        ]
        return np.concatenate(parts, axis=1) if parts else self._zeros(self.batch, 0)

    def _jacobian(self, block: Evaluation) -> Array:
        """ds(T)/ds(0), (batch, state, state)."""
        parts = [
            values
            for state in self.carry.starts
            for values in block.boundary(self.carry.adjoints[state], self.system.state_depths[state])
        ]
        if not parts:
            return self._zeros(self.batch, 0, 0)
        jacobian = np.concatenate(parts, axis=2)
        for state, start in self.carry.starts.items():  # what a block shorter than the delay leaves in the state
            size = self.system.signals[state].size
            for k in range((self.system.state_depths[state] - block.T) * size):
                jacobian[:, start + k, start + k + block.T * size] += self.number(1)
        return jacobian

    def _direct(self, name: str, block: Evaluation) -> Array:
        """What the parameter does inside the block, (batch, state, parameters)."""
        result = self._zeros(self.batch, self.carry.size, int(np.prod(self.system.shapes[name])))
        for piece in self.carry.direct.get(name, ()):
            for t in range(1, block.T + 1):
                result = result + self._at(piece, block, t).reshape(result.shape)
        return result

    def _at(self, piece: Contribution, block: Evaluation, t: int) -> Array:
        if isinstance(piece, Outer):
            left = block.value(piece.left, t - piece.left_delay)
            product: Array = left[:, None, :, None] * block.value(piece.right, t)[:, :, None, :]
            return product
        assert isinstance(piece, PointwiseSum)
        read = meaning(piece.expression)
        assert isinstance(read, Read)
        return block.value(read.signal, t)
