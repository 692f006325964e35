"""Whether the kernel's dtype can hold the constants of a system: none may become infinite without a word."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import sympy

from codegen.functions import PointwiseFunction, rewrite_in_primitives
from rnngraph.equations import Expression, PointwiseSum
from rnngraph.errors import OptionError
from rnngraph.system import System

FORWARD = ("unit", "sum")  # kinds of signals that the graph itself defines


def check_constants(system: System, dtype: str) -> None:
    """Raise OptionError for a number that overflows in ``dtype``: of an equation, a loss, a fixed or initial value.

    ``system`` may be of any stage; with the gradient's, numbers that arise in derivatives are checked, too.
    """
    for where, what, value in _constants(system):
        with np.errstate(over="ignore"):
            held = bool(np.isfinite(np.dtype(dtype).type(value)))
        if not held:
            largest = float(np.finfo(dtype).max)
            remedy = (
                "write a smaller number" if dtype == "float64" else "use dtype='float64', or write a smaller number"
            )
            raise OptionError(where, f"{value:g} {what}", f"numbers up to {largest:.2g} for dtype={dtype!r}", remedy)


def _constants(system: System) -> Iterator[tuple[str, str, float]]:
    """Place, role and value of each number of the system."""
    for signal in system.signals.values():
        if isinstance(signal.initial, int | float):
            yield f"node {_node(system, signal.name)!r}", "as its initial value", float(signal.initial)
    largest = {
        name: float(value.flat[np.abs(value).argmax()]) for name, value in system.constants.items() if value.size
    }
    for equation in system.equations:
        node = _node(system, equation.signal)
        for term in equation.terms:
            if term.parameter in largest:
                yield f"edge {term.source!r} -> {node!r}", "in its fixed value", largest[term.parameter]
        if system.signals[equation.signal].kind in FORWARD:
            for value in _numbers(equation.expression):
                yield f"node {node!r}", "in its equation", value
    for total in sorted(system.totals, key=lambda total: total.kind != "loss"):
        for part in total.contributions:
            if isinstance(part, PointwiseSum):
                for value in _numbers(part.expression):
                    yield "loss", "in its expression" if total.kind == "loss" else f"in {total.name}", value
    for equation in system.equations:
        if system.signals[equation.signal].kind not in FORWARD:
            for value in _numbers(equation.expression):
                node = _node(system, equation.signal)
                yield f"node {node!r}", f"in the equation of {equation.signal}(t)", value


def _node(system: System, signal: str) -> str:
    """The node that a signal belongs to: delta_s_a belongs to s_a, and that one to a."""
    origin = system.signals[signal].origin
    return signal if origin is None or origin == signal else _node(system, origin)


def _numbers(expression: Expression) -> list[float]:
    """The numbers that the expression is computed with, largest first."""
    if any(not call.free_symbols for call in expression.atoms(PointwiseFunction)):
        expression = rewrite_in_primitives(expression)  # exp(100) becomes a number
    return sorted((float(number) for number in expression.atoms(sympy.Number)), key=abs, reverse=True)
