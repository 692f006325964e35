"""Times what a user waits for before the first number: importing rnngraph, and graph to callable with its first call.

    python -m benchmarks.compile_time

Each measurement is made in a fresh process, so that no cache of sympy's is warm; medians of three.
"""

from __future__ import annotations

import multiprocessing
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import networkx as nx
import numpy as np

from benchmarks.harness import Timing, write
from benchmarks.processes import inherited_threads

REPEATS = 3


def import_time(statement: str) -> float:
    """Milliseconds that an import takes in a fresh interpreter, the interpreter's own start not counted."""
    program = f"import time; start = time.perf_counter(); {statement}; print(time.perf_counter() - start)"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    return 1e3 * float(output)


def lstm() -> nx.MultiDiGraph:
    import rnngraph as rg

    return rg.zoo.lstm(8, 16)


def nested_tanh(depth: int = 45) -> nx.MultiDiGraph:
    """One recurrent node whose equation is tanh(1 + tanh(1 + ... s)), ``depth`` deep."""
    equation = "s"
    for _ in range(depth):
        equation = f"tanh(1 + {equation})"
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=4)
    graph.add_node("a", kind="output", size=4, equation=equation)
    graph.add_edge("x", "a")
    graph.add_edge("a", "a", delay=1)
    return graph


def tanh_layers(depth: int = 45) -> nx.MultiDiGraph:
    """A feedforward chain of ``depth`` tanh layers."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=4)
    source = "x"
    for k in range(depth):
        graph.add_node(f"a{k}", kind="output" if k == depth - 1 else "unit", size=4, activation="tanh")
        graph.add_edge(source, f"a{k}")
        source = f"a{k}"
    return graph


def many_nodes(nodes: int = 200) -> nx.MultiDiGraph:
    """``nodes`` units in one loop: a chain, each unit fed back to the one two before it."""
    graph = tanh_layers(nodes)
    for k in range(2, nodes):
        graph.add_edge(f"a{k}", f"a{k - 2}", delay=1)
    return graph


def first_call(build: Callable[[], nx.MultiDiGraph], T: int) -> tuple[float, float, float]:
    """Milliseconds to compile, for the first and the second call of loss_and_gradient; the import is not counted."""
    import rnngraph as rg

    graph = build()
    random = np.random.default_rng(0)

    def data(kind: str) -> dict[str, Any]:
        chosen = {node: size for node, size in graph.nodes(data="size") if graph.nodes[node].get("kind") == kind}
        return {node: random.standard_normal((T, 1, size)).astype(np.float32) for node, size in chosen.items()}

    inputs, targets = data("input"), data("output")
    times = [time.perf_counter()]
    kernel = rg.compile(graph, loss="mse", backend="numpy", dtype="float32")
    times.append(time.perf_counter())
    params = kernel.init(seed=0)
    for _ in range(2):
        kernel.loss_and_gradient(params, inputs, targets)
        times.append(time.perf_counter())
    compiled, first, second = (1e3 * (after - before) for before, after in pairwise(times))
    return compiled, first, second


CASES: tuple[tuple[str, Callable[[], nx.MultiDiGraph], int], ...] = (
    ("LSTM, 16 units, T=10", lstm, 10),
    ("LSTM, 16 units, T=1000", lstm, 1000),
    ("one equation, tanh 45 deep, T=10", nested_tanh, 10),
    ("50 tanh layers, T=10", tanh_layers, 10),
    ("200 units in one loop, T=10", many_nodes, 10),
)


def main() -> None:
    """Times, prints and writes the table."""
    timings: list[Timing] = []

    def note(case: str, task: str, milliseconds: float) -> None:
        timings.append(Timing(case, "1 (pinned)", task, "rnngraph", milliseconds, None))
        print(f"{case:36} {task:14} {milliseconds:10.1f} ms", flush=True)

    context = multiprocessing.get_context("spawn")
    with inherited_threads(1):
        for module in ("numpy", "networkx", "sympy", "rnngraph"):
            statement = f"import {module}"
            note(statement, "import", statistics.median(import_time(statement) for _ in range(REPEATS)))
        for case, build, T in CASES:
            with context.Pool(1, maxtasksperchild=1) as pool:  # one task a process: each starts fresh
                runs = [pool.apply(first_call, (build, T)) for _ in range(REPEATS)]
            for task, values in zip(("compile", "first call", "second call"), zip(*runs, strict=True), strict=True):
                note(case, task, statistics.median(values))
    write("compile_time", "Time to the first result", timings)


if __name__ == "__main__":
    main()
