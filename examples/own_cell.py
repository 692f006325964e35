"""A cell that nobody has written before: declared, its gradient verified, compiled and trained; no derivative by hand.

    python examples/own_cell.py

The cell h multiplies and adds what reaches it by two different delays,

    u(t) = tanh(W^T x(t) + R^T h(t-1) + b_u),  g(t) = sigmoid(G^T x(t) + H^T h(t-3) + b_g),
    h(t) = g(t) * u(t) + (1 - g(t)) * h(t-3),

and learns to say whether the inputs of two and of five steps ago, each 0 or 1, differ (an exclusive or over time).
"""

from __future__ import annotations

import argparse

import networkx as nx
import numpy as np

import rnngraph as rg


def cell(units: int) -> nx.MultiDiGraph:
    """The cell h with its sums u and g, and a logit y."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=1)
    for name, function in (("u", "tanh"), ("g", "sigmoid")):
        graph.add_node(name, size=units, activation=function)
    graph.add_node("h", size=units, equation="g*u + (1 - g)*old")
    graph.add_node("y", kind="output", size=1)
    graph.add_edge("x", "u", parameter="W")
    graph.add_edge("h", "u", parameter="R", delay=1)
    graph.add_edge("x", "g", parameter="G")
    graph.add_edge("h", "g", parameter="H", delay=3)
    for port in "ug":
        graph.add_edge(port, "h", port=port)
    graph.add_edge("h", "h", port="old", delay=3)
    graph.add_edge("h", "y", parameter="V")
    return graph


def sequences(rng: np.random.Generator, T: int, batch: int) -> tuple[dict, dict, np.ndarray]:
    """Random bits (T, batch, 1), the answers, and step weights (T, batch) that mask the first five steps."""
    bits = rng.integers(0, 2, (T, batch, 1)).astype(np.float32)
    answers = np.abs(np.roll(bits, 2, axis=0) - np.roll(bits, 5, axis=0))
    weights = np.repeat(np.arange(T)[:, None] >= 5, batch, axis=1).astype(np.float32)
    return {"x": bits}, {"y": answers}, weights


def main(epochs: int = 30) -> float:
    """Train the cell; returns the fraction of right answers on new sequences."""
    print(rg.verify(cell(2), loss="binary_cross_entropy"))
    kernel = rg.compile(cell(24), loss="binary_cross_entropy")
    params = kernel.init(seed=0)
    rng = np.random.default_rng(0)
    history = rg.fit(kernel, params, sequences(rng, 40, 256), rg.Adam(1e-2), epochs, batch_size=32, clip_norm=1.0)
    inputs, targets, weights = sequences(rng, 40, 256)
    outputs, _ = kernel.forward(params, inputs)
    right = float(np.average((outputs["y"] > 0) == (targets["y"] > 0.5), weights=weights[:, :, None]))
    print(f"{history}\nright answers on new sequences: {100 * right:.1f} %")
    return right


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    main()
