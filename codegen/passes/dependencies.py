"""Which statements of a straight run must come before which: the basis of every pass that reorders."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.ir import Statement, View, views_of, written
from codegen.overlap import overlap


def dependencies(segment: Sequence[Statement]) -> list[set[int]]:
    """For each statement of a straight run, the earlier ones that write what it touches, or touch what it writes."""
    touched: dict[str, list[tuple[int, View, bool]]] = {}
    waits_for: list[set[int]] = []
    for index, statement in enumerate(segment):
        target = written(statement)
        earlier: set[int] = set()
        for view in views_of(statement):
            for other, seen, other_writes in touched.get(view.buffer.name, []):
                if (view is target or other_writes) and overlap(view, seen):
                    earlier.add(other)
        for view in views_of(statement):
            touched.setdefault(view.buffer.name, []).append((index, view, view is target))
        waits_for.append(earlier)
    return waits_for
