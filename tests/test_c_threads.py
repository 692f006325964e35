"""The compiled core on several threads: for each its part of the batch, and calls from several Python threads at once.

What is worth a thread is set to nothing, so that the small problems of tests have them.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from checking import losses_of, problem_for
from random_graphs import random_graph, with_long_loops
from test_c import assert_as_numpy

import rnngraph as rg
from rnngraph import zoo

THREADS = "3"
NETWORKS = {
    "lstm": zoo.lstm(3, 5),
    "gru": zoo.gru(3, 5),
    "narx": zoo.narx(2, 4, 1, 2, 3),
    "tdnn": zoo.tdnn([2, 4, 3], [3, 2]),
    "bidirectional": zoo.bidirectional("lstm", 2, 3, 2),
}


@pytest.fixture(autouse=True)
def many_threads(c_compiler: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call that can have threads has three."""
    monkeypatch.setenv("CFLAGS", "-O0 -DLEAST_WORK=1 -DLEAST_ROWS=1")
    monkeypatch.setenv("RNNGRAPH_THREADS", THREADS)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("batch", [2, 7])
def test_networks(name: str, batch: int) -> None:
    assert_as_numpy(NETWORKS[name], seed=1, T=9, batch=batch)


@pytest.mark.parametrize("seed", range(6))
def test_random_graphs(seed: int) -> None:
    graph = random_graph(seed)
    assert_as_numpy(with_long_loops(graph, seed) if seed % 2 else graph, seed, T=7, batch=5)


def test_chunks_of_steps_with_threads() -> None:
    """Longer than the chunks whose gradients are summed up at once: 256 rows of the batch."""
    assert_as_numpy(NETWORKS["lstm"], seed=2, T=150, batch=5)


@pytest.mark.parametrize(("T", "batch"), [(300, 1), (151, 4), (20, 70)])
def test_several_steps_at_once_in_chunks(T: int, batch: int) -> None:
    """By threads each with a part of the batch, and by one that has it all."""
    assert_as_numpy(zoo.narx(2, 4, 1, 3, [5, 7]), seed=3, T=T, batch=batch)


@pytest.mark.parametrize("method", ["tbptt", "rtrl"])
def test_other_methods(method: str) -> None:
    options = {"k1": 3, "k2": 6} if method == "tbptt" else {}
    graph = NETWORKS["gru"]
    kernels = [
        rg.compile(graph, loss="mse", backend=name, dtype="float64", method=method, **options)
        for name in ("c", "numpy")
    ]
    problem = problem_for(graph, 3, losses_of(graph, 0), T=9, batch=5)
    results = [each.loss_and_gradient(problem.parameters, problem.inputs, problem.targets) for each in kernels]
    np.testing.assert_allclose(results[0][1].vector, results[1][1].vector, rtol=1e-11, atol=1e-12)


def test_calls_from_several_python_threads() -> None:
    """Each gets its own results, whatever runs beside it."""
    graph = NETWORKS["lstm"]
    kernel = rg.compile(graph, loss="mse", backend="c", dtype="float64")
    problems = [problem_for(graph, seed, {"h": "mse"}, T=40, batch=3 + seed) for seed in range(4)]

    def gradient(number: int) -> npt.NDArray[Any]:
        problem = problems[number]
        _, found = kernel.loss_and_gradient(problem.parameters, problem.inputs, problem.targets)
        return np.asarray(found.vector)

    expected = [gradient(number) for number in range(4)]
    together = threading.Barrier(4)

    def many(number: int) -> None:
        together.wait()
        for _ in range(25):
            np.testing.assert_allclose(gradient(number), expected[number], rtol=1e-12, atol=1e-13)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(many, number) for number in range(4)]:
            done.result()


def test_one_thread_gives_the_same_bits_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RNNGRAPH_THREADS", "1")
    graph = NETWORKS["gru"]
    problem = problem_for(graph, 0, {"h": "mse"}, T=20, batch=6)
    kernel = rg.compile(graph, loss="mse", backend="c", dtype="float32")
    results = [kernel.loss_and_gradient(problem.parameters, problem.inputs, problem.targets) for _ in range(3)]
    for _, found in results[1:]:
        np.testing.assert_array_equal(found.vector, results[0][1].vector)
