"""Reading a pointwise equation, from text or from sympy, through a closed table of names, functions and operators.

Text of the user is never given to ``eval`` or to ``sympy.sympify`` (which evaluates it): it goes through Python's
``ast``, and only what the grammar below names is built. A sympy expression is rebuilt through the same grammar::

    expression = name | number | expression (+ - * /) expression | (+ -) expression
               | expression ** integer | function(expression, ...)

Names are the node's ports, functions those of :data:`codegen.functions.FUNCTIONS` and ``identity``. Every number is an
exact rational (a decimal is taken as written: 0.1 is 1/10), so that derivations can be proved in rational arithmetic.
"""

from __future__ import annotations

import ast
import difflib
import math
import unicodedata
import warnings
from collections.abc import Callable, Collection, Iterable
from fractions import Fraction
from functools import lru_cache
from typing import Any, NoReturn

import numpy as np
import sympy
from sympy.core.function import AppliedUndef

from codegen.functions import FUNCTIONS, PointwiseFunction, rewrite_in_primitives
from rnngraph.errors import EquationError
from rnngraph.model import Expression

MAX_LENGTH = 10_000
MAX_NODES = 1_000
MAX_DEPTH = 100
MAX_EXPONENT = 64
# Powers multiply the length of the numbers under them: bounded before they are computed, so that none runs away.
_MAX_BITS = 4_096
_MAX_TOTAL_EXPONENT = 4_096

_ALLOWED = "names, numbers, + - * /, ** with a whole-number exponent, and functions of the table"
_FUNCTION_LIST = ", ".join(sorted([*FUNCTIONS, "identity"]))

# Functions that sympy evaluates by itself, and their opaque counterparts.
_SYMPY_FUNCTIONS: dict[Any, str] = {
    sympy.tanh: "tanh",
    sympy.exp: "exp",
    sympy.log: "log",
    sympy.sin: "sin",
    sympy.cos: "cos",
    sympy.atan: "arctan",
    sympy.Abs: "abs",
    sympy.sign: "sign",
    sympy.erf: "erf",
    sympy.Max: "maximum",
    sympy.Min: "minimum",
}

_DESCRIPTIONS: dict[type[ast.AST], tuple[str, str]] = {
    ast.Attribute: ("an attribute access", "use a plain name, without a dot"),
    ast.Subscript: ("a subscript", "feed each part by a port of its own"),
    ast.Lambda: ("a lambda", "write the expression itself"),
    ast.Compare: ("a comparison", "write step(a - b) for 'a > b', or maximum(a, b) and minimum(a, b)"),
    ast.BoolOp: ("a boolean operator", "multiply step(...) functions for 'and'"),
    ast.IfExp: ("a conditional expression", "write it with step(...), maximum(a, b) or minimum(a, b)"),
    ast.JoinedStr: ("a string", "write a name without quotation marks"),
    ast.Tuple: ("a tuple", "write one expression"),
    ast.List: ("a list", "write one expression"),
    ast.Dict: ("a dict", "write one expression"),
    ast.Set: ("a set", "write one expression"),
    ast.NamedExpr: ("an assignment", "write the right-hand side alone"),
    ast.Starred: ("a starred argument", "write the arguments one by one"),
    ast.MatMult: ("the operator '@'", "weights belong to edges: give the edge port='s', and write s in the equation"),
    ast.BitXor: ("the operator '^'", "write a power as **"),
    ast.FloorDiv: ("the operator '//'", "write / for a division"),
    ast.Mod: ("the operator '%'", "write it with functions of the table"),
    ast.Not: ("the operator 'not'", "write 1 - x"),
    ast.Invert: ("the operator '~'", "write 1 - x"),
}


class _RefusedError(Exception):
    """What is wrong with an expression; :func:`parse_equation` adds the place."""

    def __init__(self, found: str, expected: str, remedy: str) -> None:
        super().__init__(found)
        self.found = found
        self.expected = expected
        self.remedy = remedy


