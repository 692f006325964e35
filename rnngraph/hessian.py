"""The Hessian-vector product: the matrix of the loss's second derivatives by the parameters, times a direction.

It is the tangent of the gradient along the direction, H v = d/de grad L(p + e v) at e = 0 (Pearlmutter 1994), and thus
``jvp(vjp(system))``. What only the loss or the gradient itself needs is left out before the stages run.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable

import sympy

from codegen.program import Program
from rnngraph.display import as_text, inline
from rnngraph.equations import (
    BoundarySum,
    Contribution,
    Equation,
    Expression,
    Outer,
    PointwiseSum,
    Read,
    SparseOuter,
    WeightValue,
    meaning,
    reads_of,
)
from rnngraph.jvp import jvp
from rnngraph.lower import lower
from rnngraph.program import Compilation, equation_notes
from rnngraph.schedule import build_schedule
from rnngraph.system import System
from rnngraph.vjp import vjp

NAME = "hessian_vector_product"
# What is linear in the adjoints or the direction, and so may be 0 for all t; a node's state can be given.
LINEAR_KINDS = ("adjoint", "tangent", "auxiliary")


def hessian_vector_product(system: System) -> System:
    """A System with a loss -> the System whose totals are the Hessian's product with a direction, by parameter.

    The direction of parameter p is the parameter dot_p; ``directions`` of the result has the names.
    """
    both = jvp(vjp(system))
    read = {name for weight in both.weight_gradients for name in (*weight.reads(), *weight.slices)}
    totals = tuple(
        total for total in both.totals if total.of is not None and (total.kind == "tangent" or total.name in read)
    )
    return _needed(_without_zeros(dataclasses.replace(both, title="Hessian-vector product", totals=totals)))


def hessian_program(compilation: Compilation) -> Program:
    """The program with the one function ``hessian_vector_product``, over the parameters of a compiled network."""
    started = time.perf_counter()
    system = hessian_vector_product(compilation.loss)  # System -> System
    shown = inline(system)  # System -> numbered equations
    schedule = build_schedule(system)  # System -> Schedule
    layout = compilation.layout.with_directions(system.directions)
    function = lower(schedule, layout, NAME, equation_notes(system, shown))  # Schedule -> ir.Function
    compilation.seconds["hessian"] = time.perf_counter() - started
    first = compilation.program
    return dataclasses.replace(
        first,
        functions=(function,),
        title=f"{first.title.partition('.')[0]}. The loss's second derivatives times a direction.",
        header=tuple(as_text(system, shown).splitlines()),
        wrt=("parameters",),
        checkpoint=None,
    )


def _without_zeros(system: System) -> System:
    """The same totals without the signals that are 0 at every t: the derivative of what the parameters do not reach."""
    while True:
        zero = {
            equation.signal
            for equation in system.equations
            if not equation.terms
            and equation.expression == 0
            and system.signals[equation.signal].kind in LINEAR_KINDS
            and system.signals[equation.signal].initial == 0.0
        }
        if not zero:
            return system
        equations = tuple(
            Equation(
                equation.signal,
                tuple(term for term in equation.terms if term.source not in zero),
                _zeroed(equation.expression, zero),
            )
            for equation in system.equations
            if equation.signal not in zero
        )
        totals = tuple(
            dataclasses.replace(total, contributions=tuple(_nonzero(total.contributions, zero)))
            for total in system.totals
        )
        system = dataclasses.replace(system, equations=equations, totals=totals)


def _nonzero(contributions: Iterable[Contribution], zero: set[str]) -> Iterable[Contribution]:
    for piece in contributions:
        if isinstance(piece, PointwiseSum):
            expression = _zeroed(piece.expression, zero)
            if expression != 0:
                yield dataclasses.replace(piece, expression=expression)
        elif not zero & set(_signals_of(piece)):
            yield piece


def _zeroed(expression: Expression, zero: set[str]) -> Expression:
    return expression.xreplace(
        {
            symbol: sympy.S.Zero
            for symbol in expression.free_symbols
            if isinstance(found := meaning(symbol), Read) and found.signal in zero
        }
    )


def _signals_of(piece: Contribution) -> list[str]:
    """The signals that a contribution sums."""
    if isinstance(piece, PointwiseSum):
        return [read.signal for read in reads_of(piece.expression)]
    if isinstance(piece, BoundarySum):
        return [piece.signal]
    if isinstance(piece, WeightValue):
        return []
    assert isinstance(piece, Outer | SparseOuter), "sensitivities are not differentiated again"
    return [piece.left, piece.right]


def _needed(system: System) -> System:
    """The system with the signals and equations alone that its totals are made from."""
    equations = {equation.signal: equation for equation in system.equations}
    waiting = [name for total in system.totals for piece in total.contributions for name in _signals_of(piece)]
    needed: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += [read.signal for read in equations[name].reads()] if name in equations else []
    kept = set(needed)
    for name in needed:  # what a tangent or an adjoint belongs to says what it is, computed or not
        origin = system.signals[name].origin
        while origin is not None and origin in system.signals and origin not in kept:
            kept.add(origin)
            origin = system.signals[origin].origin
    signals = {name: signal for name, signal in system.signals.items() if name in kept}
    return dataclasses.replace(
        system,
        signals=signals,
        equations=tuple(equation for equation in system.equations if equation.signal in needed),
        outputs=(),
    )
