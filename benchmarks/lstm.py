"""Times the emitted NumPy kernel of the LSTM beside the hand-written one and torch's.

    python -m benchmarks.lstm [--quick] [--only NAME ...]

Forward, and loss with gradient, in float32, on one pinned thread and again on all cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.handwritten_lstm import GATES, HandwrittenLSTM
from benchmarks.harness import Competitor, Task, Timing, UnavailableError, available_cores, compare, write

TORCH_GATES = "ifzo"


class Shape(NamedTuple):
    """Sequence length, batch, inputs, units."""

    T: int
    B: int
    I: int  # noqa: E741 (the letter of the tables)
    H: int


SHAPES = (
    Shape(100, 1, 8, 16),
    Shape(200, 1, 64, 64),
    Shape(100, 32, 64, 128),
    Shape(128, 64, 256, 512),
    Shape(784, 64, 1, 128),
)


def make_problem(shape: Shape) -> tuple[Any, Any, Any]:
    """Packed weights, x and target in float32; the same in each process."""
    random = np.random.default_rng(0)
    weights = random.uniform(-1, 1, (shape.I + shape.H + 1, 4 * shape.H)) / np.sqrt(shape.H)
    x = random.standard_normal((shape.T, shape.B, shape.I))
    target = random.standard_normal((shape.T, shape.B, shape.H))
    return weights.astype(np.float32), x.astype(np.float32), target.astype(np.float32)


def named_parameters(packed: Any, inputs: int, units: int) -> dict[str, Any]:
    """Views of packed weights (inputs + units + 1, 4 * units) under the names of the graph: W_x_i, W_h_i, b_i, ..."""
    named: dict[str, Any] = {}
    for k, gate in enumerate(GATES):
        columns = packed[:, k * units : (k + 1) * units]
        named |= {f"W_x_{gate}": columns[:inputs], f"W_h_{gate}": columns[inputs:-1], f"b_{gate}": columns[-1]}
    return named


def pack(named: Mapping[str, Any], inputs: int, units: int) -> Any:
    """The inverse of ``named_parameters``."""
    packed = np.empty((inputs + units + 1, 4 * units), np.float32)
    for name, view in named_parameters(packed, inputs, units).items():
        view[...] = named[name]
    return packed


def handwritten(shape: Shape) -> dict[str, Task]:
    weights, x, target = make_problem(shape)
    kernel = HandwrittenLSTM(shape.I, shape.H)
    return {
        "forward": Task(lambda: kernel.forward(weights, x), lambda h: [h]),
        "forward + gradient": Task(lambda: kernel.loss_and_gradient(weights, x, target), list),
    }


def emitted(shape: Shape, backend: str = "numpy") -> dict[str, Task]:
    import rnngraph as rg

    weights, x, target = make_problem(shape)
    kernel = rg.compile(rg.zoo.lstm(shape.I, shape.H), loss="mse", backend=backend, dtype="float32")
    params = kernel.init(seed=0)
    for name, value in named_parameters(weights, shape.I, shape.H).items():
        params[name][...] = value
    inputs, targets = {"x": x}, {"h": target}
    return {
        "forward": Task(lambda: kernel.forward(params, inputs), lambda result: [result[0]["h"]]),
        "forward + gradient": Task(
            lambda: kernel.loss_and_gradient(params, inputs, targets),
            lambda result: [result[0], pack(result[1], shape.I, shape.H)],
        ),
    }


def torch_lstm(shape: Shape) -> dict[str, Task]:
    try:
        import torch
    except ImportError as error:
        raise UnavailableError("torch is not installed") from error

    weights, x, target = make_problem(shape)
    blocks = weights.reshape(-1, 4, shape.H)
    order = [GATES.index(gate) for gate in TORCH_GATES]
    packed = np.concatenate([blocks[:, k].T for k in order])
    layer = torch.nn.LSTM(shape.I, shape.H)
    with torch.no_grad():
        layer.weight_ih_l0.copy_(torch.from_numpy(packed[:, : shape.I]))
        layer.weight_hh_l0.copy_(torch.from_numpy(packed[:, shape.I : -1]))
        layer.bias_ih_l0.copy_(torch.from_numpy(packed[:, -1]))
        layer.bias_hh_l0.zero_()
    x, target = torch.from_numpy(x), torch.from_numpy(target)

    def forward() -> Any:
        with torch.no_grad():
            return layer(x)[0]

    def forward_and_gradient() -> Any:
        layer.zero_grad()
        loss = torch.nn.functional.mse_loss(layer(x)[0], target)
        loss.backward()
        return loss

    def read_gradient(loss: Any) -> list[Any]:
        parts = [layer.weight_ih_l0.grad, layer.weight_hh_l0.grad, layer.bias_ih_l0.grad[:, None]]
        rows = torch.cat(parts, dim=1).numpy().reshape(4, shape.H, -1)
        gradient = np.empty_like(blocks)
        for place, k in enumerate(order):
            gradient[:, k] = rows[place].T
        return [loss.item(), gradient.reshape(weights.shape)]

    return {
        "forward": Task(forward, lambda h: [h.numpy()]),
        "forward + gradient": Task(forward_and_gradient, read_gradient),
    }


def compiled(shape: Shape) -> dict[str, Task]:
    return emitted(shape, "c")


COMPETITORS = (
    Competitor("hand-written", handwritten),
    Competitor("rnngraph numpy", emitted),
    Competitor("rnngraph c", compiled),
    Competitor("torch nn.LSTM", torch_lstm),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Times, prints and writes the table."""
    names = [competitor.name for competitor in COMPETITORS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lstm", description="Times of LSTM kernels.")
    parser.add_argument("--quick", action="store_true", help="three shapes, short turns, one thread, nothing written")
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="competitors; the first is the measure")
    options = parser.parse_args(arguments)
    chosen = [competitor for competitor in COMPETITORS if competitor.name in options.only]
    cores = len(available_cores())
    timings: list[Timing] = []
    for threads in (1,) if options.quick or cores < 2 else (1, cores):
        for shape in SHAPES[:3] if options.quick else SHAPES:
            label = f"T={shape.T} B={shape.B} I={shape.I} H={shape.H}"
            rounds, seconds = (3, 0.05) if options.quick else (5, 0.3)
            timings += (found := compare(label, shape, chosen, threads, rounds, seconds))
            for timing in found:
                ratio = "" if timing.ratio is None else f"{timing.milliseconds:10.3f} ms {timing.ratio:6.2f}"
                print(f"{label:28} {timing.threads:10} {timing.task:20} {timing.competitor:15} {ratio}{timing.note}")
    if not options.quick:
        print(write("lstm", "LSTM, float32: ours beside a hand-written kernel", timings))


if __name__ == "__main__":
    main()
