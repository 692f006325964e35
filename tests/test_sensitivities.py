"""Rules that go forward in time: exact ones equal BPTT, approximate ones equal what is written out by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import networkx as nx
import numpy as np
import pytest
from forward_rules import CAUSAL, SIZES, draw, error_of, evaluated, host, recurrent
from random_graphs import random_graph, random_problem

import rnngraph as rg
from rnngraph.sensitivity.derive import _Sensitivities
from rnngraph.system import System


def focused_network() -> nx.MultiDiGraph:
    """Mozer's architecture: context units with a self-loop each, inside and outside of the squashing function."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=3)
    graph.add_node("c", size=4, activation="tanh")
    graph.add_node("d", size=4, equation="r + sigmoid(s)")
    graph.add_node("h", size=3, activation="tanh")
    graph.add_node("y", kind="output", size=2)
    graph.add_edge("x", "c")
    graph.add_edge("c", "c", structure="diagonal", delay=1)
    graph.add_edge("x", "d")
    graph.add_edge("d", "d", port="r", delay=2)
    graph.add_edge("c", "h")
    graph.add_edge("d", "h")
    graph.add_edge("h", "y")
    return graph


# Exact rules.


@pytest.mark.parametrize("block", range(10))
def test_rtrl_equals_bptt_as_equations_on_random_graphs(block: int) -> None:
    for seed in range(30 * block, 30 * block + 30):
        graph = random_graph(seed)
        exact = evaluated(rg.gradient(graph), seed)
        for name, value in evaluated(rg.gradient(graph, method="rtrl"), seed).items():
            assert error_of(value, exact[name]) < 1e-10, f"seed {seed}, {name}"


@pytest.mark.parametrize("seed", range(40))
def test_rtrl_equals_bptt_as_kernels(seed: int, backend: str) -> None:
    graph = random_graph(seed)
    problem = random_problem(graph, seed)
    reference = rg.compile(graph, dtype="float64")
    kernel = rg.compile(graph, method="rtrl", backend=backend, dtype="float64")
    params = draw(reference, seed)
    data = problem.inputs, problem.targets, problem.state, problem.weights
    loss, expected = reference.loss_and_gradient(params, *data)
    for _ in range(2):  # the second call finds the first one's buffers
        found_loss, found = kernel.loss_and_gradient(params, *data)
        assert error_of(found_loss, loss) < 1e-12
        assert error_of(found.vector, expected.vector) < 1e-10


def test_layers_of_unequal_sizes_that_read_the_same_sources_have_seeds_of_their_own(backend: str) -> None:
    """d s / d w is the source's value in both layers, with as many columns as the layer has units."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=1)
    for layer, size in (("a", 2), ("b", 3)):
        graph.add_node(layer, size=size, activation="tanh")
        graph.add_edge("x", layer)
        graph.add_edge(layer, "y")
        graph.add_edge("y", layer, delay=1)
    graph.add_node("y", kind="output", size=1)
    problem = random_problem(graph, 7)
    reference = rg.compile(graph, dtype="float64")
    kernel = rg.compile(graph, method="rtrl", backend=backend, dtype="float64")
    params = draw(reference, 7)
    _, expected = reference.loss_and_gradient(params, problem.inputs, problem.targets)
    _, found = kernel.loss_and_gradient(params, problem.inputs, problem.targets)
    assert error_of(found.vector, expected.vector) < 1e-12


@pytest.mark.parametrize("name", CAUSAL)
def test_rtrl_on_the_zoo_in_both_precisions(name: str) -> None:
    graph = rg.zoo.example(name)
    problem = random_problem(graph, 3)
    for dtype, tolerance in (("float64", 1e-10), ("float32", 1e-5)):
        reference = rg.compile(graph, dtype="float64")
        kernel = rg.compile(graph, method="rtrl", dtype=dtype)
        params = draw(reference, 3)
        _, expected = reference.loss_and_gradient(params, problem.inputs, problem.targets, problem.state)
        float_data = [
            {key: np.asarray(value, dtype) for key, value in each.items()} if isinstance(each, Mapping) else each
            for each in (params, problem.inputs, problem.targets, problem.state)
        ]
        _, found = kernel.loss_and_gradient(*float_data)
        assert error_of(found.vector, expected.vector) < tolerance


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy", "exp(0.1*(y - target))"])
def test_rtrl_with_other_losses(loss: str) -> None:
    graph = rg.zoo.lstm(2, 3, 3)
    problem = random_problem(graph, 5, loss=loss)
    reference = rg.compile(graph, loss=loss, dtype="float64")
    kernel = rg.compile(graph, loss=loss, method="rtrl", dtype="float64")
    params = draw(reference, 5)
    expected = reference.loss_and_gradient(params, problem.inputs, problem.targets)[1]
    assert (
        error_of(kernel.loss_and_gradient(params, problem.inputs, problem.targets)[1].vector, expected.vector) < 1e-12
    )


def test_a_planted_error_in_a_jacobian_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    original = _Sensitivities._through

    def late(self: Any, source: str, read: Any, *rest: Any) -> Any:
        return original(self, source, read._replace(delay=read.delay + 1), *rest)

    monkeypatch.setattr(_Sensitivities, "_through", late)
    graph = recurrent()
    exact = evaluated(rg.gradient(graph), 0)
    assert error_of(evaluated(rg.gradient(graph, method="rtrl"), 0)["dloss/dR"], exact["dloss/dR"]) > 1e-6


# Structure.


def rows(system: System) -> dict[str, int]:
    return {name: signal.rows for name, signal in system.signals.items() if signal.kind == "sensitivity"}


def test_a_dense_loop_has_one_row_for_each_weight_and_what_follows_the_loop_needs_none() -> None:
    assert rows(rg.gradient(recurrent(), method="rtrl")) == {"P_a_W": 6, "P_a_R": 9, "P_a_b": 3}


def test_diagonal_loops_keep_sensitivities_local_and_feedforward_networks_need_none() -> None:
    system = rg.gradient(focused_network(), method="rtrl")
    assert rows(system) == {
        "P_c_W_x_c": 3, "P_c_W_c_c": 1, "P_c_b_c": 1,
        "P_d_W_x_d": 3, "P_d_b_d": 1,
    }  # fmt: skip
    assert rows(rg.gradient(rg.zoo.feedforward([2, 3, 1]), method="rtrl")) == {}


def test_heads_do_not_mix() -> None:
    """Two loops side by side: no sensitivity of one by the weights of the other."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    for head in "pq":
        graph.add_node(head, size=2, activation="tanh")
        graph.add_edge("x", head)
        graph.add_edge(head, head, delay=1)
    graph.add_node("y", kind="output", size=1)
    graph.add_edge("p", "y")
    graph.add_edge("q", "y")
    assert all(name[2] == name[-1] for name in rows(rg.gradient(graph, method="rtrl")))


