"""How far a network reads beyond its samples: which first and last steps depend on what no sample tells."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

import networkx as nx

from rnngraph.model import Edge, Model


def steps_from_initial_values(
    model: Model, filled: Collection[str], outputs: Collection[str], ahead: bool = False
) -> int:
    """How many of the first steps have a value in ``outputs`` that is computed from what stands in for the past.

    ``filled`` are the nodes whose values before the first step are known. Any other node that is read with a delay d
    stands in with its initial value for d steps, and these reach the outputs through the edges that follow: their
    number is the largest sum of delays from such a node to an output. Nodes in a loop that runs forward in time start
    from their initial value by design, as do those that learn it: they count as known.

    ``ahead``: how many of the last steps, likewise, are computed from what stands in for the values after the last one,
    ``filled`` being the nodes whose values there are known. The sums are those of look-aheads, and the loops by design
    those that run backward.
    """
    sign = -1 if ahead else 1
    graph = nx.DiGraph((edge.source, edge.destination) for edge in model.edges)
    graph.add_nodes_from(model.nodes)
    condensed = nx.condensation(graph)
    component = condensed.graph["mapping"]
    arriving: dict[int, list[Edge]] = {number: [] for number in condensed}
    for edge in model.edges:
        if component[edge.source] != component[edge.destination]:
            arriving[component[edge.destination]].append(edge)
    by_design = {
        number for number, members in condensed.nodes(data="members") if sign * _direction(graph, model, members) > 0
    }
    steps: dict[int, int] = {}
    for number in nx.topological_sort(condensed):
        steps[number] = 0
        for edge in arriving[number]:
            source, before = edge.source, steps[component[edge.source]]
            known = source in filled or component[source] in by_design or isinstance(model.nodes[source].initial, str)
            if before or not known:
                steps[number] = max(steps[number], before + sign * edge.delay)
    return max((steps[component[name]] for name in outputs), default=0)


def _direction(graph: nx.DiGraph, model: Model, members: Collection[str]) -> int:
    """The sum of delays along one cycle of a loop, whose sign all its cycles share; 0 for a node without a loop."""
    first = next(iter(members))
    if len(members) == 1 and not graph.has_edge(first, first):
        return 0
    inside = [edge for edge in model.edges if edge.source in members and edge.destination in members]
    delays = {(edge.source, edge.destination): edge.delay for edge in inside}
    way = nx.shortest_path(graph.subgraph(members), inside[0].destination, inside[0].source)
    return inside[0].delay + sum(delays[step] for step in pairwise(way))
