"""Learned delays: how many planted delays they recover, what hardening changes, and what an edge of D taps costs.

    python -m benchmarks.learned_delays [--seeds N]

The teachers and students are those of ``examples.learned_delays``, which says how they are made and trained; its
options were chosen on the seeds 100 to 102. Beside them a recurrent teacher, a(t) = tanh(U^T x(t) + sum over i of
W_ij a_i(t - d_ij) + b_j) with 4 inputs: its student first reads the measured, noisy a(t-d) in place of its own (open
loop), then runs on its own outputs for EPOCHS more (closed loop). It is tried from weights of 0, and from those of a
network with a weight for each delay.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import networkx as nx
import numpy as np

import rnngraph as rg
from benchmarks.harness import RESULTS, compare, write
from benchmarks.processes import Competitor, Task
from examples.learned_delays import LEARNED, UNITS, Recovery, Teacher, anneal, error, planted, recover, teacher, trained

RECURRENT_INPUTS, RECURRENT_STEPS, RECURRENT_BATCH = 4, 500, 4


def loop(delay: object, mask: np.ndarray, closed: bool) -> nx.MultiDiGraph:
    """x -> a and the connections of ``mask`` from a, or, open, from the measured values m, to a."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=RECURRENT_INPUTS)
    graph.add_node("a", kind="output", size=UNITS, activation="tanh")
    graph.add_edge("x", "a", parameter="U")
    if not closed:
        graph.add_node("m", kind="input", size=UNITS)
    graph.add_edge("a" if closed else "m", "a", parameter="W", structure="masked", mask=mask, delay=delay)
    return graph


def recurrent_teacher(seed: int, noise: float = 0.1) -> Teacher:
    """A recurrent teacher and its data; the inputs are white noise."""
    rng = np.random.default_rng(seed)
    mask, delays, weights = planted(rng)
    kernel = rg.compile(loop(delays, mask, True), dtype="float64")
    params = {**kernel.init(seed), "W": weights}

    def data() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        x = rng.normal(size=(RECURRENT_STEPS, RECURRENT_BATCH, RECURRENT_INPUTS))
        y = kernel.forward(params, {"x": x})[0]["a"]
        return {"x": x}, {"a": y + noise * y.std() * rng.normal(size=y.shape)}

    return Teacher(mask, delays, weights, data(), data())


def recover_loop(example: Teacher, from_taps: bool = False) -> Recovery:
    """As ``recover``, for a recurrent teacher: open loop, then closed loop. ``from_taps``: first of all a network with
    a weight for each delay w_d is trained; W starts at the largest of them, the logits at log |w_d|."""
    inputs, targets = example.training
    opened = ({**inputs, "m": targets["a"]}, targets)
    start = {"W": np.zeros((UNITS, UNITS))}
    if from_taps:
        delays = range(1, LEARNED["max"] + 1)
        params = trained(loop(list(delays), example.mask, False), {}, opened)
        taps = np.stack([params[f"W_d{delay}"] for delay in delays])
        largest = np.abs(taps).argmax(axis=0)[None]
        logits = np.log(np.abs(taps) + 1e-3)
        start = {**params, "W": np.take_along_axis(taps, largest, axis=0)[0], "alpha_W": logits}
    graph, params = anneal(loop(LEARNED, example.mask, False), start, opened)
    graph = loop(graph.edges["m", "a", 0]["delay"], example.mask, True)
    params = trained(graph, params, example.training)
    hard = rg.harden(graph, params)
    (selected,) = hard.delays.values()
    errors = [error(graph, params, example.test), error(hard.graph, hard.params, example.test)]
    further = trained(hard.graph, dict(hard.params), example.training)
    right = (selected == example.delays)[example.mask]
    return Recovery(len(right), float(right.mean()), *errors, error(hard.graph, further, example.test))


CASES: dict[str, Callable[[int], Recovery]] = {
    "layer, white noise": lambda seed: recover(teacher(seed)),
    "layer, white noise, targets without noise": lambda seed: recover(teacher(seed, noise=0.0)),
    "layer, inputs with correlation 0.9 from step to step": lambda seed: recover(teacher(seed, memory=0.9)),
    "layer, white noise; the student has all 64 connections": lambda seed: recover(teacher(seed), masked=False),
    "layer, correlation 0.9; the student has all 64 connections": lambda seed: recover(
        teacher(seed, memory=0.9), masked=False
    ),
    "recurrent, white noise": lambda seed: recover_loop(recurrent_teacher(seed)),
    "recurrent, white noise; started from a weight for each delay": lambda seed: recover_loop(
        recurrent_teacher(seed), from_taps=True
    ),
}


