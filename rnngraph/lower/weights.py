"""Effective weights -> statements: before all others what they are, after the totals what comes back through them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from math import prod

from codegen.functions import rewrite_in_primitives
from codegen.ir import Buffer, Entrywise, Statement, View
from rnngraph.equations import Weight, meaning, symbols_of
from rnngraph.lower.layout import ParameterLayout
from rnngraph.system import System

Shape = tuple[int, ...]


class WeightsLowering:
    """``constant`` gives the view of a constant, ``gradient`` that of a total by its name."""

    def __init__(
        self,
        system: System,
        layout: ParameterLayout,
        constant: Callable[[str], View],
        notes: Mapping[str, str],
        gradient: Callable[[str], View] | None = None,
    ) -> None:
        self.system = system
        self.layout = layout
        self.constant = constant
        self.gradient = gradient
        self.notes = notes
        self.views: dict[str, tuple[View, Shape]] = {}
        for weight in system.weights:
            self.views[weight.name] = self._place(weight), weight.shape

    def forward(self) -> list[Statement]:
        """The statements that compute the weights."""
        return [self._statement(weight) for weight in self.system.weights]

    def backward(self, targets: Mapping[str, tuple[View, str]]) -> list[Statement]:
        """The statements of the gradient's weights; ``targets`` has the view that a weight is to be written to, and
        the comment on it, for those that have one."""
        statements: list[Statement] = []
        for weight in self.system.weight_gradients:
            if weight.operator == "stack":
                assert self.gradient is not None
                self.views[weight.name] = _stacked([self.gradient(name) for name in weight.slices]), weight.shape
                continue
            view, note = targets.get(weight.name) or (self._own(weight), "")
            self.views[weight.name] = view, weight.shape
            statements.append(self._statement(weight, note))
        return statements

    def view(self, name: str) -> View:
        """Where a weight lies, once ``forward`` or ``backward`` have been called."""
        return self.views[name][0]

    def _place(self, weight: Weight) -> View:
        """Where equations read the weight, or a matrix of its own."""
        first = weight.slices[0] if weight.slices else weight.name
        if first not in self.layout.cells:
            return self._own(weight)
        if not weight.slices:
            return self.layout.view(first)
        return _stacked([self.layout.view(name) for name in weight.slices])

    def _own(self, weight: Weight) -> View:
        rows = prod(weight.shape[:-1])
        buffer = Buffer(f"weight_{weight.name}", "matrix", weight.shape[-1], rows)
        vector = len(weight.shape) == 1
        return View(buffer, None, 0, buffer.columns, (0, rows), vector=vector, label=weight.name)

    def _statement(self, weight: Weight, note: str = "") -> Statement:
        expression = rewrite_in_primitives(weight.expression)
        operands, shapes = [], []
        for symbol in symbols_of(expression):
            view, shape = self._operand(str(meaning(symbol)))
            operands.append((symbol, view))
            shapes.append(shape)
        target = self.views[weight.name][0]
        note = self.notes.get(weight.name, note)
        return Entrywise(target, weight.shape, weight.operator, expression, tuple(operands), tuple(shapes), note)

    def _operand(self, name: str) -> tuple[View, Shape]:
        if name in self.views:
            return self.views[name]
        if name in self.system.parameters:
            return self.layout.view(name), self.system.parameters[name]
        if name in self.system.constants:
            return self.constant(name), self.system.constants[name].shape
        assert self.gradient is not None, f"{name}: a total among the weights of the forward pass"
        view = self.gradient(name)
        rows = 0 if view.rows is None else view.rows[1] - view.rows[0]
        return view, (view.columns,) if view.vector else (rows, view.columns)


def _stacked(views: Sequence[View]) -> View:
    """One view of matrices or vectors that lie one above the other."""
    first, last = views[0].rows, views[-1].rows
    assert first is not None and last is not None
    return dataclasses.replace(views[0], rows=(first[0], last[1]), vector=False, label=views[0].buffer.name)
