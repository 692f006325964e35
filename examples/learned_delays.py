"""Learned delays find planted ones: a sparse teacher with one delay for each connection, a student that learns them.

    python -m examples.learned_delays

The teacher is y(t) = tanh(sum over i of W_ij x_i(t - d_ij) + b_j): 8 inputs, 8 units, about 30 % of the connections,
each with a weight of 0.5 to 1.5 (over the root of its unit's connections, either sign) and a delay d_ij of 1 to 10
drawn at random. Inputs are white noise; the targets have noise of 10 % of their standard deviation. The student knows
which connections exist, and for each has one weight and the logits of the delays 1 to 10. It is trained by Adam while
the temperature of the softmax falls. Weights start at 0, so that each grows with the right sign: a weight of the wrong
sign would first lower the logit of the right delay. Then ``rg.harden`` makes the delays plain. Errors: root mean square
on new data over the standard deviation of the targets, at best 0.1, the noise.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import networkx as nx
import numpy as np

import rnngraph as rg

UNITS, LONGEST, DENSITY = 8, 10, 0.3
STEPS, NOISE = 2000, 0.1
TEMPERATURES, EPOCHS, OPTIMIZER = (1.0, 0.5, 0.25, 0.1), 75, rg.Adam(0.02)
LEARNED = {"max": LONGEST, "learned": True}
SEEDS = range(10)
KEY = (
    "errors: RMS on new data / standard deviation of the targets;"
    f"\ntrained on: after {EPOCHS} more epochs with plain delays"
)
Data = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]


class Teacher(NamedTuple):
    """Which connections exist, their delays and weights, (inputs, units) each, and the data of training and test."""

    mask: np.ndarray
    delays: np.ndarray
    weights: np.ndarray
    training: Data
    test: Data


class Recovery(NamedTuple):
    """How many connections there are and which part has the right delay; errors on new data of student and teacher's
    noise: with learned delays, made plain, and trained on for another EPOCHS with the plain delays."""

    connections: int
    right: float
    learned: float
    plain: float
    trained_on: float

    @property
    def change(self) -> float:
        """Of the error, by hardening."""
        return self.plain / self.learned - 1


def layer(delay: object, mask: np.ndarray | None) -> nx.MultiDiGraph:
    """x -> y, with the connections of ``mask``, or all of them."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=UNITS)
    graph.add_node("y", kind="output", size=UNITS, activation="tanh")
    structure = {} if mask is None else {"structure": "masked", "mask": mask}
    graph.add_edge("x", "y", parameter="W", delay=delay, **structure)
    return graph


def planted(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mask, delays and weights, (source, destination) each; every unit has a connection at least."""
    mask = rng.random((UNITS, UNITS)) < DENSITY
    mask[rng.integers(UNITS, size=UNITS), np.arange(UNITS)] = True
    delays = rng.integers(1, LONGEST + 1, (UNITS, UNITS))
    weights = rng.choice([-1, 1], (UNITS, UNITS)) * rng.uniform(0.5, 1.5, (UNITS, UNITS))
    return mask, delays, weights * mask / np.sqrt(mask.sum(axis=0))


def teacher(seed: int, noise: float = NOISE, memory: float = 0.0) -> Teacher:
    """A teacher and its data. ``memory``: the inputs' correlation from one step to the next, 0 for white noise."""
    rng = np.random.default_rng(seed)
    mask, delays, weights = planted(rng)
    kernel = rg.compile(layer(delays, mask), dtype="float64")
    params = {"W": weights, "b_y": 0.1 * rng.normal(size=UNITS)}

    def data() -> Data:
        x = rng.normal(size=(STEPS, 1, UNITS))
        for t in range(1, STEPS):
            x[t] = memory * x[t - 1] + np.sqrt(1 - memory**2) * x[t]
        y = kernel.forward(params, {"x": x})[0]["y"]
        return {"x": x}, {"y": y + noise * y.std() * rng.normal(size=y.shape)}

    return Teacher(mask, delays, weights, data(), data())


def error(graph: nx.MultiDiGraph, params: object, data: Data) -> float:
    """The root mean square error over the standard deviation of the targets."""
    (target,) = data[1].values()
    return float(np.sqrt(rg.compile(graph).loss(params, *data)) / target.std())


def anneal(graph: nx.MultiDiGraph, params: dict[str, np.ndarray], data: Data) -> tuple[nx.MultiDiGraph, dict]:
    """Train while the temperature of the learned delays falls; the graph at the last one, and the parameters."""
    for temperature in TEMPERATURES:
        graph = rg.set_temperature(graph, temperature)
        params = trained(graph, params, data)
    return graph, params


def trained(graph: nx.MultiDiGraph, start: dict[str, np.ndarray], data: Data, epochs: int = EPOCHS) -> dict:
    """The parameters after training from ``start``; those that it lacks start as ``kernel.init`` has them."""
    kernel = rg.compile(graph)
    params = kernel.init(seed=0)
    params.update({name: start[name] for name in params if name in start})
    rg.fit(kernel, params, data, OPTIMIZER, epochs, progress=False)
    return dict(params)


def recover(example: Teacher, masked: bool = True) -> Recovery:
    """Train a student, make its delays plain, and count. ``masked``: whether it knows which connections exist."""
    mask = example.mask if masked else None
    start = {"W": np.zeros((UNITS, UNITS))}
    graph, params = anneal(layer(LEARNED, mask), start, example.training)
    hard = rg.harden(graph, params)
    (selected,) = hard.delays.values()
    errors = [error(graph, params, example.test), error(hard.graph, hard.params, example.test)]
    further = trained(hard.graph, dict(hard.params), example.training)
    right = (selected == example.delays)[example.mask]
    return Recovery(len(right), float(right.mean()), *errors, error(hard.graph, further, example.test))


def table(recoveries: dict[str, Recovery], first: str = "seed") -> str:
    """One row for each recovery, and the total."""
    lines = [f"{first:>5}  connections  right delay  error, learned  hardened    change  trained on"]
    for name, found in recoveries.items():
        lines.append(
            f"{name:>5}  {found.connections:11}  {found.right:11.1%}  {found.learned:14.5f}  {found.plain:8.5f}"
            f"  {found.change:+8.2%}  {found.trained_on:10.5f}"
        )
    count = sum(found.connections for found in recoveries.values())
    right = sum(found.right * found.connections for found in recoveries.values())
    largest = max(abs(found.change) for found in recoveries.values())
    lines.append(f"right in all: {right:.0f} of {count}, {right / count:.1%}; largest change of an error {largest:.2%}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Students that know which connections exist, and students that do not."""
    argparse.ArgumentParser(
        prog="python -m examples.learned_delays",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args(arguments)
    print(KEY, end="\n\n")
    for masked in (True, False):
        print("The student knows which connections exist" if masked else "The student has all connections")
        print(table({str(seed): recover(teacher(seed), masked) for seed in SEEDS}), end="\n\n")


if __name__ == "__main__":
    main()
