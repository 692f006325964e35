"""Checks the CuPy backend on a CUDA device, and times it beside torch.

    PYTHONPATH=. python3 benchmarks/gpu.py [--quick] [--only checks lstm cell]

Needs numpy, sympy, networkx, cupy and (for the times) torch. The checks compare every network of the zoo and random
graphs with the NumPy backend. The times are of loss and gradient in float32, by device events: the LSTM beside torch's
nn.LSTM, and a cell that torch does not have beside the same cell in eager torch; TF32 is off on both sides, then on on
both. CuPy reads that choice once (CUPY_TF32), so each is a process of its own. Times of unequal results are not
reported.
Tables: benchmarks/results/gpu.md and gpu.json, and in the folder $OUT if it is set.
Exit status: 0 done, 1 a check failed, 2 there is no device.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import networkx as nx
import numpy as np

import rnngraph as rg
from benchmarks.harness import RESULTS, describe_machine

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("checks", "lstm", "cell")
RULES: tuple[tuple[str, dict[str, int]], ...] = (
    ("rtrl", {}),
    ("tbptt", {"k1": 2, "k2": 3}),
    ("bptt-rtrl", {"block": 3}),
    ("snap", {}),
    ("rflo", {}),
    ("uoro", {}),
)
RULES_EVERY = 4  # every fourth network checks the rules, too
TORCH_GATES = "ifzo"  # torch calls z g
TOLERANCE = {False: 1e-3, True: 5e-2}  # of the gradient's norm, without and with TF32


class Shape(NamedTuple):
    """Sequence length, batch, inputs, units."""

    T: int
    B: int
    I: int  # noqa: E741 (the letter of the tables)
    H: int

    def __str__(self) -> str:
        return f"T={self.T} B={self.B} I={self.I} H={self.H}"


LSTM_SHAPES = (
    Shape(1024, 16, 768, 768),
    Shape(1024, 16, 512, 512),
    Shape(1024, 16, 1024, 1024),
    Shape(512, 64, 512, 512),
)
CELL_SHAPES = (Shape(200, 32, 64, 128), Shape(128, 64, 256, 512), Shape(512, 16, 512, 512))
QUICK_SHAPES = (Shape(64, 16, 128, 128),)


class Timing(NamedTuple):
    """Medians in milliseconds of one case; ``spread``: (smallest, largest) of ours and of torch's."""

    case: str
    tf32: bool
    ours: float
    torch: float
    spread: tuple[float, float, float, float]
    error: float  # of the gradient, relative to its norm


class Problem(NamedTuple):
    """A network and its data on the host; torch's side computes loss and gradient, in the order of ``names``."""

    graph: nx.MultiDiGraph
    parameters: dict[str, Any]
    x: Any
    target: Any
    torch_side: Callable[[Problem, str], tuple[Callable[[], Any], Callable[[], dict[str, Any]]]]


# The device.


def no_device() -> str | None:
    """Why nothing can run here, or None."""
    try:
        cupy = importlib.import_module("cupy")
        count = cupy.cuda.runtime.getDeviceCount()
    except ImportError as error:
        return f"CuPy is not installed ({error}): pip install cupy-cuda12x, or cupy-cuda13x"
    except RuntimeError as error:  # cupy.cuda.runtime.CUDARuntimeError
        return f"CuPy finds no CUDA device ({error})"
    return None if count else "CuPy finds no CUDA device"


def device_facts() -> dict[str, str]:
    """The device, the CUDA versions, and the packages."""
    cupy = importlib.import_module("cupy")
    properties = cupy.cuda.runtime.getDeviceProperties(0)
    return {
        "device": properties["name"].decode(),
        "CUDA driver": str(cupy.cuda.runtime.driverGetVersion()),
        "CUDA runtime": str(cupy.cuda.runtime.runtimeGetVersion()),
        "CuPy": cupy.__version__,
        **describe_machine(),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }


# Checks.


