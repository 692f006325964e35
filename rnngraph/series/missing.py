"""Gaps in series: what stands in for a missing sample, and which steps read it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from rnngraph.model import Model

Array: TypeAlias = NDArray[Any]
MISSING = ("error", "mask")


def fill_gaps(array: Array) -> tuple[Array, Array]:
    """The array (samples, batch, size) without NaN, and where some unit of it had one, (samples, batch).

    A gap holds the last known value of its unit, at the beginning the first one, 0 where there is none at all: what a
    stand-in does in the memory of a loop goes on after the steps that read it, and 0 would be an outlier in a series
    that is not scaled.
    """
    wrong = np.isnan(array)
    times = np.arange(len(array))[:, None, None]
    last = np.maximum.accumulate(np.where(wrong, -1, times), axis=0)
    filled = np.take_along_axis(array, np.where(last < 0, np.argmin(wrong, axis=0)[None], last), axis=0)
    gaps = np.asarray(wrong.any(axis=2))
    return np.where(np.isnan(filled), 0.0, filled).astype(array.dtype), gaps


def reading_delays(
    model: Model, nodes: Collection[str], outputs: Collection[str], gated: Collection[str] = ()
) -> dict[str, set[int]]:
    """Node -> the sums of delays on its paths to ``outputs``: y(t) reads the node's value at t - d for each d.

    A path goes round no loop: what a loop passes on from step to step is not counted, as it has no end. The first edge
    of a path may lie in a loop, as does that out of an output that is fed back. The units ``gated`` by ``mix_feedback``
    are taken to read measured values alone, as in open loop: a schedule may open the gate at any step.
    """
    edges = [edge for edge in model.edges if edge.destination not in gated or edge.port != "own"]
    order = _order(model)
    loops = nx.DiGraph((edge.source, edge.destination) for edge in edges)
    loops.add_nodes_from(model.nodes)
    home = {name: number for number, loop in enumerate(nx.strongly_connected_components(loops)) for name in loop}
    sums: dict[str, set[int]] = {name: {0} if name in outputs else set() for name in model.nodes}
    found: dict[str, set[int]] = {name: set() for name in nodes}
    ahead = [
        edge
        for edge in edges
        if home[edge.source] != home[edge.destination] or order[edge.source] < order[edge.destination]
    ]
    leaving: dict[str, list[tuple[str, int]]] = {name: [] for name in model.nodes}
    for edge in ahead:
        leaving[edge.source].append((edge.destination, edge.delay))
    forward = nx.DiGraph((edge.source, edge.destination) for edge in ahead)
    for name in reversed(list(nx.topological_sort(forward))):
        for destination, delay in leaving[name]:
            sums[name] |= {delay + rest for rest in sums[destination]}
    for edge in edges:
        if edge.source in found:
            found[edge.source] |= {edge.delay + rest for rest in sums[edge.destination]}
    return found


def _order(model: Model) -> Mapping[str, int]:
    """The nodes in an order that edges without delay follow, those near to an input first: loops lead back in it."""
    whole = nx.DiGraph((edge.source, edge.destination) for edge in model.edges)
    whole.add_nodes_from(model.nodes)
    inputs = [node.name for node in model.inputs]
    near: dict[str, int] = nx.multi_source_dijkstra_path_length(whole, inputs) if inputs else {}
    place = {name: (near.get(name, len(model.nodes)), number) for number, name in enumerate(model.nodes)}
    instant = nx.DiGraph()
    instant.add_nodes_from(model.nodes)
    instant.add_edges_from((edge.source, edge.destination) for edge in model.edges if edge.delay == 0)
    return {name: number for number, name in enumerate(nx.lexicographical_topological_sort(instant, place.__getitem__))}
