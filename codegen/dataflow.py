"""Runs an ir.Function with its elements replaced by "written or not", for one T: the second part of codegen.verify.

It finds

- rows outside of their buffer, for every t of every loop;
- a gradient that is read before it is written, or left unwritten: its memory is not zeroed;
- a workspace element that is read first and written later. Workspaces persist between calls and are zeroed only once,
  so such a read finds what an earlier call left. Reading what no statement ever writes is right: that is padding, 0;
- a workspace buffer that is read and that nothing writes: padding lies beside something;
- a value that another buffer in the same memory (``Buffer.host``) has overwritten before it is read.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from codegen.describe import IRError, describe, view_text
from codegen.ir import (
    Buffer,
    Function,
    Fused,
    Loop,
    Span,
    Staggered,
    Statement,
    Step,
    View,
    loops_of,
    views_of,
    written,
)
from codegen.walk import turns


def check_dataflow(function: Function, T: int) -> None:
    """Raise IRError for what the module's docstring lists. The shapes must be right already."""
    _Run(function, T).run()


def numbered_in(statement: Statement) -> list[list[tuple[str, Statement]]]:
    """For each loop of a statement, the statements inside with their numbers: 1, 2, ..., or 1.1, 1.2, ... by part."""
    return [
        [
            (f"{part}.{k}" if isinstance(statement, Staggered) else str(k), inside)
            for k, inside in enumerate(loop.body, 1)
        ]
        for part, loop in enumerate(loops_of(statement), 1)
    ]