def check_graph(graph: nx.MultiDiGraph, number: int) -> str | None:
    """What differs between the backends on one graph, in float64 and float32, or None."""
    checking = importlib.import_module("checking")
    losses = checking.losses_of(graph, number)
    problem = checking.problem_for(graph, number, losses, T=4 + number % 9, batch=1 + number % 5, with_state=True)
    arguments = problem.parameters, problem.inputs, problem.targets, problem.state, problem.weights
    for dtype, tolerance in (("float64", 1e-11), ("float32", 2e-5)):
        ours, numpys = (
            rg.compile(graph, loss=losses, backend=name, dtype=dtype, wrt=("parameters", "inputs", "state"))
            for name in ("cupy", "numpy")
        )
        try:
            for found, expected in zip(ours.forward(*arguments[:2], problem.state),
                                       numpys.forward(*arguments[:2], problem.state), strict=True):  # fmt: skip
                checking.assert_all_close(found, expected, tolerance, "output or state")
            streams = [kernel.stream(problem.parameters, 1 + number % 5, problem.state) for kernel in (ours, numpys)]
            for t in range(4 + number % 9):
                step = {name: value[t] for name, value in problem.inputs.items()}
                checking.assert_all_close(*(stream.step(step) for stream in streams), tolerance, "output of a stream")
            checking.assert_all_close(*(stream.state for stream in streams), tolerance, "state of a stream")
            (loss, found), (expected_loss, expected) = (
                ours.loss_and_gradient(*arguments),
                numpys.loss_and_gradient(*arguments),
            )
            checking.assert_close(loss, np.asarray(expected_loss), tolerance, "loss")
            checking.assert_close(found.vector, expected.vector, tolerance, "gradient")
            checking.assert_all_close(found.inputs, expected.inputs, tolerance, "gradient of the inputs")
            checking.assert_all_close(found.state, expected.state, tolerance, "gradient of the state")
        except AssertionError as error:
            return f"{dtype}: {str(error).splitlines()[0]}"
    return check_rules(graph, losses, arguments) if number % RULES_EVERY == 0 else None


def check_rules(graph: nx.MultiDiGraph, losses: Mapping[str, str], arguments: tuple[Any, ...]) -> str | None:
    """What differs between the backends in the gradients of the learning rules and in a Hessian product, or None."""
    checking = importlib.import_module("checking")
    for method, options in RULES:
        try:
            ours, numpys = (
                rg.compile(graph, loss=losses, backend=name, dtype="float64", method=method, **options)
                for name in ("cupy", "numpy")
            )
        except rg.UnsupportedError:
            continue  # the network does not allow the rule
        try:
            found, expected = (kernel.loss_and_gradient(*arguments)[1] for kernel in (ours, numpys))
            checking.assert_close(found.vector, expected.vector, 1e-11, "gradient")
            if method == "rtrl":
                params, *data = arguments
                products = [kernel.hessian_vector_product(params, params, *data) for kernel in (ours, numpys)]
                checking.assert_close(products[0].vector, products[1].vector, 1e-11, "Hessian product")
        except AssertionError as error:
            return f"{method}: {str(error).splitlines()[0]}"
    return None


def run_checks(random_graphs: int) -> list[tuple[str, str | None]]:
    """(graph, what is wrong or None) for the networks of the zoo and random graphs."""
    make = importlib.import_module("random_graphs").random_graph
    cases = [(name, rg.zoo.example(name)) for name in rg.zoo.NETWORKS]
    cases += [(f"random graph {seed}", make(seed)) for seed in range(random_graphs)]
    found = []
    for number, (name, graph) in enumerate(cases):
        found.append((name, check_graph(graph, number)))
        if found[-1][1] is not None:
            print(f"FAILED {name}: {found[-1][1]}", flush=True)
    print(
        f"checks: {sum(problem is None for _, problem in found)} of {len(found)} networks agree with the NumPy backend"
    )
    return found


# What is timed.


def lstm_problem(shape: Shape) -> Problem:
    """An LSTM without peepholes: torch's nn.LSTM."""
    return _problem(rg.zoo.lstm(shape.I, shape.H), "h", shape, _torch_lstm)


