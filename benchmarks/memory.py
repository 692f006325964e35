"""Measures the peak memory of LSTM kernels: inference, a training step beside torch's, and checkpoints.

    python -m benchmarks.memory [--quick]

Each measurement has a fresh process, one thread, float32. What is reported is the growth of resident memory at its
peak (VmHWM, Linux) over what stood before the first call: inputs, targets, parameters and the loaded libraries. So it
has the results, too. Divided by T and batch it is the number of floats that a time step of one sequence takes.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS, Task, UnavailableError, describe_machine, inherited_threads
from benchmarks.lstm import Shape, make_problem, named_parameters, torch_lstm

FORWARD, GRADIENT = "forward", "forward + gradient"
SMALL = 2  # steps and sequences of the call that warms up


def ours(shape: Shape, backend: str, checkpoint: str | None = None) -> dict[str, Task]:
    """The tasks of an emitted kernel."""
    import rnngraph as rg

    weights, x, target = make_problem(shape)
    kernel = rg.compile(rg.zoo.lstm(shape.I, shape.H), backend=backend, dtype="float32", checkpoint=checkpoint)
    params = kernel.init(seed=0)
    for name, value in named_parameters(weights, shape.I, shape.H).items():
        params[name][...] = value

    def tasks(x: Any, target: Any) -> dict[str, Task]:
        inputs, targets = {"x": x}, {"h": target}
        return {
            FORWARD: Task(lambda: kernel.forward(params, inputs), list),
            GRADIENT: Task(lambda: kernel.loss_and_gradient(params, inputs, targets), list),
        }

    for task in tasks(x[:SMALL, :SMALL].copy(), target[:SMALL, :SMALL].copy()).values():
        task.run()
    kernel.release_workspaces()
    return tasks(x, target)


def torch(shape: Shape) -> dict[str, Task]:
    """The tasks of torch's layer."""
    for task in torch_lstm(shape._replace(T=SMALL, B=SMALL)).values():
        task.run()
    return torch_lstm(shape)


COMPETITORS: dict[str, Callable[[Shape], Mapping[str, Task]]] = {
    "torch nn.LSTM": torch,
    "numpy": lambda shape: ours(shape, "numpy"),
    "c": lambda shape: ours(shape, "c"),
    "numpy, checkpoint='sqrt'": lambda shape: ours(shape, "numpy", "sqrt"),
    "c, checkpoint='sqrt'": lambda shape: ours(shape, "c", "sqrt"),
}
PLAIN = ("torch nn.LSTM", "numpy", "c")
SHAPES = (Shape(100, 32, 64, 128), Shape(128, 64, 256, 512), Shape(784, 64, 1, 128))
CASES = (
    *((GRADIENT, shape, PLAIN) for shape in SHAPES),
    *((FORWARD, shape, PLAIN) for shape in (*SHAPES, Shape(10_000, 1, 64, 128), Shape(100_000, 1, 64, 128))),
    (GRADIENT, Shape(10_000, 1, 64, 128), tuple(COMPETITORS)),
)
QUICK = ((GRADIENT, Shape(200, 8, 16, 32), tuple(COMPETITORS)), (FORWARD, Shape(4000, 1, 16, 32), PLAIN))


@dataclass(frozen=True)
class Measurement:
    """One row of the table; ``milliseconds`` is the median of a call."""

    task: str
    case: str
    competitor: str
    megabytes: float
    floats: float
    milliseconds: float


def status(key: str) -> int:
    """An entry of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def peak_growth(run: Callable[[], Any]) -> int:
    """By how many bytes resident memory grows, at its peak, during one call."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed before goes back to the system, so that using it again counts
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is counted from here
    result = run()
    peak = status("VmHWM") - before
    del result
    return peak


def _measure(connection: Connection, competitor: str, task: str, shape: Shape, seconds: float) -> None:
    """The measuring process: sends bytes and milliseconds, or why there are none."""
    try:
        run = COMPETITORS[competitor](shape)[task].run
    except UnavailableError as error:
        connection.send(str(error))
        return
    peak, times = peak_growth(run), []
    stop = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < stop:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    connection.send((peak, 1e3 * statistics.median(times)))


def measure(competitor: str, task: str, shape: Shape, seconds: float) -> Measurement | str:
    """One measurement in a process of its own, or why there is none."""
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(sending, competitor, task, shape, seconds))
    with inherited_threads(1):
        process.start()
    sending.close()  # so that recv raises EOFError when the process dies
    try:
        answer = receiving.recv()
    finally:
        process.join()
    if isinstance(answer, str):
        return answer
    peak, milliseconds = answer
    case = f"T={shape.T} B={shape.B} I={shape.I} H={shape.H}"
    return Measurement(task, case, competitor, peak / 2**20, peak / (4 * shape.T * shape.B), milliseconds)


def markdown(measurements: Sequence[Measurement], machine: Mapping[str, str], notes: Sequence[str] = ()) -> str:
    """The table; ratios are those of torch's peak to the row's."""
    of_torch = {(row.task, row.case): row.megabytes for row in measurements if row.competitor == "torch nn.LSTM"}
    lines = [
        "# Peak memory of an LSTM, float32, one thread",
        "",
        "Growth of resident memory at its peak during the first call, results included; the number of floats that this "
        "makes for each time step of each sequence; torch's peak divided by the row's.",
        "",
        "task | case | competitor | MiB | floats a step | torch / this | ms",
        "--- | --- | --- | --- | --- | --- | ---",
    ]
    for row in measurements:
        reference = of_torch.get((row.task, row.case))
        ratio = "-" if reference is None else f"{reference / row.megabytes:.2f}"
        figures = f"{row.megabytes:.1f} | {row.floats:.0f} | {ratio} | {row.milliseconds:.3g}"
        lines.append(f"{row.task} | {row.case} | {row.competitor} | {figures}")
    lines += ["", ", ".join(f"{name} {value}" for name, value in machine.items()), *(f"\n{note}" for note in notes)]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints and writes the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description="Peak memory of LSTM kernels.")
    parser.add_argument("--quick", action="store_true", help="small shapes, nothing written")
    options = parser.parse_args(arguments)
    rows: list[Measurement] = []
    notes: list[str] = []
    for task, shape, competitors in QUICK if options.quick else CASES:
        for competitor in competitors:
            found = measure(competitor, task, shape, 0.1 if options.quick else 2.0)
            if isinstance(found, str):
                notes.append(f"{competitor} left out: {found}")
            else:
                rows.append(found)
    machine = describe_machine()
    text = markdown(rows, machine, list(dict.fromkeys(notes)))
    print(text)
    if not options.quick:
        (RESULTS / "memory.md").write_text(text, encoding="utf-8")
        data = {"machine": machine, "measurements": [asdict(row) for row in rows]}
        (RESULTS / "memory.json").write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
