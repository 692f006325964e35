"""The contract: kernels of the zoo's networks and of 200 random graphs against the independent reference tape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import pytest
import reference
from checking import (
    EXPRESSION,
    LOSSES,
    assert_all_close,
    assert_close,
    assert_equals_reference,
    assert_float32_equals_reference,
    losses_of,
    problem_for,
    to_numpy,
)
from random_graphs import random_graph

import codegen.functions
import rnngraph as rg
from rnngraph import zoo

ALL = ("parameters", "inputs", "state")

ZOO: dict[str, Callable[[], nx.MultiDiGraph]] = {
    **{name: lambda name=name: zoo.example(name) for name in zoo.NETWORKS},  # type: ignore[misc]
    "feedforward, deep": lambda: zoo.feedforward((2, 5, 4, 3, 2), activation="relu", output_activation="sigmoid"),
    "feedforward, no hidden layer": lambda: zoo.feedforward((3, 2)),
    "jordan, decay": lambda: zoo.jordan(2, 5, 3, decay=0.7),
    "elman, dense": lambda: zoo.elman(2, 5, 3, recurrence="dense"),
    "elman, no output layer": lambda: zoo.elman(2, 5, activation="sigmoid"),
    "fully recurrent, no output layer": lambda: zoo.fully_recurrent(2, 4, activation="0.5*s + 0.5*tanh(s)"),
    "narx, long": lambda: zoo.narx(2, 4, 2, 3, 4),
    "narx, present input": lambda: zoo.narx(2, 4, 1, 0, 1, activation="softsign"),
    "tdnn, three layers": lambda: zoo.tdnn((2, 4, 3, 2), ([0, 3], 2, [1]), activation="gelu"),
    "lstm, peepholes": lambda: zoo.lstm(2, 3, peepholes=True),
    "lstm, peepholes and output": lambda: zoo.lstm(2, 3, 2, peepholes=True, output_activation="tanh"),
    "lstm of 1997": lambda: zoo.lstm(2, 3, forget_gate=False),
    "lstm of 1997, peepholes": lambda: zoo.lstm(2, 3, 2, forget_gate=False, peepholes=True),
    "lstm, squashing": lambda: zoo.lstm(2, 3, squashing_g="softsign", squashing_h="s/(1 + s**2)"),
    "gru, output": lambda: zoo.gru(2, 3, 2),
    "stacked lstm": lambda: zoo.stacked("lstm", 2, 3, 2, depth=3, peepholes=True),
    "stacked gru": lambda: zoo.stacked("gru", 2, 3, 2),
    "stacked elman": lambda: zoo.stacked("elman", 2, 3),
    "lstm on tdnn": lambda: zoo.stack(zoo.tdnn((2, 3), ([0, 2],)), zoo.lstm(3, 3), zoo.narx(3, 3, 2, 1, 2)),
}


def compiled(
    graph: nx.MultiDiGraph, losses: Any, backend: str, wrt: tuple[str, ...] = ALL, dtype: str = "float64"
) -> Any:
    return rg.compile(graph, loss=losses, backend=backend, dtype=dtype, wrt=wrt)


@pytest.mark.parametrize("name", ZOO)
def test_zoo_equals_reference(name: str, backend: str) -> None:
    graph = ZOO[name]()
    losses = losses_of(graph, list(ZOO).index(name))
    kernel = compiled(graph, losses, backend)
    for T, batch, extra in ((6, 3, True), (1, 1, False)):  # T = 1 is shorter than most delays
        problem = problem_for(graph, 5, losses, T=T, batch=batch, with_weights=extra, with_state=extra)
        assert_equals_reference(kernel, graph, problem, losses, ALL)


@pytest.mark.parametrize("seed", range(200))
def test_random_graph_equals_reference(seed: int, backend: str) -> None:
    graph = random_graph(seed)
    losses = losses_of(graph, seed)
    problem = problem_for(graph, seed, losses, T=1 + seed % 7, batch=1 + seed % 3)
    assert_equals_reference(compiled(graph, losses, backend), graph, problem, losses, ALL)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("extra", [False, True])
def test_every_loss(loss: str, extra: bool, backend: str) -> None:
    graph = zoo.narx(2, 4, 3, 2, 2)
    problem = problem_for(graph, 3, {"y": loss}, T=5, with_weights=extra, with_state=extra)
    assert_equals_reference(compiled(graph, loss, backend, ("parameters",)), graph, problem, loss)


def test_loss_on_one_of_two_outputs(backend: str) -> None:
    graph = zoo.lstm(2, 3, 2)
    graph.nodes["h"]["kind"] = "output"
    problem = problem_for(graph, 3, {"y": "mse"}, T=5)
    kernel = compiled(graph, {"y": "mse"}, backend)
    assert_equals_reference(kernel, graph, problem, {"y": "mse"}, ALL)


@pytest.mark.parametrize("wrt", [("parameters",), ("inputs",), ("state",), ("inputs", "parameters"), ALL])
def test_every_choice_of_wrt(wrt: tuple[str, ...], backend: str) -> None:
    graph = zoo.stack(zoo.tdnn((2, 3), ([0, 2],)), zoo.lstm(3, 3, peepholes=True))
    losses = {"h2": "mse"}
    problem = problem_for(graph, 1, losses, T=4, with_state=True)
    kernel = compiled(graph, "mse", backend, wrt)
    assert_equals_reference(kernel, graph, problem, losses, wrt)
    _, gradients = kernel.loss_and_gradient(problem.parameters, problem.inputs, problem.targets)
    assert (gradients.inputs is not None) == ("inputs" in wrt)
    assert (gradients.state is not None) == ("state" in wrt)


@pytest.mark.parametrize("name", ["elman, dense", "lstm, peepholes and output", "gru, output", "narx, long"])
def test_calls_do_not_disturb_each_other(name: str, backend: str) -> None:
    """Buffers persist between calls: a call after others must not see them, and results must not change later."""
    graph = ZOO[name]()
    losses = losses_of(graph, 0)
    kernel = compiled(graph, losses, backend)
    with_state = problem_for(graph, 1, losses, T=4, with_state=True, with_weights=True)
    without = problem_for(graph, 2, losses, T=4, with_state=False, with_weights=False)
    outputs, state = kernel.forward(without.parameters, without.inputs)
    before = {key: to_numpy(value).copy() for key, value in {**outputs, **state}.items()}
    for problem in (without, with_state, without):
        assert_equals_reference(kernel, graph, problem, losses, ALL)
    assert_all_close({**outputs, **state}, before, 0.0, "an earlier result")


def test_a_step_of_weight_0_does_not_count(backend: str) -> None:
    """Padding: whatever stands in masked steps, the loss and the parameters' gradients stay the same."""
    graph = zoo.lstm(2, 3, 2)
    kernel = compiled(graph, "mse", backend, ("parameters",))
    problem = problem_for(graph, 4, {"y": "mse"}, T=6, batch=2, with_state=False)
    weights = np.ones((6, 2))
    weights[4:, 1] = 0.0
    changed_x, changed_y = problem.inputs["x"].copy(), problem.targets["y"].copy()
    changed_x[4:, 1] += 3.0
    changed_y[4:, 1] -= 5.0
    loss, gradients = kernel.loss_and_gradient(problem.parameters, problem.inputs, problem.targets, weights=weights)
    other, others = kernel.loss_and_gradient(problem.parameters, {"x": changed_x}, {"y": changed_y}, weights=weights)
    assert_close(other, np.asarray(float(loss)), 1e-14, "loss")
    assert_all_close(others, {name: to_numpy(value) for name, value in gradients.items()}, 1e-14, "gradient")


