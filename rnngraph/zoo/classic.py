"""Networks without gates: feedforward, Jordan, Elman, fully and layered recurrent, NARX, NAR, time-delay."""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx

from rnngraph.errors import GraphError
from rnngraph.zoo.arguments import (
    add_output,
    check_delays,
    check_size,
    check_sizes,
    deep_names,
    feedback_source,
    function_attribute,
    layers,
    one_hidden_layer,
    with_input,
)

NO_FEEDBACK = "use tdnn for a network without feedback"


def feedforward(sizes: Sequence[int], activation: str = "tanh", output_activation: str = "identity") -> nx.MultiDiGraph:
    """Deep feedforward network.

    a^(l)(t) = f(W^(l)^T a^(l-1)(t)) with a^(0) = x, and y(t) = g(V^T a^(L)(t)).

    ``sizes`` = (inputs, hidden..., outputs); nodes "x", "a1", "a2", ..., "y"; no delays.
    Raises GraphError for an argument that is out of range.
    """
    sizes = check_sizes(sizes)
    graph = layers(sizes, deep_names(sizes), activation, output_activation)
    nx.add_path(graph, list(graph))
    return graph


def jordan(
    inputs: int,
    hidden: int,
    outputs: int,
    *,
    decay: float = 0.0,
    activation: str = "tanh",
    output_activation: str = "identity",
) -> nx.MultiDiGraph:
    """Jordan network (Jordan 1986): the output comes back into the hidden layer one step later.

    a(t) = f(W^T x(t) + R^T c(t)), y(t) = g(V^T a(t)), with the context c(t) = y(t-1) + decay c(t-1).

    With ``decay`` = 0, the chapter's network, the context is the delayed output and needs no node of its own.
    With 0 < ``decay`` < 1 the context "c" is a node whose self-loop keeps an exponential trace of the outputs.
    Raises GraphError for an argument that is out of range.
    """
    if isinstance(decay, bool) or not isinstance(decay, (int, float)) or not 0 <= decay < 1:
        raise GraphError(
            "argument decay", repr(decay), "a number with 0 <= decay < 1", "use decay=0 for a plain copy of the output"
        )
    graph = one_hidden_layer(inputs, hidden, outputs, activation, output_activation)
    graph.add_edge("x", "a", parameter="W")
    graph.add_edge("a", "y", parameter="V")
    if decay == 0:
        graph.add_edge("y", "a", delay=1, parameter="R")
        return graph
    graph.add_node("c", size=graph.nodes["y"]["size"], equation=f"y_prev + {float(decay)!r}*c_prev")
    graph.add_edge("y", "c", delay=1, port="y_prev")
    graph.add_edge("c", "c", delay=1, port="c_prev")
    graph.add_edge("c", "a", parameter="R")
    return graph


def elman(
    inputs: int,
    hidden: int,
    outputs: int | None = None,
    *,
    recurrence: str = "identity",
    activation: str = "tanh",
    output_activation: str = "identity",
) -> nx.MultiDiGraph:
    """Elman network (Elman 1990): the context holds the previous hidden activations.

    ``recurrence`` = "identity", the chapter's unweighted context loop: a(t) = f(W^T x(t) + a(t-1));
    ``recurrence`` = "dense", learned context weights: a(t) = f(W^T x(t) + R^T a(t-1));
    both with y(t) = g(V^T a(t)). With ``outputs`` = None the hidden layer "a" itself is the output.
    Raises GraphError for an argument that is out of range.
    """
    if recurrence not in ("identity", "dense"):
        raise GraphError(
            "argument recurrence", repr(recurrence), "'identity' or 'dense'", "use 'dense' for learned context weights"
        )
    graph = with_input(inputs)
    graph.add_node("a", kind="unit", size=check_size("hidden", hidden), **function_attribute("activation", activation))
    graph.add_edge("x", "a", parameter="W")
    if recurrence == "identity":
        graph.add_edge("a", "a", delay=1, structure="identity")
    else:
        graph.add_edge("a", "a", delay=1, parameter="R")
    add_output(graph, "a", outputs, output_activation, parameter="V")
    return graph


def fully_recurrent(
    inputs: int,
    units: int,
    outputs: int | None = None,
    *,
    activation: str = "tanh",
    output_activation: str = "identity",
) -> nx.MultiDiGraph:
    """Fully recurrent network: one layer of units, each connected to all of them.

    s(t) = W^T x(t) + R^T a(t-1), a(t) = f(s(t)), y(t) = g(V^T a(t)).

    With ``outputs`` = None every unit is an output (Williams and Zipser 1989 read a subset of the units).
    Raises GraphError for an argument that is out of range.
    """
    units = check_size("units", units)
    return elman(inputs, units, outputs, recurrence="dense", activation=activation, output_activation=output_activation)


def narx(
    inputs: int,
    hidden: int,
    outputs: int,
    T_x: int | Sequence[int],
    T_y: int | Sequence[int],
    *,
    loop: str = "closed",
    activation: str = "tanh",
    output_activation: str = "identity",
) -> nx.MultiDiGraph:
    """Nonlinear autoregressive network with exogenous inputs (NARX; Lin et al. 1996), in closed or open loop.

    a(t) = f(sum_{d=0..T_x} W_d^T x(t-d) + sum_{d=1..T_y} R_d^T y(t-d)), y(t) = g(V^T a(t)).

    ``T_x`` >= 0 and ``T_y`` >= 1 are the longest delays, or lists of delays; the parameters are W_d0, W_d1, ..., R_d1,
    R_d2, ..., V. With ``loop`` = "open" (series-parallel; for training) y(t-d) in the sum is measured, the input
    "y_measured"; with "closed" (parallel) it is its own. ``rnngraph.close_loop`` closes an open loop,
    ``rnngraph.open_loop`` opens a closed one.
    Raises GraphError for an argument that is out of range.
    """
    delays_x = check_delays("T_x", T_x)
    delays_y = check_delays("T_y", T_y, least=1, remedy=NO_FEEDBACK)
    graph = with_input(inputs)
    source = feedback_source(graph, check_size("outputs", outputs), loop)
    graph.update(one_hidden_layer(inputs, hidden, outputs, activation, output_activation))
    graph.add_edge("x", "a", delay=delays_x, parameter="W")
    graph.add_edge(source, "a", delay=delays_y, parameter="R")
    graph.add_edge("a", "y", parameter="V")
    return graph


