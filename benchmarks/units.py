"""Times networks declared unit by unit.

    python -m benchmarks.units [--quick]

Three tables, in float32, on one pinned thread. How long it takes to compile sparse networks, ten edges into each unit
with delays 1 to 20, stage by stage, with the exponent by which each stage grows. The same network declared by layers
and by units. And a step of a sparse network beside products of ``scipy.sparse``, forward and backward written by hand.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import networkx as nx
import numpy as np

from benchmarks.harness import RESULTS, Timing, compare, describe_machine, markdown
from benchmarks.processes import Competitor, Task, UnavailableError, in_fresh_process
from benchmarks.unit_networks import by_unit, elman, lstm, parts, sparse_network, spread

BACKENDS = ("numpy", "c")
UNITS = (1000, 3000, 10_000)
LONGEST = 20  # delay of the sparse networks
ONE_STAGE = ("derive", "differentiate", "schedule", "display", "lower")  # their work is that of the layers, not units


# Compiling.


def compile_seconds(backend: str, units: int) -> dict[str, float]:
    """Seconds of each stage for a sparse network, in this process; imports and sympy's caches are not counted."""
    import rnngraph as rg

    with tempfile.TemporaryDirectory() as cache:
        os.environ["RNNGRAPH_CACHE"] = cache  # so that C is compiled
        rg.compile(sparse_network(100), backend=backend)
        graph = sparse_network(units)
        start = time.perf_counter()
        kernel = rg.compile(graph, backend=backend, dtype="float32")
        compiled = time.perf_counter()
        kernel.init(seed=0)
        seconds = {"edges": float(graph.number_of_edges())}
        seconds |= {name: value for name, value in kernel.seconds.items() if name not in ONE_STAGE}
        seconds["equations"] = sum(kernel.seconds[name] for name in ONE_STAGE)
        return seconds | {"load": time.perf_counter() - compiled, "total": time.perf_counter() - start}


def exponent(edges: Sequence[float], seconds: Sequence[float]) -> float:
    """The slope of a line through the points on logarithmic axes."""
    return float(np.polyfit(np.log(edges), np.log(seconds), 1)[0])


def compile_table(found: Mapping[str, Sequence[Mapping[str, float]]]) -> list[str]:
    """Seconds by stage as Markdown; a row for each size, then the exponents."""
    stages = [name for name in found["numpy"][0] if name != "edges"]
    lines = [" | ".join(["backend", "edges", *stages]), " | ".join(["---"] * (2 + len(stages)))]
    for backend, rows in found.items():
        edges = [row["edges"] for row in rows]
        for row in rows:
            lines.append(" | ".join([backend, f"{row['edges']:,.0f}", *(f"{row[name]:.3g}" for name in stages)]))
        slopes = [exponent(edges, [row[name] for row in rows]) for name in stages]
        lines.append(" | ".join([backend, "exponent", *(f"{slope:.2f}" for slope in slopes)]))
    return lines


# The same network by layers and by units.


class Case(NamedTuple):
    """The network with its units: of the input, of the layer; sequence length and batch."""

    backend: str
    network: str
    inputs: int
    units: int
    T: int
    B: int

    @property
    def label(self) -> str:
        """The case as a row of the table names it."""
        return f"{self.network} {self.inputs}-{self.units} T={self.T} B={self.B}, {self.backend}"

    def graph(self, apart: bool) -> nx.MultiDiGraph:
        """The network by layers, or with each unit a node."""
        if self.network == "LSTM":
            return lstm(self.inputs, self.units, apart)
        return elman(self.inputs, self.units, OUTPUTS, apart)


OUTPUTS = 8  # of the Elman network
CASES = tuple(
    Case(backend, network, *sizes)
    for backend in BACKENDS
    for network, sizes in (("LSTM", (8, 16, 100, 1)), ("LSTM", (32, 32, 200, 32)), ("Elman", (32, 128, 100, 32)))
)


def by_layers(case: Case) -> dict[str, Task]:
    """The network declared by layers."""
    return _tasks(case, False, False)


