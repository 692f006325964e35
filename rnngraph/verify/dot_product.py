"""Check "dot_product": <J v, u> = <v, J^T u> for the derivative J of all outputs by all parameters.

``jvp`` gives J v (forward mode), ``vjp`` gives J^T u (reverse mode): two derivations with nothing in common but sympy's
partial derivatives. Both sides are evaluated in float64 by the reference interpreter, at the network's true sizes. They
are sums of the same products in another order, so they agree to rounding: 1e-11 relative to the sums of absolute values
allows some 10^4 roundings on top of each other. One row per parameter (v is 0 elsewhere) and one row for the loss.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnngraph.derive import derive_model
from rnngraph.evaluate import Evaluation
from rnngraph.jvp import jvp
from rnngraph.losses import with_loss
from rnngraph.model import Model
from rnngraph.system import System
from rnngraph.verify.report import VerificationRow, row
from rnngraph.vjp import vjp

Array = NDArray[Any]

TOLERANCE = 1e-11
BATCH = 2
MOST_STEPS = 10
ATTEMPTS = 20


def check_dot_product(model: Model, loss: object, seed: int) -> list[VerificationRow]:
    """Rows named as by the other checks: dL/dW for each parameter, here with L = <u, outputs>, and L itself."""
    forward = derive_model(model)
    T = min(max([0, *forward.state_depths.values(), *forward.ahead_depths.values()]) + 3, MOST_STEPS)
    linear = with_loss(forward, "y*target")  # <u, y> up to the loss's weights and its mean over units
    with np.errstate(all="ignore"):  # values outside a function's domain are drawn anew
        for attempt in range(ATTEMPTS):
            rng = np.random.default_rng([seed, attempt, 6])
            rows = _compare(linear, T, rng, "parameters")
            rows += _compare(with_loss(forward, loss), T, rng, "loss")
            if all(np.isfinite(found.error) for found in rows):
                break
    return rows


def _compare(system: System, T: int, rng: np.random.Generator, what: str) -> list[VerificationRow]:
    given, state, parameters = _data(system, T, rng)
    direction = {name: rng.normal(size=shape) for name, shape in system.parameters.items()}
    reverse = Evaluation(vjp(system), T, BATCH, given, parameters, state)
    gradients = {total.of: reverse.total(total) for total in reverse.system.totals if total.kind == "gradient"}
    pulled = {name: gradients[name] * direction[name] for name in system.parameters}  # the products of <v, J^T u>
    loss = abs(float(reverse.total(system.total("loss"))))
    tangents = jvp(system)
    tangent = tangents.totals[-1]  # <J v, u>
    names = list(system.parameters)
    dotted = dict(zip(names, list(tangents.parameters)[len(names) :], strict=True))  # in jvp's order
    title = "dL/d{}" if what == "parameters" else "L"
    varied = "outputs" if what == "parameters" else "loss"
    compared = f"{varied} along a random direction, T={T}, batch={BATCH}, float64"
    rows = []
    for chosen in [[name] for name in names] if what == "parameters" else [names]:
        along = {dotted[name]: direction[name] if name in chosen else np.zeros(direction[name].shape) for name in names}
        forward = Evaluation(tangents, T, BATCH, given, {**parameters, **along}, state)
        left = float(forward.total(tangent))
        right = float(sum(pulled[name].sum() for name in chosen))
        # The share of the loss keeps a derivative that is 0, but for rounding, from being judged relative to itself.
        size = abs(left) + sum(np.abs(pulled[name]).sum() for name in chosen) + 1e-3 * loss + np.finfo(float).tiny
        rows.append(row("dot_product", title.format(chosen[0]), abs(left - right) / float(size), TOLERANCE, compared))
    return rows


def _data(system: System, T: int, rng: np.random.Generator) -> tuple[dict[str, Array], ...]:
    """Inputs, targets and weights; the state of the nodes whose initial value is not learned; parameters."""
    given: dict[str, Array] = {}
    for name, signal in system.signals.items():
        shape = (T, BATCH, signal.size)
        if signal.kind == "weight":
            given[name] = rng.uniform(0.5, 1.5, size=shape) / (T * BATCH)
        elif signal.kind == "input":
            given[name] = rng.normal(size=shape)
        elif signal.kind == "target":
            kind = system.losses[str(signal.origin)]
            if kind == "cross_entropy":
                given[name] = np.eye(signal.size)[rng.integers(0, signal.size, size=(T, BATCH))]
            else:
                given[name] = rng.uniform(size=shape) if kind == "binary_cross_entropy" else rng.normal(size=shape)
    state = {
        name: rng.normal(scale=0.5, size=(depth, BATCH, system.signals[name].size))
        for name, depth in system.state_depths.items()
        if not isinstance(system.signals[name].initial, str)
    }
    for name, depth in system.ahead_depths.items():
        if not isinstance(system.signals[name].initial, str):
            shape = (depth, BATCH, system.signals[name].size)
            state[system.ahead_names[name]] = rng.normal(scale=0.5, size=shape)
    parameters = {
        name: rng.normal(scale=0.6 / np.sqrt(shape[0]) if len(shape) > 1 else 0.4, size=shape)
        for name, shape in system.parameters.items()
    }
    return given, state, parameters
