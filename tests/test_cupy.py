"""Emitted CuPy modules agree with the NumPy backend; without a device they run on the host, see tests/cuda_host."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest
from checking import assert_all_close, assert_close, losses_of, problem_for
from conftest import cupy_or_standin
from random_graphs import Problem, random_graph

import rnngraph as rg
from rnngraph import zoo

ALL = ("parameters", "inputs", "state")
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    """CuPy, or its stand-in."""
    cupy_or_standin(monkeypatch)


def cast(problem: Problem, dtype: str) -> Problem:
    """The problem with its floats in ``dtype``."""

    def one(array: Any) -> Any:
        return array.astype(dtype) if array.dtype.kind == "f" else array

    def all_of(arrays: Any) -> Any:
        return None if arrays is None else {name: one(array) for name, array in arrays.items()}

    weights = None if problem.weights is None else one(problem.weights)
    return Problem(
        all_of(problem.parameters), all_of(problem.inputs), all_of(problem.targets), weights, all_of(problem.state)
    )


def assert_backends_agree(graph: nx.MultiDiGraph, losses: Any, problem: Problem, dtype: str) -> None:
    """Outputs, state, loss and every gradient; called twice, so that what a call leaves behind would show."""
    ours = rg.compile(graph, loss=losses, backend="cupy", dtype=dtype, wrt=ALL)
    expected = rg.compile(graph, loss=losses, backend="numpy", dtype=dtype, wrt=ALL)
    problem, tolerance = cast(problem, dtype), TOLERANCE[dtype]
    arguments = problem.parameters, problem.inputs, problem.targets, problem.state, problem.weights
    for _ in range(2):
        for found, right, what in zip(ours.forward(*arguments[:2], problem.state), expected.forward(*arguments[:2], problem.state),
                                      ("output", "state"), strict=True):  # fmt: skip
            assert_all_close(found, right, tolerance, what)
        loss, gradients = ours.loss_and_gradient(*arguments)
        right_loss, right_gradients = expected.loss_and_gradient(*arguments)
        assert type(loss) is float
        assert_close(loss, np.asarray(right_loss), tolerance, "loss")
        assert_close(ours.loss(*arguments), np.asarray(right_loss), tolerance, "loss alone")
        assert_all_close(gradients, right_gradients, tolerance, "gradient")
        assert_all_close(gradients.inputs, right_gradients.inputs, tolerance, "input gradient")
        assert_all_close(gradients.state, right_gradients.state, tolerance, "state gradient")
        assert_close(gradients.vector, right_gradients.vector, tolerance, "gradient vector")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", zoo.NETWORKS)
@pytest.mark.usefixtures("cupy")
def test_zoo_agrees_with_numpy(name: str, dtype: str) -> None:
    graph = zoo.example(name)
    losses = losses_of(graph, list(zoo.NETWORKS).index(name))
    assert_backends_agree(graph, losses, problem_for(graph, 3, losses, T=6, batch=3, with_state=True), dtype)


@pytest.mark.parametrize("seed", range(1000, 1030))
@pytest.mark.usefixtures("cupy")
def test_random_graph_agrees_with_numpy(seed: int) -> None:
    graph = random_graph(seed)
    losses = losses_of(graph, seed)
    assert_backends_agree(
        graph, losses, problem_for(graph, seed, losses, T=4 + seed % 5, batch=1 + seed % 3), "float64"
    )
