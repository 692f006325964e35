"""What only the paths through a network tell: cycles without a delay, outputs without an input, dead ends."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

import networkx as nx

from rnngraph.errors import CycleError, GraphError
from rnngraph.model import Edge, Node


def check_cycles(nodes: Mapping[str, Node], edges: Iterable[Edge]) -> None:
    """Raise CycleError for a cycle whose delays sum to zero.

    The cycle shown is a shortest one through its earliest node in the graph's order, written from that node on; a delay
    is proposed on the edge that leads back to it. Linear in nodes and edges.
    """
    instant = nx.DiGraph()
    instant.add_nodes_from(nodes)
    instant.add_edges_from((edge.source, edge.destination) for edge in edges if edge.delay == 0)
    position = {name: index for index, name in enumerate(nodes)}
    looped = [
        min(component, key=position.__getitem__)
        for component in nx.strongly_connected_components(instant)
        if len(component) > 1 or instant.has_edge(*(list(component) * 2))
    ]
    if not looped:
        return
    cycle = _shortest_cycle(instant, min(looped, key=position.__getitem__))
    raise CycleError(
        f"cycle {' -> '.join(cycle)}",
        "no delay on any of its edges, so that each value would wait for itself",
        "at least one edge with a delay of 1 or more",
        f"give the edge {cycle[-2]!r} -> {cycle[-1]!r} delay=1",
    )


def _shortest_cycle(graph: nx.DiGraph, start: str) -> list[str]:
    """A shortest cycle through ``start``, breadth first, with ``start`` at both ends."""
    reached_from: dict[str, str] = {}
    queue = deque([start])
    while start not in reached_from:
        name = queue.popleft()
        for successor in graph.successors(name):
            if successor not in reached_from:
                reached_from[successor] = name
                queue.append(successor)
    cycle = [start]
    while True:
        cycle.append(reached_from[cycle[-1]])
        if cycle[-1] == start:
            return cycle[::-1]


def check_reachability(nodes: Mapping[str, Node], edges: Iterable[Edge]) -> None:
    """Raise GraphError for an output that no input reaches, and for a node that reaches no output.

    A dead end is refused, not dropped: its parameters would never be trained and its values never seen. A probe is a
    node of kind "output"; its target may be left out of the loss.
    """
    forward: dict[str, list[str]] = {name: [] for name in nodes}
    backward: dict[str, list[str]] = {name: [] for name in nodes}
    for edge in edges:
        forward[edge.source].append(edge.destination)
        backward[edge.destination].append(edge.source)
    inputs = [name for name, node in nodes.items() if node.kind == "input"]
    outputs = [name for name, node in nodes.items() if node.kind == "output"]
    reached = _reachable(forward, inputs)
    for name in outputs:
        if name not in reached:
            raise GraphError(
                f"output {name!r}",
                "no input that reaches it" if inputs else "no input in the graph",
                "a path of edges from an input to every output",
                "add an edge towards it" if inputs else "add a node with kind='input' and an edge from it",
            )
    used = _reachable(backward, outputs)
    for name, node in nodes.items():
        if name not in used:
            raise GraphError(
                f"node {name!r}",
                "no path from it to an output",
                "a path of edges from every node to an output, as nothing is dropped silently",
                "remove the input, or add an edge from it"
                if node.kind == "input"
                else "set kind='output' to see its values, add an edge from it, or remove it",
            )


def _reachable(neighbours: Mapping[str, list[str]], starts: Iterable[str]) -> set[str]:
    reached = set(starts)
    stack = list(reached)
    while stack:
        for name in neighbours[stack.pop()]:
            if name not in reached:
                reached.add(name)
                stack.append(name)
    return reached
