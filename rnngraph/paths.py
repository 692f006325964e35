"""What only the paths through a network tell: cycles without a delay, loops, outputs without an input, dead ends."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import TypeVar

import networkx as nx

from rnngraph.errors import CycleError, GraphError
from rnngraph.model import Edge, Node

Name = TypeVar("Name", bound=Hashable)
Read = tuple[str, str, int]  # source, destination, delay


def check_cycles(nodes: Mapping[str, Node], edges: Iterable[Edge], learned: Collection[str | None] = ()) -> None:
    """Raise CycleError for a cycle whose delays sum to zero, and for a loop that can run neither forward nor backward.

    A loop can run forward in time where the delays of each of its cycles sum to more than 0, backward where all sum to
    less. A cycle shown is a shortest one through its earliest node in the graph's order, written from that node on; a
    delay is proposed on the edge that leads back to it. ``learned``: the weights of learned delays, whose ranges are to
    be changed instead. Linear in nodes and edges but for loops that mix delays and look-aheads.
    """
    edges = list(edges)
    chosen = {(edge.source, edge.destination, edge.delay) for edge in edges if edge.parameter in learned}
    _check_instant(nodes, [(edge.source, edge.destination, 0) for edge in edges if edge.delay == 0], chosen)
    if not any(edge.delay < 0 for edge in edges):
        return
    whole = nx.MultiDiGraph()
    whole.add_nodes_from(nodes)
    whole.add_edges_from((edge.source, edge.destination, {"delay": edge.delay}) for edge in edges)
    for component in nx.strongly_connected_components(whole):
        loop = whole.subgraph(component)
        delays = [delay for _, _, delay in loop.edges(data="delay")]
        if delays and min(delays) < 0 < max(delays):
            _check_mixed(nodes, loop, chosen)


def _check_instant(
    nodes: Mapping[str, Node], reads: Collection[Read], learned: Collection[Read], shifted: bool = False
) -> None:
    """Raise CycleError for a cycle of edges without delay; ``shifted``: whose delays and look-aheads cancel out."""
    instant = nx.DiGraph()
    instant.add_nodes_from(nodes)
    instant.add_edges_from((source, destination) for source, destination, _ in reads)
    position = {name: index for index, name in enumerate(nodes)}
    looped = [
        min(component, key=position.__getitem__)
        for component in nx.strongly_connected_components(instant)
        if len(component) > 1 or instant.has_edge(*(list(component) * 2))
    ]
    if not looped:
        return
    cycle = _shortest_cycle(instant, min(looped, key=position.__getitem__))
    ends = cycle[-2], cycle[-1]
    edge, longer = f"edge {ends[0]!r} -> {ends[1]!r}", "a longer delay" if shifted else "delay=1"
    if any(read[:2] == ends and read in learned for read in reads):
        edge, longer = f"learned delay of the {edge}", "a larger 'min'" if shifted else "'min': 1"
    raise CycleError(
        f"cycle {' -> '.join(cycle)}",
        "delays and look-aheads that cancel out, so that each value would wait for itself"
        if shifted
        else "no delay on any of its edges, so that each value would wait for itself",
        "delays that sum to 1 or more" if shifted else "at least one edge with a delay of 1 or more",
        f"give the {edge} {longer}",
    )


def _check_mixed(nodes: Mapping[str, Node], loop: nx.MultiDiGraph, learned: Collection[Read]) -> None:
    """A loop that mixes delays and look-aheads: its cycles must all sum to more, or all to less, than 0."""
    shift = shifts(loop.nodes, [(source, to, delay) for source, to, delay in loop.edges(data="delay")])
    if shift is None:
        names = sorted(loop.nodes, key=list(nodes).index)
        ahead = next(read for read in loop.edges(data="delay") if read[2] < 0)
        edge = f"edge {ahead[0]!r} -> {ahead[1]!r}"
        remedy = f"remove the look-ahead of the {edge}, or the delays of the loop"
        if ahead in learned:
            remedy = f"give the learned delay of the {edge} 'min': 0 or more, or remove the delays of the loop"
        raise CycleError(
            f"loop through {', '.join(map(repr, names))}",
            "a cycle whose delays sum to more than 0 and one whose delays sum to less, so that neither the past nor the"
            " future can be computed first",
            "a loop whose cycles all lead into the past, or all into the future",
            remedy,
        )
    still = [(a, b, delay) for a, b, delay in loop.edges(data="delay") if delay + shift[a] - shift[b] == 0]
    _check_instant({name: nodes[name] for name in nodes if name in loop}, still, learned, shifted=True)


def shifts(nodes: Iterable[Name], reads: Iterable[tuple[Name, Name, int]]) -> dict[Name, int] | None:
    """How far each node of a loop may run ahead so that nothing is read before it is computed.

    ``reads``: (source, destination, delay). With the result p, all delay + p[source] - p[destination] are >= 0, or,
    where the loop runs backward in time, all <= 0; None where neither can be. By Bellman and Ford's algorithm.
    """
    nodes, reads = list(nodes), list(reads)
    for sign in (1, -1):
        place = dict.fromkeys(nodes, 0)
        for _ in nodes:
            changed = False
            for source, destination, delay in reads:
                if place[source] + sign * delay < place[destination]:
                    place[destination] = place[source] + sign * delay
                    changed = True
            if not changed:
                return {name: sign * value for name, value in place.items()}
    return None


def direction(nodes: Iterable[Name], reads: Iterable[tuple[Name, Name, int]]) -> int:
    """The direction in time in which a loop runs: 1 where the delays of every cycle sum to more than 0, -1 where all
    sum to less, 0 where neither holds. ``reads`` as in ``shifts``."""
    reads = list(reads)
    place = shifts(nodes, reads)
    if place is None:
        return 0
    left = [(source, to, delay + place[source] - place[to]) for source, to, delay in reads]
    still = nx.DiGraph((source, to) for source, to, rest in left if rest == 0)
    if not nx.is_directed_acyclic_graph(still):
        return 0
    return 1 if all(rest >= 0 for _, _, rest in left) else -1


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


def components(names: Iterable[str], reads: Iterable[tuple[str, str]]) -> list[list[str]]:
    """The strongly connected components of a network, each after all those that it reads; ``reads``: (source,
    destination). By Tarjan's algorithm on lists of numbers: a ``networkx.DiGraph`` has a dictionary for each edge."""
    nodes = list(names)
    number = {name: k for k, name in enumerate(nodes)}
    sources: list[list[int]] = [[] for _ in nodes]
    for name, reader in reads:
        sources[number[reader]].append(number[name])
    found: list[list[str]] = []
    met, lowest = [0] * len(nodes), [0] * len(nodes)  # when each was met, from 1 on; the earliest that it leads to
    done = len(nodes) + 1  # in place of ``lowest``, for those whose component is known
    count = 0
    open_nodes: list[int] = []
    for start in range(len(nodes)):
        path = [] if met[start] else [(start, iter(sources[start]))]
        while path:
            node, rest = path[-1]
            if not met[node]:
                count += 1
                met[node] = lowest[node] = count
                open_nodes.append(node)
            for source in rest:
                if not met[source]:
                    path.append((source, iter(sources[source])))
                    break
                lowest[node] = min(lowest[node], lowest[source])
            else:
                path.pop()
                if path:
                    above = path[-1][0]
                    lowest[above] = min(lowest[above], lowest[node])
                if lowest[node] == met[node]:
                    members = [open_nodes.pop()]
                    while members[-1] != node:
                        members.append(open_nodes.pop())
                    for member in members:
                        lowest[member] = done
                    found.append([nodes[member] for member in reversed(members)])
    return found


def _reachable(neighbours: Mapping[str, list[str]], starts: Iterable[str]) -> set[str]:
    reached = set(starts)
    stack = list(reached)
    while stack:
        for name in neighbours[stack.pop()]:
            if name not in reached:
                reached.add(name)
                stack.append(name)
    return reached
