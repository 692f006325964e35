"""The reference itself: against central differences, against values worked out by hand, against its own pieces."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np
import pytest
import reference
from random_graphs import Problem, random_graph, random_problem

from rnngraph import zoo

# Points away from the kinks of every function, and inside the domain of log and sqrt where these are meant.
POINTS = np.array([-3.7, -1.3, -0.4, 0.3, 0.8, 1.9, 4.2])


@pytest.mark.parametrize("name", sorted(reference.FUNCTIONS))
def test_slope_of_each_function(name: str) -> None:
    function, slope = reference.FUNCTIONS[name]
    x = np.abs(POINTS) if name in ("log", "sqrt") else POINTS
    numeric = (function(x + 1e-6) - function(x - 1e-6)) / 2e-6
    np.testing.assert_allclose(slope(x), numeric, atol=1e-8, rtol=1e-7)


@pytest.mark.parametrize(
    ("name", "x", "expected"),
    [
        ("relu", 0.0, 0.0),
        ("leaky_relu", 0.0, 0.01),
        ("hard_tanh", 1.0, 0.0),
        ("hard_sigmoid", 3.0, 0.0),
        ("abs", 0.0, 0.0),
        ("sigmoid", -800.0, 0.0),
        ("softplus", 800.0, 1.0),
        ("elu", 800.0, 1.0),
    ],
)
def test_slope_at_kinks_and_far_out(name: str, x: float, expected: float) -> None:
    assert reference.FUNCTIONS[name][1](np.array([x]))[0] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-p**2 + 3", -1.0),
        ("(1 - q)/p - +q", -0.25),
        ("maximum(p, q) - minimum(p, q)*2", 1.0),
        ("2**3 - p**-1", 7.5),
        ("sqrt(abs(q - 1.25))", 0.8660254037844386),
    ],
)
def test_equations(text: str, expected: float) -> None:
    names = {"p": reference.Variable([2.0]), "q": reference.Variable([0.5])}
    np.testing.assert_allclose(reference.evaluate(text, names).value, [expected])


@pytest.mark.parametrize("text", ["p if q else p", "p.q", "[p]", "p @ q", "'text'", "maximum(p)", "p < q"])
def test_equations_outside_of_the_language_are_refused(text: str) -> None:
    names = {"p": reference.Variable([2.0]), "q": reference.Variable([0.5])}
    with pytest.raises(ValueError, match="cannot read"):
        reference.evaluate(text, names)


def test_forward_by_hand() -> None:
    """y(t) = 2 x(t-1) + 10 y(t-2) + 1 with y = 3 for t <= 0 and x(0) = 0."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=1)
    graph.add_node("y", kind="output", size=1, initial=3)
    graph.add_edge("x", "y", delay=1)
    graph.add_edge("y", "y", delay=2, parameter="R")
    parameters = {"W_x_y": [[2.0]], "R": [[10.0]], "b_y": [1.0]}
    assert reference.parameter_shapes(graph) == {"W_x_y": (1, 1), "R": (1, 1), "b_y": (1,)}
    x = np.array([1.0, 2.0, 3.0]).reshape(3, 1, 1)
    outputs, state = reference.forward(graph, parameters, {"x": x})
    assert outputs["y"].ravel().tolist() == [31.0, 33.0, 315.0]
    assert state["x"].ravel().tolist() == [3.0]
    assert state["y"].ravel().tolist() == [33.0, 315.0]
    # A given state goes before ``initial``.
    outputs, state = reference.forward(graph, parameters, {"x": x[:1]}, {"y": [[[5.0]], [[7.0]]]})
    assert outputs["y"].ravel().tolist() == [51.0]
    assert state["y"].ravel().tolist() == [7.0, 51.0]


def test_names_of_list_delays_biases_and_initial_values() -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    graph.add_node("a", size=3, bias=False, initial="parameter")
    graph.add_node("y", kind="output", size=3, bias="shift")
    graph.add_edge("x", "a", delay=[0, 4])
    graph.add_edge("a", "y", structure="diagonal", delay=[1], parameter="V")
    expected = {"W_x_a_d0": (2, 3), "W_x_a_d4": (2, 3), "V_d1": (3,), "a_0": (3,), "shift": (3,)}
    assert reference.parameter_shapes(graph) == expected


def test_look_ahead_reads_the_future() -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=1)
    graph.add_node("y", kind="output", size=1, bias=False)
    graph.add_edge("x", "y", structure="identity", delay=-1)
    outputs, state = reference.forward(graph, {}, {"x": np.array([1.0, 2.0, 4.0]).reshape(3, 1, 1)})
    assert outputs["y"].ravel().tolist() == [2.0, 4.0, 0.0]
    assert state["x"].ravel().tolist() == [1.0]


def test_losses_by_hand() -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    graph.add_node("y", kind="output", size=2, bias=False)
    graph.add_edge("x", "y", structure="identity")
    x = np.array([[[0.0, 0.0]], [[np.log(3.0), 0.0]]])

    def loss(name: str, target: Any, weights: Any = None) -> float:
        result = reference.loss_and_gradient(graph, {}, {"x": x}, {"y": target}, loss=name, weights=weights)
        return result.loss

    log = np.log
    zeros = np.zeros((2, 1, 2))
    assert loss("mse", zeros) == pytest.approx(log(3) ** 2 / 4)
    assert loss("mse", zeros, [[1.0], [3.0]]) == pytest.approx(log(3) ** 2 * 3 / 8)
    assert loss("cross_entropy", np.array([[1], [0]])) == pytest.approx((log(2) + log(4 / 3)) / 2)
    assert loss("cross_entropy", np.array([[1], [0]]), [[0.0], [2.0]]) == pytest.approx(log(4 / 3))
    assert loss("binary_cross_entropy", zeros + 1) == pytest.approx((3 * log(2) + log(4 / 3)) / 4)
    assert loss("abs(y - target)", zeros) == pytest.approx(log(3) / 4)


