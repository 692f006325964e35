"""Jacobians of one step: how the states follow the signals that one step reads, with what is diagonal kept apart.

A Jacobian dv/du is the sum of a diagonal part, from elementwise functions and unweighted edges, kept as a vector, and
of a full part, with a weight matrix on the way, kept as a matrix with u's units as rows. The two rules of forward mode

    diagonal j, then a weight W        gives the full part     j_i W_ik
    full J, then a weight W            gives                   J W
    either, then g(u)                  gives                   the same times dg/du
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import sympy

from rnngraph.equations import (
    Equation,
    Expression,
    Read,
    Signal,
    Term,
    along_rows,
    at,
    fresh_name,
    meaning,
    parameter,
    reads_of,
)
from rnngraph.sensitivity.cut import Cut
from rnngraph.system import System


@dataclass(frozen=True)
class Jacobian:
    """``diagonal``: an expression in vectors, 0 for none; ``full``: the name of a signal with rows, or None."""

    diagonal: Expression
    full: str | None


class Jacobians:
    """Derives Jacobians of one step; ``signals`` and ``equations`` collect what they need."""

    def __init__(self, system: System, cut: Cut) -> None:
        self.system = system
        self.cut = cut
        self.signals: dict[str, Signal] = dict(system.signals)
        self.equations: list[Equation] = []
        self.order = [*cut.region, *cut.states]
        position = {equation.signal: number for number, equation in enumerate(system.equations)}
        # The states and what lies between them run in the order in which one step computes them.
        self.order = _in_order(self.order, system, position)

    def of(self, source: Read) -> dict[str, Jacobian]:
        """The Jacobian of each state by ``source``: a state at t - delay, or a signal of this step (delay 0)."""
        found: dict[str, Jacobian] = {}
        tangents: dict[str, Jacobian] = {}
        if source.signal in self.cut.region:
            tangents[source.signal] = Jacobian(sympy.S.One, None)
        for name in self.order:
            if name == source.signal and source.delay == 0:
                continue
            tangent = self._tangent(self.system.equation_of(name), source, tangents)
            if tangent is None:
                continue
            if name in self.cut.states:
                found[name] = tangent
            else:
                tangents[name] = tangent
        return found

    def sources(self) -> list[Read]:
        """Every read of a state by another state or by what lies between them."""
        reads = {
            read: None
            for name in self.order
            for read in self.system.equation_of(name).reads()
            if read.signal in self.cut.states
        }
        return list(reads)

    def _tangent(self, equation: Equation, source: Read, tangents: dict[str, Jacobian]) -> Jacobian | None:
        size = self.signals[equation.signal].size
        rows = self.signals[source.signal].size
        diagonal: Expression = sympy.S.Zero
        full: Expression = sympy.S.Zero
        terms: list[Term] = []
        for read in reads_of(equation.expression):
            inner = self._inner(read, source, tangents)
            if inner is None:
                continue
            partial = sympy.diff(equation.expression, at(*read))
            if inner.diagonal != 0:
                if self.signals[read.signal].size == size:
                    diagonal += partial * inner.diagonal
                else:  # one unit that serves all: a row
                    full += partial * inner.diagonal
            if inner.full is not None:
                full += partial * at(inner.full)
        for term in equation.terms:
            inner = self._inner(Read(term.source, term.delay), source, tangents)
            if inner is None:
                continue
            assert term.operator == "dense" and term.parameter is not None and not term.transposed
            if inner.diagonal != 0:
                full += self._down_the_rows(inner.diagonal, term.source, source) * parameter(term.parameter)
            if inner.full is not None:
                terms.append(Term("dense", inner.full, 0, term.parameter))
        if diagonal == 0 and full == 0 and not terms:
            return None
        if not diagonal.is_number and not diagonal.is_Symbol:
            diagonal = at(self._signal(equation.signal, source, size, 0, (), diagonal))
        matrix = None
        if full != 0 or terms:
            matrix = self._signal(equation.signal, source, size, rows, tuple(terms), full)
        return Jacobian(diagonal, matrix)

    def _inner(self, read: Read, source: Read, tangents: dict[str, Jacobian]) -> Jacobian | None:
        if read == source:
            return Jacobian(sympy.S.One, None)
        return tangents.get(read.signal) if read.delay == 0 else None

    def _down_the_rows(self, diagonal: Expression, name: str, source: Read) -> Expression:
        if diagonal.is_number:
            return diagonal
        assert diagonal.is_Symbol, "diagonal parts are numbers or signals"
        found = meaning(diagonal)
        if isinstance(found, str):
            found = Read(self._signal(name, source, self.signals[name].size, 0, (), diagonal), 0)
        return along_rows(*found)

    def _signal(
        self, name: str, source: Read, size: int, rows: int, terms: tuple[Term, ...], expression: Expression
    ) -> str:
        letter = "J" if rows else "j"
        past = f"_{source.delay}" if source.delay > 1 else ""
        signal = fresh_name(f"{letter}_{name}_{source.signal}{past}", self.signals)
        self.signals[signal] = Signal(signal, size, "jacobian", name, rows=rows)
        self.equations.append(Equation(signal, terms, expression))
        return signal


def _in_order(names: Iterable[str], system: System, position: dict[str, int]) -> list[str]:
    """``names`` so that each comes after those it reads at the same t."""
    waiting = sorted(names, key=lambda name: position[name])
    members, order, done = set(waiting), [], set()
    while waiting:
        ready = [
            name
            for name in waiting
            if all(
                read.delay != 0 or read.signal not in members or read.signal in done
                for read in system.equation_of(name).reads()
            )
        ]
        order += ready
        done.update(ready)
        waiting = [name for name in waiting if name not in done]
    return order
