"""Losses: pointwise expressions in y and target, summed over units, averaged over time and batch with weights.

L = sum over t and batch of w(t) l(y(t), target(t)), where the step weights w are normalised to sum to one
(1/(T batch) each unless the caller gives weights; 0 masks a step).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import sympy

from codegen.functions import softplus
from rnngraph.equations import (
    Equation,
    PointwiseSum,
    Signal,
    Term,
    Total,
    at,
    fresh_name,
)
from rnngraph.errors import OptionError
from rnngraph.model import Expression
from rnngraph.parsing import parse_equation
from rnngraph.system import System

LOSSES = ("mse", "cross_entropy", "binary_cross_entropy")
Y = sympy.Symbol("y", real=True)
TARGET = sympy.Symbol("target", real=True)


def resolve_losses(outputs: tuple[str, ...], loss: object) -> dict[str, object]:
    """Which loss each output has. ``loss`` is a name, an expression, or a mapping output -> name or expression."""
    if not isinstance(loss, Mapping):
        return dict.fromkeys(outputs, loss)
    for output in loss:
        if output not in outputs:
            raise OptionError(
                "loss", f"the output {output!r}", f"one of {list(outputs)}", "name outputs of the graph only"
            )
    if not loss:
        raise OptionError("loss", "an empty mapping", "a loss for at least one output", "give {output: 'mse'}")
    return {output: loss[output] for output in outputs if output in loss}


def with_loss(system: System, loss: object) -> System:
    """``system`` with targets, step weights and the total "loss"; raises OptionError for an unknown loss."""
    signals = dict(system.signals)
    equations = list(system.equations)
    weight = fresh_name("w", signals)
    signals[weight] = Signal(weight, 1, "weight")
    contributions: list[PointwiseSum] = []
    names: dict[str, str] = {}
    for output, chosen in resolve_losses(system.outputs, loss).items():
        size = signals[output].size
        target = fresh_name(f"target_{output}", signals)
        signals[target] = Signal(target, size, "target", output)
        names[output] = chosen if isinstance(chosen, str) and chosen in LOSSES else "expression"
        if names[output] == "cross_entropy":
            if size < 2:
                raise OptionError(
                    "loss", f"cross_entropy on output {output!r} of size {size}", "one unit per class, two at least",
                    "use binary_cross_entropy for a single logit",
                )  # fmt: skip
            total = fresh_name(f"m_{output}", signals)
            signals[total] = Signal(total, 1, "auxiliary", output)
            equations.append(Equation(total, (Term("logsumexp", output),), sympy.S.Zero))
            contributions.append(PointwiseSum(at(weight) * at(total), 1, over_units=True))
            contributions.append(PointwiseSum(-at(weight) * at(target) * at(output), size, over_units=True))
            continue
        expression = _loss_expression(chosen).xreplace({Y: at(output), TARGET: at(target)})
        parts = 1 if output in system.layers else size  # each unit of a layer is an output of its own
        contributions.append(PointwiseSum(at(weight) * expression / parts, size, over_units=True))
    return dataclasses.replace(
        system,
        title="forward and loss",
        signals=signals,
        equations=tuple(equations),
        totals=(*system.totals, Total("loss", "loss", tuple(contributions))),
        losses=names,
    )


def _loss_expression(chosen: object) -> Expression:
    """The loss of one unit as an expression in Y and TARGET."""
    if not isinstance(chosen, str | sympy.Basic):
        raise OptionError(
            "loss", f"a {type(chosen).__name__}", f"one of {list(LOSSES)} or an expression in y and target",
            "give a name, a string or a sympy expression",
        )  # fmt: skip
    if chosen == "mse":
        return (Y - TARGET) ** 2
    if chosen == "binary_cross_entropy":
        return softplus(Y) - TARGET * Y
    if isinstance(chosen, str) and chosen.isidentifier() and chosen not in ("y", "target"):
        raise OptionError(
            "loss", repr(chosen), f"one of {list(LOSSES)} or an expression in y and target", "check the loss's spelling"
        )
    expression, names = parse_equation(chosen, ("y", "target"), "loss")
    if "y" not in names:
        raise OptionError("loss", repr(chosen), "an expression that depends on y", "use y for the output")
    return expression
