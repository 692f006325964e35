"""Products with taps -> C: sources at several delays side by side, some rows at a time, or the gradient of a matrix.

Forward, each thread lays the sources of some rows side by side, which stay in the cache, and multiplies them by the
packed matrix. In the gradient a signal's columns are turned into rows once for all its taps: a tap is a place in them.
"""

from __future__ import annotations

from collections.abc import Sequence

from codegen.ir import MatMul, Span, StackMatMul, Taps, View
from codegen.printers.c_matmul import MatrixText
from codegen.printers.c_places import Places, has_rows
from codegen.printers.c_products import SUMMED_ROWS, padded
from codegen.printers.c_text import comment_lines

STACKED = 1 << 15  # numbers that the stacked sources of a thread may be, to stay in the second cache
FEWEST_ROWS, MOST_ROWS = 24, 240  # of them

STACKS = r"""
/* Rows of `count` taps side by side: tap k holds `size` numbers of the row that lies k * apart rows on. */
void stack_rows(
    long rows, long count, long size, long apart, const real *source, long stride, real *target, long target_stride)
{
    if (size == 1) {
        for (long row = 0; row < rows; ++row, source += stride, target += target_stride) {
            const real *from = source;
            for (long tap = 0; tap < count; ++tap, from += apart * stride) {
                target[tap] = *from;
            }
        }
        return;
    }
    for (long row = 0; row < rows; ++row, source += stride, target += target_stride) {
        real *place = target;
        const real *from = source;
        for (long tap = 0; tap < count; ++tap, from += apart * stride, place += size) {
            long j = 0;
            for (; j + LANES <= size; j += LANES) {
                *(vector *)(place + j) = *(const vector *)(from + j);
            }
            for (; j < size; ++j) {
                place[j] = from[j];
            }
        }
    }
}

/* target = taps^T @ right, or += with `add`: a sum over no more than SUMMED_ROWS rows. The right side is packed, the
   taps are as stack_rows has them. `turned`: count * SUMMED_ROWS * size numbers. */
void taps_gradient(
    long rows, long count, long size, long apart, const real *source, long stride, real *turned, const real *packed,
    long columns, real *target, long target_stride, int add)
{
    const long reach = (count - 1) * apart, more = reach < 0 ? -reach : reach;
    if (more > (count - 1) * SUMMED_ROWS) { /* taps so far apart have little in common */
        for (long tap = 0; tap < count; ++tap, source += apart * stride, target += size * target_stride) {
            turn_rows(turned, rows, 0, source, rows, size, stride);
            product(size, 0, rows, rows, columns, turned, rows, packed, target, target_stride, add, 0);
        }
        return;
    }
    const long height = rows + more;
    const real *const first = turned + (reach < 0 ? more : 0); /* tap 0 */
    turn_rows(turned, height, 0, reach < 0 ? source + reach * stride : source, height, size, stride);
    if (count > size) { /* the taps of a column at once */
        for (long i = 0; i < size; ++i) {
            product(
                count, 0, rows, rows, columns, first + i * height, apart, packed, target + i * target_stride,
                size * target_stride, add, 0);
        }
        return;
    }
    for (long tap = 0; tap < count; ++tap) {
        product(
            size, 0, rows, rows, columns, first + tap * apart, height, packed, target + tap * size * target_stride,
            target_stride, add, 0);
    }
}
"""


def has_stack_text(statement: StackMatMul) -> bool:
    """Whether C does such a product."""
    sides = [
        statement.right if statement.transposed else statement.target,
        *(taps.source for taps in statement.stack.taps),
    ]
    matrix = statement.target if statement.transposed else statement.right
    upright = not (statement.transposed and matrix.transposed)
    return upright and matrix.rows is not None and all(map(_has_steps, sides))


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
        self.stack = _scratch(places, "stack", self.rows * self.depth)

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
            source = taps.source
            body += [
                "stack_rows(",
                f"    height, {_shape(taps)}, {places.place(source)} + first * {source.buffer.columns},"
                f" {source.buffer.columns}, {_plus('stacked', start)}, {depth});",
            ]
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
        self.scratch = _scratch(places, "scratch_of_gradient", self.size)

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
            source = taps.source
            body += [
                "taps_gradient(",
                f"    height, {_shape(taps)}, {places.place(source)} + first * {source.buffer.columns},"
                f" {source.buffer.columns}, turned,",
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


def _has_steps(view: View) -> bool:
    return has_rows(view.buffer) and isinstance(view.time, Span)


def _scratch(places: Places, name: str, size: int) -> str:
    """What each thread has so many numbers of."""
    number = len(places.scratch)
    found = places.names.name((name, number), f"{name}_{number}")
    places.scratch[found] = (size, "each")
    return found


def _placed(taps: Sequence[Taps]) -> list[tuple[int, Taps]]:
    """Taps and the first of their columns in the stack."""
    starts = [0]
    for each in taps:
        starts.append(starts[-1] + each.count * each.source.columns)
    return list(zip(starts, taps, strict=False))


def _shape(taps: Taps) -> str:
    """How many taps, how wide, how many rows apart."""
    apart = f"{taps.spacing} * batch" if taps.spacing else "0"
    return f"{taps.count}, {taps.source.columns}, {apart}"


def _plus(place: str, more: int) -> str:
    return f"{place} + {more}" if more else place
