"""Numbers and comments of portable C99: exact numbers, and text that cannot end the comment that it stands in."""

from __future__ import annotations

import textwrap
import unicodedata

import numpy as np
from numpy.typing import NDArray

from codegen.names import comment_text

WIDTH = 108


def number_text(value: float, dtype: str) -> str:
    """The shortest text that is this number in the float type."""
    value = value or 0.0  # not -0.0
    return f"{np.float32(value)!s}f" if dtype == "float32" else repr(float(value))


def array_lines(declaration: str, values: NDArray[np.float64], dtype: str) -> list[str]:
    """The definition of an array, each row of ``values`` beginning on a line of its own, but for a single column."""
    values = values.reshape(1, -1) if values.shape[1] == 1 else values
    lines = [f"{declaration} = {{"]
    for row in values:
        text = ", ".join(number_text(value, dtype) for value in row.tolist()) + ","
        lines += textwrap.wrap(text, WIDTH, initial_indent="    ", subsequent_indent="    ")
    return [*lines, "};"]


def comment_lines(text: str) -> list[str]:
    """A comment of as many lines as it takes."""
    return wrapped(f"/* {block_comment(text)} */", "   ")


def wrapped(text: str, indent: str) -> list[str]:
    """An equation or a sentence on as many lines as it takes: no weight stands apart from what it multiplies, and no
    sign from what it adds."""
    for sign in ("^T ", " + ", " - ", " = "):
        text = text.replace(sign, f"{sign[:-1]}\0")
    lines = textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return [line.replace("\0", " ") for line in lines]


def _plain(letter: str) -> str:
    return letter if letter.isascii() else f"[u{ord(letter):04x}]"


def block_comment(text: str) -> str:
    """Text that is safe within a block comment: ASCII, one line, no trigraph, neither the comment's end nor another's
    begin. A letter that is not ASCII loses its accents, or is named: [u03b2]."""
    letters = comment_text(unicodedata.normalize("NFKD", text))
    plain = "".join(_plain(letter) for letter in letters if not unicodedata.combining(letter))
    for harmful in ("*/", "/*", "??"):
        while harmful in plain:
            plain = plain.replace(harmful, f"{harmful[0]} {harmful[1]}")
    return plain
