"""What equations are built of, whatever they are read from: names, exact numbers, powers, functions, limits."""

from __future__ import annotations

import math
from collections.abc import Collection
from fractions import Fraction
from typing import NoReturn

import numpy as np
import sympy

from codegen.functions import FUNCTIONS, PointwiseFunction, rewrite_in_primitives
from rnngraph.model import Expression
from rnngraph.words import clip, nearest, normalize_name

MAX_LENGTH = 10_000
MAX_NODES = 1_000
MAX_DEPTH = 100
MAX_EXPONENT = 64
# Powers multiply the length of the numbers under them: bounded before they are computed, so that none runs away.
_MAX_BITS = 4_096
_MAX_TOTAL_EXPONENT = 4_096
ALLOWED = "names, numbers, + - * /, ** with a whole-number exponent, and functions of the table"
FUNCTION_LIST = ", ".join(sorted([*FUNCTIONS, "identity"]))


class RefusedError(Exception):
    """What is wrong with an expression; :func:`parse_equation` adds the place."""

    def __init__(self, found: str, expected: str, remedy: str) -> None:
        super().__init__(found)
        self.found = found
        self.expected = expected
        self.remedy = remedy


def too_large(found: str, expected: str) -> NoReturn:
    raise RefusedError(found, expected, "split it into several nodes")


def too_deep() -> NoReturn:
    too_large(f"an equation nested more than {MAX_DEPTH} deep", f"a nesting depth of at most {MAX_DEPTH}")


def too_large_number() -> NoReturn:
    raise RefusedError(
        "a number that is too large or too long in the equation",
        "numbers that a float64 can hold",
        "write smaller numbers or exponents",
    )


def symbol(name: str, names: frozenset[str]) -> Expression:
    name = normalize_name(name)
    if name in names:
        return sympy.Symbol(name, real=True)
    known = ", ".join(sorted(names)) or "no name at all"
    close = nearest(name, names)
    if close is not None:
        remedy = f"did you mean {close!r}?"
    elif name in FUNCTIONS:
        remedy = f"{name} is a function: write {name}(...)"
    else:
        remedy = f"use one of the known names; in a graph, an edge with port={name!r} makes it one"
    raise RefusedError(f"the unknown name {clip(name)} in the equation", f"names among: {known}", remedy)


def number(value: object) -> Expression:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        kind = "a string" if isinstance(value, (str, bytes)) else clip(value)
        raise RefusedError(f"{kind} in the equation", ALLOWED, "write a name, or a real number such as 0.5")
    if isinstance(value, float):
        if not math.isfinite(value):
            raise RefusedError(
                "a number that is not finite in the equation", "numbers up to 1.8e308", "write a smaller number"
            )
        exact = Fraction(repr(value))
        return sympy.Rational(exact.numerator, exact.denominator)
    if value.bit_length() > 1023:
        raise RefusedError("a huge number in the equation", "numbers up to 9e307", "write a smaller number")
    return sympy.Integer(value)


def checked_exponent(exponent: int) -> int:
    if abs(exponent) > MAX_EXPONENT:
        raise RefusedError(
            "a power whose exponent is too large",
            f"exponents from -{MAX_EXPONENT} to {MAX_EXPONENT}",
            "write a smaller exponent, or exp(n*log(x))",
        )
    return exponent


def power(base: Expression, exponent: int) -> Expression:
    """base**exponent, refused before it is computed where its numbers or exponents would grow without bound."""
    if base is sympy.S.Zero and exponent < 0:
        raise RefusedError("a division by zero in the equation", "a divisor other than 0", "correct the divisor")
    for factor in sympy.Mul.make_args(base):
        if isinstance(factor, sympy.Rational):
            bits = max(abs(factor.p).bit_length(), factor.q.bit_length())
            if bits * abs(exponent) > _MAX_BITS and abs(factor.p) != factor.q:
                too_large_number()
        elif isinstance(factor, sympy.Pow) and abs(factor.exp * exponent) > _MAX_TOTAL_EXPONENT:
            raise RefusedError(
                "a power of a power that is too large",
                f"exponents up to {_MAX_TOTAL_EXPONENT}",
                "write smaller exponents",
            )
    return sympy.Pow(base, exponent)


def apply(name: str, arguments: list[Expression]) -> Expression:
    arity = 1 if name == "identity" else FUNCTIONS[name].arity
    if len(arguments) != arity:
        raise RefusedError(
            f"{name} with {len(arguments)} argument{'s' * (len(arguments) != 1)}",
            f"{arity} argument{'s' * (arity != 1)}",
            f"write {name}({', '.join('ab'[:arity])})",
        )
    return arguments[0] if name == "identity" else FUNCTIONS[name].symbol(*arguments)


def refuse_function(name: str, names: Collection[str]) -> NoReturn:
    close = nearest(name, [*FUNCTIONS, "identity"])
    if name in names:
        remedy = f"{name} is a name, not a function: write {name}*(...) for a product"
    elif close is not None:
        remedy = f"did you mean {close}(...)?"
    else:
        remedy = "write it with functions of the table"
    raise RefusedError(f"the unknown function {clip(name)} in the equation", f"one of {FUNCTION_LIST}", remedy)


def finish(expression: Expression) -> Expression:
    """Refuse results whose numbers no float can hold."""
    for number in expression.atoms(sympy.Rational):
        above, below = abs(number.p).bit_length(), number.q.bit_length()
        if max(above, below) > _MAX_BITS or above - below > 1023:
            too_large_number()
    for call in expression.atoms(PointwiseFunction):
        if not call.free_symbols:
            with np.errstate(all="ignore"):
                value = rewrite_in_primitives(call)
            if not value.is_finite:
                raise RefusedError(
                    f"{clip(str(call))}, which is {value}", "a finite number", "write another number in its place"
                )
    return expression


def names_in(expression: Expression) -> frozenset[str]:
    return frozenset(symbol.name for symbol in expression.free_symbols)
