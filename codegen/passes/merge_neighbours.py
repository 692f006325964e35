"""Merge equal calls on neighbouring columns into one call: the gates of an LSTM get one tanh.

Before and after: the same elements get the same values; statements are reordered only where they do not touch the same
memory. Loops are barriers.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Sequence

from codegen.ir import Apply, Function, Loop, Staggered, Statement, View
from codegen.overlap import neighbours, same_place
from codegen.passes.dependencies import dependencies
from codegen.walk import map_bodies

Place = tuple[object, ...]


def merge_neighbours(function: Function) -> Function:
    """See the module's docstring."""
    return dataclasses.replace(function, body=_merge_body(function.body))


def _merge_body(body: Sequence[Statement]) -> tuple[Statement, ...]:
    result: list[Statement] = []
    segment: list[Statement] = []
    for statement in body:
        if isinstance(statement, Loop | Staggered):
            result.extend(_merge_segment(segment))
            segment = []
            result.append(map_bodies(statement, _merge_body))
        else:
            segment.append(statement)
    return (*result, *_merge_segment(segment))


def _merge_segment(segment: list[Statement]) -> list[Statement]:
    """Take statements in order; with each take its ready neighbours."""
    waits_for = dependencies(segment)
    done: set[int] = set()
    emitted: list[Statement] = []
    by_start: dict[Place, deque[int]] = {}
    by_stop: dict[Place, deque[int]] = {}
    for index, statement in enumerate(segment):
        if isinstance(statement, Apply):
            by_start.setdefault(_place(statement, statement.target.start), deque()).append(index)
            by_stop.setdefault(_place(statement, statement.target.stop), deque()).append(index)
    for index, statement in enumerate(segment):
        if index in done:
            continue
        group = {index}
        merged = statement
        while isinstance(merged, Apply):
            beside = (
                by_start.get(_place(merged, merged.target.stop)),
                by_stop.get(_place(merged, merged.target.start)),
            )
            for waiting in beside:
                while waiting and waiting[0] in done:
                    waiting.popleft()
                # those behind the first one write to its memory, so they wait for it
                partner = waiting[0] if waiting else index
                if partner in group or not waits_for[partner] <= done:
                    continue
                joined = _join(merged, segment[partner])
                if joined is not None:
                    merged = joined
                    group.add(partner)
                    break
            else:
                break
        done |= group
        emitted.append(merged)
    return emitted


def _place(call: Apply, column: int) -> Place:
    """Where a call that begins or ends at ``column`` of the target's rows can be beside the call."""
    target = call.target
    return call.function, target.buffer.name, target.time, target.rows, target.transposed, target.vector, column


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
