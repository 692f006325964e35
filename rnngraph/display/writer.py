"""Writes display equations down: order of summands and factors, signs, brackets; how a piece looks is a subclass's.

Order: in a sum, nearer times before farther ones, matrix products before the rest, parameters last; in a product,
numbers and weights, then parameters, derivatives, signals, functions, brackets, and last the error signal, as the
chapter writes it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import sympy

from codegen.functions import PrimeFunction
from rnngraph.display.inline import DisplayEquation, Side, SystemLike
from rnngraph.equations import BoundarySum, Expression, Outer, PointwiseSum, Read, Term, meaning, reads_of

SUM, PRODUCT, POWER, ATOM = range(4)  # how strongly a written piece holds together
SIMPLE_FRACTION = 1000
SHORT_DECIMAL = 5
TANGENT = "dot_"


class Piece(NamedTuple):
    """Written text, how strongly it holds together, and whether it is one number for all units."""

    text: str
    strength: int
    scalar: bool = False


class Signs(NamedTuple):
    """How the legend writes: all steps, the times before them, the elementwise product, a shape's product, the share of
    one step among all."""

    steps: str
    before: str
    elementwise: str
    by: str
    share: str


class Writer(ABC):
    """Writes the equations of one system."""

    signs: ClassVar[Signs]

    def __init__(self, system: SystemLike) -> None:
        self.system = system
        self.index = {name: position for position, name in enumerate(system.signals)}
        self.groups: dict[Read, Side] = {}

    # What a subclass decides.

    @abstractmethod
    def name(self, name: str) -> str:
        """A signal's or parameter's name."""

    @abstractmethod
    def derivative(self, name: str) -> str:
        """dL/d``name``."""

    @abstractmethod
    def tangent(self, text: str) -> str:
        """The tangent of a written total."""

    @abstractmethod
    def power(self, base: str, exponent: str) -> str:
        """base^exponent; the base is in brackets already if it must be."""

    @abstractmethod
    def multiply(self, left: Piece, right: Piece) -> str:
        """The elementwise product."""

    @abstractmethod
    def divide(self, top: Piece, bottom: Piece) -> str:
        """The elementwise quotient."""

    @abstractmethod
    def call(self, function: str, arguments: list[str]) -> str:
        """A pointwise function of written arguments; ``function`` may end in primes."""

    @abstractmethod
    def bracket(self, text: str) -> str:
        """The text in brackets."""

    @abstractmethod
    def transpose(self, text: str) -> str:
        """The transposed matrix or vector."""

    @abstractmethod
    def matrix_product(self, left: str, right: str) -> str:
        """A matrix applied to a vector, or a column times a row."""

    @abstractmethod
    def sum_units(self, text: str) -> str:
        """The sum over units of the text."""

    @abstractmethod
    def log_sum_exp(self, text: str) -> str:
        """The log of the sum over units of exp of the text."""

    @abstractmethod
    def sum_time(self, text: str, before: bool) -> str:
        """The sum over t = 1..T, or over t <= 0 where ``before``."""

    @abstractmethod
    def fraction(self, top: int, bottom: int) -> str:
        """A rational number that is no short decimal; both are positive."""

    @abstractmethod
    def math(self, text: str) -> str:
        """A written piece within a sentence."""

    # Single pieces, for those who write something else than equations.

    def read(self, signal: str, delay: int) -> str:
        """A signal at t - ``delay``."""
        return self._read(signal, delay)

    def pointwise(self, expression: Expression) -> Piece:
        """A pointwise expression."""
        return self._pointwise(expression)

    def hold(self, piece: Piece, strength: int) -> Piece:
        """The piece, bracketed unless it holds together as strongly as asked."""
        return self._hold(piece, strength)

    # Equations.

    def left(self, equation: DisplayEquation) -> str:
        """The left-hand side."""
        if equation.side is not None:
            return f"{self.name(equation.name)}(t)"
        return self.total(equation.name)

    def total(self, name: str) -> str:
        """A total's name: L for "loss", dL/dW for "dloss/dW", and their tangents."""
        totals = {total.name: total for total in self.system.totals}
        if name not in totals:
            return self.name(name)
        total, rest = totals[name], name.removeprefix(TANGENT)
        if total.kind == "tangent" and rest in totals:
            return self.tangent(self.total(rest))
        if total.kind == "tangent" and total.of is not None:
            return self.tangent(self.derivative(total.of))
        if total.kind == "gradient" and total.of is not None:
            return self.derivative(total.of)
        return self.name("L" if name == "loss" else name)

    def right(self, equation: DisplayEquation) -> str:
        """The right-hand side."""
        if equation.side is not None:
            return self._side(equation.side).text
        inside: list[tuple[Expression, Piece]] = []
        before: list[str] = []
        for part in equation.parts:
            contribution = part.contribution
            if isinstance(contribution, BoundarySum):
                before.append(self.sum_time(f"{self.name(contribution.signal)}(t)", True))
            elif isinstance(contribution, Outer):
                left = self._read(contribution.left, contribution.left_delay)
                right = self._read(contribution.right, contribution.right_delay)
                inside.append((sympy.S.One, Piece(self.matrix_product(left, self.transpose(right)), PRODUCT)))
            else:
                assert part.side is not None
                inside.append(self._summand(contribution, part.side))
        if inside:
            summed = self._hold(self._summed(inside), PRODUCT).text
            before.insert(0, self.sum_time(summed, False))
        return self._join(before) if before else "0"

    def _summed(self, entries: list[tuple[Expression, Piece]]) -> Piece:
        """The sum of factor * piece, with what all factors share (the step weight) before the bracket."""
        shared = set.intersection(*({*sympy.Mul.make_args(factor)} for factor, _ in entries))
        common = sympy.Mul(*(each for each in shared if not each.is_number)) if len(entries) > 1 else sympy.S.One
        pieces = [self._scaled(factor / common, piece) for factor, piece in entries]
        if len(pieces) == 1:
            return pieces[0]
        total = Piece(self._join([piece.text for piece in pieces]), SUM, all(piece.scalar for piece in pieces))
        return self._scaled(common, total)

    def _scaled(self, factor: Expression, piece: Piece) -> Piece:
        if factor == 1:
            return piece
        if piece.text == "1":
            return self._pointwise(factor)
        negative = bool(factor.could_extract_minus_sign())
        written = self._pointwise(-factor if negative else factor)
        held = self._hold(piece, POWER)
        text = held.text if written.text == "1" else self.multiply(self._hold(written, PRODUCT), held)
        return Piece(f"-{text}" if negative else text, PRODUCT, piece.scalar)

    def _summand(self, contribution: PointwiseSum, side: Side) -> tuple[Expression, Piece]:
        """The factor that is one number for all units, and the rest, summed over units where asked."""
        if not contribution.over_units:
            return sympy.S.One, self._side(side)
        outside: list[Expression] = []
        inside: list[Expression] = []
        for factor in sympy.Mul.make_args(side.expression):
            grouped = any(read in side.groups for read in reads_of(factor))
            (outside if self._is_scalar(factor) and not grouped else inside).append(factor)
        body = self._side(Side((), sympy.Mul(*inside), side.groups))
        if contribution.size > 1:
            body = Piece(self.sum_units(body.text), ATOM, True)
        return sympy.Mul(*outside), body

    # Sums of terms and summands.

    def _side(self, side: Side) -> Piece:
        outer, self.groups = self.groups, {**self.groups, **side.groups}
        entries = [(self._term_key(term), self._term(term)) for term in side.terms]
        if side.expression != 0:
            entries += [
                (self._summand_key(summand), self._pointwise(summand))
                for summand in sympy.Add.make_args(side.expression)
            ]
        self.groups = outer
        if not entries:
            return Piece("0", ATOM, True)
        entries.sort(key=lambda entry: entry[0])
        if len(entries) == 1:
            return entries[0][1]
        scalar = all(piece.scalar for _, piece in entries)
        return Piece(self._join([piece.text for _, piece in entries]), SUM, scalar)

    @staticmethod
    def _join(texts: list[str]) -> str:
        """The texts as a sum: a leading minus becomes the sign."""
        joined = texts[0] if texts else ""
        for text in texts[1:]:
            joined += f" - {text[1:]}" if text.startswith("-") else f" + {text}"
        return joined

    def _term_key(self, term: Term) -> tuple[int, ...]:
        return (0, abs(term.delay), 0, 0)

    def _summand_key(self, expression: Expression) -> tuple[int, ...]:
        """Numbers and lone parameters last; negative summands after positive ones; near times before far ones."""
        reads = reads_of(expression)
        negative = int(bool(expression.could_extract_minus_sign()))
        if not reads:
            return (2 if expression.is_number else 1, negative, 0, 0)
        far = max(abs(read.delay) for read in reads)
        # a number leads where all else is subtracted (1 - z)
        return (3 if negative else 0, far, 1, min(self.index[read.signal] for read in reads))

    def _term(self, term: Term) -> Piece:
        read = Read(term.source, term.delay)
        group = self.groups.get(read) if term.operator == "sum" else None
        argument = self._side(group).text if group is not None else self._read(*read)
        if term.operator == "sum":
            return Piece(self.sum_units(argument), ATOM, True)
        if term.operator == "logsumexp":
            return Piece(self.log_sum_exp(argument), ATOM, True)
        assert term.parameter is not None
        matrix = self.name(term.parameter)
        return Piece(self.matrix_product(matrix if term.transposed else self.transpose(matrix), argument), PRODUCT)

    # Pointwise expressions.

    def _read(self, signal: str, delay: int) -> str:
        time = "t" if delay == 0 else f"t-{delay}" if delay > 0 else f"t+{-delay}"
        return f"{self.name(signal)}({time})"

    def _is_scalar(self, expression: Expression) -> bool:
        """Whether it is one number for all units."""
        for symbol in expression.free_symbols:
            found = meaning(symbol)
            if isinstance(found, str):
                if self.system.parameters.get(found) != (1,):
                    return False
            elif self.system.signals[found.signal].size != 1:
                return False
        return True

    def _hold(self, piece: Piece, strength: int) -> Piece:
        """The piece, bracketed unless it holds together as strongly as asked."""
        return piece if piece.strength >= strength else Piece(self.bracket(piece.text), ATOM, piece.scalar)

    def _pointwise(self, expression: Expression) -> Piece:
        scalar = self._is_scalar(expression)
        if expression.is_Symbol:
            found = meaning(expression)
            if isinstance(found, str):
                return Piece(self.name(found), ATOM, scalar)
            group = self.groups.get(found)
            return self._side(group) if group is not None else Piece(self._read(*found), ATOM, scalar)
        if expression.is_Number or expression.is_NumberSymbol:
            return self._number(expression)
        if expression.is_Add:
            return self._side(Side((), expression))
        if expression.is_Mul:
            return self._product(expression, scalar)
        if expression.is_Pow:
            return self._power(expression, scalar)
        name = getattr(expression.func, "name", None) or expression.func.__name__
        arguments = [self._pointwise(argument).text for argument in expression.args]
        return Piece(self.call(str(name), arguments), ATOM, scalar)

    def _number(self, value: Expression) -> Piece:
        if not value.is_Rational:
            return Piece(repr(float(value)), ATOM, True)
        sign = "-" if value < 0 else ""
        value = abs(value)
        decimal = repr(float(value))
        short = len(decimal) <= SHORT_DECIMAL and "e" not in decimal
        exact = sympy.Rational(decimal) == value or sympy.Rational(float(value)) == value
        if value.is_Integer:
            text, strength = str(value), ATOM
        elif exact and short:
            text, strength = decimal, ATOM
        elif value.p < SIMPLE_FRACTION and value.q < SIMPLE_FRACTION:
            text, strength = self.fraction(int(value.p), int(value.q)), PRODUCT
        else:
            text, strength = decimal, ATOM
        return Piece(sign + text, PRODUCT if sign else strength, True)

    def _power(self, expression: Expression, scalar: bool) -> Piece:
        base, exponent = expression.args
        if exponent.is_number and exponent.could_extract_minus_sign():
            bottom = self._pointwise(sympy.Pow(base, -exponent))
            return Piece(self.divide(Piece("1", ATOM, True), bottom), PRODUCT, scalar)
        written = self._hold(self._pointwise(exponent), ATOM)
        return Piece(self.power(self._hold(self._pointwise(base), ATOM).text, written.text), POWER, scalar)

    def _product(self, expression: Expression, scalar: bool) -> Piece:
        coefficient, rest = expression.as_coeff_Mul()
        negative = bool(coefficient < 0)
        top: list[Expression] = []
        bottom: list[Expression] = []
        for factor in sympy.Mul.make_args(rest):
            inverse = factor.is_Pow and factor.exp.is_number and factor.exp.could_extract_minus_sign()
            (bottom if inverse else top).append(1 / factor if inverse else factor)
        top.sort(key=self._factor_key)
        bottom.sort(key=self._factor_key)
        pieces = [self._pointwise(factor) for factor in top]
        if abs(coefficient) != 1 or not pieces:
            pieces.insert(0, self._number(abs(coefficient)))
        written = self._multiplied(pieces)
        if bottom:
            written = Piece(self.divide(written, self._multiplied([self._pointwise(each) for each in bottom])), PRODUCT)
        if not negative:
            return Piece(written.text, PRODUCT, scalar)
        return Piece("-" + self._hold(written, PRODUCT).text, PRODUCT, scalar)

    def _multiplied(self, pieces: list[Piece]) -> Piece:
        if len(pieces) == 1:
            return pieces[0]
        written = self._hold(pieces[0], PRODUCT)
        for piece in pieces[1:]:
            scalar = written.scalar and piece.scalar
            written = Piece(self.multiply(written, self._hold(piece, POWER)), PRODUCT, scalar)
        return written

    def _factor_key(self, factor: Expression) -> tuple[int, ...]:
        reads = reads_of(factor)
        kinds = {self.system.signals[read.signal].kind for read in reads}
        far = max((abs(read.delay) for read in reads), default=0)
        first = min((self.index[read.signal] for read in reads), default=-1)
        if factor.is_number:
            group = 0
        elif "adjoint" in kinds or any(read in self.groups for read in reads):
            group = 9
        elif kinds & {"auxiliary", "tangent"}:
            group = 8
        elif kinds == {"weight"}:
            group = 1
        elif not reads:
            group = 2
        elif isinstance(factor, PrimeFunction):
            group = 3
        elif factor.is_Symbol:
            group = 4
        else:
            group = 6 if factor.is_Add else 5
        return (group, far, first)
