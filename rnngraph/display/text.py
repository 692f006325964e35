"""Numbered equations as plain text, one line each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rnngraph.display.inline import DisplayEquation, SystemLike, inline
from rnngraph.display.writer import PRODUCT, TANGENT, Piece, Writer
from rnngraph.equations import BoundarySum

MATRIX_PARAMETERS = 2


def as_text(system: SystemLike, equations: Sequence[DisplayEquation] | None = None) -> str:
    """The equations of ``system`` in sections, with a legend; one line per equation.

    ``equations`` is ``inline(system)``, for callers that have it already.
    """
    equations = inline(system) if equations is None else equations
    writer = TextWriter(system)
    width = len(f"({len(equations)})")
    lines: list[str] = []
    section = ""
    for equation in equations:
        if equation.section != section:
            lines += ["", equation.section] if lines else [equation.section]
            section = equation.section
        lines.append(f"  {f'({equation.number})':>{width}} {writer.line(equation)}")
    lines += ["", "Where", *(f"  {line}" for line in legend(system, writer))]
    return "\n".join(lines)


def equation_lines(system: SystemLike, equations: Sequence[DisplayEquation] | None = None) -> list[tuple[int, str]]:
    """Number and text of every equation, as :func:`as_text` shows them."""
    writer = TextWriter(system)
    return [(equation.number, writer.line(equation)) for equation in equations or inline(system)]


def equation_numbers(system: SystemLike, equations: Sequence[DisplayEquation] | None = None) -> dict[str, int]:
    """Signal or total -> number of its equation; for an inlined signal, of the equation that absorbed it."""
    numbers: dict[str, int] = {}
    for equation in equations or inline(system):
        for name in (equation.name, *equation.absorbed):
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

    def line(self, equation: DisplayEquation) -> str:
        """The equation on one line."""
        return f"{self.left(equation)} = {self.right(equation)}"

    def name(self, name: str) -> str:
        return quoted(name)

    def derivative(self, name: str) -> str:
        return f"dL/d{quoted(name)}"

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

    def log_sum_exp(self, text: str) -> str:
        return f"log sum_units(exp({text}))"

    def sum_time(self, text: str, before: bool) -> str:
        return f"sum over t <= 0 of {text}" if before else f"sum over t of {text}"

    def fraction(self, top: int, bottom: int) -> str:
        return f"{top}/{bottom}"


def legend(system: SystemLike, writer: TextWriter) -> list[str]:
    """Sizes, shapes, values outside 1..T and what the signs mean."""
    signals = system.signals.values()
    lines = ["t = 1..T; a sum over t is over the sequences of the batch, too; * multiplies unit by unit"]
    for kind in ("input", "unit"):
        named = [f"{writer.name(each.name)}(t) {each.size}" for each in signals if each.kind == kind]
        if named:
            lines.append(f"units of each {'input' if kind == 'input' else 'layer'}: {', '.join(named)}")
    lines.append(f"outputs: {', '.join(writer.name(name) for name in system.outputs)}")
    if system.parameters:
        shapes = [f"{writer.name(name)} {shape_text(shape)}" for name, shape in system.parameters.items()]
        lines.append(f"parameters: {', '.join(shapes)}")
    if system.constants:
        shapes = [f"{writer.name(name)} {shape_text(value.shape)}" for name, value in system.constants.items()]
        lines.append(f"constants: {', '.join(shapes)}")
    if any(len(shape) == MATRIX_PARAMETERS for shape in system.parameters.values()):
        lines.append("W^T is the transpose of W; the shape of W is (units of the source, units of the destination)")
    lines += outside(system, writer)
    for signal in signals:
        if signal.kind == "weight":
            lines.append(f"{writer.name(signal.name)}(t): weight of step t of a sequence, 1/(T batch) unless given")
    if any(signal.kind == "adjoint" for signal in signals):
        lines.append("delta_v(t) = dL/dv(t), 0 for t > T as each product with it; f' is the derivative of f")
    if any(signal.kind == "tangent" for signal in signals):
        lines.append("dot_v is the tangent of v: its derivative along the direction dot_W of each parameter W")
    if any(isinstance(part, BoundarySum) for total in system.totals for part in total.contributions):
        lines.append("at t <= 0 a delta holds what reaches back from t = 1..T alone")
    return lines


def outside(system: SystemLike, writer: Writer) -> list[str]:
    """What the signals that are read across time are outside 1..T."""
    past: set[str] = set()
    future: set[str] = set()
    for equation in system.equations:
        for read in equation.reads():
            if read.delay and system.signals[read.signal].kind in ("input", "unit"):
                (past if read.delay > 0 else future).add(read.signal)
    by_value: dict[str, list[str]] = {}
    for signal in system.signals.values():
        initial = writer.name(signal.initial) if isinstance(signal.initial, str) else f"{signal.initial:g}"
        for names, when in ((past, "t <= 0"), (future, "t > T")):
            if signal.name in names:
                by_value.setdefault(f"{initial} for {when}", []).append(f"{writer.name(signal.name)}(t)")
    return [f"{' = '.join(names)} = {value}, unless a state is given" for value, names in by_value.items()]


def shape_text(shape: Iterable[int]) -> str:
    """(3, 16) as 3x16."""
    return "x".join(str(length) for length in shape) or "number"
