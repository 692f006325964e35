"""Checkpoints: BPTT that keeps the states at the starts of windows alone, and computes a window again on the way back.

With windows of K steps memory is that of T/K states and of the history of K steps: least near K = sqrt(T), where both
grow with sqrt(T) (Chen, Xu, Zhang and Guestrin 2016, "Training deep nets with sublinear memory cost"; Griewank and
Walther 2000 for more levels). The gradient is that of BPTT: the loss of a window, plus the inner product of the state
after it with that state's adjoint, has the gradient that the window adds, and by its first state the adjoint for the
window before.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from rnngraph.equations import PointwiseSum, Signal, at, fresh_name
from rnngraph.errors import OptionError, UnsupportedError
from rnngraph.rules import Rule
from rnngraph.system import System
from rnngraph.vjp import vjp

SQRT = 0  # steps of a window that stand for the square root of T, rounded up


def check_checkpoint(checkpoint: object, rule: Rule) -> int | None:
    """The steps of a window, SQRT, or None; raises OptionError for another value, UnsupportedError for another rule
    than "bptt"."""
    if checkpoint is None:
        return None
    if isinstance(checkpoint, str) and checkpoint == "sqrt":
        steps = SQRT
    elif isinstance(checkpoint, int | np.integer) and not isinstance(checkpoint, bool) and checkpoint >= 1:
        steps = int(checkpoint)
    else:
        raise OptionError(
            "checkpoint", repr(checkpoint), "'sqrt' or a number of steps >= 1", "leave it out to keep the whole history"
        )
    if rule.name != "bptt":
        raise UnsupportedError(
            "checkpoint", f"method={str(rule)!r}", "method='bptt', which keeps the history of the whole sequence",
            "leave checkpoint out: this rule's memory does not grow as BPTT's does",
        )  # fmt: skip
    return steps


def ends_of(system: System, wrt: tuple[str, ...]) -> dict[str, str]:
    """The states whose adjoints go from window to window, with the names under which a window is given them."""
    ends: dict[str, str] = {}
    for node in system.state_depths:
        if system.signals[node].kind != "input" or "inputs" in wrt or "state" in wrt:
            ends[node] = fresh_name(f"end_{node}", {**system.signals, **dict.fromkeys(ends.values())})
    return ends


def window_gradient(system: System, wrt: tuple[str, ...]) -> System:
    """The gradient of a window of a System with a loss. Raises UnsupportedError for one that looks ahead."""
    for name, steps in system.ahead_depths.items():
        raise UnsupportedError(
            "checkpoint", f"a network that reads node {name!r} at t+{steps}",
            "delays >= 0, as a window ends where the future begins", "leave checkpoint out",
        )  # fmt: skip
    ends = ends_of(system, wrt)
    signals = {**system.signals}
    products = []
    for node, end in ends.items():
        size = signals[node].size
        signals[end] = Signal(end, size, "target", end)
        products.append(PointwiseSum(at(node) * at(end), size, over_units=True))
    totals = tuple(
        dataclasses.replace(total, contributions=(*total.contributions, *products)) if total.kind == "loss" else total
        for total in system.totals
    )
    extended = dataclasses.replace(system, signals=signals, totals=totals)
    return vjp(extended, wrt=tuple(dict.fromkeys((*wrt, "state"))), states=tuple(ends))
