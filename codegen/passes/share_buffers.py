"""Sequences whose values are not needed at the same time lie in the same memory.

Before: each workspace sequence has memory of its own. After: a sequence may lie in the memory of another one, its
``host`` (``Buffer.host``), at whose start it begins or at whose end it ends. It moves in there

- where the host's values, and those of who came after it, are read for the last time before its own first are written;
- in the place of equal values that one pointwise statement reads for the last time while it writes its own: element by
  element, in place;
- in a backward loop that goes on to read the old values: step t writes the new ones beyond the rows that steps t, t-1,
  ... read. It ends where its host ends, and has no longer rows, so that it never catches up; the host gets a row more,
  or as many as the loop takes steps at once.

Nothing that is read is left from an earlier call: sequences with rows that nothing writes (padding, which reads 0), or
that are written when the workspace is made, stay as they are, and so do those of a function with an Opaque statement.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from codegen.ir import (
    Apply,
    Assign,
    Bound,
    Buffer,
    Fill,
    Function,
    Fused,
    Host,
    Loop,
    Opaque,
    Reduce,
    Span,
    Staggered,
    Statement,
    Step,
    View,
    loops_of,
    views_of,
    written,
)
from codegen.walk import map_views

Rows = tuple[Bound, Bound]


@dataclass(frozen=True)
class _Access:
    """A view of a buffer by the statement at ``place`` of the body; ``order`` counts within this statement."""

    place: int
    order: int
    view: View
    writes: bool

    @property
    def rows(self) -> Rows:
        """Which rows of the sequence it touches in the end."""
        time = self.view.time
        if isinstance(time, Step):
            return Bound(time.offset), Bound(time.offset, 1)
        assert isinstance(time, Span)
        return time.start, time.stop


@dataclass
class _Uses:
    """All that happens to one buffer."""

    buffer: Buffer
    accesses: list[_Access] = field(default_factory=list)
    fixed: bool = False  # whether it keeps memory of its own

    @property
    def first(self) -> int:
        """The place of the first statement that touches it."""
        return self.accesses[0].place

    @property
    def last(self) -> int:
        """The place of the last one."""
        return self.accesses[-1].place

    def at(self, place: int, writes: bool) -> list[_Access]:
        """Its reads or writes by one statement."""
        return [access for access in self.accesses if access.place == place and access.writes == writes]

    def without_padding(self) -> bool:
        """Whether everything that is read is written in each call."""
        bounds = sorted({bound for access in self.accesses for bound in (access.view.start, access.view.stop)})
        for start, stop in pairwise(bounds):
            inside = [each for each in self.accesses if each.view.start <= start and stop <= each.view.stop]
            written_rows = [each.rows for each in inside if each.writes]
            if not all(_covered(each.rows, written_rows) for each in inside if not each.writes):
                return False
        return True


@dataclass
class _Memory:
    """The memory of ``root``, which it grows ``length`` rows long, and who is in it at present."""

    root: Buffer
    length: Bound
    tenant: _Uses
    at_end: bool = False
    shared: bool = False


def share_buffers(
    function: Function,
    given: Collection[str] = (),
    threads: bool = False,
    whole: Callable[[Statement], bool] = lambda statement: False,
) -> Function:
    """See the module's docstring. ``given``: buffers that the printer does not make, or makes in another form.

    With ``threads``, which go through a loop at a pace of their own, each for a part of the batch, nothing moves in
    within a loop; and no host gets another length. Nor does anything move in within a loop that is printed ``whole``,
    not step by step.
    """
    if function.name == "stream" or any(isinstance(statement, Opaque) for statement in function.body):
        return function
    memories: list[_Memory] = []
    hosts: dict[str, Host] = {}
    for uses in sorted(_uses(function, given), key=lambda uses: uses.first):
        fitting = [
            (memory, found) for memory in memories if (found := _place(memory, uses, function.body, threads, whole))
        ]
        if not fitting:
            memories.append(_Memory(uses.buffer, uses.buffer.length, uses))
            continue
        memory, (at_end, length) = min(fitting, key=lambda each: each[0].root.columns)
        memory.tenant, memory.at_end, memory.length, memory.shared = uses, at_end, length, True
        hosts[uses.buffer.name] = Host(memory.root.name, at_end)
    lengths = {memory.root.name: memory.length for memory in memories if memory.shared}

    def changed(view: View) -> View:
        name = view.buffer.name
        if name in hosts:
            return dataclasses.replace(view, buffer=dataclasses.replace(view.buffer, host=hosts[name]))
        if name in lengths:
            return dataclasses.replace(view, buffer=dataclasses.replace(view.buffer, length=lengths[name]))
        return view

    return dataclasses.replace(function, body=tuple(map_views(statement, changed) for statement in function.body))


def _place(
    memory: _Memory,
    uses: _Uses,
    body: tuple[Statement, ...],
    threads: bool,
    whole: Callable[[Statement], bool],
) -> tuple[bool, Bound] | None:
    """If the buffer can move in: whether at the memory's end, and how long the root must then be."""
    found, statement = _any_place(memory, uses, body), body[uses.first]
    within_loop = memory.tenant.last == uses.first and isinstance(statement, Loop | Staggered)
    if found is None or (within_loop and (threads or whole(statement))) or (threads and found[1] != memory.length):
        return None
    return found


