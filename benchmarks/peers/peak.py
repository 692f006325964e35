"""The peak of resident memory during a task, in the process that is asked (Linux)."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path

from benchmarks.peers.problems import GRADIENT, Case
from benchmarks.processes import Competitor, UnavailableError


def status_megabytes(field: str) -> float:
    """A field of /proc/self/status in MB (10^6 bytes): VmRSS, resident memory; VmHWM, its peak."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (line,) = (line for line in lines if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024 / 1e6


def reset_peak() -> None:
    """Sets the peak of resident memory to the present value, after freed memory has gone back to the system."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except (OSError, AttributeError) as error:
        raise UnavailableError(f"the peak of resident memory cannot be reset here ({error})") from error


def peak_megabytes(competitor: Competitor, case: Case) -> float:
    """Runs in the fresh process."""
    competitor.setup(case._replace(T=2))[GRADIENT].run()  # of the same batch: oneDNN compiles other code for another
    task = competitor.setup(case)[GRADIENT]
    reset_peak()
    before = status_megabytes("VmRSS")
    for _ in range(2):
        task.run()
    return status_megabytes("VmHWM") - before
