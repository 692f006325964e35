"""How a view prints in a Python module of NumPy-like arrays.

Where one call of a statement touches several groups of a blocked buffer, all its operands are shown by group:
(groups, batch, width) inside a loop, (T, groups, batch, width) outside.
"""

from __future__ import annotations

from collections.abc import Iterable

from codegen.ir import Bound, Buffer, Span, Statement, Step, View, views_of
from codegen.names import Namer

LONGEST_LINE = 120


def grouping(statement: Statement) -> int | None:
    """The width of the groups when the statement's operands must be shown by group, else None."""
    for view in views_of(statement):
        if view.buffer.groups > 1 and view.columns > view.width:
            return view.width
    return None


def bound_text(bound: Bound) -> str:
    """A length in terms of T."""
    if bound.times == 0:
        return str(bound.constant)
    return "T" if bound.constant == 0 else f"T + {bound.constant}"


def slice_text(start: Bound, stop: Bound) -> str:
    """Rows from start to stop, spaced as a formatter would."""
    first, last = bound_text(start), bound_text(stop)
    first = "" if first == "0" else first
    return f"{first} : {last}".lstrip() if "+" in first + last else f"{first}:{last}"


def wrapped(names: Iterable[str], indent: int, longest: int = 100) -> list[str]:
    """Comma-separated names in lines of at most about 100 characters."""
    lines: list[str] = []
    line = " " * indent
    for name in names:
        if len(line) + len(name) > longest:
            lines.append(line.rstrip())
            line = " " * indent
        line += f"{name}, "
    return [*lines, line.rstrip()]


def choice_lines(before: str, expression: str, after: str, indent: int) -> list[str]:
    """A line with an expression; a long ``x if condition else y`` is spread over several, what a long line notes
    stands before it."""
    space = " " * indent
    line = f"{space}{before}{expression}{after}"
    end, sign, note = after.partition("  # ")
    lines = [f"{space}# {note}"] if sign and len(line) > LONGEST_LINE else []
    if len(line) <= LONGEST_LINE:
        return [line]
    if len(f"{space}{before}{expression}{end}") <= LONGEST_LINE or " if batch == 1 else " not in expression:
        return [*lines, f"{space}{before}{expression}{end}"]
    one, _, other = expression.partition(" if batch == 1 else ")
    if one.count("(") != one.count(")"):  # the choice is one argument of a call
        return [*lines, f"{space}{before}{expression}{end}"]
    return [
        *lines, f"{space}{before}(", f"{space}    {one}", f"{space}    if batch == 1", f"{space}    else {other}",
        f"{space}){end}",
    ]  # fmt: skip


