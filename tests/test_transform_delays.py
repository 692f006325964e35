"""Delays as chains of nodes and back, with parameters and states. Random graphs: tests/metamorphic.py."""

from __future__ import annotations

from collections import Counter
from typing import Any

import networkx as nx
import numpy as np
import pytest
from random_graphs import random_graph

import rnngraph as rg
from rnngraph.transform.delays import single_delays


def network(initial: Any = 0.0) -> nx.MultiDiGraph:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    graph.add_node("a", size=2, equation="tanh(s + old)", initial=initial)
    graph.add_node("y", kind="output", size=1)
    graph.add_edge("x", "a", delay=[0, 2])
    graph.add_edge("a", "a", delay=3, port="old")
    graph.add_edge("a", "y", delay=1, parameter="V")
    return graph


def content(graph: nx.MultiDiGraph) -> Counter[Any]:
    """The edges of a network, whatever their order."""
    model = rg.validate(graph)
    return Counter((e.source, e.destination, e.delay, e.port, e.structure, e.parameter) for e in model.edges)


def test_one_chain_per_source() -> None:
    expanded = rg.expand_delays(network(0.5))
    assert set(expanded) == {"x", "a", "y", "x_1", "a_1", "a_2"}
    assert {(u, v): data["delay"] for u, v, data in expanded.edges(data=True)} == {
        ("x", "a"): 0, ("x", "x_1"): 1, ("x_1", "a"): 1,
        ("a", "a_1"): 1, ("a_1", "a_2"): 1, ("a_2", "a"): 1, ("a", "y"): 1,
    }  # fmt: skip
    assert expanded.nodes["a_2"] == {"size": 2, "bias": False, "initial": 0.5}
    assert set(rg.validate(expanded).parameters) == {"W_x_a_d0", "W_x_a_d2", "V", "b_a", "b_y"}


def test_a_learned_initial_value_is_shared_by_the_chain() -> None:
    expanded = rg.expand_delays(network("parameter"))
    assert [expanded.nodes[node]["initial"] for node in ("a", "a_1", "a_2")] == ["a_0"] * 3


@pytest.mark.parametrize("seed", range(60))
def test_there_and_back(seed: int) -> None:
    graph = random_graph(seed)
    before = str(list(graph.nodes(data=True)) + list(graph.edges(data=True)))
    back = rg.merge_delays(rg.expand_delays(graph))
    assert content(back) == content(rg.merge_delays(graph))  # a random graph may have copies of its own
    assert str(list(graph.nodes(data=True)) + list(graph.edges(data=True))) == before
    assert content(single_delays(graph)) == content(graph)


def test_what_is_asked_for_is_returned() -> None:
    graph = network("parameter")
    params = rg.compile(graph).init()
    state = {"a": np.arange(6.0).reshape(3, 1, 2)}
    assert isinstance(rg.expand_delays(graph), nx.MultiDiGraph)
    expanded, same = rg.expand_delays(graph, params)
    assert {name: array.tolist() for name, array in same.items()} == {name: params[name].tolist() for name in params}
    expanded, _, states = rg.expand_delays(graph, None, state)
    assert {name: array.tolist() for name, array in states.items()} == {
        "a": [[[4.0, 5.0]]], "a_1": [[[2.0, 3.0]]], "a_2": [[[0.0, 1.0]]],
    }  # fmt: skip
    merged, none, states = rg.merge_delays(expanded, None, states)
    assert none is None
    assert content(merged) == content(graph)
    np.testing.assert_array_equal(states["a"], state["a"])
    same["V"][:] = 9.0
    assert not (params["V"] == 9.0).any(), "the caller's arrays changed"


@pytest.mark.parametrize("initial", [0.5, "parameter"])
def test_part_of_a_state_is_completed_from_initial_values(initial: Any) -> None:
    expanded = rg.expand_delays(network(initial))
    params = {**rg.compile(expanded, dtype="float64").init(), **({"a_0": [0.5, 0.5]} if initial != 0.5 else {})}
    states = rg.merge_delays(expanded, params, {"a_1": np.full((1, 2, 2), 7.0)})[2]
    assert states["a"][:, 0, 0].tolist() == [0.5, 7.0, 0.5]
    if initial == "parameter":
        with pytest.raises(rg.OptionError, match=r"node 'a.*': found a state that depends on the learned .*'a_0'"):
            rg.merge_delays(expanded, None, {"a_1": np.full((1, 2, 2), 7.0)})


