"""What a way of writing equations decides: how a name, a product, a sum or a fraction looks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import sympy

Expression = Any  # a sympy expression; sympy ships no types
SIMPLE_FRACTION = 1000
SHORT_DECIMAL = 5
SUM, PRODUCT, POWER, ATOM = range(4)  # how strongly a written piece holds together
TANGENT = "dot_"


class Piece(NamedTuple):
    """Written text, how strongly it holds together, and whether it is one number for all units."""

    text: str
    strength: int
    scalar: bool = False


class Signs(NamedTuple):
    """How the legend writes: all steps, the times before and after them, the elementwise product, a shape's product,
    the share of one step among all, the arrow of what is computed anew."""

    steps: str
    before: str
    after: str
    elementwise: str
    by: str
    share: str
    becomes: str


class Notation(ABC):
    """The signs of one way of writing; ``Writer`` puts them together."""

    signs: ClassVar[Signs]

    @abstractmethod
    def name(self, name: str) -> str:
        """A signal's or parameter's name."""

    @abstractmethod
    def derivative(self, name: str, entry: str = "") -> str:
        """dL/d``name``, of an entry where it is given."""

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
    def sum_index(self, index: str, text: str) -> str:
        """The sum of the text, which is one number, over all values of an index."""

    @abstractmethod
    def over_delays(self, operator: str, index: str, text: str) -> str:
        """The sum ("sum") of the text over the delays, or its softmax over them ("softmax")."""

    @abstractmethod
    def log_sum_exp(self, text: str) -> str:
        """The log of the sum over units of exp of the text."""

    @abstractmethod
    def sum_time(self, text: str) -> str:
        """The sum over t = 1..T."""

    @abstractmethod
    def sum_outside(self, text: str, times: str) -> str:
        """The sum over the times before or after the sequence, as the signs write them."""

    @abstractmethod
    def fraction(self, top: int, bottom: int) -> str:
        """A rational number that is no short decimal; both are positive."""

    @abstractmethod
    def math(self, text: str) -> str:
        """A written piece within a sentence."""

    @abstractmethod
    def note(self, text: str) -> str:
        """Any text within a sentence."""

    # What follows from the signs.

    def _hold(self, piece: Piece, strength: int) -> Piece:
        """The piece, bracketed unless it holds together as strongly as asked."""
        return piece if piece.strength >= strength else Piece(self.bracket(piece.text), ATOM, piece.scalar)

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

    def _multiplied(self, pieces: list[Piece]) -> Piece:
        if len(pieces) == 1:
            return pieces[0]
        written = self._hold(pieces[0], PRODUCT)
        for piece in pieces[1:]:
            scalar = written.scalar and piece.scalar
            written = Piece(self.multiply(written, self._hold(piece, POWER)), PRODUCT, scalar)
        return written

    def _over(self, index: str, count: int, piece: Piece) -> Piece:
        """The sum over an index, which is the piece itself where the index can only be 1."""
        return Piece(self.sum_index(index, piece.text), ATOM, True) if count > 1 else piece

    @staticmethod
    def _join(texts: list[str]) -> str:
        """The texts as a sum: a leading minus becomes the sign."""
        joined = texts[0] if texts else ""
        for text in texts[1:]:
            joined += f" - {text[1:]}" if text.startswith("-") else f" + {text}"
        return joined
