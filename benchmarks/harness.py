"""Times competitors beside each other and writes the table.

Each competitor runs in a process of its own, all on the same core(s). The results are compared first: a table of times
of unequal computations is never written. Then the competitors take turns, round by round, so that a disturbance of the
machine meets all of them; what is reported is the median time of a call and its ratio to the first competitor's.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("numpy", "sympy", "networkx", "torch", "jax", "onnxruntime", "cupy-cuda12x", "cupy-cuda13x")
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


class UnavailableError(Exception):
    """Raised by a setup whose package is not installed; the competitor is left out and the table says why."""


class UnequalError(Exception):
    """Two competitors disagree about a result."""


class Task(NamedTuple):
    """What is timed, ``run``, and how its result is read as NumPy arrays for the comparison, ``read`` (not timed)."""

    run: Callable[[], Any]
    read: Callable[[Any], Sequence[Any]]


@dataclass(frozen=True)
class Competitor:
    """``setup`` is a module-level function from a case to its tasks; it imports what it measures."""

    name: str
    setup: Callable[[Any], Mapping[str, Task]]


@dataclass(frozen=True)
class Timing:
    """One cell of the table; ``note`` says why a time is missing."""

    case: str
    threads: str
    task: str
    competitor: str
    milliseconds: float | None
    ratio: float | None
    note: str = ""


def available_cores() -> list[int]:
    """The cores this process may use, in order; empty where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


@contextmanager
def inherited_threads(threads: int) -> Iterator[None]:
    """Processes started inside use ``threads`` threads, and one core if that is 1.

    Set from outside because BLAS libraries read both once, when they are loaded.
    """
    cores, saved = available_cores(), {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    if threads == 1 and cores:
        os.sched_setaffinity(0, cores[-1:])
    try:
        yield
    finally:
        if cores:
            os.sched_setaffinity(0, cores)
        for name, value in saved.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(competitor: Competitor, case: Any, connection: Connection) -> None:
    """The competitor's process: sets up, then answers ("check", task) and ("time", task, seconds) until told None."""
    try:
        tasks = competitor.setup(case)
    except UnavailableError as error:
        connection.send(str(error))
        return
    connection.send(list(tasks))
    while (request := connection.recv()) is not None:
        task = tasks[request[1]]
        if request[0] == "check":
            connection.send([np.array(part, np.float64) for part in task.read(task.run())])
            continue
        stop = time.perf_counter() + request[2]
        times: list[float] = []
        task.run()  # brings caches back from the competitor before
        while not times or time.perf_counter() < stop:
            start = time.perf_counter()
            task.run()
            times.append(time.perf_counter() - start)
        connection.send(times)


def _require_equal(expected: Sequence[Any], found: Sequence[Any], tolerance: float, where: str) -> None:
    for place, (a, b) in enumerate(zip(expected, found, strict=True)):
        if a.shape != b.shape:
            raise UnequalError(f"{where}, result {place}: shapes {a.shape} and {b.shape}")
        error, size = float(np.max(np.abs(a - b))), float(np.max(np.abs(a)))
        if not error <= tolerance * size:  # false for NaN too
            raise UnequalError(f"{where}, result {place}: largest difference {error:.3g}, largest value {size:.3g}")


def compare(
    label: str,
    case: Any,
    competitors: Sequence[Competitor],
    threads: int = 1,
    rounds: int = 5,
    seconds: float = 0.2,
    tolerance: float = 1e-3,
) -> list[Timing]:
    """Times of all tasks of all competitors on one case; each takes ``rounds`` turns of about ``seconds`` per task.

    Results must agree with the first competitor's within ``tolerance`` of the largest value, else UnequalError.
    """
    context = multiprocessing.get_context("spawn")
    setting = "1 (pinned)" if threads == 1 and available_cores() else str(threads)
    running: dict[str, tuple[Connection, list[str]]] = {}
    timings: list[Timing] = []
    processes: list[Any] = []
    try:
        for competitor in competitors:
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(competitor, case, theirs), daemon=True)
            with inherited_threads(threads):
                process.start()
            processes.append(process)
            theirs.close()  # so that recv raises EOFError when the process dies
            answer = ours.recv()
            if isinstance(answer, str):
                timings.append(Timing(label, setting, "", competitor.name, None, None, answer))
            else:
                running[competitor.name] = (ours, answer)
        tasks = list(dict.fromkeys(task for _, names in running.values() for task in names))
        for task in tasks:
            entrants = {name: connection for name, (connection, names) in running.items() if task in names}
            first, *others = entrants
            results = {name: _ask(connection, ("check", task)) for name, connection in entrants.items()}
            for name in others:
                _require_equal(results[first], results[name], tolerance, f"{label}, {task}: {first} and {name}")
            times: dict[str, list[float]] = {name: [] for name in entrants}
            for _ in range(rounds):
                for name, connection in entrants.items():
                    times[name] += _ask(connection, ("time", task, seconds))
            medians = {name: 1e3 * statistics.median(values) for name, values in times.items()}
            timings += [Timing(label, setting, task, name, ms, ms / medians[first]) for name, ms in medians.items()]
        for connection, _ in running.values():
            connection.send(None)
    finally:
        for connection, _ in running.values():
            connection.close()
        for process in processes:
            process.join(timeout=5)
            if process.is_alive():
                process.terminate()
                process.join()
    return timings