def row(label: str, found: Sequence[Recovery]) -> str:
    """One row of the table of recoveries: all connections of all seeds, the fewest of a seed, medians of errors."""
    count = sum(each.connections for each in found)
    right = round(sum(each.right * each.connections for each in found))
    errors = [
        f"{np.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"
        for values in zip(*((each.learned, each.plain, each.trained_on) for each in found), strict=True)
    ]
    change = max((each.change for each in found), key=abs)
    fewest = min(each.right for each in found)
    return " | ".join(
        [label, f"{right} of {count}, {right / count:.1%}", f"{fewest:.1%}", *errors[:2], f"{change:+.2%}", errors[2]]
    )


# --- What it costs


def edge(case: tuple[int, int, int, int], learned: bool) -> nx.MultiDiGraph:
    """x -> y with the delays 1 to D: learned, or a list of them."""
    _, _, size, count = case
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=size)
    graph.add_node("y", kind="output", size=size, activation="tanh")
    delay: object = {"max": count, "learned": True} if learned else list(range(1, count + 1))
    graph.add_edge("x", "y", parameter="W", delay=delay)
    return graph


def tasks(case: tuple[int, int, int, int], learned: bool) -> dict[str, Task]:
    """Forward, and loss with gradient; the plain taps have the values that the softmax gives the learned ones."""
    T, batch, size, count = case
    rng = np.random.default_rng(0)
    W, alpha = rng.normal(size=(size, size)) / size, rng.normal(size=(count, size, size))
    x, target = rng.normal(size=(2, T, batch, size)).astype(np.float32)
    kernel = rg.compile(edge(case, learned))
    params = kernel.init()
    if learned:
        params.update({"W": W, "alpha_W": alpha})
    else:
        taps = W * np.exp(alpha) / np.exp(alpha).sum(axis=0)
        params.update({f"W_d{k + 1}": tap for k, tap in enumerate(taps)})
    return {
        "forward": Task(lambda: kernel.forward(params, {"x": x}), lambda result: [result[0]["y"]]),
        "loss and gradient": Task(
            lambda: kernel.loss_and_gradient(params, {"x": x}, {"y": target}), lambda result: [np.array([result[0]])]
        ),
    }


def plain_tasks(case: tuple[int, int, int, int]) -> dict[str, Task]:
    """A list of delays, one weight matrix each."""
    return tasks(case, False)


def learned_tasks(case: tuple[int, int, int, int]) -> dict[str, Task]:
    """The same taps by a softmax."""
    return tasks(case, True)


COSTS = [(1000, 1, 8, 10), (200, 32, 32, 10), (200, 32, 64, 10), (200, 32, 64, 40)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=10)
    seeds = range(parser.parse_args().seeds)
    lines = []
    for label, case in CASES.items():
        lines.append(row(label, [case(seed) for seed in seeds]))
        print(lines[-1], flush=True)
    competitors = [Competitor("list of D delays", plain_tasks), Competitor("learned delay of D taps", learned_tasks)]
    timings = []
    for sizes in COSTS:
        label = "T {}, batch {}, {} -> {}, D = {}".format(*sizes[:3], *sizes[2:])
        timings += compare(label, sizes, competitors)
    text = write("learned_delays", "Learned delays: times", timings)
    about = (
        f"Recovered delays, seeds 0 to {len(seeds) - 1}: delays 1 to 10, about 30 % of 64 connections, "
        "noise of 10 % on the targets. Errors: root mean\nsquare on new data over the standard deviation of the "
        "targets, median over the seeds (lowest to highest). Trained on: with the\nplain delays, for 75 epochs more."
    )
    head = "teacher | right delay | fewest of a seed | error, learned | error, hardened | largest change | trained on"
    table = "\n".join([head, " | ".join(["---"] * 7), *lines])
    (RESULTS / "learned_delays.md").write_text(f"{text}\n{about}\n\n{table}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
