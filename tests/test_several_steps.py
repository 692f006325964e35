"""Loops that take several steps at once: how many, in which order, and that no number is another for it."""

from __future__ import annotations

import dataclasses
from typing import Any

import networkx as nx
import numpy as np
import pytest
from checking import assert_close, assert_equals_reference, losses_of, problem_for, to_numpy
from random_graphs import random_graph, with_long_loops

import rnngraph as rg
from codegen.ir import Bound, Buffer, Fill, Function, Loop, Staggered, Step, View
from codegen.overlap import overlap
from codegen.program import Program
from codegen.verify import IRError, verify_function
from codegen.walk import map_views, turns
from rnngraph import zoo
from rnngraph.schedule import components

ALL = ("parameters", "inputs", "state")


def ring(*delays: int, size: int = 3) -> nx.MultiDiGraph:
    """A circle of nodes, each reading the one before it with the given delay."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    names = [f"n{k}" for k in range(len(delays))]
    for name in names:
        graph.add_node(name, size=size, activation="tanh", kind="output" if name == names[-1] else "unit")
    graph.add_edge("x", names[0])
    for k, delay in enumerate(delays):
        graph.add_edge(names[k - 1], names[k], parameter=f"R{k}", delay=delay)
    return graph


def steps_of(program: Program, name: str) -> list[int]:
    """How many steps each loop of a function takes at once."""
    (function,) = (function for function in program.functions if function.name == name)
    return [statement.steps for statement in function.body if isinstance(statement, Loop)]


@pytest.mark.parametrize(
    ("delays", "steps"),
    [((1,), 1), ((5,), 5), ((0, 0, 3), 3), ((1, 4), 4), ((4, 1), 4), ((2, 0, 7, 3), 7), ((2, 2), 2), ((1, 1, 1), 1)],
)
def test_as_many_as_the_longest_delay_of_the_worst_cycle(delays: tuple[int, ...], steps: int) -> None:
    program = rg.compile(ring(*delays)).program
    assert steps_of(program, "forward") == [steps]
    assert steps_of(program, "loss_and_gradient") == [steps, steps]
    assert steps_of(program, "stream") == [1]
    for function in program.functions:
        verify_function(function)


def test_a_shorter_cycle_inside_counts() -> None:
    graph = ring(4, 3)
    graph.add_edge("n1", "n1", delay=2, parameter="R")
    assert steps_of(rg.compile(graph).program, "forward") == [2]
    graph = ring(6)
    graph.add_node("h", size=3, activation="tanh", kind="output")
    graph.add_edge("n0", "h")
    graph.add_edge("h", "h", delay=1)  # a loop of its own
    assert sorted(steps_of(rg.compile(graph).program, "forward")) == [1, 6]


def test_networks_with_long_feedback() -> None:
    assert steps_of(rg.compile(zoo.narx(1, 4, 1, 2, [3, 4])).program, "loss") == [3]
    assert steps_of(rg.compile(zoo.lstm(2, 3)).program, "loss_and_gradient") == [1, 1]
    mixed = ring(3, -1)  # a delay and a look-ahead: the parts take turns, one step at a time
    function = rg.compile(mixed).program.functions[0]
    assert [part.steps for each in function.body if isinstance(each, Staggered) for part in each.parts] == [1, 1]


@pytest.mark.parametrize("seed", range(7))
def test_values_and_gradients_on_every_backend(seed: int, backend: str) -> None:
    graph = with_long_loops(random_graph(seed), seed)
    losses = losses_of(graph, seed)
    kernel = rg.compile(graph, loss=losses, backend=backend, dtype="float64", wrt=ALL)
    for T in (11, 3):
        assert_equals_reference(kernel, graph, problem_for(graph, seed, losses, T=T), losses, ALL)


def with_one_step_more(function: Function) -> Function:
    """The function with loops that take one step more at once than they may."""

    def wider(view: View) -> View:
        if isinstance(view.time, Step):
            return dataclasses.replace(view, time=Step(view.time.offset, view.steps + 1))
        if view.buffer.shape != "step":
            return view
        return dataclasses.replace(view, buffer=dataclasses.replace(view.buffer, length=Bound(view.steps + 1)))

    body = [
        dataclasses.replace(map_views(each, wider), steps=each.steps + 1) if isinstance(each, Loop) else each
        for each in function.body
    ]
    return dataclasses.replace(function, body=tuple(body))


@pytest.mark.parametrize("delays", [(5,), (1, 4), (2, 0, 3), (2, 2)])
def test_one_step_too_many_is_found(delays: tuple[int, ...]) -> None:
    """The order of the statements is that of so many steps and no more: the verifier follows what is written."""
    for function in rg.compile(ring(*delays), dtype="float64").program.functions:
        if function.name != "stream":
            verify_function(function)
            with pytest.raises(IRError, match="written only after it was read"):
                verify_function(with_one_step_more(function))


@pytest.mark.parametrize("method", [("tbptt", {"k1": 3, "k2": 7}), ("rtrl", {}), ("bptt-rtrl", {"block": 5})])
def test_learning_rules(method: tuple[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows shorter than the delay, and sensitivities beside the loop, as one step at a time."""
    graph = ring(4, 1, size=2)
    rng = np.random.default_rng(0)
    x, y = {"x": rng.normal(size=(13, 2, 2))}, {"n1": rng.normal(size=(13, 2, 2))}
    name, options = method
    several = rg.compile(graph, method=name, dtype="float64", **options)
    monkeypatch.setattr(components, "_steps_at_once", lambda reads: 1)
    single = rg.compile(graph, method=name, dtype="float64", **options)
    assert 4 in steps_of(several.program, "forward") and 4 not in steps_of(single.program, "forward")
    params = several.init(seed=0)
    (loss, found), (expected_loss, expected) = (kernel.loss_and_gradient(params, x, y) for kernel in (several, single))
    assert loss == pytest.approx(expected_loss, rel=1e-12)
    np.testing.assert_allclose(found.vector, expected.vector, rtol=1e-10, atol=1e-14)


