"""Linear recurrences unit by unit: found in the loops of a NumPy module, and computed in blocks of time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import pytest
from checking import assert_equals_reference, losses_of, problem_for
from random_graphs import random_graph

import rnngraph as rg
from codegen.ir import Apply, Bound, Buffer, Fill, Function, Loop, Step, Store, View
from codegen.printers.recurrences import HELPERS, MOST_UNITS, recurrence_of

ALL = ("parameters", "inputs", "state")


def cell(equation: str = "", **edge: Any) -> nx.MultiDiGraph:
    """A node h of 3 units with a loop: through a port h_prev of ``equation``, or by a weight; and an output y."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    graph.add_node("h", size=3, initial=0.4, **({"equation": equation} if equation else {}))
    graph.add_node("y", kind="output", size=2, activation="tanh")
    graph.add_edge("x", "h")
    graph.add_edge("h", "h", delay=1, **(edge or {"port": "h_prev"}))
    graph.add_edge("h", "y")
    return graph


def gated() -> nx.MultiDiGraph:
    """A minimal gated unit: its gate and its candidate read the input alone."""
    graph = cell("(1 - z)*h_prev + z*c")
    graph.remove_edge("x", "h")
    for name, activation in (("z", "sigmoid"), ("c", "tanh")):
        graph.add_node(name, size=3, activation=activation)
        graph.add_edge("x", name)
        graph.add_edge(name, "h", port=name)
    return graph


def backward_in_time() -> nx.MultiDiGraph:
    graph = cell("0.8*h_next + s", port="h_next")
    for _, _, edge in graph.out_edges("h", data=True):
        if "delay" in edge:
            edge["delay"] = -1
    return graph


