"""The equations of signals with rows, set apart: they run step by step, forward in time, after all the others.

What they read without rows is made for all t at once, products of such factors included, so that a step has nothing but
matrix work. A Jacobian that one expression reads is written out there.
"""

from __future__ import annotations

import dataclasses
from collections import Counter

from rnngraph.equations import (
    Contraction,
    Equation,
    Expression,
    Outer,
    Read,
    Signal,
    Total,
    at,
    fresh_name,
    is_along_rows,
    meaning,
    reads_of,
    symbols_of,
)
from rnngraph.system import System


def split_sweep(system: System) -> tuple[System, tuple[Equation, ...]]:
    """``system`` without the equations of signals with rows, and those, in an order in which one step can run them."""
    swept = [equation for equation in system.equations if system.signals[equation.signal].rows]
    if not swept:
        return system, ()
    signals = dict(system.signals)
    factors = {  # what is there already
        equation.expression: equation.signal
        for equation in system.equations
        if signals[equation.signal].kind == "jacobian" and not signals[equation.signal].rows and not equation.terms
    }
    created: list[Equation] = []

    def hoist(expression: Expression, owner: str) -> Expression:
        if not _moves(expression, system):
            if expression.is_Atom or expression.is_number:
                return expression
            if expression not in factors:
                sizes = [signals[read.signal].size for read in reads_of(expression)]
                sizes += [system.shapes[found][0] for symbol in expression.free_symbols
                          if isinstance(found := meaning(symbol), str)]  # fmt: skip
                name = fresh_name(f"factor_{owner}", signals)
                signals[name] = Signal(name, max(sizes), "factor", owner)
                factors[expression] = name
                created.append(Equation(name, (), expression))
            return at(factors[expression])
        if expression.is_Add or expression.is_Mul:
            fixed = [argument for argument in expression.args if not _moves(argument, system)]
            moving = [hoist(argument, owner) for argument in expression.args if _moves(argument, system)]
            parts = [hoist(expression.func(*fixed), owner)] if fixed else []
            return expression.func(*parts, *moving)
        return (
            expression.func(*(hoist(argument, owner) for argument in expression.args))
            if expression.args
            else expression
        )

    swept = _inlined(swept, system)
    swept = [
        dataclasses.replace(equation, expression=hoist(equation.expression, equation.signal)) for equation in swept
    ]
    rest = tuple(equation for equation in system.equations if not system.signals[equation.signal].rows)
    return dataclasses.replace(system, signals=signals, equations=(*rest, *created)), tuple(_in_order(swept))


def sweep_reads(system: System, swept: tuple[Equation, ...]) -> list[Read]:
    """What the sweep reads of signals without rows."""
    reads = [read for equation in swept for read in equation.reads() if not system.signals[read.signal].rows]
    for total in system.totals:
        reads += [
            Read(piece.error, 0) for piece in total.contributions if isinstance(piece, Contraction) and piece.error
        ]
    for pieces in system.carry.direct.values() if system.carry is not None else ():
        reads += [Read(piece.left, piece.left_delay) for piece in pieces if isinstance(piece, Outer)]
    return list(dict.fromkeys(reads))


def without_contractions(totals: tuple[Total, ...]) -> tuple[Total, ...]:
    """The totals without what the sweep adds up."""
    return tuple(
        dataclasses.replace(
            total,
            contributions=tuple(piece for piece in total.contributions if not isinstance(piece, Contraction)),
        )
        for total in totals
    )


def _moves(expression: Expression, system: System) -> bool:
    """Whether something in it has rows."""
    for symbol in symbols_of(expression):
        found = meaning(symbol)
        if isinstance(found, str):
            if found in system.constants or len(system.shapes[found]) == 2:
                return True
        elif is_along_rows(symbol) or system.signals[found.signal].rows:
            return True
    return False


def _inlined(swept: list[Equation], system: System) -> list[Equation]:
    """Jacobians without terms that one expression reads at the same t are written out there."""
    uses: Counter[str] = Counter()
    in_terms: set[str] = set()
    for equation in swept:
        uses.update(read.signal for read in reads_of(equation.expression))
        in_terms.update(read.signal for term in equation.terms for read in term.reads())
    bodies = {
        at(equation.signal): equation.expression
        for equation in swept
        if system.signals[equation.signal].kind == "jacobian"
        and not equation.terms
        and uses[equation.signal] == 1
        and equation.signal not in in_terms
    }

    def expand(expression: Expression) -> Expression:
        while expression.free_symbols & bodies.keys():
            expression = expression.xreplace(bodies)
        return expression

    return [
        dataclasses.replace(equation, expression=expand(equation.expression))
        for equation in swept
        if at(equation.signal) not in bodies
    ]


def _in_order(equations: list[Equation]) -> list[Equation]:
    """Each after those it reads at the same t."""
    defined = {equation.signal for equation in equations}
    order: list[Equation] = []
    done: set[str] = set()
    while equations:
        ready = [
            equation
            for equation in equations
            if all(read.delay != 0 or read.signal not in defined or read.signal in done for read in equation.reads())
        ]
        order += ready
        done.update(equation.signal for equation in ready)
        equations = [equation for equation in equations if equation.signal not in done]
    return order
