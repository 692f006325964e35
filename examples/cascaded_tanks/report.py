"""The tables of errors and the picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from examples.cascaded_tanks.record import INTERVAL, Array, Record, error
from examples.cascaded_tanks.train import Trained

# Errors of free runs on the test record in volts, from Champneys, Beintema, Toth, Schoukens and Rogers, "Baseline
# results for selected nonlinear system identification benchmarks" (2024), arXiv:2405.10779.
PUBLISHED = {"GRU": 0.396, "polynomial NARX": 0.413, "LSTM": 0.490, "ARX": 0.685}
COLORS = ("#1f6fb2", "#b5442b")


@dataclass(frozen=True)
class Result:
    """The networks of one kind, one for each seed, and their free runs (seeds, T - given) on the test record."""

    name: str
    trained: list[Trained]
    runs: Array

    def errors(self, record: Record) -> list[float]:
        """Test error of each seed, in volts."""
        return [error(run, record.test["y"]) for run in self.runs]

    @property
    def given(self) -> int:
        """How many measured levels a free run starts from: the longest delay."""
        return self.trained[0].given


def show(record: Record, results: list[Result], published: bool, console: Console) -> None:
    """One table for the stages of training, one for the test."""
    table = Table(title="Estimation record: error in volts", title_justify="left", title_style="bold")
    for heading in (
        "network",
        "seed",
        "open loop,\none step",
        "loop closed,\nfree run",
        "trained in closed\nloop, free run",
    ):
        table.add_column(heading, justify="left" if heading == "network" else "right")
    for result in results:
        for seed, trained in enumerate(result.trained):
            cells = (f"{value:.3f}" for value in (trained.one_step, trained.closed, trained.refined))
            table.add_row(result.name if seed == 0 else "", str(seed), *cells)
        table.add_section()
    console.print(table)

    seeds = len(results[0].trained)
    table = Table(title="Test record: error of the free run in volts", title_justify="left", title_style="bold")
    for heading in ("network", "weights", *(f"seed {seed}" for seed in range(seeds)), "mean", "from 50 on"):
        table.add_column(heading, justify="left" if heading == "network" else "right", no_wrap=heading == "network")
    for result in results:
        errors = result.errors(record)
        late = np.mean([error(run[50 - result.given :], record.test["y"]) for run in result.runs])
        cells = (f"{value:.3f}" for value in errors)
        size = str(result.trained[0].params.vector.size)
        table.add_row(result.name, size, *cells, f"[bold]{np.mean(errors):.3f}[/]", f"{late:.3f}")
    if published:
        table.add_section()
        table.add_row("published:")
        for name, value in PUBLISHED.items():
            table.add_row(name, "-", *["-"] * seeds, f"{value:.3f}", "-")
    console.print(table)
    given = ", ".join(f"{result.name} {result.given}" for result in results)
    console.print(f"A free run sees the input and the first measured levels alone ({given}); all later samples count.")


def show_left_out(found: dict[str, list[tuple[float, ...]]], console: Console) -> None:
    """A row for each kind and seed: the error after some steps of closed-loop training."""
    table = Table(title="Estimation record, blocks left out: error of the free run in volts", title_justify="left")
    steps = sorted({step for curves in found.values() for curve in curves for step in (1, 2, 4, 6, 8, len(curve))})
    for heading in ("network", "seed", *(f"step {step}" for step in steps)):
        table.add_column(heading, justify="left" if heading == "network" else "right")
    for name, curves in found.items():
        for seed, curve in enumerate(curves):
            cells = (f"{curve[step - 1]:.3f}" if step <= len(curve) else "-" for step in steps)
            table.add_row(name if seed == 0 else "", str(seed), *cells)
        table.add_section()
    console.print(table)


def plot(record: Record, results: list[Result], published: bool, path: Path) -> None:
    """Input, measured and simulated level, and the error, over the test record, the benchmark's or a simulated one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    measured = record.test["y"]
    minutes = np.arange(len(measured)) * INTERVAL / 60.0
    figure = Figure(figsize=(9, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    pump, level, difference = figure.subplots(3, 1, sharex=True, height_ratios=(1, 2.4, 1.6))
    pump.plot(minutes, record.test["u"], color="#777777", linewidth=1)
    pump.set_ylabel("pump, V")
    level.plot(minutes, measured, color="black", linewidth=2.2, label="measured")
    for result, color in zip(results, COLORS, strict=False):
        for seed, run in enumerate(result.runs):
            label = f"{result.name}, {len(result.runs)} seeds" if seed == 0 else None
            level.plot(minutes[result.given :], run, color=color, linewidth=0.9, label=label)
            difference.plot(minutes[result.given :], run - measured[result.given :], color=color, linewidth=0.9)
    difference.axhline(0.0, color="black", linewidth=0.8)
    level.set_ylabel("level of the lower tank, V")
    level.legend(loc="upper left", fontsize=8, frameon=False, ncols=3)
    level.set_ylim(top=measured.max() + 1.5)
    difference.set_ylabel("simulated - measured, V")
    difference.set_xlabel("minutes")
    for axes in (pump, level, difference):
        axes.margins(x=0.01)
        axes.spines[["top", "right"]].set_visible(False)
    title = "Test record" if published else "Simulated tanks, test record"
    figure.suptitle(f"{title}: free runs of networks that learned from the estimation record", fontsize=11)
    figure.savefig(path, dpi=100)
