"""Random networks declared unit by unit."""

from __future__ import annotations

import random
from typing import Any

import networkx as nx


def random_units(seed: int, units: int = 13) -> nx.MultiDiGraph:
    """A graph of single units and two wider nodes; edges of every plain structure with delays 0 to 6."""
    choose = random.Random(seed)
    graph = nx.MultiDiGraph()
    for k in range(inputs := choose.randint(1, 4)):
        graph.add_node(f"x{k}", kind="input", size=1)
    if choose.random() < 0.5:
        graph.add_node("z", kind="input", size=3)
    graph.add_node("wide", size=3, activation="sigmoid", initial="parameter" if choose.random() < 0.5 else 0.3)
    activations = ["tanh", "sigmoid", "identity"][: choose.randint(1, 2)]
    for k in range(units):
        graph.add_node(
            f"u{k}", kind="output" if choose.random() < 0.3 else "unit", size=1,
            activation=choose.choice(activations), bias=choose.random() < 0.9,
            initial=0.25 if choose.random() < 0.15 else 0.0,
        )  # fmt: skip
    graph.add_node("y", kind="output", size=2)
    names = list(graph)
    order = {name: k for k, name in enumerate(names)}

    def join(source: str, destination: str, delay: int, **attributes: Any) -> None:
        if not graph.has_edge(source, destination):
            graph.add_edge(source, destination, delay=delay, **attributes)

    for name in names:
        if graph.nodes[name].get("kind") == "input":
            continue
        for source in choose.sample(names, choose.randint(2, 5)):
            delay = choose.choice([0, 1, 1, 2, 3, 6])
            attributes: dict[str, Any] = {}
            if graph.nodes[source]["size"] == graph.nodes[name]["size"] == 1:
                structure = choose.choice(["dense"] * 6 + ["identity", "diagonal", "fixed"])
                attributes = {"structure": structure, **({"value": 0.7} if structure == "fixed" else {})}
            join(source, name, delay or (0 if order[source] < order[name] else 1), **attributes)
    if choose.random() < 0.3:
        for k in range(units):
            join(f"u{k}", f"u{k}", 1)
    if choose.random() < 0.4:
        for k in range(units):
            join("x0", f"u{k}", 1)
    for k in range(inputs):
        join(f"x{k}", f"u{k}", 4)
    join("x0", "wide", 0)
    for k in range(units):  # every unit is reached, and reaches y
        join(f"u{(k - 1) % units}", f"u{k}", 5)
    for name in names:
        if name != "y" and not set(graph.successors(name)) - {name}:
            join(name, "y", 1)
    join("wide", "u0", 2)
    join("u0", "y", 2)
    return graph


def with_rarities(graph: nx.MultiDiGraph, seed: int) -> tuple[nx.MultiDiGraph, dict[str, Any]]:
    """The graph with what few networks have: parallel edges of one delay, several delays, shared weights and biases,
    masks, learned delays, expressions, equations with ports, learned initial values; and a loss for each output."""
    choose = random.Random(seed)
    units = [name for name in graph if name.startswith("u")]
    for number in range(4):
        source, destination = choose.choice(units), choose.choice(units)
        graph.add_edge(source, destination, delay=2, parameter=f"first{number}")
        graph.add_edge(source, destination, delay=2, parameter=f"second{number}")
        graph.add_edge(source, destination, delay=[1, 3], parameter=f"listed{number}")
        graph.add_edge(source, source, delay=choose.randint(1, 6), parameter=f"loop{number}")
    rarities: list[dict[str, Any]] = [
        {"parameter": "shared", "delay": 1},
        {"structure": "masked", "mask": 1, "parameter": "masked", "delay": 1},
        {"delay": {"max": 3, "learned": True}, "parameter": "softened"},
        {"expression": "2*shared_too", "delay": 1},
        {"parameter": "shared_too", "delay": 4},
    ]
    for number, attributes in enumerate(choose.sample(rarities, 2)):
        for _ in range(2 if attributes.get("parameter") == "shared" else 1):
            graph.add_edge(choose.choice(units), choose.choice(units), key=f"rare{number}", **attributes)
    for name in choose.sample(units, 2):
        graph.nodes[name]["initial"] = "parameter"
    for name in choose.sample(units, 2):
        graph.nodes[name]["bias"] = "shared_bias"
    gated = choose.sample([name for name in units if graph.nodes[name].get("bias", True) is not False], 4)
    for number, name in enumerate(gated):  # one port for all, or each from another unit
        graph.nodes[name].pop("activation")
        graph.nodes[name]["equation"] = "0.5*past + tanh(s)*gate"
        graph.add_edge(name, name, port="past", delay=1)
        graph.add_edge(units[0] if seed % 2 else units[number], name, port="gate", delay=2)
    outputs = [name for name, kind in graph.nodes(data="kind") if kind == "output"]
    losses = {name: choose.choice(["mse", "mse", "abs(y - target)"]) for name in outputs if name != "y"}
    return graph, {**losses, "y": "cross_entropy"}
