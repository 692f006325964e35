"""Derivatives through effective weights, which equations read in place of parameters: the chain rule without time.

A learning rule first takes every matrix that equations read as a parameter (``as_parameters``). Its gradients then go
back to the parameters (``pull_back``), the same way for every rule:

    w = g(p, q)  entry by entry       dL/dp = sum over the axes that p lacks of dL/dw * dg/dp
    w = softmax over d of x[d]        dL/dx = w * (dL/dw - sum over d of w * dL/dw)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import sympy

from rnngraph.equations import Expression, Total, Weight, WeightValue, fresh_name, meaning, parameter, symbols_of
from rnngraph.system import System

Shape = tuple[int, ...]


def as_parameters(system: System) -> System:
    """The system with the matrices and vectors that its equations read as its parameters, and without weights."""
    if not system.weights:
        return system
    read = {term.parameter for equation in system.equations for term in equation.terms}
    for equation in system.equations:
        read.update(str(meaning(symbol)) for symbol in equation.expression.free_symbols if _is_name(symbol))
    read.update(signal.initial for signal in system.signals.values() if isinstance(signal.initial, str))
    shapes = {name: shape for name, shape in system.shapes.items() if name in read}
    return dataclasses.replace(system, parameters=shapes, weights=())


def pull_back(derived: System, system: System) -> System:
    """``derived``, the gradient that a rule made of ``as_parameters(system)``, by the parameters of ``system``.

    The gradients by effective weights stay among the totals; ``weight_gradients`` has what comes back through them.
    """
    if not system.weights:
        return derived
    restored = dataclasses.replace(derived, parameters=system.parameters, weights=system.weights)
    gradients = [total for total in derived.totals if total.kind == "gradient"]
    return _Transposition(restored, system).run() if gradients else restored


def _is_name(symbol: Expression) -> bool:
    return isinstance(meaning(symbol), str)


class _Transposition:
    def __init__(self, derived: System, system: System) -> None:
        self.derived = derived
        self.totals = {total.of: total for total in derived.totals if total.kind == "gradient"}
        self.of = next(iter(self.totals.values())).name.partition("/")[0].removeprefix("d")
        self.shapes: dict[str, Shape] = {
            **system.parameters, **{name: value.shape for name, value in system.constants.items()}
        }  # fmt: skip
        for weight in system.weights:
            self.shapes[weight.name] = weight.shape
        self.learned = {*system.parameters, *(weight.name for weight in system.weights)}
        self.found: list[Weight] = []
        self.parts: dict[str, list[Expression]] = {}

    def run(self) -> System:
        for weight in reversed(self.derived.weights):
            gradient = self._gradient_of(weight)
            if gradient is not None:
                self._transpose(weight, gradient)
        totals = [total for total in self.derived.totals if total.of not in self.derived.parameters]
        for name, shape in self.derived.parameters.items():
            direct = self.totals[name].contributions if name in self.totals else ()
            parts = self.parts.get(name, [])
            value = (WeightValue(self._value(name, shape, sympy.Add(*parts))),) if parts else ()
            totals.append(Total(f"d{self.of}/d{name}", "gradient", (*direct, *value), name))
        return dataclasses.replace(self.derived, totals=tuple(totals), weight_gradients=tuple(self.found))

    def _value(self, name: str, shape: Shape, expression: Expression) -> str:
        """The weight that is ``expression``: one that is there already, or a new one."""
        known = str(meaning(expression)) if expression.is_Symbol else ""
        return (
            known if known in {weight.name for weight in self.found} else self._new(f"back_{name}", shape, expression)
        )

    def _new(
        self,
        wanted: str,
        shape: Shape,
        expression: Expression,
        operator: str = "pointwise",
        slices: tuple[str, ...] = (),
    ) -> str:
        name = fresh_name(wanted, {*self.shapes, *(total.name for total in self.derived.totals)})
        self.shapes[name] = shape
        self.found.append(Weight(name, shape, expression, operator, slices))
        return name

    def _gradient_of(self, weight: Weight) -> Expression | None:
        """dL/dw: what the equations that read it give, and the weights that are made of it."""
        parts = list(self.parts.get(weight.name, []))
        if weight.slices:
            totals = tuple(self.totals[name].name for name in weight.slices)
            parts.append(
                parameter(self._new(f"d{self.of}/d{weight.name}", weight.shape, sympy.S.Zero, "stack", totals))
            )
        elif weight.name in self.totals:
            total = self.totals[weight.name]
            self.shapes[total.name] = weight.shape
            parts.append(parameter(total.name))
        return sympy.Add(*parts) if parts else None

    def _transpose(self, weight: Weight, gradient: Expression) -> None:
        if weight.operator == "softmax":
            weighted = gradient * parameter(weight.name)
            summed = self._new(f"sum_{weight.name}", weight.shape[1:], weighted, "sum")
            gradient = weighted - parameter(weight.name) * parameter(summed)
        for symbol in symbols_of(weight.expression):
            name = str(meaning(symbol))
            if name in self.learned:
                part = gradient * sympy.diff(weight.expression, symbol)
                shape = weight.shape if weight.operator == "softmax" else self._shape(part)
                if shape != self.shapes[name]:
                    wanted = f"d{self.of}/d{name}"  # all of it, as a softmax is read by one weight
                    if name in self.derived.parameters or wanted in self.shapes:
                        wanted = f"back_{weight.name}_{name}"
                    part = parameter(self._new(wanted, self.shapes[name], part, "sum"))
                self.parts.setdefault(name, []).append(part)

    def _shape(self, expression: Expression) -> Shape:
        return broadcast([self.shapes[str(meaning(symbol))] for symbol in expression.free_symbols])


def broadcast(shapes: list[Shape]) -> Shape:
    """The shape of an entry-by-entry expression of arrays of these shapes, axes aligned from the last."""
    axes = max((len(shape) for shape in shapes), default=0)
    aligned = [(1,) * (axes - len(shape)) + shape for shape in shapes]
    return tuple(max(lengths) for lengths in zip(*aligned, strict=True))


def tangent_weights(
    weights: tuple[Weight, ...], tangent: Mapping[str, str], taken: set[str]
) -> tuple[list[Weight], dict[str, str]]:
    """The tangents of ``weights`` along a direction, and the name of each, those of slices included.

    ``tangent`` names the tangents of the parameters and totals that they read; ``taken`` the names in use.
    """
    names = dict(tangent)
    shapes = {weight.name: weight.shape for weight in weights}
    found: list[Weight] = []
    for weight in weights:
        if weight.operator == "stack":
            expression: Expression = sympy.S.Zero
            slices = tuple(names[name] for name in weight.slices)
        else:
            expression = sympy.Add(
                *(
                    sympy.diff(weight.expression, symbol) * parameter(names[str(meaning(symbol))])
                    for symbol in symbols_of(weight.expression)
                    if str(meaning(symbol)) in names
                )
            )
            slices = ()
        name = fresh_name(f"dot_{weight.name}", taken)
        taken.add(name)
        operator = weight.operator
        if weight.operator == "softmax":
            value = parameter(weight.name)
            summed = fresh_name(f"sum_{name}", taken)
            taken.add(summed)
            found.append(Weight(summed, weight.shape[1:], value * expression, "sum"))
            expression, operator = value * (expression - parameter(summed)), "pointwise"
        if weight.operator != "stack":
            for each in weight.slices:
                names[each] = fresh_name(f"dot_{each}", taken)
                taken.add(names[each])
            slices = tuple(names[each] for each in weight.slices)
        names[weight.name] = name
        found.append(Weight(name, shapes[weight.name], expression, operator, slices))
    return found, names