def cell_problem(shape: Shape) -> Problem:
    """h(t) = tanh(W x(t) + R1 h(t-1) + R5 h(t-5)) * sigmoid(G x(t) + R2 h(t-2)), with biases."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=shape.I)
    graph.add_node("a", size=shape.H, activation="tanh")
    graph.add_node("g", size=shape.H, activation="sigmoid")
    graph.add_node("h", kind="output", size=shape.H, equation="a*g")
    graph.add_edge("x", "a", parameter="W")
    graph.add_edge("x", "g", parameter="G")
    graph.add_edge("h", "a", parameter="R1", delay=1)
    graph.add_edge("h", "g", parameter="R2", delay=2)
    graph.add_edge("h", "a", parameter="R5", delay=5)
    graph.add_edge("a", "h", port="a")
    graph.add_edge("g", "h", port="g")
    return _problem(graph, "h", shape, _torch_cell)


def _problem(graph: nx.MultiDiGraph, output: str, shape: Shape, torch_side: Any) -> Problem:
    random = np.random.default_rng(0)
    shapes = rg.compile(graph, backend="numpy").parameter_shapes
    parameters = {
        name: (random.uniform(-1, 1, size) / np.sqrt(shape.H)).astype(np.float32) for name, size in shapes.items()
    }
    x = random.standard_normal((shape.T, shape.B, shape.I)).astype(np.float32)
    target = random.standard_normal((shape.T, shape.B, shape.H)).astype(np.float32)
    return Problem(graph, parameters, x, target, torch_side)


def _torch_lstm(problem: Problem, device: str) -> tuple[Callable[[], Any], Callable[[], dict[str, Any]]]:
    torch = importlib.import_module("torch")
    p, units = problem.parameters, problem.target.shape[2]
    layer = torch.nn.LSTM(problem.x.shape[2], units, device=device)
    with torch.no_grad():
        layer.weight_ih_l0.copy_(torch.from_numpy(np.concatenate([p[f"W_x_{gate}"].T for gate in TORCH_GATES])))
        layer.weight_hh_l0.copy_(torch.from_numpy(np.concatenate([p[f"W_h_{gate}"].T for gate in TORCH_GATES])))
        layer.bias_ih_l0.copy_(torch.from_numpy(np.concatenate([p[f"b_{gate}"] for gate in TORCH_GATES])))
        layer.bias_hh_l0.zero_()
    x, target = torch.from_numpy(problem.x).to(device), torch.from_numpy(problem.target).to(device)

    def run() -> float:
        layer.zero_grad()
        loss = torch.nn.functional.mse_loss(layer(x)[0], target)
        loss.backward()
        return float(loss.item())

    def gradients() -> dict[str, Any]:
        found: dict[str, Any] = {}
        for k, gate in enumerate(TORCH_GATES):
            rows = slice(k * units, (k + 1) * units)
            found[f"W_x_{gate}"] = layer.weight_ih_l0.grad[rows].T.cpu().numpy()
            found[f"W_h_{gate}"] = layer.weight_hh_l0.grad[rows].T.cpu().numpy()
            found[f"b_{gate}"] = layer.bias_ih_l0.grad[rows].cpu().numpy()
        return found

    return run, gradients


def _torch_cell(problem: Problem, device: str) -> tuple[Callable[[], Any], Callable[[], dict[str, Any]]]:
    torch = importlib.import_module("torch")
    p = {name: torch.from_numpy(value).to(device).requires_grad_() for name, value in problem.parameters.items()}
    x, target = torch.from_numpy(problem.x).to(device), torch.from_numpy(problem.target).to(device)
    zero = torch.zeros_like(target[0])

    def run() -> float:
        for value in p.values():
            value.grad = None
        a, g = x @ p["W"] + p["b_a"], x @ p["G"] + p["b_g"]  # for all t at once
        h: list[Any] = []
        for t in range(x.shape[0]):
            past = [h[t - d] if t >= d else zero for d in (1, 2, 5)]
            h.append(torch.tanh(a[t] + past[0] @ p["R1"] + past[2] @ p["R5"]) * torch.sigmoid(g[t] + past[1] @ p["R2"]))
        loss = torch.nn.functional.mse_loss(torch.stack(h), target)
        loss.backward()
        return float(loss.item())

    return run, lambda: {name: value.grad.cpu().numpy() for name, value in p.items()}


# Timing.


def time_case(name: str, problem: Problem, tf32: bool, device: str = "cuda", rounds: int = 15) -> Timing:
    """Both sides take turns. Raises RuntimeError when their losses or gradients differ."""
    cupy, torch = importlib.import_module("cupy"), importlib.import_module("torch")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    kernel = rg.compile(problem.graph, loss="mse", backend="cupy", dtype="float32")
    params = kernel.module.pack(problem.parameters)
    inputs, targets = {"x": cupy.asarray(problem.x)}, {"h": cupy.asarray(problem.target)}
    torch_run, torch_gradients = problem.torch_side(problem, device)

    def ours_run() -> Any:
        return kernel.loss_and_gradient(params, inputs, targets)

    loss, gradients = ours_run()
    torch_loss = torch_run()
    expected = torch_gradients()
    difference = sum(float(np.sum((gradients[key].get() - value) ** 2)) for key, value in expected.items())
    error = (difference / sum(float(np.sum(value**2)) for value in expected.values())) ** 0.5
    if not error <= TOLERANCE[tf32] or not abs(loss - torch_loss) <= TOLERANCE[tf32] * abs(torch_loss):
        raise RuntimeError(f"{name}: losses {loss} and {torch_loss}, gradients apart by {error:.2g} of their norm")
    times: tuple[list[float], list[float]] = [], []
    for k in range(rounds + 2):
        taken = _cupy_milliseconds(cupy, ours_run), _torch_milliseconds(torch, device, torch_run)
        if k >= 2:  # the first rounds warm up
            times[0].append(taken[0])
            times[1].append(taken[1])
    ours, theirs = (statistics.median(side) for side in times)
    spread = min(times[0]), max(times[0]), min(times[1]), max(times[1])
    return Timing(name, tf32, ours, theirs, spread, error)


def _cupy_milliseconds(cupy: Any, run: Callable[[], Any]) -> float:
    start, stop = cupy.cuda.Event(), cupy.cuda.Event()
    start.record()
    run()
    stop.record()
    stop.synchronize()
    return float(cupy.cuda.get_elapsed_time(start, stop))


def _torch_milliseconds(torch: Any, device: str, run: Callable[[], Any]) -> float:
    if device == "cpu":
        begin = time.perf_counter()
        run()
        return 1e3 * (time.perf_counter() - begin)
    start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    run()
    stop.record()
    stop.synchronize()
    return float(start.elapsed_time(stop))


def run_times(parts: Sequence[str], quick: bool, tf32: bool) -> list[Timing]:
    """The chosen parts in this process, whose CUPY_TF32 must fit ``tf32``."""
    timings = []
    for part, title, shapes, build in (
        ("lstm", "LSTM", LSTM_SHAPES, lstm_problem),
        ("cell", "delayed cell", CELL_SHAPES, cell_problem),
    ):
        for shape in (QUICK_SHAPES if quick else shapes) if part in parts else ():
            timings.append(timing := time_case(f"{title} {shape}", build(shape), tf32))
            ratio = timing.ours / timing.torch
            print(
                f"{timing.case:36} TF32 {'on ' if tf32 else 'off'} {timing.ours:9.3f} {timing.torch:9.3f} {ratio:6.2f}",
                flush=True,
            )
    return timings


def times_in_child(parts: Sequence[str], quick: bool, tf32: bool) -> list[Timing]:
    """As run_times, in a process that starts with CUPY_TF32 set."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "times.json"
        command = [sys.executable, str(Path(__file__).resolve()), "--child", str(path), "--only", *parts]
        environment = {
            **os.environ,
            "CUPY_TF32": str(int(tf32)),
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }
        subprocess.run([*command, *(["--quick"] if quick else [])], env=environment, check=True)
        return [Timing(*row) for row in json.loads(path.read_text(encoding="utf-8"))]


