"""The graph contract: what validate makes of a graph, and how it refuses."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest
import sympy

from codegen.functions import FUNCTIONS
from rnngraph.errors import CycleError, EquationError, GraphError
from rnngraph.model import Edge
from rnngraph.validate import validate

S = sympy.Symbol("s", real=True)


def chain(node: dict[str, Any] | None = None, edge: dict[str, Any] | None = None, **source: Any) -> nx.MultiDiGraph:
    """x (3) -> a (2) -> y (1), with attributes of a and of x -> a set or, where None, left out."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", **{"kind": "input", "size": 3, **source})
    graph.add_node("a", **{"size": 2, "activation": "tanh", **(node or {})})
    graph.add_node("y", kind="output", size=1)
    graph.add_edge("x", "a", **(edge or {}))
    graph.add_edge("a", "y")
    return graph


def cell(equation: str, sizes: tuple[int, int] = (2, 2), **edge: Any) -> nx.MultiDiGraph:
    """x -> y by a port p, y with the given equation."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=sizes[0])
    graph.add_node("y", kind="output", size=sizes[1], equation=equation)
    graph.add_edge("x", "y", **{"port": "p", **edge})
    return graph


def lstm(delay: int = 1) -> nx.MultiDiGraph:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=3)
    for gate, activation in {"i": "sigmoid", "f": "sigmoid", "o": "sigmoid", "z": "tanh"}.items():
        graph.add_node(gate, size=4, activation=activation)
        graph.add_edge("x", gate)
        graph.add_edge("h", gate, delay=delay)
    graph.add_node("c", size=4, equation="f*c_prev + i*z")
    graph.add_node("h", kind="output", size=4, equation="o*tanh(c)")
    for port in "ifz":
        graph.add_edge(port, "c", port=port)
    graph.add_edge("c", "c", port="c_prev", delay=1)
    graph.add_edge("o", "h", port="o")
    graph.add_edge("c", "h", port="c")
    return graph


def test_elman() -> None:
    graph = chain()
    graph.add_edge("a", "a", parameter="R", delay=1)
    model = validate(graph)
    assert list(model.nodes) == ["x", "a", "y"]
    assert model.nodes["a"].equation == FUNCTIONS["tanh"].symbol(S)
    assert model.nodes["y"].equation == S
    assert (model.nodes["a"].bias, model.nodes["a"].initial, model.nodes["x"].equation) == ("b_a", 0.0, None)
    assert model.edges == (
        Edge("x", "a", 0, "s", "dense", "W_x_a"),
        Edge("a", "y", 0, "s", "dense", "W_a_y"),
        Edge("a", "a", 1, "s", "dense", "R"),
    )
    assert dict(model.parameters) == {"W_x_a": (3, 2), "W_a_y": (2, 1), "R": (2, 2), "b_a": (2,), "b_y": (1,)}


def test_lstm_marks_its_forget_gate_alone() -> None:
    model = validate(lstm())
    assert [name for name, node in model.nodes.items() if node.forget_gate] == ["f"]
    assert model.nodes["c"].bias is None and model.depth("c") == 1


def test_list_of_delays() -> None:
    model = validate(chain(edge={"delay": [0, 2]}))
    assert [(edge.delay, edge.parameter) for edge in model.edges[:2]] == [(0, "W_x_a_d0"), (2, "W_x_a_d2")]
    assert validate(chain(edge={"delay": [1], "parameter": "W"})).edges[0].parameter == "W_d1"
    assert validate(chain(edge={"delay": (np.int64(1),)})).edges[0].delay == 1


def test_shared_parameters() -> None:
    graph = chain(size=2)
    graph.add_edge("a", "a", delay=1, parameter="W_x_a")
    assert dict(validate(graph).parameters) == {"W_x_a": (2, 2), "W_a_y": (2, 1), "b_a": (2,), "b_y": (1,)}


def test_fixed_and_learned_initial() -> None:
    graph = chain({"initial": "parameter"}, {"structure": "fixed", "value": np.ones((3, 2))})
    graph.add_edge("a", "a", delay=1, structure="diagonal", parameter="C_x_a")
    graph.add_edge("x", "a", structure="fixed", value=[[0, 1]] * 3)
    model = validate(graph)
    assert sorted(model.constants) == ["C_x_a_2", "C_x_a_3"]
    assert model.parameters["a_0"] == model.parameters["C_x_a"] == (2,)
    assert model.nodes["a"].initial == "a_0"
    with pytest.raises(ValueError, match="read-only"):
        model.constants["C_x_a_2"][0, 0] = 1


def test_fixed_with_a_list_of_delays() -> None:
    stacked = np.arange(12.0).reshape(2, 3, 2)
    model = validate(chain(edge={"structure": "fixed", "delay": [0, 1], "value": stacked}))
    np.testing.assert_array_equal(model.constants["C_x_a_d1"], stacked[1])
    model = validate(chain(edge={"structure": "fixed", "delay": [0, 1], "value": stacked[0]}))
    np.testing.assert_array_equal(model.constants["C_x_a_d1"], stacked[0])


@pytest.mark.parametrize(
    "graph",
    [
        chain({"label": "hidden", "pos": (0, 1), "equation": None}),
        chain({"size": np.int32(2), "bias": "beta", "initial": np.float32(0.5)}),
        chain({"activation": None, "equation": sympy.tanh(sympy.Symbol("s"))}),
        chain({"bias": False}),
        cell("p", (1, 4)),
        cell("2*p"),
    ],
)
def test_accepts(graph: nx.MultiDiGraph) -> None:
    assert validate(graph).outputs


def test_bias_without_edges_is_the_sum() -> None:
    graph = cell("p + s")
    graph.nodes["y"]["bias"] = True
    assert validate(graph).nodes["y"].bias == "b_y"


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (nx.DiGraph([(0, 1)]), r"type DiGraph; .* nx.MultiDiGraph\(graph\)"),
        (nx.MultiGraph([(0, 1)]), "no direction"),
        (nx.Graph([(0, 1)]), "no direction"),
        ({"x": []}, "type dict"),
        (nx.MultiDiGraph(), "graph: found no nodes"),
        (chain({"size": None}), "node 'a': found no size"),
        (chain({"size": True}), "size=True of type bool"),
        (chain({"size": 2.0}), "size=2.0 of type float"),
        (chain({"size": 0}), "size=0"),
        (chain({"size": 2**25}), "from 1 to 16777216"),
        (chain({"sise": 2}), "unknown attribute 'sise'; .* did you mean 'size'"),
        (chain({"kind": "inputs"}), "did you mean 'input'"),
        (chain({"activation": "tann"}), "activation='tann'; .* did you mean 'tan"),
        (chain({"activation": "maximum"}), "activation='maximum'"),
        (chain({"equation": "s"}), "both an activation and an equation"),
        (chain({"bias": 3}), "bias=3 of type int"),
        (chain({"bias": ""}), "empty bias name"),
        (chain({"initial": float("nan")}), "initial=nan"),
        (chain({"initial": "learned"}), "initial='learned'"),
        (chain({"initial": True}), "initial=True"),
        (chain({"initial": "parameter"}), "no edge reads with a delay"),
        (chain(initial=0.0), "attribute 'initial' on an input"),
        (chain(activation="tanh"), "attribute 'activation' on an input"),
        (chain(bias=False), "attribute 'bias' on an input"),
        (chain(edge={"weight": 1.0}), "edge 'x' -> 'a': found the unknown attribute 'weight'"),
        (chain(edge={"delays": 1}), "did you mean 'delay'"),
        (chain(edge={"delay": 1.5}), "delay=1.5 of type float"),
        (chain(edge={"delay": True}), "delay=True"),
        (chain(edge={"delay": 10**7}), "at most 1000000 steps"),
        (chain(edge={"delay": []}), "empty list of delays"),
        (chain(edge={"delay": [1, 2, 1]}), "delay 1 twice"),
        (chain(edge={"structure": "sparse"}), "structure='sparse'"),
        (chain(edge={"structure": "identity", "parameter": "W"}), "parameter='W' with structure='identity'"),
        (chain(edge={"structure": "fixed", "parameter": "W", "value": 1}), "parameter='W' with structure='fixed'"),
        (chain(edge={"structure": "diagonal"}), "structure='diagonal' from size 3 to size 2; expected equal sizes"),
        (chain(edge={"structure": "identity"}), "expected equal sizes"),
        (chain(edge={"structure": "fixed"}), "without a value"),
        (chain(edge={"value": 1.0}), "a value with structure='dense'"),
        (chain(edge={"structure": "fixed", "value": 1.0}), r"value of shape \(\); expected .* shape \(3, 2\)"),
        (chain(edge={"structure": "fixed", "value": np.ones((2, 3))}), r"value of shape \(2, 3\)"),
        (chain(edge={"structure": "fixed", "value": np.full((3, 2), np.inf)}), "NaN or infinity"),
        (chain(edge={"structure": "fixed", "value": [[1], [1, 2]]}), "ragged"),
        (chain(edge={"structure": "fixed", "value": "x"}), "dtype <U1"),
        (chain(edge={"parameter": 3}), "parameter=3 of type int"),
        (chain(edge={"port": "class"}), "'class', a keyword of Python; .* 'class_'"),
        (chain(edge={"port": "a b"}), "not an identifier; .* 'a_b'"),
        (cell("p", structure="dense"), "attribute 'structure' on port 'p'"),
        (cell("p", parameter="W"), "attribute 'parameter' on port 'p'"),
        (cell("p", delay=[1]), "list of delays on port 'p'"),
        (cell("p", (3, 2)), "source of size 3 on port 'p' of a node of size 2"),
    ],
)
def test_refuses(graph: Any, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        validate(graph)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (cell("p + q"), "unknown name 'q'"),
        (cell("p + s"), r"s in its equation and no weighted sum; .* its ports \(p\)"),
        (cell("p - p"), "port 'p', fed by edge 'x' -> 'y'"),
        (cell("1"), "port 'p'"),
        (chain({"activation": None, "equation": "1"}), "a weighted sum .* does not use"),
        (chain({"activation": None, "equation": "foo(s)"}), "node 'a': found the unknown function 'foo'"),
        (chain({"activation": None, "equation": "__import__('os')"}), "unknown function '__import__'"),
        (chain(edge={"port": "p"}, size=2), "s in its equation and no weighted sum"),
    ],
)
def test_refuses_equations(graph: nx.MultiDiGraph, message: str) -> None:
    with pytest.raises(EquationError, match=message):
        validate(graph)


@pytest.mark.parametrize(
    ("edge", "message"),
    [
        ({"delay": {"max": 3}}, "expected {'max': D, 'learned': True} for a learned delay"),
        ({"delay": {"learned": True}}, "the longest delay, 'max'"),
        ({"delay": {"max": 3, "learned": True, "tau": 1}}, "the unknown key 'tau'"),
        ({"delay": {"max": 1.5, "learned": True}}, "'max': 1.5 in the delay; expected a whole number"),
        ({"delay": {"max": 0, "learned": True}}, "delays from 1 to 0; expected min <= max"),
        (
            {"delay": {"max": 3, "learned": True, "temperature": 0}},
            "'temperature': 0; expected a number of 1e-09 or more",
        ),
        ({"delay": {"max": 3, "learned": True, "shared": 1}}, "'shared': 1; expected True or False"),
        (
            {"delay": {"max": 3, "learned": True}, "structure": "fixed", "value": np.ones((3, 2))},
            "a learned delay with",
        ),
        ({"delay": {"max": 3, "learned": True}, "port": "p"}, "a learned delay on port 'p'"),
        ({"delay": [[1, 2], [3]]}, "rows of delays of different lengths"),
        ({"delay": [[1, 2], [0, 1]]}, r"delays of shape \(2, 2\); expected one per pair of units, shape \(3, 2\)"),
        ({"delay": np.ones((3, 2))}, "a delay array of dtype float64"),
        ({"structure": "masked"}, "structure='masked' without a mask"),
        ({"mask": np.ones((3, 2))}, "a mask with structure='dense'"),
        ({"structure": "masked", "mask": [[1]]}, r"a mask of shape \(1, 1\); expected zeros and ones .* \(3, 2\)"),
        ({"structure": "masked", "mask": np.full((3, 2), 2)}, "other numbers than 0 and 1"),
        ({"structure": "masked", "mask": np.zeros((3, 2))}, "a mask of zeros alone"),
        ({"expression": "V*", "structure": "dense"}, "expression of edge 'x' -> 'a': found 'V\\*', which is not"),
        ({"expression": "V", "parameter": "W"}, "expression='V' with a parameter"),
        ({"expression": "1"}, "an expression without a parameter"),
        ({"expression": "V", "structure": "identity"}, "expression='V' with structure='identity'"),
    ],
)
def test_refuses_weights_and_delays(edge: dict[str, Any], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        validate(chain(edge=edge))


def test_loops_into_past_and_future() -> None:
    def loop(*delays: int) -> nx.MultiDiGraph:
        graph = chain()
        graph.add_node("b", size=graph.nodes["a"]["size"], activation="tanh")
        graph.add_edge("a", "b", delay=delays[0])
        graph.add_edge("b", "a", delay=delays[1])
        if len(delays) > 2:
            graph.add_edge("a", "a", delay=delays[2])
        return graph

    validate(loop(2, -1))
    validate(loop(-1, 0))
    validate(loop(1, -2, -3))
    with pytest.raises(CycleError, match=r"cycle a -> b -> a: found delays and look-aheads that cancel out"):
        validate(loop(1, -1))
    with pytest.raises(
        CycleError, match=r"loop through 'a', 'b': found a cycle whose delays sum to more than 0 and one"
    ):
        validate(loop(1, 1, -1))


def with_edges(*edges: tuple[str, str, dict[str, Any]], **nodes: dict[str, Any]) -> nx.MultiDiGraph:
    graph = chain()
    graph.add_nodes_from(nodes.items())
    graph.add_edges_from(edges)
    return graph


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (with_edges(("x", "a", {"delay": 1})), r"\(key 1\): found the default parameter name 'W_x_a', which edge"),
        (with_edges(("a", "a", {"delay": 1, "parameter": "W_x_a"})), r"shape \(2, 2\), which .* the shape \(3, 2\)"),
        (with_edges(("a", "a", {"delay": 1, "parameter": "b_a"})), r"'b_a' of shape \(2,\)"),
        (with_edges(("a", "x", {})), "an edge into the input 'x'"),
        (with_edges(probe={"size": 2, "bias": True}), "node 'probe': found no path from it to an output"),
        (with_edges(u={"kind": "input", "size": 2}), "node 'u': found no path .* remove the input"),
        (with_edges(z={"kind": "output", "size": 2, "bias": True}), "output 'z': found no input that reaches it"),
        (with_edges(z={"size": 2}), "node 'z': found no equation, .* and no weighted sum"),
        (with_edges(z={"size": 2, "equation": "1"}), "without any name"),
    ],
)
def test_refuses_whole_graphs(graph: nx.MultiDiGraph, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        validate(graph)


def test_names() -> None:
    graph = chain()
    graph.add_node(1, size=1)
    graph.add_node("1", size=1)
    with pytest.raises(GraphError, match="nodes 1 and '1': found one name '1' for both"):
        validate(graph)
    for name, message in (("", "empty name"), (" ", "empty name"), ("\ud800", "surrogate")):
        graph = chain()
        graph.add_node(name, size=1)
        with pytest.raises(GraphError, match=message):
            validate(graph)


def test_accidental_default_names_never_share() -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("a", kind="input", size=2)
    graph.add_node("a_b", kind="input", size=2)
    graph.add_node("b_c", kind="output", size=2)
    graph.add_node("c", kind="output", size=2)
    graph.add_edge("a", "b_c")
    graph.add_edge("a_b", "c")
    with pytest.raises(GraphError, match="default parameter name 'W_a_b_c', which edge 'a' -> 'b_c' has too"):
        validate(graph)


def test_no_output_and_no_input() -> None:
    graph = chain()
    graph.nodes["y"]["kind"] = "unit"
    with pytest.raises(GraphError, match="no output node"):
        validate(graph)
    graph = nx.MultiDiGraph()
    graph.add_node("y", kind="output", size=1)
    graph.add_edge("y", "y", delay=1)
    with pytest.raises(GraphError, match="no input in the graph"):
        validate(graph)


def test_two_edges_on_one_port() -> None:
    graph = cell("p")
    graph.add_edge("x", "y", port="p", delay=1)
    with pytest.raises(GraphError, match=r"\(key 1\): found port 'p' of node 'y', which edge 'x' -> 'y' \(key 0\)"):
        validate(graph)


def test_ports_are_compared_in_nfkc() -> None:
    graph = cell("filter", port="\ufb01lter")
    assert validate(graph).edges[0].port == "filter"
    graph.add_edge("x", "y", port="filter", delay=1)
    with pytest.raises(GraphError, match="port 'filter'"):
        validate(graph)


def test_cycles_name_the_edge_that_mends_them() -> None:
    with pytest.raises(CycleError, match=r"cycle i -> c -> h -> i: .* give the edge 'h' -> 'i' delay=1"):
        validate(lstm(delay=0))
    with pytest.raises(CycleError, match=r"cycle a -> a: .* 'a' -> 'a' delay=1"):
        validate(with_edges(("a", "a", {"delay": [1, 0], "parameter": "R"})))
    for least in (0, -1):
        learned = {"delay": {"min": least, "max": 2, "learned": True}, "parameter": "R"}
        with pytest.raises(
            CycleError, match=r"cycle a -> a: .* give the learned delay of the edge 'a' -> 'a' 'min': 1"
        ):
            validate(with_edges(("a", "a", learned)))
    for least, last, remedy in (
        (-1, -1, "a larger 'min'"),
        (-2, 2, "'min': 0 or more, or remove the delays of the loop"),
    ):
        learned = {"delay": {"min": least, "max": last, "learned": True}}
        with pytest.raises(CycleError, match=f"give the learned delay of the edge 'b' -> 'a' {remedy}"):
            validate(with_edges(("a", "b", {"delay": 1}), ("b", "a", learned), b={"size": 2}))
    validate(with_edges(("a", "a", {"delay": {"max": 3, "learned": np.True_}})))
    with pytest.raises(CycleError, match="cycle a -> y -> a"):
        validate(with_edges(("y", "a", {})))


def test_a_gru_has_no_forget_gate_but_its_update_gate() -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    for name, equation in {"r": "sigmoid(s)", "z": "sigmoid(s)", "q": "s", "n": "tanh(s + r*q)"}.items():
        graph.add_node(name, size=2, equation=equation)
    graph.add_node("h", kind="output", size=2, equation="z*h_prev + (1 - z)*n")
    for name in "rzn":
        graph.add_edge("x", name)
    for name in "rzq":
        graph.add_edge("h", name, delay=1)
    for source, destination in ("rn", "qn", "zh", "nh"):
        graph.add_edge(source, destination, port=source)
    graph.add_edge("h", "h", port="h_prev", delay=1)
    assert [name for name, node in validate(graph).nodes.items() if node.forget_gate] == ["z"]


def test_ten_thousand_nodes() -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=1)
    previous: Any = "x"
    for number in range(10_000):
        graph.add_node(number, size=1, activation="tanh")
        graph.add_edge(previous, number)
        previous = number
    graph.nodes[previous]["kind"] = "output"
    assert len(validate(graph).parameters) == 20_000
    graph.add_edge(previous, 0)
    with pytest.raises(CycleError, match="give the edge '9999' -> '0' delay=1"):
        validate(graph)
