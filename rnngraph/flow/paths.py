"""Every path from u(t-k) to v(t) through the links of a network: counted by recursion, listed shortest first."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice

from rnngraph.flow.links import Link, Network

Place = tuple[str, int]  # a signal, and how many steps after the path's start


@dataclass(frozen=True)
class Path:
    """One path, from its end at t backward: ``times`` has the steps before t at which each link's destination stands.

    Its Jacobian product is that of ``links`` from left to right, each at t - its time.
    """

    links: tuple[Link, ...]
    times: tuple[int, ...]


@dataclass(frozen=True)
class Found:
    """The shortest paths, and how many there are in all. ``length`` counts the edges of the graph on a path."""

    paths: tuple[Path, ...]
    count: int


def find_paths(
    network: Network, source: str, destination: str, lag: int, limit: int, through: Collection[str] | None = None
) -> Found:
    """The ``limit`` shortest paths from ``source``(t - ``lag``) to ``destination``(t).

    ``through`` are the nodes that a path may visit; None stands for all. A path's length is the number of edges of the
    graph on it.
    """
    counts, lengths = _reach(network, source, lag, through)
    end = (destination, lag)
    return Found(tuple(islice(_shortest_first(network, source, end, lengths), limit)), counts.get(end, 0))


def _reach(
    network: Network, source: str, lag: int, through: Collection[str] | None
) -> tuple[dict[Place, int], dict[Place, int]]:
    """How many paths lead from (source, 0) to each place, and the length of the shortest."""
    counts: dict[Place, int] = {(source, 0): 1}
    lengths: dict[Place, int] = {(source, 0): 0}
    for step in range(lag + 1):
        for signal in network.order:
            if signal not in network.into or (through is not None and network.node(signal) not in through):
                continue
            for link in network.into[signal]:
                before = (link.source, step - link.delay)
                if before in counts:
                    place = (signal, step)
                    length = lengths[before] + _length(network, link)
                    counts[place] = counts.get(place, 0) + counts[before]
                    lengths[place] = min(lengths.get(place, length), length)
    return counts, lengths


def _shortest_first(network: Network, source: str, end: Place, lengths: dict[Place, int]) -> Iterator[Path]:
    """Best-first search backward from the end; the way left is known exactly, so that paths come in order."""
    if end not in lengths:
        return
    # length of the whole path, its links so far as numbers (which break ties), where it stands, the links
    waiting: list[tuple[int, tuple[int, ...], Place, tuple[Link, ...], tuple[int, ...]]] = [
        (lengths[end], (), end, (), ())
    ]
    last = end[1]
    while waiting:
        length, numbers, (signal, step), links, times = heapq.heappop(waiting)
        if (signal, step) == (source, 0):
            yield Path(links, times)
            continue
        done = length - lengths[signal, step]
        for number, link in enumerate(network.into[signal]):
            before = (link.source, step - link.delay)
            if before in lengths:
                whole = done + _length(network, link) + lengths[before]
                entry = (whole, (*numbers, number), before, (*links, link), (*times, last - step))
                heapq.heappush(waiting, entry)


def _length(network: Network, link: Link) -> int:
    """1 for an edge of the graph, 0 for the step from a node's weighted sum to its value."""
    return int(network.node(link.source) != network.node(link.destination) or link.source in network.units)
