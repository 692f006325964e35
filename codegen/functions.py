"""The closed table of pointwise functions: their derivatives, their rewriting into primitives, their spelling per
target.

Each function is an opaque sympy function, so nothing is evaluated or simplified behind our back: sympy's derivative of
1/(1 + exp(-z)) overflows at z = -100 in float32, while ``sigmoid'(z) = sigmoid(z) (1 - sigmoid(z))`` never does.
``sympy.diff`` of an opaque unary function f gives the opaque function f', which prints as the textbook writes it and is
expanded by :func:`expand_primes` into the rule of this table, in terms of the function's own output where that is
possible.

A *primitive* has a spelling in NumPy (a ufunc) and in C; every other function has a rewriting into primitives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
import sympy

Expression = Any  # a sympy expression; sympy ships no types


def _number(value: float) -> Expression:
    """The exact rational value of a Python float, so that rational arithmetic stays exact."""
    return sympy.Rational(value)


HALF = sympy.Rational(1, 2)
INVERSE_SQRT_2 = _number(1 / math.sqrt(2))
INVERSE_SQRT_2_PI = _number(1 / math.sqrt(2 * math.pi))
TWO_OVER_SQRT_PI = _number(2 / math.sqrt(math.pi))


class PointwiseFunction(sympy.Function):  # type: ignore[misc]
    """An opaque elementwise function; subclasses are made by the table below, one per function and one per
    derivative."""

    derivatives: tuple[Callable[..., Expression], ...] = ()
    is_commutative = True
    is_real = True

    def fdiff(self, argindex: int = 1) -> Expression:
        """Partial derivative with respect to argument ``argindex`` (1-based), by the table's rule."""
        return self.derivatives[argindex - 1](*self.args)


class PrimeFunction(PointwiseFunction):
    """The derivative f' of an opaque unary function f; ``rule`` spells it out."""

    base: type[PointwiseFunction]
    rule: Callable[[Expression], Expression]


@dataclass(frozen=True)
class FunctionRule:
    """One row of the table.

    ``symbol`` is the opaque sympy function; ``rewrite`` expresses it in primitives (None for a primitive);
    ``ufunc`` is the NumPy callable's name in emitted source and ``implementation`` the callable itself;
    ``c`` is a format string over the arguments, where ``{f}`` stands for the suffix of the float type; an argument that
    occurs more than once is a name or a number.
    """

    name: str
    arity: int
    symbol: type[PointwiseFunction]
    rewrite: Callable[..., Expression] | None = None
    ufunc: str | None = None
    implementation: Callable[..., Any] | None = None
    c: str | None = None


FUNCTIONS: dict[str, FunctionRule] = {}

# Rules name functions that are defined further down.
tanh: type[PointwiseFunction]
exp: type[PointwiseFunction]
sqrt: type[PointwiseFunction]
cos: type[PointwiseFunction]
sign: type[PointwiseFunction]
sigmoid: type[PointwiseFunction]
relu: type[PointwiseFunction]
leaky_relu: type[PointwiseFunction]
elu: type[PointwiseFunction]


def _make_prime(
    name: str, base: type[PointwiseFunction], rule: Callable[[Expression], Expression]
) -> type[PrimeFunction]:
    variable = sympy.Symbol("x", real=True)

    @lru_cache(maxsize=1)
    def second() -> Expression:
        return sympy.diff(rule(variable), variable)

    def second_derivative(argument: Expression) -> Expression:
        return second().xreplace({variable: argument})

    members = {
        "base": base,
        "rule": staticmethod(rule),
        "derivatives": (second_derivative,),
        "nargs": 1,
        "__module__": __name__,
    }
    return cast("type[PrimeFunction]", type(f"{name}'", (PrimeFunction,), members))


