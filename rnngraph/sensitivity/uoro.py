"""System -> System: Unbiased Online Recurrent Optimization (Tallec and Ollivier 2018), one product of two vectors.

The sensitivity of the whole state, delay lines included, by all parameters is kept as S(t) theta(t), a vector of the
state's shape times one of the parameters'. With a(t) = ds(t)/ds(t-1) S(t-1), random signs nu(t) and the direct effect
g(t) = nu(t) ds(t)/dw of the step (their equations 7 to 9),

    S(t) = rho_0 a(t) + rho_1 nu(t)                 rho_0 = sqrt(|theta(t-1)| / |a(t)|)
    theta(t) = theta(t-1) / rho_0 + g(t) / rho_1    rho_1 = sqrt(|g(t)| / |nu(t)|)

The mean of S(t) theta(t) over the signs is the sensitivity itself: the gradient is noisy, but not biased. Each sequence
has its own S and theta, and its own signs.
"""

from __future__ import annotations

import dataclasses

import sympy

from codegen.functions import FUNCTIONS
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
from rnngraph.errors import UnsupportedError
from rnngraph.rules import Rule
from rnngraph.sensitivity.blocks import Blocks, find_blocks
from rnngraph.sensitivity.cut import Cut, StepGradient, cut, step_gradient
from rnngraph.sensitivity.jacobians import Jacobians
from rnngraph.system import System

SMALLEST = sympy.Float("1e-14")  # keeps the ratios of norms finite; any positive ratio leaves the mean as it is


def with_random_sensitivity(system: System, rule: Rule) -> System:
    """``system``, which has a loss, extended by one random rank-one sensitivity and the gradient that it gives.

    Raises UnsupportedError for a network that looks ahead or has learned initial values.
    """
    for signal in system.signals.values():
        if isinstance(signal.initial, str):
            raise UnsupportedError(
                "method", f"'uoro' with the learned initial value of {signal.name!r}", "numbers as initial values",
                "use method='rtrl', or give a number",
            )  # fmt: skip
    found = cut(system)
    random = _Random(system, found, rule)
    step = step_gradient(system, found.states)
    random.run(step)
    totals = []
    for name in system.parameters:
        pieces: list[Contribution] = list(step.gradients.get(name, ()))
        if name in random.shares:
            pieces.append(Contraction(random.shares[name], None, 0, local=True))
        totals.append(Total(f"dloss/d{name}", "gradient", tuple(pieces), name))
    return dataclasses.replace(
        system,
        title="gradient",
        signals={**random.jacobians.signals, **step.signals},
        equations=(*system.equations, *step.equations, *random.needed_jacobians(), *random.own),
        totals=(*system.totals, *totals),
        rule=str(rule),
        online=True,
        noise_seed=rule.seed,
    )


