"""Peak memory of a training step of the LSTM: what a process takes more for it than before.

A fresh process each. Before: everything is imported, two time steps at the same batch have been run (whatever loads or
is compiled at first use is there), parameters, input and target exist, freed memory has gone back to the system. Then
the peak is reset (Linux), two training steps are run, and what counts is how far the peak of resident memory lies above
the resident memory before: histories, buffers, outputs, gradients; neither imports nor parameters nor data.
"""

from __future__ import annotations

from functools import partial

from benchmarks.peers import ours, torch_layers
from benchmarks.peers.peak import peak_megabytes
from benchmarks.peers.result import Result, measured
from benchmarks.peers.works import OURS, sized
from benchmarks.processes import Competitor, in_fresh_process

NAME = "memory"
TITLE = (
    "Peak memory of a training step of the LSTM, MB above that of the process before it "
    "(imports, parameters and data not counted; gradients counted), (T, B, I, H)"
)
CASES = sized("lstm", (100, 32, 64, 128), (128, 64, 256, 512), (784, 64, 1, 128))
COMPETITORS = (
    *(Competitor(name, partial(ours.setup, backend=name.split()[1])) for name in OURS),
    Competitor("torch nn.LSTM", torch_layers.setup),
)


def measure(quick: bool, failures: list[str]) -> list[Result]:
    """All cases, or the first."""
    return [
        measured(NAME, case, each.name, partial(in_fresh_process, 1, peak_megabytes, each, case), failures)
        for case in (CASES[:1] if quick else CASES)
        for each in COMPETITORS
    ]
