"""Assign, Copy, Fill -> Fused: pointwise statements of one shape become one kernel.

Before: Assigns of primitives. After: none; Copies and Fills are left only outside loops, where no Assign joined them.
An element of a kernel runs the parts in order, so a part may read the element that an earlier one wrote; a statement
that reads or overwrites other elements of what the kernel writes or reads starts a new kernel. Statements move up to
join a kernel only past statements that touch other memory.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Sequence

import sympy

from codegen.ir import Assign, Copy, Fill, Function, Fused, Loop, Span, Staggered, Statement, Step, View, views_of
from codegen.overlap import overlap, same_place
from codegen.passes.dependencies import dependencies
from codegen.walk import map_bodies

MOST_PARTS = 48  # a longer kernel would keep more values than a thread has registers
VALUE = sympy.Symbol("value", real=True)
MOMENT = re.compile(r"_t(_minus_\d+|_plus_\d+)?$")


def fuse_pointwise(function: Function) -> Function:
    """See the module's docstring."""
    return dataclasses.replace(function, body=_fuse_body(function.body, inside=False))


def _fuse_body(body: Sequence[Statement], inside: bool) -> tuple[Statement, ...]:
    result: list[Statement] = []
    segment: list[Statement] = []
    for statement in body:
        if isinstance(statement, Loop | Staggered):
            result.extend(_fuse_segment(segment, inside))
            segment = []
            result.append(map_bodies(statement, lambda body: _fuse_body(body, inside=True)))
        else:
            segment.append(statement)
    return (*result, *_fuse_segment(segment, inside))


def _fuse_segment(segment: Sequence[Statement], inside: bool) -> list[Statement]:
    waits_for = dependencies(segment)
    done: set[int] = set()
    emitted: list[Statement] = []
    for index, first in enumerate(segment):
        if index in done:
            continue
        group = [index]
        if isinstance(first, Assign | Copy | Fill):
            for k in range(index + 1, len(segment)):
                ready = k not in done and waits_for[k] <= done | set(group) and len(group) < MOST_PARTS
                if ready and _joins([segment[member] for member in group], segment[k]):
                    group.append(k)
        done.update(group)
        members = [segment[k] for k in group]
        if isinstance(first, Assign | Copy | Fill) and (inside or any(isinstance(m, Assign) for m in members)):
            emitted.append(fused([_as_assign(member) for member in members]))
        else:
            emitted.extend(members)
    return emitted


def _joins(group: Sequence[Statement], candidate: Statement) -> bool:
    """Whether the candidate has the group's shape, and meets what the group touches only element by element."""
    if not isinstance(candidate, Assign | Copy | Fill) or iteration_space(group[0]) != iteration_space(candidate):
        return False
    target, *operands = views_of(candidate)
    for member in group:
        its_target, *its_operands = views_of(member)
        pairs = [(its_target, view) for view in (target, *operands)] + [(view, target) for view in its_operands]
        if any(overlap(first, second) and not same_element(first, second) for first, second in pairs):
            return False
    return True


def same_element(first: View, second: View) -> bool:
    """Whether row r and column c of both views are one element, for all r and c."""
    return same_place(first, second) and (first.transposed, first.vector) == (second.transposed, second.vector)


def iteration_space(statement: Statement) -> tuple[object, int]:
    """What the rows of the statement's target run over, and how many columns it has."""
    view = views_of(statement)[0]
    if view.vector or view.buffer.shape == "vector":
        return 1, view.columns
    if view.rows is not None:
        return view.rows[1] - view.rows[0], view.columns
    if isinstance(view.time, Span):
        start, stop = view.time.start, view.time.stop
        return (stop.constant - start.constant, stop.times - start.times), view.columns
    return "batch", view.columns


def fused(parts: Sequence[Assign], private: Collection[str] = ()) -> Fused:
    """The kernel of the parts; it gets all their memory but that of the buffers named in ``private``."""
    targets = [part.target for part in parts]
    operands = [view for part in parts for _, view in part.operands]
    arguments = dict.fromkeys(memory_of(view) for view in (*targets, *operands) if view.buffer.name not in private)
    notes = dict.fromkeys(part.note for part in parts if part.note)
    return Fused(tuple(parts), tuple(arguments), "; ".join(notes))


def as_fused(statement: Statement) -> Fused:
    """The kernel of a single Assign, Copy or Fill."""
    return fused([_as_assign(statement)])


def _as_assign(statement: Statement) -> Assign:
    if isinstance(statement, Copy):
        return Assign(statement.target, VALUE, ((VALUE, statement.source),), statement.note)
    if isinstance(statement, Fill):
        return Assign(statement.target, sympy.Float(statement.value), (), statement.note)
    assert isinstance(statement, Assign)
    read = statement.expression.free_symbols
    return dataclasses.replace(statement, operands=tuple(pair for pair in statement.operands if pair[0] in read))


def memory_of(view: View) -> View:
    """The whole rows, or the whole buffer, that a view lies in: what a kernel gets a pointer to."""
    buffer = view.buffer
    moment = MOMENT.search(view.label) if isinstance(view.time, Step) else None
    label = view.label if view.whole else buffer.name + (moment.group() if moment else "")
    rows = (0, buffer.rows) if buffer.shape == "matrix" else None
    return View(buffer, view.time, 0, buffer.columns, rows, label=label)