def _any_place(memory: _Memory, uses: _Uses, body: tuple[Statement, ...]) -> tuple[bool, Bound] | None:
    old, new = memory.tenant.buffer, uses.buffer
    if new.columns > memory.root.columns or memory.tenant.last > uses.first:
        return None
    if memory.tenant.last < uses.first:
        return False, _longer(memory, _rows_for(new, memory.root))
    statement = body[uses.first]
    if isinstance(statement, Apply | Assign | Fused):
        alike = (old.columns, old.length, old.groups) == (new.columns, new.length, new.groups)
        return (memory.at_end, memory.length) if alike and _in_place(memory.tenant, uses) else None
    if not isinstance(statement, Loop) or not statement.backward or memory.at_end or old.columns < new.columns:
        return None
    reads, writes = memory.tenant.at(uses.first, False), uses.at(uses.first, True)
    if memory.tenant.at(uses.first, True) or not writes or memory.root.columns != old.columns:
        return None
    read = max(each.rows[0].constant for each in reads) + statement.steps - 1
    wrote = min(each.rows[0].constant for each in writes)
    if wrote > 1:
        return None
    beyond = (new.length.constant + 1 - wrote) * new.columns
    return True, _longer(memory, read - (-beyond // old.columns))


def _rows_for(new: Buffer, root: Buffer) -> int:
    """How many rows beside T the root needs to hold the buffer, for any T."""
    if new.columns == root.columns:
        return new.length.constant
    return -(-(1 + new.length.constant) * new.columns // root.columns) - 1


def _longer(memory: _Memory, constant: int) -> Bound:
    return Bound(max(memory.length.constant, constant), 1)


def _in_place(old: _Uses, new: _Uses) -> bool:
    """Whether one statement writes the new values over the old ones, each in the place of those that it read."""
    reads, writes = old.at(new.first, False), new.at(new.first, True)
    places = {
        (each.view.time, each.view.start, each.view.stop) for each in (*reads, *new.at(new.first, False), *writes)
    }
    alone = not old.at(new.first, True) and bool(writes) and len(places) == 1
    return alone and max(each.order for each in reads) <= min(each.order for each in writes)


def _uses(function: Function, given: Collection[str]) -> list[_Uses]:
    """What happens to each buffer that may share memory."""
    found: dict[str, _Uses] = {}
    fixed = set(given)
    for place, statement in enumerate(function.body):
        parts = [inner for loop in loops_of(statement) for inner in loop.body] or [statement]
        order = 0
        for part in parts:
            for single in _single(part):
                order += 1
                target = written(single)
                for number, view in enumerate(views_of(single)):
                    writes = number == 0 and target is not None
                    once = isinstance(single, Fill) and single.once
                    kept = isinstance(single, Reduce) and single.unless_state is not None
                    if writes and (once or kept or getattr(single, "accumulate", False)):
                        fixed.add(view.buffer.name)
                    access = _Access(place, order, view, writes)
                    found.setdefault(view.buffer.name, _Uses(view.buffer)).accesses.append(access)
    in_memory = function.buffers()
    return [
        uses
        for name, uses in found.items()
        if name not in fixed and name in in_memory and _is_history(uses.buffer) and uses.without_padding()
    ]


def _single(statement: Statement) -> Iterable[Statement]:
    """The parts of a Fused; any other statement as it is."""
    return statement.parts if isinstance(statement, Fused) else (statement,)


def _is_history(buffer: Buffer) -> bool:
    return buffer.shape == "sequence" and buffer.storage == "workspace" and buffer.length.times == 1


def _covered(rows: Rows, parts: list[Rows]) -> bool:
    """Whether the rows are among those of the parts, for every T >= 1."""
    start, stop = rows
    reached = True
    while reached and not _at_most(stop, start):
        further = [part[1] for part in parts if _at_most(part[0], start) and not _at_most(part[1], start)]
        reached = bool(further)
        start = max(further, key=lambda bound: (bound.times, bound.constant), default=start)
    return reached


def _at_most(first: Bound, second: Bound) -> bool:
    """Whether first <= second for every T >= 1."""
    if first.times > second.times:
        return False
    return first.constant + first.times <= second.constant + second.times