NETWORKS: dict[str, Callable[[], nx.MultiDiGraph]] = {
    "a number": lambda: cell("0.9*h_prev + s"),
    "a number at the sum, too": lambda: cell("0.75*h_prev + 0.25*s"),
    "a vector": lambda: cell(structure="diagonal"),
    "a gate of the sum": lambda: cell("sigmoid(s)*h_prev + 0.1*s"),
    "a gate of the input": gated,
    "backward in time": backward_in_time,
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("wrt", [("parameters",), ALL])
def test_values_and_gradients(name: str, wrt: tuple[str, ...]) -> None:
    """For lengths below and above that from which time is cut into blocks, and ones that blocks do not divide."""
    graph = NETWORKS[name]()
    kernel = rg.compile(graph, dtype="float64", wrt=wrt)
    assert kernel.source.count("= _Recurrence(self.") == 4  # forward, loss, and gradient both ways
    for T in (1, 64, 75):
        problem = problem_for(graph, T, {"y": "mse"}, T=T, batch=2, with_state=T % 2 == 0)
        for _ in range(2):  # nothing of the first call is left in the workspace
            assert_equals_reference(kernel, graph, problem, {"y": "mse"}, wrt)


@pytest.mark.parametrize("seed", [10, 18, 22, 26, 29])
def test_random_graphs_over_many_steps(seed: int) -> None:
    """Graphs in which some loops are recurrences and others are not."""
    graph = random_graph(seed)
    losses = losses_of(graph, seed)
    kernel = rg.compile(graph, loss=losses, dtype="float64", wrt=ALL)
    assert "_Recurrence(self." in kernel.source
    assert_equals_reference(kernel, graph, problem_for(graph, seed, losses, T=70, batch=2), losses, ALL)


def test_windows_and_streams() -> None:
    graph = gated()
    rng = np.random.default_rng(0)
    x, y = {"x": rng.normal(size=(140, 2, 2))}, {"y": rng.normal(size=(140, 2, 2))}
    truncated = rg.compile(graph, dtype="float64", method="tbptt", k1=70, k2=140)
    whole = rg.compile(graph, dtype="float64")
    params = whole.init(seed=0)
    np.testing.assert_allclose(
        truncated.loss_and_gradient(params, x, y)[1].vector,
        whole.loss_and_gradient(params, x, y)[1].vector, rtol=1e-10, atol=1e-14,
    )  # fmt: skip
    expected, _ = whole.forward(params, x)
    stream = whole.stream(params, batch=2)
    for t in range(70):
        np.testing.assert_allclose(stream.step({"x": x["x"][t]})["y"], expected["y"][t], rtol=1e-12)


def recurrence(target: Any, added: Any, factor: Any = None) -> Any:
    """An object of the emitted class."""
    namespace: dict[str, Any] = {"np": np, "DTYPE": target.dtype}
    exec(HELPERS["_Recurrence"], namespace)
    return namespace["_Recurrence"](target, added, factor)


@pytest.mark.parametrize("varies", [True, False])
def test_factors_that_cannot_be_multiplied_up(varies: bool) -> None:
    """Where products of factors are too large the steps are taken one by one: 0 times a large number is 0."""
    T = 100
    factor = np.full((T, 1, 2), 1e20, np.float32)
    added = np.zeros((T, 1, 2), np.float32)
    target = np.full((T + 1, 1, 2), np.nan, np.float32)
    target[0] = 0.0
    run = recurrence(target, added, factor if varies else None)
    run(None if varies else factor[0, 0])
    assert np.array_equal(target, np.zeros_like(target))
    factor[::2] = 0.0  # and here each block's product is 0
    added[...] = 1.0
    if varies:
        run()
        assert np.array_equal(target[1::2], np.ones_like(target[1::2]))


def test_as_many_numbers_as_a_call_costs() -> None:
    """Blocks for few numbers in a step, one step after the other for many: the same values."""
    rng = np.random.default_rng(0)
    for batch, blocks in ((1, True), (MOST_UNITS // 4, True), (MOST_UNITS // 4 + 1, False)):
        factor, added, target = rng.random((80, batch, 4)), rng.normal(size=(80, batch, 4)), np.zeros((81, batch, 4))
        run = recurrence(target, added, factor)
        run()
        assert bool(run.blocks) == blocks
        expected = np.zeros((batch, 4))
        for t in range(80):
            expected = factor[t] * expected + added[t]
            np.testing.assert_allclose(target[t + 1], expected, rtol=1e-12, atol=1e-14)


C, F, U, P = (Buffer(name, "sequence", 4, length=Bound(1, 1)) for name in ("c", "f", "u", "p"))
SCRATCH = Buffer("scratch_1", "step", 4)


def at(buffer: Buffer, offset: int = 0) -> View:
    return View(buffer, Step(offset) if buffer.shape == "sequence" else None, 0, buffer.columns, label=buffer.name)


def found(*body: Any, after: tuple[Any, ...] = (), backward: bool = False) -> bool:
    loop = Loop(body, backward)
    return recurrence_of(loop, Function("forward", (loop, *after))) is not None


def test_what_is_no_recurrence() -> None:
    product = Apply(at(C, 1), "multiply", (at(F), at(C)))
    total = Apply(at(C, 1), "add", (at(C, 1), at(U)))
    held = Buffer("held", "step", 4)
    carried = Apply(at(C), "add", (at(held), at(U))), Apply(at(held), "multiply", (at(C), at(F)))
    assert found(product, total) and found(*carried) and found(*carried, after=(Fill(at(held), 0.0),))
    assert found(Apply(at(SCRATCH), "multiply", (at(C), at(F))), Apply(at(C, 1), "add", (at(U), at(SCRATCH))))
    other = Apply(at(P), "multiply", (at(C), at(F)))
    for body in (
        (product,),
        (product, total, product),
        (product, Apply(at(C, 1), "subtract", (at(C, 1), at(U)))),
        (other, Apply(at(C, 1), "add", (at(P), at(U)))),  # p is a value of its own
        (product, Apply(at(C, 1), "add", (at(C, 1), at(C)))),
        (product, Apply(at(C, 1), "add", (at(C, 1), at(F, 1)))),  # f is read twice
        (Apply(at(C, 1), "multiply", (at(C), at(C))), total),
        (dataclasses.replace(product, arguments=(at(F), at(C, -1))), total),  # two steps back
        (product, dataclasses.replace(total, arguments=(at(C, 1), 1.0))),
    ):
        assert not found(*body), body
    assert not found(product, total, backward=True)
    assert not found(*carried, after=(Store(at(held), "state", "h"),))
    wide = [Buffer(name, "sequence", MOST_UNITS + 1, length=Bound(1, 1)) for name in "cfu"]
    c, f, u = wide
    assert not found(Apply(at(c, 1), "multiply", (at(f), at(c))), Apply(at(c, 1), "add", (at(c, 1), at(u))))
