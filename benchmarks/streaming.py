"""Times one step of a stream beside hand-written steps and ONNX Runtime; what delays cost; memory over 1e6 steps.

    python -m benchmarks.streaming [--quick] [--only NAME ...]

Float32, on one pinned thread. "rnngraph stream" is ``kernel.stream``, which looks at each input, "saved file" the
``Stream`` of the emitted file alone, "saved file, c" that of the C backend, "rnngraph step" the pure ``kernel.step``,
which leaves the given state as it is.
ONNX Runtime runs its LSTM operator, one session call a step, with the state going in and out.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from benchmarks.handwritten_lstm import GATES, named_parameters
from benchmarks.harness import RESULTS, Timing, compare, describe_machine, markdown, resident_megabytes
from benchmarks.processes import Competitor, Task, UnavailableError, inherited_threads

STEPS = 1000  # of a call that is timed: milliseconds a call are microseconds a step
ONNX_GATES = "iofz"
LONG_DELAYS = (1, 10, 100, 1000)
FIRST, LAST = 10_000, 1_000_000  # the steps after which memory is read


class LSTM(NamedTuple):
    """Batch, inputs, units; delay 1."""

    B: int
    I: int  # noqa: E741 (the letter of the tables)
    H: int


class Elman(NamedTuple):
    """Batch, inputs, units, delay of the recurrence."""

    B: int
    I: int  # noqa: E741 (the letter of the tables)
    H: int
    delay: int


Case = LSTM | Elman
CASES: tuple[Case, ...] = (
    LSTM(1, 8, 16),
    LSTM(1, 64, 64),
    LSTM(32, 64, 128),
    Elman(1, 4, 16, 1),
    Elman(1, 4, 16, 1000),
)


def make_problem(case: Case) -> tuple[Any, Any]:
    """Packed weights (I + H + 1, width) and the inputs of the steps (STEPS, B, I); the same in each process."""
    random = np.random.default_rng(0)
    width = 4 * case.H if isinstance(case, LSTM) else case.H
    weights = random.uniform(-1, 1, (case.I + case.H + 1, width)) / np.sqrt(case.H)
    return weights.astype(np.float32), random.standard_normal((STEPS, case.B, case.I)).astype(np.float32)


def elman_graph(case: Elman) -> Any:
    """x -> a, a(t - delay) -> a; a is the output."""
    import networkx as nx

    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=case.I)
    graph.add_node("h", kind="output", size=case.H, activation="tanh", bias="b")
    graph.add_edge("x", "h", parameter="W")
    graph.add_edge("h", "h", delay=case.delay, parameter="R")
    return graph


def compiled(case: Case, backend: str = "numpy") -> tuple[Any, Any]:
    """The kernel and its parameters."""
    import rnngraph as rg

    weights, _ = make_problem(case)
    if isinstance(case, LSTM):
        kernel = rg.compile(rg.zoo.lstm(case.I, case.H), loss="mse", backend=backend, dtype="float32")
        named = named_parameters(weights, case.I, case.H)
    else:
        kernel = rg.compile(elman_graph(case), loss="mse", backend=backend, dtype="float32")
        named = {"W": weights[: case.I], "R": weights[case.I : -1], "b": weights[-1]}
    params = kernel.init(seed=0)
    params.update(named)
    return kernel, params


def _task(reset: Callable[[], Any], step: Callable[[Any], Any], case: Case) -> dict[str, Task]:
    """All steps from the start; the result is the last output."""
    steps = list(make_problem(case)[1])

    def run() -> Any:
        reset()
        output = None
        for x in steps:
            output = step(x)
        return np.array(output)

    return {"step": Task(run, lambda output: [output])}


def _emitted(stream: Any, case: Case) -> dict[str, Task]:
    return _task(stream.reset, lambda x: stream.step({"x": x})["h"], case)


def kernel_stream(case: Case, backend: str = "numpy") -> dict[str, Task]:
    kernel, params = compiled(case, backend)
    return _emitted(kernel.stream(params, case.B), case)


def saved_stream(case: Case, backend: str = "numpy") -> dict[str, Task]:
    kernel, params = compiled(case, backend)
    return _emitted(kernel.module.Stream(params, case.B), case)


def saved_c_stream(case: Case) -> dict[str, Task]:
    return saved_stream(case, "c")


def pure_step(case: Case) -> dict[str, Task]:
    kernel, params = compiled(case)
    held: dict[str, Any] = {}

    def reset() -> None:
        held["state"] = kernel.initial_state(case.B)

    def step(x: Any) -> Any:
        outputs, held["state"] = kernel.step(params, held["state"], {"x": x})
        return outputs["h"]

    return _task(reset, step, case)


def handwritten(case: Case) -> dict[str, Task]:
    """NumPy calls with targets on views that are cut beforehand."""
    weights, _ = make_problem(case)
    B, I, H = case[:3]  # noqa: E741
    row = np.ones((B, I + H + 1), np.float32)  # x(t), h(t - delay), 1
    row_x, row_h = row[:, :I], row[:, I:-1]
    tanh, add, multiply = np.tanh, np.add, np.multiply
    if isinstance(case, Elman):
        ring = np.zeros((case.delay, B, H), np.float32)
        rows, time = list(ring), [0]
        sums, dot, delay = np.empty((B, H), np.float32), np.dot, case.delay

        def reset_elman() -> None:
            ring[...] = 0.0
            time[0] = 0

        def step_elman(x: Any) -> Any:
            oldest = rows[time[0] % delay]
            time[0] += 1
            row_x[...] = x
            row_h[...] = oldest
            dot(row, weights, sums)
            return tanh(sums, oldest)

        return _task(reset_elman, step_elman, case)
    by_gate = weights.reshape(-1, 4, H).transpose(1, 0, 2) * np.array([0.5, 0.5, 0.5, 1.0], np.float32)[:, None, None]
    single = B == 1
    matrix = (
        np.ascontiguousarray(by_gate.transpose(1, 0, 2)).reshape(-1, 4 * H) if single else np.ascontiguousarray(by_gate)
    )
    blocks = np.zeros((5, B, H), np.float32)  # o, i, f, z, c
    gates, sigmoids, i_f, z_c, o, c = blocks[:4], blocks[:3], blocks[1:3], blocks[3:], blocks[0], blocks[4]
    sums = gates.reshape(1, -1) if single else gates
    pair, cells, half = np.empty((2, B, H), np.float32), np.empty((B, H), np.float32), np.array(0.5, np.float32)
    product: Callable[..., Any] = np.dot if single else np.matmul

    def reset() -> None:
        row_h[...] = 0.0
        c[...] = 0.0

    def step(x: Any) -> Any:
        row_x[...] = x
        product(row, matrix, sums)
        tanh(gates, gates)
        multiply(sigmoids, half, sigmoids)
        add(sigmoids, half, sigmoids)
        multiply(i_f, z_c, pair)
        add(pair[0], pair[1], c)
        tanh(c, cells)
        return multiply(o, cells, row_h)

    return _task(reset, step, case)


def onnx_session(case: Case) -> dict[str, Task]:
    if not isinstance(case, LSTM):
        raise UnavailableError("its recurrent operators have no delays")
    try:
        import onnxruntime
        from onnx import TensorProto, helper, numpy_helper
    except ImportError as error:
        raise UnavailableError("onnx or onnxruntime is not installed") from error

    weights, _ = make_problem(case)
    B, I, H = case  # noqa: E741
    blocks = weights.reshape(-1, 4, H)
    packed = np.concatenate([blocks[:, GATES.index(gate)].T for gate in ONNX_GATES])
    bias = np.concatenate([packed[:, -1], np.zeros(4 * H, np.float32)])
    fixed = {"W": packed[None, :, :I], "R": packed[None, :, I:-1], "B": bias[None]}
    shapes = {"x": (1, B, I), "h0": (1, B, H), "c0": (1, B, H), "h": (1, B, H), "c": (1, B, H)}
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()}
    node = helper.make_node("LSTM", ["x", "W", "R", "B", "", "h0", "c0"], ["", "h", "c"], hidden_size=H)
    graph = helper.make_graph(
        [node], "lstm", [values[name] for name in ("x", "h0", "c0")], [values["h"], values["c"]],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in fixed.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    held: dict[str, Any] = {}

    def reset() -> None:
        held["h"] = held["c"] = np.zeros((1, B, H), np.float32)

    def step(x: Any) -> Any:
        held["h"], held["c"] = session.run(None, {"x": x[None], "h0": held["h"], "c0": held["c"]})
        return held["h"][0]

    return _task(reset, step, case)


COMPETITORS = (
    Competitor("hand-written", handwritten),
    Competitor("rnngraph stream", kernel_stream),
    Competitor("saved file", saved_stream),
    Competitor("saved file, c", saved_c_stream),
    Competitor("rnngraph step", pure_step),
    Competitor("onnxruntime", onnx_session),
)


def time_delays(quick: bool) -> list[tuple[int, float, float]]:
    """(delay, microseconds a step, kilobytes of buffers) of a stream of the Elman network; the delays take turns."""
    runs: list[tuple[int, Callable[[], Any], float, list[float]]] = []
    for delay in LONG_DELAYS:
        case = Elman(1, 4, 16, delay)
        kernel, _ = compiled(case)
        uses = kernel.explain(batch=1).buffers
        size = sum(use.bytes for use in uses if use.function == "stream") / 1e3
        runs.append((delay, kernel_stream(case)["step"].run, size, []))
    for _ in range(3 if quick else 60):
        for _, run, _, times in runs:
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
    return [(delay, 1e6 * statistics.median(times) / STEPS, size) for delay, _, size, times in runs]


def run_long(first: int, last: int) -> tuple[float, float, float]:
    """Resident memory in MB after ``first`` and after ``last`` steps, and microseconds a step, of an LSTM of 16 units
    whose gates read h at delays 1 to 20."""
    import rnngraph as rg

    graph = rg.zoo.lstm(8, 16)
    for gate in "ifoz":
        graph.edges["h", gate, 0]["delay"] = list(range(1, 21))
    kernel = rg.compile(graph, loss="mse", dtype="float32")
    stream = kernel.stream(kernel.init(seed=0))
    inputs = [{"x": x} for x in make_problem(LSTM(1, 8, 16))[1]]
    early, start = 0.0, 0.0
    for t in range(last):
        if t == first:
            early, start = resident_megabytes(), time.perf_counter()
        stream.step(inputs[t % STEPS])
    elapsed = time.perf_counter() - start
    assert stream.time == last and np.isfinite(stream.state["h"]).all()
    return early, resident_megabytes(), 1e6 * elapsed / (last - first)


def label(case: Case) -> str:
    """The case in the table."""
    name = "LSTM" if isinstance(case, LSTM) else f"Elman, delay {case.delay},"
    return f"{name} B={case.B} I={case.I} H={case.H}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Times, prints and writes the table."""
    names = [competitor.name for competitor in COMPETITORS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streaming", description="Times and memory of streams.")
    parser.add_argument("--quick", action="store_true", help="two cases, short turns, nothing written")
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="competitors; the first is the measure")
    options = parser.parse_args(arguments)
    chosen = [competitor for competitor in COMPETITORS if competitor.name in options.only]
    quick, timings = options.quick, list[Timing]()
    for case in CASES[::3] if quick else CASES:
        timings += (found := compare(label(case), case, chosen, 1, 3 if quick else 9, 0.05 if quick else 0.3))
        for timing in found:
            ratio = "" if timing.ratio is None else f"{timing.milliseconds:10.2f} us {timing.ratio:6.2f}"
            print(f"{timing.case:32} {timing.competitor:16} {ratio}{timing.note}", flush=True)
    context, machine = multiprocessing.get_context("spawn"), describe_machine()
    first, last = (FIRST // 10, LAST // 50) if quick else (FIRST, LAST)
    with inherited_threads(1), context.Pool(1, maxtasksperchild=1) as pool:
        delays = pool.apply(time_delays, (quick,))
        early, late, each = pool.apply(run_long, (first, last))
    title = f"Streams, float32: {STEPS} steps, one at a time (ms for all: microseconds a step)"
    lines = ["", "Elman network of 16 units, batch 1, by the delay of its recurrence; ratios to a delay of 1.", ""]
    lines += ["delay | microseconds a step | kB of buffers", "--- | --- | ---"]
    lines += [f"{delay} | {us:.3g} ({us / delays[0][1]:.2f}) | {size:.3g}" for delay, us, size in delays]
    lines += ["", "LSTM of 16 units whose gates read h at delays 1 to 20, batch 1: resident memory of the process.", ""]
    lines += [f"MB after {first} steps | MB after {last} steps | microseconds a step", "--- | --- | ---"]
    lines += [f"{early:.2f} | {late:.2f} | {each:.3g}"]
    text = markdown(title, timings, machine) + "\n".join(lines) + "\n"
    print(text)
    if not quick:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / "streaming.md").write_text(text, encoding="utf-8")
        data = {"title": title, "machine": machine, "timings": [asdict(timing) for timing in timings]}
        data |= {"delays": delays, "memory": {"first": [first, early], "last": [last, late], "microseconds": each}}
        (RESULTS / "streaming.json").write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
