"""System -> System: the gradient by sensitivities that run forward in time with the network.

With the states v of the cut, their Jacobians of one step and the sensitivities P_v^w = dv/dw,

    P_v^w(t) = sum over u, d of P_u^w(t-d) dv(t)/du(t-d) + direct(t)        Williams and Zipser (1989), equation 9
    dL/dw    = sum over t of P_v^w(t) dL(t)/dv(t) + what w adds after the states

Nothing reads ahead: a step needs the sensitivities of the step before and no history of the sequence.
"""

from __future__ import annotations

import dataclasses

import sympy

from rnngraph.equations import (
    Contraction,
    Contribution,
    Equation,
    Expression,
    Read,
    Signal,
    Term,
    Total,
    at,
    fresh_name,
)
from rnngraph.rules import Rule
from rnngraph.sensitivity.blocks import FULL, LOCAL, Blocks, Seed, find_blocks, starts_as_unit
from rnngraph.sensitivity.cut import Cut, cut, step_gradient
from rnngraph.sensitivity.jacobians import Jacobian, Jacobians
from rnngraph.system import System


def with_sensitivities(system: System, rule: Rule) -> System:
    """``system``, which has a loss, extended by the sensitivities of its states and its gradient by ``rule``.

    Raises UnsupportedError where the network does not allow the rule.
    """
    found = cut(system)
    sensitivities = _Sensitivities(system, found, rule)
    sensitivities.run()
    step = step_gradient(system, found.states)
    totals = []
    for name in system.parameters:
        pieces: list[Contribution] = list(step.gradients.get(name, ()))
        for read, error in step.errors.items():
            known = sensitivities.names.get((read.signal, name))
            if known is not None:
                local = sensitivities.blocks.structure[read.signal, name] == LOCAL
                pieces.append(Contraction(known, error, read.delay, local))
        totals.append(Total(f"dloss/d{name}", "gradient", tuple(pieces), name))
    return dataclasses.replace(
        system,
        title="gradient",
        signals={**sensitivities.jacobians.signals, **step.signals},
        equations=(*system.equations, *step.equations, *sensitivities.equations()),
        totals=(*system.totals, *totals),
        rule=str(rule),
        online=True,
        dropped=sensitivities.blocks.dropped,
    )


def output_sensitivities(system: System) -> System:
    """``system`` (forward equations) extended by the sensitivities of its outputs by all parameters, at every t."""
    found = cut(system, system.outputs)
    sensitivities = _Sensitivities(system, found, Rule("rtrl"))
    sensitivities.run()
    return dataclasses.replace(
        system,
        title="sensitivities of the outputs",
        signals=sensitivities.jacobians.signals,
        equations=(*system.equations, *sensitivities.equations()),
        rule="rtrl",
        online=True,
        output_sensitivities={
            (output, name): (signal, sensitivities.blocks.structure[output, name] == LOCAL)
            for (output, name), signal in sensitivities.names.items()
            if output in system.outputs
        },
    )


