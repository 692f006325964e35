"""One figure of the comparison."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from benchmarks.harness import Timing, UnequalError, setting
from benchmarks.peers.problems import GRADIENT, Case
from benchmarks.processes import UnavailableError

ONE_THREAD = setting(1)  # as the tables name it


class Result(NamedTuple):
    """``value`` is in milliseconds, or in the unit that the work's title names; None if ``note`` says why."""

    work: str
    case: str
    threads: str
    task: str
    competitor: str
    value: float | None
    quartiles: tuple[float, float] | None = None
    choice: str = ""
    note: str = ""


def of_timing(work: str, timing: Timing) -> Result:
    """A time of the harness as a figure of a work."""
    return Result(
        work, timing.case, timing.threads, timing.task, timing.competitor, timing.milliseconds,
        timing.quartiles, timing.choice, timing.note,
    )  # fmt: skip


def measured(work: str, case: Case, competitor: str, measure: Callable[[], float], failures: list[str]) -> Result:
    """A figure of loss and gradient on one thread. What is absent is noted, what failed added to ``failures``."""
    value, note = None, ""
    try:
        value = measure()
    except UnavailableError as error:
        note = str(error)
    except UnequalError:
        raise
    except Exception as error:  # whatever the peer raises; BrokenProcessPool if it died
        note = f"failed: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        failures.append(f"{work} {case.label}: {competitor} {note}")
    return Result(work, case.label, ONE_THREAD, GRADIENT, competitor, value, note=note)