class ViewText:
    """Texts of views, given the names of buffers."""

    def __init__(self, names: Namer, constant_name: dict[str, str]) -> None:
        self.names = names
        self.constant_name = constant_name
        self.rings = False  # whether the rows of a sequence are used in cyclic order
        self.stretched = False  # whether the buffers may hold more steps than T

    def buffer(self, buffer: Buffer) -> str:
        """The buffer's name."""
        if buffer.storage == "constant":
            return self.constant_name[buffer.name]
        return self.names.name(("buffer", buffer.name), buffer.name)

    def step_name(self, view: View, shown: int | str | None) -> str:
        """The name of a step's view in a loop; ``shown`` tells the ways apart in which one view is shown."""
        key = ("step", view.buffer.name, view.time, view.start, view.stop, shown)
        return self.names.name(key, view.label or view.buffer.name)

    def whole_step(self, view: View, shown: int | None) -> str:
        """All steps of a view, first axis time: what a loop goes through. Of a ring, all rows, whichever is first."""
        assert isinstance(view.time, Step)
        rows = Span(Bound(view.time.offset), Bound(view.time.offset, 1))
        if self.rings:
            rows = Span(Bound(0), view.buffer.length)
        span = View(view.buffer, rows, view.start, view.stop)
        stretched, self.stretched = self.stretched, False
        text = "self." + self.text(span, shown if view.columns != shown else None)
        self.stretched = stretched
        return text

    def text(self, view: View, shown: int | None = None) -> str:
        """A view that is not a step of a sequence, as an expression; shown by group it is transposed already."""
        buffer = view.buffer
        if buffer.shape == "scalar":
            return self.buffer(buffer)
        if buffer.groups > 1:
            return self._blocked(view)
        text = self._rows(view)
        if shown is None or (view.columns == 1 and not view.transposed and not isinstance(view.time, Span)):
            return text
        return self._by_group(view, text, shown)

    def _rows(self, view: View) -> str:
        name, buffer = self.buffer(view.buffer), view.buffer
        columns = "" if view.whole else f"{view.start or ''}:{view.stop}"
        if isinstance(view.time, Span):
            if view.time.start == Bound(0) and view.time.stop == buffer.length and not self.stretched:
                return f"{name}[:, :, {columns}]" if columns else name
            rows = slice_text(view.time.start, view.time.stop)
            return f"{name}[{rows}, :, {columns}]" if columns else f"{name}[{rows}]"
        if buffer.shape == "matrix":
            assert view.rows is not None
            if view.vector:
                return f"{name}[{view.rows[0]}, {columns}]" if columns else f"{name}[{view.rows[0]}]"
            if view.rows == (0, buffer.rows):
                return f"{name}[:, {columns}]" if columns else name
            rows = f"{view.rows[0] or ''}:{view.rows[1]}"
            return f"{name}[{rows}, {columns}]" if columns else f"{name}[{rows}]"
        if buffer.shape == "vector":
            return f"{name}[{columns}]" if columns else name
        rows = ":, :" if view.steps > 1 else ":"
        return f"{name}[{rows}, {columns}]" if columns else name

    def by_block(self, buffer: Buffer) -> str:
        """The name of a blocked matrix as one block after the other, whatever the batch."""
        return self.names.name(("by block", buffer.name), f"{self.buffer(buffer)}_by_block")

    def _blocked(self, view: View) -> str:
        """A view of a blocked buffer: several groups keep the axis of the groups, one group loses it."""
        name, width = self.buffer(view.buffer), view.width
        first, last = view.start // width, view.stop // width
        gates = f"{first or ''}:{last}" if view.columns > width else str(first)
        if isinstance(view.time, Span):
            rows = slice_text(view.time.start, view.time.stop)
            all_rows = view.time.start == Bound(0) and view.time.stop == view.buffer.length and not self.stretched
            if view.whole:
                return name if all_rows else f"{name}[{rows}]"
            return f"{name}[{':' if all_rows else rows}, {gates}]"
        if view.buffer.shape == "matrix":
            assert view.rows is not None
            name = self.by_block(view.buffer)
            if view.vector and view.columns == width:
                return f"{name}[{gates}, {view.rows[0]}]"
            if view.rows != (0, view.buffer.rows):
                return f"{name}[{gates}, {view.rows[0]}:{view.rows[1]}]"
        return name if view.whole else f"{name}[{gates}]"

    def _by_group(self, view: View, text: str, width: int) -> str:
        """A view of rows, shown by group; one group is broadcast over all."""
        count = view.columns // width if view.columns > 1 else 1
        if isinstance(view.time, Span):
            return (
                f"{text}[:, None]"
                if count == 1
                else f"{text}.reshape(-1, batch, {count}, {width}).transpose(0, 2, 1, 3)"
            )
        if view.transposed:
            assert view.rows is not None
            count = (view.rows[1] - view.rows[0]) // width
            return f"{text}.T.reshape(-1, {count}, {width}).transpose(1, 0, 2)"
        if count == 1:
            return text
        if view.vector or view.buffer.shape == "vector":
            return f"{text}.reshape({count}, 1, {width})"
        return f"{text}.reshape(-1, {count}, {width}).transpose(1, 0, 2)"
