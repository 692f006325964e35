"""A small instance of a network: the same nodes, edges, equations and sharing, with sizes of 1 or 2 and short delays.

Sizes that the contract makes equal stay equal (ports, diagonal and identity edges, shared parameters); a size of 1
stays 1, as it may be broadcast; every other becomes 2, the smallest at which a matrix differs from its transpose.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rnngraph.model import Edge, Model

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
    """The delays d1 < d2 < ... become 1, 2, ... (0 stays 0) where the longest is not short; look-aheads likewise."""
    delays = sorted({edge.delay for edge in edges if edge.delay > 0})
    ahead = sorted({-edge.delay for edge in edges if edge.delay < 0})
    if max([0, *delays, *ahead]) <= SHORT_DELAY:
        return edges
    rank = {0: 0, **{delay: k for k, delay in enumerate(delays, start=1)}}
    rank.update((-steps, -k) for k, steps in enumerate(ahead, start=1))
    return tuple(dataclasses.replace(edge, delay=rank[edge.delay]) for edge in edges)


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
