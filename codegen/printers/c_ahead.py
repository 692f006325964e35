"""Products of a loop that changes their sources only in part: the rest is summed up ahead, for many steps at once.

One row times a matrix reads the whole matrix for little work. The rows of several steps together, for the columns of
the sources that the loop does not write (inputs above all), read it once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from codegen.ir import Loop, MatMul, Step, views_of
from codegen.walk import targets_of

ROWS = 64  # rows that are summed up together: so many steps as make up these rows
LEAST_COLUMNS = 4  # fewer are not worth a call of their own

Range = tuple[int, int]


@dataclass(frozen=True)
class Ahead:
    """A product of ``loop``: which columns of its sources are summed up ``ahead``, and which step by step."""

    product: MatMul
    ahead: tuple[Range, ...]
    inside: tuple[Range, ...]


def products_ahead(loop: Loop, private: Collection[str]) -> list[Ahead]:
    """Those of a loop. ``private``: the buffers that no statement outside of the loop touches."""
    found = []
    seen: set[str] = set()
    for statement in loop.body:
        if isinstance(statement, MatMul) and _fits(statement, loop, private, seen):
            changed = [
                (view.start, view.stop)
                for view in targets_of(loop.body)
                if view.buffer.name == statement.left.buffer.name
            ]
            free = _rest(statement.left.buffer.columns, changed)
            ahead = tuple((start, stop) for start, stop in free if stop - start >= LEAST_COLUMNS)
            if ahead:
                found.append(Ahead(statement, ahead, tuple(_rest(statement.left.buffer.columns, ahead))))
        seen |= {view.buffer.name for view in views_of(statement)}
    return found


def _fits(product: MatMul, loop: Loop, private: Collection[str], seen: Collection[str]) -> bool:
    """Whether a product's target is a step of its own, which holds nothing before it, and its matrix stays."""
    target, left = product.target, product.left
    steps = target.buffer.shape == "step" and target.whole and target.buffer.name in private
    sources = isinstance(left.time, Step) and left.whole and not product.accumulate
    changed = {view.buffer.name for view in targets_of(loop.body)}
    writers = sum(view.buffer.name == target.buffer.name for view in targets_of(loop.body))
    fresh = writers == 1 and target.buffer.name not in seen
    return steps and sources and fresh and product.right.buffer.name not in changed


def _rest(columns: int, ranges: Sequence[Range]) -> list[Range]:
    """The runs of columns in none of the ranges."""
    result, start = [], 0
    for first, last in [*sorted(ranges), (columns, columns)]:
        if first > start:
            result.append((start, first))
        start = max(start, last)
    return result
