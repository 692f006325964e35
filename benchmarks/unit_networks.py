"""Networks declared unit by unit: sparse ones, and the same network by layers and by units."""

from __future__ import annotations

import random
from typing import Any

import networkx as nx
import numpy as np


def elman(inputs: int, units: int, outputs: int, apart: bool) -> nx.MultiDiGraph:
    """An Elman network by layers, or with each unit a node."""
    graph = nx.MultiDiGraph()
    sizes = {"x": inputs, "a": units, "y": outputs}
    kinds = {"x": "input", "a": "unit", "y": "output"}
    for name, size in sizes.items():
        activation = {"activation": "tanh"} if name == "a" else {}
        for part in parts(name, size, apart):
            graph.add_node(part, kind=kinds[name], size=1 if apart else size, **activation)
    for source, destination, delay in (("x", "a", 0), ("a", "a", 1), ("a", "y", 0)):
        for one in parts(source, sizes[source], apart):
            for other in parts(destination, sizes[destination], apart):
                graph.add_edge(one, other, delay=delay)
    return graph


def lstm(inputs: int, units: int, apart: bool, seed: int = 0) -> nx.MultiDiGraph:
    """An LSTM by layers, or with each unit of each gate a node, in an order drawn by the seed."""
    graph = nx.MultiDiGraph()
    gates = {"i": "sigmoid", "f": "sigmoid", "o": "sigmoid", "z": "tanh"}
    size = 1 if apart else units
    for part in parts("x", inputs, apart):
        graph.add_node(part, kind="input", size=1 if apart else inputs)
    nodes = [(name, k) for name in (*gates, "c", "h") for k in range(units if apart else 1)]
    random.Random(seed).shuffle(nodes)
    for name, k in nodes if apart else [(name, 0) for name in (*gates, "c", "h")]:
        attributes: dict[str, Any] = {"activation": gates[name]} if name in gates else {}
        if name not in gates:
            attributes = {"c": {"equation": "f*c_prev + i*z"}, "h": {"equation": "o*tanh(c)", "kind": "output"}}[name]
        graph.add_node(f"{name}{k}" if apart else name, size=size, **attributes)
    for gate in gates:
        for destination in parts(gate, units, apart):
            for source in parts("x", inputs, apart):
                graph.add_edge(source, destination)
            for source in parts("h", units, apart):
                graph.add_edge(source, destination, delay=1)
    for cell, *ports in (("c", "i", "f", "z"), ("h", "o", "c")):
        for port in ports:
            for source, destination in zip(parts(port, units, apart), parts(cell, units, apart), strict=True):
                graph.add_edge(source, destination, port=port)
    for part in parts("c", units, apart):
        graph.add_edge(part, part, port="c_prev", delay=1)
    return graph


def parts(name: str, size: int, apart: bool) -> list[str]:
    """The names of a layer's units, or its own."""
    return [f"{name}{k}" for k in range(size)] if apart else [name]


def by_unit(params: Any) -> dict[str, np.ndarray]:
    """The parameters of a network by layers, or their gradients, as those of the network by units."""
    found = {}
    for name, value in params.items():
        kind, *ends = name.split("_")
        if kind == "b":
            found.update({f"b_{ends[0]}{k}": value[k : k + 1] for k in range(len(value))})
        else:
            for i, j in np.ndindex(*value.shape):
                found[f"W_{ends[0]}{i}_{ends[1]}{j}"] = value[i : i + 1, j : j + 1]
    return found


def spread(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Sequences by layer as sequences by unit."""
    return {f"{name}{k}": value[..., k : k + 1] for name, value in arrays.items() for k in range(value.shape[-1])}


def sparse_network(units: int, seed: int = 0, edges: int = 10, longest: int = 20) -> nx.MultiDiGraph:
    """Units with so many random edges into each, delays 1 to ``longest``; one input and one output for each hundred."""
    choose = random.Random(seed)
    graph = nx.MultiDiGraph()
    outside = max(1, units // 100)
    graph.add_nodes_from((f"x{k}" for k in range(outside)), kind="input", size=1)
    graph.add_nodes_from((f"u{k}" for k in range(units)), size=1, activation="tanh")
    graph.add_nodes_from((f"y{k}" for k in range(outside)), kind="output", size=1)
    for k in range(units):
        ring = (k + 1) % units  # so that every unit is reached
        others = [unit for unit in choose.sample(range(units), min(edges, units)) if unit != ring]
        for source in [ring, *others][:edges]:
            graph.add_edge(f"u{source}", f"u{k}", delay=choose.randint(1, longest))
    for k in range(outside):
        for unit in choose.sample(range(units), min(units, 10)):
            graph.add_edge(f"x{k}", f"u{unit}")
        for unit in choose.sample(range(units), min(units, 10)):
            graph.add_edge(f"u{unit}", f"y{k}")
    return graph