# The report.


def markdown(facts: Mapping[str, str], checks: Sequence[tuple[str, str | None]], timings: Sequence[Timing]) -> str:
    """The tables as Markdown."""
    lines = ["# CuPy backend", "", ", ".join(f"{name} {value}" for name, value in facts.items()), ""]
    if checks:
        wrong = [f"- {name}: {problem}" for name, problem in checks if problem is not None]
        lines += [f"{len(checks) - len(wrong)} of {len(checks)} networks agree with the NumPy backend.", "", *wrong, ""]
    if timings:
        lines += [
            "Loss and gradient in float32, medians in ms by device events, in brackets the smallest and largest.",
            "",
        ]
        lines += ["case | TF32 | rnngraph | torch | ratio | gradients differ by", "--- | --- | --- | --- | --- | ---"]
        for t in timings:
            ours, theirs = (
                f"{m:.3g} ({a:.3g} to {b:.3g})" for m, a, b in ((t.ours, *t.spread[:2]), (t.torch, *t.spread[2:]))
            )
            lines.append(
                f"{t.case} | {'on' if t.tf32 else 'off'} | {ours} | {theirs} | {t.ours / t.torch:.2f} | {t.error:.1e}"
            )
    return "\n".join(lines).rstrip() + "\n"


def write_report(facts: Mapping[str, str], checks: Sequence[tuple[str, str | None]], timings: Sequence[Timing]) -> str:
    """Write gpu.md and gpu.json; returns the Markdown."""
    text = markdown(facts, checks, timings)
    data = {"facts": dict(facts), "checks": list(checks), "timings": [timing._asdict() for timing in timings]}
    for folder in [RESULTS, *([Path(os.environ["OUT"])] if os.environ.get("OUT") else [])]:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "gpu.md").write_text(text, encoding="utf-8")
        (folder / "gpu.json").write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; the exit status."""
    parser = argparse.ArgumentParser(description="Checks and times the CuPy backend on a CUDA device.")
    parser.add_argument("--quick", action="store_true", help="few random graphs, one small shape")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="what to run")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if reason := no_device():
        print(f"benchmarks/gpu.py: {reason}", file=sys.stderr)
        return 2
    if options.child:
        timings = run_times(options.only, options.quick, os.environ["CUPY_TF32"] == "1")
        options.child.write_text(json.dumps(timings), encoding="utf-8")
        return 0
    sys.path.insert(0, str(ROOT / "tests"))
    checks = run_checks(10 if options.quick else 40) if "checks" in options.only else []
    parts = [part for part in options.only if part != "checks"]
    if parts and importlib.util.find_spec("torch") is None:
        print("torch is not installed: nothing is timed")
        parts = []
    timings = [
        timing for tf32 in (False, True) for timing in (times_in_child(parts, options.quick, tf32) if parts else ())
    ]
    print(write_report(device_facts(), checks, timings))
    return 1 if any(problem is not None for _, problem in checks) else 0


if __name__ == "__main__":
    sys.exit(main())