def _ask(connection: Connection, request: tuple[Any, ...]) -> Any:
    connection.send(request)
    return connection.recv()


def describe_machine() -> dict[str, str]:
    """Processor, Python and the versions of the packages that are installed."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    facts = {
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "cores": str(len(available_cores()) or os.cpu_count()),
        "Python": platform.python_version(),
    }
    installed = {distribution.metadata["Name"].lower() for distribution in metadata.distributions()}
    return facts | {name: metadata.version(name) for name in PACKAGES if name in installed}


def resident_megabytes() -> float:
    """Resident memory of this process (Linux)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def markdown(title: str, timings: Sequence[Timing], machine: Mapping[str, str]) -> str:
    """The table as Markdown: a row for each case, number of threads and task; a column for each competitor."""
    names = list(dict.fromkeys(timing.competitor for timing in timings if timing.milliseconds is not None))
    rows: dict[tuple[str, str, str], dict[str, str]] = {}
    for timing in timings:
        if timing.milliseconds is not None:
            ratio = "" if timing.ratio is None or timing.competitor == names[0] else f" ({timing.ratio:.2f})"
            row = rows.setdefault((timing.case, timing.threads, timing.task), {})
            row[timing.competitor] = f"{timing.milliseconds:.3g}{ratio}"
    head = ["case", "threads", "task", *names]
    lines = [f"# {title}", "", f"Medians in ms; in brackets the ratio to {names[0]}.", ""] if names else [f"# {title}"]
    lines += [" | ".join(head), " | ".join(["---"] * len(head))]
    lines += [" | ".join([*key, *(row.get(name, "-") for name in names)]) for key, row in rows.items()]
    missing = dict.fromkeys(f"{t.competitor} left out: {t.note}" for t in timings if t.note)
    lines += ["", ", ".join(f"{name} {value}" for name, value in machine.items()), *(f"\n{line}" for line in missing)]
    return "\n".join(lines) + "\n"


def write(name: str, title: str, timings: Sequence[Timing], results: Path = RESULTS) -> str:
    """Writes ``name``.md and ``name``.json to the folder ``results``; returns the Markdown."""
    machine = describe_machine()
    text = markdown(title, timings, machine)
    results.mkdir(parents=True, exist_ok=True)
    (results / f"{name}.md").write_text(text, encoding="utf-8")
    data = {"title": title, "machine": machine, "timings": [asdict(timing) for timing in timings]}
    (results / f"{name}.json").write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    return text
