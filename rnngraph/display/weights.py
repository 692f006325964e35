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
        constants = self.system.constants
        found = {
            name
            for weight in self.system.weights
            if weight.slices
            for name in weight.reads()
            if name in constants and constants[name].ndim == len(weight.shape)
        }
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
        if name in self.totals:
            of = self.totals[name].of
            return writer.derivative(of) if of is not None else writer.name(name)
        if name in self.weights and "/d" in name:  # the gradient by an effective weight
            return writer.derivative(name.partition("/d")[2], self.index(name))
        return writer.name(name) + self.index(name)

    def index(self, name: str) -> str:
        """[d] for what has one matrix, vector or number for each delay."""
        return f"[{DELAY}]" if name in self.by_delay else ""

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
        delays = {
            term.parameter: term.delay
            for equation in self.system.equations
            if self.system.signals[equation.signal].kind != "adjoint"
            for term in equation.terms
        }
        for weight in self.system.weights:
            if weight.slices:
                shown = _some([writer.math(writer.name(name)) for name in weight.slices])
                written = writer.math(self.name(weight.name, writer))
                taken = [str(delays[name]) for name in weight.slices if name in delays]
                listed = f" {writer.math(DELAY)} = {_some(taken)}" if len(taken) == len(weight.slices) else ""
                lines.append(
                    f"{written}:{listed} by the names {shown}, in the order of the rows of arrays with the index"
                    f" {writer.math(DELAY)}"
                )
        for name, value in self.system.constants.items():
            if name in self.by_delay:
                whose = "that pair of units" if value.ndim > 2 else "that unit"
                written = writer.math(self.name(name, writer))
                lines.append(f"{written} is 1 where the delay of {whose} is {writer.math(DELAY)}, else 0")
        return lines


def _some(texts: list[str]) -> str:
    """A list, without its middle where it is long."""
    return ", ".join(texts if len(texts) <= 4 else [*texts[:2], "...", texts[-1]])
