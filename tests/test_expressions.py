"""The equation parser: what it reads, what it refuses and how it says so."""

from __future__ import annotations

import math
import unicodedata

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.functions import FUNCTIONS, PointwiseFunction
from rnngraph.errors import EquationError
from rnngraph.parsing import parse_equation

F = {name: rule.symbol for name, rule in FUNCTIONS.items()}
X, Y, S = (sympy.Symbol(name, real=True) for name in "xys")
WHERE = "node 'c'"


def read(text: object, names: tuple[str, ...] = ("x", "y", "s")) -> object:
    return parse_equation(text, names, WHERE)[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x", X),
        ("  x +\n y\t", X + Y),
        ("x - y - s", X - Y - S),
        ("x - (y - s)", X - Y + S),
        ("x / y / s", X / (Y * S)),
        ("x*y/s*2", 2 * X * Y / S),
        ("-x**2", -(X**2)),
        ("--x", X),
        ("+x", X),
        ("x**-2", X**-2),
        ("x**+3", X**3),
        ("x**64", X**64),
        ("0.1*x", X / 10),
        ("1e-3", sympy.Rational(1, 1000)),
        ("1/3*x", X / 3),
        ("identity(x)", X),
        ("tanh(s)", F["tanh"](S)),
        ("1 - tanh(x)**2", 1 - F["tanh"](X) ** 2),
        ("maximum(x, 0.5)", F["maximum"](X, sympy.Rational(1, 2))),
        ("abs(x) + sign(y)", F["abs"](X) + F["sign"](Y)),
        ("x - x + y", Y),
    ],
)
def test_reads_text(text: str, expected: object) -> None:
    assert read(text) == expected


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_every_function_of_the_table_stays_opaque(name: str) -> None:
    arguments = ("x", "y")[: FUNCTIONS[name].arity]
    expression, used = parse_equation(f"{name}({', '.join(arguments)})", ("x", "y"), WHERE)
    assert isinstance(expression, PointwiseFunction)
    assert used == set(arguments)


@pytest.mark.parametrize("name", [*"SNEIOQ", "beta", "gamma", "zeta", "re", "pi", "tanh", "match", "_", "\u03c0"])
def test_names_of_sympy_are_plain_names(name: str) -> None:
    assert parse_equation(f"2*{name}", [name], WHERE) == (2 * sympy.Symbol(name, real=True), frozenset([name]))


def test_names_are_compared_in_nfkc() -> None:
    ligature = "\ufb01lter"
    expression, used = parse_equation(ligature + " + 1", [ligature], WHERE)
    assert used == {"filter"} == {unicodedata.normalize("NFKC", ligature)}
    assert expression == sympy.Symbol("filter", real=True) + 1


def test_a_name_that_cancels_is_not_used() -> None:
    assert parse_equation("x - x + y", ("x", "y"), WHERE)[1] == {"y"}


def test_long_sums_are_not_deep() -> None:
    terms = "+".join(["x", "y"] * 240)
    assert read(terms) == 240 * X + 240 * Y


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "an empty equation"),
        ("   \n ", "an empty equation"),
        ("x +", "not an expression"),
        ("y = x", "right-hand side alone"),
        ("x # note", "without comments"),
        ("x\x00y", "node 'c': found 'x"),
        ("\ud800", "cannot be read"),
        ("z0", "unknown name 'z0' in the equation; expected names among: s, x, y"),
        ("tanh", "tanh is a function: write"),
        ("tanhh(x)", "did you mean tanh"),
        ("x(3)", r"write x\*\("),
        ("foo(x)", "unknown function 'foo'"),
        ("tanh()", r"tanh with 0 arguments; expected 1 argument; remedy: write tanh\(a\)"),
        ("tanh(x, y)", "tanh with 2 arguments"),
        ("maximum(x)", "maximum with 1 argument; expected 2 arguments"),
        ("identity(x, y)", "identity with 2 arguments"),
        ("tanh(x=y)", "keyword argument of 'tanh'"),
        ("tanh(*x)", "starred argument"),
        ("x.real", "attribute access"),
        ("x.real(y)", "attribute access"),
        ("x[0]", "subscript"),
        ("lambda: x", "a lambda"),
        ("(lambda: x)()", "a lambda"),
        ("x < y", "a comparison in the equation"),
        ("x and y", "boolean operator"),
        ("x if y else s", "conditional"),
        ("1if x else y", "conditional"),
        ("'x'", "a string in the equation"),
        ("f'{x}'", "a string"),
        ("b'x'", "a string"),
        ("(x, y)", "a tuple"),
        ("[x]", "a list"),
        ("{x}", "a set"),
        ("[x for x in y]", "ListComp"),
        ("(x := y)", "assignment"),
        ("x @ y", "port='s'"),
        ("x ^ 2", r"write a power as \*\*"),
        ("x // 2", "//"),
        ("x % 2", "%"),
        ("x << 2", "LShift"),
        ("not x", "not"),
        ("~x", "~"),
        ("True", "True in the equation"),
        ("None", "None in the equation"),
        ("...", "Ellipsis in the equation"),
        ("2j", "2j in the equation"),
        ("1e999", "not finite"),
        ("9" * 400, "huge number"),
        ("9" * 9000, "node 'c'"),
        ("x**y", "not a whole number"),
        ("x**0.5", r"write sqrt\(x\)"),
        ("x**2**3", "not a whole number"),
        ("x**65", "exponents from -64 to 64"),
        ("9**9**9**9", "not a whole number"),
        ("((9**64)**64)**64", "too large"),
        ("((((9*x)**64)**64)**64)**64", "too large"),
        ("(((x*y)**64)**64)**64", "power of a power"),
        ("((1e-300)**64)**64", "too large"),
        ("*".join(["1e300"] * 400), "too large"),
        ("1/0", "division by zero"),
        ("x/(y - y)", "division by zero"),
        ("0**-1", "division by zero"),
        ("x" * 10_001, "10001 characters"),
        ("+".join(["x"] * 2000), "at most 1000"),
        ("tanh(" * 101 + "x" + ")" * 101, "100 deep"),
        ("-" * 500 + "x", "100 deep"),
        ("(" * 5000 + ")" * 5000, "node 'c'"),
        ("-" * 9999 + "x", "node 'c'"),
        ("[" * 9999, "node 'c'"),
        ("__import__('os').system('true')", "attribute access"),
    ],
)
def test_refuses_text(text: str, message: str) -> None:
    with pytest.raises(EquationError, match=message) as caught:
        read(text)
    assert str(caught.value).startswith("node 'c': found ")


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(EquationError, match=r"names among: c_prev, f; remedy: did you mean 'c_prev'\?"):
        parse_equation("f*c_pref", ["f", "c_prev"], "node 'c'")


