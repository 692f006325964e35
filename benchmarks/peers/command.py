"""The command: what runs, in which order, and where the tables go."""

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import streaming
from benchmarks.harness import RESULTS, UnequalError, compare_in, describe_machine
from benchmarks.peers import first_result, memory
from benchmarks.peers.result import Result, of_timing
from benchmarks.peers.table import markdown, write
from benchmarks.peers.works import WORKS, Work
from benchmarks.processes import CompetitorError, Processes, available_cores

EXTRA: dict[str, Callable[[bool, list[str]], list[Result]]] = {
    first_result.NAME.replace(" ", "-"): first_result.measure,
    memory.NAME: memory.measure,
}
EXTRA_NAMES = {first_result.NAME, memory.NAME}
NAMES = (*(work.name for work in WORKS), *EXTRA)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers",
        description="rnngraph beside torch, JAX, ONNX Runtime and PyTensor on the CPU: times, memory, first results. "
        "A run of all works on one thread and on all writes benchmarks/results/peers.md and peers.json.",
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, short turns, one thread; writes nothing")
    parser.add_argument("--work", default=",".join(NAMES), help=f"some of {','.join(NAMES)}; writes nothing")
    parser.add_argument("--threads", choices=["1", "all", "both"], help="one pinned thread, all, or both (default)")
    parser.add_argument("--rounds", type=int, help="turns of each competitor")
    parser.add_argument("--output", type=Path, help="folder for the tables, whatever was run")
    options = parser.parse_args(arguments)
    options.work = [name.strip() for name in options.work.split(",")]
    if unknown := sorted(set(options.work) - set(NAMES)):
        parser.error(f"--work: no {', '.join(unknown)}; there are {', '.join(NAMES)}")
    options.rounds = options.rounds or (3 if options.quick else 5)
    if not options.quick and set(options.work) == set(NAMES) and options.threads in (None, "both"):
        options.output = options.output or RESULTS
    options.threads = options.threads or ("1" if options.quick else "both")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs, prints and writes. Status 1 if a competitor failed; nothing is written and the status is 2 if one computes
    something else, 130 after Ctrl-C."""
    options = parse(arguments)
    failures: list[str] = []
    start, load = time.perf_counter(), load_average()
    try:
        results = measure(options, failures)
    except UnequalError as error:
        print(f"\nNot equal, nothing is written: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped, nothing is written.", file=sys.stderr)
        return 130
    machine = describe_machine() | describe_compiler() | {"load average before": load, "after": load_average()}
    print(f"\n{markdown(results, machine, failures)}\n{time.perf_counter() - start:.0f} s")
    if options.output:
        write(options.output, results, machine, failures)
    return 1 if failures else 0


def measure(options: argparse.Namespace, failures: list[str]) -> list[Result]:
    """All figures that the options ask for; what failed is added to ``failures``."""
    results: list[Result] = []
    cores = len(available_cores()) or 1
    numbers = {"1": [1], "all": [cores], "both": [1, cores]}[options.threads]
    for threads in dict.fromkeys(numbers):
        with Processes(threads) as processes:
            for work in WORKS:
                if work.name in options.work:
                    results += run(work, processes, options.quick, options.rounds, failures)
    for name, extra in EXTRA.items():
        if name in options.work:
            results += shown(extra(options.quick, failures))
    return results


def run(work: Work, processes: Processes, quick: bool, rounds: int, failures: list[str]) -> list[Result]:
    """One work's figures, printed as they come; what failed is added to ``failures``, and the rest goes on."""
    results: list[Result] = []
    for case in work.quick() if quick else work.cases:
        name = label(case)
        seconds, patience = (0.05, 0.5) if quick else (0.15, 6.0)
        competitors = list(work.competitors)
        while competitors:
            try:
                timings = compare_in(processes, name, case, competitors, rounds, seconds, patience=patience)
            except CompetitorError as error:
                message, failed = error.args
                failures.append(f"{work.name} {name}: {failed} failed: {str(message).strip().splitlines()[-1]}")
                print(message, flush=True)
                competitors = [each for each in competitors if each.name != failed]
                continue
            results += shown([of_timing(work.name, timing) for timing in timings])
            break
    return results


def label(case: Any) -> str:
    """The size as the tables name it."""
    return streaming.label(case) if isinstance(case, streaming.LSTM) else str(case.label)


def shown(results: list[Result]) -> list[Result]:
    """The same, printed."""
    for r in results:
        figure = f"{r.value:10.3f}" if r.value is not None else r.note
        print(f"{r.work:12} {r.case:44} {r.threads:10} {r.task:20} {r.competitor:28} {figure} {r.choice}", flush=True)
    return results


def describe_compiler() -> dict[str, str]:
    """The C compiler that the C backend takes, and the flags that the user adds."""
    names = ("cc", "gcc", "clang")
    command = shlex.split(os.environ.get("CC", "")) or [name for name in names if shutil.which(name)][:1]
    if not command and importlib.util.find_spec("ziglang") is not None:
        command = [sys.executable, "-m", "ziglang", "cc"]
    if not command or not shutil.which(command[0]):
        return {}
    lines = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False).stdout.splitlines()
    flags = os.environ.get("CFLAGS")
    return ({"C compiler": lines[0]} if lines else {}) | ({"CFLAGS": flags} if flags else {})


def load_average() -> str:
    """Of the last minute: above the number of busy cores that this command itself needs, others disturbed it."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
