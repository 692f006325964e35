"""The rule "bptt-rtrl" (Schmidhuber 1992): BPTT in blocks, and between them the derivative of the joint state.

What it must equal is BPTT over the whole sequence, which other tests hold against an independent tape.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
import pytest
import reference
from checking import assert_all_close, assert_close, losses_of, problem_for, to_numpy
from random_graphs import Problem, random_graph

import rnngraph as rg
from rnngraph import zoo
from rnngraph.errors import DataError, OptionError, UnsupportedError
from rnngraph.evaluate_blocks import BlockEvaluation
from rnngraph.system import System

Array = npt.NDArray[Any]
TOLERANCE = 1e-10
NETWORKS = {
    "elman": zoo.elman(2, 3, 2, recurrence="dense"),
    "lstm": zoo.lstm(2, 3, 2, peepholes=True),
    "narx": zoo.narx(1, 3, 2, 2, 3),
}


def expected_of(graph: nx.MultiDiGraph, problem: Problem, losses: Any) -> Any:
    """Loss and gradients of the whole sequence by the tape."""
    return reference.loss_and_gradient(
        graph, problem.parameters, problem.inputs, problem.targets,
        loss=losses, state=problem.state, weights=problem.weights,
    )  # fmt: skip


def arguments(problem: Problem) -> tuple[Any, ...]:
    """What ``loss_and_gradient`` takes."""
    return problem.parameters, problem.inputs, problem.targets, problem.state, problem.weights


def block_evaluation(system: System, problem: Problem) -> BlockEvaluation:
    """The reference interpreter on a problem's data."""
    T, batch = next(iter(problem.inputs.values())).shape[:2]
    weights = np.ones((T, batch)) if problem.weights is None else problem.weights
    values: dict[str, Array] = {}
    for name, signal in system.signals.items():
        if signal.kind == "input":
            values[name] = problem.inputs[name]
        elif signal.kind == "weight":
            values[name] = (weights / weights.sum())[..., None]
        elif signal.kind == "target" and signal.origin is not None:
            target = problem.targets[signal.origin]
            classes = system.losses[signal.origin] == "cross_entropy"
            values[name] = np.eye(signal.size)[target] if classes else target
    return BlockEvaluation(system, T, batch, values, problem.parameters, problem.state or {})


@pytest.mark.parametrize("seed", range(40))
def test_equals_bptt_on_random_networks(seed: int, backend: str) -> None:
    """Delays up to 5, learned initial values, shared weights, ports, given states and weights, all losses."""
    graph = random_graph(seed)
    losses = losses_of(graph, seed)
    problem = problem_for(graph, seed, losses, T=11)
    expected = expected_of(graph, problem, losses)
    block = (1, 2, 3, 4, 7, 0, 20)[seed % 7]
    kernel = rg.compile(graph, loss=losses, method="bptt-rtrl", block=block, dtype="float64", backend=backend)
    loss, gradients = kernel.loss_and_gradient(*arguments(problem))
    assert_close(loss, np.asarray(expected.loss), TOLERANCE, "loss")
    assert_all_close(gradients, expected.gradients, TOLERANCE, f"gradient with blocks of {block}")


@pytest.mark.parametrize("block", [1, 2, 3, 5, 10, 11, 30])
@pytest.mark.parametrize("name", NETWORKS)
def test_any_length_of_a_block(name: str, block: int) -> None:
    """Shorter than a delay, a divisor of T or not, T itself, longer than T; a second call starts anew."""
    losses = losses_of(NETWORKS[name], 0)
    problem = problem_for(NETWORKS[name], 3, losses, T=10)
    expected = expected_of(NETWORKS[name], problem, losses)
    kernel = rg.compile(NETWORKS[name], loss=losses, method="bptt-rtrl", block=block, dtype="float64")
    for _ in range(2):
        loss, gradients = kernel.loss_and_gradient(*arguments(problem))
        assert_close(loss, np.asarray(expected.loss), TOLERANCE, "loss")
        assert_all_close(gradients, expected.gradients, TOLERANCE, "gradient")


