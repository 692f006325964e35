"""Train in open loop, close, train in closed loop, simulate the test record: see the package's docstring."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np
from rich.console import Console

import rnngraph as rg
from examples.cascaded_tanks import __doc__ as description
from examples.cascaded_tanks.networks import KINDS, Kind
from examples.cascaded_tanks.record import BLOCKS, WHERE, Record, read
from examples.cascaded_tanks.report import Result, plot, show, show_left_out
from examples.cascaded_tanks.simulation import simulated
from examples.cascaded_tanks.train import Trainer

OUTPUT = Path(__file__).resolve().parent.parent / "output"
VARIABLE = "CASCADED_TANKS"


def simulate(kind: Kind, record: Record, seeds: int, steps: tuple[int, int] | None) -> Result:
    """``seeds`` networks of one kind, each trained on the estimation record and run on the test record."""
    trainer = Trainer(kind, record)
    trained = [trainer.train(seed, steps=steps) for seed in range(seeds)]
    runs = [trainer.free_run(network, record.test) for network in trained]
    return Result(kind.name, trained, np.array(runs))


def left_out(kind: Kind, record: Record, seeds: int, steps: tuple[int, int] | None) -> list[tuple[float, ...]]:
    """Free-run error over all blocks, each by networks that did not learn from it: [seed][step of closed training]."""
    trainer = Trainer(kind, record)
    found = []
    for seed in range(seeds):
        curves = [trainer.train(seed, record.block(number), steps).left_out for number in range(BLOCKS)]
        # A training that ends early keeps its last error.
        longest = max(map(len, curves))
        filled = [[*curve, *[curve[-1]] * (longest - len(curve))] for curve in curves]
        found.append(tuple(np.sqrt(np.mean(np.square(filled), axis=0))))
    return found


def main(arguments: list[str] | None = None) -> list[Result]:
    """Run the whole example; the results are returned for the tests."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.cascaded_tanks",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", nargs="?", help=f"dataBenchmark.csv or its folder (default: ${VARIABLE})")
    parser.add_argument("--simulated", action="store_true", help="records of a simulation in place of the benchmark's")
    parser.add_argument("--left-out", action="store_true", help="errors on the blocks left out; the test is not read")
    parser.add_argument("--seeds", type=int, default=3, help="networks of each kind (default: 3)")
    parser.add_argument("--quick", action="store_true", help="one seed, few steps, no picture")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder for the pictures")
    options = parser.parse_args(arguments)
    path = options.data or os.environ.get(VARIABLE)
    if path is None and not options.simulated:
        raise rg.DataError("data", "no path", "the path of dataBenchmark.csv", WHERE)
    record = simulated(192 if options.quick else 1024) if options.simulated else read(path)
    seeds, steps = (1, (5, 2)) if options.quick else (options.seeds, None)
    console = Console(highlight=False)
    if options.left_out:
        show_left_out({kind.name: left_out(kind, record, seeds, steps) for kind in KINDS}, console)
        return []
    results = [simulate(kind, record, seeds, steps) for kind in KINDS]
    show(record, results, not options.simulated, console)
    if not options.quick:
        output: Path = options.output
        output.mkdir(parents=True, exist_ok=True)
        name = "cascaded_tanks_simulated.png" if options.simulated else "cascaded_tanks.png"
        plot(record, results, not options.simulated, output / name)
        print(f"Written to {output}: {name}")
    return results


if __name__ == "__main__":
    try:
        main()
    except rg.RNNGraphError as problem:
        sys.exit(str(problem))
