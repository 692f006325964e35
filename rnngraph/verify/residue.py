"""Rational numbers modulo a prime: exact arithmetic whose numbers do not grow.

The map a/b -> a b^-1 mod p keeps sums, products and quotients, so equal rationals have equal residues; two that differ
have equal residues only if p divides the numerator of the difference.
"""

from __future__ import annotations

from fractions import Fraction

PRIME = 2**127 - 1


class Residue:
    """An element of the field of PRIME elements; mixes with int and Fraction.

    Division by 0 raises ZeroDivisionError. Arrays of objects take it as an element, so other types are left to them.
    """

    __slots__ = ("value",)

    def __init__(self, number: int | Fraction) -> None:
        if isinstance(number, Fraction):
            self.value = number.numerator * pow(number.denominator, -1, PRIME) % PRIME
        else:
            self.value = number % PRIME

    def __add__(self, other: Residue | int | Fraction) -> Residue:
        return Residue(self.value + _value(other)) if isinstance(other, _NUMBERS) else NotImplemented

    def __mul__(self, other: Residue | int | Fraction) -> Residue:
        return Residue(self.value * _value(other)) if isinstance(other, _NUMBERS) else NotImplemented

    def __sub__(self, other: Residue | int | Fraction) -> Residue:
        return Residue(self.value - _value(other)) if isinstance(other, _NUMBERS) else NotImplemented

    def __pow__(self, exponent: int) -> Residue:
        if exponent < 0 and self.value == 0:
            raise ZeroDivisionError("0 to a negative power")
        return Residue(pow(self.value, exponent, PRIME))

    def __truediv__(self, other: Residue | int | Fraction) -> Residue:
        return self * Residue(_value(other)) ** -1 if isinstance(other, _NUMBERS) else NotImplemented

    def __rtruediv__(self, other: int | Fraction) -> Residue:
        return Residue(other) / self if isinstance(other, _NUMBERS) else NotImplemented

    __radd__ = __add__
    __rmul__ = __mul__

    def __neg__(self) -> Residue:
        return Residue(-self.value)

    def __abs__(self) -> int:
        """0 for 0, else 1: residues have no size."""
        return int(self.value != 0)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Residue) and self.value == other.value

    def __hash__(self) -> int:
        return hash(self.value)


_NUMBERS = (Residue, int, Fraction)


def _value(number: Residue | int | Fraction) -> int:
    return number.value if isinstance(number, Residue) else Residue(number).value
