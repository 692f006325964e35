"""Parameter names written out: the same parameters, whatever the nodes are called afterwards."""

from __future__ import annotations

import networkx as nx
import pytest
from random_graphs import random_graph

import rnngraph as rg


@pytest.mark.parametrize("seed", range(20))
def test_names_and_shapes_stay_and_survive_relabelling(seed: int) -> None:
    graph = random_graph(seed)
    for data in graph.nodes.values():  # a learned initial value follows its node
        data.pop("initial", None)
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
    assert "bias" not in written.nodes["y"]
    assert list(rg.validate(written).parameters) == ["W_1_a_d0", "W_1_a_d2", "b_a", "a_0"]


def test_a_graph_that_breaks_the_contract_is_refused() -> None:
    graph = rg.zoo.elman(1, 2, 1)
    graph.nodes["a"]["size"] = 0
    with pytest.raises(rg.GraphError, match="node 'a': found size=0"):
        rg.explicit_parameters(graph)