class _Sensitivities:
    """Writes the recursion of every sensitivity; ``names`` maps (state, parameter) to its signal."""

    def __init__(self, system: System, found: Cut, rule: Rule) -> None:
        self.system = system
        self.cut = found
        self.jacobians = Jacobians(system, found)
        self.blocks: Blocks = find_blocks(system, found, self.jacobians, rule)
        self.names: dict[tuple[str, str], str] = {}
        self.own: list[Equation] = []

    def equations(self) -> tuple[Equation, ...]:
        """Those of the Jacobians, then those of the sensitivities."""
        used: set[str] = set()
        needed: list[Equation] = []
        for equation in [*self.own[::-1], *self.jacobians.equations[::-1]]:
            if equation in self.own or equation.signal in used:
                used.update(read.signal for read in equation.reads())
                needed.append(equation)
        for equation in self.jacobians.equations:
            if equation.signal not in used:
                del self.jacobians.signals[equation.signal]
        return tuple(needed[::-1])

    def run(self) -> None:
        """Name every sensitivity first, since they read each other; then write their equations."""
        signals = self.jacobians.signals
        for state, name in self._pairs():
            rows = self._rows(state, name)
            signal = fresh_name(f"P_{state}_{name}", signals)
            size = self.system.signals[state].size
            unit = starts_as_unit(state, name, self.system)
            signals[signal] = Signal(signal, size, "sensitivity", state, rows=rows, of=name, starts_as_unit=unit)
            self.names[state, name] = signal
        for state, name in self._pairs():
            self._write(state, name)

    def _pairs(self) -> list[tuple[str, str]]:
        return [
            (state, name)
            for state in self.cut.states
            for name in self.system.parameters
            if (state, name) in self.blocks.structure
        ]

    def _rows(self, state: str, name: str) -> int:
        shape = self.system.parameters[name]
        if self.blocks.structure[state, name] == FULL:
            return shape[0] * (shape[1] if len(shape) == 2 else 1)
        return shape[0] if len(shape) == 2 else 1

    def _write(self, state: str, name: str) -> None:
        full = self.blocks.structure[state, name] == FULL
        terms: list[Term] = []
        whole: Expression = sympy.S.Zero  # of the sensitivity's own structure
        narrow: Expression = sympy.S.Zero  # local summands of a full one
        for read, jacobian in self.blocks.past[state]:
            source = self.names.get((read.signal, name))
            if source is None:
                continue
            source_full = self.blocks.structure[read.signal, name] == FULL
            if jacobian.diagonal != 0 and (full or not source_full):
                product = at(source, read.delay) * jacobian.diagonal
                if full and not source_full:
                    narrow += product
                else:
                    whole += product
            if jacobian.full is not None:
                terms += self._through(source, read, jacobian, full, source_full)
        for seed, jacobian in self.blocks.seeds[state]:
            if seed.parameter != name:
                continue
            if jacobian.diagonal != 0:
                if full:
                    narrow += seed.expression * jacobian.diagonal
                else:
                    whole += seed.expression * jacobian.diagonal
            if jacobian.full is not None and full:
                direct = self._seed_signal(seed)
                terms.append(Term("expand", direct, 0, jacobian=jacobian.full))
        if narrow != 0:
            local = self._local(f"direct_{state}_{name}", state, name, narrow)
            terms.append(Term("expand", local))
        self.own.append(Equation(self.names[state, name], tuple(terms), whole))

    def _through(self, source: str, read: Read, jacobian: Jacobian, full: bool, source_full: bool) -> list[Term]:
        """A sensitivity that passes a full Jacobian; of one that is kept local, only the Jacobian's diagonal."""
        if full:
            return [Term("product" if source_full else "expand", source, read.delay, jacobian=jacobian.full)]
        signals = self.jacobians.signals
        assert jacobian.full is not None
        square = signals[jacobian.full].rows == signals[jacobian.full].size
        return [Term("diagonal", source, read.delay, jacobian=jacobian.full)] if square and not source_full else []

    def _seed_signal(self, seed: Seed) -> str:
        """The signal of a seed: one that is there already if it has the same value and the same shape."""
        shape = (self._seed_rows(seed.parameter), self.system.signals[seed.signal].size)
        for equation in self.own:
            found = self.jacobians.signals[equation.signal]
            if (
                equation.expression == seed.expression
                and found.kind == "auxiliary"
                and (found.rows, found.size) == shape
            ):
                return equation.signal
        return self._local(f"direct_{seed.signal}_{seed.parameter}", seed.signal, seed.parameter, seed.expression)

    def _local(self, wanted: str, state: str, name: str, expression: Expression) -> str:
        signals = self.jacobians.signals
        signal = fresh_name(wanted, signals)
        rows = self._seed_rows(name)
        signals[signal] = Signal(signal, signals[state].size, "auxiliary", state, rows=rows, of=name)
        self.own.append(Equation(signal, (), expression))
        return signal

    def _seed_rows(self, name: str) -> int:
        shape = self.system.parameters[name]
        return shape[0] if len(shape) == 2 else 1
