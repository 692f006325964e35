"""A small instance of a network: the same nodes, edges, equations and sharing, with sizes of 1 or 2 and short delays.

Sizes that the contract makes equal stay equal (ports, diagonal and identity edges, shared parameters); a size of 1
stays 1, as it may be broadcast; every other becomes 2, the smallest at which a matrix differs from its transpose.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from rnngraph.model import Edge, Model
from rnngraph.paths import direction

SHORT_DELAY = 3  # networks without longer delays keep theirs
MOST_CHOICES = 3


def shrink(model: Model, seed: int = 0) -> Model:
    """The small instance. Fixed matrices and masks become random multiples of 1/8, so that none of their entries is
    special; an edge that chooses among many delays keeps the first of them."""
    model = _fewer_delays(model)
    classes = _Classes()
    axes: dict[str, tuple[str, ...]] = {}
    logits: dict[str, tuple[int, tuple[str, ...]]] = {}

    def give(parameter: str, nodes: tuple[str, ...]) -> None:
        for first, second in zip(axes.setdefault(parameter, nodes), nodes, strict=True):
            classes.join(first, second)

    for edge in model.edges:
        equal = model.nodes[edge.source].size == model.nodes[edge.destination].size
        if edge.structure in ("diagonal", "identity") and equal:  # a port is an identity edge
            classes.join(edge.source, edge.destination)
        if (
            edge.structure in ("dense", "diagonal")
            and edge.parameter is not None
            and edge.parameter in model.parameters
        ):
            ends = (edge.source, edge.destination) if edge.structure == "dense" else (edge.destination,)
            give(edge.parameter, ends)
    for weight in model.weights:
        for symbol in weight.expression.free_symbols:
            give(symbol.name, weight.nodes)
        if weight.logits is not None:
            shared = all(length == 1 for length in model.parameters[weight.logits][1:])
            logits[weight.logits] = len(weight.slices), (() if shared else weight.nodes)
            if not shared:
                give(weight.logits, weight.nodes)
    for node in model.nodes.values():
        if node.bias is not None:
            give(node.bias, (node.name,))
        if isinstance(node.initial, str):
            give(node.initial, (node.name,))
    one = {classes.find(name) for name, node in model.nodes.items() if node.size == 1}
    sizes = {name: 1 if classes.find(name) in one else 2 for name in model.nodes}

    def shape(parameter: str) -> tuple[int, ...]:
        count, nodes = logits.get(parameter, (0, axes.get(parameter, ())))
        lengths = tuple(sizes[node] for node in nodes) or (1,) * (len(model.parameters[parameter]) - 1)
        return (count, *lengths) if count else lengths

    return Model(
        {name: dataclasses.replace(node, size=sizes[name]) for name, node in model.nodes.items()},
        _shorten(model.edges),
        {name: shape(name) for name in model.parameters},
        _constants(model, sizes, seed),
        tuple(
            dataclasses.replace(weight, shape=tuple(sizes[node] for node in weight.nodes)) for weight in model.weights
        ),
    )


def _fewer_delays(model: Model) -> Model:
    """The model with at most ``MOST_CHOICES`` delays to choose from on an edge."""
    dropped = {name for weight in model.weights for name in weight.slices[MOST_CHOICES:]}
    weights = tuple(dataclasses.replace(weight, slices=weight.slices[:MOST_CHOICES]) for weight in model.weights)
    edges = tuple(edge for edge in model.edges if edge.parameter not in dropped)
    return dataclasses.replace(model, edges=edges, weights=weights)


class _Classes:
    """Disjoint sets of nodes of one size."""

    def __init__(self) -> None:
        self.parent: dict[str, str] = {}

    def find(self, name: str) -> str:
        while (parent := self.parent.get(name, name)) != name:
            self.parent[name] = self.parent.get(parent, parent)
            name = parent
        return name

    def join(self, first: str, second: str) -> None:
        self.parent[self.find(first)] = self.find(second)


def _shorten(edges: tuple[Edge, ...]) -> tuple[Edge, ...]:
    """The delays d1 < d2 < ... become 1, 2, ... (0 stays 0) where the longest is not short; look-aheads likewise.

    A loop that mixes both would not always keep its direction: 5 - 1 would become 1 - 1. There, the delays that lead
    in its direction stay longer, by the fewest steps that keep it.
    """
    if max([0, *(abs(edge.delay) for edge in edges)]) <= SHORT_DELAY:
        return edges
    lengths = {sign: sorted({abs(edge.delay) for edge in edges if sign * edge.delay > 0}) for sign in (1, -1)}
    rank = {sign * length: k for sign, each in lengths.items() for k, length in enumerate(each, start=1)}
    loops = _mixed_loops(edges)
    home = {name: loop for loop in loops for name in loop[0]}

    def shorter(edge: Edge, more: int) -> Edge:
        if edge.delay == 0:
            return edge
        loop = home.get(edge.source)
        along = loop is not None and edge.destination in loop[0] and loop[1] * edge.delay > 0
        length = min(rank[edge.delay] + (more if along else 0), abs(edge.delay))
        return dataclasses.replace(edge, delay=length if edge.delay > 0 else -length)

    more = 0
    while True:  # ends at the latest where all of these delays are as they were
        shortened = tuple(shorter(edge, more) for edge in edges)
        if all(_direction(names, shortened) == sign for names, sign in loops):
            return shortened
        more += 1


def _mixed_loops(edges: Sequence[Edge]) -> list[tuple[frozenset[str], int]]:
    """The nodes of each loop that mixes delays and look-aheads, and the loop's direction in time."""
    graph = nx.MultiDiGraph()
    graph.add_edges_from((edge.source, edge.destination, {"delay": edge.delay}) for edge in edges)
    found = []
    for names in nx.strongly_connected_components(graph):
        delays = [delay for _, _, delay in graph.subgraph(names).edges(data="delay")]
        if delays and min(delays) < 0 < max(delays):
            found.append((frozenset(names), _direction(names, edges)))
    return found


def _direction(names: frozenset[str], edges: Sequence[Edge]) -> int:
    inside = ((e.source, e.destination, e.delay) for e in edges if e.source in names and e.destination in names)
    return direction(names, inside)


def _constants(model: Model, sizes: Mapping[str, int], seed: int) -> dict[str, NDArray[np.float64]]:
    rng = np.random.default_rng([seed, 3])
    shapes = {
        edge.parameter: (sizes[edge.source], sizes[edge.destination])
        for edge in model.edges
        if edge.structure == "fixed" and edge.parameter is not None
    }
    for weight in model.weights:
        if weight.mask is not None:
            by_delay = (len(weight.slices),) if model.constants[weight.mask].ndim > len(weight.nodes) else ()
            shapes[weight.mask] = (*by_delay, *(sizes[node] for node in weight.nodes))
    return {name: rng.integers(1, 16, size=shape) / 8.0 for name, shape in shapes.items()}
