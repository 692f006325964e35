"""Reading a pointwise equation, from text or from sympy, through a closed table of names, functions and operators.

Text of the user is never given to ``eval`` or to ``sympy.sympify`` (which evaluates it): it goes through Python's
``ast``, and only what the grammar below names is built. A sympy expression is rebuilt through the same grammar::

    expression = name | number | expression (+ - * /) expression | (+ -) expression
               | expression ** integer | function(expression, ...)

Names are the node's ports, functions those of :data:`codegen.functions.FUNCTIONS` and ``identity``. Every number is an
exact rational (a decimal is taken as written: 0.1 is 1/10), so that derivations can be proved in rational arithmetic.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import sympy

from codegen.functions import FUNCTIONS
from rnngraph.errors import EquationError
from rnngraph.model import Expression
from rnngraph.parsing.from_sympy import rebuild
from rnngraph.parsing.from_text import parse_text
from rnngraph.parsing.parts import MAX_DEPTH, RefusedError, finish, names_in
from rnngraph.words import normalize_name


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
            return parse_text(str(text_or_sympy), allowed)
        if isinstance(text_or_sympy, sympy.Basic):
            expression = finish(rebuild(text_or_sympy, allowed))
            return expression, names_in(expression)
        raise RefusedError(
            f"an equation of type {type(text_or_sympy).__name__}",
            "a string or a sympy expression",
            "write it as a string, such as 'tanh(s)'",
        )
    except RefusedError as refusal:
        raise EquationError(where, refusal.found, refusal.expected, refusal.remedy) from None
    except (RecursionError, MemoryError):
        raise EquationError(
            where,
            "an equation nested too deeply to be read",
            f"a nesting depth of at most {MAX_DEPTH}",
            "split it into several nodes",
        ) from None


def written_names(text_or_sympy: object) -> frozenset[str]:
    """The names in an expression that are no functions, for expressions whose names are free. Nothing is checked here;
    ``parse_equation`` refuses what is no expression."""
    if isinstance(text_or_sympy, sympy.Basic):
        return frozenset(str(symbol) for symbol in text_or_sympy.free_symbols)
    if not isinstance(text_or_sympy, str):
        return frozenset()
    words = re.findall(r"(?<![\w.])[^\W\d]\w*(?!\w)(?!\s*\()", text_or_sympy)
    return frozenset(normalize_name(word) for word in words) - FUNCTIONS.keys()
