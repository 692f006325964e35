"""Equations from text, through Python's ``ast``: only what the grammar of ``equation`` names is built."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import NoReturn

import sympy

from codegen.functions import FUNCTIONS
from rnngraph.model import Expression
from rnngraph.parsing.parts import (
    ALLOWED,
    FUNCTION_LIST,
    MAX_DEPTH,
    MAX_LENGTH,
    MAX_NODES,
    RefusedError,
    apply,
    checked_exponent,
    finish,
    names_in,
    number,
    power,
    refuse_function,
    symbol,
    too_deep,
    too_large,
)
from rnngraph.words import clip, normalize_name

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


@lru_cache(maxsize=4096)
def parse_text(text: str, names: frozenset[str]) -> tuple[Expression, frozenset[str]]:
    if len(text) > MAX_LENGTH:
        too_large(f"an equation of {len(text)} characters", f"at most {MAX_LENGTH} characters")
    if "#" in text:
        raise RefusedError("the character '#'", "an expression without comments", "remove the comment")
    text = " ".join(text.split())
    if not text:
        raise RefusedError("an empty equation", "an expression such as 'tanh(s)'", "write the equation")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the parser warns of ('1if x else y') is refused below
            body = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        remedy = "correct the text; write the right-hand side alone, without '='" if "=" in text else "correct the text"
        raise RefusedError(
            f"{clip(text)}, which is not an expression ({error.msg})", f"an expression of {ALLOWED}", remedy
        ) from None
    except ValueError as error:  # null bytes, lone surrogates, integers of thousands of digits
        raise RefusedError(
            f"{clip(text)}, which cannot be read ({clip(str(error))})",
            f"an expression of {ALLOWED}",
            "correct the text",
        ) from None
    count = sum(isinstance(node, ast.expr) for node in ast.walk(body))
    if count > MAX_NODES:
        too_large(f"an equation of {count} terms, factors and calls", f"at most {MAX_NODES}")
    expression = finish(_build(body, names, 1))
    return expression, names_in(expression)


def _refuse_syntax(node: ast.AST) -> NoReturn:
    description, remedy = _DESCRIPTIONS.get(
        type(node), (f"Python's {type(node).__name__}", f"write it with {ALLOWED}: {FUNCTION_LIST}")
    )
    raise RefusedError(f"{description} in the equation", ALLOWED, remedy)


def _build(node: ast.expr, names: frozenset[str], depth: int) -> Expression:
    """The sympy expression of a Python expression. A chain a + b + c (or a*b/c) counts as one level of nesting."""
    if depth > MAX_DEPTH:
        too_deep()
    if isinstance(node, ast.Name):
        return symbol(node.id, names)
    if isinstance(node, ast.Constant):
        return number(node.value)
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
        return power(_build(node.left, names, depth + 1), _exponent(node.right))
    if isinstance(node.op, (ast.Add, ast.Sub)):
        return sympy.Add(*_chain(node, (ast.Add, ast.Sub), lambda term: -term, names, depth))
    if isinstance(node.op, (ast.Mult, ast.Div)):
        return sympy.Mul(*_chain(node, (ast.Mult, ast.Div), lambda factor: power(factor, -1), names, depth))
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


def _exponent(node: ast.expr) -> int:
    sign = 1
    while isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        sign = -sign if isinstance(node.op, ast.USub) else sign
        node = node.operand
    if not isinstance(node, ast.Constant) or isinstance(node.value, bool) or not isinstance(node.value, int):
        raise RefusedError(
            "a power whose exponent is not a whole number",
            "x**n with a whole number n",
            "write sqrt(x) for a square root, exp(n*log(x)) for another exponent",
        )
    return checked_exponent(sign * node.value)


def _call(node: ast.Call, names: frozenset[str], depth: int) -> Expression:
    if not isinstance(node.func, ast.Name):
        _refuse_syntax(node.func)
    name = normalize_name(node.func.id)
    if node.keywords:
        raise RefusedError(
            f"a keyword argument of {clip(name)}", "positional arguments", "write the arguments without '='"
        )
    if name not in FUNCTIONS and name != "identity":
        refuse_function(name, names)
    return apply(name, [_build(argument, names, depth + 1) for argument in node.args])
