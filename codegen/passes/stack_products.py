"""Products that read one signal at several delays: their stacked sources are built one stretch of time after the other.

A weighted sum over many taps reads each value as many times. Side by side, the sources of all t at once are a buffer
that is so many times larger than the signal, filled through main memory and read twice. A stretch of it that stays in
the cache costs little to build, and building it again for the weights' gradient costs less than keeping it.

Before: copies into a buffer that only products outside of loops read as a whole. After: those products are
StackMatMuls; the copies are gone, and a signal that lay in the buffer itself has one of its own.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from codegen.ir import (
    Buffer,
    Copy,
    Fill,
    Function,
    MatMul,
    Opaque,
    Span,
    Stack,
    StackMatMul,
    Statement,
    Taps,
    View,
    loops_of,
    views_of,
)
from codegen.overlap import overlap, same_place
from codegen.walk import map_views, statements_in, targets_of

Columns = tuple[int, int]


def stack_products(function: Function) -> Function:
    """See the module's docstring."""
    names = {
        statement.left.buffer.name
        for statement in function.body
        if isinstance(statement, MatMul) and statement.left.buffer.shape == "sequence"
    }
    statements = _by_buffer(function)
    for name in sorted(names):
        uses = _Uses(name)
        for statement in statements[name]:
            uses.add(statement)
        if uses.fit and _unchanged(function.body, uses):
            function = _Stacking(function, uses).run()
            statements = _by_buffer(function)
    return function


def _by_buffer(function: Function) -> dict[str, list[Statement]]:
    """The statements of a function's body by the names of the buffers that they touch."""
    found: dict[str, list[Statement]] = defaultdict(list)
    for statement in function.body:
        for name in {view.buffer.name for each in statements_in(statement) for view in views_of(each)}:
            found[name].append(statement)
    return found


@dataclass
class _Uses:
    """How a buffer is used. ``fit``: as a stack, by what is known so far."""

    name: str
    products: list[MatMul] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)
    ones: list[Fill] = field(default_factory=list)
    parts: list[View] = field(default_factory=list)  # all other views
    shared: bool = False  # whether it is used in a way that keeps it whole

    def add(self, statement: Statement) -> None:
        """Take in one statement outside of loops."""
        if loops_of(statement):
            inside = [view for inner in statements_in(statement) for view in views_of(inner)]
            self.parts += [view for view in inside if self._meant(view)]
            return
        views = [view for view in views_of(statement) if self._meant(view)]
        if isinstance(statement, Opaque):
            self.shared = self.shared or bool(views)
        elif isinstance(statement, MatMul) and self._meant(statement.left) and statement.left.whole:
            self.products.append(statement)
            self.shared = self.shared or statement.accumulate or len(views) > 1 or statement.target.buffer.groups > 1
        elif isinstance(statement, Copy) and self._meant(statement.target):
            self.copies.append(statement)
            self.parts += views[1:]
        elif isinstance(statement, Fill) and self._meant(statement.target) and statement.once:
            self.ones.append(statement)
            self.shared = self.shared or statement.value != 1.0
        else:
            self.parts += views

    def _meant(self, view: View) -> bool:
        return view.buffer.name == self.name

    def _targets(self) -> list[View]:
        return [copy.target for copy in self.copies] + [fill.target for fill in self.ones]

    @property
    def fit(self) -> bool:
        """Whether every use is one of those that the module's docstring names, and all stand for the same t."""
        if self.shared or not self.products or not self.copies or len(self.ones) > 1:
            return False
        times = {product.left.time for product in self.products}
        times |= {view.time for view in self._targets()}
        return len(times) == 1 and self.columns() is not None and any(taps.count > 1 for taps in self.taps({}))

    @property
    def buffer(self) -> Buffer:
        """The buffer."""
        return self.products[0].left.buffer

    def hosted(self) -> list[Columns]:
        """The columns of signals that lie in the buffer itself, in order; those used together are one."""
        found: list[Columns] = []
        for start, stop in sorted((view.start, view.stop) for view in self.parts):
            if found and start < found[-1][1]:
                found[-1] = (found[-1][0], max(stop, found[-1][1]))
            else:
                found.append((start, stop))
        return found

    def columns(self) -> list[Columns] | None:
        """What lies side by side in the buffer, in order; None where something is missing or there twice."""
        copied = [(view.start, view.stop) for view in self._targets()]
        ranges = sorted([*self.hosted(), *copied])
        starts, stops = [start for start, _ in ranges], [stop for _, stop in ranges]
        last = self.ones[0].target if self.ones else None
        if last is not None and (last.columns != 1 or last.stop != self.buffer.columns):
            return None
        return ranges if starts == [0, *stops[:-1]] and stops[-1] == self.buffer.columns else None

    def taps(self, own: dict[Columns, Buffer]) -> list[Taps]:
        """The sources side by side; ``own`` has the new buffers of those that lay here."""
        time = self.products[0].left.time
        sources = {copy.target.start: moved(copy.source, self.name, own) for copy in self.copies}
        for start, stop in self.hosted():
            label = next(view.label for view in self.parts if view.start >= start and view.stop <= stop)
            sources[start] = moved(View(self.buffer, time, start, stop, label=label), self.name, own)
        found: list[Taps] = []
        for _, view in sorted(sources.items(), key=lambda item: item[0]):
            longer = _continued(found[-1], view) if found else None
            if longer is not None:
                found[-1] = longer
            else:
                found.append(Taps(view))
        return found


