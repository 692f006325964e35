"""Where every signal of a schedule lies: which buffer, which columns, which row is t = 1.

Signals that one product reads or writes lie side by side, so that the product needs no copy and equal pointwise
operations
on neighbours become one call. A signal that only its own loop reads, at the same t or one step later, keeps no history.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import sympy

from codegen.functions import PointwiseFunction
from codegen.ir import Bound, Buffer, Span, Step, View
from rnngraph.equations import (
    BoundarySum,
    Contraction,
    Outer,
    PointwiseSum,
    SparseOuter,
    WeightValue,
    at,
    meaning,
    reads_of,
)
from rnngraph.schedule import Item, Pointwise, Product, Schedule, Slot, SparseProduct, sweep_reads

# Names that lowering and the passes give to buffers of their own; a node that is called so gets another one.
GENERATED = re.compile(
    r"(weights|weight|effective|effective_direction|first_gradient|gradient|direction|matrix_for|blocks_for|scratch|summands|loss_values)_|loss$|.*_(before|after)$"
)


@dataclass(frozen=True)
class Use:
    """One read of a signal. ``component`` is None for totals and callers; ``position`` the reader's place in its
    component."""

    component: int | None
    delay: int
    position: int = -1
    pointwise: bool = True


@dataclass(frozen=True)
class Place:
    """Columns ``start`` to ``stop`` of ``buffer``; in a sequence the value at t lies in row t - 1 + ``offset``."""

    buffer: Buffer
    start: int
    stop: int
    offset: int

    @property
    def stepped(self) -> bool:
        """Whether only the present value is kept."""
        return self.buffer.shape == "step"

    def step(self, delay: int, label: str, steps: int = 1) -> View:
        """The value at t - delay inside a loop of so many steps at once; from a buffer without history the latest
        value."""
        time = None if self.stepped else Step(self.offset - delay, steps)
        moment = "t" if delay == 0 else f"t_minus_{delay}" if delay > 0 else f"t_plus_{-delay}"
        return View(self.buffer, time, self.start, self.stop, label=f"{label}_{moment}")

    def span(self, delay: int, label: str) -> View:
        """The values at t - delay for t = 1..T."""
        return self.rows(Bound(self.offset - delay), Bound(self.offset - delay, 1), label)

    def rows(self, first: Bound, last: Bound, label: str) -> View:
        """Rows ``first`` to ``last`` (exclusive)."""
        return View(self.buffer, Span(first, last), self.start, self.stop, label=label)


@dataclass(frozen=True)
class SourceBuffer:
    """The sources of a product side by side, and a column of ones for its biases. Row t - 1 + ``offset`` serves time t.

    ``columns`` has (start, stop) per source; ``hosted`` says which sources have their own place here.
    """

    buffer: Buffer
    offset: int
    columns: tuple[tuple[int, int], ...]
    hosted: tuple[bool, ...]
    ones: bool


@dataclass
class Places:
    """All places of a schedule. ``sources`` has the source buffer of each product that needs one, by its first
    result."""

    schedule: Schedule
    of: dict[str, Place] = field(default_factory=dict)
    sources: dict[str, SourceBuffer] = field(default_factory=dict)
    before: dict[str, int] = field(default_factory=dict)
    after: dict[str, int] = field(default_factory=dict)

    def side_by_side(self, slots: Sequence[Slot]) -> Place | None:
        """One place that covers all sources, when they lie in order in one buffer and at one time."""
        places = [self.of[slot.signal] for slot in slots]
        shifts = {place.offset - slot.delay for place, slot in zip(places, slots, strict=True)}
        joined = all(left.stop == right.start for left, right in pairwise(places))
        if len({place.buffer.name for place in places}) > 1 or len(shifts) > 1 or not joined:
            return None
        return Place(places[0].buffer, places[0].start, places[-1].stop, places[0].offset)


def place_signals(schedule: Schedule, states: Mapping[str, int], ahead: Mapping[str, int]) -> Places:
    """Decide the places. ``states``: the depth of every node whose last values the caller gets; ``ahead``: of those
    whose first values the caller gets."""
    return _Placement(schedule, states, ahead).run()


class _Placement:
    def __init__(self, schedule: Schedule, states: Mapping[str, int], ahead: Mapping[str, int]) -> None:
        self.schedule = schedule
        self.signals = schedule.signals
        self.states = states
        self.ahead = ahead
        self.places = Places(schedule)
        self.uses: dict[str, list[Use]] = {name: [] for name in self.signals}
        self.position: dict[str, int] = {}
        self.pinned: set[str] = set()
        self.names: set[str] = set()
        self.factor_of: dict[str, str] = {}
        self.adjoint_of: dict[str, str] = {}
        self.sparse = {item.signal for item in schedule.items() if isinstance(item, SparseProduct)}
        for name, signal in self.signals.items():
            if signal.kind == "factor" and signal.origin is not None:
                self.factor_of.setdefault(signal.origin, name)
            if signal.kind == "adjoint" and signal.origin is not None:
                self.adjoint_of.setdefault(signal.origin, name)
        self._collect_uses()
        self._measure_padding()

    def run(self) -> Places:
        products = [item for item in self.schedule.items() if isinstance(item, Product)]
        for product in products:
            self._family(product.results)
        for product in products:
            free = all(slot.signal not in self.places.of for slot in product.sources)
            distinct = len({slot.signal for slot in product.sources}) == len(product.sources)
            if product.blocks[0][0].transposed and len(product.sources) > 1 and free and distinct:
                self._family([slot.signal for slot in product.sources])
        for product in products:
            self._deltas_beside(product)
        for product in products:
            if product.biases or len(product.sources) > 1:
                self._source_buffer(product)
        for product in products:
            self._mirror_activations(product)
            self._factors_beside(product)
        for name in self.signals:
            if name not in self.places.of and self._exists(name):
                self._family([name])
        return self.places

    def _exists(self, name: str) -> bool:
        return name in self.schedule.component_of or self.signals[name].kind in ("input", "target", "weight", "noise")

    # Who reads what, how far back.

    def _collect_uses(self) -> None:
        for number, component in enumerate(self.schedule.components):
            for position, item in enumerate(component.items):
                for signal in item.defines:
                    self.position[signal] = position
                for read in item.reads():
                    use = Use(number, read.delay, position, isinstance(item, Pointwise))
                    self.uses[read.signal].append(use)
        system = self.schedule.system
        for total in system.totals:
            for contribution in total.contributions:
                if isinstance(contribution, Outer):
                    self.uses[contribution.left].append(Use(None, contribution.left_delay))
                    self.uses[contribution.right].append(Use(None, contribution.right_delay))
                elif isinstance(contribution, SparseOuter):
                    for read in contribution.reads():
                        self.uses[read.signal].append(Use(None, read.delay))
                elif isinstance(contribution, Contraction | WeightValue):
                    continue  # the sweep reads it: below; a weight reads no signal
                elif isinstance(contribution, PointwiseSum):
                    for read in reads_of(contribution.expression):
                        self.uses[read.signal].append(Use(None, read.delay))
                else:
                    self._need_boundary(contribution)
        for read in sweep_reads(system, self.schedule.sweep):
            self.uses[read.signal].append(Use(None, read.delay))
        for output in system.outputs:
            self.uses[output].append(Use(None, 0))
        for adjoint in filter(None, system.input_adjoints.values()):
            self.uses[adjoint].append(Use(None, 0))
        for adjoints, ahead in ((system.state_adjoints, False), (system.ahead_adjoints, True)):
            for node, adjoint in adjoints.items():
                if adjoint:
                    self._need_boundary(BoundarySum(adjoint, node, ahead))

    def _need_boundary(self, boundary: BoundarySum) -> None:
        """The adjoint at t <= 0 reads its sources ahead: those keep rows before t = 1, which stay 0. That at t > T
        reads the past of its sources: rows after T."""
        ahead = boundary.ahead
        depth = (self.ahead if ahead else self.states)[boundary.node]
        before, after = self.places.before, self.places.after
        for read in reads_of(self.schedule.boundaries.get((boundary.signal, ahead), sympy.S.Zero)):
            if read.signal in self.sparse:  # it is computed there anew, from a history that has the rows
                continue
            self.pinned.add(read.signal)
            lead, lag = (read.delay, depth - read.delay) if ahead else (depth + read.delay, -read.delay)
            before[read.signal] = max(before.get(read.signal, 0), lead)
            after[read.signal] = max(after.get(read.signal, 0), lag)

    def _measure_padding(self) -> None:
        before, after = self.places.before, self.places.after
        for name, uses in self.uses.items():
            before[name] = max([before.get(name, 0), self.states.get(name, 0), *(use.delay for use in uses)])
            after[name] = max([after.get(name, 0), self.ahead.get(name, 0), *(-use.delay for use in uses)])

    def _keeps_history(self, name: str) -> bool:
        """Whether values beyond the present one are needed: by another component, or later than one step."""
        if name not in self.position or name in self.pinned:  # given from outside, or read at t <= 0
            return True
        number = self.schedule.component_of[name]
        if not self.schedule.components[number].loop:
            return True
        if self.schedule.components[number].shifts:  # its readers are at another t
            return True
        most = 1 if self.schedule.components[number].steps == 1 else 0  # values that need no history
        if self.states.get(name, 0) > most or self.ahead.get(name, 0) > most:
            return True
        next_step = -1 if self.schedule.components[number].backward else 1
        for use in self.uses[name]:
            carried = use.pointwise and use.delay == next_step and use.position <= self.position[name]
            if use.component != number or (use.delay != 0 and not carried):
                return True
        return False

    # Placing.

    def _buffer(self, members: Sequence[str], columns: int, history: bool, before: int, after: int, tag: str) -> Buffer:
        name = f"{tag}{_join(members)}"
        if GENERATED.match(name):
            name = f"node_{name}"
        while name in self.names:
            name += "_"
        self.names.add(name)
        if not history:
            steps = self.schedule.components[self.schedule.component_of[members[0]]].steps
            return Buffer(name, "step", columns, length=Bound(steps if steps > 1 else 0), note=" | ".join(members))
        return Buffer(name, "sequence", columns, length=Bound(before + after, 1), note=" | ".join(members))

    def _family(self, members: Sequence[str]) -> None:
        """Give the members, in order, neighbouring columns of one new buffer; those that have a place already end
        it."""
        if any(name in self.places.of for name in members):
            if len(members) > 1:
                for name in members:
                    if name not in self.places.of:
                        self._family([name])
            return
        history = any(self._keeps_history(name) for name in members)
        before = max(self.places.before[name] for name in members)
        after = max(self.places.after[name] for name in members)
        width = sum(self.signals[name].size for name in members)
        buffer = self._buffer(members, width, history, before, after, "")
        column = 0
        for name in members:
            stop = column + self.signals[name].size
            self.places.of[name] = Place(buffer, column, stop, before)
            column = stop

    def _source_buffer(self, product: Product) -> None:
        placed = all(slot.signal in self.places.of for slot in product.sources)
        if placed and not product.biases and self.places.side_by_side(product.sources) is not None:
            return
        columns: list[tuple[int, int]] = []
        for slot in product.sources:
            start = columns[-1][1] if columns else 0
            columns.append((start, start + self.signals[slot.signal].size))
        width = columns[-1][1] + (1 if product.biases else 0)
        first = max(0, -min(slot.delay for slot in product.sources))
        last = max(0, max(slot.delay for slot in product.sources))
        hosted = []
        members = [_slot_text(slot) for slot in product.sources] + (["1"] if product.biases else [])
        buffer = self._buffer(product.results, width, True, first, last, "sources_of_")
        buffer = Buffer(buffer.name, "sequence", width, length=buffer.length, note=" | ".join(members))
        for slot, (start, stop) in zip(product.sources, columns, strict=True):
            free = slot.signal not in self.places.of and slot.delay >= 0
            host = free and slot.delay == self.places.before[slot.signal] and self.places.after[slot.signal] == 0
            if host:
                self.places.of[slot.signal] = Place(buffer, start, stop, slot.delay + first)
            hosted.append(host)
        self.places.sources[product.results[0]] = SourceBuffer(
            buffer, first, tuple(columns), tuple(hosted), bool(product.biases)
        )

    def _mirror_activations(self, product: Product) -> None:
        """The activations of neighbouring weighted sums lie side by side in the same order."""
        if len(product.results) < 2:
            return
        followers: dict[str, str] = {}
        number = self.schedule.component_of[product.results[0]]
        for item in self.schedule.components[number].items:
            if isinstance(item, Pointwise) and isinstance(item.expression, PointwiseFunction):
                for result in product.results:
                    if item.expression.args == (at(result),) and item.signal not in self.places.of:
                        followers.setdefault(result, item.signal)
        members = [followers[result] for result in product.results if result in followers]
        if len(members) > 1:
            past = self._paired_past(members, self.schedule.components[number].items)
            if past is None:
                self._family(members)
            else:
                self._family_with_past(members, *past)

    def _paired_past(self, members: Sequence[str], items: Sequence[Item]) -> tuple[str, int] | None:
        """A delayed signal to put behind the members, so that c = i*z + f*c_prev multiplies (i, f) by (z, c_prev) in
        one call."""
        if len({self.signals[name].size for name in members}) > 1:
            return None
        index = {at(name): k for k, name in enumerate(members)}
        for item in items:
            products = item.expression.args if isinstance(item, Pointwise) and item.expression.is_Add else ()
            if len(products) != 2 or not all(product.is_Mul and len(product.args) == 2 for product in products):
                continue
            inner = [
                sorted(index[factor] for factor in product.args)
                for product in products
                if set(product.args) <= index.keys()
            ]
            outer = [product for product in products if not set(product.args) <= index.keys()]
            if len(inner) != 1 or len(outer) != 1 or inner[0][1] != len(members) - 1:
                continue
            gates = [index[factor] for factor in outer[0].args if factor in index]
            past = [meaning(factor) for factor in outer[0].args if factor not in index and factor.is_Symbol]
            if gates != [inner[0][0] + 1] or len(past) != 1 or isinstance(past[0], str):
                continue
            name, delay = past[0]
            fits = self.signals[name].size == self.signals[members[0]].size and self.places.after[name] == 0
            if name not in self.places.of and fits and delay == self.places.before[name] > 0:
                return name, delay
        return None

    def _family_with_past(self, members: Sequence[str], past: str, delay: int) -> None:
        """A family whose last columns hold ``past`` at t - delay in the row of t."""
        history = any(self._keeps_history(name) for name in members)
        before = max(self.places.before[name] for name in members)
        after = max(self.places.after[name] for name in members)
        self._family(members)
        if not history and self._keeps_history(past):
            return
        size = self.signals[past].size
        start = len(members) * size
        columns = start + size
        old = self.places.of[members[0]].buffer
        length = Bound(before + max(after, delay), 1) if history else old.length
        note = f"{old.note} | {past}(t-{delay})"
        buffer = Buffer(old.name, old.shape, columns, length=length, note=note)
        for name in members:
            place = self.places.of[name]
            self.places.of[name] = Place(buffer, place.start, place.stop, place.offset)
        self.places.of[past] = Place(buffer, start, columns, before + delay if history else 0)

    def _deltas_beside(self, product: Product) -> None:
        """The deltas of sums that one product computes lie in its order, so that its gradient is one product, too."""
        deltas = [self.adjoint_of.get(result, "") for result in product.results]
        found = [name for name in deltas if name in self.schedule.component_of and name not in self.places.of]
        if len(found) == len(deltas) > 1:
            self._family(found)

    def _factors_beside(self, product: Product) -> None:
        """The factors that a backward loop multiplies its errors by lie in the order of the deltas they make."""
        if len(product.sources) < 2:
            return
        factors = [self.factor_of.get(slot.signal, "") for slot in product.sources]
        members = [name for name in factors if name and name not in self.places.of]
        sizes = {self.signals[name].size for name in members}
        if len(members) > 1 and len(sizes) == 1:
            self._family(members)


def _slot_text(slot: Slot) -> str:
    return f"{slot.signal}(t)" if slot.delay == 0 else f"{slot.signal}(t{-slot.delay:+d})"


def _join(members: Sequence[str]) -> str:
    """One name for neighbours: delta_s_i, delta_s_f becomes delta_s_i_f; long lists are cut."""
    if len(members) == 1:
        return members[0]
    prefix = members[0]
    for name in members:
        while not name.startswith(prefix):
            prefix = prefix[:-1]
    if prefix == members[0]:  # a signal, and others named after it
        rest = [name[len(prefix) :].strip("_") or str(number) for number, name in enumerate(members[1:], 2)]
        prefix += "_and_"
    else:
        prefix = prefix[: prefix.rfind("_") + 1]
        rest = [name[len(prefix) :] or name for name in members]
    shown = rest if len(rest) <= 4 else [*rest[:3], "etc"]
    return prefix + ("_and_" if any("_" in name for name in shown) else "_").join(shown)
