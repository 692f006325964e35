"""Equations from sympy expressions, rebuilt through the grammar of ``equation``: nothing foreign gets through."""

from __future__ import annotations

from typing import Any, NoReturn

import sympy
from sympy.core.function import AppliedUndef

from codegen.functions import FUNCTIONS, PointwiseFunction
from rnngraph.model import Expression
from rnngraph.parsing.parts import (
    ALLOWED,
    FUNCTION_LIST,
    MAX_DEPTH,
    MAX_NODES,
    RefusedError,
    apply,
    checked_exponent,
    number,
    power,
    refuse_function,
    symbol,
    too_deep,
    too_large,
)
from rnngraph.words import clip

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


def rebuild(expression: Any, names: frozenset[str]) -> Expression:
    """A sympy expression of the user, rebuilt from the closed table."""
    count, stack = 0, [expression]
    while stack:
        count += 1
        if count > MAX_NODES:
            too_large(f"an equation of more than {MAX_NODES} terms, factors and calls", f"at most {MAX_NODES}")
        stack.extend(stack.pop().args)
    return _rebuild_node(expression, names, 1)


def _rebuild_node(node: Any, names: frozenset[str], depth: int) -> Expression:
    if depth > MAX_DEPTH:
        too_deep()
    if type(node) is sympy.Symbol:
        return symbol(node.name, names)
    if isinstance(node, sympy.Rational):
        return node
    if isinstance(node, sympy.Float):
        return number(float(node))
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
            result = apply(name, [result, argument])
        return result
    return apply(name, arguments)


def _rebuild_power(node: Any, names: frozenset[str], depth: int) -> Expression:
    base, exponent = node.args
    if base is sympy.E:
        return apply("exp", [_rebuild_node(exponent, names, depth + 1)])
    rebuilt = _rebuild_node(base, names, depth + 1)
    if isinstance(exponent, sympy.Integer):
        return power(rebuilt, checked_exponent(int(exponent)))
    if exponent == sympy.Rational(1, 2):
        return apply("sqrt", [rebuilt])
    if exponent == sympy.Rational(-1, 2):
        return power(apply("sqrt", [rebuilt]), -1)
    raise RefusedError(
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
    refuse_function(name, names)


def _refuse_sympy(node: Any) -> NoReturn:
    raise RefusedError(
        f"sympy's {type(node).__name__} in the equation", ALLOWED, f"write it with real numbers and {FUNCTION_LIST}"
    )