def by_units(case: Case) -> dict[str, Task]:
    """Declared by units, given and returned as arrays of one unit each."""
    return _tasks(case, True, False)


def by_units_with_layers(case: Case) -> dict[str, Task]:
    """Declared by units, inputs and targets given as arrays of whole layers."""
    return _tasks(case, True, True)


def _tasks(case: Case, apart: bool, whole: bool) -> dict[str, Task]:
    import rnngraph as rg

    layers = rg.compile(case.graph(False), dtype="float32")
    output = next(iter(layers.program.outputs))
    count = layers.program.outputs[output]
    kernel = rg.compile(case.graph(apart), backend=case.backend, dtype="float32")
    random = np.random.default_rng(0)
    given, inputs, targets = (
        layers.init(seed=0),
        *(
            {name: random.standard_normal((case.T, case.B, size)).astype(np.float32) for name, size in sizes.items()}
            for sizes in (layers.program.inputs, layers.program.outputs)
        ),
    )
    params = kernel.init(seed=0)
    for name, value in (by_unit(given) if apart else given).items():
        params[name] = value
    if apart:
        inputs, targets = spread(inputs), spread(targets)
    if whole:  # in the order in which the kernel has the units
        layers_of = kernel.equations.layers
        inputs, targets = (
            {name: np.concatenate([arrays[unit] for unit in units], axis=2)
             for name, units in layers_of.items() if units[0] in arrays}
            for arrays in (inputs, targets)
        )  # fmt: skip

    def read(result: Any) -> list[Any]:
        outputs = result[0]
        return [np.concatenate([outputs[unit] for unit in parts(output, count, apart)], axis=2)]

    def read_gradient(result: Any) -> list[Any]:
        loss, gradients = result  # by units, the mean over one unit each, summed
        values = gradients if apart else by_unit(gradients)
        scale = 1 if apart else count
        return [np.array(loss * scale), np.concatenate([values[name].ravel() * scale for name in sorted(values)])]

    return {
        "forward": Task(lambda: kernel.forward(params, inputs), read),
        "gradient": Task(lambda: kernel.loss_and_gradient(params, inputs, targets), read_gradient),
    }


DECLARED = (
    Competitor("by layers", by_layers),
    Competitor("by units", by_units),
    Competitor("by units, given layers", by_units_with_layers),
)


# A sparse network beside scipy.sparse.


class Sparse(NamedTuple):
    """Units of the sparse network, sequence length, and the batches that it runs with."""

    units: int
    T: int
    batches: tuple[int, ...] = (1, 8)


@functools.cache
def sparse_kernel(backend: str, units: int) -> Any:
    """The kernel of a sparse network."""
    import rnngraph as rg

    return rg.compile(sparse_network(units), backend=backend, dtype="float32")


