"""The table of errors, what it says in words, and the picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from examples.sunspots.record import LAST, PERIODS, Record, Result

PUBLISHED = (0.086, 0.35)
COLORS = ("#1f6fb2", "#2a8a4a", "#b5442b")


def errors(record: Record, result: Result) -> tuple[float, ...]:
    """Average relative variance on the blocks left out and in each test period."""
    return (result.left_out, *(record.error(result.forecast, record.between(*period)) for period in PERIODS))


def show(record: Record, results: list[Result], linear: Result, console: Console) -> None:
    """The table, and in words who won where."""
    table = Table(title="Average relative variance of one-year forecasts", title_justify="left", title_style="bold")
    table.add_column("forecast")
    for heading in ("left out of 1712-1920", *(f"{first}-{last % 100}" for first, last in PERIODS)):
        table.add_column(heading, justify="right")
    rows = {result.name: errors(record, result) for result in results}
    lowest = np.min(list(rows.values()), axis=0)
    for name, row in rows.items():
        cells = (f"[bold]{e:.3f}[/]" if e == low else f"{e:.3f}" for e, low in zip(row, lowest, strict=True))
        table.add_row(name, *cells)
    table.add_section()
    table.add_row("published: Weigend et al. 1990", "-", *(f"{e:g}" for e in PUBLISHED))
    console.print(table)

    console.print(
        f"Divided by {record.variance:.0f}, the variance of 1700-2008 (by that of 1700-1979, where the published "
        f"record ended, all but the published row would be {record.variance / record.variance_to_1979:.2f} times as "
        "large). Bold: lowest of this run. Left out: by models "
        "that had not learned from those years; as the networks stopped by them, their errors there are a little low."
    )
    networks = [result.name for result in results if result.members is not None]
    for column, (first, last) in enumerate(PERIODS, start=1):
        best = min(rows, key=lambda name, column=column: rows[name][column])
        beaten = [name.split(",")[0] for name in networks if rows[name][column] > rows[linear.name][column]]
        verdict = f"{first}-{last % 100}: lowest error of this run: {best}."
        verdict += f" {linear.name} beats {', '.join(beaten)}." if beaten else f" Every network beats {linear.name}."
        console.print(verdict)
    learned = record.numbers[record.years <= LAST].max()
    late = record.numbers[record.between(*PERIODS[1])].max()
    console.print(f"1956-79 rises to {late:.0f}; no year that was learned from exceeds {learned:.0f}.")


def plot(record: Record, results: list[Result], linear: Result, path: Path) -> None:
    """Forecasts against the truth over the test years, a panel for each kind of network."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    test = record.between(PERIODS[0][0], PERIODS[-1][1])
    years = record.years[test]
    networks = [(result, result.members) for result in results if result.members is not None]
    figure = Figure(figsize=(9, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    first, second = (f"{start}-{stop % 100}" for start, stop in PERIODS)
    panels = figure.subplots(len(networks), 1, sharex=True, sharey=True)
    between = f"before it {first}, after it {second}"
    for axes, (result, members), color in zip(panels, networks, COLORS, strict=True):
        low, high = members[:, test].min(axis=0), members[:, test].max(axis=0)
        axes.fill_between(years, low, high, color=color, alpha=0.18, linewidth=0, label="lowest to highest network")
        axes.plot(years, linear.forecast[test], color="#999999", linewidth=1, label=linear.name)
        axes.plot(years, result.forecast[test], color=color, linewidth=1.6, label="mean of the networks")
        axes.plot(years, record.numbers[test], "o", color="black", markersize=3, label="measured")
        axes.axvline(PERIODS[1][0] - 0.5, color="#999999", linewidth=0.8, linestyle=":", label=between)
        axes.set_ylabel("sunspot number")
        axes.set_ylim(-5, 205)
        axes.margins(x=0.01)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(result.name, loc="left", color=color, fontsize=10)
    panels[-1].set_xlabel("year")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", fontsize=8, frameon=False, ncols=3)
    figure.suptitle(f"One-year forecasts by networks that learned from the years up to {LAST}", fontsize=11)
    figure.savefig(path, dpi=100)
