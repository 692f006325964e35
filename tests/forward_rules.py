"""What the tests of rules that go forward in time share: a network, parameters, gradients by the interpreter."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import reference

from rnngraph import zoo
from rnngraph.evaluate import Evaluation
from rnngraph.system import System

SIZES = {"x": 2, "a": 3, "y": 2}
# The networks of the zoo that do not look ahead.
CAUSAL = [name for name in zoo.NETWORKS if min(reference.state_depths(zoo.example(name)).values(), default=0) >= 0]


def host(array: Any) -> Any:
    """The array in the host's memory."""
    return array.get() if hasattr(array, "get") else np.asarray(array)


def error_of(found: Any, expected: Any) -> float:
    found, expected = host(found), host(expected)
    return float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max())) if expected.size else 0.0


def draw(kernel: Any, seed: int) -> dict[str, Any]:
    """Parameters that are not small, the biases and initial values included."""
    rng = np.random.default_rng(seed)
    return {name: 0.6 * rng.normal(size=shape) for name, shape in kernel.parameter_shapes.items()}


def evaluated(system: System, seed: int, T: int = 6, batch: int = 2) -> dict[str, Any]:
    """Every gradient of the System by the interpreter, on random data."""
    rng = np.random.default_rng([seed, 7])
    parameters = {name: 0.6 * rng.normal(size=shape) for name, shape in system.parameters.items()}
    given = {
        name: rng.normal(size=(T, batch, signal.size))
        for name, signal in system.signals.items()
        if signal.kind in ("input", "target")
    }
    given["w"] = rng.uniform(size=(T, batch, 1))
    evaluation = Evaluation(system, T, batch, given, parameters)
    return {total.name: evaluation.total(total) for total in system.totals}


def recurrent(seed: int = 0) -> nx.MultiDiGraph:
    """x -> a -> y; a(t) = 0.7 a(t-1) + 0.3 tanh(s) with a dense recurrent weight R."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=SIZES["x"])
    graph.add_node("a", size=SIZES["a"], equation="0.7*r + 0.3*tanh(s)", bias="b")
    graph.add_node("y", kind="output", size=SIZES["y"], bias=False)
    graph.add_edge("x", "a", parameter="W")
    graph.add_edge("a", "a", parameter="R", delay=1)
    graph.add_edge("a", "a", port="r", delay=1)
    graph.add_edge("a", "y", parameter="V")
    return graph