def nar(
    outputs: int,
    hidden: int,
    T_y: int | Sequence[int],
    *,
    activation: str = "tanh",
    output_activation: str = "identity",
) -> nx.MultiDiGraph:
    """Nonlinear autoregressive network (NAR), in open loop: a series predicted from its own past.

    a(t) = f(sum_{d=1..T_y} R_d^T y(t-d)), y(t) = g(V^T a(t)), with the measured y(t-d), the input "y_measured".

    ``T_y`` >= 1 is the longest delay, or a list of delays; the parameters are R_d1, R_d2, ..., V. In closed loop,
    which ``rnngraph.close_loop`` makes of it, the network goes on with its own outputs.
    Raises GraphError for an argument that is out of range.
    """
    delays = check_delays("T_y", T_y, least=1, remedy=NO_FEEDBACK)
    size = check_size("outputs", outputs)
    graph = nx.MultiDiGraph()
    source = feedback_source(graph, size, "open")
    graph.add_node("a", kind="unit", size=check_size("hidden", hidden), **function_attribute("activation", activation))
    graph.add_node("y", kind="output", size=size, **function_attribute("output_activation", output_activation))
    graph.add_edge(source, "a", delay=delays, parameter="R")
    graph.add_edge("a", "y", parameter="V")
    return graph


def tdnn(
    sizes: Sequence[int],
    delays: Sequence[int | Sequence[int]],
    *,
    activation: str = "tanh",
    output_activation: str = "identity",
) -> nx.MultiDiGraph:
    """Time-delay neural network (Waibel et al. 1989): a 1-D convolution over time in every layer.

    a^(l)(t) = f(sum_{d in D_l} W_d^(l)^T a^(l-1)(t-d)) with a^(0) = x;
    y(t) = g(sum_{d in D_L} W_d^(L)^T a^(L-1)(t-d)).

    ``sizes`` = (inputs, hidden..., outputs). ``delays`` has one entry D_l per layer of weights, len(sizes) - 1 of them:
    a list of delays >= 0, or an int N for 0..N. Nodes "x", "a1", ..., "y".
    Raises GraphError for an argument that is out of range.
    """
    sizes = check_sizes(sizes)
    if isinstance(delays, str) or not isinstance(delays, Sequence) or len(delays) != len(sizes) - 1:
        raise GraphError(
            "argument delays", repr(delays), f"{len(sizes) - 1} entries, one for each layer of weights",
            "give a list with one entry for each size after the first",
        )  # fmt: skip
    graph = layers(sizes, deep_names(sizes), activation, output_activation)
    nodes = list(graph)
    for layer, (source, target, entry) in enumerate(zip(nodes[:-1], nodes[1:], delays, strict=True)):
        graph.add_edge(source, target, delay=check_delays(f"delays[{layer}]", entry))
    return graph


def focused_tdnn(
    sizes: Sequence[int],
    delays: int | Sequence[int],
    *,
    activation: str = "tanh",
    output_activation: str = "identity",
) -> nx.MultiDiGraph:
    """Focused time-delay network: a feedforward network behind a delay line at its input, and no other delay.

    a^(1)(t) = f(sum_{d in D} W_d^(1)^T x(t-d)), a^(l)(t) = f(W^(l)^T a^(l-1)(t)), y(t) = g(W^(L)^T a^(L-1)(t)).

    ``sizes`` = (inputs, hidden..., outputs); ``delays`` = D, a list of delays >= 0, or an int N for 0..N. With delays
    in every layer it is distributed: :func:`tdnn`. Nodes "x", "a1", ..., "y".
    Raises GraphError for an argument that is out of range.
    """
    graph = feedforward(sizes, activation, output_activation)
    first = list(graph)[1]
    graph.add_edge("x", first, key=0, delay=check_delays("delays", delays))
    return graph


def layered_recurrent(
    sizes: Sequence[int],
    delays: int | Sequence[int] = 1,
    *,
    activation: str = "tanh",
    output_activation: str = "identity",
) -> nx.MultiDiGraph:
    """Layered recurrent network: a deep network in which each hidden layer has a loop onto itself.

    a^(l)(t) = f(W^(l)^T a^(l-1)(t) + sum_{d in D} R_d^(l)^T a^(l)(t-d)) with a^(0) = x, and y(t) = g(V^T a^(L)(t)).

    ``sizes`` = (inputs, hidden..., outputs); ``delays`` = D, a list of delays >= 1, or an int N for 1..N. Nodes "x",
    "a1", ..., "y". With one hidden layer and D = [1] it is the Elman network with learned context weights.
    Raises GraphError for an argument that is out of range.
    """
    graph = feedforward(sizes, activation, output_activation)
    hidden = [node for node, kind in graph.nodes(data="kind") if kind == "unit"]
    if not hidden:
        raise GraphError(
            "argument sizes", repr(tuple(sizes)), "at least one hidden layer", "give (inputs, hidden, outputs)"
        )
    for node in hidden:
        graph.add_edge(node, node, delay=check_delays("delays", delays, least=1, remedy=NO_FEEDBACK))
    return graph
