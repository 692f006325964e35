"""Times real-time recurrent learning: dense beside hand-written kernels and JAX, diagonal by size; memory online.

    python -m benchmarks.rtrl [--quick] [--only NAME ...] [--part dense diagonal online]

Dense: a layer that feeds itself, loss with gradient over T steps, float32, on one pinned thread and on all cores.
Diagonal: each unit feeds only itself; time against the number of parameters, with the exponent of the fit.
Online: resident memory of a process after warm-up and after many calls of step_and_gradient.
Both with the backends "numpy" and "c".
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.handwritten_rtrl import BlocksRTRL, SlidingRTRL
from benchmarks.harness import RESULTS, Timing, compare, describe_machine, resident_megabytes, write
from benchmarks.processes import Competitor, Task, UnavailableError, available_cores, inherited_threads

TASK = "loss and gradient"
DIAGONAL_UNITS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
DIAGONAL_STEPS = 20
OVERHEAD_FACTOR = 3.0  # the fit starts at the first size that takes so many times as long as the smallest
ONLINE_STEPS, WARM_UP = 100_000, 1_000
ONLINE_RULES: tuple[tuple[str, dict[str, int]], ...] = (("rtrl", {}), ("uoro", {}), ("tbptt", {"k1": 5, "k2": 10}))
BACKENDS = ("numpy", "c")


class Shape(NamedTuple):
    """Sequence length, batch, inputs, units."""

    T: int
    B: int
    I: int  # noqa: E741 (the letter of the tables)
    H: int


SHAPES = (Shape(20, 8, 8, 32), Shape(20, 8, 8, 64), Shape(20, 8, 8, 128))


def make_problem(shape: Shape) -> tuple[Any, Any, Any]:
    """Packed weights (I + H + 1, H), x and target in float32; the same in each process."""
    random = np.random.default_rng(0)
    weights = random.uniform(-1, 1, (shape.I + shape.H + 1, shape.H)) / np.sqrt(shape.H)
    x = random.standard_normal((shape.T, shape.B, shape.I))
    target = random.standard_normal((shape.T, shape.B, shape.H))
    return weights.astype(np.float32), x.astype(np.float32), target.astype(np.float32)


def recurrent_graph(inputs: int, units: int) -> Any:
    """x -> a, a -> a: a is the output."""
    import networkx as nx

    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=inputs)
    graph.add_node("a", kind="output", size=units, activation="tanh", bias="b")
    graph.add_edge("x", "a", parameter="W")
    graph.add_edge("a", "a", delay=1, parameter="R")
    return graph


def diagonal_graph(inputs: int, units: int, outputs: int) -> Any:
    """x -> a -> y, each unit of a feeds itself alone; parameters grow with the units."""
    import networkx as nx

    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=inputs)
    graph.add_node("a", size=units, activation="tanh", bias="b")
    graph.add_node("y", kind="output", size=outputs, bias="c")
    graph.add_edge("x", "a", parameter="W")
    graph.add_edge("a", "a", delay=1, structure="diagonal", parameter="r")
    graph.add_edge("a", "y", parameter="V")
    return graph


def _handwritten(layout: Callable[..., Any], shape: Shape) -> dict[str, Task]:
    weights, x, target = make_problem(shape)
    kernel = layout(shape.I, shape.H, shape.B)
    return {TASK: Task(lambda: kernel.loss_and_gradient(weights, x, target), list)}


def handwritten_blocks(shape: Shape) -> dict[str, Task]:
    return _handwritten(BlocksRTRL, shape)


def handwritten_sliding(shape: Shape) -> dict[str, Task]:
    return _handwritten(SlidingRTRL, shape)


def emitted(shape: Shape, backend: str = "numpy") -> dict[str, Task]:
    import rnngraph as rg

    weights, x, target = make_problem(shape)
    graph = recurrent_graph(shape.I, shape.H)
    kernel = rg.compile(graph, loss="mse", method="rtrl", dtype="float32", backend=backend)
    params = kernel.init(seed=0)
    for name, rows in (("W", slice(shape.I)), ("R", slice(shape.I, -1)), ("b", -1)):
        params[name][...] = weights[rows]
    inputs, targets = {"x": x}, {"a": target}

    def read(result: Any) -> list[Any]:
        loss, gradient = result
        return [loss, np.concatenate([gradient["W"], gradient["R"], gradient["b"][None]])]

    return {TASK: Task(lambda: kernel.loss_and_gradient(params, inputs, targets), read)}


def emitted_c(shape: Shape) -> dict[str, Task]:
    return emitted(shape, "c")


def _jax(propagation: str, shape: Shape) -> dict[str, Task]:
    """RTRL in one lax.scan. ``propagation``: "add" and "einsum" fold the derivative into the Jacobian, "after" applies
    it to P, "jacrev" takes both Jacobians of the step from autodiff, "jvp" pushes a basis of tangents through it."""
    if os.environ["OMP_NUM_THREADS"] == "1":
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ["JAX_PLATFORMS"] = "cpu"
    try:
        import jax
        import jax.numpy as jnp
    except ImportError as error:
        raise UnavailableError("jax is not installed") from error

    weights, x, target = (jnp.asarray(array) for array in make_problem(shape))
    units, sources = shape.H, shape.I + shape.H + 1
    places = jnp.arange(units)

    def cell(flat: Any, a: Any, x: Any) -> Any:
        s = jnp.concatenate([x, a, jnp.ones((*a.shape[:-1], 1), a.dtype)], axis=-1)
        return jnp.tanh(s @ flat.reshape(sources, units))

    def by_hand(packed: Any, a: Any, p: Any, x: Any) -> tuple[Any, Any]:
        s = jnp.concatenate([x, a, jnp.ones((shape.B, 1), a.dtype)], axis=1)
        a = jnp.tanh(s @ packed)
        d = 1 - a * a
        recurrent = packed[shape.I : -1]
        p = p.reshape(shape.B, -1, units)
        if propagation == "after":
            q = (p.reshape(-1, units) @ recurrent).reshape(shape.B, sources, units, units)
            return a, (q + s[:, :, None, None] * jnp.eye(units)) * d[:, None, None, :]
        jacobian = recurrent * d[:, None, :]
        if propagation == "einsum":
            q = jnp.einsum("brk,bkl->brl", p, jacobian).reshape(shape.B, sources, units, units)
            return a, q + s[:, :, None, None] * (jnp.eye(units) * d[:, None, :])[:, None]
        q = (p @ jacobian).reshape(shape.B, sources, units, units)
        return a, q.at[:, :, places, places].add(s[:, :, None] * d[:, None, :])

    def by_jacobians(packed: Any, a: Any, p: Any, x: Any) -> tuple[Any, Any]:
        flat = packed.reshape(-1)
        own = jax.vmap(jax.jacrev(cell, 0), (None, 0, 0))(flat, a, x)
        through = jax.vmap(jax.jacrev(cell, 1), (None, 0, 0))(flat, a, x)
        return cell(flat, a, x), through @ p + own

    def by_tangents(packed: Any, a: Any, p: Any, x: Any) -> tuple[Any, Any]:
        flat = packed.reshape(-1)

        def push(direction: Any, tangent: Any) -> Any:
            return jax.jvp(lambda w, state: cell(w, state, x), (flat, a), (direction, tangent))

        return jax.vmap(push, out_axes=(None, 0))(jnp.eye(flat.size), p)

    step, empty, sum_over = {
        "jacrev": (by_jacobians, (shape.B, units, sources * units), "bkr,bk->r"),
        "jvp": (by_tangents, (sources * units, shape.B, units), "rbk,bk->r"),
    }.get(propagation, (by_hand, (shape.B, sources, units, units), "bijk,bk->ij"))

    def loss_and_gradient(packed: Any, x: Any, target: Any) -> tuple[Any, Any]:
        def one(carry: Any, now: Any) -> tuple[Any, None]:
            a, p, loss, gradient = carry
            a, p = step(packed, a, p, now[0])
            error = a - now[1]
            gradient = gradient + jnp.einsum(sum_over, p, error).reshape(packed.shape)
            return (a, p, loss + (error * error).sum(), gradient), None

        start = (jnp.zeros((shape.B, units)), jnp.zeros(empty), jnp.zeros(()), jnp.zeros_like(packed))
        (_, _, loss, gradient), _ = jax.lax.scan(one, start, (x, target))
        return loss / target.size, gradient * (2 / target.size)

    compiled = jax.jit(loss_and_gradient)
    return {TASK: Task(lambda: jax.block_until_ready(compiled(weights, x, target)), list)}


def jax_add(shape: Shape) -> dict[str, Task]:
    return _jax("add", shape)


def jax_einsum(shape: Shape) -> dict[str, Task]:
    return _jax("einsum", shape)


def jax_after(shape: Shape) -> dict[str, Task]:
    return _jax("after", shape)


def jax_jacrev(shape: Shape) -> dict[str, Task]:
    return _jax("jacrev", shape)


def jax_jvp(shape: Shape) -> dict[str, Task]:
    if shape.H > 32:
        raise UnavailableError(f"the basis of tangents needs {shape.B}x{(shape.I + shape.H + 1) * shape.H}^2 products")
    return _jax("jvp", shape)


COMPETITORS = (
    Competitor("hand-written, blocks", handwritten_blocks),
    Competitor("hand-written, sliding", handwritten_sliding),
    Competitor("rnngraph numpy", emitted),
    Competitor("rnngraph c", emitted_c),
    Competitor("jax einsum", jax_einsum),
    Competitor("jax add", jax_add),
    Competitor("jax after", jax_after),
    Competitor("jax jacrev", jax_jacrev),
    Competitor("jax jvp", jax_jvp),
)


def exponent(sizes: Sequence[float], times: Sequence[float]) -> float:
    """The e of time = c * size^e by least squares in logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(times), 1)[0])


