"""Levenberg-Marquardt and the extended Kalman filter beside Adam and L-BFGS: errors and training times.

    python -m benchmarks.second_order [--seeds N]

1. Identification of a plant by a small recurrent network, sizes (1, 2, 2, 1): recurrence within both hidden layers with
   delay 1, the output fed back with delays 1 and 2. Plant: Narendra and Parthasarathy (1990), example 2.
2. A NARX network on the gas furnace of Box and Jenkins (1970), trained in open loop (on measured outputs) with early
   stopping; the last quarter is held out: errors one step ahead, and in free run, where the network's own outputs come
   back. Beside it the linear ARX model of the same lags.

Every run has a process of its own on one pinned core; medians over the first parameters of several seeds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import networkx as nx
import numpy as np

import rnngraph as rg
from benchmarks.harness import RESULTS, Timing, write
from benchmarks.processes import inherited_threads

FURNACE = Path(__file__).resolve().parent.parent / "examples" / "data" / "gas_furnace.csv"
GAS_LAGS, CO2_LAGS, HIDDEN = 6, 4, 4
FIRST, LEARNED, VALIDATED = GAS_LAGS, 180, 220  # steps FIRST..LEARNED train, LEARNED..VALIDATED stop, the rest tests
STEPS = 200


ABOUT_ERRORS = """Errors: medians over the seeds (lowest to highest). They are root mean squares; those of the
identification, where the network runs on its own outputs, are divided by the target's standard deviation; those of the
gas furnace are in % CO2 on the last quarter. Options were not searched, but for Levenberg-Marquardt's first damping in
the identification: 1 of 0.01, 1 and 100, by the training error of three of these seeds. The Jacobians are those of
real-time recurrent learning, one pass for all steps."""


class Setting(NamedTuple):
    """An optimiser with its largest number of epochs and, for the furnace, its patience."""

    optimizer: Any
    epochs: int
    patience: int


class Case(NamedTuple):
    """A label, its settings by name, and what trains: (setting, seed) -> seconds and errors by name."""

    label: str
    settings: Mapping[str, Setting]
    train: Callable[[Setting, int], dict[str, float]]


# --- 1. Identification


def recurrent() -> nx.MultiDiGraph:
    """Sizes (1, 2, 2, 1), delay 1 within the hidden layers, delays 1 and 2 from the output to the first of them."""
    graph = rg.zoo.feedforward((1, 2, 2, 1))
    graph.add_edge("a1", "a1", delay=1)
    graph.add_edge("a2", "a2", delay=1)
    graph.add_edge("y", "a1", delay=[1, 2])
    return graph


def plant(u: np.ndarray) -> np.ndarray:
    """y(t) = y(t-1) y(t-2) (y(t-1) + 2.5) / (1 + y(t-1)^2 + y(t-2)^2) + u(t), from rest."""
    y = np.zeros(len(u) + 2)
    for t, value in enumerate(u, start=2):
        y[t] = y[t - 1] * y[t - 2] * (y[t - 1] + 2.5) / (1 + y[t - 1] ** 2 + y[t - 2] ** 2) + value
    return y[2:]


def identify(setting: Setting, seed: int) -> dict[str, float]:
    """Trained on random inputs; tested on the paper's sine. Errors relative to the standard deviation."""
    random = np.random.default_rng(100)
    signals = {"training": random.uniform(-2, 2, STEPS), "held out": np.sin(2 * np.pi * np.arange(STEPS) / 25)}
    scale = plant(signals["training"]).std()
    data = {name: ({"x": u[:, None, None] / 2}, {"y": plant(u)[:, None, None] / scale}) for name, u in signals.items()}
    kernel = rg.compile(recurrent(), dtype="float64")
    params = kernel.init(seed)
    started = time.perf_counter()
    rg.fit(kernel, params, data["training"], setting.optimizer, setting.epochs, progress=False)
    seconds = time.perf_counter() - started
    errors = {name: float(np.sqrt(kernel.loss(params, *pair)) / pair[1]["y"].std()) for name, pair in data.items()}
    return {"seconds": seconds, **errors}


# --- 2. The gas furnace


def furnace_network(hidden: int, closed: bool) -> nx.MultiDiGraph:
    """y(t) from the gas rate at t-1..t-6 and the CO2 at t-1..t-4: measured ("c"), or, ``closed``, the network's own.

    The parameters have the same names in both. Without hidden units it is the linear ARX model.
    """
    graph = nx.MultiDiGraph()
    graph.add_node("u", kind="input", size=1)
    if not closed:
        graph.add_node("c", kind="input", size=1)
    graph.add_node("y", kind="output", size=1)
    reader = "a" if hidden else "y"
    if hidden:
        graph.add_node("a", size=hidden, activation="tanh")
        graph.add_edge("a", "y", parameter="V")
    graph.add_edge("u", reader, delay=list(range(1, GAS_LAGS + 1)), parameter="W")
    graph.add_edge("y" if closed else "c", reader, delay=list(range(1, CO2_LAGS + 1)), parameter="R")
    return graph


