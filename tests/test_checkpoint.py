"""BPTT with checkpoints: the gradient of BPTT, whatever the windows; and what it refuses."""

from __future__ import annotations

import re
from typing import Any

import networkx as nx
import numpy as np
import pytest
from checking import assert_all_close, assert_close, losses_of, problem_for, to_numpy
from random_graphs import random_graph, with_weights

import rnngraph as rg
from codegen.verify import verify_function
from rnngraph import zoo

T = 11
TOLERANCE = 1e-12
ALL = ("parameters", "inputs", "state")


def on_host(arrays: Any) -> dict[str, Any]:
    return {name: to_numpy(value) for name, value in arrays.items()}


def assert_same(graph: nx.MultiDiGraph, seed: int, checkpoint: int | str, backend: str, wrt: tuple[str, ...]) -> None:
    """Loss and gradients as without checkpoints, for a problem whose state and weights depend on the seed."""
    losses = losses_of(graph, seed)
    problem = problem_for(graph, seed, losses, T=T, batch=3)
    arguments = problem.parameters, problem.inputs, problem.targets, problem.state, problem.weights
    expected_loss, expected = rg.compile(graph, losses, dtype="float64", wrt=wrt).loss_and_gradient(*arguments)
    kernel = rg.compile(graph, losses, backend=backend, dtype="float64", wrt=wrt, checkpoint=checkpoint)
    loss, found = kernel.loss_and_gradient(*arguments)
    where = f"seed {seed}, checkpoint {checkpoint}"
    assert_close(loss, np.asarray(expected_loss), TOLERANCE, f"{where}: loss")
    assert_all_close(found, on_host(expected), TOLERANCE, f"{where}: gradient")
    for name in ("inputs", "state"):
        if name in wrt:
            assert_all_close(getattr(found, name), on_host(getattr(expected, name)), TOLERANCE, f"{where}: {name}")


@pytest.mark.parametrize(
    ("seed", "checkpoint"), [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 20), (6, "sqrt"), (7, 10)]
)
def test_gradient_of_random_graphs(seed: int, checkpoint: int | str, backend: str) -> None:
    graph = with_weights(random_graph(seed), seed) if seed % 3 == 2 else random_graph(seed)
    assert_same(graph, seed, checkpoint, backend, ALL)


@pytest.mark.parametrize("wrt", [("parameters",), ("inputs",), ("state",), ("parameters", "state")])
@pytest.mark.parametrize("seed", range(4))
def test_what_is_differentiated_by(seed: int, wrt: tuple[str, ...]) -> None:
    assert_same(random_graph(seed), seed, 3, "numpy", wrt)


@pytest.mark.parametrize("checkpoint", [1, 2, 3, "sqrt"])
def test_delays_longer_than_a_window(checkpoint: int | str) -> None:
    """A state that reaches back over several windows; learned initial values."""
    graph = zoo.narx(2, 3, 2, [1, 4, 7], [1, 5])
    assert_same(graph, 0, checkpoint, "numpy", ALL)
    graph = zoo.elman(2, 3, 1)
    graph.nodes["a"]["initial"] = "parameter"
    for edge in graph.edges(data=True):
        if edge[2].get("delay"):
            edge[2]["delay"] = [1, 6]
    assert_same(graph, 1, checkpoint, "numpy", ALL)


def test_functions_obey_the_grammar() -> None:
    for seed in range(3):
        for function in rg.compile(random_graph(seed), checkpoint=2).program.functions:
            verify_function(function)


def test_history_is_that_of_a_window() -> None:
    """The workspaces of 1024 steps by "sqrt" take less than a tenth of those of BPTT."""
    held = {}
    for checkpoint in (None, "sqrt"):
        kernel = rg.compile(zoo.lstm(4, 8), checkpoint=checkpoint)
        data = {"x": np.zeros((1024, 2, 4), np.float32)}, {"h": np.zeros((1024, 2, 8), np.float32)}
        kernel.loss_and_gradient(kernel.init(), *data)
        held[checkpoint] = sum(work.nbytes for work in kernel.module._local.held.values())
    assert held["sqrt"] < held[None] / 10


@pytest.mark.parametrize("checkpoint", [0, -3, 2.5, True, "log"])
def test_bad_values_are_refused(checkpoint: Any) -> None:
    with pytest.raises(rg.OptionError, match=re.escape("'sqrt' or a number of steps >= 1")):
        rg.compile(zoo.lstm(2, 3), checkpoint=checkpoint)


def test_other_rules_are_refused() -> None:
    with pytest.raises(rg.UnsupportedError, match="method='bptt'"):
        rg.compile(zoo.lstm(2, 3), method="rtrl", checkpoint=4)


def test_look_ahead_is_refused() -> None:
    with pytest.raises(rg.UnsupportedError, match="leave checkpoint out"):
        rg.compile(zoo.example("bidirectional"), checkpoint="sqrt")


def test_other_functions_of_the_kernel() -> None:
    """Second derivatives and Jacobians have code of their own; training takes the gradient as it is."""
    graph, losses = random_graph(1), losses_of(random_graph(1), 1)
    problem = problem_for(graph, 1, losses, T=6, batch=2)
    arguments = problem.inputs, problem.targets
    plain, kernel = (rg.compile(graph, losses, dtype="float64", checkpoint=each) for each in (None, 2))
    params = {name: to_numpy(value) for name, value in problem.parameters.items()}
    found, expected = (each.hessian_vector_product(params, params, *arguments) for each in (kernel, plain))
    assert_all_close(found, on_host(expected), TOLERANCE, "hessian")
    assert_all_close(kernel.jacobian(params, problem.inputs), plain.jacobian(params, problem.inputs), TOLERANCE, "J")
    assert kernel.loss(params, *arguments) == plain.loss(params, *arguments)
