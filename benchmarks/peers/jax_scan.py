"""JAX: `lax.scan` under `jit`, the best of several unrollings and, with longer delays, of two forms of the past."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.peers import loops
from benchmarks.peers.problems import FORWARD, GRADIENT, LONGEST, Case, in_order, make
from benchmarks.processes import Task, UnavailableError, given_threads

UNROLLINGS = (1, 4, 8)


def import_jax() -> Any:
    """JAX on the CPU, calls in the order of the program, with as many threads as the process was given."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    if given_threads() == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    try:
        import jax
    except ImportError as error:
        raise UnavailableError("jax is not installed") from error
    jax.config.update("jax_cpu_enable_async_dispatch", False)  # each call is waited for: handing over would cost
    return jax


def setup(case: Case, unrollings: Sequence[int] = UNROLLINGS) -> dict[str, Task]:
    """The tasks: each in its quickest form."""
    jax = import_jax()
    return {name: quickest(jax, case, name, unrollings) for name in case.tasks}


def quickest(jax: Any, case: Case, name: str, unrollings: Sequence[int]) -> Task:
    """One task, the quickest of all unrollings; the delayed cell also with its past in one array."""
    best, least = None, float("inf")
    for unroll in unrollings:
        task = tasks_of(jax, case, unroll)[name]
        if (seconds := least_seconds(task)) < least:
            best, least = task._replace(choice=f"unroll {unroll}"), seconds
    if case.network == "delayed":
        task = tasks_of(jax, case, 1, one_array=True)[name]
        if least_seconds(task) < least:
            best = task._replace(choice="unroll 1, past in one array")
    assert best is not None
    return best


def least_seconds(task: Task, calls: int = 3, seconds: float = 0.05) -> float:
    """The time of the quickest call of at least some and so many seconds, after the one that compiles."""
    task.run()
    times: list[float] = []
    while len(times) < calls or sum(times) < seconds:
        start = time.perf_counter()
        task.run()
        times.append(time.perf_counter() - start)
    return min(times)


def tasks_of(jax: Any, case: Case, unroll: int, one_array: bool = False) -> dict[str, Task]:
    """The tasks with one unrolling; nothing is compiled yet."""
    problem = make(case)
    own = case.network in loops.OWN_CELLS
    if own:
        network = delayed(jax, case, one_array) if case.network == "delayed" else narx(jax, case)
        rows, values = loops.packed_cell(case, problem)
    else:
        network, rows, values = layered(jax, case), problem.x, loops.packed_layers(case, problem.parameters)
    x, target = jax.numpy.asarray(rows), jax.numpy.asarray(problem.target)
    parameters = jax.tree.map(jax.numpy.asarray, values)

    def loss_of(parameters: Any, x: Any, target: Any) -> Any:
        return ((network(parameters, x, unroll) - target) ** 2).mean()

    forward = jax.jit(lambda parameters, x: network(parameters, x, unroll))
    loss_and_gradient = jax.jit(jax.value_and_grad(loss_of))

    def read(result: Any) -> list[Any]:
        named = loops.named_cell if own else loops.named_layers
        return in_order(case, result[0], named(case, result[1]))

    tasks = {
        FORWARD: Task(lambda: jax.block_until_ready(forward(parameters, x)), lambda h: [h]),
        GRADIENT: Task(lambda: jax.block_until_ready(loss_and_gradient(parameters, x, target)), read),
    }
    return {name: tasks[name] for name in case.tasks}


def before_the_loop(parameters: dict[str, Any], x: Any) -> Any:
    """One product for all time steps."""
    T, B, sources = x.shape
    return (x.reshape(T * B, sources) @ parameters["W"] + parameters["b"]).reshape(T, B, -1)


def layered(jax: Any, case: Case) -> Callable[..., Any]:
    """LSTM, GRU, Elman network, or a stack of LSTMs."""
    numpy, sigmoid, H = jax.numpy, jax.nn.sigmoid, case.H

    def lstm(p: Any, state: Any, sum_t: Any) -> Any:
        h, c = state
        s = sum_t + h @ p["R"]
        i, f, z, o = (s[:, k * H : (k + 1) * H] for k in range(4))
        c = sigmoid(f) * c + sigmoid(i) * numpy.tanh(z)
        h = sigmoid(o) * numpy.tanh(c)
        return (h, c), h

    def gru(p: Any, h: Any, sum_t: Any) -> Any:
        s = h @ p["R"]
        r, z = sigmoid(sum_t[:, :H] + s[:, :H]), sigmoid(sum_t[:, H : 2 * H] + s[:, H : 2 * H])
        n = numpy.tanh(sum_t[:, 2 * H :] + r * (s[:, 2 * H :] + p["b_r"]))
        h = (1 - z) * n + z * h
        return h, h

    def elman(p: Any, h: Any, sum_t: Any) -> Any:
        h = numpy.tanh(sum_t + h @ p["R"])
        return h, h

    cell = {"gru": gru, "elman": elman}.get(case.network, lstm)

    def network(parameters: Any, x: Any, unroll: int) -> Any:
        zero = numpy.zeros((case.B, H), numpy.float32)
        for p in parameters:
            start = (zero, zero) if cell is lstm else zero
            step = jax.tree_util.Partial(cell, p)
            x = jax.lax.scan(step, start, before_the_loop(p, x), unroll=unroll)[1]
        return x

    return network


def delayed(jax: Any, case: Case, one_array: bool) -> Callable[..., Any]:
    """The delayed cell; the past five outputs are one array that is moved on, or five."""
    numpy, H = jax.numpy, case.H

    def network(p: Any, x: Any, unroll: int) -> Any:
        R1, R5 = p["R15"][:H], p["R15"][H:]

        def step(past: Any, sum_t: Any) -> Any:
            s = sum_t[:, :H] + past[4] @ R1 + past[0] @ R5
            h = numpy.tanh(s) * jax.nn.sigmoid(sum_t[:, H:] + past[3] @ p["R2"])
            return (numpy.concatenate([past[1:], h[None]]) if one_array else (*past[1:], h)), h

        zero = numpy.zeros((case.B, H), numpy.float32)
        start = numpy.zeros((5, case.B, H), numpy.float32) if one_array else (zero,) * 5
        return jax.lax.scan(step, start, before_the_loop(p, x), unroll=unroll)[1]

    return network


def narx(jax: Any, case: Case) -> Callable[..., Any]:
    """The NARX network; its past outputs side by side."""
    numpy = jax.numpy

    def network(p: Any, x: Any, unroll: int) -> Any:
        def step(past: Any, sum_t: Any) -> Any:
            y = numpy.tanh(sum_t + past @ p["R"]) @ p["V"] + p["b_y"]
            return numpy.concatenate([y, past[:, :-1]], 1), y

        start = numpy.zeros((case.B, LONGEST), numpy.float32)
        return jax.lax.scan(step, start, before_the_loop(p, x), unroll=unroll)[1]

    return network
