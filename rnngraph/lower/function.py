"""Schedule -> ir.Function, statement by statement in the order of the components."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from operator import itemgetter

import sympy

from codegen.functions import rewrite_in_primitives, sigmoid, tanh
from codegen.ir import (
    Assign,
    Bound,
    Copy,
    Fill,
    Function,
    Load,
    Loop,
    MatMul,
    Reduce,
    Span,
    Staggered,
    Statement,
    Step,
    Store,
    View,
)
from rnngraph.equations import Expression, at, meaning, reads_of, symbols_of
from rnngraph.lower.carry import CarryLowering
from rnngraph.lower.layout import ParameterLayout
from rnngraph.lower.matrices import Matrices
from rnngraph.lower.places import Place, SourceBuffer, place_signals
from rnngraph.lower.sparse import SparseLowering
from rnngraph.lower.sweep import SweepLowering
from rnngraph.lower.totals import TotalsLowering
from rnngraph.lower.weights import WeightsLowering
from rnngraph.schedule import (
    Component,
    Item,
    Pointwise,
    Product,
    Schedule,
    Slot,
    SparseProduct,
    UnitReduction,
    sweep_reads,
)

HALF = sympy.Rational(1, 2)


def lower(schedule: Schedule, layout: ParameterLayout, name: str, notes: Mapping[str, str] | None = None) -> Function:
    """The function ``name`` that computes the schedule's system: its outputs and state, or its loss and gradients.

    ``notes`` maps a signal or total to the text that stands as a comment at the statement that computes it.
    """
    return _Lowering(schedule, layout, name, notes or {}).run()


class _Lowering:
    def __init__(self, schedule: Schedule, layout: ParameterLayout, name: str, notes: Mapping[str, str]) -> None:
        self.schedule = schedule
        self.system = schedule.system
        self.signals = schedule.signals
        self.layout = layout
        self.name = name
        self.window = name in ("window_loss", "window_gradient")  # a part of a sequence, carried on
        self.notes = notes
        self.states = {**self.system.state_depths, **self._learned_tangents(self.system.state_depths)}
        self.ahead = {**self.system.ahead_depths, **self._learned_tangents(self.system.ahead_depths)}
        self.places = place_signals(schedule, self.states, self.ahead)
        self.prologue: list[Statement] = []
        widths = {name: signal.size for name, signal in self.signals.items()}
        self.matrices = Matrices(layout, self.system.constants, widths, self.prologue)
        self.weights = WeightsLowering(self.system, layout, lambda name: self.matrices.block(name, False), notes or {})
        self.prologue += self.weights.forward()
        self.halved = self._find_halved()
        self.sparse = SparseLowering(schedule, self.places, {**self.states, **self.ahead}, self._parameter)
        self.slots_of: dict[str, list[tuple[Product, SourceBuffer, int]]] = self._collect_slots()

    def run(self) -> Function:
        self._load_given()
        self._prepare_sources()
        body: list[Statement] = []
        for component in self.schedule.components:
            self._fill_carried(component, body)
            if component.loop:
                body.append(self._loop(component))
            else:
                self._emit(component.items[0], body, component)
            self._copy_to_later_sources(component, body)
            body += self.sparse.after(component)
        if self.system.online:
            sweep = SweepLowering(
                self.schedule,
                self.layout,
                lambda name, delay: self._view(name, delay, 1),
                self._parameter,
                self.notes,
            )
            body.append(sweep.run())
        if self.name in ("forward", "stream", "jacobian"):
            self._store_outputs(body)
        else:
            totals = TotalsLowering(
                self.schedule, self.places, self.layout, self.states, self.ahead, self._batched_operands, self.weights,
                self.sparse,
            )  # fmt: skip
            totals.run(self.notes)
            if self.system.carry is None:
                self._store_gradients(totals)
            else:
                self._carry(totals)
            totals.through_weights(self.notes)
            body.extend(totals.statements)
            if self.window or self.system.online or self.system.carry is not None:
                self._store_state(body)
        return Function(self.name, (*self.prologue, *body))

    def _loop(self, component: Component) -> Loop | Staggered:
        """One loop, or a loop for each run of items with one shift."""
        note = "for t = T..1" if component.backward else "for t = 1..T"
        if component.steps > 1:
            note += f", {component.steps} steps at once: every cycle has a delay of {component.steps} or more"
        shifts = component.shifts or (0,) * len(component.items)
        parts: list[tuple[int, Loop]] = []
        for shift, run in groupby(zip(component.items, shifts, strict=True), key=itemgetter(1)):
            inside: list[Statement] = []
            for name in component.inputs if not parts else ():
                self._copy_in_loop(name, inside, component)
            for item, _ in run:
                self._emit(item, inside, component)
            parts.append((shift, Loop(tuple(inside), component.backward, note, component.steps)))
        if len(parts) == 1:
            return parts[0][1]
        return Staggered(
            tuple(part for _, part in parts), tuple(shift for shift, _ in parts), self._staggered_note(component)
        )

    def _staggered_note(self, component: Component) -> str:
        """Over which steps a staggered loop goes, and the t of what it computes in a step."""
        first, last = 1 - max(component.shifts), -min(component.shifts)
        ends = [str(first), f"T{last:+d}" if last else "T"]
        moments: dict[int, list[str]] = {}
        for item, shift in zip(component.items, component.shifts, strict=True):
            names = [name for name in item.defines if self.signals[name].kind in ("unit", "adjoint")]
            moments.setdefault(shift, []).extend(names)
        parts = [
            f"{' and '.join(names)} at t = step{f' {shift:+d}'.replace('+', '+ ').replace('-', '- ') if shift else ''}"
            for shift, names in moments.items()
            if names
        ]
        return f"for step = {'..'.join(reversed(ends) if component.backward else ends)}: {', '.join(parts)}"

    # What the caller gives and gets.

    def _units(self, name: str) -> tuple[str, ...]:
        return self.system.layers.get(name, ())

    def _load_given(self) -> None:
        for name, signal in self.signals.items():
            if signal.kind in ("input", "target", "weight", "noise"):
                origin = signal.origin or name
                classes = signal.kind == "target" and self.system.losses.get(origin) == "cross_entropy"
                what = "classes" if classes else "share" if self.window and signal.kind == "weight" else signal.kind
                units = self._units(origin) if signal.kind in ("input", "target") else ()
                self.prologue.append(Load(self.places.of[name].span(0, name), what, origin, units=units))
        for depths, ahead in ((self.states, False), (self.ahead, True)):
            for name, depth in depths.items():
                if name in self.places.of:
                    signal = self.signals[name]
                    what, node = "state", name
                    if signal.kind == "tangent":
                        what, node = "state_tangent", signal.origin or name
                    node = self.system.ahead_names[node] if ahead else node
                    rows = self._following(name, depth) if ahead else self._past(name, depth)
                    self.prologue.append(Load(rows, what, node, self._initial(name), units=self._units(node)))

    def _learned_tangents(self, depths: Mapping[str, int]) -> dict[str, int]:
        """The tangents of nodes that start from learned values, with the nodes' depths: they start from the direction's
        values."""
        learned = {
            name: depths.get(signal.origin or "", 0)
            for name, signal in self.signals.items()
            if signal.kind == "tangent" and isinstance(signal.initial, str)
        }
        return {name: depth for name, depth in learned.items() if depth}

    def _past(self, name: str, depth: int) -> View:
        """The values at t = 1-depth..0."""
        place = self.places.of[name]
        if place.stepped:
            return place.step(0, name)
        return place.rows(Bound(place.offset - depth), Bound(place.offset), name)

    def _following(self, name: str, depth: int) -> View:
        """The values at t = T+1..T+depth."""
        place = self.places.of[name]
        if place.stepped:
            return place.step(0, name)
        return place.rows(Bound(place.offset, 1), Bound(place.offset + depth, 1), name)

    def _initial(self, name: str) -> float | View:
        initial = self.signals[name].initial
        return self.layout.view(initial) if isinstance(initial, str) else float(initial)

    def _store_outputs(self, body: list[Statement]) -> None:
        for name in self.system.outputs:
            body.append(Store(self.places.of[name].span(0, name), "output", name, units=self._units(name)))
        self._store_state(body)

    def _store_state(self, body: list[Statement]) -> None:
        for name, depth in self.states.items():
            place = self.places.of[name]
            last = (
                place.step(0, name)
                if place.stepped
                else place.rows(Bound(place.offset - depth, 1), Bound(place.offset, 1), name)
            )
            body.append(Store(last, "state", name, units=self._units(name)))
        for name, depth in self.ahead.items():
            place = self.places.of[name]
            first = (
                place.step(0, name)
                if place.stepped
                else place.rows(Bound(place.offset), Bound(place.offset + depth), name)
            )
            body.append(Store(first, "state", self.system.ahead_names[name]))

    def _store_gradients(self, totals: TotalsLowering) -> None:
        for name, adjoint in self.system.input_adjoints.items():
            view = self.places.of[adjoint].span(0, adjoint) if adjoint else None
            if view is not None:
                totals.statements.append(Store(view, "input_gradient", name, units=self._units(name)))
        for node, adjoint in self.system.state_adjoints.items():
            values = totals.boundary_values(adjoint, node) if adjoint else None
            if values is not None:
                totals.statements.append(Store(values, "state_gradient", node, units=self._units(node)))
        for node, adjoint in self.system.ahead_adjoints.items():
            values = totals.boundary_values(adjoint, node, ahead=True) if adjoint else None
            if values is not None:
                totals.statements.append(Store(values, "state_gradient", self.system.ahead_names[node]))

    def _carry(self, totals: TotalsLowering) -> None:
        """What goes from this block to the next, after the totals."""
        adjoints = self.system.state_adjoints
        lowering = CarryLowering(
            self.schedule,
            self.layout,
            lambda name, delay: self._view(name, delay, 1),
            self._parameter,
            self.notes,
            lambda name, delay: self._view(name, delay, 0),
            lambda state: totals.boundary_values(adjoints[state], state),
        )
        totals.statements.append(lowering.run())

    def _parameter(self, name: str) -> View:
        """A parameter or a constant as a matrix or vector."""
        return self.matrices.block(name, False) if name in self.system.constants else self.layout.view(name)

    # Sources of products that lie in a buffer of their own.

    def _collect_slots(self) -> dict[str, list[tuple[Product, SourceBuffer, int]]]:
        """For each signal, the slots of source buffers that hold a copy of it."""
        slots: dict[str, list[tuple[Product, SourceBuffer, int]]] = {}
        for item in self.schedule.items():
            if isinstance(item, Product) and item.results[0] in self.places.sources:
                source = self.places.sources[item.results[0]]
                for k, slot in enumerate(item.sources):
                    if not source.hosted[k]:
                        slots.setdefault(slot.signal, []).append((item, source, k))
        return slots

    def _prepare_sources(self) -> None:
        """Ones for the biases, copies of what the caller gave, and the past of what will be copied step by step."""
        for source in self.places.sources.values():
            if source.ones:
                last = source.buffer.columns - 1
                span = Span(Bound(source.offset), Bound(source.offset, 1))
                self.prologue.append(
                    Fill(View(source.buffer, span, last, last + 1, label=source.buffer.name), 1.0, once=True)
                )
        for name in self.slots_of:
            if name not in self.schedule.component_of:
                self._copy_batched(name, self.prologue, only_component=None)
            else:
                self._copy_past(name)
        self.prologue += self.sparse.given()

    def _copy_batched(self, name: str, body: list[Statement], only_component: int | None) -> None:
        """Copy a whole sequence into its slots, except those that its own loop fills step by step."""
        for product, source, k in self.slots_of.get(name, []):
            if only_component is not None and self.schedule.component_of[product.results[0]] == only_component:
                continue
            span = Span(Bound(source.offset), Bound(source.offset, 1))
            target = View(source.buffer, span, *source.columns[k], label=_slot_label(product.sources[k]))
            body.append(Copy(target, self.places.of[name].span(product.sources[k].delay, name)))

    def _copy_past(self, name: str) -> None:
        """The rows of a slot that read before t = 1 or after T, where the loop itself fills the rest."""
        for product, source, k in self.slots_of[name]:
            delay = product.sources[k].delay
            if delay != 0 and self.schedule.component_of[product.results[0]] == self.schedule.component_of[name]:
                place = self.places.of[name]
                span = Span(Bound(source.offset), Bound(source.offset + delay))
                outside = place.rows(Bound(place.offset - delay), Bound(place.offset), name)
                if delay < 0:
                    span = Span(Bound(source.offset + delay, 1), Bound(source.offset, 1))
                    outside = place.rows(Bound(place.offset, 1), Bound(place.offset - delay, 1), name)
                target = View(source.buffer, span, *source.columns[k], label=_slot_label(product.sources[k]))
                self.prologue.append(Copy(target, outside))

    def _copy_to_later_sources(self, component: Component, body: list[Statement]) -> None:
        for item in component.items:
            for name in item.defines:
                own = self.schedule.component_of[name] if component.loop else None
                self._copy_batched(name, body, own)

    def _copy_in_loop(self, name: str, body: list[Statement], component: Component) -> None:
        number = self.schedule.component_of[name]
        for product, source, k in self.slots_of.get(name, []):
            if self.schedule.component_of[product.results[0]] == number:
                slot = product.sources[k]
                sign = "plus" if slot.delay > 0 else "minus"  # the step that will read it, or has read before it
                label = f"{name}_for_t_{sign}_{abs(slot.delay)}" if slot.delay else f"{name}_t"
                time = Step(source.offset + slot.delay, component.steps)
                target = View(source.buffer, time, *source.columns[k], label=label)
                body.append(Copy(target, self.places.of[name].step(0, name, component.steps)))
        body += self.sparse.in_loop(name)

    # Items.

    def _fill_carried(self, component: Component, body: list[Statement]) -> None:
        """Values that a loop carries from step to step without history start as 0 unless they are states."""
        if not component.loop:
            return
        inside = {signal for item in component.items for signal in item.defines}
        read_late = {read.signal for item in component.items for read in item.reads() if read.delay != 0}
        for name in sorted(read_late & inside - self.states.keys() - self.ahead.keys()):
            place = self.places.of[name]
            if place.stepped:
                body.append(Fill(place.step(0, name), float(self.signals[name].initial or 0.0)))

    def _emit(self, item: Item, body: list[Statement], component: Component) -> None:
        steps = component.steps if component.loop else 0  # 0: for all t at once
        note = self._note(item.defines[0])
        if isinstance(item, Product):
            note = "; ".join(dict.fromkeys(text for name in item.results if (text := self._note(name))))
            body.append(
                MatMul(self._results(item, steps), self._left(item, steps), self._matrix(item, steps), note=note)
            )
        elif isinstance(item, SparseProduct):
            body += self.sparse.product(item, self._view(item.signal, 0, steps), steps > 0, note)
        elif isinstance(item, UnitReduction):
            source = self._view(item.source, 0, steps)
            kind = "units" if item.operator == "sum" else "logsumexp"
            body.append(Reduce(self._view(item.signal, 0, steps), kind, source, note=note))
        else:
            expression = rewrite_in_primitives(self._use_halved(item.expression))
            operands = tuple((symbol, self._operand(symbol, steps)) for symbol in symbols_of(expression))
            body.append(Assign(self._view(item.signal, 0, steps), expression, operands, note=note))
        if steps:
            for name in item.defines:
                self._copy_in_loop(name, body, component)

    def _note(self, name: str) -> str:
        """The comment at the statement that computes a signal: its equation, or what a signal made here is for."""
        signal = self.signals[name]
        if signal.kind in ("factor", "summand"):
            return f"a {signal.kind} of {signal.origin}(t) that the loop does not change"
        if signal.kind == "product" and name not in self.notes:
            return f"a part of {signal.origin}(t)"
        return self.notes.get(name, "")

    def _view(self, name: str, delay: int, steps: int) -> View:
        place = self.places.of[name]
        return place.step(delay, name, steps) if steps else place.span(delay, name)

    def _operand(self, symbol: Expression, steps: int) -> View:
        found = meaning(symbol)
        return self.layout.view(found) if isinstance(found, str) else self._view(found.signal, found.delay, steps)

    def _batched_operands(self, expression: Expression) -> tuple[tuple[Expression, View], ...]:
        return tuple((symbol, self._operand(symbol, steps=0)) for symbol in symbols_of(expression))

    def _joined(self, place: Place, slots: tuple[Slot, ...], steps: int) -> View:
        label = place.buffer.name if len(slots) > 1 else slots[0].signal
        return place.step(slots[0].delay, label, steps) if steps else place.span(slots[0].delay, label)

    def _results(self, item: Product, steps: int) -> View:
        slots = tuple(Slot(name, 0) for name in item.results)
        place = self.places.side_by_side(slots)
        assert place is not None
        return self._joined(place, slots, steps)

    def _left(self, item: Product, steps: int) -> View:
        source = self.places.sources.get(item.results[0])
        if source is None:
            place = self.places.side_by_side(item.sources)
            assert place is not None
            return self._joined(place, item.sources, steps)
        name = source.buffer.name
        own = Place(source.buffer, 0, source.buffer.columns, source.offset)
        return own.step(0, name, steps) if steps else own.span(0, name)

    def _matrix(self, item: Product, steps: int) -> View:
        heights = [self.signals[slot.signal].size for slot in item.sources]
        return self.matrices.of(item, heights, self.halved & set(item.results), steps > 0)

    # Halved weighted sums.

    def _find_halved(self) -> frozenset[str]:
        """Weighted sums that are read by sigmoid(s(t)) and by nothing else."""
        candidates = {
            result
            for item in self.schedule.items()
            if isinstance(item, Product) and not item.blocks[0][0].transposed
            for result in item.results
        }
        read_otherwise: set[str] = set(self.system.outputs)
        read_otherwise.update(read.signal for read in sweep_reads(self.system, self.schedule.sweep))
        for item in self.schedule.items():
            if not isinstance(item, Pointwise) or not (
                item.expression.func is sigmoid and item.expression.args[0].is_Symbol
            ):
                read_otherwise.update(read.signal for read in item.reads())
        for total in self.system.totals:
            for piece in total.contributions:
                for side in ("left", "right", "signal"):
                    read_otherwise.add(getattr(piece, side, ""))
                read_otherwise.update(read.signal for read in reads_of(getattr(piece, "expression", sympy.S.Zero)))
        read_at_all = {read.signal for item in self.schedule.items() for read in item.reads()} | read_otherwise
        return frozenset((candidates & read_at_all) - read_otherwise - self.states.keys() - self.ahead.keys())

    def _use_halved(self, expression: Expression) -> Expression:
        if expression.func is sigmoid and expression.args[0].is_Symbol:
            read = meaning(expression.args[0])
            if not isinstance(read, str) and read.signal in self.halved and expression.args[0] == at(read.signal):
                return HALF * tanh(expression.args[0]) + HALF
        return expression


def _slot_label(slot: Slot) -> str:
    if slot.delay == 0:
        return slot.signal
    return f"{slot.signal}_delayed_{slot.delay}" if slot.delay > 0 else f"{slot.signal}_ahead_{-slot.delay}"