def moved(view: View, name: str, own: dict[Columns, Buffer]) -> View:
    """A view of the buffer ``name`` as one of the new buffer that has its columns; any other view as it is."""
    if view.buffer.name != name:
        return view
    for (start, stop), buffer in own.items():
        if start <= view.start and view.stop <= stop:
            return dataclasses.replace(view, buffer=buffer, start=view.start - start, stop=view.stop - start)
    return view


def _continued(taps: Taps, view: View) -> Taps | None:
    """The taps with one block more, when ``view`` is the same signal, moved on by the same number of rows."""
    last = taps.block(taps.count - 1)
    assert isinstance(last.time, Span) and isinstance(view.time, Span)
    distance = view.time.start.constant - last.time.start.constant
    longer = Taps(taps.source, taps.count + 1, distance)
    fits = distance != 0 and (taps.count == 1 or distance == taps.spacing)
    return longer if fits and same_place(longer.block(taps.count), view) else None


class _Stacking:
    """Rewrites a function for one buffer."""

    def __init__(self, function: Function, uses: _Uses) -> None:
        self.function = function
        self.uses = uses
        self.names = set(function.buffers())
        self.own = {columns: self._own_buffer(columns) for columns in uses.hosted()}

    def run(self) -> Function:
        taps = tuple(self.uses.taps(self.own))
        body: list[Statement] = []
        old = self.uses.buffer
        stack = Stack(Buffer(old.name, "stack", old.columns, note=old.note), taps, bool(self.uses.ones))
        gone = {id(statement) for statement in (*self.uses.copies, *self.uses.ones)}
        products = {id(product) for product in self.uses.products}
        first = self.uses.products[0]
        for statement in self.function.body:
            if id(statement) in gone:
                continue
            if id(statement) not in products:
                body.append(map_views(statement, lambda view: moved(view, old.name, self.own)))
                continue
            assert isinstance(statement, MatMul)
            left, target, right = statement.left, statement.target, statement.right
            body.append(StackMatMul(target, stack, right, left.transposed, statement is not first, statement.note))
        return dataclasses.replace(self.function, body=tuple(body))

    def _own_buffer(self, columns: Columns) -> Buffer:
        start, stop = columns
        labels = [view.label for view in self.uses.parts if (view.start, view.stop) == columns]
        name = labels[0].removesuffix("_t") if labels and labels[0] else f"part_of_{self.uses.name}"
        while name in self.names:
            name += "_"
        self.names.add(name)
        return Buffer(name, "sequence", stop - start, length=self.uses.buffer.length, note=name)


def _unchanged(body: Sequence[Statement], uses: _Uses) -> bool:
    """Whether what the stack holds stands before the first product, and is not written again until the last."""
    place = {id(statement): number for number, statement in enumerate(body)}
    first, last = place[id(uses.products[0])], place[id(uses.products[-1])]
    if any(place[id(copy)] > first for copy in uses.copies):
        return False
    time = uses.products[0].left.time
    read = [(first, View(uses.buffer, time, start, stop)) for start, stop in uses.hosted()]
    read += [(place[id(copy)], copy.source) for copy in uses.copies]
    copies = {id(copy) for copy in uses.copies}
    for number, statement in enumerate(body[:last]):
        if id(statement) in copies:
            continue
        targets = targets_of(statements_in(statement))
        if any(number > since and overlap(view, target) for target in targets for since, view in read):
            return False
    return True
