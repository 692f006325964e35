"""One figure of the comparison."""

from __future__ import annotations

from typing import NamedTuple

from benchmarks.harness import Timing


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
