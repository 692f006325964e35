"""What a way of writing equations decides: how a name, a product, a sum or a fraction looks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

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