# Focused backpropagation.


def test_focused_equals_bptt_and_is_the_recursion_of_rtrl() -> None:
    graph = focused_network()
    focused, rtrl = rg.gradient(graph, method="focused"), rg.gradient(graph, method="rtrl")
    assert (focused.equations, focused.totals) == (rtrl.equations, rtrl.totals)
    exact = evaluated(rg.gradient(graph), 2)
    for name, value in evaluated(focused, 2).items():
        assert error_of(value, exact[name]) < 1e-10


@pytest.mark.parametrize(
    ("graph", "loop"),
    [
        (recurrent(), "'a' -> 'a'"),
        (rg.zoo.lstm(2, 3, 1), "'c'.*'h'|'h'.*'c'"),
        (rg.zoo.jordan(2, 3, 1), "'y' -> 'y'"),
    ],
)
def test_focused_is_refused_with_the_loop_named(graph: nx.MultiDiGraph, loop: str) -> None:
    with pytest.raises(rg.UnsupportedError, match=loop) as caught:
        rg.gradient(graph, method="focused")
    assert "use method='rtrl'" in str(caught.value)


def test_rules_that_go_forward_refuse_to_look_ahead() -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=1)
    graph.add_node("y", kind="output", size=1)
    graph.add_edge("x", "y", delay=-1)
    with pytest.raises(rg.RNNGraphError):
        rg.compile(graph, method="rtrl")


# Approximate rules, written out by hand.


def by_hand(params: Mapping[str, Any], x: Any, target: Any, own_past: Any) -> dict[str, Any]:
    """The gradient of ``recurrent`` by loops: local sensitivities that follow the past by ``own_past``(1 - tanh^2)."""
    T, batch, _ = x.shape
    sizes = SIZES["x"], SIZES["a"]
    total = {name: np.zeros_like(value) for name, value in params.items()}
    for b in range(batch):
        a = np.zeros(sizes[1])
        traces = {"W": np.zeros(sizes), "R": np.zeros((sizes[1], sizes[1])), "b": np.zeros(sizes[1])}
        for t in range(T):
            squashed = np.tanh(x[t, b] @ params["W"] + a @ params["R"] + params["b"])
            slope = 0.3 * (1 - squashed**2)
            keep = own_past(1 - squashed**2)
            for name, source in (("W", x[t, b]), ("R", a)):
                traces[name] = traces[name] * keep + np.outer(source, slope)
            traces["b"] = traces["b"] * keep + slope
            a = 0.7 * a + 0.3 * squashed
            residual = 2 * (a @ params["V"] - target[t, b]) / target.size
            error = params["V"] @ residual
            for name in traces:
                total[name] += traces[name] * error
            total["V"] += np.outer(a, residual)
    return total


