"""Totals -> statements: the loss, and the gradients, those of one product's weights as one matrix product."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import sympy

from codegen.functions import rewrite_in_primitives
from codegen.ir import Assign, Bound, Buffer, Copy, Fill, MatMul, Reduce, Span, Statement, Store, View
from rnngraph.equations import (
    BoundarySum,
    Contraction,
    Contribution,
    Expression,
    Outer,
    PointwiseSum,
    SparseOuter,
    Total,
    WeightValue,
    at,
    meaning,
    symbols_of,
)
from rnngraph.lower.layout import ParameterLayout
from rnngraph.lower.places import Places
from rnngraph.lower.sparse import SparseLowering
from rnngraph.lower.weights import WeightsLowering
from rnngraph.schedule import Product, Schedule, Slot

OLD = sympy.Symbol("old", real=True)
NEW = sympy.Symbol("new", real=True)
Operands = Callable[[Expression], tuple[tuple[Expression, View], ...]]


class TotalsLowering:
    """Emits the totals of a schedule; ``operands`` binds the symbols of an expression for all t at once."""

    def __init__(
        self,
        schedule: Schedule,
        places: Places,
        layout: ParameterLayout,
        states: Mapping[str, int],
        ahead: Mapping[str, int],
        operands: Operands,
        weights: WeightsLowering,
        sparse: SparseLowering,
    ) -> None:
        self.schedule = schedule
        self.places = places
        self.layout = layout
        self.states = states
        self.ahead = ahead
        self.operands = operands
        self.weights = weights
        self.sparse = sparse
        self.storage = "gradient"  # where the gradients go that are computed now
        self.views: dict[str, View] = {}  # of the totals
        self.statements: list[Statement] = []
        self.left: dict[str, list[Contribution]] = {}
        self.started: set[str] = set()
        self.scratch: dict[tuple[str, bool], Buffer] = {}
        self.note_of: dict[str, str] = {}

    def run(self, notes: Mapping[str, str]) -> None:
        """Append every total to ``statements``, in order: the loss, then the gradients but for ``through_weights``."""
        for total in self.schedule.system.totals:
            if total.kind == "loss":
                self._loss(total, notes.get(total.name, ""))
        kinds = [total.kind for total in self.schedule.system.totals if total.of is not None]
        for kind in dict.fromkeys(kinds):  # a tangent needs some of the gradients whose tangents it is
            self.storage = "gradient" if kind == kinds[-1] else "first_gradient"
            self._gradients([total for total in self.schedule.system.totals if total.of and total.kind == kind], notes)

    def _gradients(self, gradients: Sequence[Total], notes: Mapping[str, str]) -> None:
        """The gradients of one kind, but for what comes through effective weights."""
        self.note_of = {total.of: notes.get(total.name, "") for total in gradients if total.of is not None}
        self.left = {
            total.of: [piece for piece in total.contributions if not isinstance(piece, Contraction | WeightValue)]
            for total in gradients
            if total.of is not None
        }
        self.started = set()
        for item in self.schedule.items():
            if isinstance(item, Product) and not item.blocks[0][0].transposed:
                self._packed(item)
        for total in gradients:
            assert total.of is not None
            self.views[total.name] = self._gradient(total.of)
            self._remaining(total, notes.get(total.name, ""))

    def _gradient(self, name: str) -> View:
        """Where the gradient by a parameter or effective weight goes."""
        return self.layout.view(name, self.storage)

    def through_weights(self, notes: Mapping[str, str]) -> None:
        """What comes back through effective weights, after all else. A gradient that nothing else adds to is written
        where it goes."""
        wanted: dict[str, list[Total]] = {}
        for total in self.schedule.system.totals:
            for piece in total.contributions:
                if isinstance(piece, WeightValue):
                    wanted.setdefault(piece.weight, []).append(total)
        targets = {
            weight: (self.views[totals[0].name], notes.get(totals[0].name, ""))
            for weight, totals in wanted.items()
            if len(totals) == 1 and len(totals[0].contributions) == 1
        }
        self.weights.gradient = lambda name: self.views[name]
        self.statements += self.weights.backward(targets)
        for weight, totals in wanted.items():
            for total in totals:
                if weight not in targets and total.of is not None:
                    self._add(total.of, self.weights.view(weight), notes.get(total.name, ""))

    def _loss(self, total: Total, note: str) -> None:
        scalar = View(Buffer(total.name, "scalar", 1), None, 0, 1, label=total.name)
        for number, contribution in enumerate(total.contributions):
            assert isinstance(contribution, PointwiseSum)
            values = self._values(contribution, "loss_values", note)
            self.statements.append(Reduce(scalar, "all", values, accumulate=number > 0, note=""))
        self.statements.append(Store(scalar, "loss", total.name))

    def _values(self, contribution: PointwiseSum, name: str, note: str) -> View:
        """The summands for all t: the signal itself, or a scratch buffer that holds the expression."""
        expression = contribution.expression
        if expression.is_Symbol and not isinstance(read := meaning(expression), str):
            return self.places.of[read.signal].span(read.delay, read.signal)
        buffer = Buffer(f"{name}_{contribution.size}", "sequence", contribution.size, length=Bound(0, 1))
        view = View(buffer, Span(Bound(0), Bound(0, 1)), 0, contribution.size, label=name)
        expression = rewrite_in_primitives(expression)
        self.statements.append(Assign(view, expression, self.operands(expression), note=note))
        return view

    # Gradients of a product's weights: one matrix product for all of them.

    def _packed(self, product: Product) -> None:
        source = self.places.sources.get(product.results[0])
        if source is None or bool(product.biases) != source.ones:
            return
        rights = [self._right(product, column) for column in range(len(product.results))]
        if not all(rights):
            return
        deltas = [right for right in rights if right is not None]
        if product.biases and not all(
            PointwiseSum(at(delta), self.schedule.signals[delta].size) in self.left.get(bias, ())
            for delta, bias in zip(deltas, product.biases, strict=True)
        ):
            return
        joined = self.places.side_by_side([Slot(delta, 0) for delta in deltas])
        if joined is None:
            return
        self._consume(product, deltas)
        first = Bound(source.offset)
        left = View(source.buffer, Span(first, Bound(source.offset, 1)), 0, source.buffer.columns, transposed=True,
                    label=source.buffer.name)  # fmt: skip
        right = joined.span(0, joined.buffer.name)
        names = [weight.parameter for row in product.blocks for weight in row] + list(product.biases)
        note = "; ".join(dict.fromkeys(text for name in names if (text := self.note_of.get(name))))
        block = self._whole_block(names)
        if block is not None and self._in_place(product, source.columns):
            self.started.update(names)
            self.statements.append(MatMul(block, left, right, note=note))
            return
        scratch = self._scratch(f"gradient_of_{product.results[0]}", left.columns, right.columns)
        self.statements.append(MatMul(scratch, left, right, note=note))
        self._scatter(product, scratch, source.columns)

    def _right(self, product: Product, column: int) -> str | None:
        """The delta that all weights of this column's gradients have on their right, or None."""
        common: set[str] | None = None
        for slot, weights in zip(product.sources, product.blocks, strict=True):
            found = {
                piece.right
                for piece in self.left.get(weights[column].parameter, ())
                if isinstance(piece, Outer) and (piece.left, piece.left_delay, piece.right_delay) == (*_key(slot), 0)
            }
            if weights[column].parameter not in self.left:
                continue  # a constant: its rows of the product are not used
            common = found if common is None else common & found
        wanted = {
            name
            for name in common or ()
            if self._differentiated(name) in (product.results[column], self._owner(product, column))
        }
        return min(wanted) if wanted else None

    def _differentiated(self, delta: str) -> str | None:
        """The signal that ``delta`` is the adjoint of, or the tangent of the adjoint of."""
        signal = self.schedule.signals[delta]
        while signal.kind == "tangent" and signal.origin is not None:
            signal = self.schedule.signals[signal.origin]
        return signal.origin

    def _owner(self, product: Product, column: int) -> str | None:
        """The signal whose equation the product's result was split from."""
        return self.schedule.signals[product.results[column]].origin

    def _consume(self, product: Product, deltas: list[str]) -> None:
        for slot, weights in zip(product.sources, product.blocks, strict=True):
            for delta, weight in zip(deltas, weights, strict=True):
                if weight.parameter in self.left:
                    self.left[weight.parameter].remove(Outer(slot.signal, delta, slot.delay, 0))
        for delta, bias in zip(deltas, product.biases, strict=bool(product.biases)):
            self.left[bias].remove(PointwiseSum(at(delta), self.schedule.signals[delta].size))

    def _whole_block(self, names: list[str]) -> View | None:
        """The block of the gradient vector that holds exactly these parameters, none of them written yet, or None."""
        if any(name not in self.left or name in self.started for name in names):
            return None
        numbers = {self.layout.cells[name].block for name in names}
        if len(numbers) > 1 or len(set(names)) < len(names):
            return None
        buffer = self.layout.buffer(numbers.pop(), self.storage)
        area = sum(
            (cell.rows[1] - cell.rows[0]) * (cell.columns[1] - cell.columns[0])
            for cell in (self.layout.cells[name] for name in names)
        )
        if area != buffer.rows * buffer.columns:
            return None
        return View(buffer, None, 0, buffer.columns, (0, buffer.rows), label=buffer.name)

    def _in_place(self, product: Product, rows: tuple[tuple[int, int], ...]) -> bool:
        """Whether every weight and bias lies in its block where it stands in the product's matrix."""
        column = 0
        for j, result in enumerate(product.results):
            own = column, column + self.schedule.signals[result].size
            column = own[1]
            places = [(weights[j].parameter, span) for weights, span in zip(product.blocks, rows, strict=True)]
            places += [(bias, (rows[-1][1], rows[-1][1] + 1)) for bias in product.biases[j : j + 1]]
            for name, span in places:
                cell = self.layout.cells[name]
                if (cell.rows, cell.columns) != (span, own):
                    return False
        return True

    def _scratch(self, name: str, rows: int, columns: int) -> View:
        buffer = Buffer(name, "matrix", columns, rows)
        return View(buffer, None, 0, columns, (0, rows), label=buffer.name)

    def _scatter(self, product: Product, scratch: View, columns: tuple[tuple[int, int], ...]) -> None:
        starts = [0]
        for result in product.results:
            starts.append(starts[-1] + self.schedule.signals[result].size)
        for rows, weights in zip(columns, product.blocks, strict=True):
            for j, weight in enumerate(weights):
                if weight.parameter in self.left:
                    part = dataclasses.replace(scratch, start=starts[j], stop=starts[j + 1], rows=rows)
                    self._add(weight.parameter, part, "")
        last = scratch.buffer.rows - 1
        for j, bias in enumerate(product.biases):
            part = dataclasses.replace(scratch, start=starts[j], stop=starts[j + 1], rows=(last, last + 1), vector=True)
            self._add(bias, part, "")

    def _add(self, name: str, part: View, note: str) -> None:
        target = self._gradient(name)
        if name in self.started:
            self.statements.append(Assign(target, OLD + NEW, ((OLD, target), (NEW, part)), note=note))
        else:
            self.statements.append(Copy(target, part, note=note))
        self.started.add(name)

    # Everything else, one contribution at a time.

    def _remaining(self, total: Total, note: str) -> None:
        name = total.of
        assert name is not None
        target = self._gradient(name)
        for contribution in self.left[name]:
            if isinstance(contribution, Outer):
                self._outer(name, contribution, note)
            elif isinstance(contribution, SparseOuter):
                self._sparse_outer(name, contribution, note)
            elif isinstance(contribution, PointwiseSum):
                values = self._values(contribution, "summands", note)
                self.statements.append(Reduce(target, "rows", values, name in self.started, note=note))
            elif isinstance(contribution, BoundarySum):
                self._initial_value(name, contribution, note)
            self.started.add(name)
        through_weights = any(isinstance(piece, WeightValue) for piece in total.contributions)
        if name not in self.started and not (through_weights and not self.schedule.system.online):
            swept = any(isinstance(piece, Contraction) for piece in total.contributions)  # noted where it is added up
            self.statements.append(Fill(target, 0.0, note="" if swept else note))
            self.started.add(name)

    def _outer(self, name: str, outer: Outer, note: str) -> None:
        left = self.places.of[outer.left].span(outer.left_delay, outer.left)
        right = self.places.of[outer.right].span(outer.right_delay, outer.right)
        left = dataclasses.replace(left, transposed=True)
        target = self._gradient(name)
        if target.whole and name not in self.started:
            self.statements.append(MatMul(target, left, right, note=note))
            return
        scratch = self._scratch(f"gradient_by_{name}", left.columns, right.columns)
        self.statements.append(MatMul(scratch, left, right, note=note))
        self._add(name, scratch, "")

    def _sparse_outer(self, name: str, outer: SparseOuter, note: str) -> None:
        target = self._gradient(name)
        if name not in self.started:
            self.statements.append(self.sparse.gradient(outer, target, note))
            return
        scratch = dataclasses.replace(self._scratch(f"gradient_by_{name}", 1, target.columns), vector=True)
        self.statements.append(self.sparse.gradient(outer, scratch, note))
        self._add(name, scratch, "")

    def _initial_value(self, name: str, boundary: BoundarySum, note: str) -> None:
        target = self._gradient(name)
        if name not in self.started:
            self.statements.append(Fill(target, 0.0))
        values = self.boundary_values(boundary.signal, boundary.node, boundary.ahead)
        if values is not None:
            given = self.schedule.system.ahead_names[boundary.node] if boundary.ahead else boundary.node
            self.statements.append(Reduce(target, "rows", values, True, unless_state=given, note=note))

    def boundary_values(self, signal: str, node: str, ahead: bool = False) -> View | None:
        """The adjoint of ``node`` at t = 1-depth..0, or at T+1..T+depth, in a scratch buffer; None when it is 0."""
        depth = (self.ahead if ahead else self.states)[node]
        expression = self.schedule.boundaries.get((signal, ahead))
        if expression is None:
            return None
        size = self.schedule.signals[signal].size
        buffer = Buffer(f"{signal}_{'after' if ahead else 'before'}", "sequence", size, length=Bound(depth))
        view = View(buffer, Span(Bound(0), Bound(depth)), 0, size, label=buffer.name)
        if (node, ahead) not in self.scratch:
            self.scratch[node, ahead] = buffer
            operands: list[tuple[Expression, View]] = []
            for symbol in symbols_of(expression):
                read = meaning(symbol)
                assert not isinstance(read, str)
                if read.signal in self.sparse.items:
                    values = dataclasses.replace(buffer, name=f"{read.signal}_before")
                    operands.append((symbol, dataclasses.replace(view, buffer=values, label=values.name)))
                    self.statements += self.sparse.before_start(read.signal, operands[-1][1], depth)
                    continue
                place = self.places.of[read.signal]
                start = place.offset - read.delay - (0 if ahead else depth)
                rows = Bound(start, int(ahead)), Bound(start + depth, int(ahead))
                operands.append((symbol, place.rows(*rows, read.signal)))
            note = f"{signal}(t) for t = " + (f"T+1..T+{depth}" if ahead else f"{1 - depth}..0")
            self.statements.append(Assign(view, rewrite_in_primitives(expression), tuple(operands), note=note))
        return view


def _key(slot: Slot) -> tuple[str, int]:
    return slot.signal, slot.delay