def time_diagonal(quick: bool) -> list[tuple[int, int, float, float]]:
    """(units, parameters, median milliseconds a step with NumPy, with C) for growing diagonal layers; the sizes take
    turns."""
    import rnngraph as rg

    runs: list[tuple[int, int, list[Callable[[], Any]], list[list[float]]]] = []
    random = np.random.default_rng(0)
    x = random.standard_normal((DIAGONAL_STEPS, 8, 8)).astype(np.float32)
    y = random.standard_normal((DIAGONAL_STEPS, 8, 4)).astype(np.float32)
    for units in DIAGONAL_UNITS[:4] if quick else DIAGONAL_UNITS:
        calls: list[Callable[[], Any]] = []
        for backend in BACKENDS:
            graph = diagonal_graph(8, units, 4)
            kernel = rg.compile(graph, loss="mse", method="rtrl", dtype="float32", backend=backend)
            params = kernel.init(seed=0)

            def run(kernel: Any = kernel, params: Any = params) -> Any:
                return kernel.loss_and_gradient(params, {"x": x}, {"y": y})

            calls.append(run)
        runs.append((units, params.vector.size, calls, [[] for _ in calls]))
    for _ in range(3 if quick else 15):
        for _, _, calls, all_times in runs:
            for call, times in zip(calls, all_times, strict=True):
                call()  # brings caches back from the one before
                start = time.perf_counter()
                call()
                times.append(time.perf_counter() - start)
    rows = []
    for units, size, _, all_times in runs:
        of_numpy, of_c = (1e3 * statistics.median(times) / DIAGONAL_STEPS for times in all_times)
        rows.append((units, size, of_numpy, of_c))
    return rows