def test_a_stream_goes_on_as_the_whole_sequence(backend: str) -> None:
    kernel = rg.compile(ring(3, 2), backend=backend, dtype="float64")
    params = kernel.init(seed=0)
    x = np.random.default_rng(0).normal(size=(8, 2, 2))
    whole, _ = kernel.forward(params, {"x": x})
    _, state = kernel.forward(params, {"x": x[:2]})
    stream = kernel.stream(params, batch=2, state=state)
    for t in range(2, 8):
        assert_close(stream.step({"x": x[t]})["n1"], to_numpy(whole["n1"])[t], 1e-12, f"t = {t}")


def test_explained() -> None:
    text = str(rg.compile(ring(5)).explain(T=10, batch=1))
    assert "stepped forward, 5 steps at once:" in text and "stepped backward, 5 steps at once:" in text


A = Buffer("a", "sequence", 2, length=Bound(6, 1))
STEP = Buffer("s", "step", 2, length=Bound(3))


def at(buffer: Buffer, offset: int, steps: int) -> View:
    return View(buffer, Step(offset, steps), 0, 2)


def test_turns_and_overlap() -> None:
    assert list(turns(Loop((), steps=3), 7)) == [(0, 1), (0, 4), (0, 7)]
    assert list(turns(Loop((), backward=True, steps=3), 7)) == [(0, 7), (0, 4), (0, 1)]
    assert overlap(at(A, 0, 3), at(A, 2, 3)) and overlap(at(A, 2, 3), at(A, 0, 3))
    assert not overlap(at(A, 0, 3), at(A, 3, 3)) and not overlap(at(A, 0, 1), at(A, 1, 1))


def test_grammar() -> None:
    def check(view: View, steps: int) -> None:
        verify_function(Function("forward", (Loop((Fill(view, 0.0),), steps=steps),)))

    check(at(A, 6, 3), 3)
    check(View(STEP, None, 0, 2), 3)
    for wrong, message in (
        (at(A, 6, 2), "of 2 steps; expected the steps of the loop around it, 3"),
        (at(dataclasses.replace(A, groups=2), 6, 3), "no groups where a loop takes several steps at once"),
        (View(dataclasses.replace(STEP, length=Bound(0)), None, 0, 2), "of 1 steps; expected .*, 3"),
    ):
        with pytest.raises(IRError, match=message):
            check(wrong, 3)
    with pytest.raises(IRError, match=r"T = 1 .*rows 7:8 of 'a'; expected rows within 0:7"):
        verify_function(Function("forward", (Loop((Fill(at(A, 7, 3), 0.0),), steps=3),)))
    with pytest.raises(IRError, match="parts of several steps at once"):
        part = Loop((Fill(at(A, 0, 3), 0.0),), steps=3)
        verify_function(Function("forward", (Staggered((part, part), (0, 1)),)))