def _define(
    name: str,
    *derivatives: Callable[..., Expression],
    rewrite: Callable[..., Expression] | None = None,
    ufunc: str | None = None,
    implementation: Callable[..., Any] | None = None,
    c: str | None = None,
) -> type[PointwiseFunction]:
    """Add one function to the table. A unary function's derivative becomes the opaque prime function."""
    arity = len(derivatives)
    symbol = cast("type[PointwiseFunction]", type(name, (PointwiseFunction,), {"nargs": arity, "__module__": __name__}))
    if arity == 1:
        prime = _make_prime(name, symbol, derivatives[0])
        symbol.derivatives = (lambda argument: prime(argument),)
    else:
        symbol.derivatives = derivatives
    FUNCTIONS[name] = FunctionRule(name, arity, symbol, rewrite, ufunc, implementation, c)
    return symbol


# Primitives: one ufunc in NumPy, one expression in C.
tanh = _define("tanh", lambda x: 1 - tanh(x) ** 2, ufunc="np.tanh", implementation=np.tanh, c="tanh{f}({0})")
exp = _define("exp", lambda x: exp(x), ufunc="np.exp", implementation=np.exp, c="exp{f}({0})")
log = _define("log", lambda x: 1 / x, ufunc="np.log", implementation=np.log, c="log{f}({0})")
sqrt = _define("sqrt", lambda x: HALF / sqrt(x), ufunc="np.sqrt", implementation=np.sqrt, c="sqrt{f}({0})")
sin = _define("sin", lambda x: cos(x), ufunc="np.sin", implementation=np.sin, c="sin{f}({0})")
cos = _define("cos", lambda x: -sin(x), ufunc="np.cos", implementation=np.cos, c="cos{f}({0})")
arctan = _define("arctan", lambda x: 1 / (1 + x**2), ufunc="np.arctan", implementation=np.arctan, c="atan{f}({0})")
absolute = _define("abs", lambda x: sign(x), ufunc="np.abs", implementation=np.abs, c="fabs{f}({0})")
sign = _define(
    "sign",
    lambda x: sympy.S.Zero,
    ufunc="np.sign",
    implementation=np.sign,
    c="({0} != {0} ? {0} : (real)(({0} > 0) - ({0} < 0)))",
)


def _step(x: Any, out: Any = None) -> Any:
    return np.heaviside(x, 0.0, out=out)


step = _define(
    "step",
    lambda x: sympy.S.Zero,
    ufunc="_step",
    implementation=_step,
    c="({0} != {0} ? {0} : (real)({0} > 0))",
)
maximum = _define(
    "maximum",
    lambda a, b: HALF * (1 + sign(a - b)),  # a tie gives each side one half
    lambda a, b: HALF * (1 - sign(a - b)),
    ufunc="np.maximum",
    implementation=np.maximum,
    c="({0} > {1} || {0} != {0} ? {0} : {1})",
)
minimum = _define(
    "minimum",
    lambda a, b: HALF * (1 - sign(a - b)),
    lambda a, b: HALF * (1 + sign(a - b)),
    ufunc="np.minimum",
    implementation=np.minimum,
    c="({0} < {1} || {0} != {0} ? {0} : {1})",
)


def _softplus(x: Any, out: Any = None) -> Any:
    return np.logaddexp(x, 0.0, out=out)


softplus = _define(
    "softplus",
    lambda x: sigmoid(x),
    ufunc="_softplus",
    implementation=_softplus,
    c="(fmax{f}({0}, 0) + log1p{f}(exp{f}(-fabs{f}({0}))))",
)


def _erf(x: Any, out: Any = None) -> Any:
    """Error function to about 1 ulp of float64 (rational approximations of Cephes, S. Moshier)."""
    x64 = np.asarray(x, dtype=np.float64)
    z = x64 * x64
    small = (
        x64
        * np.polyval([9.60497373987051638749, 90.0260197203842689217, 2232.00534594684319226, 7003.32514112805075473,
                      55592.3013010394962768], z)
        / np.polyval([1.0, 33.5617141647503099647, 521.357949780152679795, 4594.32382970980127987,
                      22629.0000613890934246, 49267.3942608635921086], z)
    )  # fmt: skip
    a = np.minimum(np.abs(x64), 8.0)
    tail = (
        np.exp(-a * a)
        * np.polyval([2.46196981473530512524e-10, 0.564189564831068821977, 7.46321056442269912687,
                      48.6371970985681366614, 196.520832956077098242, 526.445194995477358631,
                      934.528527171957607540, 1027.55188689515710272, 557.535335369399327526], a)
        / np.polyval([1.0, 13.2281951154744992508, 86.7072140885989742329, 354.937778887819891062,
                      975.708501743205489753, 1823.90916687909736289, 2246.33760818710981792,
                      1656.66309194161350182, 557.535340817727675546], a)
    )  # fmt: skip
    value = np.where(np.abs(x64) < 1.0, small, np.sign(x64) * (1.0 - tail))
    if out is None:
        return value.astype(np.asarray(x).dtype)
    out[...] = value
    return out


