"""Checks of options: each returns the checked value or raises ``OptionError``."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable
from typing import Any

from rnngraph.errors import OptionError
from rnngraph.words import clip, nearest


def positive(where: str, value: object) -> float:
    """A finite number > 0."""
    number = _number(where, value, "a finite number > 0")
    if number <= 0.0:
        raise OptionError(where, repr(value), "a finite number > 0", f"give a {where} such as {1e-3}")
    return number


def not_negative(where: str, value: object) -> float:
    """A finite number >= 0."""
    number = _number(where, value, "a finite number >= 0")
    if number < 0.0:
        raise OptionError(where, repr(value), "a finite number >= 0", "give 0 to turn it off")
    return number


def above_one(where: str, value: object) -> float:
    """A finite number > 1."""
    number = _number(where, value, "a finite number > 1")
    if number <= 1.0:
        raise OptionError(where, repr(value), "a finite number > 1", f"give a {where} such as 10.0")
    return number


def fraction(where: str, value: object) -> float:
    """A number in [0, 1)."""
    number = _number(where, value, "a number in [0, 1)")
    if not 0.0 <= number < 1.0:
        raise OptionError(where, repr(value), "a number in [0, 1)", f"give a {where} such as 0.9")
    return number


def count(where: str, value: object, least: int = 1) -> int:
    """An integer >= ``least``."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise OptionError(where, repr(value), f"an integer >= {least}", f"give {where} such as {max(least, 10)}")
    return int(value)


def choice(where: str, value: object, known: tuple[str, ...], remedy: str) -> str:
    """One of ``known``; ``remedy`` where none of them resembles ``value``."""
    if not isinstance(value, str) or value not in known:
        close = nearest(str(value), known)
        raise OptionError(
            where, clip(value), " or ".join(map(repr, known)), f"did you mean {close!r}?" if close else remedy
        )
    return value


def functions(where: str, value: object) -> tuple[Callable[..., Any], ...]:
    """Functions out of a list or any other iterable."""
    expected = "a list of functions of the history"
    if not isinstance(value, Iterable):
        single = callable(value)
        remedy = f"write {where}=[{getattr(value, '__name__', 'function')}]" if single else f"give {expected}"
        raise OptionError(where, f"{value!r}, which is no list", expected, remedy)
    every = tuple(value)
    for function in every:
        if not callable(function):
            raise OptionError(where, repr(function), expected, f"give {expected}")
    return every


def kernel(value: object) -> None:
    """A compiled network, which has a loss with its gradient."""
    if isinstance(value, type) or not all(
        callable(getattr(value, name, None)) for name in ("loss", "loss_and_gradient")
    ):
        found = "None" if value is None else f"an object of type {type(value).__name__}"
        if isinstance(value, type):
            found = f"the class {value.__name__}"
        raise OptionError("kernel", found, "a compiled network", "give kernel = rnngraph.compile(graph, loss=...)")


def _number(where: str, value: object, expected: str) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise OptionError(where, repr(value), expected, "give a plain number")
    return float(value)
