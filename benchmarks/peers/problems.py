"""The networks, data and parameters of the comparison: the same in each process, by the names that the graphs use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

FORWARD, GRADIENT = "forward", "forward + gradient"
LSTM_GATES, GRU_GATES = "ifzo", "rzn"  # torch's order of them; it calls z g
DEPTH = 3  # of the stack
LONGEST = 10  # delay of the NARX network
TRAINED_ONLY = ("delayed", "narx")  # networks of which only the gradient is timed


class Case(NamedTuple):
    """A network by its name, sequence length, batch, inputs, units."""

    network: str
    T: int
    B: int
    I: int  # noqa: E741 (the letter of the tables)
    H: int

    @property
    def label(self) -> str:
        """The sizes as the table has them."""
        return f"({self.T}, {self.B}, {self.I}, {self.H})"

    @property
    def outputs(self) -> int:
        """Size of the output."""
        return 1 if self.network == "narx" else self.H

    @property
    def tasks(self) -> tuple[str, ...]:
        """What is timed."""
        return (GRADIENT,) if self.network in TRAINED_ONLY else (FORWARD, GRADIENT)


class Layer(NamedTuple):
    """The parameters of one gated or simple layer, gate by gate: of the input, of h(t-1), biases, recurrent biases."""

    inputs: list[str]
    recurrent: list[str]
    bias: list[str]
    recurrent_bias: str | None = None  # of the GRU's candidate


def layers(case: Case) -> list[Layer]:
    """The layers of an LSTM, GRU, Elman network or stack of LSTMs, from the input up."""
    if case.network == "lstm":
        return [Layer(*([f"{name}_{gate}" for gate in LSTM_GATES] for name in ("W_x", "W_h", "b")))]
    if case.network == "gru":
        recurrent = ["W_h_r", "W_h_z", "W_h_hn"]
        return [Layer([f"W_x_{g}" for g in GRU_GATES], recurrent, [f"b_{g}" for g in GRU_GATES], "b_hn")]
    if case.network == "elman":
        return [Layer(["W"], ["R"], ["b_a"])]
    below = ["x", *(f"h{level}" for level in range(1, DEPTH))]
    return [
        Layer(*([f"{name}_{gate}{level}" for gate in LSTM_GATES] for name in (f"W_{source}", f"W_h{level}", "b")))
        for level, source in enumerate(below, start=1)
    ]


def shapes(case: Case) -> dict[str, tuple[int, ...]]:
    """The parameters' shapes, (source, destination)."""
    _, _, _, I, H = case  # noqa: E741
    if case.network == "delayed":
        return {"W": (I, H), "G": (I, H), "R1": (H, H), "R5": (H, H), "R2": (H, H), "b_h": (H,), "b_g": (H,)}
    if case.network == "narx":
        weights: dict[str, tuple[int, ...]] = {f"W_d{d}": (I, H) for d in range(LONGEST + 1)}
        weights |= {f"R_d{d}": (1, H) for d in range(1, LONGEST + 1)}
        return weights | {"V": (H, 1), "b_a": (H,), "b_y": (1,)}
    found: dict[str, tuple[int, ...]] = {}
    for level, layer in enumerate(layers(case)):
        found |= dict.fromkeys(layer.inputs, (H if level else I, H)) | dict.fromkeys(layer.recurrent, (H, H))
        found |= dict.fromkeys([*layer.bias, *([layer.recurrent_bias] if layer.recurrent_bias else [])], (H,))
    return found


class Problem(NamedTuple):
    """Parameters by name, input (T, B, I) and target (T, B, outputs), float32."""

    parameters: dict[str, Any]
    x: Any
    target: Any


def make(case: Case) -> Problem:
    """The case's data, drawn with a fixed seed."""
    random = np.random.default_rng(0)
    scale = 1 / np.sqrt(case.H)
    parameters = {name: random.uniform(-scale, scale, shape) for name, shape in shapes(case).items()}
    x = random.standard_normal((case.T, case.B, case.I)).astype(np.float32)
    target = random.standard_normal((case.T, case.B, case.outputs)).astype(np.float32)
    return Problem({name: value.astype(np.float32) for name, value in parameters.items()}, x, target)


def pack(named: Mapping[str, Any], names: Sequence[str], axis: int = -1) -> Any:
    """Parameters side by side (``axis`` = -1) or above each other (0)."""
    return np.concatenate([named[name] for name in names], axis)


def unpack(array: Any, names: Sequence[str], axis: int = -1) -> dict[str, Any]:
    """The inverse of ``pack``, for parameters of one shape."""
    return dict(zip(names, np.split(np.asarray(array), len(names), axis), strict=True))


def in_order(case: Case, loss: Any, gradient: Mapping[str, Any]) -> list[Any]:
    """Loss and gradient as the results that are compared: every parameter of the network."""
    return [float(loss), *(np.asarray(gradient[name]) for name in shapes(case))]