@pytest.mark.parametrize("name", ZOO)
def test_float32_gradients_of_the_zoo(name: str, backend: str) -> None:
    assert_float32_equals_reference(ZOO[name](), 7, backend)


@pytest.mark.parametrize("seed", range(200))
def test_float32_gradients_of_random_graphs(seed: int, backend: str) -> None:
    assert_float32_equals_reference(random_graph(seed), seed, backend)


def test_a_wrong_derivative_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check can fail: with tanh' = 1 - tanh the gradient is wrong, the outputs are not."""
    graph = zoo.elman(2, 3, 2)
    problem = problem_for(graph, 0, {"y": "mse"})
    prime = type(codegen.functions.tanh(codegen.functions.HALF).fdiff())
    monkeypatch.setattr(prime, "rule", staticmethod(lambda x: 1 - codegen.functions.tanh(x)))
    with pytest.raises(AssertionError, match=r"gradient of '\w+': off by"):
        assert_equals_reference(compiled(graph, "mse", "numpy"), graph, problem, "mse", ALL)


def test_a_wrong_delay_is_noticed() -> None:
    graph = zoo.narx(2, 3, 2, 1, 2)
    wrong = zoo.narx(2, 3, 2, 1, 2)
    wrong.edges["y", "a", 0]["delay"] = [1, 3]
    nx.set_edge_attributes(wrong, {("y", "a", 0): {"delay": [1, 3]}})
    problem = problem_for(graph, 0, {"y": EXPRESSION}, with_state=False)
    renamed = dict(problem.parameters)
    renamed["R_d3"] = renamed.pop("R_d2")
    kernel = compiled(wrong, EXPRESSION, "numpy")
    outputs, _ = kernel.forward(renamed, problem.inputs)
    expected, _ = reference.forward(graph, problem.parameters, problem.inputs)
    with pytest.raises(AssertionError, match="output of 'y': off by"):
        assert_all_close(outputs, expected, 1e-12, "output")


def test_matrices_of_two_makers_keep_apart(backend: str) -> None:
    """Three gates o, i, f and a node o_i_f: the matrix of the gates' blocks is not the halved matrix of the node."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    for name, activation in {"o": "tanh", "i": "tanh", "f": "tanh", "o_i_f": "sigmoid"}.items():
        graph.add_node(name, size=3, activation=activation)
        graph.add_edge("x", name)
    graph.add_node("h", kind="output", size=3, equation="o*i + f*k")
    for name, port in {"o": "o", "i": "i", "f": "f", "o_i_f": "k"}.items():
        graph.add_edge("h", name, delay=2 if name == "o_i_f" else 1)
        graph.add_edge(name, "h", port=port)
    losses = {"h": "mse"}
    kernel = compiled(graph, losses, backend)
    assert_equals_reference(kernel, graph, problem_for(graph, 1, losses, T=5), losses, ALL)
