"""Effective weights as equations: which of them are shown, and how their names and right-hand sides are written.

What has one matrix for each delay is written with the index d.
"""

from __future__ import annotations

from collections.abc import Iterable

from rnngraph.display.notation import PRODUCT, Notation
from rnngraph.equations import Weight, WeightValue
from rnngraph.system_like import SystemLike

DELAY = "d"


class WeightText:
    """The weights of one system as text."""

    def __init__(self, system: SystemLike) -> None:
        self.system = system
        self.weights = {weight.name: weight for weight in (*system.weights, *system.weight_gradients)}
        self.totals = {total.name: total for total in system.totals}
        self.by_delay = self._by_delay()

    def _by_delay(self) -> set[str]:
        """The names of what has one matrix, vector or number for each delay."""
        found = {name for name, value in self.system.constants.items() if value.ndim > 2}
        for weight in self.weights.values():
            if weight.operator == "softmax":
                found.update((weight.name, *weight.reads()))
            elif (
                weight.slices
                or (weight.operator == "pointwise" and found.intersection(weight.reads()))
                or (weight.operator == "sum" and not self._sums_delays(weight))
            ):
                found.add(weight.name)
        return found

    def _sums_delays(self, weight: Weight) -> bool:
        """Whether a sum is over the delays, and not over units."""
        return 1 not in weight.shape or len(weight.shape) < max(map(len, self._shapes(weight.reads())), default=0)

    def _shapes(self, names: Iterable[str]) -> list[tuple[int, ...]]:
        known = {**self.system.parameters, **{name: weight.shape for name, weight in self.weights.items()}}
        return [known[name] for name in names if name in known]

    def shown(self) -> list[Weight]:
        """The weights of the forward pass, and those of the gradient that other weights read."""
        read = {name for weight in self.system.weight_gradients for name in weight.reads()}
        back = [each for each in self.system.weight_gradients if each.operator != "stack" and each.name in read]
        return [*self.system.weights, *back]

    def name(self, name: str, writer: Notation) -> str:
        """A parameter, constant, weight or total inside an equation of weights."""
        index = f"[{DELAY}]" if name in self.by_delay else ""
        if name in self.totals:
            of = self.totals[name].of
            return writer.derivative(of) if of is not None else writer.name(name)
        weight = self.weights.get(name)
        if weight is not None and weight.operator == "stack":
            return writer.derivative(name.partition("/d")[2], index)
        return writer.name(name) + index

    def right(self, weight: Weight, pointwise: str, strength: int, writer: Notation) -> str:
        """The right-hand side, its expression written as ``pointwise``."""
        if weight.operator == "pointwise":
            return pointwise
        held = pointwise if strength >= PRODUCT else writer.bracket(pointwise)
        if weight.operator == "softmax":
            return writer.over_delays("softmax", DELAY, held)
        return writer.over_delays("sum", DELAY, held) if self._sums_delays(weight) else writer.sum_units(pointwise)

    def values(self) -> set[str]:
        """The weights that are the value of a gradient."""
        return {
            piece.weight
            for total in self.system.totals
            for piece in total.contributions
            if isinstance(piece, WeightValue)
        }

    def legend(self, writer: Notation) -> list[str]:
        """What the index stands for, and the names of the weights of each delay."""
        lines = []
        for weight in self.system.weights:
            if weight.slices:
                names = [writer.name(name) for name in weight.slices]
                shown = names if len(names) <= 4 else [*names[:2], "...", names[-1]]
                written = writer.math(self.name(weight.name, writer))
                lines.append(f"{written}: one for each delay, by the names {', '.join(map(writer.math, shown))}")
        return lines
