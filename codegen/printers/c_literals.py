"""Numbers and comments of portable C99: exact numbers, and text that cannot end the comment that it stands in."""

from __future__ import annotations

import textwrap

import numpy as np
from numpy.typing import NDArray

from codegen.names import comment_text

WIDTH = 108


def number_text(value: float, dtype: str) -> str:
    """The shortest text that is this number in the float type."""
    value = value or 0.0  # not -0.0
    return f"{np.float32(value)!s}f" if dtype == "float32" else repr(float(value))


def array_lines(declaration: str, values: NDArray[np.float64], dtype: str) -> list[str]:
    """The definition of an array, each row of ``values`` beginning on a line of its own."""
    lines = [f"{declaration} = {{"]
    for row in values:
        text = ", ".join(number_text(value, dtype) for value in row.tolist()) + ","
        lines += textwrap.wrap(text, WIDTH, initial_indent="    ", subsequent_indent="    ")
    return [*lines, "};"]


def comment_lines(text: str) -> list[str]:
    """A comment of as many lines as it takes."""
    return textwrap.wrap(f"/* {block_comment(text)} */", WIDTH, subsequent_indent="   ", break_long_words=False)


def block_comment(text: str) -> str:
    """Text that is safe within a block comment: ASCII, one line, no trigraph, neither the comment's end nor another's
    begin."""
    plain = comment_text(text).encode("ascii", "replace").decode()
    for harmful in ("*/", "/*", "??"):
        while harmful in plain:
            plain = plain.replace(harmful, f"{harmful[0]} {harmful[1]}")
    return plain
