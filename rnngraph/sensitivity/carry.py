"""System -> System: BPTT inside blocks of h steps, and between them one derivative of the joint state that is carried.

J. Schmidhuber (1992), "A fixed size storage O(n^3) time complexity learning algorithm for fully recurrent continually
running networks". With the joint state s, of N units, and P = ds(0)/dw at the start of a block of T = h steps,

    dL/dw += BPTT inside the block + P dL_block/ds(0)          P <- P ds(T)/ds(0) + direct

ds(T)/ds(0) and direct come from one more reverse sweep through the block, that of the end state instead of the loss:
its adjoints Lambda_v(t) = ds(T)/dv(t) have N rows, and the transposition rules are those of ``vjp``. A block costs
h N n^2 for the sweep and N^2 n^2 for P: with h = N that is O(n^3) for each step.
"""

from __future__ import annotations

import dataclasses

from rnngraph.equations import (
    BoundarySum,
    Carry,
    Contribution,
    Equation,
    Outer,
    PointwiseSum,
    Read,
    Signal,
    Total,
    at,
    fresh_name,
    reads_of,
)
from rnngraph.rules import Rule
from rnngraph.sensitivity.cut import Cut, cut, renamed, renamed_contribution
from rnngraph.system import System
from rnngraph.vjp import vjp


def with_blocks(system: System, rule: Rule) -> System:
    """``system``, which has a loss, extended by the equations of one block; see ``Carry`` for what joins the blocks.

    Raises UnsupportedError for a network that looks ahead.
    """
    found = cut(system)
    reverse = _with_errors(system, found)
    starts, size = {}, 0
    for state in found.states:
        starts[state] = size
        size += system.state_depths[state] * system.signals[state].size
    sweep = _EndState(system, reverse, found, size)
    sweep.run()
    carry = Carry(
        rule.block or max(size, 1),
        size,
        starts,
        sweep.adjoints,
        sweep.seeds,
        sweep.direct,
        {state: initial for state in found.states if isinstance(initial := system.signals[state].initial, str)},
    )
    return dataclasses.replace(
        reverse,
        signals=sweep.signals,
        equations=(*reverse.equations, *sweep.equations),
        rule=f"bptt-rtrl(block={carry.length})",
        carry=carry,
    )


def _with_errors(system: System, found: Cut) -> System:
    """Backpropagation within a block, with the adjoints of the states at its start. A learned initial value has its
    gradient from P, which is the unit matrix before t = 1."""
    reverse = vjp(system)
    adjoint_of = {
        signal.origin: name for name, signal in reverse.signals.items() if signal.kind == "adjoint" and signal.origin
    }
    totals = tuple(
        dataclasses.replace(
            total, contributions=tuple(piece for piece in total.contributions if not isinstance(piece, BoundarySum))
        )
        for total in reverse.totals
    )
    return dataclasses.replace(
        reverse, totals=totals, state_adjoints={state: adjoint_of[state] for state in found.states}
    )


class _EndState:
    """The reverse sweep of the end state: a vjp whose adjoints get rows."""

    def __init__(self, system: System, reverse: System, found: Cut, size: int) -> None:
        self.system = system
        self.found = found
        self.size = size
        self.signals: dict[str, Signal] = dict(reverse.signals)
        self.equations: list[Equation] = []
        self.adjoints: dict[str, str] = {}
        self.seeds: dict[str, str] = {}
        self.direct: dict[str, tuple[Contribution, ...]] = {}

    def run(self) -> None:
        """vjp of the sum of seed_v(t) v(t), then a row for each unit of the end state."""
        if not self.found.states:
            return
        signals = dict(self.system.signals)
        pieces = []
        for state in self.found.states:
            size = signals[state].size
            seed = fresh_name(f"E_{state}", [*self.signals, *signals])
            signals[seed] = Signal(seed, size, "seed", state)
            self.seeds[state] = seed
            pieces.append(PointwiseSum(at(seed) * at(state), size, over_units=True))
        end = Total("end", "loss", tuple(pieces))
        reverse = vjp(dataclasses.replace(self.system, signals=signals, totals=(end,)), of="end")
        new = [name for name in reverse.signals if name not in self.system.signals]
        names: dict[str, str] = {}
        for name in new:
            signal = reverse.signals[name]
            wanted = f"Lambda_{name.removeprefix('delta_')}" if signal.kind != "seed" else name
            names[name] = fresh_name(wanted, [*self.signals, *names.values()])
            origin = names.get(signal.origin or "", signal.origin)
            self.signals[names[name]] = dataclasses.replace(signal, name=names[name], origin=origin, rows=self.size)
            if signal.kind == "adjoint" and origin in self.found.states:
                self.adjoints[origin] = names[name]

        def lifted(read: Read) -> Read:
            return Read(names.get(read.signal, read.signal), read.delay)

        self.seeds = {state: names[seed] for state, seed in self.seeds.items()}
        self.equations = [
            dataclasses.replace(renamed(equation, lifted), signal=names[equation.signal])
            for equation in reverse.equations
            if equation.signal in names
        ]
        for total in reverse.totals:
            kept = [
                self._summand(renamed_contribution(piece, lifted), total.of or "")
                for piece in total.contributions
                if total.kind == "gradient" and not isinstance(piece, BoundarySum)
            ]
            if kept:
                self.direct[str(total.of)] = tuple(kept)

    def _summand(self, piece: Contribution, of: str) -> Contribution:
        """Products of an adjoint with rows get a signal of their own, so that what is summed is always one signal."""
        if isinstance(piece, Outer):
            return piece
        assert isinstance(piece, PointwiseSum)
        if piece.expression.is_Symbol:
            return piece
        name = fresh_name(f"Lambda_times_{of}", self.signals)
        owner = next(read.signal for read in reads_of(piece.expression) if self.signals[read.signal].rows)
        self.signals[name] = Signal(name, piece.size, "auxiliary", owner, rows=self.size)
        self.equations.append(Equation(name, (), piece.expression))
        return PointwiseSum(at(name), piece.size)
