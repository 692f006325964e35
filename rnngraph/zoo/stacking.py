"""Networks on one another: deep recurrent networks from layers of the zoo or of the user."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

import networkx as nx

from rnngraph.errors import GraphError
from rnngraph.words import nearest
from rnngraph.zoo.arguments import add_output, check_size
from rnngraph.zoo.classic import elman, fully_recurrent
from rnngraph.zoo.gated import gru, lstm

STACKABLE: dict[str, Callable[..., nx.MultiDiGraph]] = {
    "elman": elman,
    "fully_recurrent": fully_recurrent,
    "lstm": lstm,
    "gru": gru,
}


def stack(*networks: nx.MultiDiGraph) -> nx.MultiDiGraph:
    """Put networks on one another: the output of each is the input of the next.

    x^(l)(t) = y^(l-1)(t), l = 2, 3, ...

    Every network has one input and one output node; sizes must fit. The nodes of network l get the suffix l ("h1",
    "h2"), and so do its parameters that have a name of their own; only the first input keeps its name. The other inputs
    vanish: their edges start at the output below. The given graphs stay as they are. Raises GraphError for networks
    that do not fit on one another.
    """
    if not networks:
        raise GraphError("argument networks", "no network", "at least one", "call stack(network, ...)")
    result = nx.MultiDiGraph()
    below = None  # the node that stands for the input of the present network
    for level, network in enumerate(networks, start=1):
        source, output = only_node(network, "input", level), only_node(network, "output", level)
        names = {node: f"{node}{level}" for node in network}
        if below is None:
            names[source] = str(source)
        else:
            _check_fit(result.nodes[below]["size"], network.nodes[source]["size"], level)
            result.nodes[below]["kind"] = "unit"
            names[source] = below
        for node, data in network.nodes(data=True):
            if node == source and below is not None:
                continue
            if names[node] in result:
                raise GraphError(
                    f"network {level}, node {node!r}", f"the name {names[node]!r} twice", "names that differ",
                    "rename the node with networkx.relabel_nodes before stacking",
                )  # fmt: skip
            result.add_node(names[node], **suffixed(data, "bias", level))
        for start, end, data in network.edges(data=True):
            result.add_edge(names[start], names[end], **suffixed(data, "parameter", level))
        below = names[output]
    return result


def stacked(
    kind: str, inputs: int, hidden: int, outputs: int | None = None, depth: int = 2, **options: Any
) -> nx.MultiDiGraph:
    """Deep recurrent network: ``depth`` equal layers with ``hidden`` units on one another.

    h^(1)(t) from x(t), h^(l)(t) from h^(l-1)(t) for l = 2..depth, y(t) = V^T h^(depth)(t).

    ``kind`` is "elman", "fully_recurrent", "lstm" or "gru"; ``options`` go to every layer. Nodes are named as in
    :func:`stack`. With ``outputs`` = None the last layer is the output, else a dense identity layer "y" is. Raises
    GraphError for an unknown kind or option and for an argument that is out of range.
    """
    build = builder(kind, options)
    depth = check_size("depth", depth)
    hidden = check_size("hidden", hidden)
    graph = stack(*(build(inputs if level == 0 else hidden, hidden, None, **options) for level in range(depth)))
    top = only_node(graph, "output", depth)
    add_output(graph, top, outputs, "identity", parameter="V")
    return graph


def builder(kind: str, options: Mapping[str, Any]) -> Callable[..., nx.MultiDiGraph]:
    """The function that builds a layer of this kind; GraphError if there is none, or if it lacks one of the options."""
    if kind not in STACKABLE:
        raise GraphError("argument kind", repr(kind), f"one of {', '.join(STACKABLE)}", "join other networks by hand")
    known = [name for name, each in signature(STACKABLE[kind]).parameters.items() if each.kind is each.KEYWORD_ONLY]
    for name in options:
        if name not in known:
            close = nearest(name, known)
            raise GraphError(
                f"argument {name}", f"no such option of {kind!r}", f"some of {', '.join(known)}",
                f"did you mean {close!r}?" if close else "leave it out",
            )  # fmt: skip
    return STACKABLE[kind]


def only_node(network: nx.MultiDiGraph, kind: str, level: int) -> Any:
    nodes = [node for node, data in network.nodes(data=True) if data.get("kind", "unit") == kind]
    if len(nodes) != 1:
        raise GraphError(
            f"network {level}", f"{len(nodes)} {kind} nodes {nodes}", f"one {kind} node", "join such networks by hand"
        )
    return nodes[0]


def _check_fit(below: int, above: int, level: int) -> None:
    if below != above:
        raise GraphError(
            f"network {level}", f"an input of size {above}", f"size {below}, that of the output of network {level - 1}",
            "give both the same size",
        )  # fmt: skip


def suffixed(data: dict[str, Any], attribute: str, suffix: int | str) -> dict[str, Any]:
    """A copy of the attributes in which a parameter's own name (not True, False or missing) has the suffix."""
    name = data.get(attribute)
    return {**data, attribute: f"{name}{suffix}"} if isinstance(name, str) else dict(data)
