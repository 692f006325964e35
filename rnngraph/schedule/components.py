"""Items -> components: strongly connected components of the whole graph, condensed and put in running order."""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx

from rnngraph.errors import UnsupportedError
from rnngraph.paths import shifts
from rnngraph.schedule.items import Component, Item, SparseProduct


def order_components(items: Sequence[Item]) -> tuple[Component, ...]:
    """The components of ``items``: each loop is stepped, everything else runs for all t at once.

    Among the orders that can run, the one nearest to the given order is taken, so that emission is deterministic.
    """
    graph = dependencies(items)
    members = [sorted(component) for component in nx.strongly_connected_components(graph)]
    number = {index: component for component, indices in enumerate(members) for index in indices}
    condensed = nx.DiGraph()
    condensed.add_nodes_from(range(len(members)))
    condensed.add_edges_from((number[a], number[b]) for a, b in graph.edges() if number[a] != number[b])
    order = nx.lexicographical_topological_sort(condensed, key=lambda component: members[component][0])
    return tuple(_component(items, graph, members[component]) for component in order)


def dependencies(items: Sequence[Item]) -> nx.DiGraph:
    """Edges from the item that defines a signal to each item that reads it, with the set of delays."""
    definer = {signal: index for index, item in enumerate(items) for signal in item.defines}
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(items)))
    for index, item in enumerate(items):
        for read in item.reads():
            if read.signal in definer:
                source = definer[read.signal]
                if not graph.has_edge(source, index):
                    graph.add_edge(source, index, delays=set())
                graph.edges[source, index]["delays"].add(read.delay)
    return graph


def _component(items: Sequence[Item], graph: nx.DiGraph, indices: list[int]) -> Component:
    """A loop that mixes delays and look-aheads is staggered: its items compute different t in the same step, so that
    nothing is read before it is computed."""
    inside = set(indices)
    edges = [(a, b) for a in indices for b in graph.successors(a) if b in inside]
    if not edges:
        return Component((items[indices[0]],))
    reads = [(a, b, delay) for a, b in edges for delay in graph.edges[a, b]["delays"]]
    shift = dict.fromkeys(indices, 0)
    if min(delay for _, _, delay in reads) < 0 < max(delay for _, _, delay in reads):
        found = shifts(indices, reads)
        if found is None:  # a graph with such a loop is refused by validate
            names = ", ".join(repr(items[index].defines[0]) for index in indices)
            raise UnsupportedError(
                "schedule",
                f"a loop through {names} that can run neither forward nor backward in time",
                "cycles whose delays all sum to more than 0, or all to less",
                "remove the look-ahead or the delay from the loop",
            )
        shift = found
    steps_between = [(a, b, delay + shift[a] - shift[b]) for a, b, delay in reads]
    mixed = len(set(shift.values())) > 1
    sparse = any(isinstance(items[index], SparseProduct) for index in indices)  # whose histories grow step by step
    at_once = 1 if mixed or sparse else _steps_at_once(steps_between)
    same_turn = nx.DiGraph()
    same_turn.add_nodes_from(indices)
    same_turn.add_edges_from((a, b) for a, b, steps in steps_between if abs(steps) < at_once)
    order = list(nx.lexicographical_topological_sort(same_turn, key=lambda index: (shift[index], index)))
    backward = any(steps < 0 for _, _, steps in steps_between)
    numbers = tuple(shift[index] for index in order) if mixed else ()
    return Component(
        tuple(items[index] for index in order), loop=True, backward=backward, shifts=numbers, steps=at_once
    )


def _steps_at_once(reads: Sequence[tuple[int, int, int]]) -> int:
    """The most steps that a loop can take at once, with each item computed for all of them before the next item.

    ``reads``: (source, reader, steps between). With n steps at once, an item must come after those that it reads fewer
    than n steps back; so n is the shortest delay that closes a cycle of such reads.
    """
    fewer = nx.DiGraph()
    for distance in sorted({abs(steps) for _, _, steps in reads}):
        fewer.add_edges_from((source, reader) for source, reader, steps in reads if abs(steps) == distance)
        if distance > 0 and not nx.is_directed_acyclic_graph(fewer):
            return distance
    raise AssertionError("a loop without a cycle")


def in_one_loop(items: Sequence[Item], inputs: Sequence[str]) -> Component:
    """All items as one loop forward in time, whether they need one or not: what a stream computes step by step."""
    order = _in_running_order(items, dependencies(items), range(len(items)))
    return Component(order, loop=True, inputs=tuple(inputs))


def _in_running_order(items: Sequence[Item], graph: nx.DiGraph, indices: Sequence[int]) -> tuple[Item, ...]:
    """The items of a loop, each after those that it reads at the same t."""
    same_time = nx.DiGraph()
    same_time.add_nodes_from(indices)
    inside = set(indices)
    same_time.add_edges_from(
        (a, b) for a in indices for b in graph.successors(a) if b in inside and 0 in graph.edges[a, b]["delays"]
    )
    return tuple(items[index] for index in nx.lexicographical_topological_sort(same_time))
