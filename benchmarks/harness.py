"""Times competitors beside each other and writes the table.

Each competitor runs in a process of its own, all on the same core(s). The results are compared first: a table of times
of unequal computations is never written. Then the competitors take turns, round by round, so that a disturbance of the
machine meets all of them; what is reported is the median time of a call and its ratio to the first competitor's.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.processes import Competitor, Processes, UnavailableError, available_cores

RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = (
    "numpy",
    "sympy",
    "networkx",
    "torch",
    "jax",
    "onnxruntime",
    "pytensor",
    "numba",
    "cupy-cuda12x",
    "cupy-cuda13x",
)


class UnequalError(Exception):
    """Two competitors disagree about a result."""


@dataclass(frozen=True)
class Timing:
    """One cell of the table: the median, its ratio to the first competitor's, and the quartiles of all calls.

    ``note`` says why a time is missing; ``choice`` is the competitor's best setting, where it tried several.
    """

    case: str
    threads: str
    task: str
    competitor: str
    milliseconds: float | None
    ratio: float | None
    note: str = ""
    quartiles: tuple[float, float] | None = None
    choice: str = ""


def require_equal(expected: Sequence[Any], found: Sequence[Any], tolerance: float, where: str) -> None:
    """UnequalError unless all arrays agree within ``tolerance`` of the largest value of the expected one."""
    for place, (a, b) in enumerate(zip(expected, found, strict=True)):
        if a.shape != b.shape:
            raise UnequalError(f"{where}, result {place}: shapes {a.shape} and {b.shape}")
        error, size = float(np.max(np.abs(a - b))), float(np.max(np.abs(a)))
        if not error <= tolerance * size:  # false for NaN too
            raise UnequalError(f"{where}, result {place}: largest difference {error:.3g}, largest value {size:.3g}")


def setting(threads: int) -> str:
    """The number of threads as the table names it."""
    return "1 (pinned)" if threads == 1 and available_cores() else str(threads)


def compare(
    label: str,
    case: Any,
    competitors: Sequence[Competitor],
    threads: int = 1,
    rounds: int = 5,
    seconds: float = 0.2,
    tolerance: float = 1e-3,
) -> list[Timing]:
    """Times of all tasks of all competitors on one case, in processes that end with it; see ``compare_in``."""
    with Processes(threads) as processes:
        return compare_in(processes, label, case, competitors, rounds, seconds, tolerance)


def compare_in(
    processes: Processes,
    label: str,
    case: Any,
    competitors: Sequence[Competitor],
    rounds: int = 5,
    seconds: float = 0.2,
    tolerance: float = 1e-3,
    patience: float = float("inf"),
) -> list[Timing]:
    """Times of all tasks of all competitors on one case; each takes ``rounds`` turns of about ``seconds`` per task.

    Results must agree with the first competitor's within ``tolerance`` of the largest value, else UnequalError. A
    competitor that has taken two turns and more than ``patience`` seconds for a task takes no more.
    """
    threads = setting(processes.threads)
    timings: list[Timing] = []
    choices: dict[str, dict[str, str]] = {}  # by competitor, then task
    for competitor in competitors:
        try:
            choices[competitor.name] = processes.ask(competitor.runs_in, "setup", competitor, case)
        except UnavailableError as error:
            timings.append(Timing(label, threads, "", competitor.name, None, None, str(error)))
    for task in dict.fromkeys(task for tasks in choices.values() for task in tasks):
        entrants = {each.name: each.runs_in for each in competitors if task in choices.get(each.name, ())}
        first, *others = entrants
        results = {name: processes.ask(process, "check", name, task) for name, process in entrants.items()}
        for name in others:
            require_equal(results[first], results[name], tolerance, f"{label}, {task}: {first} and {name}")
        times: dict[str, list[float]] = {name: [] for name in entrants}
        for turn in range(rounds):
            for name, process in entrants.items():
                if turn < 2 or sum(times[name]) < patience:
                    times[name] += processes.ask(process, "time", name, task, seconds)
        medians = {name: 1e3 * statistics.median(values) for name, values in times.items()}
        for name, ms in medians.items():
            low, high = (1e3 * float(value) for value in np.quantile(times[name], (0.25, 0.75)))
            ratio, choice = ms / medians[first], choices[name][task]
            timings.append(Timing(label, threads, task, name, ms, ratio, quartiles=(low, high), choice=choice))
    return timings


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
