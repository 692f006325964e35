"""Peak memory of a training step of the LSTM: what a process takes more for it than before.

A fresh process each. Before: everything is imported, a step of two time steps and one sequence has been run (whatever
loads at first use is there), parameters, input and target exist. Then the peak is reset (Linux), two steps are run, and
what counts is how far the peak of resident memory lies above the resident memory before.
"""

from __future__ import annotations

import ctypes
import gc
from functools import partial
from pathlib import Path

from benchmarks.peers import ours, torch_layers
from benchmarks.peers.problems import GRADIENT, Case
from benchmarks.peers.result import Result
from benchmarks.peers.works import OURS, sized
from benchmarks.processes import Competitor, UnavailableError, in_fresh_process

NAME = "memory"
TITLE = "Peak memory of a training step of the LSTM, MB above the process before, (T, B, I, H)"
CASES = sized("lstm", (100, 32, 64, 128), (128, 64, 256, 512), (784, 64, 1, 128))
COMPETITORS = (
    *(Competitor(name, partial(ours.setup, backend=name.split()[1])) for name in OURS),
    Competitor("torch nn.LSTM", torch_layers.setup),
)


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
    competitor.setup(case._replace(T=2, B=1))[GRADIENT].run()
    task = competitor.setup(case)[GRADIENT]
    reset_peak()
    before = status_megabytes("VmRSS")
    for _ in range(2):
        task.run()
    return status_megabytes("VmHWM") - before


def measure(quick: bool) -> list[Result]:
    """All cases, or the first."""
    found = []
    for case in CASES[:1] if quick else CASES:
        for competitor in COMPETITORS:
            value, note = None, ""
            try:
                value = in_fresh_process(1, peak_megabytes, competitor, case)
            except UnavailableError as error:
                note = str(error)
            found.append(Result(NAME, case.label, "1 (pinned)", GRADIENT, competitor.name, value, note=note))
    return found
