"""Truncated backpropagation through time: against a reference that cuts, against BPTT, and as a stream."""

from __future__ import annotations

import tracemalloc
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
import pytest
import reference
from checking import GRADIENT_TOLERANCE, VALUE_TOLERANCE, assert_all_close, assert_close, losses_of, problem_for
from random_graphs import Problem, random_graph, random_problem

import rnngraph as rg
from rnngraph.evaluate import Evaluation

Array = npt.NDArray[Any]
CASES = [(1, 1, 6), (2, 2, 7), (2, 5, 9), (3, 4, 11), (3, 7, 7), (4, 4, 3), (1, 6, 9), (5, 12, 8)]  # k1, k2, T


def cut_gradient(graph: nx.MultiDiGraph, problem: Problem, losses: Any, k1: int, k2: int) -> dict[str, Array]:
    """Each window by itself on the tape: what lies before it is a state of constants."""
    whole = reference._Run(graph, problem.parameters, problem.inputs, problem.state)
    T = whole.steps
    weights = np.ones((T, whole.batch)) if problem.weights is None else problem.weights
    summed = {name: np.zeros(shape) for name, shape in reference.parameter_shapes(graph).items()}
    for end in range(k1, T + k1, k1):
        start, stop = max(end - k2, 0), min(end, T)
        counted = weights[start:stop].copy()
        counted[: end - k1 - start] = 0.0
        if not counted.any():
            continue
        state = problem.state
        if start:
            state = {
                node: np.stack([whole.values[node, t].value for t in range(start + 1 - depth, start + 1)])
                for node, depth in whole.depths.items()
            }
        inputs = {name: array[start:stop] for name, array in problem.inputs.items()}
        targets = {name: array[start:stop] for name, array in problem.targets.items()}
        run = reference._Run(graph, problem.parameters, inputs, state)
        reference.backward(reference.scale(run.loss(targets, losses, counted), counted.sum() / weights.sum()))
        for name, variable in run.parameters.items():
            summed[name] = summed[name] + variable.gradient
    return summed


def arguments(problem: Problem) -> tuple[Any, ...]:
    return problem.parameters, problem.inputs, problem.targets, problem.state, problem.weights


def example(seed: int, T: int) -> tuple[nx.MultiDiGraph, dict[str, str], Problem]:
    graph = random_graph(seed)
    losses = losses_of(graph, seed)
    return graph, losses, problem_for(graph, seed, losses, T=T)


