"""Exact rational values of expressions whose functions are opaque: f(q) is a random rational, one for each (f, q).

An identity that a derivation must satisfy then is one between polynomials (quotients at most) in the data, the
parameters and the values of the functions. A wrong derivation can hold only at the zeros of a polynomial that is not
zero; random values out of 2^32 hit one with a probability of at most its degree / 2^32 (Schwartz 1980, Zippel 1979).
The derivatives of the functions themselves are taken from the table of ``codegen.functions`` on both sides: that these
are right is what the check "differences" shows.

One identity between values of functions is needed beyond opaqueness: with m = log(sum of exp(y_k)), the gradient of
log-sum-exp is exp(y_k) / sum of exp(y) to sympy and exp(y_k - m) to ``vjp``. For each such m the values at y_k - m are
set to that quotient, which is what defines log as the inverse of exp; all other values of exp and log stay independent.

Rationals are Fractions. Where these grow too long to compute with, they are taken modulo a prime (``residue``).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import sympy

from codegen.functions import FUNCTIONS, PointwiseFunction, PrimeFunction
from rnngraph.verify.residue import Residue

Expression = Any  # a sympy expression; sympy ships no types
Number = Any  # a Fraction or a Residue

BITS = 32
_ARGUMENT = sympy.Dummy("argument", real=True)


def rational(value: Any) -> Fraction:
    """The exact value of a sympy number, an int or a float."""
    if isinstance(value, sympy.Rational):
        return Fraction(int(value.p), int(value.q))
    return Fraction(float(value))


class OpaqueFunctions:
    """Random rational values, remembered; the same ``seed`` gives the same values. ``modular``: as residues."""

    def __init__(self, seed: str, modular: bool = False) -> None:
        self._modular = modular
        self._random = random.Random(seed)
        self._values: dict[tuple[str, tuple[Number, ...]], Number] = {}

    def number(self, value: Any) -> Number:
        """The exact value of a sympy number, an int, a float or a Fraction, as this object computes with it."""
        exact = value if isinstance(value, Fraction) else rational(value)
        return Residue(exact) if self._modular else exact

    def draw(self) -> Number:
        """A random rational between -1 and 1, never 0."""
        numerator = 2 * self._random.getrandbits(BITS) + 1 - 2**BITS  # odd
        return self.number(Fraction(numerator, 2**BITS))

    def apply(self, name: str, *arguments: Number) -> Number:
        """The value of a function of the table."""
        key = (name, arguments)
        if key not in self._values:
            self._values[key] = self.draw()
        return self._values[key]

    def relate(self, sources: Sequence[Number], value: Number) -> None:
        """Make ``value`` the log-sum-exp of ``sources``: exp(y - value) = exp(y) / sum of exp(sources)."""
        exponentials = [self.apply("exp", source) for source in sources]
        total = sum(exponentials, self.number(0))
        for source, exponential in zip(sources, exponentials, strict=True):
            self._values["exp", (source - value,)] = exponential / total

    def on_arrays(self) -> dict[str, Callable[..., Any]]:
        """Every function of the table, on object arrays."""
        return {name: np.frompyfunc(self._bound(name), rule.arity, 1) for name, rule in FUNCTIONS.items()}

    def _bound(self, name: str) -> Callable[..., Number]:
        return lambda *arguments: self.apply(name, *arguments)

    def value(self, expression: Expression, values: Mapping[Any, Number]) -> Number:
        """The value of an expression whose atoms have ``values``; f' is spelt out by the table's rule."""
        if (known := values.get(expression)) is not None:
            return known
        if expression.is_Atom:
            return self.number(expression)
        arguments = [self.value(argument, values) for argument in expression.args]
        if expression.is_Add:
            return sum(arguments, self.number(0))
        if expression.is_Mul:
            product = self.number(1)
            for argument in arguments:
                product *= argument
            return product
        if expression.is_Pow:
            return arguments[0] ** int(expression.exp)
        if isinstance(expression, PrimeFunction):
            return self.value(type(expression).rule(_ARGUMENT), {_ARGUMENT: arguments[0]})
        assert isinstance(expression, PointwiseFunction), f"no value for {type(expression).__name__}"
        return self.apply(expression.func.__name__, *arguments)
