"""Sensitivities in C: what they are contracted with, every rule beside NumPy on threads, the state that is carried."""

from __future__ import annotations

import copy
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
import pytest
from checking import losses_of, problem_for
from random_graphs import random_graph
from test_c import core

import rnngraph as rg
from codegen.printers.c_loops import SIGNATURE
from rnngraph import zoo

pytestmark = pytest.mark.usefixtures("c_compiler")
RULES = ("rtrl", "snap", "rflo", "uoro")


def dense() -> nx.MultiDiGraph:
    return zoo.elman(2, 3, 1, recurrence="dense")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_of_all_lengths(dtype: str) -> None:
    """Both have parts for many numbers at once and for what is left."""
    module = core(
        dtype,
        f"void sums({SIGNATURE}) {{ memory[1][0] = sum_of(T, memory[0]); }}",
        f"void rows({SIGNATURE}) {{ add_row_sums(batch, T, memory[0], memory[1], memory[2]); }}",
    )
    rng, tolerance = np.random.default_rng(0), 50 * np.finfo(dtype).eps
    for length in range(1, 80):
        values, total = rng.normal(size=length).astype(dtype), np.zeros(1, dtype)
        module._core.sums(module._memory(values, total), None, None, None, length, 1)
        assert abs(total[0] - values.sum(dtype=np.float64)) <= tolerance * abs(values).sum(), length
        rows = length % 7 + 1
        matrix, found = rng.normal(size=(rows, length)).astype(dtype), np.ones(rows, dtype)
        module._core.rows(module._memory(matrix, values, found), None, None, None, length, rows)
        expected = 1 + matrix.astype(np.float64) @ values
        assert (abs(found - expected) <= tolerance * (1 + abs(matrix) @ abs(values))).all(), length


@pytest.mark.parametrize("seed", range(6))
def test_every_rule_on_random_graphs_and_threads(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of which the threads have unequal parts; then the same steps one by one."""
    monkeypatch.setenv("CFLAGS", "-O0 -DLEAST_WORK=1")
    monkeypatch.setenv("RNNGRAPH_THREADS", "3")
    graph, method = random_graph(seed), RULES[seed % len(RULES)]
    losses = losses_of(graph, seed)
    problem = problem_for(graph, seed, losses, T=5, batch=4)
    found: list[list[npt.NDArray[Any]]] = []
    for backend in ("c", "numpy"):
        kernel = rg.compile(graph, loss=losses, method=method, backend=backend, dtype="float64")
        results = [kernel.loss_and_gradient(problem.parameters, problem.inputs, problem.targets)[1].vector]
        state: Any = None
        for t in range(5):
            inputs, targets = ({k: v[t] for k, v in each.items()} for each in (problem.inputs, problem.targets))
            loss, gradients, state = kernel.step_and_gradient(problem.parameters, state, inputs, targets)
            results += [np.array(loss), gradients.vector]
        found.append(results)
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11, err_msg=f"graph {seed}, {method}")


@pytest.mark.parametrize("method", [*RULES, "eprop"])
def test_a_sweep_is_a_part_of_one_c_function(method: str) -> None:
    """No loop over t is left in Python, and a step online is one call."""
    source = rg.compile(dense(), method=method, backend="c").source
    python = source[source.index("def _advance(") : source.index("class StreamWorkspace")]
    assert "\n    for t" not in python and python.count("_core.") == 1
    assert "sensitivities, one step after the other" in source[source.index("CORE =") : source.index("CORE_FUNCTIONS")]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, copy.copy])
def test_carried_sensitivities_can_be_copied(duplicate: Any) -> None:
    kernel = rg.compile(dense(), method="rtrl", backend="c", dtype="float64")
    rng = np.random.default_rng(0)
    params, x, y = kernel.init(seed=0), {"x": rng.normal(size=(2, 2))}, {"y": rng.normal(size=(2, 1))}
    _, _, state = kernel.step_and_gradient(params, None, x, y)
    other = duplicate(state)
    results = [kernel.step_and_gradient(params, each, x, y)[1].vector for each in (state, other)]
    np.testing.assert_array_equal(*results)
    assert results[0].any()


def test_parameters_that_are_read_only() -> None:
    kernel = rg.compile(dense(), method="rtrl", backend="c", dtype="float64")
    rng = np.random.default_rng(0)
    params, data = kernel.init(seed=0), ({"x": rng.normal(size=(3, 2, 2))}, {"y": rng.normal(size=(3, 2, 1))})
    expected = kernel.loss_and_gradient(params, *data)[1].vector
    params.vector.flags.writeable = False
    np.testing.assert_array_equal(kernel.loss_and_gradient(params, *data)[1].vector, expected)
