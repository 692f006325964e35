"""What is compared: for each work its networks and sizes, and who takes part. Ours is first: all must equal it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks import tdnn
from benchmarks.peers import jax_scan, onnx_session, ours, pytensor_scan, streams, torch_layers, torch_loops
from benchmarks.peers.problems import Case
from benchmarks.processes import Competitor
from benchmarks.streaming import LSTM

NUMPY, C = "rnngraph numpy", "rnngraph c"
OURS = (NUMPY, C)


@dataclass(frozen=True)
class Work:
    """A row of networks that are alike: one table."""

    name: str
    title: str
    cases: tuple[Any, ...]
    competitors: tuple[Competitor, ...]

    def quick(self) -> tuple[Any, ...]:
        """The first two cases: the smallest."""
        return self.cases[:2]


def both() -> tuple[Competitor, ...]:
    """Ours: the NumPy module and the C backend."""
    return tuple(Competitor(name, partial(ours.setup, backend=name.split()[1])) for name in OURS)


def peers(network: str) -> tuple[Competitor, ...]:
    """All who have the network, each process by its package."""
    jax = Competitor("JAX scan", jax_scan.setup, "jax")
    pytensor = Competitor("PyTensor scan", pytensor_scan.setup, "pytensor")
    if network in ("delayed", "narx"):
        eager = Competitor("torch eager", torch_loops.eager, "torch")
        compiled = Competitor("torch.compile", torch_loops.compiled, "torch.compile")
        if network == "narx":
            return (*both(), eager, compiled, jax)
        as_written = Competitor("torch eager, as written", torch_loops.as_written, "torch")
        return (*both(), eager, as_written, compiled, jax, pytensor)
    layer = Competitor(f"torch nn.{torch_layers.LAYERS[network]}", torch_layers.setup, "torch")
    onnx = Competitor("ONNX Runtime", onnx_session.setup, "onnxruntime")
    if network == "lstm":
        return (*both(), Competitor("hand-written NumPy", ours.handwritten), layer, jax, onnx, pytensor)
    return (*both(), layer, jax, onnx)


def sized(network: str, *sizes: tuple[int, int, int, int]) -> tuple[Case, ...]:
    """Cases of one network."""
    return tuple(Case(network, *size) for size in sizes)


SIZES = ((100, 1, 8, 16), (200, 1, 64, 64), (100, 32, 64, 128), (128, 64, 256, 512), (784, 64, 1, 128))
TWO_SIZES = (SIZES[1], SIZES[2])
CELL_SIZES = ((100, 1, 8, 16), (200, 32, 32, 64), (200, 32, 64, 128), (128, 64, 256, 512))

WORKS: tuple[Work, ...] = (
    Work("lstm", "LSTM, (T, B, I, H)", sized("lstm", *SIZES), peers("lstm")),
    Work(
        "delayed",
        "Custom delayed cell, h(t) = tanh(x W + h(t-1) R1 + h(t-5) R5) * sigmoid(x G + h(t-2) R2), (T, B, I, H)",
        sized("delayed", *CELL_SIZES),
        peers("delayed"),
    ),
    Work("stack", "Three LSTM layers, (T, B, I, H)", sized("stack", SIZES[2]), peers("stack")),
    Work("gru", "GRU, (T, B, I, H)", sized("gru", *TWO_SIZES), peers("gru")),
    Work("elman", "Elman network, (T, B, I, H)", sized("elman", *TWO_SIZES), peers("elman")),
    Work("narx", "NARX in closed loop, T_x = T_y = 10, (T, B, I, H)", sized("narx", (200, 32, 1, 32)), peers("narx")),
    Work(
        "tdnn",
        "Time-delay network",
        (tdnn.SHAPES[0], tdnn.SHAPES[2]),
        (
            *(Competitor(name, partial(tdnn.emitted, backend=name.split()[1], only=tdnn.WEIGHTS)) for name in OURS),
            Competitor("torch conv1d", partial(tdnn.torch_tasks, "torch conv1d", only=tdnn.WEIGHTS), "torch"),
            Competitor(
                "torch conv2d, channels last",
                partial(tdnn.torch_tasks, "torch conv2d, channels last", only=tdnn.WEIGHTS),
                "torch",
            ),
        ),
    ),
    Work(
        "streaming",
        "Streams: 1000 steps one at a time (ms for all: microseconds a step)",
        (LSTM(1, 8, 16),),
        (
            *(Competitor(name, partial(streams.ours, backend=name.split()[1])) for name in OURS),
            Competitor("ONNX Runtime", streams.onnx, "onnxruntime"),
        ),
    ),
)


def chosen(names: Sequence[str]) -> list[Work]:
    """The works with these names, in the order of the table."""
    return [work for work in WORKS if work.name in names]
