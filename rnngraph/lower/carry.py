"""The equations of the end state's adjoints -> one BlockSweep: the sweep through a block, and what joins two blocks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from codegen.blocks import Before, BlockSweep, Direct
from codegen.ir import View
from codegen.sweep import RowBuffer, RowStatement, RowView, Seed
from rnngraph.equations import Carry, Contribution, Equation, Outer, PointwiseSum, Read, at, meaning
from rnngraph.lower.layout import ParameterLayout
from rnngraph.lower.sweep import SweepLowering
from rnngraph.schedule import Schedule
from rnngraph.schedule.simplify import boundary_part


class CarryLowering(SweepLowering):
    """``span`` gives the view of a signal without rows for all t, ``error`` that of dL/dv(t) at t <= 0."""

    def __init__(
        self,
        schedule: Schedule,
        layout: ParameterLayout,
        vector: Callable[[str, int], View],
        matrix: Callable[[str], View],
        notes: Mapping[str, str],
        span: Callable[[str, int], View],
        error: Callable[[str], View | None],
    ) -> None:
        assert schedule.system.carry is not None
        self.carry: Carry = schedule.system.carry
        super().__init__(schedule, layout, vector, matrix, notes)
        self.span = span
        self.error = error
        self.seed_of = {seed: state for state, seed in self.carry.seeds.items()}

    def run(self) -> BlockSweep:
        """The adjoints step by step, each with its seed last; then ds(T)/ds(0) and P."""
        body: list[RowStatement] = []
        for equation in self.schedule.sweep:
            seeds = {
                symbol: state for seed, state in self.seed_of.items() if equation.expression.has(symbol := at(seed))
            }
            without = equation.expression.xreplace(dict.fromkeys(seeds, 0))
            body += self._equation(dataclasses.replace(equation, expression=without))
            target = RowView(self.buffers[equation.signal])
            for state in seeds.values():
                depth = self.schedule.system.state_depths[state]
                body.append(Seed(target, self.carry.starts[state] + (depth - 1) * target.buffer.columns, depth))
        system = self.schedule.system
        names = [name for name in system.shapes if name in self.carry.direct or name in self.carry.initial.values()]
        return BlockSweep(
            tuple(body),
            "for t = T..1: the derivatives of the state at the block's end",
            self.carry.size,
            self.carry.length,
            tuple(self._before(state) for state in self.carry.starts),
            tuple(
                Direct(
                    name,
                    system.shapes[name],
                    self.layout.view(name, "gradient"),
                    tuple(self._piece(piece) for piece in self.carry.direct.get(name, ())),
                )
                for name in names
            ),
        )

    def _before(self, state: str) -> Before:
        system = self.schedule.system
        equation = next(found for found in self.schedule.sweep if found.signal == self.carry.adjoints[state])
        ahead = Equation(
            equation.signal,
            tuple(term for term in equation.terms if term.delay < 0),
            boundary_part(equation.expression),
        )
        body = self._equation(ahead) if ahead.terms or ahead.expression != 0 else []
        depth, units = system.state_depths[state], system.signals[state].size
        start = self.carry.starts[state]
        return Before(state, start, depth, units, self.error(state), tuple(body), self.carry.initial.get(state))

    def _piece(self, piece: Contribution) -> tuple[RowBuffer, View | None]:
        if isinstance(piece, Outer):
            return self.buffers[piece.right], self.span(piece.left, piece.left_delay)
        assert isinstance(piece, PointwiseSum)
        found = meaning(piece.expression)
        assert isinstance(found, Read)
        return self.buffers[found.signal], None

    def _allocate(self) -> dict[str, RowBuffer]:
        """A history where the sum over t or an earlier time reads it."""
        system = self.schedule.system
        kept = {rows for pieces in self.carry.direct.values() for rows in map(_summed, pieces)}
        padding = max([0, *(system.state_depths[state] for state in self.carry.starts)])
        for equation in self.schedule.sweep:
            for read in equation.reads():
                if read.delay < 0:
                    kept.add(read.signal)
                    padding = max(padding, -read.delay)
        return {
            name: RowBuffer(
                name, signal.rows, signal.size, history=name in kept, padding=padding if name in kept else 0
            )
            for equation in self.schedule.sweep
            for name, signal in [(equation.signal, self.schedule.signals[equation.signal])]
        }


def _summed(piece: Contribution) -> str:
    if isinstance(piece, Outer):
        return piece.right
    assert isinstance(piece, PointwiseSum)
    found = meaning(piece.expression)
    assert isinstance(found, Read)
    return found.signal
