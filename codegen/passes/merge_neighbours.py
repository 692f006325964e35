"""Merge equal calls on neighbouring columns into one call: the gates of an LSTM get one tanh.

Before and after: the same elements get the same values; statements are reordered only where they do not touch the same
memory. Loops are barriers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from codegen.ir import Apply, Function, Loop, Statement, View
from codegen.overlap import neighbours, same_place
from codegen.passes.dependencies import dependencies


def merge_neighbours(function: Function) -> Function:
    """See the module's docstring."""
    return dataclasses.replace(function, body=_merge_body(function.body))


def _merge_body(body: Sequence[Statement]) -> tuple[Statement, ...]:
    result: list[Statement] = []
    segment: list[Statement] = []
    for statement in body:
        if isinstance(statement, Loop):
            result.extend(_merge_segment(segment))
            segment = []
            result.append(dataclasses.replace(statement, body=_merge_body(statement.body)))
        else:
            segment.append(statement)
    return (*result, *_merge_segment(segment))


def _merge_segment(segment: list[Statement]) -> list[Statement]:
    """Take statements in order; with each take its ready neighbours."""
    waits_for = dependencies(segment)
    done: set[int] = set()
    emitted: list[Statement] = []
    calls = [index for index, statement in enumerate(segment) if isinstance(statement, Apply)]
    by_start: dict[tuple[str, str, int], list[int]] = {}
    by_stop: dict[tuple[str, str, int], list[int]] = {}
    for index in calls:
        call = segment[index]
        assert isinstance(call, Apply)
        by_start.setdefault((call.function, call.target.buffer.name, call.target.start), []).append(index)
        by_stop.setdefault((call.function, call.target.buffer.name, call.target.stop), []).append(index)
    for index, statement in enumerate(segment):
        if index in done:
            continue
        group = {index}
        merged = statement
        while isinstance(merged, Apply):
            key = merged.function, merged.target.buffer.name
            beside = by_start.get((*key, merged.target.stop), []) + by_stop.get((*key, merged.target.start), [])
            for partner in beside:
                joined = _join(merged, segment[partner])
                if partner not in done | group and waits_for[partner] <= done and joined is not None:
                    merged = joined
                    group.add(partner)
                    break
            else:
                break
        done |= group
        emitted.append(merged)
    return emitted


def _join(first: Statement, second: Statement) -> Apply | None:
    """One call for both, or None when they do not fit side by side."""
    if not isinstance(first, Apply) or not isinstance(second, Apply) or first.function != second.function:
        return None
    if second.target.stop == first.target.start:
        first, second = second, first
    target = neighbours(first.target, second.target)
    if target is None or len(first.arguments) != len(second.arguments):
        return None
    arguments: list[View | float] = []
    for left, right in zip(first.arguments, second.arguments, strict=True):
        if isinstance(left, View) and isinstance(right, View):
            if _broadcast(left, right, first.target, second.target):
                arguments.append(left)
                continue
            joined = neighbours(left, right)
            if joined is None or (left.columns, right.columns) != (first.target.columns, second.target.columns):
                return None
            arguments.append(joined)
        elif left == right:
            arguments.append(left)
        else:
            return None
    wide = [view for view in (target, *arguments) if isinstance(view, View) and view.columns == target.columns]
    narrow = [view for view in arguments if isinstance(view, View) and 1 < view.columns < target.columns]
    if narrow and not all(view.columns == own.width for view in narrow for own in wide if own.buffer.groups > 1):
        return None
    if narrow and not any(view.buffer.groups > 1 for view in wide):
        return None  # rows of columns: nothing says by which groups to repeat the operand
    note = "; ".join(dict.fromkeys(filter(None, (first.note, second.note))))
    return Apply(target, first.function, tuple(arguments), note)


def _broadcast(left: View, right: View, first: View, second: View) -> bool:
    """Whether one operand serves both calls: a single column, or one group's width where the calls are shown by
    group."""
    if not same_place(left, right):
        return False
    if left.columns == 1:
        return first.columns > 1
    return left.columns == min(first.columns, second.columns) and max(first.columns, second.columns) % left.columns == 0
