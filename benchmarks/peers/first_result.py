"""From a network's declaration to the first loss and gradient, everything compiled anew, in a fresh process each.

Imports are not counted: they come first, torch's compiler and the start of JAX's CPU client among them. Then the clock
runs from the declaration (the graph, or the functions of the peer) to the first result. Caches on disk are empty, but
for "rnngraph c, cached", whose core was compiled by another process before.
"""

from __future__ import annotations

import importlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers import jax_scan, ours, torch_loops
from benchmarks.peers.problems import GRADIENT, Case
from benchmarks.peers.result import Result
from benchmarks.peers.torch_layers import import_torch
from benchmarks.peers.works import NUMPY, C, sized
from benchmarks.processes import UnavailableError, in_fresh_process

NAME = "first result"
TITLE = "From the graph to the first loss and gradient of the LSTM (imports not counted), ms, (T, B, I, H)"
CASES = sized("lstm", (100, 1, 8, 16), (100, 32, 64, 128))
REPEATS = 3
CACHES = ("RNNGRAPH_CACHE", "TORCHINDUCTOR_CACHE_DIR")

Declare = Callable[[], Any]  # -> the task's result


def ours_numpy(case: Case) -> Declare:
    return lambda: ours.setup(case, "numpy")[GRADIENT].run()


def ours_c(case: Case) -> Declare:
    return lambda: ours.setup(case, "c")[GRADIENT].run()


def jax_jit(case: Case) -> Declare:
    jax = jax_scan.import_jax()
    jax.block_until_ready(jax.numpy.zeros(1))
    return lambda: jax_scan.tasks_of(jax, case, 1)[GRADIENT].run()


def torch_compile(case: Case) -> Declare:
    torch = import_torch()
    for module in ("torch._dynamo", "torch._inductor.compile_fx"):
        importlib.import_module(module)

    def declare() -> Any:
        chunk = torch.compile(torch_loops.lstm_chunk(torch), dynamic=False)
        return torch_loops.loop_task(torch, case, chunk, 1).run()

    return declare


def milliseconds(prepare: Callable[[Case], Declare], case: Case, cache: str) -> float:
    """Runs in the fresh process."""
    os.environ.update(dict.fromkeys(CACHES, cache))
    declare = prepare(case)
    start = time.perf_counter()
    declare()
    return 1e3 * (time.perf_counter() - start)


SIDES: tuple[tuple[str, Callable[[Case], Declare]], ...] = (
    (NUMPY, ours_numpy),
    (C, ours_c),
    ("JAX jit, unroll 1", jax_jit),
    ("torch.compile, step by step", torch_compile),
)


def measure(quick: bool) -> list[Result]:
    """All cases, or the first; torch.compile, which takes long, once."""
    found = []
    for case in CASES[:1] if quick else CASES:
        for name, prepare in SIDES:
            repeats = 1 if quick or prepare is torch_compile else REPEATS
            with tempfile.TemporaryDirectory() as folder:
                caches = [str(Path(folder) / str(k)) for k in range(repeats)]
                found.append(_measured(name, prepare, case, caches))
                if prepare is ours_c and found[-1].value is not None:
                    found.append(_measured(f"{C}, cached", prepare, case, caches[:1] * repeats))
    return found


def _measured(name: str, prepare: Callable[[Case], Declare], case: Case, caches: Sequence[str]) -> Result:
    value, note = None, ""
    try:
        value = statistics.median(in_fresh_process(1, milliseconds, prepare, case, cache) for cache in caches)
    except UnavailableError as error:
        note = str(error)
    except Exception as error:
        if prepare is not torch_compile:
            raise
        note = f"failed: {type(error).__name__}: {str(error).strip().splitlines()[0]}"
    return Result(NAME, case.label, "1 (pinned)", GRADIENT, name, value, note=note)