def test_only_copies_are_merged() -> None:
    """A bias, another function, another start or a zero delay keeps a node; a start that nobody reads does not."""
    for change, kept in (
        ({"bias": True}, True), ({"activation": "tanh"}, True), ({"initial": 1.0}, True), ({"kind": "output"}, True),
        ({}, False),
    ):  # fmt: skip
        graph = nx.MultiDiGraph()
        graph.add_node("x", kind="input", size=2)
        graph.add_node("c", **{"size": 2, "bias": False, **change})
        graph.add_node("y", kind="output", size=2)
        graph.add_edge("x", "c", structure="identity", delay=2)
        graph.add_edge("c", "y", delay=3)
        merged = rg.merge_delays(graph)
        assert ("c" in merged) == kept, change
        if not kept:
            assert [data["delay"] for _, _, data in merged.edges(data=True)] == [5]
    graph.nodes["c"]["initial"] = 1.0
    graph.edges["c", "y", 0]["delay"] = 0
    assert "c" not in rg.merge_delays(graph)
    graph.edges["x", "c", 0]["delay"] = 0
    assert "c" in rg.merge_delays(graph)


def test_a_long_chain() -> None:
    """The time does not grow with the square of the number of units."""
    graph = network()
    graph.add_edge("x", "y", delay=2000)
    expanded = rg.expand_delays(graph)
    assert len(expanded) == 3 + 1999 + 2
    assert content(rg.merge_delays(expanded)) == content(graph)


def test_states_that_contradict_each_other_are_refused() -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=1)
    graph.add_node("c", size=1, bias=False)
    graph.add_node("y", kind="output", size=1)
    graph.add_edge("x", "c", structure="identity", delay=1)
    graph.add_edge("x", "y", delay=2, parameter="V")
    graph.add_edge("c", "y", delay=1)
    good = {"x": np.array([[[1.0]], [[2.0]]]), "c": np.array([[[1.0]]])}
    assert rg.merge_delays(graph, None, good)[2]["x"].ravel().tolist() == [1.0, 2.0]
    with pytest.raises(rg.DataError, match="state of 'c': found values that are not those of 'x', 1 steps earlier"):
        rg.merge_delays(graph, None, {**good, "c": np.array([[[5.0]]])})


def test_arrays_that_do_not_fit_are_refused() -> None:
    graph = network()
    with pytest.raises(rg.DataError, match="state of 'a'"):
        rg.expand_delays(graph, None, {"a": np.zeros((2, 1, 2))})
    with pytest.raises(rg.DataError, match="unknown name 'b'"):
        rg.expand_delays(graph, None, {"b": np.zeros((2, 1, 2))})
    with pytest.raises(rg.DataError, match="no array for 'V'"):
        rg.merge_delays(
            graph, {name: np.zeros(shape) for name, shape in rg.validate(graph).parameters.items() if name != "V"}
        )


