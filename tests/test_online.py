"""Learning online, step by step: equal to whole sequences, in flat memory; random sensitivities; states of kernels."""

from __future__ import annotations

import resource
from typing import Any

import networkx as nx
import numpy as np
import pytest
from forward_rules import draw, error_of, host, recurrent
from random_graphs import random_graph, random_problem

import rnngraph as rg

# Online.


@pytest.mark.parametrize("seed", range(15))
def test_steps_equal_the_whole_sequence(seed: int, backend: str) -> None:
    graph = random_graph(seed)
    problem = random_problem(graph, seed, with_weights=False)
    kernel = rg.compile(graph, method="rtrl", backend=backend, dtype="float64")
    params = draw(kernel, seed)
    loss, expected = kernel.loss_and_gradient(params, problem.inputs, problem.targets, problem.state)
    T = len(next(iter(problem.inputs.values())))
    state: Any = problem.state
    losses, total = 0.0, 0.0
    for t in range(T):
        x, y = ({name: value[t] for name, value in data.items()} for data in (problem.inputs, problem.targets))
        step_loss, step_gradient, state = kernel.step_and_gradient(params, state, x, y)
        losses, total = losses + step_loss / T, total + host(step_gradient.vector) / T
    assert error_of(losses, loss) < 1e-12
    assert error_of(total, expected.vector) < 1e-10


def test_memory_of_online_learning_is_flat() -> None:
    kernel = rg.compile(recurrent(), method="rtrl")
    params = kernel.init(0)
    x, y = np.ones((1, 2), np.float32), np.ones((1, 2), np.float32)
    state = None
    peaks = []
    for step in range(3000):
        _, gradient, state = kernel.step_and_gradient(params, state, {"x": x}, {"y": y})
        params.vector[:] -= 0.01 * gradient.vector
        if step in (1000, 2999):
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    assert peaks[1] - peaks[0] < 1000  # kilobytes


def test_an_old_state_is_refused() -> None:
    kernel = rg.compile(recurrent(), method="rtrl", dtype="float64")
    params = kernel.init(0)
    x, y = {"x": np.ones((1, 2))}, {"y": np.ones((1, 2))}
    _, _, first = kernel.step_and_gradient(params, None, x, y)
    kernel.step_and_gradient(params, first, x, y)
    with pytest.raises(rg.DataError, match=r"step 1.*step 2"):
        kernel.step_and_gradient(params, first, x, y)
    with pytest.raises(rg.DataError, match="same batch"):
        kernel.step_and_gradient(params, first, {"x": np.ones((2, 2))}, {"y": np.ones((2, 2))})


def test_bptt_has_no_online_step() -> None:
    kernel = rg.compile(recurrent())
    with pytest.raises(rg.UnsupportedError, match="method='rtrl'"):
        kernel.step_and_gradient(kernel.init(0), None, {"x": np.ones((1, 2))}, {"y": np.ones((1, 2))})


# Unbiased online recurrent optimization.


