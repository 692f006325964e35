"""The equations of signals with rows -> one Sweep: the statements of a step, and the gradient that it adds up."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial

import sympy

from codegen.functions import rewrite_in_primitives
from codegen.ir import View
from codegen.sweep import (
    Contract,
    Expand,
    Lifted,
    Operand,
    Record,
    RowAssign,
    RowBuffer,
    RowProduct,
    RowStatement,
    RowSum,
    RowView,
    Sweep,
)
from rnngraph.equations import Contraction, Equation, Expression, Term, is_along_rows, meaning, symbols_of
from rnngraph.lower.layout import ParameterLayout
from rnngraph.schedule import Schedule

# Products overwrite the target at no cost, so they come first.
RANK = {"product": 0, "dense": 0, "diagonal": 1, "expand": 2, "sum_all": 3, "sum": 3}


class SweepLowering:
    """``vector`` gives the view of a signal without rows at t - delay, ``matrix`` that of a parameter or constant."""

    def __init__(
        self,
        schedule: Schedule,
        layout: ParameterLayout,
        vector: Callable[[str, int], View],
        matrix: Callable[[str], View],
        notes: Mapping[str, str],
    ) -> None:
        self.schedule = schedule
        self.layout = layout
        self.vector = vector
        self.matrix = matrix
        self.notes = notes
        self.buffers = self._allocate()

    def run(self) -> Sweep:
        """Every step's statements: the equations in order, then the contractions."""
        body: list[RowStatement] = []
        for equation in self.schedule.sweep:
            body += self._equation(equation)
        for total in self.schedule.system.totals:
            for piece in total.contributions:
                if isinstance(piece, Contraction):
                    assert total.of is not None
                    body.append(
                        Contract(
                            self.layout.view(total.of, "gradient"),
                            RowView(self.buffers[piece.sensitivity], piece.delay),
                            self.vector(piece.error, 0) if piece.error is not None else None,
                            piece.local,
                            self.notes.get(total.name, ""),
                        )
                    )
        for (output, name), (signal, local) in self.schedule.system.output_sensitivities.items():
            place = self.layout.view(name, "gradient")
            body.append(Record(output, place, RowView(self.buffers[signal]), local))
        return Sweep(tuple(body), "for t = 1..T: sensitivities, one step after the other")

    def _allocate(self) -> dict[str, RowBuffer]:
        signals = self.schedule.signals
        depth: dict[str, int] = {equation.signal: 0 for equation in self.schedule.sweep}
        reads = [read for equation in self.schedule.sweep for read in equation.reads()]
        for read in reads:
            if read.signal in depth:
                depth[read.signal] = max(depth[read.signal], read.delay)
        for total in self.schedule.system.totals:
            for piece in total.contributions:
                if isinstance(piece, Contraction):
                    depth[piece.sensitivity] = max(depth[piece.sensitivity], piece.delay)
        return {
            name: RowBuffer(
                name,
                signals[name].rows,
                signals[name].size,
                slots + 1,
                signals[name].origin if signals[name].starts_as_unit else None,
            )
            for name, slots in depth.items()
        }

    def _equation(self, equation: Equation) -> list[RowStatement]:
        """Products first, since they overwrite the target at no cost; what else there is adds to it."""
        target = RowView(self.buffers[equation.signal])
        note = self.notes.get(equation.signal, "")
        statements: list[RowStatement] = []

        def add(make: Callable[[bool, str], RowStatement]) -> None:
            statements.append(make(bool(statements), "" if statements else note))

        terms = sorted(equation.terms, key=lambda term: (RANK[term.operator], term.jacobian is None))
        for term in terms:
            if RANK[term.operator] == 0:
                add(partial(self._product, target, term))
        if equation.expression != 0:
            add(partial(self._pointwise, target, equation.expression))
        makers = {"diagonal": self._diagonal, "expand": self._expand, "sum_all": self._sum, "sum": self._sum}
        for term in terms:
            if term.operator in makers:
                add(partial(makers[term.operator], target, term))
        return statements or [RowAssign(target, sympy.S.Zero, (), False, note)]

    def _pointwise(self, target: RowView, given: Expression, more: bool, note: str) -> RowStatement:
        expression = rewrite_in_primitives(given)
        operands = tuple((symbol, self._operand(symbol)) for symbol in symbols_of(expression))
        return RowAssign(target, expression, operands, more, note)

    def _sum(self, target: RowView, term: Term, more: bool, note: str) -> RowStatement:
        source = RowView(self.buffers[term.source], term.delay)
        return RowSum(target, source, term.operator == "sum_all", more, note)

    def _product(self, target: RowView, term: Term, more: bool, note: str) -> RowStatement:
        left = RowView(self.buffers[term.source], term.delay)
        if term.operator == "dense":
            assert term.parameter is not None
            right = self.matrix(term.parameter)
            right = dataclasses.replace(right, transposed=right.transposed != term.transposed)
            return RowProduct(target, left, right, more, note)
        assert term.jacobian is not None
        return RowProduct(target, left, RowView(self.buffers[term.jacobian], transposed=term.transposed), more, note)

    def _expand(self, target: RowView, term: Term, more: bool, note: str) -> RowStatement:
        jacobian = RowView(self.buffers[term.jacobian]) if term.jacobian is not None else None
        return Expand(target, RowView(self.buffers[term.source], term.delay), jacobian, more, note)

    def _diagonal(self, target: RowView, term: Term, more: bool, note: str) -> RowStatement:
        assert term.jacobian is not None
        p, j = sympy.symbols("p j", real=True)
        past = RowView(self.buffers[term.source], term.delay)
        diagonal = RowView(self.buffers[term.jacobian], diagonal=True)
        return RowAssign(target, p * j, ((p, past), (j, diagonal)), more, note)

    def _operand(self, symbol: Expression) -> Operand:
        found = meaning(symbol)
        if isinstance(found, str):
            matrix = found in self.schedule.system.constants or len(self.schedule.system.shapes[found]) == 2
            return Lifted(self.matrix(found), "matrix" if matrix else "units")
        if found.signal in self.buffers:
            return RowView(self.buffers[found.signal], found.delay)
        return Lifted(self.vector(*found), "rows" if is_along_rows(symbol) else "units")
