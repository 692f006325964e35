"""Layers split and merged: outputs and states side by side, parameters in blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from checking import assert_all_close
from random_graphs import random_graph, random_problem

import rnngraph as rg
from rnngraph.transform.delays import single_delays


def joined_unit_by_unit(graph: nx.MultiDiGraph, node: str) -> list[str]:
    """All nodes that are cut with ``node``."""
    near = nx.Graph()
    near.add_nodes_from(graph)
    for source, destination, data in graph.edges(data=True):
        by_unit = data.get("port", "s") != "s" or data.get("structure") in ("identity", "diagonal")
        if by_unit and graph.nodes[source]["size"] == graph.nodes[destination]["size"]:
            near.add_edge(source, destination)
    return sorted(nx.node_connected_component(near, node))


def content(graph: nx.MultiDiGraph) -> Any:
    model = rg.validate(graph)
    edges = sorted((e.source, e.destination, e.delay, e.port, e.structure, str(e.parameter)) for e in model.edges)
    nodes = {name: (n.kind, n.size, n.equation, n.bias, n.initial) for name, n in model.nodes.items()}
    return edges, nodes, dict(model.parameters)


def splittable(graph: nx.MultiDiGraph) -> bool:
    """Whether there is a node to split, and no parameter that would be cut in two ways."""
    shared = any(data.get("parameter") == "shared_weight" for _, _, data in graph.edges(data=True))
    shared |= any(data.get("bias") == "shared_bias" for data in graph.nodes.values())
    return not shared and any(size > 1 for _, size in graph.nodes(data="size"))


@pytest.mark.parametrize("seed", [seed for seed in range(40) if splittable(random_graph(seed))][:10])
def test_split_and_merged_again(seed: int) -> None:
    graph = random_graph(seed)
    rng = np.random.default_rng([seed, 6])
    node = str(rng.choice([node for node, size in graph.nodes(data="size") if size > 1]))
    nodes, size = joined_unit_by_unit(graph, node), graph.nodes[node]["size"]
    sizes = [1, size - 1] if seed % 2 else [1] * size
    problem = random_problem(graph, seed, with_state=True)
    split, params, state = rg.split_layer(graph, nodes, sizes, problem.parameters, problem.state)
    parts = {name: [f"{name}_{k + 1}" for k in range(len(sizes))] for name in nodes}

    def cut(arrays: Any) -> dict[str, Any]:
        pieces = {}
        for name, array in arrays.items():
            blocks = np.split(array, np.cumsum(sizes)[:-1], axis=2) if name in parts else [array]
            pieces |= dict(zip(parts.get(name, [name]), blocks, strict=True))
        return pieces

    expected, last = rg.compile(graph, dtype="float64").forward(problem.parameters, problem.inputs, problem.state)
    outputs, after = rg.compile(split, dtype="float64").forward(params, cut(problem.inputs), state)
    assert_all_close(outputs, cut(expected), 1e-12, "output")
    assert_all_close(after, cut(last), 1e-12, "state")
    merged, params, state = rg.merge_layers(split, parts, params, after)
    assert content(merged) == content(single_delays(graph))
    assert_all_close(params, problem.parameters, 0.0, "parameter")
    assert_all_close(state, dict(last), 1e-12, "merged state")


def test_lstm_in_two_halves() -> None:
    graph = rg.zoo.lstm(2, 6)
    kernel = rg.compile(graph, dtype="float64")
    params, x = kernel.init(seed=1), np.random.default_rng(0).normal(size=(5, 3, 2))
    split, parts = rg.split_layer(graph, list("ifozch"), [4, 2], params)
    assert parts["W_h_i_1_2"].shape == (4, 2)
    np.testing.assert_array_equal(parts["W_h_i_1_2"], params["W_h_i"][:4, 4:])
    outputs, _ = rg.compile(split, dtype="float64").forward(parts, {"x": x})
    whole, _ = kernel.forward(params, {"x": x})
    np.testing.assert_allclose(np.concatenate([outputs["h_1"], outputs["h_2"]], axis=2), whole["h"], rtol=1e-13)


def side_by_side() -> nx.MultiDiGraph:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    graph.add_node("p", size=3, activation="tanh", initial="parameter")
    graph.add_node("q", size=1, activation="tanh", initial="parameter")
    graph.add_node("y", kind="output", size=2)
    for part in "pq":
        graph.add_edge("x", part)
        graph.add_edge(part, "y")
        for other in "pq":
            graph.add_edge(part, other, delay=2)
    return graph


def test_layers_of_any_names_are_merged() -> None:
    graph = side_by_side()
    kernel = rg.compile(graph, dtype="float64")
    params, x = dict(kernel.init(seed=1)), np.random.default_rng(0).normal(size=(5, 3, 2))
    params["p_0"], params["q_0"] = np.array([0.1, 0.2, 0.3]), np.array([0.4])
    merged, joined, state = rg.merge_layers(graph, {"a": ["p", "q"]}, params, {"q": np.ones((2, 3, 1))})
    model = rg.validate(merged)
    assert dict(model.parameters) == {
        "W_x_a": (2, 4),
        "W_a_y": (4, 2),
        "W_a_a": (4, 4),
        "b_a": (4,),
        "b_y": (2,),
        "a_0": (4,),
    }
    assert state["a"][0, 0].tolist() == [0.1, 0.2, 0.3, 1.0]  # what is not given starts from the learned value
    whole, _ = kernel.forward(params, {"x": x})
    outputs, _ = rg.compile(merged, dtype="float64").forward(joined, {"x": x})
    np.testing.assert_allclose(outputs["y"], whole["y"], rtol=1e-13)


def change(**attributes: Any) -> nx.MultiDiGraph:
    graph = side_by_side()
    graph.nodes["q"].update(attributes)
    return graph


def with_edges(*edges: tuple[str, str, dict[str, Any]]) -> nx.MultiDiGraph:
    graph = side_by_side()
    graph.add_edges_from(edges)
    return graph


def without_block() -> nx.MultiDiGraph:
    graph = side_by_side()
    graph.remove_edge("p", "q")
    return graph


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (change(activation="sigmoid"), r"layer 'a': found equation tanh\(s\) on 'p' and sigmoid\(s\) on 'q'"),
        (change(kind="output"), "layer 'a': found kind 'unit' on 'p' and 'output' on 'q'"),
        (change(bias=False), "layer 'a': found bias 'b_p' on 'p' and None on 'q'"),
        (change(initial=0.5), "layer 'a': found initial 'p_0' on 'p' and 0.5 on 'q'"),
        (without_block(), "edges 'a' -> 'a' of delay 2: found edges between some of their parts only"),
        (with_edges(("x", "p", {"delay": 1, "parameter": "V"})), "edges 'x' -> 'a' of delay 1: found edges bet"),
        (with_edges(("p", "p", {"delay": 1, "structure": "identity"})), "edges 'a' -> 'a' of delay 1: found edges"),
    ],
)  # fmt: skip
def test_what_is_not_exact_is_not_merged(graph: nx.MultiDiGraph, message: str) -> None:
    with pytest.raises(rg.GraphError, match=message):
        rg.merge_layers(graph, {"a": ["p", "q"]})


def test_shared_parameters_are_merged_and_split_alike_or_not_at_all() -> None:
    graph = side_by_side()
    graph.nodes["q"]["size"] = 3
    for part in "pq":
        graph.edges["x", part, 0]["parameter"] = "tied"
    with pytest.raises(rg.GraphError, match="a parameter among tied that is used in another place"):
        rg.merge_layers(graph, {"a": ["p", "q"]})
    with pytest.raises(rg.GraphError, match="the parameter 'tied', which is cut in another way on edge 'x' -> 'p'"):
        rg.split_layer(graph, "p", [1, 2])
    split = rg.split_layer(graph, ["p", "q"], [1, 2])
    assert {"tied_1", "tied_2"} < set(rg.validate(split).parameters)


def test_what_cannot_be_split() -> None:
    graph = rg.zoo.lstm(2, 3)
    with pytest.raises(rg.GraphError, match=r"a whole layer joined unit by unit with one that is cut.*cut 'c' too"):
        rg.split_layer(graph, "i", [1, 2])
    with pytest.raises(rg.OptionError, match=r"sizes: found .*whole numbers >= 1 whose sum is 3, the size of node 'h'"):
        rg.split_layer(graph, "h", [1, 1])
    with pytest.raises(rg.OptionError, match="nodes: found 'g'; expected a node of the graph"):
        rg.split_layer(graph, ["h", "g"], [1, 2])
    for nodes, found in (([["h"]], r"\['h'\]"), ([], r"\[\]")):
        with pytest.raises(rg.OptionError, match=f"nodes: found {found}; expected a node of the graph"):
            rg.split_layer(graph, nodes, [1, 2])
    for sizes in (3, None, [], [True, 2], ["h", 2]):
        with pytest.raises(
            rg.OptionError, match=r"sizes: found .*; expected a list of whole numbers .* whose sum is 3"
        ):
            rg.split_layer(graph, "h", sizes)
    assert set(rg.split_layer(rg.zoo.elman(2, 3), "a", np.array([1, 2]))) >= {"a_1", "a_2"}


@pytest.mark.parametrize(
    "layers", [{"a": ["p", "p"]}, {"a": ["p", "r"]}, {"a": []}, {"x": ["p", "q"]}, ["p", "q"], {"a": "pq"}]
)
def test_layers_to_merge_are_checked(layers: Any) -> None:
    with pytest.raises(rg.OptionError, match=r"layers: found .*; expected a mapping: new node -> list of nodes"):
        rg.merge_layers(side_by_side(), layers)


def test_masked_layers_and_expressions() -> None:
    """A block of the mask without any weight has no edge, and is missing when the parts are merged."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    graph.add_node("a", size=4, activation="tanh")
    graph.add_node("y", kind="output", size=1)
    mask = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 1]])
    graph.add_edge("x", "a", expression="tanh(U)*V")
    graph.add_edge("a", "a", delay=1, structure="masked", mask=mask, parameter="R")
    graph.add_edge("a", "y")
    kernel = rg.compile(graph, dtype="float64")
    params, x = kernel.init(seed=1), np.random.default_rng(0).normal(size=(5, 3, 2))
    split, parts = rg.split_layer(graph, "a", [2, 2], params)
    assert {name for name in parts if name[0] in "RUV"} == {"R_1_1", "R_2_2", "U_1", "U_2", "V_1", "V_2"}
    whole, _ = kernel.forward(params, {"x": x})
    outputs, _ = rg.compile(split, dtype="float64").forward(parts, {"x": x})
    np.testing.assert_allclose(outputs["y"], whole["y"], rtol=1e-13)
    with pytest.raises(rg.GraphError, match="edges 'x' -> 'b' of delay 0: found weights that are expressions"):
        rg.merge_layers(split, {"b": ["a_1", "a_2"]})
    graph.edges["x", "a", 0].pop("expression")
    with pytest.raises(rg.GraphError, match="edges 'b' -> 'b' of delay 1: found edges between some of their parts"):
        rg.merge_layers(rg.split_layer(graph, "a", [2, 2]), {"b": ["a_1", "a_2"]})
    graph.edges["a", "a", 0]["mask"] = mask = np.ones((4, 4)) - np.eye(4)[::-1]
    again = rg.merge_layers(rg.split_layer(graph, "a", [1, 3]), {"a": ["a_1", "a_2"]})
    np.testing.assert_array_equal(again.edges["a", "a", 0]["mask"], mask)


