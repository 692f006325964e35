"""Networks ready to use: each function returns a plain ``networkx.MultiDiGraph`` that obeys the graph contract.

The equations are those of Hochreiter's chapter "Recurrent Neural Networks": x input, s weighted sums, a activations,
y outputs, W input weights, R recurrent weights, V output weights, all of shape (source size, destination size). Every
weighted sum also has a bias, left out of the formulas. Activations are names ("tanh") or expressions in ``s``
("4*sigmoid(s) - 2"). Every function raises :class:`rnngraph.errors.GraphError` for an argument that is out of range.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import networkx as nx

from rnngraph.errors import GraphError
from rnngraph.zoo.classic import (
    elman,
    feedforward,
    focused_tdnn,
    fully_recurrent,
    jordan,
    layered_recurrent,
    nar,
    narx,
    tdnn,
)
from rnngraph.zoo.gated import SQUASHING_G_1997, SQUASHING_H_1997, gru, lstm
from rnngraph.zoo.stacking import STACKABLE, stack, stacked

__all__ = [
    "NETWORKS",
    "SQUASHING_G_1997",
    "SQUASHING_H_1997",
    "STACKABLE",
    "elman",
    "example",
    "feedforward",
    "focused_tdnn",
    "fully_recurrent",
    "gru",
    "jordan",
    "layered_recurrent",
    "lstm",
    "nar",
    "narx",
    "stack",
    "stacked",
    "tdnn",
]

NETWORKS: dict[str, Callable[..., nx.MultiDiGraph]] = {
    "feedforward": feedforward,
    "jordan": jordan,
    "elman": elman,
    "fully_recurrent": fully_recurrent,
    "layered_recurrent": layered_recurrent,
    "narx": narx,
    "nar": nar,
    "focused_tdnn": focused_tdnn,
    "tdnn": tdnn,
    "lstm": lstm,
    "gru": gru,
    "stacked": stacked,
}

_EXAMPLE_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "feedforward": ((3, 8, 2),),
    "jordan": (3, 8, 2),
    "elman": (3, 8, 2),
    "fully_recurrent": (3, 8, 2),
    "layered_recurrent": ((3, 8, 4, 2), [1, 2]),
    "narx": (1, 8, 1, 2, 2),
    "nar": (1, 8, 2),
    "focused_tdnn": ((3, 8, 2), [0, 1, 2]),
    "tdnn": ((3, 8, 2), (2, [0, 2])),
    "lstm": (3, 8),
    "gru": (3, 8),
    "stacked": ("lstm", 3, 8, 2),
}


def example(name: str) -> nx.MultiDiGraph:
    """The network of :data:`NETWORKS` with small sizes, as the command line's ``zoo:<name>`` means it."""
    if name not in NETWORKS:
        raise GraphError("network of the zoo", repr(name), f"one of {', '.join(NETWORKS)}", "choose one of these names")
    return NETWORKS[name](*_EXAMPLE_ARGUMENTS[name])