def looped(seed: int = 0, T: int = 12, **options: Any) -> tuple[nx.MultiDiGraph, Problem]:
    """A loop of two delays whose initial value is learned."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    graph.add_node("a", size=3, activation="tanh", initial="parameter")
    graph.add_node("y", kind="output", size=2)
    graph.add_edge("x", "a")
    graph.add_edge("a", "a", delay=[1, 3])
    graph.add_edge("a", "y")
    return graph, random_problem(graph, seed, T=T, **options)


@pytest.mark.parametrize("seed", range(60))
def test_equals_the_reference_that_cuts(backend: str, seed: int) -> None:
    k1, k2, T = CASES[seed % len(CASES)]
    graph, losses, problem = example(seed, T)
    kernel = rg.compile(graph, losses, method="tbptt", k1=k1, k2=k2, backend=backend, dtype="float64")
    loss, gradients = kernel.loss_and_gradient(*arguments(problem))
    assert_close(loss, np.asarray(kernel.loss(*arguments(problem))), VALUE_TOLERANCE, "loss")
    assert_all_close(gradients, cut_gradient(graph, problem, losses, k1, k2), GRADIENT_TOLERANCE, "gradient")


@pytest.mark.parametrize("k1, k2, T", CASES)
@pytest.mark.parametrize("with_state", [False, True])
def test_learned_initial_values(backend: str, k1: int, k2: int, T: int, with_state: bool) -> None:
    graph, problem = looped(3, T, with_state=with_state)
    kernel = rg.compile(graph, method="tbptt", k1=k1, k2=k2, backend=backend, dtype="float64")
    _, gradients = kernel.loss_and_gradient(*arguments(problem))
    assert_all_close(gradients, cut_gradient(graph, problem, "mse", k1, k2), GRADIENT_TOLERANCE, "gradient")


@pytest.mark.parametrize("seed", range(8))
def test_windows_as_long_as_the_sequence_are_bptt(backend: str, seed: int) -> None:
    graph, losses, problem = example(seed, 7)
    bptt = rg.compile(graph, losses, backend=backend, dtype="float64")
    kernel = rg.compile(graph, losses, method="tbptt", k1=3, k2=9, backend=backend, dtype="float64")
    expected, found = (each.loss_and_gradient(*arguments(problem)) for each in (bptt, kernel))
    assert found[0] == pytest.approx(expected[0], abs=1e-12)
    difference = np.abs(np.asarray(found[1].vector - expected[1].vector)) if backend == "numpy" else None
    if difference is not None:
        assert difference.max(initial=0.0) <= 1e-10


@pytest.mark.parametrize("seed", range(12))
def test_equal_windows_are_chunks(seed: int) -> None:
    graph, losses, problem = example(seed, 11)
    k = 4
    kernel = rg.compile(graph, losses, method="tbptt", k1=k, k2=k, dtype="float64")
    bptt = rg.compile(graph, losses, dtype="float64")
    state, expected = problem.state, np.zeros(bptt.program.vector_size)
    for first in range(0, 11, k):
        inputs = {name: array[first : first + k] for name, array in problem.inputs.items()}
        targets = {name: array[first : first + k] for name, array in problem.targets.items()}
        _, gradients = bptt.loss_and_gradient(problem.parameters, inputs, targets, state)
        expected += gradients.vector * min(k, 11 - first) / 11
        _, state = bptt.forward(problem.parameters, inputs, state)
    _, gradients = kernel.loss_and_gradient(problem.parameters, problem.inputs, problem.targets, problem.state)
    assert_close(gradients.vector, expected, GRADIENT_TOLERANCE, "gradient")


@pytest.mark.parametrize("k1, k2", [(1, 1), (2, 2), (2, 5), (3, 4), (4, 13), (1, 6), (6, 20)])
@pytest.mark.parametrize("with_state", [False, True])
def test_a_stream_sums_to_the_batch_form(backend: str, k1: int, k2: int, with_state: bool) -> None:
    graph, problem = looped(k2, 12, with_state=with_state, with_weights=False)
    kernel = rg.compile(graph, method="tbptt", k1=k1, k2=k2, backend=backend, dtype="float64")
    expected_loss, expected = kernel.loss_and_gradient(*arguments(problem))
    state: Any = problem.state
    losses, summed = 0.0, 0.0
    for t in range(12):
        inputs, targets = (
            {name: array[t] for name, array in each.items()} for each in (problem.inputs, problem.targets)
        )
        loss, gradients, state = kernel.step_and_gradient(problem.parameters, state, inputs, targets)
        assert (gradients is None) == bool((t + 1) % k1)
        losses += loss
        summed = summed if gradients is None else summed + gradients.vector
    assert_close(losses / 12, np.asarray(expected_loss), VALUE_TOLERANCE, "loss")
    difference = summed / 12 - expected.vector
    assert float(abs(difference).max()) <= GRADIENT_TOLERANCE


@pytest.mark.parametrize("seed", range(12))
def test_streams_of_random_graphs(seed: int) -> None:
    graph, losses, problem = example(seed, 9)
    kernel = rg.compile(graph, losses, method="tbptt", k1=3, k2=4, dtype="float64")
    _, expected = kernel.loss_and_gradient(problem.parameters, problem.inputs, problem.targets, problem.state)
    state: Any = problem.state
    summed = np.zeros(kernel.program.vector_size)
    for t in range(9):
        inputs, targets = (
            {name: array[t] for name, array in each.items()} for each in (problem.inputs, problem.targets)
        )
        _, gradients, state = kernel.step_and_gradient(problem.parameters, state, inputs, targets)
        summed += 0.0 if gradients is None else gradients.vector
    assert_close(summed / 9, expected.vector, GRADIENT_TOLERANCE, "gradient")


def test_a_copy_of_a_stream_stays_where_it_is() -> None:
    graph, problem = looped()
    kernel = rg.compile(graph, method="tbptt", k1=2, k2=4, dtype="float64")

    def run(state: Any, times: range) -> tuple[Any, list[Array]]:
        found = []
        for t in times:
            _, grads, state = kernel.step_and_gradient(
                problem.parameters, state, {"x": problem.inputs["x"][t]}, {"y": problem.targets["y"][t]}
            )
            found += [] if grads is None else [grads.vector]
        return state, found

    state, _ = run(None, range(5))
    kept = state.copy()
    first, second = run(state, range(5, 12))[1], run(kept, range(5, 12))[1]
    np.testing.assert_array_equal(first, second)


def test_a_stream_takes_no_memory_per_step() -> None:
    graph, problem = looped(T=1)
    kernel = rg.compile(graph, method="tbptt", k1=3, k2=10)
    params = kernel.init()
    inputs = {name: array[0].astype(np.float32) for name, array in problem.inputs.items()}
    targets = {name: array[0].astype(np.float32) for name, array in problem.targets.items()}
    state = None
    tracemalloc.start()
    try:
        for t in range(500):
            if t == 100:
                before = tracemalloc.get_traced_memory()[0]
            _, _, state = kernel.step_and_gradient(params, state, inputs, targets)
        assert tracemalloc.get_traced_memory()[0] - before < 4000
    finally:
        tracemalloc.stop()


def test_the_interpreter_of_systems_cuts_too() -> None:
    graph, problem = looped(2, 8, with_state=False)
    assert problem.weights is None or problem.weights.shape
    system = rg.gradient(graph, method="tbptt", k1=2, k2=3)
    weights = np.ones((8, 3)) if problem.weights is None else problem.weights
    given = {**problem.inputs, "target_y": problem.targets["y"], "w": (weights / weights.sum())[..., None]}
    evaluation = Evaluation(system, 8, 3, given, problem.parameters)
    expected = cut_gradient(graph, problem, "mse", 2, 3)
    found = {total.of: evaluation.total(total) for total in system.totals if total.kind == "gradient"}
    assert_all_close({str(name): value for name, value in found.items()}, expected, 1e-12, "gradient")


def test_the_equations_say_what_is_cut() -> None:
    graph, _ = looped()
    system = rg.gradient(graph, method="tbptt", k1=2, k2=5)
    assert "k1 = 2, k2 = 5" in system.title
    text = str(system)
    for part in ("n - 2 < t", "n - 5 < t", "a step weight is 0 for t <= n - 2", "sum of those of all windows"):
        assert part in text
    assert "0 for t > T" not in text
    assert r"a step weight is 0 for $t \le n - 2$" in system.latex()


@pytest.mark.parametrize(
    "planted", [("shares[counted - start :]", "shares[:]"), ("_, state = forward(", "_, _ = forward(")]
)
def test_a_planted_error_is_caught(planted: tuple[str, str]) -> None:
    graph, problem = looped(with_weights=False)
    kernel = rg.compile(graph, method="tbptt", k1=2, k2=4, dtype="float64")
    source = kernel.source.replace(*planted).replace("weights[counted:stop]", "weights[start:stop]")
    assert source != kernel.source
    kernel.source = source
    _, gradients = kernel.loss_and_gradient(*arguments(problem))
    with pytest.raises(AssertionError, match="off by"):
        assert_all_close(gradients, cut_gradient(graph, problem, "mse", 2, 4), GRADIENT_TOLERANCE, "gradient")


def test_fit_trains_with_windows(backend: str) -> None:
    graph, problem = looped(with_weights=False, with_state=False)
    kernel = rg.compile(graph, method="tbptt", k1=3, k2=5, backend=backend, dtype="float64")
    params = kernel.init()
    history = rg.fit(kernel, params, (problem.inputs, problem.targets), rg.Adam(1e-2), epochs=30, progress=False)
    assert history.loss[-1] < 0.9 * history.loss[0]


@pytest.mark.parametrize("k1, k2", [(0, 3), (2, 1), (1.5, 3), (None, 3), (2, None), (True, 3)])
def test_bad_windows_are_refused(k1: Any, k2: Any) -> None:
    with pytest.raises(rg.OptionError, match=r"k1|k2"):
        rg.compile(looped()[0], method="tbptt", k1=k1, k2=k2)


def test_a_stream_refuses_another_batch_and_other_rules() -> None:
    graph, problem = looped()
    inputs, targets = {"x": problem.inputs["x"][0]}, {"y": problem.targets["y"][0]}
    kernel = rg.compile(graph, method="tbptt", k1=2, k2=4, dtype="float64")
    _, _, state = kernel.step_and_gradient(problem.parameters, None, inputs, targets)
    with pytest.raises(rg.DataError, match="batch 1; expected batch 3"):
        kernel.step_and_gradient(problem.parameters, state, {"x": inputs["x"][:1]}, {"y": targets["y"][:1]})
    with pytest.raises(rg.UnsupportedError, match="whole sequence"):
        rg.compile(graph, dtype="float64").step_and_gradient(problem.parameters, None, inputs, targets)
