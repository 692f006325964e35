"""Networks with multiplicative gates: LSTM and GRU."""

from __future__ import annotations

import re

import networkx as nx

from rnngraph.zoo.arguments import add_output, check_size, function_attribute, with_input

# Hochreiter and Schmidhuber (1997): logistic functions with the ranges (-2, 2) and (-1, 1).
SQUASHING_G_1997 = "4*sigmoid(s) - 2"
SQUASHING_H_1997 = "2*sigmoid(s) - 1"


def lstm(
    inputs: int,
    hidden: int,
    outputs: int | None = None,
    *,
    forget_gate: bool = True,
    peepholes: bool = False,
    squashing_g: str | None = None,
    squashing_h: str | None = None,
    output_activation: str = "identity",
) -> nx.MultiDiGraph:
    """Long short-term memory (Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000; peepholes: 2002).

    i(t) = sigmoid(W_i^T x(t) + R_i^T h(t-1)), likewise f(t) and o(t); z(t) = g(W_z^T x(t) + R_z^T h(t-1));
    c(t) = f(t) c(t-1) + i(t) z(t);  h(t) = o(t) h(c(t)).

    - ``forget_gate`` = False is the cell of 1997, c(t) = c(t-1) + i(t) z(t).
    - ``peepholes`` adds diagonal weights: c(t-1) into i and f, c(t) into o.
    - ``squashing_g`` and ``squashing_h`` are functions written in ``s``; by default tanh, and without a forget gate
      those of 1997: g(s) = 4 sigmoid(s) - 2 and h(s) = 2 sigmoid(s) - 1.

    Nodes "x", "i", "f", "o", "z", "c", "h". With ``outputs`` = None "h" is the output, else y(t) = V^T h(t) is.
    Raises GraphError for an argument that is out of range.
    """
    hidden = check_size("hidden", hidden)
    default_g, default_h = ("tanh", "tanh") if forget_gate else (SQUASHING_G_1997, SQUASHING_H_1997)
    g = function_attribute("squashing_g", default_g if squashing_g is None else squashing_g)
    h = function_attribute("squashing_h", default_h if squashing_h is None else squashing_h)
    cell_output = "(" + re.sub(r"\bs\b", "c", h["equation"]) + ")" if "equation" in h else f"{h['activation']}(c)"

    graph = with_input(inputs)
    gates = ["i", "f", "o"] if forget_gate else ["i", "o"]
    for gate in gates:
        graph.add_node(gate, kind="unit", size=hidden, activation="sigmoid")
    graph.add_node("z", kind="unit", size=hidden, **g)
    graph.add_node("c", kind="unit", size=hidden, equation="f*c_prev + i*z" if forget_gate else "c_prev + i*z")
    graph.add_node("h", kind="unit", size=hidden, equation=f"o*{cell_output}")
    for node in [*gates, "z"]:
        graph.add_edge("x", node)
        graph.add_edge("h", node, delay=1)
    if peepholes:
        for gate in gates:
            graph.add_edge("c", gate, delay=0 if gate == "o" else 1, structure="diagonal")
    for source in ["f", "i", "z"] if forget_gate else ["i", "z"]:
        graph.add_edge(source, "c", port=source)
    graph.add_edge("c", "c", delay=1, port="c_prev")
    graph.add_edge("o", "h", port="o")
    graph.add_edge("c", "h", port="c")
    add_output(graph, "h", outputs, output_activation)
    return graph


def gru(
    inputs: int, hidden: int, outputs: int | None = None, *, output_activation: str = "identity"
) -> nx.MultiDiGraph:
    """Gated recurrent unit (Cho et al. 2014), the reset gate after the recurrent product as in ``torch.nn.GRU``.

    r(t) = sigmoid(W_r^T x(t) + R_r^T h(t-1) + b_r), z(t) likewise; hn(t) = R_n^T h(t-1) + b_hn;
    n(t) = tanh(W_n^T x(t) + b_n + r(t) hn(t));  h(t) = (1 - z(t)) n(t) + z(t) h(t-1).

    Nodes "x", "r", "z", "hn", "n", "h". torch has two biases for r and z: their sum is ``b_r`` and ``b_z``. With
    ``outputs`` = None "h" is the output, else y(t) = V^T h(t) is.
    Raises GraphError for an argument that is out of range.
    """
    hidden = check_size("hidden", hidden)
    graph = with_input(inputs)
    graph.add_node("r", kind="unit", size=hidden, activation="sigmoid")
    graph.add_node("z", kind="unit", size=hidden, activation="sigmoid")
    graph.add_node("hn", kind="unit", size=hidden, activation="identity")
    graph.add_node("n", kind="unit", size=hidden, equation="tanh(s + r*hn)")
    graph.add_node("h", kind="unit", size=hidden, equation="(1 - z)*n + z*h_prev")
    for node in ["r", "z", "n"]:
        graph.add_edge("x", node)
    for node in ["r", "z", "hn"]:
        graph.add_edge("h", node, delay=1)
    for source, target in [("r", "n"), ("hn", "n"), ("z", "h"), ("n", "h")]:
        graph.add_edge(source, target, port=source)
    graph.add_edge("h", "h", delay=1, port="h_prev")
    add_output(graph, "h", outputs, output_activation)
    return graph