@pytest.mark.parametrize(("method", "through_weights"), [("rflo", False), ("eprop", False), ("snap", True)])
def test_approximate_rules_equal_what_is_written_by_hand(method: str, through_weights: bool, backend: str) -> None:
    kernel = rg.compile(recurrent(), method=method, backend=backend, dtype="float64")
    params = draw(kernel, 4)
    rng = np.random.default_rng(4)
    x, target = rng.normal(size=(9, 2, 2)), rng.normal(size=(9, 2, 2))
    diagonal = np.diag(params["R"]) if through_weights else 0.0
    expected = by_hand(params, x, target, lambda slope: 0.7 + 0.3 * slope * diagonal)
    _, found = kernel.loss_and_gradient(params, {"x": x}, {"y": target})
    for name, value in expected.items():
        assert error_of(found[name], value) < 1e-12
    exact = rg.compile(recurrent(), dtype="float64").loss_and_gradient(params, {"x": x}, {"y": target})[1]
    assert error_of(found["R"], exact["R"]) > 1e-4  # it is an approximation


@pytest.mark.parametrize("seed", range(12))
def test_snap_of_a_high_order_is_exact(seed: int) -> None:
    graph = random_graph(seed)
    exact = evaluated(rg.gradient(graph), seed)
    for name, value in evaluated(rg.gradient(graph, method="snap", order=20), seed).items():
        assert error_of(value, exact[name]) < 1e-10


@pytest.mark.parametrize("name", CAUSAL)
@pytest.mark.parametrize("method", ["rflo", "snap"])
def test_approximate_rules_run_on_the_zoo(name: str, method: str) -> None:
    graph = rg.zoo.example(name)
    problem = random_problem(graph, 1)
    kernel = rg.compile(graph, method=method, dtype="float64")
    params = draw(kernel, 1)
    loss, found = kernel.loss_and_gradient(params, problem.inputs, problem.targets)
    assert loss == pytest.approx(rg.compile(graph, dtype="float64").loss(params, problem.inputs, problem.targets))
    assert np.isfinite(found.vector).all()


def test_rflo_says_what_it_leaves_out() -> None:
    system = rg.gradient(recurrent(), method="rflo")
    assert system.dropped == ("a(t-1) -> a(t)",)
    assert rows(system) == {"P_a_W": 2, "P_a_R": 3, "P_a_b": 1}


def test_rflo_keeps_what_is_on_no_loop() -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    graph.add_node("a", size=3, activation="tanh")
    graph.add_node("y", kind="output", size=1)
    graph.add_edge("x", "a")
    graph.add_edge("a", "y", delay=1)
    exact = evaluated(rg.gradient(graph), 0)
    for name, value in evaluated(rg.gradient(graph, method="rflo"), 0).items():
        assert error_of(value, exact[name]) < 1e-12


# Jacobians of the outputs.


@pytest.mark.parametrize("seed", range(12))
def test_jacobians_equal_differences(seed: int, backend: str) -> None:
    graph = random_graph(seed)
    problem = random_problem(graph, seed, T=5, batch=2)
    kernel = rg.compile(graph, backend=backend, dtype="float64")
    params = kernel.init(seed)
    jacobians = kernel.jacobian(params, problem.inputs, problem.state)
    vector = host(params.vector)
    reference = rg.compile(graph, dtype="float64")
    base = reference.init(0)
    for index in range(0, vector.size, max(1, vector.size // 7)):
        values = []
        for sign in (1, -1):
            base.vector[:] = vector
            base.vector[index] += sign * 1e-6
            values.append(reference.forward(base, problem.inputs, problem.state)[0])
        for name, jacobian in jacobians.items():
            difference = (values[0][name] - values[1][name]) / 2e-6
            assert error_of(host(jacobian)[..., index], difference) < 1e-7


def test_jacobians_in_chunks_equal_those_at_once() -> None:
    kernel = rg.compile(rg.zoo.lstm(2, 3, 1), dtype="float64")
    params = kernel.init(1)
    x = np.random.default_rng(0).normal(size=(7, 2, 2))
    whole = kernel.jacobian(params, {"x": x})["y"]
    state = None
    for start, stop in ((0, 3), (3, 4), (4, 7)):
        outputs, part, state = kernel.outputs_and_jacobian(params, {"x": x[start:stop]}, state)
        np.testing.assert_allclose(part["y"], whole[start:stop], atol=1e-14)
    assert outputs["y"].shape == (3, 2, 1)