def _loss(graph: nx.MultiDiGraph, problem: Problem, loss: str) -> float:
    result = reference.loss_and_gradient(
        graph,
        problem.parameters,
        problem.inputs,
        problem.targets,
        loss=loss,
        state=problem.state,
        weights=problem.weights,
    )
    return result.loss


def _check_gradients(graph: nx.MultiDiGraph, problem: Problem, loss: str) -> None:
    """Every gradient in a random direction against the central difference in that direction."""
    rng = np.random.default_rng(5)
    result = reference.loss_and_gradient(
        graph,
        problem.parameters,
        problem.inputs,
        problem.targets,
        loss=loss,
        state=problem.state,
        weights=problem.weights,
    )
    fields = {"parameters": result.gradients, "inputs": result.input_gradients, "state": result.state_gradients}
    step = 1e-5
    for field, gradients in fields.items():
        given: dict[str, Any] = getattr(problem, field) or {}
        for name, value in given.items():
            direction = rng.normal(size=np.shape(value))
            moved: list[dict[str, Any]] = [
                {field: {**given, name: value + sign * step * direction}} for sign in (1, -1)
            ]
            ends = [_loss(graph, replace(problem, **change), loss) for change in moved]
            numeric = (ends[0] - ends[1]) / (2 * step)
            exact = float(np.sum(gradients[name] * direction))
            assert exact == pytest.approx(numeric, rel=1e-6, abs=1e-8), f"{field} {name}"


@pytest.mark.parametrize("loss", ["mse", "cross_entropy", "binary_cross_entropy", "sin(y - target)**2"])
@pytest.mark.parametrize("name", sorted(zoo.NETWORKS))
def test_gradients_of_the_zoo(name: str, loss: str) -> None:
    graph = zoo.example(name)
    problem = random_problem(graph, 3, T=4, batch=2, loss=loss, with_weights=True, with_state=True)
    _check_gradients(graph, problem, loss)


@pytest.mark.parametrize("seed", range(20))
def test_gradients_of_random_graphs(seed: int) -> None:
    graph = random_graph(seed)
    _check_gradients(graph, random_problem(graph, seed, T=6, batch=2), "mse")


def test_gradients_of_a_masked_and_a_look_ahead_network() -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    graph.add_node("a", size=3, activation="tanh", initial="parameter")
    graph.add_node("b", size=3, activation="tanh", initial="parameter")
    graph.add_node("y", kind="output", size=2)
    graph.add_edge("x", "a", structure="masked", mask=np.array([[1, 0, 1], [0, 1, 1]]))
    graph.add_edge("x", "b")
    graph.add_edge("a", "a", delay=2)
    graph.add_edge("b", "b", delay=-2)
    graph.add_edge("a", "y")
    graph.add_edge("b", "y")
    for with_state in (False, True):
        _check_gradients(graph, random_problem(graph, 1, T=5, batch=2, with_state=with_state), "mse")


@pytest.mark.parametrize("seed", range(10))
def test_a_state_carries_the_sequence_on(seed: int) -> None:
    graph = random_graph(seed)
    problem = random_problem(graph, seed, T=6, batch=2)
    whole, last = reference.forward(graph, problem.parameters, problem.inputs, problem.state)
    state, parts = problem.state, []
    for start, end in ((0, 1), (1, 4), (4, 6)):
        stretch = {name: value[start:end] for name, value in problem.inputs.items()}
        outputs, state = reference.forward(graph, problem.parameters, stretch, state)
        parts.append(outputs)
    for name, value in whole.items():
        np.testing.assert_allclose(np.concatenate([part[name] for part in parts]), value, rtol=1e-12, atol=1e-14)
    assert state is not None
    for name, value in last.items():
        np.testing.assert_allclose(state[name], value, rtol=1e-12, atol=1e-14)


def test_random_graphs_are_deterministic_and_valid() -> None:
    features: set[str] = set()
    for seed in range(150):
        graph, again = random_graph(seed), random_graph(seed)
        assert list(graph.nodes(data=True)) == list(again.nodes(data=True))
        assert repr(list(graph.edges(data=True))) == repr(list(again.edges(data=True)))
        inputs = {node for node, kind in graph.nodes(data="kind") if kind == "input"}
        outputs = {node for node, kind in graph.nodes(data="kind") if kind == "output"}
        assert set(graph) == inputs.union(*(nx.descendants(graph, node) for node in inputs))
        assert all(outputs & ({node} | nx.descendants(graph, node)) for node in graph)
        for _, _, edge in graph.edges(data=True):
            features |= {edge.get("structure", "dense"), type(edge.get("delay")).__name__, edge.get("parameter", "")}
            features.add(edge.get("port", "s"))
        for _, data in graph.nodes(data=True):
            features |= {str(data.get("initial")), str(data.get("bias"))}
        features.add(f"{len(inputs)} inputs")
        features.add(f"{len(outputs)} outputs")
    assert features >= {
        "dense",
        "diagonal",
        "identity",
        "fixed",
        "list",
        "int",
        "shared_weight",
        "shared_bias",
        "p",
        "r",
    }
    assert features >= {"parameter", "1 inputs", "2 inputs", "1 outputs", "2 outputs", "False", "True"}
