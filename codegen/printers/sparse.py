"""The text of sparse products in an emitted module: a table of their patterns, and how they are summed.

``SPARSE`` is the module's class of patterns. Its sums gather what their entries read, rows of a history, which are
contiguous over the batch: with one sequence all entries at once, added up by ``np.add.reduceat``; with more, one entry
of every unit at a time, those with the most entries first, so that each call goes over neighbouring rows.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from codegen.ir import Buffer, Span, SparseGradient, SparseMatMul, Step, View, moved
from codegen.pattern import Pattern

SHOWN = 200  # so many numbers, or names, are written out; more are packed

SPARSE = {"np": '''
class _Sparse:
    """Where the weights of a sparse product lie: entry e leads from unit ``sources[e]`` to unit ``destinations[e]``,
    ``delays[e]`` steps later, and has the weight number ``entries[e]``, or e."""

    def __init__(self, rows, columns, weights, sources, destinations, delays, entries=None):
        self.rows, self.columns, self.weights = rows, columns, weights
        self.sources, self.destinations, self.entries = sources, destinations, entries
        self.after = delays.max() - delays  # steps after the earliest that is read
        numbers = np.arange(len(sources)) if entries is None else entries
        self.forward = _Sums(destinations, columns, self.after * rows + sources, numbers)
        self.backward = _Sums(sources, rows, (delays - delays.min()) * columns + destinations, numbers)

    def gradient(self, left, right, target):
        """For each weight the sum over its entries of left(t - delay) right(t): ``left`` (T + longest - shortest delay,
        batch, rows) begins with what the longest delay reads, ``right`` is (T, batch, columns)."""
        batch, steps = right.shape[1], right.shape[0] * right.shape[1]
        left = np.ascontiguousarray(left.transpose(2, 0, 1)).reshape(self.rows, -1)
        right = np.ascontiguousarray(right.transpose(2, 0, 1)).reshape(self.columns, -1)
        shape = self.rows, (left.shape[1] - steps) // batch + 1, steps
        strides = left.strides[0], batch * left.itemsize, left.itemsize
        windows = np.lib.stride_tricks.as_strided(left, shape, strides)  # by unit and first step
        sums = np.empty(len(self.sources), DTYPE)
        count = max(GATHERED // steps, 1)
        for start in range(0, len(sums), count):
            part = slice(start, start + count)
            read = windows[self.sources[part], self.after[part]]
            sums[part] = np.einsum("et,et->e", read, right[self.destinations[part]])
        if self.entries is None:
            target[...] = sums
        else:
            target[...] = 0.0
            target[self.entries] = sums


class _Sums:
    """For each of ``size`` units the weighted sum of what its entries read, rows of what ``start`` gives."""

    def __init__(self, units, size, rows, entries):
        order = np.argsort(units, kind="stable")
        self.size, self.rows, self.entries = size, rows[order].astype(np.intp), entries[order]
        counts = np.bincount(units, minlength=size)
        self.filled = np.flatnonzero(counts)  # the units with entries
        self.starts = (np.cumsum(counts) - counts)[self.filled]
        self.counts = counts[self.filled]
        self.table = np.concatenate([[0], np.cumsum(counts), self.rows, self.entries]).astype(np.int32)

    def start(self, weights, batch, add=False):
        """The function of (rows, target) that writes the sums, or adds them, to ``target`` (batch, size)."""
        weights = weights[self.entries]
        if batch > 1 and self.counts.max() <= MOST_ENTRIES:
            return self._by_turns(weights, batch, add)
        return self._at_once(weights, batch, add)

    def _at_once(self, weights, batch, add):
        read, weights = np.empty((len(weights), batch), DTYPE), weights[:, None]
        sums = np.empty((len(self.starts), batch), DTYPE)
        take, multiply, reduce = np.take, np.multiply, np.add.reduceat
        rows_of, starts = self.rows, self.starts
        some = len(starts) < self.size  # only some units have entries
        filled = self.filled if some else slice(None)

        def summed(rows, target):
            take(rows, rows_of, 0, read, "clip")
            multiply(read, weights, read)
            reduce(read, starts, 0, None, sums)
            if add:
                target[:, filled] += sums.T
                return
            if some:
                target[...] = 0.0
            target[:, filled] = sums.T

        return summed

    def _by_turns(self, weights, batch, add):
        order = np.argsort(-self.counts, kind="stable")  # units with many entries first
        starts, counts, units = self.starts[order], self.counts[order], self.filled[order]
        turns = []
        for turn in range(counts[0]):
            chosen = starts[: np.count_nonzero(counts > turn)] + turn
            turns.append((len(chosen), self.rows[chosen], weights[chosen, None]))
        read, sums = np.empty((len(units), batch), DTYPE), np.empty((len(units), batch), DTYPE)
        turns = [(read[:count], sums[:count], rows, factors) for count, rows, factors in turns]
        take, multiply, plus = np.take, np.multiply, np.add
        first, rest, some = turns[0], turns[1:], len(units) < self.size

        def summed(rows, target):
            part, total, chosen, factors = first
            take(rows, chosen, 0, total, "clip")
            multiply(total, factors, total)
            for part, total, chosen, factors in rest:
                take(rows, chosen, 0, part, "clip")
                multiply(part, factors, part)
                plus(total, part, total)
            if add:
                target[:, units] += sums.T
                return
            if some:
                target[...] = 0.0
            target[:, units] = sums.T

        return summed


MOST_ENTRIES = 128  # of a unit, up to which sums are added up by turns
GATHERED = 1 << 16  # numbers that are gathered at once for a gradient


def _each_step(history, first, count, steps):
    """The rows of a history that each step reads, ``count`` of them, as one axis."""
    batch = history.shape[2]
    return [history[k : k + count].reshape(-1, batch) for k in range(first, first + steps)]
''', "cp": '''
class _Sparse:
    """Where the weights of a sparse product lie: entry e leads from unit ``sources[e]`` to unit ``destinations[e]``,
    ``delays[e]`` steps later, and has the weight number ``entries[e]``, or e. Tables of integers for kernels."""

    def __init__(self, rows, columns, weights, sources, destinations, delays, entries=None):
        numbers = np.arange(len(sources)) if entries is None else entries
        after = delays.max() - delays  # steps after the earliest that is read
        self.forward = _Sums(destinations, columns, after * rows + sources, numbers)
        self.backward = _Sums(sources, rows, (delays - delays.min()) * columns + destinations, numbers)
        self.places = cp.asarray(np.concatenate([sources, destinations, after, numbers]).astype(np.int32))


class _Sums:
    """Which entries each of ``size`` units sums up: size + 1 numbers of first entries, then the row of a history that
    each entry reads; and the numbers of their weights."""

    def __init__(self, units, size, rows, entries):
        order = np.argsort(units, kind="stable")
        starts = np.concatenate([[0], np.cumsum(np.bincount(units, minlength=size))])
        self.table = cp.asarray(np.concatenate([starts, rows[order]]).astype(np.int32))
        self.entries = cp.asarray(entries[order])


def _each_step(history, first, count, steps):
    """The rows of a history that each step reads, ``count`` of them."""
    return [history[k : k + count] for k in range(first, first + steps)]
'''}  # fmt: skip


def packed(values: NDArray[np.int32], xp: str = "np") -> str:
    """Integers as an expression: written out where they are few."""
    if len(values) <= SHOWN:
        return f"{xp}.array({values.tolist()!r})"
    return f"_unpacked({packed_text(values.astype('<i4').tobytes())})"


def packed_text(data: bytes) -> str:
    """Bytes as the text of a tuple of strings, one a line."""
    text = base64.b85encode(zlib.compress(data)).decode("ascii")
    lines = "\n".join(f'    "{text[k : k + 110]}",' for k in range(0, len(text), 110))
    return f"(\n{lines}\n)"


def patterns_text(xp: str, patterns: Mapping[Pattern, str]) -> str:
    """The class of patterns, and those of a module by name."""
    if not patterns:
        return ""
    texts = ["\n".join(_pattern_lines(name, pattern)) for pattern, name in patterns.items()]
    return "\n" + SPARSE[xp] + "\n\n" + "\n".join(texts) + "\n"


def _pattern_lines(name: str, pattern: Pattern) -> list[str]:
    """The assignment that makes a pattern."""
    columns = [pattern.sources, pattern.destinations, pattern.delays]
    if not pattern.in_order:
        columns.append(pattern.entries)
    words = ("sources", "destinations", "delays", "entries")
    numbers = ", ".join(map(str, (pattern.rows, pattern.columns, pattern.weights)))
    lines = [f"{name} = _Sparse(", f"    {numbers},"]
    for word, values in zip(words, columns, strict=False):
        first, *rest = f"{word}={packed(values)},".splitlines()
        lines += [f"    {first}", *(f"    {line}" for line in rest)]
    return [*lines, ")"]


def reach(statement: SparseMatMul | SparseGradient) -> tuple[int, int]:
    """The first and the last row that a step reads, counted from that of t."""
    steps = statement.pattern.steps
    if isinstance(statement, SparseMatMul) and statement.transposed:
        return steps[0], steps[-1]
    return -steps[-1], -steps[0]


def first_row(source: View, first: int) -> int:
    """The row of a history with which the first step's begin."""
    if isinstance(source.time, Step):
        return source.time.offset + first
    assert isinstance(source.time, Span), "a history without a time"
    return source.time.start.constant + first


def gathered_rows(statement: SparseGradient) -> View:
    """What the gradient reads of the left sequence, from what the longest delay reads on."""
    first, last = reach(statement)
    start, stop = moved(statement.left, first).time, moved(statement.left, last).time
    assert isinstance(start, Span) and isinstance(stop, Span)
    left = statement.left
    return View(left.buffer, Span(start.start, stop.stop), left.start, left.stop, label=left.label)


def history_shape(buffer: Buffer, length: str) -> str:
    """The shape of a history."""
    return f"({length}, {buffer.columns}, batch)"
