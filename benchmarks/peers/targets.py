"""The figures that the project wants: ratios peer's value / ours, on one pinned thread, float32. Higher is better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.peers import first_result, memory, streams
from benchmarks.peers.problems import FORWARD, GRADIENT
from benchmarks.peers.result import Result
from benchmarks.peers.works import NUMPY, OURS, SIZES, C


class Target(NamedTuple):
    """One row: several peers mean the best of them; ``numpy`` and ``c`` are what the ratio should be, if anything."""

    title: str
    work: str
    case: str
    task: str
    peers: tuple[str, ...]
    numpy: float | None
    c: float | None


class Verdict(NamedTuple):
    """A target beside what was measured: the peer that counted, its value, and (value, ratio, target) of ours."""

    target: Target
    peer: str
    value: float
    ours: dict[str, tuple[float, float, float | None]]


def _labels(sizes: Sequence[tuple[int, ...]]) -> list[str]:
    return [f"({', '.join(map(str, size))})" for size in sizes]


def _at_sizes(
    title: str, task: str, peers: tuple[str, ...], numpy: Sequence[float | None], c: Sequence[float | None]
) -> list[Target]:
    return [
        Target(title, "lstm", label, task, peers, *wanted)
        for label, *wanted in zip(_labels(SIZES), numpy, c, strict=True)
    ]


LAYER, JAX, ONNX = "torch nn.LSTM", "JAX scan", "ONNX Runtime"
CELL = "(200, 32, 64, 128)"
BOTH = "LSTM, forward + gradient"
FIRST, COMPILED = "JAX jit, unroll 1", "torch.compile, step by step"
TARGETS: tuple[Target, ...] = (
    *_at_sizes(BOTH, GRADIENT, (LAYER,), (0.45, 0.45, 0.85, 1.15, 1.3), (4, 3, 1.5, 1.4, 2)),
    *_at_sizes("LSTM, forward", FORWARD, (LAYER, ONNX, JAX), (None,) * 5, (1.0, 1.3, 1.2, 1.0, 1.2)),
    *_at_sizes(BOTH, GRADIENT, (JAX,), (None, 0.4, 1.8, 1.4, 2.1), (2.5, 2.5, 3, 1.8, 3)),
    Target("custom delayed cell, forward + gradient", "delayed", CELL, GRADIENT, ("torch eager",), 7, 15),
    Target("custom delayed cell, forward + gradient", "delayed", CELL, GRADIENT, ("torch eager, as written",), 7, 15),
    Target("custom delayed cell, forward + gradient", "delayed", CELL, GRADIENT, (JAX,), 1.8, 4),
    Target("streaming step, saved file", "streaming", "LSTM B=1 I=8 H=16", streams.SAVED, (ONNX,), 0.5, 5),
    Target("streaming step, kernel.stream", "streaming", "LSTM B=1 I=8 H=16", streams.KERNEL, (ONNX,), 0.5, 5),
    *(
        Target("graph to first result", first_result.NAME, case.label, GRADIENT, (peer,), *wanted)
        for peer, wanted in ((FIRST, (2.0, 1.0)), (COMPILED, (10.0, 3.0)))
        for case in first_result.CASES
    ),
    *(
        Target("peak memory of a training step", memory.NAME, case.label, GRADIENT, (LAYER,), 1.0, 1.2)
        for case in memory.CASES
    ),
)


def verdicts(results: Sequence[Result], threads: str) -> list[Verdict]:
    """The targets whose figures are there."""
    values = {(r.work, r.case, r.task, r.competitor): r.value for r in results if r.threads == threads}
    found = []
    for target in TARGETS:
        place = target.work, target.case, target.task
        measured = {peer: value for peer in target.peers if (value := values.get((*place, peer))) is not None}
        own = {name: value for name in OURS if (value := values.get((*place, name))) is not None}
        if not measured or not own:
            continue
        peer = min(measured, key=lambda name: measured[name])
        wanted = {NUMPY: target.numpy, C: target.c}
        ours = {name: (value, measured[peer] / value, wanted[name]) for name, value in own.items()}
        found.append(Verdict(target, peer, measured[peer], ours))
    return found


def wanted_ratios(results: Sequence[Result], threads: str) -> int:
    """How many ratios the targets want of the works and sizes that were run, measured or not."""
    run = {(r.work, r.case) for r in results if r.threads == threads}
    here = [target for target in TARGETS if (target.work, target.case) in run]
    return sum(ratio is not None for target in here for ratio in (target.numpy, target.c))


def reached(ratio: float, wanted: float) -> bool:
    """Compared as printed, to two digits after the point."""
    return round(ratio, 2) >= round(wanted, 2)