@pytest.mark.parametrize("sizes", [[2, 2], [1, 3]])
def test_masks_from_a_file_are_merged(sizes: list[int], tmp_path: Path) -> None:
    """A file's masks are lists; that of one weight may be a number."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=1)
    graph.add_node("a", kind="output", size=4, activation="tanh")
    graph.add_node("b", kind="output", size=1)
    mask = np.ones((4, 4)) - np.eye(4)[::-1]
    graph.add_edge("x", "a")
    graph.add_edge("a", "a", delay=1, structure="masked", mask=mask)
    graph.add_edge("x", "b", structure="masked", mask=1)
    split = rg.split_layer(graph, "a", sizes)
    rg.save_graph(split, tmp_path / "split.json")
    merged = rg.merge_layers(rg.load_graph(tmp_path / "split.json"), {"a": ["a_1", "a_2"]})
    np.testing.assert_array_equal(merged.edges["a", "a", 0]["mask"], mask)
    assert content(merged) == content(single_delays(graph))
    assert set(rg.split_layer(graph, "b", [1])) == {"x", "a", "b_1"}


def test_a_state_on_both_sides_of_the_sequence() -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=3)
    graph.add_node("y", kind="output", size=1)
    graph.add_edge("x", "y", delay=[-2, 0, 1])
    kernel = rg.compile(graph, dtype="float64")
    rng = np.random.default_rng(0)
    params, x = kernel.init(seed=1), rng.normal(size=(5, 2, 3))
    state = {name: rng.normal(size=array.shape) for name, array in kernel.initial_state(2).items()}
    split, parts, states = rg.split_layer(graph, "x", [1, 2], params, state)
    assert {name: array.shape for name, array in states.items()} == {
        "x_1": (1, 2, 1), "x_2": (1, 2, 2), "x_1:ahead": (2, 2, 1), "x_2:ahead": (2, 2, 2)
    }  # fmt: skip
    outputs, _ = rg.compile(split, dtype="float64").forward(parts, {"x_1": x[..., :1], "x_2": x[..., 1:]}, states)
    np.testing.assert_allclose(outputs["y"], kernel.forward(params, {"x": x}, state)[0]["y"], rtol=1e-13)
    del states["x_1:ahead"]  # what is not given starts from the initial value
    _, _, joined = rg.merge_layers(split, {"x": ["x_1", "x_2"]}, parts, states)
    assert set(joined) == {"x", "x:ahead"}
    np.testing.assert_array_equal(joined["x"], state["x"])
    assert not joined["x:ahead"][..., 0].any()
    np.testing.assert_array_equal(joined["x:ahead"][..., 1:], state["x:ahead"][..., 1:])


def test_a_part_that_is_read_less_far_keeps_less_of_the_state() -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=3)
    graph.add_node("y", kind="output", size=1)
    graph.add_edge("x", "y", delay=[[0], [1], [-2]])
    graph.add_edge("x", "y", delay=[[0], [3], [-1]], parameter="V")
    kernel = rg.compile(graph, dtype="float64")
    rng = np.random.default_rng(0)
    params, x = kernel.init(seed=1), rng.normal(size=(5, 2, 3))
    state = {name: rng.normal(size=array.shape) for name, array in kernel.initial_state(2).items()}
    split, parts, states = rg.split_layer(graph, "x", [1, 1, 1], params, state)
    assert {name: len(array) for name, array in states.items()} == {"x_2": 3, "x_3": 2}
    inputs = {f"x_{k + 1}": x[..., k : k + 1] for k in range(3)}
    outputs, _ = rg.compile(split, dtype="float64").forward(parts, inputs, states)
    np.testing.assert_allclose(outputs["y"], kernel.forward(params, {"x": x}, state)[0]["y"], rtol=1e-13)
