"""Parameter names written out: the same parameters, whatever the nodes are called afterwards."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from metamorphic import metamorphic_graph

import rnngraph as rg


@pytest.mark.parametrize("seed", range(20))
def test_names_and_shapes_stay_and_survive_relabelling(seed: int) -> None:
    graph = metamorphic_graph(seed)
    before = {node: dict(data) for node, data in graph.nodes(data=True)}
    written = rg.explicit_parameters(graph)
    assert dict(rg.validate(written).parameters) == dict(rg.validate(graph).parameters)
    assert {node: dict(data) for node, data in graph.nodes(data=True)} == before, "the caller's graph changed"
    renamed = nx.relabel_nodes(written, {node: ("node", k) for k, node in enumerate(graph)})
    assert dict(rg.validate(renamed).parameters) == dict(rg.validate(graph).parameters)


def test_lists_ports_and_biases() -> None:
    graph = nx.MultiDiGraph()
    graph.add_node(1, kind="input", size=2)
    graph.add_node("a", size=2, activation="tanh", initial="parameter")
    graph.add_node("y", kind="output", size=2, equation="p*q")
    graph.add_edge(1, "a", delay=[0, 2])
    graph.add_edge("a", "a", delay=1, structure="identity")
    graph.add_edge("a", "y", port="p")
    graph.add_edge(1, "y", port="q")
    written = rg.explicit_parameters(graph)
    assert written.edges[1, "a", 0]["parameter"] == "W_1_a"
    assert written.nodes["a"]["bias"] == "b_a"
    assert "parameter" not in written.edges["a", "a", 0]
    assert written.nodes["a"]["initial"] == "a_0"
    assert "bias" not in written.nodes["y"]
    assert list(rg.validate(written).parameters) == ["W_1_a_d0", "W_1_a_d2", "b_a", "a_0"]


def test_a_graph_that_breaks_the_contract_is_refused() -> None:
    graph = rg.zoo.elman(1, 2, 1)
    graph.nodes["a"]["size"] = 0
    with pytest.raises(rg.GraphError, match="node 'a': found size=0"):
        rg.explicit_parameters(graph)


def shared_start(second: str) -> nx.MultiDiGraph:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=1)
    for name, initial in {"a": "parameter", "c": second}.items():
        graph.add_node(name, size=2, activation="tanh", initial=initial)
        graph.add_edge("x", name)
        graph.add_edge(name, name, delay=1)
        graph.add_edge(name, "y")
    graph.add_node("y", kind="output", size=1)
    return graph


@pytest.mark.parametrize("method", ["bptt", "rtrl", "bptt-rtrl"])
def test_two_nodes_may_share_a_learned_initial_value(method: str) -> None:
    """The gradient by a shared value is the sum of the gradients by two values."""
    options = {"block": 3} if method == "bptt-rtrl" else {}
    shared = rg.compile(shared_start("a_0"), method=method, dtype="float64", **options)
    apart = rg.compile(shared_start("parameter"), dtype="float64")
    params = {**apart.init(), "a_0": [0.3, -0.2], "c_0": [0.3, -0.2]}
    data = {"x": np.linspace(-1.0, 1.0, 12).reshape(6, 2, 1)}, {"y": np.ones((6, 2, 1))}
    expected_loss, expected = apart.loss_and_gradient(params, *data)
    loss, gradient = shared.loss_and_gradient({name: params[name] for name in shared.parameter_shapes}, *data)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-14)
    np.testing.assert_allclose(gradient["a_0"], expected["a_0"] + expected["c_0"], rtol=1e-12)
    rg.verify(shared_start("a_0"))


def test_the_name_of_an_initial_value_ends_in_0() -> None:
    with pytest.raises(rg.GraphError, match="node 'c': found initial='start'; expected a finite number, 'parameter'"):
        rg.validate(shared_start("start"))
