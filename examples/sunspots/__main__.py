"""Declare, derive, emit, train, compare: see the package's docstring for the data and the method."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

import rnngraph as rg
from examples.sunspots import __doc__ as description
from examples.sunspots.networks import KINDS, Kind, elman
from examples.sunspots.record import BLOCKS, FIRST, LAST, Record, Result, autoregression, persistence
from examples.sunspots.report import plot, show
from rnngraph.drawing import draw

OUTPUT = Path(__file__).resolve().parent.parent / "output"


def train(
    kind: Kind, kernel: rg.Kernel, record: Record, networks: int, iterations: int, tick: Callable[[], None]
) -> Result:
    """``networks`` networks of one kind; network k leaves block k mod 5 out of its training and stops by it."""
    upto = int(record.between(FIRST, LAST).sum())
    series = record.scaled[:upto]
    members, errors = [], []
    for k in range(networks):
        learned, left_out = (weights[:upto] for weights in record.learned_and_left_out(k % BLOCKS))
        params = kernel.init(seed=k, rules=kind.rules)
        rg.fit(
            kernel,
            params,
            ({"x": series}, {"y": series}, learned),
            optimizer=rg.LBFGS(),
            epochs=iterations,
            validation=({"x": series}, {"y": series}, left_out),
            patience=20,
            progress=False,
        )
        outputs, _ = kernel.forward(params, {"x": record.scaled})
        members.append(record.unscaled(outputs["y"]))
        errors.append((members[-1] - record.numbers)[record.blocks[k % BLOCKS]])
        tick()
    error = float(np.mean(np.concatenate(errors) ** 2) / record.variance)
    return Result(f"{kind.name}, mean of {networks} networks", np.mean(members, axis=0), error, np.array(members))


def main(arguments: list[str] | None = None) -> list[Result]:
    """Run the whole example; the results are returned for the tests."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.sunspots",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="one network of each kind, few iterations, no pictures")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder for the emitted files and the pictures")
    options = parser.parse_args(arguments)
    networks, iterations = (1, 5) if options.quick else (10, 100)
    output: Path = options.output
    output.mkdir(parents=True, exist_ok=True)
    console = Console(highlight=False)
    record = Record()

    console.rule("An Elman network and its derivative: backpropagation through time")
    print(rg.gradient(elman(KINDS[0].hidden), loss="mse"))

    console.rule("Emitted source")
    kernels = {kind.name: rg.compile(kind.build(kind.hidden), loss="mse", dtype="float64") for kind in KINDS}
    for name, kernel in kernels.items():
        path = kernel.save(output / f"{name.lower()}_numpy.py")
        lines, numbers = len(kernel.source.splitlines()), kernel.init().vector.size
        print(f"{path.name}: {lines} lines for a network of {numbers} parameters; needs numpy alone")
    path = rg.compile(elman(KINDS[0].hidden), loss="mse", backend="cupy").save(output / "elman_cupy.py")
    print(f"{path.name}: the Elman network for a GPU; needs cupy alone")

    console.rule("Training")
    results = []
    with Progress(console=console) as progress:
        tasks = {kind.name: progress.add_task(f"{kind.name}, {kind.hidden} units", total=networks) for kind in KINDS}
        for kind in KINDS:

            def tick(name: str = kind.name) -> None:
                progress.advance(tasks[name])

            results.append(train(kind, kernels[kind.name], record, networks, iterations, tick))
    linear = autoregression(record, roots=True)
    results += [linear, autoregression(record, roots=False), persistence(record)]

    console.rule("Results")
    show(record, results, linear, console)
    if not options.quick:
        plot(record, results, linear, output / "forecast.png")
        for kind in KINDS:
            draw(kind.build(kind.hidden), output / f"{kind.name.lower()}.png")
    print(f"Written to {output}: {', '.join(sorted(path.name for path in output.glob('*.*')))}")
    return results


if __name__ == "__main__":
    main()