def run_online(method: str, options: dict[str, int], backend: str, steps: int) -> tuple[float, float, float]:
    """Resident memory after warm-up and at the end, in MB, and microseconds a step, of ``steps`` online steps."""
    import rnngraph as rg

    graph = recurrent_graph(4, 16)
    kernel = rg.compile(graph, loss="mse", method=method, dtype="float32", backend=backend, **options)
    params, state = kernel.init(seed=0), None
    random = np.random.default_rng(0)
    data = [(random.standard_normal((1, 4)), random.standard_normal((1, 16))) for _ in range(64)]
    after_warm_up, start = 0.0, 0.0
    for t in range(steps):
        if t == WARM_UP:
            after_warm_up, start = resident_megabytes(), time.perf_counter()
        x, target = data[t % len(data)]
        _, _, state = kernel.step_and_gradient(params, state, {"x": x}, {"a": target})
    elapsed = time.perf_counter() - start
    return after_warm_up, resident_megabytes(), 1e6 * elapsed / (steps - WARM_UP)


def dense(only: Sequence[str], quick: bool) -> None:
    """Part one: prints and, unless ``quick``, writes the table."""
    chosen = [competitor for competitor in COMPETITORS if competitor.name in only]
    cores, timings = len(available_cores()), list[Timing]()
    for threads in (1,) if quick or cores < 2 else (1, cores):
        for shape in SHAPES[:1] if quick else SHAPES:
            label = f"T={shape.T} B={shape.B} I={shape.I} H={shape.H}"
            rounds, seconds = (3, 0.05) if quick else (5, 0.5 if shape.H < 128 else 3.0)
            timings += (found := compare(label, shape, chosen, threads, rounds, seconds))
            for timing in found:
                ratio = "" if timing.milliseconds is None else f"{timing.milliseconds:10.3f} ms {timing.ratio:6.2f}"
                print(f"{label:22} {timing.threads:10} {timing.competitor:22} {ratio}{timing.note}", flush=True)
    if not quick:
        print(write("rtrl", "Dense RTRL, float32: ours beside hand-written kernels and JAX", timings))


