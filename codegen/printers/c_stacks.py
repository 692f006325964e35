"""Products with taps -> C: sources at several delays side by side, some rows at a time, or the gradient of a matrix.

Forward, each thread lays the sources of some rows side by side, which stay in the cache, and multiplies them by the
packed matrix. In the gradient a signal's columns are turned into rows once for all its taps: a tap is a place in them.
"""

from __future__ import annotations

from collections.abc import Sequence

from codegen.ir import MatMul, StackMatMul, Taps, View
from codegen.printers.c_matmul import MatrixText
from codegen.printers.c_places import Places
from codegen.printers.c_products import SUMMED_ROWS, padded
from codegen.printers.c_text import comment_lines

STACKED = 1 << 15  # numbers that the stacked sources of a thread may be, to stay in the second cache
FEWEST_ROWS, MOST_ROWS = 24, 240  # of them


def stack_operations(statement: StackMatMul) -> int:
    """How many operations one row is."""
    columns = statement.right.columns if statement.transposed else statement.target.columns
    return 2 * statement.stack.buffer.columns * columns


class StackedRowsText:
    """The product of stacked sources by a matrix."""

    def __init__(self, statement: StackMatMul, places: Places) -> None:
        self.statement = statement
        self.places = places
        self.depth = statement.stack.buffer.columns
        whole = View(statement.stack.buffer, statement.target.time, 0, self.depth)
        self.matrix = MatrixText(MatMul(statement.target, whole, statement.right), places)
        self.rows = min(max(STACKED // self.depth, FEWEST_ROWS), MOST_ROWS)
        self.stack = places.reserve(f"stack_{len(places.scratch)}", self.rows * self.depth, "each")

    def lines(self) -> list[str]:
        """The thread's rows of all steps."""
        statement, places, depth = self.statement, self.places, self.depth
        target = statement.target
        own = f"{self.stack} + thread * {self.rows * depth}"
        lines = [*comment_lines(statement.note.split("; ")), f"real *const stacked = {own};"]
        if statement.stack.ones:
            ones = f"stacked[i * {depth} + {depth - 1}] = 1;"
            lines += [f"for (long i = 0; i < rows && i < {self.rows}; ++i) {{", f"    {ones}", "}"]
        body = [f"const long height = rows - first < {self.rows} ? rows - first : {self.rows};"]
        for start, taps in _placed(statement.stack.taps):
            body += ["stack_rows(", f"    {_signal(taps, places)}, {_plus('stacked', start)}, {depth});"]
        body += [
            "product(",
            f"    height, 0, {depth}, {depth}, {target.columns}, stacked, {depth}, {self.matrix.name},"
            f" {places.place(target)} + first * {target.buffer.columns}, {target.buffer.columns}, 0, 0);",
        ]
        head = f"for (long first = 0; first < rows; first += {self.rows}) {{"
        return [*lines, head, *("    " + line for line in body), "}"]


class StackedGradientText:
    """The sum over all rows of stacked sources, turned, and a right side: each thread has a part of its columns."""

    def __init__(self, statement: StackMatMul, places: Places) -> None:
        self.statement = statement
        self.places = places
        self.columns = statement.right.columns
        self.widest = max(taps.count * taps.source.columns for taps in statement.stack.taps)
        self.size = SUMMED_ROWS * (self.widest + padded(self.columns) + 1)
        self.scratch = places.reserve(f"scratch_of_gradient_{len(places.scratch)}", self.size, "each")

    def lines(self) -> list[str]:
        """All rows of all steps."""
        statement, places = self.statement, self.places
        right, target = statement.right, statement.target
        place, stride = places.place(target), target.buffer.columns
        lines = [
            *comment_lines(statement.note.split("; ")),
            f"const long column = share({self.columns}, thread, team);",
            f"const long columns = share({self.columns}, thread + 1, team) - column;",
            f"real *const turned = {self.scratch} + thread * {self.size};",
            f"real *const packed = turned + {SUMMED_ROWS * self.widest};",
        ]
        if statement.stack.ones:
            lines += [
                f"real *const ones = packed + {SUMMED_ROWS * padded(self.columns)};",
                f"for (long i = 0; i < {SUMMED_ROWS}; ++i) {{",
                "    ones[i] = 1;",
                "}",
            ]
        body = [
            f"const long height = all - first < {SUMMED_ROWS} ? all - first : {SUMMED_ROWS};",
            f"pack_rows(packed, height, 0, {places.place(right)} + first * {right.buffer.columns} + column,"
            f" height, columns, {right.buffer.columns});",
        ]
        for start, taps in _placed(statement.stack.taps):
            body += [
                "taps_gradient(",
                f"    {_signal(taps, places)}, turned,",
                f"    packed, columns, {_plus(place, start * stride)} + column, {stride}, first > 0);",
            ]
        if statement.stack.ones:
            last = _plus(place, (statement.stack.buffer.columns - 1) * stride)
            body += [
                "product(",
                f"    1, 0, height, height, columns, ones, 0, packed, {last} + column, {stride}, first > 0, 0);",
            ]
        head = f"for (long first = 0; first < all; first += {SUMMED_ROWS}) {{"
        return [*lines, head, *("    " + line for line in body), "}"]


def _placed(taps: Sequence[Taps]) -> list[tuple[int, Taps]]:
    """Taps and the first of their columns in the stack."""
    starts = [0]
    for each in taps:
        starts.append(starts[-1] + each.count * each.source.columns)
    return list(zip(starts, taps, strict=False))


def _signal(taps: Taps, places: Places) -> str:
    """The arguments about a signal: rows, taps, how wide they are, how many rows apart; where it lies, its stride."""
    source = taps.source
    apart = f"{taps.spacing} * batch" if taps.spacing else "0"
    stride = source.buffer.columns
    return f"height, {taps.count}, {source.columns}, {apart}, {places.place(source)} + first * {stride}, {stride}"


def _plus(place: str, more: int) -> str:
    return f"{place} + {more}" if more else place
