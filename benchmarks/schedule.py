"""Times what the schedule does about time, each of its passes with and without.

    python -m benchmarks.schedule [--quick]

Several steps of a loop at once, linear recurrences in blocks of time, and the deltas of one product side by side; on
the backends numpy and c, in float32, on one pinned thread. "Without" compiles the same network with the pass taken out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import networkx as nx
import numpy as np

from benchmarks.harness import Competitor, Task, Timing, compare, write


def delayed(inputs: int, units: int, delay: int) -> nx.MultiDiGraph:
    """h(t) = tanh(W x(t) + R h(t - delay) + b)."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=inputs)
    graph.add_node("h", kind="output", size=units, activation="tanh")
    graph.add_edge("x", "h", parameter="W")
    graph.add_edge("h", "h", parameter="R", delay=delay)
    return graph


def far_narx(units: int, delay: int) -> nx.MultiDiGraph:
    """A NARX network that reads its own outputs of ten steps, the latest ``delay`` steps ago."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=1)
    graph.add_node("h", size=units, activation="tanh")
    graph.add_node("y", kind="output", size=1)
    graph.add_edge("x", "h", delay=list(range(10)))
    graph.add_edge("y", "h", delay=list(range(delay, delay + 10)))
    graph.add_edge("h", "y")
    return graph


def minimal_gru(inputs: int, units: int) -> nx.MultiDiGraph:
    """h(t) = (1 - z(t)) h(t-1) + z(t) c(t), where z and c read the input alone."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=inputs)
    graph.add_node("h", kind="output", size=units, equation="(1 - z)*h_prev + z*c")
    for name, activation in (("z", "sigmoid"), ("c", "tanh")):
        graph.add_node(name, size=units, activation=activation)
        graph.add_edge("x", name)
        graph.add_edge(name, "h", port=name)
    graph.add_edge("h", "h", port="h_prev", delay=1)
    return graph


def leaky(inputs: int, units: int) -> nx.MultiDiGraph:
    """c(t) = 0.9 c(t-1) + W x(t) + b, and an output that reads c."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=inputs)
    graph.add_node("c", size=units, equation="0.9*c_prev + s")
    graph.add_node("y", kind="output", size=4)
    graph.add_edge("x", "c")
    graph.add_edge("c", "c", port="c_prev", delay=1)
    graph.add_edge("c", "y")
    return graph


NETWORKS: Mapping[str, Callable[..., nx.MultiDiGraph]] = {
    "delayed": delayed, "far NARX": far_narx, "minimal GRU": minimal_gru, "leaky units": leaky,
}  # fmt: skip


class Case(NamedTuple):
    """The pass in question, the backend, the network by name with its sizes, sequence length and batch."""

    about: str
    backend: str
    network: str
    sizes: tuple[int, ...]
    T: int
    B: int

    @property
    def label(self) -> str:
        """The case as a row of the table names it."""
        return f"{self.about}, {self.backend}: {self.network} {self.sizes} T={self.T} B={self.B}"


STEPS, BLOCKS, BESIDE = "several steps at once", "recurrences in blocks", "deltas side by side"
CASES = (
    *(
        Case(STEPS, backend, network, sizes, T, B)
        for backend in ("numpy", "c")
        for network, sizes, T, B in (
            ("delayed", (64, 64, 5), 200, 1),
            ("delayed", (64, 128, 2), 200, 32),
            ("delayed", (64, 128, 5), 200, 32),
            ("delayed", (64, 128, 20), 200, 32),
            ("far NARX", (32, 10), 1000, 1),
            ("far NARX", (32, 10), 1000, 32),
        )
    ),
    *(
        Case(BLOCKS, "numpy", network, (8, units), T, B)
        for network in ("minimal GRU", "leaky units")
        for units, T, B in ((16, 100, 1), (16, 1000, 1), (64, 1000, 1), (256, 1000, 1), (16, 10_000, 1), (64, 1000, 16))
    ),
    *(
        Case(BESIDE, backend, "minimal GRU", sizes, T, B)
        for backend in ("numpy", "c")
        for sizes, T, B in (((8, 16), 1000, 1), ((64, 64), 200, 32), ((64, 256), 200, 32))
    ),
)


def leave_out(about: str) -> None:
    """Takes a pass out of this process."""
    import codegen.printers.numpy as numpy_printer
    from rnngraph.lower import places
    from rnngraph.schedule import components

    if about == STEPS:
        components._steps_at_once = lambda reads: 1
    elif about == BLOCKS:
        numpy_printer.recurrence_of = lambda loop, function: None
    else:
        places._Placement._deltas_beside = lambda self, product: None  # type: ignore[method-assign]


def tasks_of(case: Case) -> dict[str, Task]:
    """Forward, and the loss with its gradient."""
    import rnngraph as rg

    graph = NETWORKS[case.network](*case.sizes)
    kernel = rg.compile(graph, loss="mse", backend=case.backend, dtype="float32")
    (output,) = (name for name, kind in graph.nodes(data="kind") if kind == "output")
    random = np.random.default_rng(0)

    def sequence(name: str) -> Any:
        return random.standard_normal((case.T, case.B, graph.nodes[name]["size"])).astype(np.float32)

    params, inputs, targets = kernel.init(seed=0), {"x": sequence("x")}, {output: sequence(output)}
    names = sorted(params)
    return {
        "forward": Task(lambda: kernel.forward(params, inputs), lambda result: [result[0][output]]),
        "gradient": Task(
            lambda: kernel.loss_and_gradient(params, inputs, targets),
            lambda result: [result[0], *(result[1][name] for name in names)],
        ),
    }


def without(case: Case) -> dict[str, Task]:
    leave_out(case.about)
    return tasks_of(case)


COMPETITORS = (Competitor("with", tasks_of), Competitor("without", without))


def main(arguments: Sequence[str] | None = None) -> None:
    """Times, prints and writes the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.schedule", description="Times of the schedule's passes."
    )
    parser.add_argument("--quick", action="store_true", help="short turns, nothing written")
    options = parser.parse_args(arguments)
    rounds, seconds = (3, 0.05) if options.quick else (5, 0.2)
    timings: list[Timing] = []
    for case in CASES:
        timings += compare(case.label, case, COMPETITORS, 1, rounds, seconds)
        for timing in timings[-2 * len(COMPETITORS) :]:
            print(f"{timing.case:75} {timing.task:10} {timing.competitor:10} {timing.milliseconds:10.3f} ms")
    if not options.quick:
        print(write("schedule", "The schedule's passes over time, float32: with and without", timings))


if __name__ == "__main__":
    main()