def with_delays() -> nx.MultiDiGraph:
    """Two states of different sizes, delays 1 to 3, a dense weight within the step between them."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    graph.add_node("a", size=2, activation="tanh")
    graph.add_node("b", size=3, equation="0.5*r + tanh(s)")
    graph.add_node("y", kind="output", size=1)
    graph.add_edge("x", "a")
    graph.add_edge("a", "a", delay=[1, 3])
    graph.add_edge("a", "b")
    graph.add_edge("b", "b", port="r", delay=2)
    graph.add_edge("b", "a", delay=1)
    graph.add_edge("b", "y", delay=1)
    graph.add_edge("a", "y")
    return graph


@pytest.mark.parametrize("graph", [recurrent(), rg.zoo.lstm(2, 2, 1), with_delays()], ids=["dense", "lstm", "delays"])
def test_the_mean_of_uoro_is_the_gradient(graph: nx.MultiDiGraph) -> None:
    """Each sequence of a batch has its own random signs: copies of one sequence give as many samples."""
    exact = rg.compile(graph, dtype="float64")
    problem = random_problem(graph, 2, T=4, batch=1, with_state=False, with_weights=False)
    params = draw(exact, 2)
    expected = exact.loss_and_gradient(params, problem.inputs, problem.targets)[1].vector
    inputs, targets = (
        {name: np.repeat(value, 800, axis=1) for name, value in data.items()}
        for data in (problem.inputs, problem.targets)
    )
    means = []
    for seed in range(10):
        kernel = rg.compile(graph, method="uoro", seed=seed, dtype="float64")
        means.append(kernel.loss_and_gradient(params, inputs, targets)[1].vector)
    kernel_means = np.array(means)
    standard_error = kernel_means.std(axis=0, ddof=1) / np.sqrt(len(means))
    assert (np.abs(kernel_means.mean(axis=0) - expected) <= 5 * standard_error + 1e-12).all()
    assert standard_error.max() < 0.1 * np.abs(expected).max()


def test_uoro_is_seeded_and_its_steps_equal_the_sequence(backend: str) -> None:
    graph = with_delays()
    problem = random_problem(graph, 1, with_state=False)
    params = draw(rg.compile(graph, dtype="float64"), 1)
    vectors = []
    for seed in (0, 0, 1):
        kernel = rg.compile(graph, method="uoro", seed=seed, backend=backend, dtype="float64")
        vectors.append(host(kernel.loss_and_gradient(params, problem.inputs, problem.targets)[1].vector))
    assert (vectors[0] == vectors[1]).all()
    assert error_of(vectors[0], vectors[2]) > 1e-6
    state, total = None, 0.0
    T = len(problem.inputs["x"])
    for t in range(T):
        x, y = {"x": problem.inputs["x"][t]}, {"y": problem.targets["y"][t]}
        _, gradient, state = kernel.step_and_gradient(params, state, x, y)
        total = total + host(gradient.vector) / T
    assert error_of(total, vectors[2]) < 1e-12


def test_uoro_refuses_learned_initial_values() -> None:
    graph = rg.zoo.elman(2, 3, 1)
    graph.nodes["a"]["initial"] = "parameter"
    with pytest.raises(rg.UnsupportedError, match="learned initial value of 'a'"):
        rg.compile(graph, method="uoro")


# States belong to the kernel that made them.


def one_step(graph: nx.MultiDiGraph, method: str, **options: int) -> tuple[Any, Any, dict[str, Any], dict[str, Any]]:
    """A kernel, its state after three steps, and the inputs and targets of a step."""
    kernel = rg.compile(graph, method=method, dtype="float64", **options)  # type: ignore[arg-type]
    x, y = {"x": np.full((1, 2), 0.5)}, {"y": np.ones((1, 2))}
    state = None
    for _ in range(3):
        _, _, state = kernel.step_and_gradient(kernel.init(0), state, x, y)
    return kernel, state, x, y


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("rtrl", {}), ("rflo", {})),
        (("tbptt", {"k1": 2, "k2": 4}), ("rtrl", {})),
        (("rtrl", {}), ("tbptt", {"k1": 2, "k2": 4})),
        (("tbptt", {"k1": 2, "k2": 4}), ("tbptt", {"k1": 5, "k2": 5})),
        (("rtrl", {}), ("bptt-rtrl", {"block": 2})),
        (("bptt-rtrl", {"block": 2}), ("rtrl", {})),
    ],
)
def test_the_state_of_another_kernel_is_refused(first: tuple[str, Any], second: tuple[str, Any]) -> None:
    _, state, x, y = one_step(recurrent(), first[0], **first[1])
    other = rg.compile(recurrent(), method=second[0], dtype="float64", **second[1])
    with pytest.raises(rg.DataError, match="another kernel"):
        other.step_and_gradient(other.init(0), state, x, y)


@pytest.mark.parametrize(("method", "options"), [("rtrl", {}), ("uoro", {}), ("bptt-rtrl", {"block": 2})])
def test_a_copied_state_goes_its_own_way(method: str, options: dict[str, int]) -> None:
    kernel, state, x, y = one_step(recurrent(), method, **options)
    copied = state.copy()
    results = [kernel.step_and_gradient(kernel.init(0), each, x, y) for each in (state, copied)]
    assert results[0][0] == results[1][0]
    assert error_of(results[0][1].vector, results[1][1].vector) == 0.0


def test_a_jacobian_holds_a_given_state_fixed() -> None:
    kernel, state, x, y = one_step(recurrent(), "rtrl")
    params = kernel.init(0)
    inputs = {"x": np.ones((4, 1, 2))}
    found = kernel.jacobian(params, inputs, state)["y"]
    assert error_of(found, kernel.jacobian(params, inputs, state, method="bptt")["y"]) < 1e-12
    kernel.step_and_gradient(params, state, x, y)  # the stream is as it was


def test_uoro_draws_anew_at_each_call() -> None:
    kernel = rg.compile(recurrent(), method="uoro", dtype="float64")
    params = draw(kernel, 0)
    data = {"x": np.ones((5, 1, 2))}, {"y": np.zeros((5, 1, 2))}
    first, second = (kernel.loss_and_gradient(params, *data)[1].vector.copy() for _ in range(2))
    assert error_of(first, second) > 1e-6


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (np.ones((1, 1, 2)), np.ones((1, 2)), r"input 'x': found shape \(1, 1, 2\); expected \(batch, 2\)"),
        (np.ones((1, 2)), np.ones(2), r"target 'y': found shape \(2,\); expected \(batch, 2\)"),
    ],
)
def test_a_step_has_no_axis_of_time(inputs: Any, targets: Any, message: str) -> None:
    kernel = rg.compile(recurrent(), method="rtrl", dtype="float64")
    with pytest.raises(rg.DataError, match=message):
        kernel.step_and_gradient(kernel.init(0), None, {"x": inputs}, {"y": targets})
