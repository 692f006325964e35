"""Sparse products and their histories -> C: calls of a few functions that stand before those of the regions."""

from __future__ import annotations

from codegen.ir import Bound, Span, SparseMatMul, Step, Turn, View
from codegen.printers.c_places import VECTORS, Places, bracketed, rows_of
from codegen.printers.c_text import comment_lines
from codegen.printers.sparse import reach
from codegen.printers.views import bound_text

FUNCTIONS = """
/* A table tells which entries each unit sums up: units + 1 numbers of first entries, then for each entry the row of a
   history that it reads, and the number of its weight. A row of a history holds one unit's values for the whole batch;
   a thread reads and writes ``rows`` of its sequences. */

static void order_weights(real *ordered, const int *table, long units, const real *weights)
{
    const int *const numbers = table + units + 1 + table[units];
    for (long entry = 0; entry < table[units]; ++entry) ordered[entry] = weights[numbers[entry]];
}

static void turn(real *history, const real *source, long steps, long units, long stride, long rows, long batch)
{
    for (long step = 0; step < steps; ++step, history += units * batch, source += stride * batch) {
        for (long row = 0; row < rows; ++row) {
            for (long unit = 0; unit < units; ++unit) history[unit * batch + row] = source[row * stride + unit];
        }
    }
}

static void sums_of_step(const int *table, long units, const real *weights, const real *history,
    real *target, long stride, long rows, long batch, int add)
{
    const int *const read = table + units + 1;
    for (long unit = 0; unit < units; ++unit) {
        const int first = table[unit], last = table[unit + 1];
        if (rows == 1) {
            real sum = 0;
            for (int entry = first; entry < last; ++entry) sum += weights[entry] * history[read[entry] * batch];
            target[unit] = add ? target[unit] + sum : sum;
            continue;
        }
        for (long start = 0; start < rows; start += 16) {
            const long count = rows - start < 16 ? rows - start : 16;
            real sums[16] = {0};
            for (int entry = first; entry < last; ++entry) {
                const real *const values = history + read[entry] * batch + start;
                const real weight = weights[entry];
                if (count == 16) {
                    for (int k = 0; k < 16; ++k) sums[k] += weight * values[k];
                } else {
                    for (int k = 0; k < count; ++k) sums[k] += weight * values[k];
                }
            }
            for (int k = 0; k < count; ++k) {
                real *const place = target + (start + k) * stride + unit;
                *place = add ? *place + sums[k] : sums[k];
            }
        }
    }
}

static void sparse_sums(const int *table, long units, const real *weights, const real *history, long width,
    real *target, long stride, long steps, long rows, long batch, int add)
{
    for (long step = 0; step < steps; ++step, history += width * batch, target += stride * batch) {
        sums_of_step(table, units, weights, history, target, stride, rows, batch, add);
    }
}
"""


def turn_lines(statement: Turn, places: Places) -> list[str]:
    """The rows of a history; in a ring they stand twice."""
    target, source = statement.target, statement.source
    columns = target.buffer.columns
    rest = (
        f"{places.place(source)}, {_steps(target)}, {columns}, {source.buffer.columns}, {places.count(source)}, batch"
    )
    starts = [_history(target, 0, places)]
    if places.ring:
        starts.append(f"{starts[0]} + {target.buffer.length.constant // 2} * batch * {columns}")
    return [f"turn({start}, {rest});" for start in starts]


def sparse_lines(statement: SparseMatMul, places: Places) -> tuple[str, list[str]]:
    """What brings the weights into the order of the entries, once; and the call that sums up."""
    pattern, target, source = statement.pattern, statement.target, statement.source
    units = pattern.rows if statement.transposed else pattern.columns
    number = len(places.tables)
    back = "_back" if statement.transposed else ""
    table = places.names.name(("table", number), f"table_{pattern.name}{back}")
    ordered = places.reserve(f"ordered_{pattern.name}{back}", len(pattern), "one")
    places.tables[table] = pattern, statement.transposed
    before = f"order_weights({ordered}, {table}, {units}, {_vector(statement.values, places)});"
    history = _history(source, reach(statement)[0], places)
    sides = f"{history}, {source.buffer.columns}, {places.place(target)}, {target.buffer.columns}"
    lengths = f"{_steps(target)}, {places.count(target)}, batch, {int(statement.accumulate)}"
    call = f"sparse_sums({table}, {units}, {ordered}, {sides}, {lengths});"
    return before, [*comment_lines(statement.note.split("; ")), call]


def _history(view: View, steps: int, places: Places) -> str:
    """The address of the thread's sequences in the row so many steps from that of a view."""
    base = places.hold(view.buffer)
    if isinstance(view.time, Step):
        row = places.row(view, Step(view.time.offset + steps), "t")
    else:
        assert isinstance(view.time, Span), "a history without a time"
        row = bracketed(bound_text(Bound(view.time.start.constant + steps, view.time.start.times)))
    terms = [] if row == "0" else [f"{row} * batch * {view.buffer.columns}"]
    return " + ".join([base, *terms, *(["from"] if places.shared else [])])


def _vector(view: View, places: Places) -> str:
    """The address of a vector, outside of the blocks that declare pointers."""
    assert view.rows is not None
    start = view.rows[0] * view.buffer.columns + view.start
    if view.buffer.storage in VECTORS:
        base, start = VECTORS[view.buffer.storage], start + view.buffer.offset
    else:
        base = places.hold(view.buffer)
    return f"{base} + {start}" if start else base


def _steps(view: View) -> str:
    return bound_text(rows_of(view))
