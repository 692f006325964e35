"""Edges that feed an output back, and graphs whose edges get another source while parameters keep their names."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import networkx as nx

from rnngraph.attributes import EdgeRecord, read_edge
from rnngraph.errors import GraphError, OptionError
from rnngraph.transform.parameters import explicit_edge
from rnngraph.words import clip, nearest

WITHOUT_PARAMETER = ("identity", "fixed")
EdgeKey = tuple[Hashable, Hashable, Hashable]  # source, destination, key


def edge_place(edge: EdgeKey) -> str:
    """The place of an edge for error messages."""
    return f"edge {str(edge[0])!r} -> {str(edge[1])!r}"


def edge_record(graph: nx.MultiDiGraph, edge: EdgeKey) -> EdgeRecord:
    """The checked attributes of one edge."""
    return read_edge(str(edge[0]), str(edge[1]), edge_place(edge), graph.edges[edge])


def with_parameter(graph: nx.MultiDiGraph, edge: EdgeKey) -> dict[str, Any]:
    """A copy of the edge's attributes in which the default name of its parameter is written down.

    A default name depends on the source (``W_<source>_<destination>``); written, it stays when the source changes. For
    a list of delays the name is the stem to which ``_d<k>`` is added.
    """
    return explicit_edge(edge_record(graph, edge), graph.edges[edge])


def chosen_nodes(graph: nx.MultiDiGraph, where: str, kind: str, wanted: object) -> list[Hashable]:
    """The nodes of ``kind`` that ``wanted`` names (nodes or their names; None: all of them), in the graph's order.

    Raises OptionError for what is no such node.
    """
    known = {str(node): node for node, data in graph.nodes(data=True) if data.get("kind") == kind}
    if wanted is None:
        return list(known.values())
    listed = ", ".join(repr(name) for name in known) or f"no {kind} in this graph"
    given = [wanted] if isinstance(wanted, str) else wanted
    if not isinstance(given, Iterable) or not (names := [str(each) for each in given]):
        raise OptionError(
            f"argument {where}", clip(wanted), f"names of {kind} nodes: {listed}", "name at least one, or leave it out"
        )
    for name in names:
        if name not in known:
            close = nearest(name, known)
            remedy = f"did you mean {close!r}?" if close else f"name an {kind} node"
            raise OptionError(f"argument {where}", clip(name), f"names of {kind} nodes: {listed}", remedy)
    return [node for name, node in known.items() if name in names]


def feedback_edges(graph: nx.MultiDiGraph, outputs: Iterable[Hashable]) -> dict[EdgeKey, Hashable]:
    """The edges that feed ``outputs`` back, each with its output: delayed edges out of an output that lie on a loop.

    Where a loop through an output would stay closed without them, as its delay stands on a later edge, the output's
    edge on that loop is among them without a delay.
    """
    wanted = set(outputs)
    found: dict[EdgeKey, Hashable] = {}
    rest = nx.MultiDiGraph(graph)
    for delayed in (True, False):
        part = {node: k for k, nodes in enumerate(nx.strongly_connected_components(rest)) for node in nodes}
        for edge in list(rest.edges(keys=True)):
            source, destination, _ = edge
            if source in wanted and part[source] == part[destination]:
                if delayed and not any(edge_record(graph, edge).delays.steps):
                    continue
                found[edge] = source
                rest.remove_edge(*edge)
    return found


def rewired(
    graph: nx.MultiDiGraph,
    sources: Mapping[EdgeKey, Hashable],
    added: Mapping[Hashable, Mapping[str, Any]],
    removed: Iterable[Hashable] = (),
) -> nx.MultiDiGraph:
    """A new graph in which the edges of ``sources`` start at another node, parameters keeping their names.

    The nodes ``added`` come with their attributes, new inputs behind the last input; those ``removed`` are gone, with
    the edges that they still have. The graph-level data is a copy.
    """
    gone = set(removed)
    result = nx.MultiDiGraph()
    result.graph.update(graph.graph)
    nodes = list(graph.nodes(data=True))
    last = max((place for place, (_, data) in enumerate(nodes, 1) if data.get("kind") == "input"), default=0)
    inputs = [(node, data) for node, data in added.items() if data.get("kind") == "input"]
    others = [(node, data) for node, data in added.items() if data.get("kind") != "input"]
    for node, data in [*nodes[:last], *inputs, *nodes[last:], *others]:
        if node not in gone:
            result.add_node(node, **data)
    for source, destination, key, data in graph.edges(keys=True, data=True):
        if (source, destination, key) not in sources and not {source, destination} & gone:
            result.add_edge(source, destination, key=key, **data)
    for edge, source in sources.items():  # last, so that a new key meets no old one
        _, destination, key = edge
        free = None if result.has_edge(source, destination, key) else key
        result.add_edge(source, destination, key=free, **with_parameter(graph, edge))
    return result


def refuse_learned_initial(graph: nx.MultiDiGraph, outputs: Iterable[Hashable]) -> None:
    """GraphError for an output that starts from a learned value: the input that takes its place has none."""
    for output in outputs:
        if isinstance(graph.nodes[output].get("initial"), str):
            raise GraphError(
                f"node {str(output)!r}", "a learned initial value on an output whose feedback is to be replaced",
                "a number, as measured values before t = 1 come from the state and are not learned",
                "set initial to a number, or leave it out, and give the values before t = 1 as the state",
            )  # fmt: skip