@pytest.mark.parametrize("seed", range(0, 30, 2))
def test_the_equations_equal_the_reference(seed: int) -> None:
    """The System alone, before scheduling and code generation."""
    graph = random_graph(seed)
    losses = losses_of(graph, seed)
    problem = problem_for(graph, seed, losses, T=6, batch=2)
    expected = expected_of(graph, problem, losses)
    system = rg.gradient(graph, loss=losses, method="bptt-rtrl", block=1 + seed // 2 % 4)
    found = block_evaluation(system, problem).totals()
    assert_close(found["loss"], np.asarray(expected.loss), TOLERANCE, "loss")
    for parameter, gradient in expected.gradients.items():
        assert_close(found[f"dloss/d{parameter}"], gradient, TOLERANCE, f"gradient of {parameter}")


def test_blocks_of_weight_zero_count_nothing() -> None:
    """A mask that covers whole blocks: nothing is divided by their weight."""
    graph = NETWORKS["elman"]
    losses = losses_of(graph, 0)
    problem = problem_for(graph, 1, losses, T=9)
    weights = np.zeros((9, 3))
    weights[7:] = 1.0
    problem = dataclasses.replace(problem, weights=weights)
    expected = expected_of(graph, problem, losses)
    kernel = rg.compile(graph, loss=losses, method="bptt-rtrl", block=3, dtype="float64")
    assert_all_close(kernel.loss_and_gradient(*arguments(problem))[1], expected.gradients, TOLERANCE, "gradient")


def test_a_network_without_state_is_plain_backpropagation() -> None:
    """Nothing to carry: blocks of one step."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    graph.add_node("y", kind="output", size=3, activation="tanh")
    graph.add_edge("x", "y")
    problem = problem_for(graph, 0, {"y": "mse"})
    kernel = rg.compile(graph, method="bptt-rtrl", dtype="float64")
    expected = expected_of(graph, problem, {"y": "mse"})
    assert_all_close(kernel.loss_and_gradient(*arguments(problem))[1], expected.gradients, TOLERANCE, "gradient")


def held_bytes(kernel: Any) -> int:
    """What the module keeps between calls."""
    return sum(workspace.nbytes for workspace in kernel.module._local.held.values())


def test_storage_does_not_grow_with_time(backend: str) -> None:
    """The buffers of 12 blocks are those of 3."""
    graph = NETWORKS["lstm"]
    sizes = []
    for T in (12, 48):
        kernel = rg.compile(graph, method="bptt-rtrl", block=4, dtype="float64", backend=backend)
        kernel.loss_and_gradient(*arguments(problem_for(graph, 0, losses_of(graph, 0), T=T)))
        sizes.append(held_bytes(kernel))
    assert sizes[0] == sizes[1] > 0


@pytest.mark.parametrize("block", [1, 3, 4])
def test_a_stream_sums_to_the_batch_form(block: int, backend: str) -> None:
    """Online the gradient comes at the end of each block; in between there is none."""
    graph = NETWORKS["narx"]
    losses = losses_of(graph, 0)
    problem = problem_for(graph, 2, losses, T=12, with_weights=False, with_state=False)
    expected = expected_of(graph, problem, losses)
    kernel = rg.compile(graph, loss=losses, method="bptt-rtrl", block=block, dtype="float64", backend=backend)
    state, total, summed = None, 0.0, np.zeros(kernel.program.vector_size)
    for t in range(12):
        inputs = {name: values[t] for name, values in problem.inputs.items()}
        targets = {name: values[t] for name, values in problem.targets.items()}
        params = kernel.module.pack(problem.parameters)
        loss, gradients, state = kernel.step_and_gradient(params, state, inputs, targets)
        total += loss
        assert (gradients is None) == ((t + 1) % block > 0)
        summed += 0.0 if gradients is None else to_numpy(gradients.vector)
    assert_close(total / 12, np.asarray(expected.loss), TOLERANCE, "loss")
    packed = kernel.module.pack(expected.gradients)
    assert_close(summed / 12, to_numpy(packed.vector), TOLERANCE, "gradient")


@pytest.mark.parametrize("block", [1, 4])
def test_a_kernel_steps_through_a_stream(block: int, backend: str) -> None:
    """``Kernel.step_and_gradient``: None within a block; the sum over t / T is the gradient of the whole."""
    graph = NETWORKS["lstm"]
    losses = losses_of(graph, 0)
    problem = problem_for(graph, 2, losses, T=12, with_weights=False, with_state=False)
    kernel = rg.compile(graph, loss=losses, method="bptt-rtrl", block=block, dtype="float64", backend=backend)
    whole, expected = kernel.loss_and_gradient(problem.parameters, problem.inputs, problem.targets)
    state, total, found = None, 0.0, np.zeros(kernel.program.vector_size)
    for t in range(12):
        step = [{name: values[t] for name, values in each.items()} for each in (problem.inputs, problem.targets)]
        loss, gradients, state = kernel.step_and_gradient(problem.parameters, state, *step)
        total += loss
        assert (gradients is None) == ((t + 1) % block > 0)
        found += 0.0 if gradients is None else to_numpy(gradients.vector)
    assert_close(total / 12, np.asarray(to_numpy(whole)), TOLERANCE, "loss")
    assert_close(found / 12, to_numpy(expected.vector), TOLERANCE, "gradient")


def test_a_stream_takes_the_last_state_only() -> None:
    """An older state belongs to a block that has gone on."""
    graph = NETWORKS["elman"]
    problem = problem_for(graph, 0, losses_of(graph, 0), T=1)
    kernel = rg.compile(graph, loss=losses_of(graph, 0), method="bptt-rtrl", block=2, dtype="float64")
    data = [{name: values[0] for name, values in each.items()} for each in (problem.inputs, problem.targets)]
    params = kernel.module.pack(problem.parameters)
    _, _, first = kernel.step_and_gradient(params, None, *data)
    kernel.step_and_gradient(params, first, *data)
    with pytest.raises(DataError, match="of step 2, the last one"):
        kernel.step_and_gradient(params, first, *data)


def test_the_length_is_chosen_by_the_number_of_state_units() -> None:
    """block=0: as many steps as units of the joint state, its past included."""
    system = rg.gradient(zoo.lstm(2, 3, 2), method="bptt-rtrl")
    assert system.carry is not None
    assert (system.carry.length, system.carry.size) == (6, 6)
    assert system.rule == "bptt-rtrl(block=6)"
    narx = rg.gradient(NETWORKS["narx"], method="bptt-rtrl", block=2)
    assert narx.carry is not None
    depths = {state: narx.state_depths[state] * narx.signals[state].size for state in narx.carry.starts}
    assert (narx.carry.length, narx.carry.size) == (2, sum(depths.values()))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("matmul(jacobian, P_W_aa", "matmul(jacobian.transpose(0, 2, 1), P_W_aa"),
        ("_add_seed(Lambda_a, 0)", "pass"),
        ("_add_error(swept_W_aa", "0 and _add_error(swept_W_aa"),
    ],
)
def test_a_planted_error_is_caught(right: str, wrong: str) -> None:
    """The comparison above fails when the emitted source is wrong."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    graph.add_node("a", kind="output", size=3, activation="tanh")
    graph.add_edge("x", "a")
    graph.add_edge("a", "a", delay=1, parameter="W_aa")
    kernel = rg.compile(graph, method="bptt-rtrl", block=3, dtype="float64")
    assert right in kernel.source
    problem = problem_for(graph, 0, {"a": "mse"}, T=9)
    expected = expected_of(graph, problem, {"a": "mse"})
    kernel.source = kernel.source.replace(right, wrong)
    found = kernel.loss_and_gradient(*arguments(problem))[1]
    assert np.abs(to_numpy(found["W_aa"]) - expected.gradients["W_aa"]).max() > 1e-6


def test_what_it_refuses() -> None:
    """A bad length, other gradients."""
    graph = zoo.elman(2, 3, 2)
    with pytest.raises(OptionError, match="block"):
        rg.gradient(graph, method="bptt-rtrl", block=-1)
    with pytest.raises(UnsupportedError, match="wrt"):
        rg.gradient(graph, method="bptt-rtrl", wrt=("state",))
