"""Sparse products -> statements: the histories that they read, the products, and the gradients of their weights.

A sparse product reads single units at many times. So each signal that it reads is written a second time, into a history
in which what one unit is to all sequences of the batch lies together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from codegen.ir import Bound, Buffer, SparseGradient, SparseMatMul, Statement, Turn, View
from rnngraph.equations import SparseOuter, Term
from rnngraph.lower.places import Place, Places
from rnngraph.schedule import Component, Schedule, SparseProduct


class SparseLowering:
    """``parameter`` gives the weights of a pattern, a parameter or a constant. ``states``: the depth of each
    node whose values before t = 1 the caller gives."""

    def __init__(
        self, schedule: Schedule, places: Places, states: Mapping[str, int], parameter: Callable[[str], View]
    ) -> None:
        self.schedule = schedule
        self.places = places
        self.parameter = parameter
        self.items = {item.signal: item for item in schedule.items() if isinstance(item, SparseProduct)}
        self.readers: dict[str, set[int]] = {}  # by source, the components in which its history is read
        before: dict[str, int] = {}
        after: dict[str, int] = {}
        for item in self.items.values():
            for read in item.reads():
                self.readers.setdefault(read.signal, set()).add(schedule.component_of[item.signal])
                before[read.signal] = max(before.get(read.signal, 0), read.delay)
                after[read.signal] = max(after.get(read.signal, 0), -read.delay)
        self.past = {name: steps for name, steps in before.items() if steps > 0}
        depth = max(states.values(), default=0)
        self.histories: dict[str, Place] = {}
        for name in self.readers:
            if self._is_backward(name):  # at t <= 0 an adjoint is wanted where states are
                before[name] = max(before[name], depth)
            size = schedule.signals[name].size
            length = Bound(before[name] + after[name], 1)
            wanted = f"history_of_{name}"
            buffer = Buffer(wanted, "history", size, length=length, note=f"{name}, one row a unit")
            self.histories[name] = Place(buffer, 0, size, before[name])

    def _is_backward(self, name: str) -> bool:
        return any(term.transposed for item in self.items.values() for term in item.terms if term.source == name)

    # Histories.

    def given(self) -> list[Statement]:
        """The histories of what the caller gives, and what lies before t = 1 in the others."""
        statements: list[Statement] = []
        for name in self.readers:
            own, history = self.places.of[name], self.histories[name]
            steps = self.past.get(name, 0)
            if steps:
                source = own.rows(Bound(own.offset - steps), Bound(own.offset), name)
                target = history.rows(Bound(history.offset - steps), Bound(history.offset), f"history_of_{name}")
                statements.append(Turn(target, source))
            if name not in self.schedule.component_of:
                statements.append(self._all(name))
        return statements

    def in_loop(self, name: str) -> list[Statement]:
        """What a loop does with a signal once its value at t is known."""
        if self.schedule.component_of.get(name) not in self.readers.get(name, ()):
            return []
        own, history = self.places.of[name], self.histories[name]
        return [Turn(history.step(0, f"history_of_{name}"), own.step(0, name))]

    def after(self, component: Component) -> list[Statement]:
        """The histories that other components read."""
        names = [name for item in component.items for name in item.defines if name in self.readers]
        inside = component.loop
        return [
            self._all(name)
            for name in names
            if not inside or self.schedule.component_of[name] not in self.readers[name]
        ]

    def _all(self, name: str) -> Turn:
        return Turn(self.histories[name].span(0, f"history_of_{name}"), self.places.of[name].span(0, name))

    # Products.

    def product(self, item: SparseProduct, target: View, stepped: bool, note: str) -> list[Statement]:
        """The statements that add up the terms."""
        statements: list[Statement] = []
        for number, term in enumerate(item.terms):
            history, label = self.histories[term.source], f"history_of_{term.source}"
            source = history.step(0, label) if stepped else history.span(0, label)
            statements.append(self._term(term, target, source, number > 0, "" if number else note))
        return statements

    def before_start(self, name: str, target: View, depth: int) -> list[Statement]:
        """What the sparse product ``name`` is at t = 1-depth..0."""
        statements: list[Statement] = []
        for number, term in enumerate(self.items[name].terms):
            history = self.histories[term.source]
            source = history.rows(Bound(history.offset - depth), Bound(history.offset), f"history_of_{term.source}")
            statements.append(self._term(term, target, source, number > 0, ""))
        return statements

    def _term(self, term: Term, target: View, source: View, added: bool, note: str) -> SparseMatMul:
        assert term.pattern is not None and term.parameter is not None
        weights = dataclasses.replace(self.parameter(term.parameter), vector=True)
        return SparseMatMul(target, source, weights, term.pattern, term.transposed, added, note)

    def gradient(self, outer: SparseOuter, target: View, note: str) -> SparseGradient:
        """The gradient of a pattern's weights."""
        left, right = self.places.of[outer.left], self.places.of[outer.right]
        return SparseGradient(target, left.span(0, outer.left), right.span(0, outer.right), outer.pattern, note)