def test_a_state_on_both_sides_of_the_sequence() -> None:
    """A node that is read both with a delay and ahead has its values after the sequence as ``<node>:ahead``."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    graph.add_node("a", size=2, activation="tanh")
    graph.add_node("y", kind="output", size=1)
    graph.add_edge("x", "a", delay=[-2, -1, 0, 3])
    graph.add_edge("a", "y", delay=-1)
    kernel = rg.compile(graph, dtype="float64")
    rng = np.random.default_rng(0)
    params, inputs = kernel.init(seed=1), {"x": rng.normal(size=(5, 2, 2))}
    state = {name: rng.normal(size=array.shape) for name, array in kernel.initial_state(2).items()}
    assert {name: len(array) for name, array in state.items()} == {"x": 3, "x:ahead": 2, "a": 1}
    expected, _ = kernel.forward(params, inputs, state)
    expanded, same, states = rg.expand_delays(graph, params, state)
    assert {name: len(array) for name, array in states.items()} == {"x": 1, "x_1": 1, "x_2": 1, "x:ahead": 2, "a": 1}
    outputs, _ = rg.compile(expanded, dtype="float64").forward(same, inputs, states)
    np.testing.assert_allclose(outputs["y"], expected["y"], rtol=1e-13)
    merged, same, states = rg.merge_delays(expanded, same, states)
    assert set(states) == set(state)
    outputs, _ = rg.compile(merged, dtype="float64").forward(same, inputs, states)
    np.testing.assert_allclose(outputs["y"], expected["y"], rtol=1e-13)


def with_delays_by_unit(structure: str, delays: Any) -> nx.MultiDiGraph:
    """A layer of two units whose own delays differ from unit to unit."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    graph.add_node("a", size=2, activation="tanh", initial="parameter")
    graph.add_node("y", kind="output", size=2)
    graph.add_edge("x", "a")
    graph.add_edge("a", "a", structure="diagonal", parameter="D", delay=[[2, 2]])
    graph.add_edge("a", "y", structure=structure, delay=delays)
    return graph


def outputs_of(graph: nx.MultiDiGraph, params: Any, state: Any, inputs: Any) -> Any:
    outputs, _ = rg.compile(graph, dtype="float64").forward(params, inputs, state)
    return np.concatenate(list(outputs.values()), axis=-1)


@pytest.mark.parametrize(
    ("structure", "delays"), [("identity", [[0, 3]]), ("identity", [[0, 0]]), ("diagonal", [[0, 0]])]
)
def test_a_delay_for_each_unit(structure: str, delays: Any) -> None:
    graph = with_delays_by_unit(structure, delays)
    rng = np.random.default_rng(0)
    params = {name: rng.normal(size=shape) for name, shape in rg.validate(graph).parameters.items()}
    inputs = {"x": rng.normal(size=(6, 2, 2))}
    state = {"a": rng.normal(size=(rg.validate(graph).depth("a"), 2, 2))}
    expected = outputs_of(graph, params, state, inputs)
    for changed, values, states in (
        rg.expand_delays(graph, params, state),
        rg.merge_delays(graph, params, state),
        rg.split_layer(graph, ["a", "y"], [1, 1], params, state),
        rg.merge_layers(graph, {"a": ["a"], "y": ["y"]}, params, state),
    ):
        np.testing.assert_allclose(outputs_of(changed, values, states, inputs), expected, atol=1e-14)
    unfolded = outputs_of(rg.unfold(graph, 6), params, None, {f"x@{t}": inputs["x"][t - 1 : t] for t in range(1, 7)})
    np.testing.assert_allclose(
        np.moveaxis(unfolded.reshape(2, 6, 2), 0, 1), outputs_of(graph, params, None, inputs), atol=1e-14
    )
    adjoint, turned = rg.transpose(graph, params)
    assert set(rg.validate(adjoint).parameters) == set(turned) == {"W_x_a_T", "D", *({"W_a_y"} & set(params))}


@pytest.mark.parametrize(
    "call",
    [
        rg.expand_delays, rg.merge_delays, rg.transpose, lambda graph: rg.unfold(graph, 3),
        lambda graph: rg.split_layer(graph, ["a", "y"], [1, 1]), lambda graph: rg.merge_layers(graph, {"b": ["a"]}),
    ],
)  # fmt: skip
def test_what_edges_of_one_delay_cannot_hold_is_refused(call: Any) -> None:
    with pytest.raises(
        rg.UnsupportedError, match=r"edge 'a' -> 'y': found a delay for each unit .*mask=numpy\.eye\(2\)"
    ):
        call(with_delays_by_unit("diagonal", [[0, 3]]))
    with pytest.raises(rg.UnsupportedError, match=r"edge 'a' -> 'y': found a learned delay.*make it plain first"):
        call(with_delays_by_unit("diagonal", {"max": 2, "learned": True}))