class _Random:
    """Writes the recursion; ``shares`` maps a parameter to the signal of what a step adds to its gradient."""

    def __init__(self, system: System, found: Cut, rule: Rule) -> None:
        self.system = system
        self.cut = found
        self.jacobians = Jacobians(system, found)
        self.blocks: Blocks = find_blocks(system, found, self.jacobians, rule)
        self.own: list[Equation] = []
        self.shares: dict[str, str] = {}
        self.depth = dict.fromkeys(found.states, 0)  # the last lag that is kept of each state
        for reads in self.blocks.past.values():
            for read, _ in reads:
                self.depth[read.signal] = max(self.depth[read.signal], read.delay - 1)

    def needed_jacobians(self) -> tuple[Equation, ...]:
        """The equations of the Jacobians that are used."""
        used = {read.signal for equation in self.own for read in equation.reads()}
        needed = []
        for equation in reversed(self.jacobians.equations):
            if equation.signal in used:
                used.update(read.signal for read in equation.reads())
                needed.append(equation)
            else:
                del self.jacobians.signals[equation.signal]
        return tuple(reversed(needed))

    def run(self, step: StepGradient) -> None:
        """All equations, in the order of the module's docstring."""
        states = self.cut.states
        if not states:
            return
        for read in step.errors:
            self.depth[read.signal] = max(self.depth[read.signal], read.delay)
        size = {state: self.system.signals[state].size for state in states}
        lags = [(state, lag) for state in states for lag in range(self.depth[state] + 1)]
        kept = {
            (state, lag): self._signal(f"S_{state}" + (f"_{lag}" if lag else ""), size[state], 1) for state, lag in lags
        }
        moved = {
            (state, lag): self._signal(f"a_S_{state}" + (f"_{lag}" if lag else ""), size[state], 1, "auxiliary")
            for state, lag in lags
        }
        for state, lag in lags:
            self._move(state, lag, kept, moved)
        noise = {state: self._noise(state, size[state]) for state in states}
        back = self._backwards(noise)
        direct = self._direct(back)
        theta = {name: self._signal(f"theta_{name}", *self._shape(name), "auxiliary", of=name) for name in direct}
        rho = self._ratio("rho_0", [(theta[name], 1) for name in theta], [(moved[key], 0) for key in lags])
        signs = sympy.Integer(sum(size.values()))
        rho_direct = self._ratio("rho_1", [(direct[name], 0) for name in direct], [], signs)
        for state, lag in lags:
            fresh = at(rho_direct) * at(noise[state]) if lag == 0 else sympy.S.Zero
            self._define(kept[state, lag], at(rho) * at(moved[state, lag]) + fresh)
        for name in theta:
            self._define(theta[name], at(theta[name], 1) / at(rho) + at(direct[name]) / at(rho_direct))
        terms = []
        for read, error in step.errors.items():
            product = self._signal(f"S_{read.signal}_error", size[read.signal], 1, "auxiliary")
            self._define(product, at(kept[read.signal, read.delay]) * at(error))
            terms.append(Term("sum_all", product))
        if terms:
            weight = self._signal("S_error", 1, 1, "auxiliary")
            self._define(weight, sympy.S.Zero, tuple(terms))
            for name in theta:
                self.shares[name] = self._signal(f"share_{name}", *self._shape(name), "auxiliary", of=name)
                self._define(self.shares[name], at(weight) * at(theta[name]))

    def _move(self, state: str, lag: int, kept: dict[tuple[str, int], str], moved: dict[tuple[str, int], str]) -> None:
        """a(t): one step of the network's own Jacobian; the delay lines move on."""
        if lag:
            self._define(moved[state, lag], at(kept[state, lag - 1], 1))
            return
        terms, expression = [], sympy.S.Zero
        for read, jacobian in self.blocks.past[state]:
            now = read.delay == 0
            source = moved[read.signal, 0] if now else kept[read.signal, read.delay - 1]
            delay = 0 if now else 1
            if jacobian.diagonal != 0:
                expression += at(source, delay) * jacobian.diagonal
            if jacobian.full is not None:
                terms.append(Term("product", source, delay, jacobian=jacobian.full))
        self._define(moved[state, 0], expression, tuple(terms))

    def _backwards(self, noise: dict[str, str]) -> dict[str, str]:
        """nu(t) taken back through what the states of one step do to each other."""
        back = dict(noise)
        for state in reversed(self.cut.states):
            terms, expression = [], at(noise[state])
            for later in self.cut.states:
                for read, jacobian in self.blocks.past[later]:
                    if read == Read(state, 0):
                        if jacobian.diagonal != 0:
                            expression += at(back[later]) * jacobian.diagonal
                        if jacobian.full is not None:
                            terms.append(Term("product", back[later], 0, transposed=True, jacobian=jacobian.full))
            if terms or expression != at(noise[state]):
                back[state] = self._signal(f"nu_back_{state}", self.system.signals[state].size, 1, "auxiliary")
                self._define(back[state], expression, tuple(terms))
            else:
                back[state] = self._signal(f"nu_row_{state}", self.system.signals[state].size, 1, "auxiliary")
                self._define(back[state], expression)
        return back

    def _direct(self, back: dict[str, str]) -> dict[str, str]:
        """g(t) by parameter."""
        sums: dict[str, Expression] = {}
        for state in self.cut.states:
            for seed, jacobian in self.blocks.seeds[state]:
                share = sympy.S.Zero
                if jacobian.diagonal != 0:
                    share += at(back[state]) * jacobian.diagonal * seed.expression
                if jacobian.full is not None:
                    size = self.system.signals[seed.signal].size
                    through = self._signal(f"nu_{seed.signal}_{state}", size, 1, "auxiliary")
                    term = Term("product", back[state], 0, transposed=True, jacobian=jacobian.full)
                    self._define(through, sympy.S.Zero, (term,))
                    share += at(through) * seed.expression
                sums[seed.parameter] = sums.get(seed.parameter, sympy.S.Zero) + share
        direct = {}
        for name, expression in sums.items():
            direct[name] = self._signal(f"g_{name}", *self._shape(name), "auxiliary", of=name)
            self._define(direct[name], expression)
        return direct

    def _ratio(
        self, name: str, over: list[tuple[str, int]], under: list[tuple[str, int]], number: Expression = sympy.S.Zero
    ) -> str:
        """The square root of a ratio of norms: the fourth root of one of sums of squares."""
        top, bottom = self._squares(f"{name}_over", over), self._squares(f"{name}_under", under)
        below = at(bottom) + SMALLEST if bottom else number
        above = at(top) + SMALLEST if top else SMALLEST
        root = FUNCTIONS["sqrt"].symbol
        signal = self._signal(name, 1, 1, "auxiliary")
        self._define(signal, root(root(above / below)))
        return signal

    def _squares(self, name: str, reads: list[tuple[str, int]]) -> str | None:
        """The sum of the squares of all entries."""
        if not reads:
            return None
        terms = []
        for source, delay in reads:
            given = self.jacobians.signals[source]
            square = self._signal(f"{name}_{source}", given.size, given.rows, "auxiliary")
            self._define(square, at(source, delay) ** 2)
            terms.append(Term("sum_all", square))
        total = self._signal(name, 1, 1, "auxiliary")
        self._define(total, sympy.S.Zero, tuple(terms))
        return total

    def _noise(self, state: str, size: int) -> str:
        name = fresh_name(f"nu_{state}", self.jacobians.signals)
        self.jacobians.signals[name] = Signal(name, size, "noise", state)
        return name

    def _shape(self, name: str) -> tuple[int, int]:
        """Units and rows of a parameter's sensitivity."""
        shape = self.system.parameters[name]
        return (shape[1], shape[0]) if len(shape) == 2 else (shape[0], 1)

    def _signal(self, wanted: str, size: int, rows: int, kind: str = "sensitivity", of: str | None = None) -> str:
        name = fresh_name(wanted, self.jacobians.signals)
        self.jacobians.signals[name] = Signal(name, size, kind, None, rows=rows, of=of)
        return name

    def _define(self, signal: str, expression: Expression, terms: tuple[Term, ...] = ()) -> None:
        self.own.append(Equation(signal, terms, expression))
