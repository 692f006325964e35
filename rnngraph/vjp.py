"""System -> System: reverse-mode differentiation of a total, by the transposition rule of each kind of term.

With v(t) = W^T u(t-d) + g(w(t-e)), the adjoint delta_v(t) = dL/dv(t) sends back (the chapter's delta recursion)

    delta_u(t) += W delta_v(t+d)                                  dense      (transposed and reversed in time)
    delta_u(t) += for each entry its weight times delta_v(t+d)    sparse     (likewise)
    delta_u(t) += delta_v(t+d)                                    sum        (its transpose is broadcasting)
    delta_u(t) += exp(u(t) - v(t)) delta_v(t)                     logsumexp
    delta_w(t) += [dg/dw delta_v](t+e)                            pointwise

and dL/dW = sum over t of u(t-d) delta_v(t)^T, dL/db = sum over t of dg/db delta_v(t). Where e is not 0 the product in
brackets becomes a signal of its own, so that every product is taken at one time and only adjoints, which are 0 outside
1..T, are read across time: no forward value beyond the sequence can enter, not even multiplied by 0.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable

import sympy

from codegen.functions import exp
from rnngraph.effective import as_parameters, pull_back
from rnngraph.equations import (
    BoundarySum,
    Contribution,
    Equation,
    Expression,
    Outer,
    PointwiseSum,
    Read,
    Signal,
    SparseOuter,
    Term,
    Total,
    at,
    fresh_name,
    meaning,
    symbols_of,
)
from rnngraph.errors import OptionError
from rnngraph.system import System

WRT = ("parameters", "inputs", "state")


def vjp(
    system: System, of: str = "loss", wrt: Iterable[str] = ("parameters",), states: Collection[str] | None = None
) -> System:
    """``system`` extended by the adjoint equations of the total ``of`` and its gradients.

    ``wrt`` is a subset of "parameters", "inputs", "state". Raises OptionError for another word. ``states``: the nodes
    whose state is meant, unless it is all of them.
    """
    wrt = (wrt,) if isinstance(wrt, str) else tuple(wrt)
    for word in wrt:
        if word not in WRT:
            raise OptionError("wrt", repr(word), f"a subset of {WRT}", "check the spelling")
    return pull_back(_Transposition(as_parameters(system), of, wrt, states).run(), system)


class _Transposition:
    """The state of one reverse sweep: adjoint signals with their collected terms and summands."""

    def __init__(self, system: System, of: str, wrt: tuple[str, ...], states: Collection[str] | None) -> None:
        self.system = system
        self.of = system.total(of)
        self.wrt = wrt
        self.states = {*system.state_depths, *system.ahead_depths} if states is None else {*states}
        self.signals: dict[str, Signal] = dict(system.signals)
        self.auxiliary: dict[str, list[Equation]] = {}
        self.adjoint: dict[str, str] = {}
        self.terms: dict[str, list[Term]] = {}
        self.summands: dict[str, list[Expression]] = {}
        self.gradients: dict[str, list[Contribution]] = {}

    def run(self) -> System:
        self._create_adjoints()
        for contribution in self.of.contributions:
            self._seed(contribution)
        for equation in self.system.equations:
            if equation.signal in self.adjoint:
                self._transpose(equation)
        self._collect_initial_values()
        equations = list(self.system.equations)
        for signal, adjoint in reversed(self.adjoint.items()):
            summands = sympy.Add(*self.summands[signal])
            equations.append(Equation(adjoint, tuple(self.terms[signal]), summands))
            equations.extend(self.auxiliary.get(signal, []))
        gradients: tuple[Total, ...] = ()
        if "parameters" in self.wrt:
            gradients = tuple(
                Total(f"d{self.of.name}/d{name}", "gradient", tuple(self.gradients.get(name, ())), name)
                for name in self.system.parameters
            )
        depths, ahead = self.system.state_depths, self.system.ahead_depths
        return dataclasses.replace(
            self.system,
            title="gradient",
            signals=self.signals,
            equations=tuple(equations),
            totals=(*self.system.totals, *gradients),
            input_adjoints={
                name: self.adjoint.get(name, "")
                for name, signal in self.system.signals.items()
                if signal.kind == "input" and "inputs" in self.wrt
            },
            state_adjoints={
                name: self.adjoint.get(name, "") for name in depths if "state" in self.wrt and name in self.states
            },
            ahead_adjoints={name: self.adjoint.get(name, "") for name in ahead if "state" in self.wrt},
        )

    # Which signals need an adjoint: those on a way from something differentiated to the total.

    def _create_adjoints(self) -> None:
        wanted = self._depends_on_wrt() & self._reaches_total()
        for name, signal in self.system.signals.items():
            if name in wanted:
                adjoint = fresh_name(f"delta_{name}", self.signals)
                self.signals[adjoint] = Signal(adjoint, signal.size, "adjoint", name)
                self.adjoint[name] = adjoint
                self.terms[name] = []
                self.summands[name] = []

    def _depends_on_wrt(self) -> set[str]:
        depths = {*self.system.state_depths, *self.system.ahead_depths}
        found: set[str] = set()
        for name, signal in self.system.signals.items():
            learned = isinstance(signal.initial, str) and "parameters" in self.wrt and name in depths
            stateful = "state" in self.wrt and name in depths and name in self.states
            if learned or stateful or (signal.kind == "input" and "inputs" in self.wrt):
                found.add(name)
        readers: dict[str, list[str]] = {}
        for equation in self.system.equations:
            if "parameters" in self.wrt and self._reads_parameter(equation):
                found.add(equation.signal)
            for read in equation.reads():
                readers.setdefault(read.signal, []).append(equation.signal)
        return _closure(found, readers)

    def _reads_parameter(self, equation: Equation) -> bool:
        return any(term.parameter in self.system.parameters for term in equation.terms) or any(
            isinstance(meaning(symbol), str) for symbol in equation.expression.free_symbols
        )

    def _reaches_total(self) -> set[str]:
        sources: dict[str, list[str]] = {}
        for equation in self.system.equations:
            sources[equation.signal] = [read.signal for read in equation.reads()]
        start: set[str] = set()
        for contribution in self.of.contributions:
            if isinstance(contribution, PointwiseSum):
                start.update(_read_names(contribution.expression))
            elif isinstance(contribution, Outer | SparseOuter):
                start.update((contribution.left, contribution.right))
        return _closure(start, sources)

    # The rules.

    def _seed(self, contribution: Contribution) -> None:
        assert isinstance(contribution, PointwiseSum), "a total that is differentiated is a number"
        self._pointwise(contribution.expression, contribution.size, sympy.S.One, "loss")

    def _transpose(self, equation: Equation) -> None:
        adjoint = self.adjoint[equation.signal]
        size = self.signals[equation.signal].size
        for term in equation.terms:
            if term.operator == "dense":
                self._transpose_dense(term, adjoint)
            elif term.operator == "sparse":
                self._transpose_sparse(term, adjoint)
            elif term.source in self.adjoint:
                if term.operator == "sum":
                    self.summands[term.source].append(at(adjoint, -term.delay))
                else:  # logsumexp, always read at t
                    softmax = exp(at(term.source) - at(equation.signal))
                    self.summands[term.source].append(softmax * at(adjoint))
        self._pointwise(equation.expression, size, at(adjoint), equation.signal)

    def _transpose_dense(self, term: Term, adjoint: str) -> None:
        assert term.parameter is not None
        if term.source in self.adjoint:
            self.terms[term.source].append(Term("dense", adjoint, -term.delay, term.parameter, not term.transposed))
        if term.parameter in self.system.parameters and "parameters" in self.wrt:
            outer = (
                Outer(adjoint, term.source, 0, term.delay)
                if term.transposed
                else Outer(term.source, adjoint, term.delay, 0)
            )
            self.gradients.setdefault(term.parameter, []).append(outer)

    def _transpose_sparse(self, term: Term, adjoint: str) -> None:
        assert term.parameter is not None and term.pattern is not None
        assert not term.transposed, "an adjoint is not differentiated backward again"
        if term.source in self.adjoint:
            self.terms[term.source].append(dataclasses.replace(term, source=adjoint, transposed=True))
        if term.parameter in self.system.parameters and "parameters" in self.wrt:
            outer = SparseOuter(term.source, adjoint, term.pattern)
            self.gradients.setdefault(term.parameter, []).append(outer)

    def _pointwise(self, expression: Expression, size: int, cotangent: Expression, owner: str) -> None:
        for symbol in symbols_of(expression):
            found = meaning(symbol)
            if isinstance(found, Read):
                if found.signal in self.adjoint:
                    self._pointwise_read(found, sympy.diff(expression, symbol), size, cotangent, owner)
            elif "parameters" in self.wrt:
                partial = sympy.diff(expression, symbol)
                self.gradients.setdefault(found, []).append(PointwiseSum(partial * cotangent, size))

    def _pointwise_read(self, read: Read, partial: Expression, size: int, cotangent: Expression, owner: str) -> None:
        if partial == 0:
            return
        product = partial * cotangent
        broadcast = self.signals[read.signal].size == 1 and size > 1
        if not broadcast and (read.delay == 0 or partial.is_number):
            shifted = product if read.delay == 0 else partial * at(self.adjoint[owner], -read.delay)
            self.summands[read.signal].append(shifted)
            return
        name = fresh_name(f"delta_{owner}_{read.signal}", self.signals)
        self.signals[name] = Signal(name, size, "auxiliary", owner)
        self.auxiliary.setdefault(owner, []).append(Equation(name, (), product))
        if broadcast:
            self.terms[read.signal].append(Term("sum", name, -read.delay))
        else:
            self.summands[read.signal].append(at(name, -read.delay))

    def _collect_initial_values(self) -> None:
        if "parameters" not in self.wrt:
            return
        outside = ((self.system.state_depths, False), (self.system.ahead_depths, True))
        for name, signal in self.system.signals.items():
            for depths, ahead in outside:
                if isinstance(signal.initial, str) and name in depths and name in self.adjoint:
                    boundary = BoundarySum(self.adjoint[name], name, ahead)
                    self.gradients.setdefault(signal.initial, []).append(boundary)


def _read_names(expression: Expression) -> list[str]:
    return [found.signal for symbol in expression.free_symbols if isinstance(found := meaning(symbol), Read)]


def _closure(start: set[str], following: dict[str, list[str]]) -> set[str]:
    """Everything that can be reached from ``start``."""
    seen = set(start)
    waiting = list(start)
    while waiting:
        for name in following.get(waiting.pop(), ()):
            if name not in seen:
                seen.add(name)
                waiting.append(name)
    return seen