def scaling(parts: Sequence[str], quick: bool) -> None:
    """Parts two and three, each in processes of one pinned thread: prints and, unless ``quick``, writes the tables."""
    context, steps = multiprocessing.get_context("spawn"), 5 * WARM_UP if quick else ONLINE_STEPS
    machine, data, lines = describe_machine(), dict[str, Any](), ["# RTRL: time by size, memory online"]
    with inherited_threads(1):
        if "diagonal" in parts:
            with context.Pool(1) as pool:
                rows = pool.apply(time_diagonal, (quick,))
            long = [row for row in rows if row[2] >= OVERHEAD_FACTOR * rows[0][2]] or rows
            fitted = exponent([row[1] for row in long], [row[2] for row in long])
            data["diagonal"] = {"rows": rows, "fitted": [row[0] for row in long], "exponent": fitted}
            lines += ["", f"Diagonal RTRL (batch 8, 8 inputs, 4 outputs, float32), T={DIAGONAL_STEPS}, 1 (pinned)."]
            lines += [f"Exponent of time against parameters from {long[0][0]} units on: {fitted:.2f}.", ""]
            lines += ["units | parameters | ms a step | with C", "--- | --- | --- | ---"]
            lines += [f"{units} | {size} | {of_numpy:.4g} | {of_c:.4g}" for units, size, of_numpy, of_c in rows]
        if "online" in parts:
            lines += ["", f"Online, {steps} steps of step_and_gradient (batch 1, 4 inputs, 16 units).", ""]
            lines += ["rule | backend | MB after warm-up | MB at the end | microseconds a step"]
            lines += ["--- | --- | --- | --- | ---"]
            data["online"] = []
            for method, options in ONLINE_RULES:
                for backend in BACKENDS:
                    with context.Pool(1) as pool:
                        first, last, each = pool.apply(run_online, (method, options, backend, steps))
                    row = {"method": method, "backend": backend, "after_warm_up": first, "end": last}
                    data["online"].append(row | {"microseconds": each})
                    lines.append(f"{method} | {backend} | {first:.2f} | {last:.2f} | {each:.1f}")
    lines += ["", ", ".join(f"{name} {value}" for name, value in machine.items())]
    print("\n".join(lines))
    if not quick and set(parts) >= {"diagonal", "online"}:
        (RESULTS / "rtrl_scaling.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
        text = json.dumps({"machine": machine} | data, indent=2) + "\n"
        (RESULTS / "rtrl_scaling.json").write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the chosen parts."""
    names, parts = [competitor.name for competitor in COMPETITORS], ("dense", "diagonal", "online")
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rtrl", description="Times and memory of RTRL.")
    parser.add_argument("--quick", action="store_true", help="small sizes, short turns, nothing written")
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="competitors; the first is the measure")
    parser.add_argument("--part", nargs="+", choices=parts, default=parts)
    options = parser.parse_args(arguments)
    if "dense" in options.part:
        dense(options.only, options.quick)
    if len(options.part) > ("dense" in options.part):
        scaling(options.part, options.quick)


if __name__ == "__main__":
    main()