@dataclasses.dataclass
class _Run:
    function: Function
    T: int
    written: dict[str, NDArray[np.bool_]] = dataclasses.field(default_factory=dict)
    unset: dict[str, NDArray[np.int_]] = dataclasses.field(
        default_factory=dict
    )  # 1 + number of the statement that read it unwritten
    texts: list[str] = dataclasses.field(default_factory=list)
    owners: dict[str, NDArray[np.int_]] = dataclasses.field(default_factory=dict)  # by host: whose value an element has
    places: dict[str, NDArray[np.int_]] = dataclasses.field(default_factory=dict)  # where a buffer's elements lie there

    def run(self) -> None:
        self._find_places()
        for number, statement in enumerate(self.function.body, start=1):
            if not isinstance(statement, Loop | Staggered):
                self._execute(f"statement {number}", statement, 0)
                continue
            inner = numbered_in(statement)
            for part, t in turns(statement, self.T):
                for place, inside in inner[part]:
                    self._execute(f"statement {number}.{place} at t = {t}", inside, t)
        for buffer in self.function.buffers().values():
            unset = self.unset.get(buffer.name)
            if buffer.storage == "workspace" and unset is not None and unset.any() and not self._flags(buffer).any():
                reader = self.texts[int(unset.max()) - 1]
                raise IRError(f"{reader}: found a read of {buffer.name}, which nothing writes; expected a write first")
            if buffer.storage == "gradient" and not self._flags(buffer).all():
                missing = np.argwhere(~self._flags(buffer))[0].tolist()
                raise IRError(
                    f"{self.function.name}: found {buffer.name}{missing} never written; expected the whole gradient"
                )

    def _execute(self, place: str, statement: Statement, t: int) -> None:
        where = f"{self.function.name}, {place}, T = {self.T} ({describe(statement)})"
        if isinstance(statement, Fused):
            for part in statement.parts:
                self._execute(place, part, t)
            return
        target = written(statement)
        self.texts.append(where)
        for view in views_of(statement):
            if view is not target or getattr(statement, "accumulate", False):
                self._read(where, view, t)
        if target is not None:
            self._write(where, target, t)

    def _find_places(self) -> None:
        """Where the elements of buffers lie that share memory, for a batch of 2."""
        buffers = self.function.buffers()
        hosts = {buffer.host.name for buffer in buffers.values() if buffer.host is not None}
        for name, buffer in buffers.items():
            host = buffer.host.name if buffer.host is not None else name
            if host not in hosts:
                continue
            root = buffers[host]
            length, room = buffer.length.at(self.T), root.length.at(self.T) * 2 * root.columns
            size = length * 2 * buffer.columns
            if root.host is not None or size > room:
                raise IRError(f"{name}: found {size} elements in the memory of {host}; expected a host with as many")
            start = room - size if buffer.host is not None and buffer.host.at_end else 0
            places = np.arange(start, start + size).reshape(length, buffer.groups, 2, buffer.columns // buffer.groups)
            self.places[name] = places.transpose(0, 2, 1, 3).reshape(length, 2, buffer.columns)
            self.owners.setdefault(host, np.full(room, -1))

    def _owned(self, view: View, rows: slice) -> tuple[NDArray[np.int_], NDArray[np.int_], int]:
        """Whose values the memory of a host has, the places in it that a view has, the number of its buffer."""
        name = view.buffer.name if view.buffer.host is None else view.buffer.host.name
        places = self.places[view.buffer.name][rows, :, view.start : view.stop]
        return self.owners[name], places, list(self.places).index(view.buffer.name)

    def _part(self, where: str, view: View, t: int) -> tuple[slice, slice]:
        steps = min(view.steps, self.T - t + 1)  # fewer in the last turn of a loop
        rows = slice(0, max(1, steps))
        if isinstance(view.time, Step):
            row = t - 1 + view.time.offset
            rows = slice(row, row + steps)
        elif isinstance(view.time, Span):
            rows = slice(view.time.start.at(self.T), view.time.stop.at(self.T))
        elif view.rows is not None:
            rows = slice(*view.rows)
        length = len(self._flags(view.buffer))
        if not 0 <= rows.start < rows.stop <= length:
            raise IRError(
                f"{where}: found rows {rows.start}:{rows.stop} of {view.buffer.name!r}; expected rows within 0:{length}"
            )
        return rows, slice(view.start, view.stop)

    def _flags(self, buffer: Buffer) -> NDArray[np.bool_]:
        if buffer.name not in self.written:
            timed = buffer.length.at(self.T)
            lengths = {"sequence": timed, "history": timed, "matrix": buffer.rows, "step": View(buffer).steps}
            rows = lengths.get(buffer.shape, 1)
            given = buffer.storage in ("parameter", "direction", "constant")
            self.written[buffer.name] = np.full((rows, buffer.columns), given)
            self.unset[buffer.name] = np.zeros((rows, buffer.columns), dtype=int)
        return self.written[buffer.name]

    def _read(self, where: str, view: View, t: int) -> None:
        part = self._part(where, view, t)
        if view.buffer.name in self.places:
            owners, places, number = self._owned(view, part[0])
            if (owners[places] != number).any():
                raise IRError(
                    f"{where}: found {view_text(view)} overwritten by another buffer in the same memory; "
                    "expected it until its last read"
                )
        missing = ~self._flags(view.buffer)[part]
        if not missing.any():
            return
        if view.buffer.storage == "gradient" or view.buffer.shape == "scalar":
            raise IRError(f"{where}: found a read of {view_text(view)} before it is written; expected a write first")
        marks = self.unset[view.buffer.name][part]
        marks[missing & (marks == 0)] = len(self.texts)

    def _write(self, where: str, view: View, t: int) -> None:
        part = self._part(where, view, t)
        stale = self.unset[view.buffer.name][part]
        if stale.any():
            reader = self.texts[int(stale.max()) - 1]
            found = f"found {view_text(view)} written only after it was read"
            raise IRError(
                f"{reader}: {found} (by {where}); expected a write first: an earlier call's values stand there"
            )
        self._flags(view.buffer)[part] = True
        if view.buffer.name in self.places:
            owners, places, number = self._owned(view, part[0])
            owners[places] = number
