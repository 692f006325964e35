"""Two networks in closed loop. u(t) is the scaled voltage of the pump, y(t) the scaled level of the lower tank.

Both add a learned change to the level of the step before, and neither lets the level rise above what the measurement
can show (``top``): what overflows is lost to the sensor and to the tank. ``rg.open_loop`` makes the networks of the
first stage of training of them, in which y(t-1), y(t-2), ... are measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import networkx as nx


def two_tanks(top: float, upper: int = 3, lower: int = 4) -> nx.MultiDiGraph:
    """A cell with one unit per tank and a small layer that fills and drains each.

    h(t) = 0.95 h(t-1) + 0.05 (V^T a(t) + b_h),            a(t) = tanh(W_u^T u(t-1) + W_h^T h(t-1) + b_a)
    y(t) = min(y(t-1) + 0.1 (Z^T b(t) + b_y), top),        b(t) = tanh(R_u^T u(t-1) + R_h^T h(t-1) + R_y^T y(t-1) + b_b)

    h is not measured; where it starts is learned. What overflows from the upper tank falls into the lower one in part:
    hence the edge from u to b. Written with its leak, h is stable from the first weights on.
    """
    graph = nx.MultiDiGraph()
    graph.add_node("u", kind="input", size=1)
    graph.add_node("a", size=upper, activation="tanh")
    graph.add_node("h", size=1, equation="0.95*h_prev + 0.05*s", initial="parameter")
    graph.add_node("b", size=lower, activation="tanh")
    graph.add_node("y", kind="output", size=1, equation=f"minimum(y_prev + 0.1*s, {top!r})")
    graph.add_edge("u", "a", delay=1)
    graph.add_edge("h", "a", delay=1)
    graph.add_edge("a", "h", parameter="V")
    graph.add_edge("h", "h", delay=1, port="h_prev")
    for source in "uhy":
        graph.add_edge(source, "b", delay=1)
    graph.add_edge("b", "y", parameter="Z")
    graph.add_edge("y", "y", delay=1, port="y_prev")
    return graph


def narx(top: float, hidden: int = 6) -> nx.MultiDiGraph:
    """A NARX network for the change of the level: y(t) = min(y(t-1) + 0.1 (V^T a(t) + b_y), top) with

    a(t) = tanh(sum over d in {1, 2, 4, 8} of W_d^T u(t-d) + sum over d in {1, 2, 4} of R_d^T y(t-d) + b_a).
    """
    graph = nx.MultiDiGraph()
    graph.add_node("u", kind="input", size=1)
    graph.add_node("a", size=hidden, activation="tanh")
    graph.add_node("y", kind="output", size=1, equation=f"minimum(y_prev + 0.1*s, {top!r})")
    graph.add_edge("u", "a", delay=[1, 2, 4, 8], parameter="W")
    graph.add_edge("y", "a", delay=[1, 2, 4], parameter="R")
    graph.add_edge("a", "y", parameter="V")
    graph.add_edge("y", "y", delay=1, port="y_prev")
    return graph


@dataclass(frozen=True)
class Kind:
    """A kind of network and what the blocks left out have chosen: weight decay and steps of each stage."""

    name: str
    build: Callable[[float], nx.MultiDiGraph]
    weight_decay: float
    open_steps: int
    closed_steps: int


KINDS = (
    Kind("two tanks", two_tanks, 1e-5, 40, 10),
    Kind("NARX", narx, 1e-4, 40, 20),
)