@pytest.mark.parametrize("value", [None, 3, 0.5, b"x", ["x"], object()])
def test_refuses_other_types(value: object) -> None:
    with pytest.raises(EquationError, match="a string or a sympy expression"):
        read(value)


PLAIN_X, PLAIN_Y = sympy.Symbol("x"), sympy.Symbol("y", positive=True)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (PLAIN_X + PLAIN_Y, X + Y),
        (PLAIN_X / PLAIN_Y, X / Y),
        (0.1 * PLAIN_X, X / 10),
        (sympy.pi * PLAIN_X, sympy.Rational(math.pi) * X),
        (sympy.E + PLAIN_X, sympy.Rational(math.e) + X),
        (sympy.tanh(PLAIN_X), F["tanh"](X)),
        (sympy.exp(-(PLAIN_X**2)), F["exp"](-(X**2))),
        (sympy.log(PLAIN_X), F["log"](X)),
        (sympy.sin(PLAIN_X) + sympy.cos(PLAIN_X) + sympy.atan(PLAIN_X), F["sin"](X) + F["cos"](X) + F["arctan"](X)),
        (sympy.Abs(PLAIN_X) + sympy.sign(PLAIN_X) + sympy.erf(PLAIN_X), F["abs"](X) + F["sign"](X) + F["erf"](X)),
        (sympy.sqrt(PLAIN_X), F["sqrt"](X)),
        (1 / sympy.sqrt(PLAIN_X), 1 / F["sqrt"](X)),
        (sympy.Max(X, 0), F["maximum"](sympy.Integer(0), X)),
        (sympy.Min(X, Y), F["minimum"](X, Y)),
        (F["sigmoid"](PLAIN_X), F["sigmoid"](X)),
        (sympy.Function("sigmoid")(PLAIN_X), F["sigmoid"](X)),
        (sympy.Function("identity")(PLAIN_X), X),
    ],
)
def test_rebuilds_sympy(expression: object, expected: object) -> None:
    assert read(expression) == expected


def test_max_of_three_is_folded() -> None:
    result, used = parse_equation(sympy.Max(X, Y, S), ("x", "y", "s"), WHERE)
    assert used == {"x", "y", "s"}
    assert result.func is F["maximum"] and result.args[0].func is F["maximum"]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (sympy.Symbol("z0"), "unknown name 'z0'"),
        (sympy.gamma(PLAIN_X), "unknown function 'gamma'"),
        (sympy.Function("foo")(PLAIN_X), "unknown function 'foo'"),
        (sympy.Function("tanh")(PLAIN_X, PLAIN_Y), "tanh with 2 arguments"),
        (PLAIN_X**PLAIN_Y, "the power"),
        (PLAIN_X ** sympy.Rational(1, 3), "the power"),
        (PLAIN_X**100, "exponents from"),
        (sympy.I * PLAIN_X, "ImaginaryUnit"),
        (sympy.oo, "Infinity"),
        (sympy.nan, "NaN"),
        (sympy.zoo, "ComplexInfinity"),
        (PLAIN_X < PLAIN_Y, "StrictLessThan"),
        (sympy.Piecewise((PLAIN_X, PLAIN_X > 0), (0, True)), "Piecewise"),
        (sympy.Derivative(sympy.Function("f")(PLAIN_X), PLAIN_X), "Derivative"),
        (sympy.Integer(10) ** 400, "too large"),
        (sympy.Float("1e400"), "not finite"),
        (sympy.Dummy("x"), "Dummy"),
        (sympy.Add(*(sympy.tanh(k * PLAIN_X) for k in range(1, 400))), "more than 1000"),
    ],
)
def test_refuses_sympy(expression: object, message: str) -> None:
    with pytest.raises(EquationError, match=message):
        read(expression)


def test_deep_sympy_is_refused() -> None:
    expression = PLAIN_X
    for _ in range(150):
        expression = sympy.Function("sin")(expression)
    with pytest.raises(EquationError, match="100 deep"):
        read(expression)


GRAMMAR = st.text(alphabet="xys0123456789.+-*/()e, tanhmiu^#'\"[]\\", max_size=40)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=40), GRAMMAR))
def test_nothing_but_equation_error_escapes(text: str) -> None:
    try:
        _, used = parse_equation(text, ("x", "y", "s"), WHERE)
    except EquationError:
        return
    assert used <= {"x", "y", "s"}