def sequences(case: Sparse, batch: int) -> tuple[Any, Any]:
    """Inputs and targets, (T, batch, units)."""
    random, outside = np.random.default_rng(batch), max(1, case.units // 100)
    inputs, targets = (random.standard_normal((case.T, batch, outside)).astype(np.float32) for _ in range(2))
    return inputs, targets


def emitted(backend: str, case: Sparse) -> dict[str, Task]:
    """The kernel, given whole layers."""
    kernel = sparse_kernel(backend, case.units)
    params = kernel.init(seed=0)
    names = [f"y{k}" for k in range(max(1, case.units // 100))]
    weights = [name for name in params if name.startswith("W_u")]
    tasks = {}
    for batch in case.batches:
        x, y = sequences(case, batch)
        tasks[f"forward, B={batch}"] = Task(
            functools.partial(kernel.forward, params, {"x": x}),
            lambda result: [np.concatenate([result[0][name] for name in names], axis=2)],
        )
        tasks[f"gradient, B={batch}"] = Task(
            functools.partial(kernel.loss_and_gradient, params, {"x": x}, {"y": y}),
            lambda result: [np.array(result[0]), np.concatenate([result[1][name].ravel() for name in weights])],
        )
    return tasks


def emitted_numpy(case: Sparse) -> dict[str, Task]:
    """The emitted NumPy module."""
    return emitted("numpy", case)


def emitted_c(case: Sparse) -> dict[str, Task]:
    """The emitted C."""
    return emitted("c", case)


def by_scipy(case: Sparse) -> dict[str, Task]:
    """The same by hand, with one sparse product a step: a history of all units lies in one array, so that the last 20
    steps are one vector (or matrix) that needs no copy."""
    try:
        network = ByHand(sparse_kernel("numpy", case.units).init(seed=0), case)
    except ImportError as error:
        raise UnavailableError("scipy is not installed") from error
    tasks = {}
    for batch in case.batches:
        x, y = (np.ascontiguousarray(array.transpose(0, 2, 1)) for array in sequences(case, batch))
        tasks[f"forward, B={batch}"] = Task(
            functools.partial(network.forward, x), lambda result: [result[1].transpose(0, 2, 1)]
        )
        tasks[f"gradient, B={batch}"] = Task(functools.partial(network.gradient, x, y), list)
    return tasks


class ByHand:
    """The sparse network in NumPy and scipy.sparse; sequences are (T, units, batch)."""

    def __init__(self, params: Mapping[str, Any], case: Sparse) -> None:
        self.units = case.units
        self.outside = max(1, case.units // 100)
        graph = sparse_network(case.units)
        edges = [
            (a, b, data.get("delay", 0), float(params[f"W_{a}_{b}"].item())) for a, b, data in graph.edges(data=True)
        ]
        kinds = {kind: [edge for edge in edges if edge[0][0] + edge[1][0] == kind] for kind in ("xu", "uu", "uy")}
        self.given = self.matrix(kinds["xu"], case.units, self.outside)
        self.read = self.matrix(kinds["uy"], self.outside, case.units)
        back = [(b, a, delay, weight) for a, b, delay, weight in kinds["uu"]]
        self.forward_product = self.matrix(kinds["uu"], case.units, case.units, lambda delay: LONGEST - delay)
        self.backward_product = self.matrix(back, case.units, case.units, lambda delay: delay - 1)
        self.back_from_outputs = self.read.T.tocsr()
        self.biases = [np.array([params[f"b_{name}{k}"].item() for k in range(count)], np.float32)[:, None]
                       for name, count in (("u", case.units), ("y", self.outside))]  # fmt: skip
        # The gradients of weights, all of one delay at once, in the order of the kernel's parameters.
        order = {name: k for k, name in enumerate(name for name in params if name.startswith("W_u"))}
        by_delay: dict[tuple[str, int], list[tuple[int, int, int]]] = defaultdict(list)
        for kind in ("uu", "uy"):
            for a, b, delay, _ in kinds[kind]:
                by_delay[kind, delay].append((order[f"W_{a}_{b}"], int(a[1:]), int(b[1:])))
        self.places = {key: np.array(found).T for key, found in by_delay.items()}
        self.weights = len(order)

    def matrix(
        self, edges: Sequence[Any], rows: int, columns: int, block: Callable[[int], int] = lambda delay: 0
    ) -> Any:
        """Edges as a sparse matrix (destinations, sources), with one block of sources for each step of a history."""
        from scipy.sparse import csr_array

        row = [int(edge[1][1:]) for edge in edges]
        column = [block(edge[2]) * columns + int(edge[0][1:]) for edge in edges]
        width = LONGEST * columns if any(edge[2] for edge in edges) else columns
        values = np.array([edge[3] for edge in edges], np.float32)
        return csr_array((values, (row, column)), shape=(rows, width))

    def forward(self, x: Any) -> tuple[Any, Any]:
        """The units' values, after LONGEST steps of 0, and the outputs."""
        T, _, batch = x.shape
        history = np.zeros((LONGEST + T, self.units, batch), np.float32)
        outputs = np.empty((T, self.outside, batch), np.float32)
        for t in range(T):
            sums = self.forward_product @ history[t : t + LONGEST].reshape(-1, batch)
            sums += self.given @ x[t]
            sums += self.biases[0]
            value = np.tanh(sums, out=history[LONGEST + t])
            outputs[t] = self.read @ value + self.biases[1]
        return history, outputs

    def gradient(self, x: Any, y: Any) -> tuple[Any, Any]:
        """The loss and the gradient by the weights out of units."""
        history, outputs = self.forward(x)
        T, _, batch = x.shape
        errors = outputs - y
        loss = np.square(errors).sum() / (T * batch)
        errors *= 2 / (T * batch)
        deltas = np.zeros((T + LONGEST, self.units, batch), np.float32)
        for t in reversed(range(T)):
            adjoint = self.backward_product @ deltas[t + 1 : t + 1 + LONGEST].reshape(-1, batch)
            adjoint += self.back_from_outputs @ errors[t]
            np.multiply(adjoint, 1 - np.square(history[LONGEST + t]), out=deltas[t])
        return loss, self.weight_gradient(history, deltas[:T], errors)

    def weight_gradient(self, history: Any, deltas: Any, errors: Any) -> Any:
        """For each weight the sum over time and batch of what it reads times the delta that it leads to."""
        T, _, batch = errors.shape
        history, deltas, errors = (
            np.ascontiguousarray(each.transpose(1, 0, 2)).reshape(each.shape[1], -1)
            for each in (history, deltas, errors)
        )
        found = np.empty(self.weights, np.float32)
        for (kind, delay), (numbers, sources, destinations) in self.places.items():
            start = (LONGEST - delay) * batch
            read, led_to = history[sources, start : start + T * batch], deltas if kind == "uu" else errors
            found[numbers] = np.einsum("et,et->e", read, led_to[destinations])
        return found


SPARSE = (
    Competitor("scipy.sparse", by_scipy, "numpy"),
    Competitor("numpy", emitted_numpy),
    Competitor("c", emitted_c),
)


def write_tables(compiled: Mapping[str, Any], declared: Sequence[Timing], sparse: Sequence[Timing]) -> str:
    """Writes units.md and units.json to the results; returns the Markdown."""
    machine = describe_machine()
    about = (
        "Seconds to compile sparse networks declared unit by unit: ten edges into each unit, delays 1 to 20. A fresh\n"
        'process each, imports not counted; "equations": ' + ", ".join(ONE_STAGE) + '; "load": the module, the C\n'
        "compiler and the first parameters. An exponent of 1 is linear in the number of edges."
    )
    text = "\n".join(["# Networks declared unit by unit, float32", "", about, "", *compile_table(compiled), ""])
    text += "\n#" + markdown("The same network by layers and by units", declared, {})
    text += "\n#" + markdown("A sparse network beside scipy.sparse", sparse, machine)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "units.md").write_text(text, encoding="utf-8")
    data = {"machine": machine, "compile": compiled, "timings": [asdict(each) for each in (*declared, *sparse)]}
    (RESULTS / "units.json").write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    """Times, prints and writes the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.units", description="Networks declared unit by unit.")
    parser.add_argument("--quick", action="store_true", help="small networks, short turns, nothing written")
    options = parser.parse_args(arguments)
    sizes, rounds, seconds = ((200, 400, 800), 2, 0.05) if options.quick else (UNITS, 3, 0.2)
    compiled: dict[str, list[dict[str, float]]] = {}
    for backend in BACKENDS:
        compiled[backend] = [in_fresh_process(1, compile_seconds, backend, units) for units in sizes]
    print("\n".join(compile_table(compiled)), flush=True)
    declared: list[Timing] = []
    for case in CASES[::3] if options.quick else CASES:
        declared += compare(case.label, case, DECLARED, 1, rounds, seconds)
    case = Sparse(500, 30) if options.quick else Sparse(UNITS[-1], 30)
    label = f"{case.units} units, T={case.T}"
    sparse = compare(label, case, SPARSE, 1, rounds, seconds)
    for timing in (*declared, *sparse):
        print(f"{timing.case:45} {timing.task:15} {timing.competitor:25} {timing.milliseconds:10.3f} ms")
    if not options.quick:
        print(write_tables(compiled, declared, sparse))


if __name__ == "__main__":
    main()
