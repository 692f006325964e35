"""What the loops of the peers have in common: parameters packed for few products, of layers and of cells of our own.

The delayed cell h(t) = tanh(x W + h(t-1) R1 + h(t-5) R5) * sigmoid(x G + h(t-2) R2), and the closed-loop NARX network
a(t) = tanh(sum_d x(t-d) W_d + sum_d y(t-d) R_d), y(t) = a(t) V. What does not depend on the recurrence is one product
before the loop: the peers' loops get it as sums (T, B, width).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.peers.problems import LONGEST, TRAINED_ONLY, Case, Problem, layers, pack, unpack

X_NAMES = [f"W_d{d}" for d in range(LONGEST + 1)]
OWN_CELLS = TRAINED_ONLY
Y_NAMES = [f"R_d{d}" for d in range(1, LONGEST + 1)]


def packed_cell(case: Case, problem: Problem) -> tuple[Any, dict[str, Any]]:
    """The rows (T, B, sources) that the product before the loop reads, and the parameters: its weight ``W`` and bias
    ``b``, and those of the loop."""
    named = problem.parameters
    if case.network == "delayed":
        recurrent = {"R15": pack(named, ["R1", "R5"], 0), "R2": named["R2"]}
        return problem.x, {"W": pack(named, ["W", "G"]), "b": pack(named, ["b_h", "b_g"]), **recurrent}
    padded = np.concatenate([np.zeros((LONGEST, case.B, case.I), np.float32), problem.x])
    rows = np.concatenate([padded[LONGEST - d : LONGEST - d + case.T] for d in range(LONGEST + 1)], 2)
    recurrent = {"R": pack(named, Y_NAMES, 0), "V": named["V"], "b_y": named["b_y"]}
    return rows, {"W": pack(named, X_NAMES, 0), "b": named["b_a"], **recurrent}


def named_cell(case: Case, gradient: dict[str, Any]) -> dict[str, Any]:
    """Gradients of packed parameters by the names of the graph."""
    if case.network == "delayed":
        found = unpack(gradient["W"], ["W", "G"]) | unpack(gradient["b"], ["b_h", "b_g"])
        return found | unpack(gradient["R15"], ["R1", "R5"], 0) | {"R2": gradient["R2"]}
    found = unpack(gradient["W"], X_NAMES, 0) | unpack(gradient["R"], Y_NAMES, 0)
    return found | {"b_a": gradient["b"], "V": gradient["V"], "b_y": gradient["b_y"]}


def packed_layers(case: Case, named: dict[str, Any]) -> list[dict[str, Any]]:
    """For each layer its weights with the gates side by side."""
    found = []
    for layer in layers(case):
        values = {"W": pack(named, layer.inputs), "R": pack(named, layer.recurrent), "b": pack(named, layer.bias)}
        found.append(values | ({"b_r": named[layer.recurrent_bias]} if layer.recurrent_bias else {}))
    return found


def named_layers(case: Case, gradient: list[dict[str, Any]]) -> dict[str, Any]:
    """The inverse of ``packed_layers``."""
    found: dict[str, Any] = {}
    for layer, values in zip(layers(case), gradient, strict=True):
        found |= unpack(values["W"], layer.inputs) | unpack(values["R"], layer.recurrent)
        found |= unpack(values["b"], layer.bias)
        if layer.recurrent_bias:
            found[layer.recurrent_bias] = values["b_r"]
    return found


def packed(case: Case, problem: Problem) -> tuple[Any, dict[str, Any]]:
    """``packed_cell``, and one layer in the same form."""
    if case.network in OWN_CELLS:
        return packed_cell(case, problem)
    (values,) = packed_layers(case, problem.parameters)
    return problem.x, values


def named_gradient(case: Case, gradient: dict[str, Any]) -> dict[str, Any]:
    """The gradients of what ``packed`` packed by the names of the graph."""
    return named_cell(case, gradient) if case.network in OWN_CELLS else named_layers(case, [gradient])
