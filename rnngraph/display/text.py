"""Numbered equations as plain text, one line each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rnngraph.display.inline import DisplayEquation, inline
from rnngraph.display.legend import heading, legend
from rnngraph.display.notation import PRODUCT, TANGENT, Piece, Signs
from rnngraph.display.writer import Writer
from rnngraph.system_like import SystemLike


def as_text(system: SystemLike, equations: Sequence[DisplayEquation] | None = None) -> str:
    """The equations of ``system`` in sections, with a legend; one line per equation. A rule other than bptt is named in
    the first line.

    ``equations`` is ``inline(system)``, for callers that have it already.
    """
    equations = inline(system) if equations is None else equations
    writer = TextWriter(system)
    width = len(f"({len(equations)})")
    title = heading(system)
    lines: list[str] = [title] if title else []
    section = ""
    for equation in equations:
        if equation.section != section:
            lines += ["", equation.section] if lines else [equation.section]
            section = equation.section
        lines.append(f"  {f'({equation.number})':>{width}} {writer.line(equation)}")
    lines += ["", "Where", *(f"  {line}" for line in legend(system, writer, {each.name for each in equations}))]
    return "\n".join(lines)


def equation_lines(system: SystemLike, equations: Sequence[DisplayEquation] | None = None) -> list[tuple[int, str]]:
    """Number and text of every equation, as :func:`as_text` shows them."""
    writer = TextWriter(system)
    return [(equation.number, writer.line(equation)) for equation in equations or inline(system)]


def equation_numbers(
    system: SystemLike, equations: Sequence[DisplayEquation] | None = None, absorbed: bool = True
) -> dict[str, int]:
    """Signal or total -> number of its equation.

    An inlined signal has the number of the equation that absorbed it; it is left out where ``absorbed`` is False.
    """
    numbers: dict[str, int] = {}
    for equation in equations or inline(system):
        for name in (equation.name, *(equation.absorbed if absorbed else ())):
            numbers[name] = equation.number
    return numbers


def quoted(name: str) -> str:
    """``name`` as it stands if it is an identifier, else in double quotes with everything unprintable escaped."""
    if name.isidentifier():
        return name
    escaped = "".join(
        f"\\{character}" if character in '"\\' else character if character.isprintable() else _escape(character)
        for character in name
    )
    return f'"{escaped}"'


def _escape(character: str) -> str:
    return f"\\u{ord(character):04x}" if ord(character) <= 0xFFFF else f"\\U{ord(character):08x}"


class TextWriter(Writer):
    """Plain text: ``*`` is elementwise, juxtaposition a matrix product."""

    signs = Signs("t = 1..T", "t <= 0", "t > T", "*", "x", "1/(T batch)", "<-")

    def line(self, equation: DisplayEquation) -> str:
        """The equation on one line."""
        return f"{self.left(equation)} = {self.right(equation)}"

    def name(self, name: str) -> str:
        return quoted(name)

    def derivative(self, name: str, entry: str = "") -> str:
        return f"dL/d{quoted(name)}{entry}"

    def tangent(self, text: str) -> str:
        return TANGENT + text

    def power(self, base: str, exponent: str) -> str:
        return f"{base}^{exponent}"

    def multiply(self, left: Piece, right: Piece) -> str:
        return f"{left.text} * {right.text}"

    def divide(self, top: Piece, bottom: Piece) -> str:
        return f"{self._hold(top, PRODUCT).text} / {self._hold(bottom, PRODUCT + 1).text}"

    def call(self, function: str, arguments: list[str]) -> str:
        return f"{function}({', '.join(arguments)})"

    def bracket(self, text: str) -> str:
        return f"({text})"

    def transpose(self, text: str) -> str:
        return f"{text}^T"

    def matrix_product(self, left: str, right: str) -> str:
        return f"{left} {right}"

    def sum_units(self, text: str) -> str:
        return f"sum_units({text})"

    def sum_index(self, index: str, text: str) -> str:
        return f"sum_{index}({text})"

    def over_delays(self, operator: str, index: str, text: str) -> str:
        return f"{operator} over {index} of {text}"

    def log_sum_exp(self, text: str) -> str:
        return f"log sum_units(exp({text}))"

    def sum_time(self, text: str) -> str:
        return f"sum over t of {text}"

    def sum_outside(self, text: str, times: str) -> str:
        return f"sum over {times} of {text}"

    def fraction(self, top: int, bottom: int) -> str:
        return f"{top}/{bottom}"

    def math(self, text: str) -> str:
        return text

    def note(self, text: str) -> str:
        return "".join(character if character.isprintable() else _escape(character) for character in text)


def shape_text(shape: Iterable[int]) -> str:
    """(3, 16) as 3x16."""
    return "x".join(str(length) for length in shape) or "number"
