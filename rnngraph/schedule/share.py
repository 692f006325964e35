"""Compute each function application once: a(t) = tanh(s(t)) serves every later tanh(s(t)), in derivatives above all.

Before: a System. After: an equal System in which f' is spelled out through f and an application that is a signal's
whole equation, or that stands in two equations, is read from a signal.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping

from codegen.functions import PointwiseFunction, expand_primes
from rnngraph.equations import Equation, Expression, PointwiseSum, Signal, Total, at, fresh_name, meaning
from rnngraph.system import System


def share_function_values(system: System) -> System:
    """See the module's docstring."""
    equations = [
        dataclasses.replace(equation, expression=expand_primes(equation.expression)) for equation in system.equations
    ]
    totals = [_map_total(total, expand_primes) for total in system.totals]
    counts: Counter[Expression] = Counter()
    known: dict[Expression, Expression] = {}
    for equation in equations:
        vector = not system.signals[equation.signal].rows
        if vector and isinstance(equation.expression, PointwiseFunction) and not equation.terms:
            known.setdefault(equation.expression, at(equation.signal))
        counts.update(equation.expression.atoms(PointwiseFunction))
    for total in totals:
        for contribution in total.contributions:
            if isinstance(contribution, PointwiseSum):
                counts.update(contribution.expression.atoms(PointwiseFunction))
    signals = dict(system.signals)
    created: list[tuple[str, Expression]] = []
    repeated = [application for application, count in counts.items() if count > 1 and application not in known]
    for application in sorted(repeated, key=lambda found: (found.count_ops(), str(found))):
        name = fresh_name(_name(application), signals)
        signals[name] = Signal(name, _size(application, signals, system.shapes), "auxiliary")
        known[application] = at(name)
        created.append((name, application))

    def substitute(expression: Expression) -> Expression:
        return expression.xreplace(known)

    rewritten = [_substitute_in(equation, known) for equation in equations]
    for name, application in created:
        arguments = [substitute(argument) for argument in application.args]
        rewritten.append(Equation(name, (), application.func(*arguments)))
    return dataclasses.replace(
        system,
        signals=signals,
        equations=tuple(rewritten),
        totals=tuple(_map_total(total, substitute) for total in totals),
    )


def _substitute_in(equation: Equation, known: Mapping[Expression, Expression]) -> Equation:
    expression = equation.expression
    if known.get(expression) == at(equation.signal):  # this equation defines the value: only its arguments are replaced
        return dataclasses.replace(
            equation, expression=expression.func(*(argument.xreplace(known) for argument in expression.args))
        )
    return dataclasses.replace(equation, expression=expression.xreplace(known))


def _map_total(total: Total, change: object) -> Total:
    assert callable(change)
    return dataclasses.replace(
        total,
        contributions=tuple(
            dataclasses.replace(piece, expression=change(piece.expression))
            if isinstance(piece, PointwiseSum)
            else piece
            for piece in total.contributions
        ),
    )


def _name(application: Expression) -> str:
    """A readable name: tanh(c(t)) becomes tanh_c."""
    names = [meaning(symbol) for symbol in application.free_symbols]
    inside = sorted(name if isinstance(name, str) else name.signal for name in names)
    return "_".join([application.func.__name__, *inside[:2]])


def _size(application: Expression, signals: Mapping[str, Signal], parameters: Mapping[str, tuple[int, ...]]) -> int:
    sizes = [1]
    for symbol in application.free_symbols:
        found = meaning(symbol)
        sizes.append(parameters[found][0] if isinstance(found, str) else signals[found.signal].size)
    return max(sizes)
