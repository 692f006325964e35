"""Products over many taps: stacked sources built by stretches of time, forward, in the weights' gradient, and ahead."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
import pytest
from checking import assert_close, assert_equals_reference, losses_of, problem_for
from random_graphs import random_graph

import rnngraph as rg
from codegen.ir import Bound, Buffer, Copy, Fill, Function, MatMul, Span, StackMatMul, Statement, View
from codegen.load import load_source
from codegen.passes import block_gates, expand_pointwise, merge_neighbours, stack_products
from codegen.verify import IRError, verify_function
from rnngraph import zoo

Array = npt.NDArray[Any]
ALL = ("parameters", "inputs", "state")


def several_sources() -> nx.MultiDiGraph:
    """Two inputs, a loop, irregular and dilated taps, a layer read by two others."""
    graph = nx.MultiDiGraph()
    graph.add_node("u", kind="input", size=2)
    graph.add_node("v", kind="input", size=3)
    graph.add_node("a", size=4, activation="tanh")
    graph.add_node("b", size=3, activation="sigmoid", initial="parameter")
    graph.add_node("y", kind="output", size=2)
    graph.add_node("z", kind="output", size=1, bias=False)
    graph.add_edge("u", "a", delay=[0, 1, 2, 3])
    graph.add_edge("v", "a", delay=[0, 4, 8])
    graph.add_edge("a", "b", delay=[1, 2, 6])
    graph.add_edge("b", "b", delay=1)
    graph.add_edge("b", "y", delay=[0, 1])
    graph.add_edge("a", "y", delay=[0, 2])
    graph.add_edge("a", "z", delay=[0, 2])
    return graph


GRAPHS = {
    "tdnn": lambda: zoo.tdnn((3, 4, 2), ([0, 1, 2, 3], [0, 2, 5])),
    "dilated": lambda: zoo.tdnn((1, 3, 3, 1), (2, [0, 3, 6], [0, 9])),
    "several sources": several_sources,
}


@functools.cache
def kernel_of(name: str, wrt: tuple[str, ...] = ALL) -> Any:
    graph = GRAPHS[name]()
    return rg.compile(graph, loss=losses_of(graph, 0), dtype="float64", wrt=wrt)


def in_stretches(kernel: Any, steps: int, batch: int) -> Any:
    """The emitted module with stretches of about ``steps`` steps."""
    module = load_source(kernel.source)
    assert module.__dict__["STACK_ROWS"] and module.__dict__["STACK_BYTES"]
    module.__dict__.update(STACK_BYTES=1, STACK_ROWS=steps * batch)
    return module


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("name", GRAPHS)
def test_any_stretch_gives_the_reference(name: str, steps: int) -> None:
    """T = 1 and T shorter than the delays, T a multiple of a stretch and not, one sequence and several."""
    graph = GRAPHS[name]()
    losses = losses_of(graph, 0)
    for T, batch in ((1, 1), (2, 3), (5, 1), (9, 2), (10, 3)):
        problem = problem_for(graph, T, losses, T=T, batch=batch, with_weights=T != 9, with_state=T != 5)
        assert_equals_reference(in_stretches(kernel_of(name), steps, batch), graph, problem, losses, ALL)


@pytest.mark.parametrize("seed", [*range(5, 200, 13), 37, 121, 176, 188])
def test_random_graphs_in_stretches_of_two_steps(seed: int) -> None:
    graph = random_graph(seed)
    losses = losses_of(graph, seed)
    kernel = rg.compile(graph, loss=losses, dtype="float64", wrt=ALL)
    problem = problem_for(graph, seed, losses, T=5, batch=2)
    if "STACK_ROWS" in kernel.source:
        assert_equals_reference(in_stretches(kernel, 2, 2), graph, problem, losses, ALL)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_taps_by_hand(backend: str, dtype: str) -> None:
    """A layer of taps with its gradients, as plain sums over taps."""
    T, batch, delays = 23, 3, [0, 1, 2, 3, 7]
    random = np.random.default_rng(3)
    kernel = rg.compile(
        zoo.tdnn((4, 5), (delays,)), loss="mse", backend=backend, dtype=dtype, wrt=("parameters", "inputs")
    )
    params = {name: random.normal(size=shape).astype(dtype) for name, shape in kernel.parameter_shapes.items()}
    x = random.normal(size=(T, batch, 4)).astype(dtype)
    target = random.normal(size=(T, batch, 5)).astype(dtype)
    before = np.concatenate([np.zeros((7, batch, 4)), x])
    y = params["b_y"] + sum(before[7 - d : 7 - d + T] @ params[f"W_x_y_d{d}"].astype(float) for d in delays)
    delta = 2 * (y - target) / y.size
    after = np.concatenate([delta, np.zeros((7, batch, 5))])
    _, gradients = kernel.loss_and_gradient(params, {"x": x}, {"y": target})
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    assert_close(kernel.forward(params, {"x": x})[0]["y"], y, tolerance, "y")
    for d in delays:
        expected = np.einsum("tbi,tbo->io", before[7 - d : 7 - d + T], delta)
        assert_close(gradients[f"W_x_y_d{d}"], expected, tolerance, f"delay {d}")
    assert_close(gradients["b_y"], delta.sum(axis=(0, 1)), tolerance, "bias")
    expected = sum(after[d : d + T] @ params[f"W_x_y_d{d}"].astype(float).T for d in delays)
    assert_close(gradients.inputs["x"], np.asarray(expected), tolerance, "dL/dx")


def test_a_sequence_in_parts_gives_what_the_whole_gives(backend: str) -> None:
    graph = zoo.tdnn((2, 3, 1), ([0, 1, 2, 3], [0, 4]))
    kernel = rg.compile(graph, backend=backend, dtype="float64")
    params = kernel.init(seed=0)
    x = np.random.default_rng(0).normal(size=(20, 2, 2))
    whole, last = kernel.forward(params, {"x": x})
    state, parts = None, []
    for start, stop in ((0, 1), (1, 3), (3, 14), (14, 20)):
        outputs, state = kernel.forward(params, {"x": x[start:stop]}, state)
        parts.append(outputs["y"])
    assert_close(np.concatenate([np.asarray(part) for part in parts]), np.asarray(whole["y"]), 1e-13, "y")
    assert state is not None
    for node, values in last.items():
        assert_close(state[node], np.asarray(values), 1e-13, node)


# What is emitted.


def test_the_stack_is_never_whole() -> None:
    """At T = 2000 the workspace of forward holds a stretch, and what the caller gave once."""
    kernel = rg.compile(zoo.tdnn((8, 8), ([*range(40)],)), dtype="float32")
    module = load_source(kernel.source)
    work = module.__dict__["ForwardWorkspace"](2000, 10)
    assert work.sources_of_y.nbytes <= module.__dict__["STACK_BYTES"]
    whole = 4 * 2000 * 10 * 40 * 8
    assert work.nbytes < whole / 5


def test_equally_spaced_taps_are_one_assignment() -> None:
    source = rg.compile(zoo.tdnn((2, 3), ([0, 3, 6, 9],))).source
    assert "_windows(self.x, 4, -3)" in source
    assert source.count("sources_of_y[:, :, 8] = 1.0") == 3  # forward, loss, loss_and_gradient
    assert "work.taps_of_y[: stop - first] = work.windows_for_y[first:stop]" in source


def test_deltas_read_ahead_are_stacked_unless_much_wider_than_the_result() -> None:
    def backward(sizes: tuple[int, ...]) -> str:
        text = rg.compile(zoo.tdnn(sizes, ([0], [0, 1, 2])), loss="mse").source
        return text[text.index("class LossAndGradientWorkspace") :]

    assert "sources_of_delta_a1" in backward((2, 3, 12))
    assert "sources_of_delta_a1" not in backward((2, 3, 13))
    with_state = rg.compile(zoo.tdnn((2, 3, 2), ([0], [0, 1])), loss="mse", wrt=ALL).source
    assert "sources_of_delta_a1" not in with_state  # wanted at t <= 0, too


def test_single_delays_and_loops_keep_what_they_had() -> None:
    for graph in (zoo.tdnn((2, 3), ([4],)), zoo.lstm(2, 3), zoo.elman(2, 3, 1)):
        assert "_stretch" not in rg.compile(graph).source


# The pass and its statement by themselves.


def prepared(kernel: Any) -> list[Function]:
    return [
        stack_products(merge_neighbours(block_gates(expand_pointwise(function))))
        for function in kernel.program.functions
    ]


@pytest.mark.parametrize("name", GRAPHS)
def test_what_the_pass_makes_is_valid(name: str) -> None:
    stacked = 0
    for function in prepared(kernel_of(name, ("parameters",))):
        verify_function(function)
        found = [statement for statement in function.body if isinstance(statement, StackMatMul)]
        stacked += len(found)
        by_stack: dict[str, list[bool]] = {}
        for statement in found:
            by_stack.setdefault(statement.stack.buffer.name, []).append(statement.stands)
        assert all(stands == [False] + [True] * (len(stands) - 1) for stands in by_stack.values())
    assert stacked >= 3


def sequence(name: str, columns: int, padding: int = 0) -> Buffer:
    return Buffer(name, "sequence", columns, length=Bound(padding, 1))


def rows(buffer: Buffer, first: int, start: int = 0, stop: int = 0) -> View:
    return View(buffer, Span(Bound(first), Bound(first, 1)), start, stop or buffer.columns, label=buffer.name)


X, S, Y = sequence("x", 2, 1), sequence("s", 4), sequence("y", 3)
W = Buffer("w", "matrix", 3, 4, storage="parameter")
FILLS = (Copy(rows(S, 0, 0, 2), rows(X, 1)), Copy(rows(S, 0, 2, 4), rows(X, 0)))
PRODUCT = MatMul(rows(Y, 0), rows(S, 0), View(W, None, 0, 3, (0, 4)))


def is_stacked(*body: Statement) -> bool:
    function = stack_products(Function("forward", body))
    return any(isinstance(statement, StackMatMul) for statement in function.body)


def test_the_pass_leaves_alone_what_would_change() -> None:
    assert is_stacked(*FILLS, PRODUCT)
    assert not is_stacked(PRODUCT, *FILLS)  # the copies come too late
    assert not is_stacked(FILLS[0], PRODUCT)  # half of it is not copied
    overwritten = Copy(rows(X, 1), rows(sequence("other", 2), 0))
    assert is_stacked(overwritten, *FILLS, PRODUCT)
    assert not is_stacked(*FILLS, overwritten, PRODUCT)  # the copies hold the old values
    assert is_stacked(*FILLS, PRODUCT, overwritten)
    assert not is_stacked(*FILLS, PRODUCT, overwritten, dataclasses.replace(PRODUCT, target=rows(sequence("z", 3), 0)))
    assert not is_stacked(*FILLS, PRODUCT, Copy(rows(sequence("kept", 4), 0), rows(S, 0)))  # something else wants all
    assert not is_stacked(*FILLS, dataclasses.replace(PRODUCT, accumulate=True))
    apart = Copy(rows(S, 0, 2, 4), rows(sequence("other", 2), 0))
    assert not is_stacked(FILLS[0], apart, PRODUCT)  # two signals, one delay each


def test_a_wrong_stack_is_named() -> None:
    (statement,) = stack_products(Function("forward", (*FILLS, PRODUCT))).body
    assert isinstance(statement, StackMatMul)
    taps = statement.stack.taps[0]

    def changed(**values: Any) -> StackMatMul:
        return dataclasses.replace(statement, **values)

    def with_stack(**values: Any) -> StackMatMul:
        return changed(stack=dataclasses.replace(statement.stack, **values))

    given = Fill(rows(X, 1), 0.5)
    verify_function(Function("forward", (given, statement)))
    wrong: list[tuple[Statement, str]] = [
        (with_stack(ones=True), "found a stack of 4 columns; expected a stack of 5"),
        (with_stack(taps=(dataclasses.replace(taps, count=3),)), "expected a stack of 6"),
        (changed(transposed=True), r"stack of 4 columns @ \(4, 3\)"),
        (changed(target=rows(sequence("y", 2), 0)), r"stack of 4 columns @ \(4, 3\)"),
        (with_stack(taps=(dataclasses.replace(taps, spacing=-2),)), r"found rows -1:0 of 'x'"),
        (
            changed(target=dataclasses.replace(rows(X, 1), buffer=X), right=View(W, None, 0, 2, (0, 4))),
            "target's memory",
        ),
    ]
    for statement_, text in wrong:
        with pytest.raises(IRError, match=text):
            verify_function(Function("forward", (given, statement_)))
    with pytest.raises(IRError, match="a read of x, which nothing writes"):
        verify_function(Function("forward", (statement,)))


@pytest.mark.parametrize(("size", "taps"), [(1, 2), (3, 3)])
def test_taps_that_a_loop_of_both_signs_reads(size: int, taps: int) -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=size)
    graph.add_node("a", size=1, activation="tanh")
    graph.add_node("y", kind="output", size=1)
    graph.add_edge("x", "y", delay=list(range(taps)))
    graph.add_edge("y", "a", delay=-1)
    graph.add_edge("a", "y", delay=3)
    losses = losses_of(graph, 0)
    kernel = rg.compile(graph, loss=losses, dtype="float64", wrt=ALL)
    assert_equals_reference(kernel, graph, problem_for(graph, 0, losses, T=7, batch=2, with_state=False), losses, ALL)


def shared_taps(size: int, taps: int) -> nx.MultiDiGraph:
    """Two weighted sums that read the same input at the same delays, one of them in a loop."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=size)
    graph.add_node("h", size=2, activation="tanh")
    graph.add_node("y", kind="output", size=1)
    for target in ("h", "y"):
        graph.add_edge("x", target, delay=list(range(taps)))
    graph.add_edge("h", "h", delay=1)
    graph.add_edge("h", "y")
    return graph


@pytest.mark.parametrize(("size", "taps", "T", "batch"), [(1, 2, 6, 1), (8, 16, 300, 8)])
def test_jacobian_beside_stretches(size: int, taps: int, T: int, batch: int) -> None:
    kernel = rg.compile(shared_taps(size, taps), dtype="float64")
    params = kernel.init(seed=1)
    inputs = {"x": np.random.default_rng(0).normal(size=(T, batch, size))}
    direction = np.random.default_rng(1).normal(size=params.vector.size)
    found = kernel.jacobian(params, inputs)["y"] @ direction
    moved = []
    for sign in (1, -1):
        params.vector[:] = kernel.init(seed=1).vector + sign * 1e-6 * direction
        moved.append(kernel.forward(params, inputs)[0]["y"])
    assert_close(found, (moved[0] - moved[1]) / 2e-6, 1e-6, "jacobian")
