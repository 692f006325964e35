"""Times a time-delay network's emitted NumPy kernel beside torch's convolutions.

    python -m benchmarks.tdnn [--quick]

Forward, loss with the gradient by the parameters, and by the inputs too, in float32, on one pinned thread and again on
all cores. Torch runs in four ways: conv1d on (batch, channels, time), as conv2d on channels last, and a product with
unfolded sources; the table has each.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness import Timing, compare, write
from benchmarks.processes import Competitor, Task, UnavailableError, available_cores, given_threads


class Shape(NamedTuple):
    """Sequence length, batch, units of each layer, taps of each layer of weights, their distance."""

    T: int
    B: int
    sizes: tuple[int, ...]
    taps: int
    dilation: int = 1

    @property
    def label(self) -> str:
        """The case as a row of the table names it."""
        spread = f" dilation={self.dilation}" if self.dilation > 1 else ""
        return f"T={self.T} B={self.B} units={'-'.join(map(str, self.sizes))} taps={self.taps}{spread}"


SHAPES = (
    Shape(1000, 16, (64, 64), 16),
    Shape(1000, 16, (64, 64, 64), 16),
    Shape(1000, 16, (64, 64, 64), 3, 3),
    Shape(1000, 1, (64, 64), 16),
    Shape(1000, 16, (1, 10, 1), 20),
    Shape(100, 1, (4, 8, 1), 3),
)


def make_problem(shape: Shape) -> tuple[list[Any], list[Any], Any, Any]:
    """Weights (taps, in, out) with the newest tap first, biases, x and target in float32; the same in each process."""
    random = np.random.default_rng(0)
    weights, biases = [], []
    for into, out in zip(shape.sizes, shape.sizes[1:], strict=False):
        scale = np.sqrt(into * shape.taps)
        weights.append((random.standard_normal((shape.taps, into, out)) / scale).astype(np.float32))
        biases.append(random.standard_normal(out).astype(np.float32))
    x = random.standard_normal((shape.T, shape.B, shape.sizes[0])).astype(np.float32)
    target = random.standard_normal((shape.T, shape.B, shape.sizes[-1])).astype(np.float32)
    return weights, biases, x, target


TASKS = {"forward": (), "gradient": ("parameters",), "gradient, inputs too": ("parameters", "inputs")}
WEIGHTS = ("forward", "gradient")  # the tasks that leave the inputs' gradient out


def emitted(shape: Shape, backend: str = "numpy", only: Sequence[str] = tuple(TASKS)) -> dict[str, Task]:
    import rnngraph as rg

    weights, biases, x, target = make_problem(shape)
    delays = [shape.dilation * k for k in range(shape.taps)]
    graph = rg.zoo.tdnn(shape.sizes, [delays] * len(weights))
    nodes = list(graph)
    inputs, targets = {"x": x}, {"y": target}

    def task(wrt: tuple[str, ...]) -> Task:
        kernel = rg.compile(graph, loss="mse", backend=backend, dtype="float32", wrt=wrt or ("parameters",))
        params = kernel.init(seed=0)
        names = []
        for source, node, weight, bias in zip(nodes, nodes[1:], weights, biases, strict=False):
            names.append([f"W_{source}_{node}_d{delay}" for delay in delays])
            for name, tap in zip(names[-1], weight, strict=True):
                params[name] = tap
            params[f"b_{node}"] = bias

        def read(result: Any) -> list[Any]:
            found = [np.stack([result[1][name] for name in layer]) for layer in names]
            found += [result[1][f"b_{node}"] for node in nodes[1:]]
            return [result[0], *found, *([result[1].inputs["x"]] if "inputs" in wrt else [])]

        if not wrt:
            return Task(lambda: kernel.forward(params, inputs), lambda result: [result[0]["y"]])
        return Task(lambda: kernel.loss_and_gradient(params, inputs, targets), read)

    return {name: task(TASKS[name]) for name in only}


class Layout(NamedTuple):
    """A way to convolve in torch: how a sequence (T, batch, channels) and a weight (taps, in, out) lie, newest first,
    the convolution f(sequence, weight, bias, dilation), and the sequence back."""

    sequence: Callable[[Any], Any]
    weight: Callable[[Any], Any]
    convolve: Callable[[Any, Any, Any, int], Any]
    back: Callable[[Any], Any]


def layouts(torch: Any) -> dict[str, Layout]:
    """The ways by name."""
    functional = torch.nn.functional

    def conv1d(a: Any, weight: Any, bias: Any, dilation: int) -> Any:
        padded = functional.pad(a, ((weight.shape[2] - 1) * dilation, 0))
        return functional.conv1d(padded, weight, bias, dilation=dilation)

    def conv2d(a: Any, weight: Any, bias: Any, dilation: int) -> Any:
        padded = functional.pad(a, ((weight.shape[3] - 1) * dilation, 0))
        return functional.conv2d(padded, weight, bias, dilation=(1, dilation))

    def unfolded(a: Any, weight: Any, bias: Any, dilation: int) -> Any:
        taps = weight.shape[0]
        padded = functional.pad(a, (0, 0, (taps - 1) * dilation, 0))
        windows = padded.unfold(1, (taps - 1) * dilation + 1, 1)[..., :: 1 if dilation == 1 else dilation]
        rows = windows.transpose(2, 3).reshape(-1, taps * a.shape[2])
        return torch.addmm(bias, rows, weight.reshape(-1, weight.shape[2])).view(a.shape[0], a.shape[1], -1)

    def channels_last(value: Any) -> Any:
        return value.contiguous(memory_format=torch.channels_last)

    return {
        "torch conv1d": Layout(
            lambda x: x.permute(1, 2, 0).contiguous(),
            lambda w: w.flip(0).permute(2, 1, 0).contiguous(),
            conv1d,
            lambda a: a.permute(2, 0, 1),
        ),
        "torch conv2d, channels last": Layout(
            lambda x: channels_last(x.permute(1, 2, 0)[:, :, None]),
            lambda w: channels_last(w.flip(0).permute(2, 1, 0)[:, :, None]),
            conv2d,
            lambda a: a[:, :, 0].permute(2, 0, 1),
        ),
        "torch unfold, product": Layout(
            lambda x: x.permute(1, 0, 2).contiguous(),
            lambda w: w.flip(0).contiguous(),
            unfolded,
            lambda a: a.permute(1, 0, 2),
        ),
    }


def torch_tasks(name: str, shape: Shape, only: Sequence[str] = tuple(TASKS)) -> dict[str, Task]:
    try:
        import torch
    except ImportError as error:
        raise UnavailableError("torch is not installed") from error
    torch.set_num_threads(given_threads())

    layout = layouts(torch)[name]
    weights, biases, x, target = make_problem(shape)
    leaves = [layout.weight(torch.from_numpy(weight)).requires_grad_() for weight in weights]
    shifts = [torch.from_numpy(bias).requires_grad_() for bias in biases]
    aim = layout.sequence(torch.from_numpy(target))

    def run(a: Any) -> Any:
        for k, (weight, bias) in enumerate(zip(leaves, shifts, strict=True)):
            s = layout.convolve(a, weight, bias, shape.dilation)
            a = s if k == len(leaves) - 1 else torch.tanh(s)
        return a

    def task(wrt: tuple[str, ...]) -> Task:
        a = layout.sequence(torch.from_numpy(x)).requires_grad_("inputs" in wrt)

        def forward() -> Any:
            with torch.no_grad():
                return run(a)

        def gradient() -> Any:
            for leaf in (a, *leaves, *shifts):
                leaf.grad = None
            loss = torch.nn.functional.mse_loss(run(a), aim)
            loss.backward()
            return loss

        def read(loss: Any) -> list[Any]:
            # Each weight's gradient in the order (taps, in, out): by what the layout does to a weight of numbers.
            found = []
            for weight, leaf in zip(weights, leaves, strict=True):
                order = layout.weight(torch.arange(weight.size).reshape(weight.shape).float()).flatten().long()
                flat = np.empty(weight.size, np.float32)
                flat[order.numpy()] = leaf.grad.flatten().numpy()
                found.append(flat.reshape(weight.shape))
            found += [shift.grad.numpy() for shift in shifts]
            return [loss.item(), *found, *([layout.back(a.grad).numpy()] if "inputs" in wrt else [])]

        return Task(gradient, read) if wrt else Task(forward, lambda y: [layout.back(y).numpy()])

    tasks = {title: task(TASKS[title]) for title in only}
    try:
        tasks["gradient"].run()
    except RuntimeError as error:  # torch 2.13 has no such product for few channels that lie last
        raise UnavailableError(f"{shape.label}: {error}") from error
    return tasks


def torch_conv1d(shape: Shape) -> dict[str, Task]:
    return torch_tasks("torch conv1d", shape)


def torch_conv2d(shape: Shape) -> dict[str, Task]:
    return torch_tasks("torch conv2d, channels last", shape)


def torch_unfold(shape: Shape) -> dict[str, Task]:
    return torch_tasks("torch unfold, product", shape)


COMPETITORS = (
    Competitor("rnngraph numpy", emitted),
    Competitor("torch conv1d", torch_conv1d),
    Competitor("torch conv2d, channels last", torch_conv2d),
    Competitor("torch unfold, product", torch_unfold),
)


class Far(NamedTuple):
    """Sequence length, batch, units, and the single delay of the edge."""

    T: int
    B: int
    units: int
    delay: int


def single_delay(case: Far) -> dict[str, Task]:
    """One dense edge with a delay: time and workspace are to be compared over delays, so nothing is read."""
    import rnngraph as rg

    random = np.random.default_rng(0)
    x = random.standard_normal((case.T, case.B, case.units)).astype(np.float32)
    kernel = rg.compile(rg.zoo.tdnn((case.units, case.units), ([case.delay],)), loss="mse", dtype="float32")
    params = kernel.init(seed=0)
    inputs, targets = {"x": x}, {"y": x}
    return {
        "forward": Task(lambda: kernel.forward(params, inputs), lambda _: []),
        "gradient": Task(lambda: kernel.loss_and_gradient(params, inputs, targets), lambda _: []),
    }


def near(case: Far) -> dict[str, Task]:
    return single_delay(case._replace(delay=1))


def main(arguments: Sequence[str] | None = None) -> None:
    """Times, prints and writes the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tdnn", description="Times of time-delay networks.")
    parser.add_argument("--quick", action="store_true", help="short turns, one thread, nothing written")
    options = parser.parse_args(arguments)
    cores = len(available_cores())
    rounds, seconds = (3, 0.1) if options.quick else (5, 0.3)
    timings: list[Timing] = []
    for threads in (1,) if options.quick or cores < 2 else (1, cores):
        for shape in SHAPES:
            timings += compare(shape.label, shape, COMPETITORS, threads, rounds, seconds)
    delays = (Competitor("delay 1", near), Competitor("delay 1000", single_delay))
    far = Far(1000, 16, 64, 1000)
    label = f"T={far.T} B={far.B} units={far.units}-{far.units}"
    distant = compare(label, far, delays, 1, rounds, seconds)
    for timing in [*timings, *distant]:
        ratio = "" if timing.ratio is None else f"{timing.milliseconds:10.3f} ms {timing.ratio:6.2f}"
        print(f"{timing.case:50} {timing.threads:10} {timing.task:22} {timing.competitor:28} {ratio}{timing.note}")
    if not options.quick:
        print(write("tdnn", "Time-delay networks, float32: ours beside torch's convolutions", timings))
        print(write("tdnn_delay", "One dense edge, float32: its delay", distant))


if __name__ == "__main__":
    main()
