"""System -> System: forward-mode differentiation. Every signal v gets a tangent dot_v = dv along a parameter direction.

    v(t) = W^T u(t-d) + g(w(t-e), b)   gives
    dot_v(t) = W^T dot_u(t-d) + dot_W^T u(t-d) + dg/dw dot_w(t-e) + dg/db dot_b

The direction enters as new parameters dot_W, dot_b of the same shapes, so the result is again a System over
the same grammar: totals get tangents too, and ``jvp(vjp(system))`` is the Hessian-vector product.
"""

from __future__ import annotations

import dataclasses

import sympy

from codegen.functions import exp
from rnngraph.effective import as_parameters, tangent_weights
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
    WeightValue,
    at,
    fresh_name,
    meaning,
    parameter,
    symbols_of,
)
from rnngraph.system import System


def jvp(system: System) -> System:
    """``system`` extended by the tangents of all its signals and totals along a direction of all its parameters.

    The direction of parameter p is the new parameter ``dot_p``; the tangent of total L is the total ``dot_L``.
    """
    return _Tangents(system).run()


class _Tangents:
    def __init__(self, system: System) -> None:
        self.system = system
        self.direction: dict[str, str] = {}
        self.parameters = dict(system.parameters)
        for name, shape in system.parameters.items():
            self.direction[name] = fresh_name(f"dot_{name}", self.parameters)
            self.parameters[self.direction[name]] = shape
        totals = {total.name: f"dot_{total.name}" for total in system.totals}
        taken = {*self.parameters, *system.constants, *system.shapes, *totals, *totals.values()}
        taken.update(weight.name for weight in (*system.weights, *system.weight_gradients))
        self.weights, names = tangent_weights(system.weights, self.direction, taken)
        self.weight_gradients, back = tangent_weights(system.weight_gradients, {**names, **totals}, taken)
        self.direction.update((name, names[name]) for name in as_parameters(system).parameters if name in names)
        self.tangent_of_weight = {**names, **back}
        self.signals: dict[str, Signal] = dict(system.signals)
        self.tangent: dict[str, str] = {}
        for equation in system.equations:
            self._add_tangent(equation.signal)

    def _add_tangent(self, name: str) -> None:
        signal = self.system.signals[name]
        tangent = fresh_name(f"dot_{name}", self.signals)
        initial = self.direction[signal.initial] if isinstance(signal.initial, str) else 0.0
        self.signals[tangent] = Signal(tangent, signal.size, "tangent", name, initial)
        self.tangent[name] = tangent

    def run(self) -> System:
        equations = list(self.system.equations)
        for equation in self.system.equations:
            equations.extend(self._differentiate(equation))
        totals = list(self.system.totals)
        for total in self.system.totals:
            pieces = tuple(piece for given in total.contributions for piece in self._contribution(given))
            totals.append(Total(f"dot_{total.name}", "tangent", pieces, total.of))
        return dataclasses.replace(
            self.system,
            title=f"tangents of: {self.system.title}",
            signals=self.signals,
            parameters=self.parameters,
            equations=tuple(equations),
            totals=tuple(totals),
            weights=(*self.system.weights, *self.weights),
            weight_gradients=(*self.system.weight_gradients, *self.weight_gradients),
            directions={**self.system.directions, **{added: name for name, added in self.direction.items()}},
        )

    def _differentiate(self, equation: Equation) -> list[Equation]:
        terms: list[Term] = []
        extra: list[Equation] = []
        size = self.signals[equation.signal].size
        for term in equation.terms:
            source = self.tangent.get(term.source)
            if term.operator == "logsumexp":
                if source is not None:
                    name = fresh_name(f"{source}_weighted", self.signals)
                    self.signals[name] = Signal(name, self.signals[source].size, "auxiliary", source)
                    extra.append(Equation(name, (), exp(at(term.source) - at(equation.signal)) * at(source)))
                    terms.append(Term("sum", name))
                continue
            if source is not None:
                terms.append(dataclasses.replace(term, source=source))
            if term.parameter in self.direction:
                terms.append(dataclasses.replace(term, parameter=self.direction[term.parameter]))
        tangent = self.tangent[equation.signal]
        return [*extra, Equation(tangent, tuple(terms), self._pointwise(equation.expression, size))]

    def _pointwise(self, expression: Expression, size: int) -> Expression:
        summands: list[Expression] = []
        for symbol in symbols_of(expression):
            found = meaning(symbol)
            if isinstance(found, Read):
                if found.signal in self.tangent:
                    along = at(self.tangent[found.signal], found.delay)
                    summands.append(sympy.diff(expression, symbol) * along)
            else:
                summands.append(sympy.diff(expression, symbol) * parameter(self.direction[found]))
        return sympy.Add(*summands)

    def _contribution(self, given: Contribution) -> list[Contribution]:
        if isinstance(given, PointwiseSum):
            expression = self._pointwise(given.expression, given.size)
            return [dataclasses.replace(given, expression=expression)] if expression != 0 else []
        if isinstance(given, BoundarySum):
            return [dataclasses.replace(given, signal=self.tangent[given.signal])]
        if isinstance(given, WeightValue):
            return [WeightValue(self.tangent_of_weight[given.weight])]
        if isinstance(given, SparseOuter):
            sides = (self.tangent.get(given.left), given.right), (given.left, self.tangent.get(given.right))
            return [SparseOuter(left, right, given.pattern) for left, right in sides if left and right]
        assert isinstance(given, Outer), "a System with sensitivities is not differentiated again"
        pieces: list[Contribution] = []
        if given.left in self.tangent:
            pieces.append(Outer(self.tangent[given.left], given.right, given.left_delay, given.right_delay))
        if given.right in self.tangent:
            pieces.append(Outer(given.left, self.tangent[given.right], given.left_delay, given.right_delay))
        return pieces