def normalize_name(name: str) -> str:
    """The NFKC form of a name: Python's parser reads identifiers so, hence names are compared so."""
    return unicodedata.normalize("NFKC", name)


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate most like ``name``, or None where none is alike."""
    found = difflib.get_close_matches(name, list(candidates), n=1)
    return found[0] if found else None


def clip(value: object, limit: int = 60) -> str:
    """A short repr for an error message."""
    shown = repr(value)
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


def parse_equation(text_or_sympy: object, names: Collection[str], where: str) -> tuple[Expression, frozenset[str]]:
    """Read a pointwise expression.

    Parameters: ``text_or_sympy``, a string or a sympy expression; ``names``, what may be named in it (taken in NFKC
    form); ``where``, the place for error messages, such as ``"node 'c'"``.

    Returns the sympy expression in ``Symbol(name, real=True)`` and the functions of ``codegen.functions``, and the
    names that occur in it. A name that cancels out (``x - x``) does not occur.

    Raises EquationError, and nothing else, for whatever is not in the grammar of this module or over its limits: 10 000
    characters, 1000 nodes, nesting depth 100, exponents up to 64.
    """
    allowed = frozenset(normalize_name(name) for name in names)
    try:
        if isinstance(text_or_sympy, str):
            return _parse_text(str(text_or_sympy), allowed)
        if isinstance(text_or_sympy, sympy.Basic):
            expression = _finish(_rebuild(text_or_sympy, allowed))
            return expression, _names_in(expression)
        raise _RefusedError(
            f"an equation of type {type(text_or_sympy).__name__}",
            "a string or a sympy expression",
            "write it as a string, such as 'tanh(s)'",
        )
    except _RefusedError as refusal:
        raise EquationError(where, refusal.found, refusal.expected, refusal.remedy) from None
    except (RecursionError, MemoryError):
        raise EquationError(
            where,
            "an equation nested too deeply to be read",
            f"a nesting depth of at most {MAX_DEPTH}",
            "split it into several nodes",
        ) from None


@lru_cache(maxsize=4096)
def _parse_text(text: str, names: frozenset[str]) -> tuple[Expression, frozenset[str]]:
    if len(text) > MAX_LENGTH:
        _too_large(f"an equation of {len(text)} characters", f"at most {MAX_LENGTH} characters")
    if "#" in text:
        raise _RefusedError("the character '#'", "an expression without comments", "remove the comment")
    text = " ".join(text.split())
    if not text:
        raise _RefusedError("an empty equation", "an expression such as 'tanh(s)'", "write the equation")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the parser warns of ('1if x else y') is refused below
            body = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        remedy = "correct the text; write the right-hand side alone, without '='" if "=" in text else "correct the text"
        raise _RefusedError(
            f"{clip(text)}, which is not an expression ({error.msg})", f"an expression of {_ALLOWED}", remedy
        ) from None
    except ValueError as error:  # null bytes, lone surrogates, integers of thousands of digits
        raise _RefusedError(
            f"{clip(text)}, which cannot be read ({clip(str(error))})",
            f"an expression of {_ALLOWED}",
            "correct the text",
        ) from None
    count = sum(isinstance(node, ast.expr) for node in ast.walk(body))
    if count > MAX_NODES:
        _too_large(f"an equation of {count} terms, factors and calls", f"at most {MAX_NODES}")
    expression = _finish(_build(body, names, 1))
    return expression, _names_in(expression)


def _names_in(expression: Expression) -> frozenset[str]:
    return frozenset(symbol.name for symbol in expression.free_symbols)


def _too_large(found: str, expected: str) -> NoReturn:
    raise _RefusedError(found, expected, "split it into several nodes")


def _too_deep() -> NoReturn:
    _too_large(f"an equation nested more than {MAX_DEPTH} deep", f"a nesting depth of at most {MAX_DEPTH}")


def _refuse_syntax(node: ast.AST) -> NoReturn:
    description, remedy = _DESCRIPTIONS.get(
        type(node), (f"Python's {type(node).__name__}", f"write it with {_ALLOWED}: {_FUNCTION_LIST}")
    )
    raise _RefusedError(f"{description} in the equation", _ALLOWED, remedy)


def _build(node: ast.expr, names: frozenset[str], depth: int) -> Expression:
    """The sympy expression of a Python expression. A chain a + b + c (or a*b/c) counts as one level of nesting."""
    if depth > MAX_DEPTH:
        _too_deep()
    if isinstance(node, ast.Name):
        return _symbol(node.id, names)
    if isinstance(node, ast.Constant):
        return _number(node.value)
    if isinstance(node, ast.UnaryOp):
        if isinstance(node.op, ast.USub):
            return -_build(node.operand, names, depth + 1)
        if isinstance(node.op, ast.UAdd):
            return _build(node.operand, names, depth + 1)
        _refuse_syntax(node.op)
    if isinstance(node, ast.Call):
        return _call(node, names, depth)
    if not isinstance(node, ast.BinOp):
        _refuse_syntax(node)
    if isinstance(node.op, ast.Pow):
        return _power(_build(node.left, names, depth + 1), _exponent(node.right))
    if isinstance(node.op, (ast.Add, ast.Sub)):
        return sympy.Add(*_chain(node, (ast.Add, ast.Sub), lambda term: -term, names, depth))
    if isinstance(node.op, (ast.Mult, ast.Div)):
        return sympy.Mul(*_chain(node, (ast.Mult, ast.Div), lambda factor: _power(factor, -1), names, depth))
    _refuse_syntax(node.op)


def _chain(
    node: ast.expr,
    operators: tuple[type[ast.operator], type[ast.operator]],
    inverse: Callable[[Expression], Expression],
    names: frozenset[str],
    depth: int,
) -> list[Expression]:
    """The operands of a left-associative chain; those after the second operator are inverted."""
    operands: list[Expression] = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, operators):
        operand = _build(node.right, names, depth + 1)
        operands.append(inverse(operand) if isinstance(node.op, operators[1]) else operand)
        node = node.left
    operands.append(_build(node, names, depth + 1))
    return operands[::-1]


def _symbol(name: str, names: frozenset[str]) -> Expression:
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
    raise _RefusedError(f"the unknown name {clip(name)} in the equation", f"names among: {known}", remedy)


def _number(value: object) -> Expression:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        kind = "a string" if isinstance(value, (str, bytes)) else clip(value)
        raise _RefusedError(f"{kind} in the equation", _ALLOWED, "write a name, or a real number such as 0.5")
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _RefusedError(
                "a number that is not finite in the equation", "numbers up to 1.8e308", "write a smaller number"
            )
        exact = Fraction(repr(value))
        return sympy.Rational(exact.numerator, exact.denominator)
    if value.bit_length() > 1023:
        raise _RefusedError("a huge number in the equation", "numbers up to 9e307", "write a smaller number")
    return sympy.Integer(value)


def _exponent(node: ast.expr) -> int:
    sign = 1
    while isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        sign = -sign if isinstance(node.op, ast.USub) else sign
        node = node.operand
    if not isinstance(node, ast.Constant) or isinstance(node.value, bool) or not isinstance(node.value, int):
        raise _RefusedError(
            "a power whose exponent is not a whole number",
            "x**n with a whole number n",
            "write sqrt(x) for a square root, exp(n*log(x)) for another exponent",
        )
    return _checked_exponent(sign * node.value)


def _checked_exponent(exponent: int) -> int:
    if abs(exponent) > MAX_EXPONENT:
        raise _RefusedError(
            "a power whose exponent is too large",
            f"exponents from -{MAX_EXPONENT} to {MAX_EXPONENT}",
            "write a smaller exponent, or exp(n*log(x))",
        )
    return exponent


def _power(base: Expression, exponent: int) -> Expression:
    """base**exponent, refused before it is computed where its numbers or exponents would grow without bound."""
    if base is sympy.S.Zero and exponent < 0:
        raise _RefusedError("a division by zero in the equation", "a divisor other than 0", "correct the divisor")
    for factor in sympy.Mul.make_args(base):
        if isinstance(factor, sympy.Rational):
            bits = max(abs(factor.p).bit_length(), factor.q.bit_length())
            if bits * abs(exponent) > _MAX_BITS and abs(factor.p) != factor.q:
                _too_large_number()
        elif isinstance(factor, sympy.Pow) and abs(factor.exp * exponent) > _MAX_TOTAL_EXPONENT:
            raise _RefusedError(
                "a power of a power that is too large",
                f"exponents up to {_MAX_TOTAL_EXPONENT}",
                "write smaller exponents",
            )
    return sympy.Pow(base, exponent)


def _too_large_number() -> NoReturn:
    raise _RefusedError(
        "a number that is too large or too long in the equation",
        "numbers that a float64 can hold",
        "write smaller numbers or exponents",
    )


def _finish(expression: Expression) -> Expression:
    """Refuse results whose numbers no float can hold."""
    for number in expression.atoms(sympy.Rational):
        above, below = abs(number.p).bit_length(), number.q.bit_length()
        if max(above, below) > _MAX_BITS or above - below > 1023:
            _too_large_number()
    for call in expression.atoms(PointwiseFunction):
        if not call.free_symbols:
            with np.errstate(all="ignore"):
                value = rewrite_in_primitives(call)
            if not value.is_finite:
                raise _RefusedError(
                    f"{clip(str(call))}, which is {value}", "a finite number", "write another number in its place"
                )
    return expression


def _call(node: ast.Call, names: frozenset[str], depth: int) -> Expression:
    if not isinstance(node.func, ast.Name):
        _refuse_syntax(node.func)
    name = normalize_name(node.func.id)
    if node.keywords:
        raise _RefusedError(
            f"a keyword argument of {clip(name)}", "positional arguments", "write the arguments without '='"
        )
    if name not in FUNCTIONS and name != "identity":
        _refuse_function(name, names)
    return _apply(name, [_build(argument, names, depth + 1) for argument in node.args])


def _refuse_function(name: str, names: Collection[str]) -> NoReturn:
    close = nearest(name, [*FUNCTIONS, "identity"])
    if name in names:
        remedy = f"{name} is a name, not a function: write {name}*(...) for a product"
    elif close is not None:
        remedy = f"did you mean {close}(...)?"
    else:
        remedy = "write it with functions of the table"
    raise _RefusedError(f"the unknown function {clip(name)} in the equation", f"one of {_FUNCTION_LIST}", remedy)


def _apply(name: str, arguments: list[Expression]) -> Expression:
    arity = 1 if name == "identity" else FUNCTIONS[name].arity
    if len(arguments) != arity:
        raise _RefusedError(
            f"{name} with {len(arguments)} argument{'s' * (len(arguments) != 1)}",
            f"{arity} argument{'s' * (arity != 1)}",
            f"write {name}({', '.join('ab'[:arity])})",
        )
    return arguments[0] if name == "identity" else FUNCTIONS[name].symbol(*arguments)


def _rebuild(expression: Any, names: frozenset[str]) -> Expression:
    """A sympy expression of the user, rebuilt from the closed table."""
    count, stack = 0, [expression]
    while stack:
        count += 1
        if count > MAX_NODES:
            _too_large(f"an equation of more than {MAX_NODES} terms, factors and calls", f"at most {MAX_NODES}")
        stack.extend(stack.pop().args)
    return _rebuild_node(expression, names, 1)


def _rebuild_node(node: Any, names: frozenset[str], depth: int) -> Expression:
    if depth > MAX_DEPTH:
        _too_deep()
    if type(node) is sympy.Symbol:
        return _symbol(node.name, names)
    if isinstance(node, sympy.Rational):
        return node
    if isinstance(node, sympy.Float):
        return _number(float(node))
    if node is sympy.pi or node is sympy.E:
        return sympy.Rational(float(node))
    if isinstance(node, sympy.Pow):
        return _rebuild_power(node, names, depth)
    if not isinstance(node, (sympy.Add, sympy.Mul, sympy.Function, sympy.Max, sympy.Min)):
        _refuse_sympy(node)
    if isinstance(node, (sympy.Add, sympy.Mul)):
        return node.func(*(_rebuild_node(argument, names, depth + 1) for argument in node.args))
    name = _function_name(node, names)
    arguments = [_rebuild_node(argument, names, depth + 1) for argument in node.args]
    if isinstance(node, (sympy.Max, sympy.Min)):  # any number of arguments in sympy, two in the table
        result = arguments[0]
        for argument in arguments[1:]:
            result = _apply(name, [result, argument])
        return result
    return _apply(name, arguments)


def _rebuild_power(node: Any, names: frozenset[str], depth: int) -> Expression:
    base, exponent = node.args
    if base is sympy.E:
        return _apply("exp", [_rebuild_node(exponent, names, depth + 1)])
    rebuilt = _rebuild_node(base, names, depth + 1)
    if isinstance(exponent, sympy.Integer):
        return _power(rebuilt, _checked_exponent(int(exponent)))
    if exponent == sympy.Rational(1, 2):
        return _apply("sqrt", [rebuilt])
    if exponent == sympy.Rational(-1, 2):
        return _power(_apply("sqrt", [rebuilt]), -1)
    raise _RefusedError(
        f"the power {clip(str(node))}",
        "a whole-number exponent, 1/2 or -1/2",
        "write exp(n*log(x)) for another exponent",
    )


def _function_name(node: Any, names: frozenset[str]) -> str:
    """The table's name of an applied function: sympy's own, an opaque one, or an undefined one of that name."""
    function = node.func
    if function in _SYMPY_FUNCTIONS:
        return _SYMPY_FUNCTIONS[function]
    name = str(function.__name__)
    if isinstance(node, PointwiseFunction) and name in FUNCTIONS and FUNCTIONS[name].symbol is function:
        return name
    if isinstance(node, AppliedUndef) and (name in FUNCTIONS or name == "identity"):
        return name
    _refuse_function(name, names)


def _refuse_sympy(node: Any) -> NoReturn:
    raise _RefusedError(
        f"sympy's {type(node).__name__} in the equation", _ALLOWED, f"write it with real numbers and {_FUNCTION_LIST}"
    )
