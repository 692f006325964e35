"""The three networks. x(t) is the number of year t, y(t) its forecast.

Every edge out of x has a delay of at least 1, so y(t) depends on the years before t only, and the input and the target
are one and the same series.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import networkx as nx

LAGS = 12


def elman(hidden: int) -> nx.MultiDiGraph:
    """The last year and the network's own memory: a(t) = tanh(W^T x(t-1) + R^T a(t-1) + b_a), y(t) = V^T a(t) + b_y."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=1)
    graph.add_node("a", size=hidden, activation="tanh")
    graph.add_node("y", kind="output", size=1)
    graph.add_edge("x", "a", delay=1, parameter="W")
    graph.add_edge("a", "a", delay=1, parameter="R")
    graph.add_edge("a", "y", parameter="V")
    return graph


def narx(hidden: int) -> nx.MultiDiGraph:
    """A NARX network as it is trained, in open loop (series-parallel), on a series without a second input.

    The measured x(t-1) ... x(t-12) stand where the network's own outputs would be fed back; without an exogenous input
    it is a NAR(12). It has no loop: all years are computed at once.
    """
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=1)
    graph.add_node("a", size=hidden, activation="tanh")
    graph.add_node("y", kind="output", size=1)
    graph.add_edge("x", "a", delay=list(range(1, LAGS + 1)), parameter="W")
    graph.add_edge("a", "y", parameter="V")
    return graph


def lstm(hidden: int) -> nx.MultiDiGraph:
    """Long short-term memory (Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000): a cell behind gates."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=1)
    for gate, function in {"i": "sigmoid", "f": "sigmoid", "o": "sigmoid", "z": "tanh"}.items():
        graph.add_node(gate, size=hidden, activation=function)
        graph.add_edge("x", gate, delay=1)
        graph.add_edge("h", gate, delay=1)
    graph.add_node("c", size=hidden, equation="f*c_prev + i*z")
    graph.add_node("h", size=hidden, equation="o*tanh(c)")
    for port in "ifz":
        graph.add_edge(port, "c", port=port)
    graph.add_edge("c", "c", port="c_prev", delay=1)
    graph.add_edge("o", "h", port="o")
    graph.add_edge("c", "h", port="c")
    graph.add_node("y", kind="output", size=1)
    graph.add_edge("h", "y", parameter="V")
    return graph


@dataclass(frozen=True)
class Kind:
    """A kind of network, with the size and the rules of the first weights that the blocks left out have chosen."""

    name: str
    build: Callable[[int], nx.MultiDiGraph]
    hidden: int
    rules: dict[str, str]


KINDS = (
    Kind("Elman", elman, 12, {}),
    Kind("NARX", narx, 8, {"input_weight": "small"}),
    Kind("LSTM", lstm, 4, {}),
)
