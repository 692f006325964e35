"""The part of the intermediate representation that carries a derivative of the joint state from block to block.

Grammar
-------
::

    BlockSweep    for t = T..1: body; then what joins the block to the next
    Before        the columns of ds(T)/ds(0) that belong to one state: statements whose target stands for
                  t = 1-depth..0 of the state's adjoint; its error dL/ds(0), or None for 0
    Direct        one parameter: its P is (batch, size, parameters), transposed where the parameter is a matrix;
                  ``pieces``: adjoint, summed over t times a vector (source), or alone

The joint state s has ``size`` units. ``body`` makes the adjoints of s(T), whose rows are the units of s(T).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from codegen.ir import Buffer, View
from codegen.sweep import RowBuffer, RowProduct, RowStatement, Sweep


@dataclass(frozen=True)
class Before:
    """``start``: its first unit in s. ``depth`` times ``units``: how many it has there, oldest time first.
    ``initial``: the parameter that is its learned initial value."""

    node: str
    start: int
    depth: int
    units: int
    error: View | None
    body: tuple[RowStatement, ...]
    initial: str | None = None


@dataclass(frozen=True)
class Direct:
    name: str
    shape: tuple[int, ...]
    gradient: View
    pieces: tuple[tuple[RowBuffer, View | None], ...]
    note: str = ""

    @property
    def count(self) -> int:
        """How many numbers the parameter has."""
        return self.shape[0] * (self.shape[1] if len(self.shape) == 2 else 1)


@dataclass(frozen=True)
class BlockSweep(Sweep):
    size: int = 0
    length: int = 1
    states: tuple[Before, ...] = ()
    parameters: tuple[Direct, ...] = ()

    def views(self) -> list[View]:
        """The vectors and parameters it reads."""
        found = super().views()
        for state in self.states:
            found += [state.error] if state.error is not None else []
            found += [row.right for row in state.body if isinstance(row, RowProduct) and isinstance(row.right, View)]
        return found + [source for direct in self.parameters for _, source in direct.pieces if source is not None]

    def held(self) -> dict[str, RowBuffer]:
        """The histories of a block, P at its start and at its end, ds(T)/ds(0)."""
        found = {
            name: dataclasses.replace(rows, slots=self.length + 2 * rows.padding) if rows.history else rows
            for name, rows in self.buffers().items()
        }
        for direct in self.parameters:
            name = f"P_{direct.name}"
            found[name] = RowBuffer(name, self.size, direct.count, 2)
        if self.size:
            found["jacobian"] = RowBuffer("jacobian", self.size, self.size)
        return found

    def flops_between(self, T: int, batch: int) -> int:
        """The FLOPs of what joins the blocks of T steps: P ds(T)/ds(0), P dL/ds(0), and the sums over t."""
        blocks = -(-T // self.length)
        count = sum(direct.count for direct in self.parameters)
        sums = sum(direct.count * len(direct.pieces) for direct in self.parameters)
        return batch * self.size * (blocks * count * 2 * (self.size + 1) + 2 * T * sums)

    def map_buffers(self, change: Callable[[Buffer], Buffer]) -> BlockSweep:
        """The sweep with the buffer of every vector and parameter changed."""

        def view(given: View) -> View:
            return dataclasses.replace(given, buffer=change(given.buffer))

        def before(state: Before) -> Before:
            body = tuple(
                dataclasses.replace(row, right=view(row.right))
                if isinstance(row, RowProduct) and isinstance(row.right, View)
                else row
                for row in state.body
            )
            return dataclasses.replace(state, body=body, error=None if state.error is None else view(state.error))

        parameters = tuple(
            dataclasses.replace(
                direct,
                pieces=tuple((rows, None if source is None else view(source)) for rows, source in direct.pieces),
            )
            for direct in self.parameters
        )
        changed = super().map_buffers(change)
        assert isinstance(changed, BlockSweep)
        return dataclasses.replace(changed, states=tuple(before(state) for state in self.states), parameters=parameters)
