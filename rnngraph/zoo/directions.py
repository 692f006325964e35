"""Networks that read a sequence in both directions: a forward and a backward copy of a recurrent layer."""

from __future__ import annotations

from typing import Any

import networkx as nx

from rnngraph.zoo.arguments import add_output, check_size, with_input
from rnngraph.zoo.stacking import builder, only_node, suffixed


def bidirectional(
    kind: str, inputs: int, hidden: int, outputs: int | None = None, *, output_activation: str = "identity",
    **options: Any,
) -> nx.MultiDiGraph:  # fmt: skip
    """Bidirectional network (Schuster and Paliwal 1997; with LSTM: Graves and Schmidhuber 2005).

    h_forward(t) from x(t) and h_forward(t-1), h_backward(t) from x(t) and h_backward(t+1);
    y(t) = g(V_forward^T h_forward(t) + V_backward^T h_backward(t)).

    ``kind`` is "elman", "fully_recurrent", "lstm" or "gru"; ``options`` go to both copies. Their nodes, and their
    parameters that have a name of their own, get the suffixes "_forward" and "_backward". With ``outputs`` = None both
    copies are outputs, side by side the output of ``torch.nn.LSTM(bidirectional=True)``. The state holds the last
    values of the forward copy and the first values of the backward copy. "elman" has the unweighted context of
    :func:`elman` unless ``recurrence="dense"`` is given. Raises GraphError for an unknown kind or option and for an
    argument that is out of range.
    """
    build = builder(kind, options)
    hidden = check_size("hidden", hidden)
    graph = with_input(inputs)
    tops = [
        _add_copy(graph, build(inputs, hidden, None, **options), direction) for direction in ("forward", "backward")
    ]
    add_output(graph, tops[0], outputs, output_activation, parameter="V_forward")
    graph.nodes[tops[1]]["kind"] = "output" if outputs is None else "unit"
    if outputs is not None:
        graph.add_edge(tops[1], "y", parameter="V_backward")
    return graph


def _add_copy(graph: nx.MultiDiGraph, network: nx.MultiDiGraph, direction: str) -> str:
    """Add a copy of a network that reads the graph's input; the name of its output."""
    source, output = only_node(network, "input", 1), only_node(network, "output", 1)
    names = {node: node if node == source else f"{node}_{direction}" for node in network}
    for node, data in network.nodes(data=True):
        if node != source:
            graph.add_node(names[node], **suffixed(data, "bias", f"_{direction}"))
    for start, end, data in network.edges(data=True):
        data = suffixed(data, "parameter", f"_{direction}")
        if direction == "backward" and "delay" in data:
            data["delay"] = -data["delay"]
        graph.add_edge(names[start], names[end], **data)
    return names[output]
