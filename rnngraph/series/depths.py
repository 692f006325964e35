"""How far a network reads back: how many samples its state takes, and which first steps no sample can help."""

from __future__ import annotations

from collections.abc import Collection

import networkx as nx

from rnngraph.model import Edge, Model


def steps_from_initial_values(model: Model, filled: Collection[str], outputs: Collection[str]) -> int:
    """How many of the first steps have a value in ``outputs`` that is computed from what stands in for the past.

    ``filled`` are the nodes whose values before the first step are known. Any other node that is read with a delay d
    stands in with its initial value for d steps, and these reach the outputs through the edges that follow: their
    number is the largest sum of delays from such a node to an output. Nodes in a loop start from their initial value
    by design, as do those that learn it: they count as known.
    """
    graph = nx.DiGraph((edge.source, edge.destination) for edge in model.edges)
    graph.add_nodes_from(model.nodes)
    condensed = nx.condensation(graph)
    component = condensed.graph["mapping"]
    arriving: dict[int, list[Edge]] = {number: [] for number in condensed}
    for edge in model.edges:
        if component[edge.source] != component[edge.destination]:
            arriving[component[edge.destination]].append(edge)
    steps: dict[int, int] = {}
    for number in nx.topological_sort(condensed):
        steps[number] = 0
        for edge in arriving[number]:
            source, before = edge.source, steps[component[edge.source]]
            in_loop = len(condensed.nodes[component[source]]["members"]) > 1 or graph.has_edge(source, source)
            known = source in filled or in_loop or isinstance(model.nodes[source].initial, str)
            if before or not known:
                steps[number] = max(steps[number], before + edge.delay)
    return max((steps[component[name]] for name in outputs), default=0)
