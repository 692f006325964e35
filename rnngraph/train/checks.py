"""Checks of options: each returns the checked value or raises ``OptionError``."""

from __future__ import annotations

import math
import numbers

from rnngraph.errors import OptionError


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


def _number(where: str, value: object, expected: str) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise OptionError(where, repr(value), expected, "give a plain number")
    return float(value)
