"""rnngraph's side: the emitted NumPy module and the C backend; and the LSTM written by hand, their yardstick."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np

import rnngraph as rg
from benchmarks.handwritten_lstm import HandwrittenLSTM, named_parameters, pack
from benchmarks.peers.problems import DEPTH, FORWARD, GRADIENT, LONGEST, Case, in_order, make, shapes
from benchmarks.processes import Task


def graph_of(case: Case) -> nx.MultiDiGraph:
    """The network as a graph."""
    _, _, _, I, H = case  # noqa: E741
    if case.network == "lstm":
        return rg.zoo.lstm(I, H)
    if case.network == "gru":
        return rg.zoo.gru(I, H)
    if case.network == "elman":
        return rg.zoo.elman(I, H, recurrence="dense")
    if case.network == "stack":
        return rg.zoo.stacked("lstm", I, H, depth=DEPTH)
    if case.network == "narx":
        return rg.zoo.narx(I, H, 1, LONGEST, LONGEST)
    return delayed_cell(I, H)


def delayed_cell(inputs: int, units: int) -> nx.MultiDiGraph:
    """h(t) = tanh(W^T x(t) + R1^T h(t-1) + R5^T h(t-5)) * sigmoid(G^T x(t) + R2^T h(t-2)): no library has it."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=inputs)
    graph.add_node("g", size=units, activation="sigmoid")
    graph.add_node("h", kind="output", size=units, equation="tanh(s)*g")
    graph.add_edge("x", "h", parameter="W")
    graph.add_edge("h", "h", delay=1, parameter="R1")
    graph.add_edge("h", "h", delay=5, parameter="R5")
    graph.add_edge("x", "g", parameter="G")
    graph.add_edge("h", "g", delay=2, parameter="R2")
    graph.add_edge("g", "h", port="g")
    return graph


def setup(case: Case, backend: str) -> dict[str, Task]:
    """The tasks of a backend."""
    problem = make(case)
    kernel = rg.compile(graph_of(case), loss="mse", backend=backend, dtype="float32")
    if set(kernel.parameter_shapes) != set(shapes(case)):
        raise ValueError(f"{case}: parameters {sorted(kernel.parameter_shapes)}, not {sorted(shapes(case))}")
    params = kernel.init(seed=0)
    for name, value in problem.parameters.items():
        params[name][...] = value
    (output,) = kernel.program.outputs
    inputs, targets = {"x": problem.x}, {output: problem.target}
    tasks = {
        FORWARD: Task(lambda: kernel.forward(params, inputs), lambda result: [result[0][output]]),
        GRADIENT: Task(
            lambda: kernel.loss_and_gradient(params, inputs, targets), lambda result: in_order(case, *result)
        ),
    }
    return {name: tasks[name] for name in case.tasks}


def handwritten(case: Case) -> dict[str, Task]:
    """The hand-written LSTM's tasks."""
    problem = make(case)
    weights = pack(problem.parameters, case.I, case.H)
    kernel = HandwrittenLSTM(case.I, case.H)

    def read(result: Any) -> list[Any]:
        return in_order(case, result[0], named_parameters(np.asarray(result[1]), case.I, case.H))

    return {
        FORWARD: Task(lambda: kernel.forward(weights, problem.x), lambda h: [h]),
        GRADIENT: Task(lambda: kernel.loss_and_gradient(weights, problem.x, problem.target), read),
    }
