"""Forward goes through a long sequence in stretches of time: the same values, in memory that does not grow with T."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import pytest
from checking import assert_all_close, to_numpy
from random_graphs import random_graph, with_long_loops, with_weights

import rnngraph as rg
from rnngraph import zoo

T, BATCH = 17, 3


def of_steps(module: Any, monkeypatch: pytest.MonkeyPatch, steps: int, batch: int = BATCH) -> None:
    """Stretches of so many steps from here on."""
    monkeypatch.setattr(module, "STRETCH_BYTES", 0)
    monkeypatch.setattr(module, "STRETCH_ROWS", steps * batch)


def given(kernel: rg.Kernel, seed: int) -> tuple[Any, ...]:
    """Parameters, inputs, and for an even seed a state of some nodes."""
    rng = np.random.default_rng(seed)
    params = {name: rng.normal(scale=0.5, size=shape) for name, shape in kernel.parameter_shapes.items()}
    inputs = {name: rng.normal(size=(T, BATCH, size)) for name, size in kernel.program.inputs.items()}
    nodes = {node: rng.normal(size=(depth, BATCH, size)) for node, (depth, size, _) in kernel.program.states.items()}
    return params, inputs, {node: nodes[node] for node in list(nodes)[::2]} if seed % 2 == 0 else None


@pytest.mark.parametrize("seed", range(6))
def test_stretches_change_no_value(seed: int, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = with_weights(random_graph(seed), seed) if seed % 3 == 0 else random_graph(seed)
    kernel = rg.compile(graph, backend=backend, dtype="float64")
    arguments = given(kernel, seed)
    whole = kernel.forward(*arguments)
    for steps in (1, 3, T - 1):
        of_steps(kernel.module, monkeypatch, steps)
        for found, expected in zip(kernel.forward(*arguments), whole, strict=True):
            assert_all_close(
                found,
                {name: to_numpy(value) for name, value in expected.items()},
                1e-12,
                f"seed {seed}, stretches of {steps}",
            )


@pytest.mark.parametrize("seed", range(3))
def test_several_steps_at_once_and_linear_recurrences_go_on_too(
    seed: int, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = with_long_loops(random_graph(seed), seed)
    graph.add_node("leaky", size=2, kind="output", equation="0.9*leaky_prev + s")
    graph.add_edge(next(iter(graph)), "leaky")
    graph.add_edge("leaky", "leaky", delay=1, port="leaky_prev")
    kernel = rg.compile(graph, backend=backend, dtype="float64")
    assert backend != "numpy" or "_Recurrence" in kernel.source
    params, inputs, state = given(kernel, seed)
    inputs = {name: np.concatenate([value] * 9) for name, value in inputs.items()}
    whole = kernel.forward(params, inputs, state)
    for steps in (70, 100):
        of_steps(kernel.module, monkeypatch, steps)
        for found, expected in zip(kernel.forward(params, inputs, state), whole, strict=True):
            values = {name: to_numpy(value) for name, value in expected.items()}
            assert_all_close(found, values, 1e-11, f"seed {seed}, stretches of {steps}")


@pytest.mark.parametrize("build", [lambda: zoo.lstm(3, 4), lambda: zoo.tdnn((3, 4, 2), (3, [0, 2, 5]))])
def test_parameters_may_change_between_calls(
    build: Callable[[], nx.MultiDiGraph], backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = rg.compile(build(), backend=backend, dtype="float64")
    params, inputs, _ = given(kernel, 1)
    packed = kernel.module.pack(params)
    of_steps(kernel.module, monkeypatch, 5)
    kernel.forward(packed, inputs)
    packed.vector[...] *= 0.5
    expected = rg.compile(build(), dtype="float64").forward({name: to_numpy(packed[name]) for name in packed}, inputs)
    assert_all_close(kernel.forward(packed, inputs)[0], expected[0], 1e-12, "halved parameters")


@pytest.mark.parametrize("backend", ["numpy", "c"])
def test_memory_does_not_grow_with_time(backend: str) -> None:
    kernel = rg.compile(zoo.lstm(2, 3), backend=backend, dtype="float32")
    params = kernel.init()
    peaks = []
    for length in (40_000, 80_000):
        inputs = {"x": np.zeros((length, 1, 2), np.float32)}
        kernel.release_workspaces()
        tracemalloc.start()
        outputs, _ = kernel.forward(params, inputs)
        peaks.append(tracemalloc.get_traced_memory()[1] - outputs["h"].nbytes)
        tracemalloc.stop()
    assert abs(peaks[1] - peaks[0]) < 100_000
    held = kernel.module._local.held
    assert len(held) == 1, "the workspace of one length serves the other"


def test_look_ahead_runs_whole() -> None:
    kernel = rg.compile(zoo.example("bidirectional"))
    assert "STRETCH_BYTES" not in kernel.source