def furnace(setting: Setting, seed: int, hidden: int = HIDDEN) -> dict[str, float]:
    """Root mean square errors in % CO2 on the last quarter: one step ahead, and in free run over all of it."""
    table = np.loadtxt(FURNACE, delimiter=",", skiprows=1)
    mean, scale = table[:LEARNED].mean(axis=0), table[:LEARNED].std(axis=0)
    gas, carbon = ((table - mean) / scale).T[:, :, None, None]
    times = np.arange(len(table))[:, None]
    learned = ((times >= FIRST) & (times < LEARNED)).astype(float)
    checked = ((times >= LEARNED) & (times < VALIDATED)).astype(float)
    inputs, targets = {"u": gas, "c": carbon}, {"y": carbon}
    kernel = rg.compile(furnace_network(hidden, closed=False), dtype="float64")
    params = kernel.init(seed)
    started = time.perf_counter()
    rg.fit(
        kernel, params, (inputs, targets, learned), setting.optimizer, setting.epochs,
        validation=(inputs, targets, checked), patience=setting.patience, progress=False,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    one_step = kernel.forward(params, inputs)[0]["y"][VALIDATED:]
    loop = rg.compile(furnace_network(hidden, closed=True), dtype="float64")
    before = {"u": gas[VALIDATED - GAS_LAGS : VALIDATED], "y": carbon[VALIDATED - CO2_LAGS : VALIDATED]}
    free_run = loop.forward(dict(params), {"u": gas[VALIDATED:]}, before)[0]["y"]
    errors = {
        name: float(scale[1] * np.sqrt(np.mean((found - carbon[VALIDATED:]) ** 2)))
        for name, found in (("one step ahead", one_step), ("free run", free_run))
    }
    return {"seconds": seconds, **errors}


def linear_furnace(setting: Setting, seed: int) -> dict[str, float]:
    return furnace(setting, seed, hidden=0)


CASES = (
    Case(
        "identification, sizes (1, 2, 2, 1)",
        {
            "Levenberg-Marquardt": Setting(rg.LevenbergMarquardt(damping=1.0), 40, 0),
            "EKF": Setting(rg.EKF(process_noise=1e-5, reach=10), 10, 0),
            "L-BFGS": Setting(rg.LBFGS(), 600, 0),
            "Adam": Setting(rg.Adam(1e-2), 3000, 0),
        },
        identify,
    ),
    Case(
        f"gas furnace, NARX with {HIDDEN} hidden units",
        {
            "Levenberg-Marquardt": Setting(rg.LevenbergMarquardt(), 100, 10),
            "EKF": Setting(rg.EKF(reach=0), 30, 5),
            "L-BFGS": Setting(rg.LBFGS(), 500, 50),
            "Adam": Setting(rg.Adam(1e-2), 5000, 500),
        },
        furnace,
    ),
    Case(
        "gas furnace, linear ARX",
        {"Levenberg-Marquardt": Setting(rg.LevenbergMarquardt(damping=1e-9), 3, 3)},
        linear_furnace,
    ),
)


def error_table(rows: Sequence[tuple[str, str, Mapping[str, Sequence[float]]]]) -> str:
    """A line for each case and optimiser; each error as its median over the seeds, with the lowest and the highest."""
    lines = ["", ABOUT_ERRORS, "", "case | optimiser, epochs at most | errors", "--- | --- | ---"]
    for case, name, errors in rows:
        cells = [
            f"{error} {statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"
            for error, values in errors.items()
        ]
        lines.append(f"{case} | {name} | " + ", ".join(cells))
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, prints and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="runs of each optimiser")
    seeds = parser.parse_args(arguments).seeds
    timings: list[Timing] = []
    rows: list[tuple[str, str, dict[str, list[float]]]] = []
    context = multiprocessing.get_context("spawn")
    with inherited_threads(1):
        for case in CASES:
            first = 0.0
            for name, setting in case.settings.items():
                with context.Pool(1, maxtasksperchild=1) as pool:
                    runs = [pool.apply(case.train, (setting, seed)) for seed in range(seeds)]
                errors = {key: [run[key] for run in runs] for key in runs[0]}
                milliseconds = 1e3 * statistics.median(errors.pop("seconds"))
                first = first or milliseconds
                timings.append(Timing(case.label, "1 (pinned)", "training", name, milliseconds, milliseconds / first))
                rows.append((case.label, f"{name}, {setting.epochs}", errors))
                print(case.label, name, f"{milliseconds:.0f} ms", errors, flush=True)
    text = write("second_order", "Second-order training: times", timings) + error_table(rows)
    (RESULTS / "second_order.md").write_text(text, encoding="utf-8")
    record = RESULTS / "second_order.json"
    data = json.loads(record.read_text(encoding="utf-8"))
    data["errors"] = [{"case": case, "optimiser": name, **errors} for case, name, errors in rows]
    record.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