erf = _define(
    "erf",
    lambda x: TWO_OVER_SQRT_PI * exp(-(x**2)),
    ufunc="_erf",
    implementation=_erf,
    c="erf{f}({0})",
)

# Functions rewritten into primitives. The derivative uses the function's own output where it can.
sigmoid = _define("sigmoid", lambda x: sigmoid(x) * (1 - sigmoid(x)), rewrite=lambda x: HALF * tanh(HALF * x) + HALF)
relu = _define("relu", lambda x: step(relu(x)), rewrite=lambda x: maximum(x, sympy.S.Zero))
LEAK = sympy.Rational(1, 100)
leaky_relu = _define(
    "leaky_relu", lambda x: LEAK + (1 - LEAK) * step(leaky_relu(x)), rewrite=lambda x: maximum(x, LEAK * x)
)
elu = _define(
    "elu",
    lambda x: minimum(elu(x), sympy.S.Zero) + 1,
    rewrite=lambda x: maximum(x, sympy.S.Zero) + exp(minimum(x, sympy.S.Zero)) - 1,
)
silu = _define("silu", lambda x: sigmoid(x) + x * sigmoid(x) * (1 - sigmoid(x)), rewrite=lambda x: x * sigmoid(x))
gelu = _define(
    "gelu",
    lambda x: HALF * (1 + erf(INVERSE_SQRT_2 * x)) + INVERSE_SQRT_2_PI * x * exp(-HALF * x**2),
    rewrite=lambda x: HALF * x * (1 + erf(INVERSE_SQRT_2 * x)),
)
softsign = _define("softsign", lambda x: 1 / (1 + absolute(x)) ** 2, rewrite=lambda x: x / (1 + absolute(x)))


def _clip(x: Expression, low: Expression, high: Expression) -> Expression:
    return minimum(maximum(x, low), high)


hard_tanh = _define(
    "hard_tanh", lambda x: step(x + 1) * step(1 - x), rewrite=lambda x: _clip(x, -sympy.S.One, sympy.S.One)
)
hard_sigmoid = _define(
    "hard_sigmoid",
    lambda x: step(x + 3) * step(3 - x) / 6,
    rewrite=lambda x: _clip(x / 6 + HALF, sympy.S.Zero, sympy.S.One),
)
saturated_linear = _define(
    "saturated_linear", lambda x: step(x) * step(1 - x), rewrite=lambda x: _clip(x, sympy.S.Zero, sympy.S.One)
)
square = _define("square", lambda x: 2 * x, rewrite=lambda x: x**2)


def expand_primes(expression: Expression) -> Expression:
    """Spell every f'(x) out by the table's rule, through the output of f where the rule says so."""
    found = expression.atoms(PrimeFunction)
    while found:
        expression = expression.xreplace({prime: type(prime).rule(prime.args[0]) for prime in found})
        found = expression.atoms(PrimeFunction)
    return expression


def rewrite_in_primitives(expression: Expression) -> Expression:
    """Rewrite every function of the table into primitives, f' included; functions of numbers become numbers."""
    expression = expand_primes(expression)
    if expression.is_Atom:
        return expression
    arguments = [rewrite_in_primitives(argument) for argument in expression.args]
    if isinstance(expression, PointwiseFunction):
        rule = FUNCTIONS[expression.func.__name__]
        if rule.rewrite is not None:
            return rewrite_in_primitives(rule.rewrite(*arguments))
        if rule.implementation is not None and all(argument.is_Rational for argument in arguments):
            value = float(rule.implementation(*map(float, arguments)))
            return _number(value) if math.isfinite(value) else sympy.Float(value)
    return expression.func(*arguments)
