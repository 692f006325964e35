"""From a network's declaration to the first loss and gradient, everything compiled anew, in a fresh process each.

Imports are not counted: they come first, torch's compiler, the start of JAX's CPU client and what sympy imports late
among them. Then the clock runs from the declaration (the graph, or the functions of the peer) to the first result: all
that is derived, emitted and compiled, by the C compiler too. Caches on disk are empty, JAX's is off, but for
"rnngraph c, cached", whose core was compiled by another process before. All first results must be equal.
"""

from __future__ import annotations

import importlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import require_equal
from benchmarks.peers import jax_scan, ours, torch_loops
from benchmarks.peers.problems import GRADIENT, Case
from benchmarks.peers.result import Result, measured
from benchmarks.peers.torch_layers import import_torch
from benchmarks.peers.works import NUMPY, C, sized
from benchmarks.processes import Task, in_fresh_process

NAME = "first result"
TITLE = (
    "From the graph to the first loss and gradient of the LSTM "
    "(compiled anew, empty caches on disk; imports not counted), ms, (T, B, I, H)"
)
CASES = sized("lstm", (100, 1, 8, 16), (100, 32, 64, 128))
REPEATS = 3
CACHES = ("RNNGRAPH_CACHE", "TORCHINDUCTOR_CACHE_DIR")

TOLERANCE = 1e-3

Declare = Callable[[], Task]  # nothing is compiled before its call, or before the task's


def _import_what_is_imported_late() -> None:
    """What sympy and NumPy import when they are first used."""
    for module in ("sympy.tensor.tensor", "numpy.random"):
        importlib.import_module(module)


def ours_numpy(case: Case) -> Declare:
    _import_what_is_imported_late()
    return lambda: ours.setup(case, "numpy")[GRADIENT]


def ours_c(case: Case) -> Declare:
    _import_what_is_imported_late()
    return lambda: ours.setup(case, "c")[GRADIENT]


def jax_jit(case: Case) -> Declare:
    jax = jax_scan.import_jax()
    jax.block_until_ready(jax.numpy.zeros(1))
    return lambda: jax_scan.tasks_of(jax, case, 1)[GRADIENT]


def torch_compile(case: Case) -> Declare:
    torch = import_torch()
    for module in ("torch._dynamo", "torch._inductor.compile_fx"):
        importlib.import_module(module)

    def declare() -> Task:
        chunk = torch.compile(torch_loops.lstm_chunk(torch), dynamic=False)
        task = torch_loops.loop_task(torch, case, chunk, 1)
        return task._replace(run=partial(torch_loops.first_run, task))

    return declare


def milliseconds(prepare: Callable[[Case], Declare], case: Case, cache: str) -> tuple[float, list[Any]]:
    """The time and the first loss and gradient; runs in the fresh process."""
    os.environ.update(dict.fromkeys(CACHES, cache))
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
    declare = prepare(case)
    start = time.perf_counter()
    task = declare()
    result = task.run()
    elapsed = time.perf_counter() - start
    return 1e3 * elapsed, [np.array(part, np.float64) for part in task.read(result)]


SIDES: tuple[tuple[str, Callable[[Case], Declare]], ...] = (
    (NUMPY, ours_numpy),
    (C, ours_c),
    ("JAX jit, unroll 1", jax_jit),
    ("torch.compile, step by step", torch_compile),
)


def median(
    prepare: Callable[[Case], Declare], case: Case, caches: Sequence[str], expected: list[Any], name: str
) -> float:
    """The median time of fresh processes, one for each cache. All must compute ``expected``, which the first fills."""
    times = []
    for cache in caches:
        elapsed, arrays = in_fresh_process(1, milliseconds, prepare, case, cache)
        expected[:] = expected or arrays
        require_equal(expected, arrays, TOLERANCE, f"{NAME}, {case.label}: the first competitor and {name}")
        times.append(elapsed)
    return statistics.median(times)


def measure(quick: bool, failures: list[str]) -> list[Result]:
    """All cases, or the first; torch.compile, which takes long, once."""
    found: list[Result] = []
    for case in CASES[:1] if quick else CASES:
        expected: list[Any] = []
        for name, prepare in SIDES:
            repeats = 1 if quick or prepare is torch_compile else REPEATS
            with tempfile.TemporaryDirectory() as folder:
                caches = [str(Path(folder) / str(k)) for k in range(repeats)]
                runs = [(name, caches)] + ([(f"{C}, cached", caches[:1] * repeats)] if prepare is ours_c else [])
                for title, given in runs:
                    timed = partial(median, prepare, case, given, expected, title)
                    found.append(measured(NAME, case, title, timed, failures))
    return found
