"""The unfolded network computes what the recurrent one computes, with the same parameters and gradients."""

from __future__ import annotations

import dataclasses
from typing import Any

import networkx as nx
import numpy as np
import pytest
from checking import assert_close, losses_of
from metamorphic import BATCH, has_learned_delays, metamorphic_graph, random_data
from random_graphs import random_graph

import rnngraph as rg

STEPS = 4

ELMAN = """\
"x@1"  input, 2 units
"a@1"  3 units, tanh(s)
         <- "x@1"(t)  dense W (2x3)
         + b_a (3)
"y@1"  output, 1 unit, weighted sum
         <- "a@1"(t)  dense V (3x1)
         + b_y (1)
"x@2"  input, 2 units
"a@2"  3 units, tanh(s)
         <- "a@1"(t)  dense R (3x3)
         <- "x@2"(t)  dense W (2x3)
         + b_a (3)
"y@2"  output, 1 unit, weighted sum
         <- "a@2"(t)  dense V (3x1)
         + b_y (1)"""


def assert_unfolds(graph: nx.MultiDiGraph, state: str, losses: dict[str, str], seed: int = 0) -> None:
    """Outputs, loss and gradients of the two networks; a parameter that the unfolded one lacks has the gradient 0."""
    kernel = rg.compile(graph, losses, dtype="float64", wrt=("parameters", "inputs", "state"))
    problem = random_data(kernel, np.random.default_rng([seed, 7]), STEPS)
    if state == "initial":
        problem = dataclasses.replace(problem, state={})
    unfolded = rg.unfold(graph, STEPS, state=state)
    assert all(data.get("delay", 0) == 0 for _, _, data in unfolded.edges(data=True))
    names = {f"{output}@{t}": loss for output, loss in losses.items() for t in range(1, STEPS + 1)}
    feedforward = rg.compile(unfolded, names, dtype="float64", wrt=("parameters", "inputs"))
    given = {**kernel.initial_state(BATCH, problem.parameters), **problem.state}
    values = {f"{name}@{t + 1}": array[t : t + 1] for name, array in problem.inputs.items() for t in range(STEPS)}
    for name, array in given.items():
        values |= {f"{name}@{k + 1 - len(array)}": array[k : k + 1] for k in range(len(array))}
    inputs = {name: values[name] for name in feedforward.program.inputs}
    parameters = {name: problem.parameters[name] for name in feedforward.parameter_shapes}
    targets = {f"{name}@{t + 1}": array[t : t + 1] for name, array in problem.targets.items() for t in range(STEPS)}
    outputs, _ = kernel.forward(problem.parameters, problem.inputs, problem.state)
    unfolded_outputs, _ = feedforward.forward(parameters, inputs)
    for name, array in outputs.items():
        found = np.concatenate([unfolded_outputs[f"{name}@{t}"] for t in range(1, STEPS + 1)])
        assert_close(found, array, 1e-12, f"output {name!r}")
    loss, gradients = kernel.loss_and_gradient(problem.parameters, problem.inputs, problem.targets, problem.state)
    summed, shared = feedforward.loss_and_gradient(parameters, inputs, targets)
    assert_close(summed / STEPS, np.asarray(loss), 1e-12, "loss")
    learned = {data.get("initial") for data in rg.explicit_parameters(graph).nodes.values()}
    for name, array in gradients.items():
        if state == "initial" or name not in learned:
            found = shared[name] / STEPS if name in shared else np.zeros_like(array)
            assert_close(found, array, 1e-12, f"gradient of {name!r}")
    expected: dict[str, Any] = {}
    for name, array in gradients.inputs.items():
        expected |= {f"{name}@{t + 1}": array[t : t + 1] for t in range(STEPS)}
    if state == "inputs":
        for name, array in gradients.state.items():
            expected |= {f"{name}@{k + 1 - len(array)}": array[k : k + 1] for k in range(len(array))}
    for name, array in shared.inputs.items():
        assert_close(array / STEPS, expected[name], 1e-12, f"gradient of {name!r}")


@pytest.mark.parametrize("seed", [seed for seed in range(20) if not has_learned_delays(metamorphic_graph(seed))][:8])
def test_states_as_inputs(seed: int) -> None:
    graph = metamorphic_graph(seed)
    assert_unfolds(graph, "inputs", losses_of(graph, seed), seed)


def reached_at_once(graph: nx.MultiDiGraph) -> bool:
    """Whether an input reaches every output without any delay."""
    now = nx.DiGraph()
    now.add_nodes_from(graph)
    now.add_edges_from((u, v) for u, v, data in graph.edges(data=True) if 0 in np.atleast_1d(data.get("delay", 0)))
    kinds = dict(graph.nodes(data="kind"))
    return all(
        any(kinds[source] == "input" for source in nx.ancestors(now, node)) for node in graph if kinds[node] == "output"
    )


@pytest.mark.parametrize("seed", [seed for seed in range(40) if reached_at_once(random_graph(seed))][:8])
def test_initial_values(seed: int) -> None:
    """Every unit that is read late starts from a learned value or, where no port could make all of it 0, from 0."""
    graph = random_graph(seed)
    late = rg.validate(graph)
    learned = seed % 2 == 1 or any("port" in data for _, _, data in graph.edges(data=True))
    for node, data in graph.nodes(data=True):
        data.pop("initial", None)
        if learned and late.depth(node) and data.get("kind") != "input":
            data["initial"] = "parameter"
    assert_unfolds(graph, "initial", losses_of(graph, seed), seed)


def test_numbers_are_written_into_equations() -> None:
    """Initial numbers read through a port and an identity edge, and the value that follows from one."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    graph.add_node("a", size=2, equation="tanh(s)*memory", initial=0.5)
    graph.add_node("y", kind="output", size=2, initial=-0.25)
    graph.add_node("late", size=2, activation="cos", bias=False, initial=2.0)
    graph.add_edge("x", "a")
    graph.add_edge("a", "a", port="memory", delay=2)
    graph.add_edge("a", "y")
    graph.add_edge("y", "y", structure="identity", delay=1)
    graph.add_edge("x", "late", delay=1)  # cos(0) at t = 1
    graph.add_edge("late", "y", structure="identity", delay=1)
    assert_unfolds(graph, "initial", {"y": "mse"})
    unfolded = rg.unfold(graph, 2)
    assert str(unfolded.nodes["a@1"]["equation"]) == "tanh(s)/2"
    assert "late@1" not in unfolded


@pytest.mark.parametrize("state", ["inputs", "initial"])
def test_look_ahead(state: str) -> None:
    """A unit that runs backward in time reads, at the last step, what comes after it."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    graph.add_node("y", kind="output", size=1)
    for name, delay in {"forward": 1, "backward": -1}.items():
        graph.add_node(name, size=2, activation="tanh", initial="parameter")
        graph.add_edge("x", name, delay=[0, 2 * delay] if state == "inputs" and name == "backward" else 0)
        graph.add_edge(name, name, delay=delay)
        graph.add_edge(name, "y")
    if state == "inputs":
        assert {"x@6", "backward@5", "forward@0"} <= set(rg.unfold(graph, STEPS, state=state))
    else:
        assert_unfolds(graph, state, {"y": "mse"})


def test_elman_network_to_read() -> None:
    graph = rg.zoo.elman(2, 3, 1, recurrence="dense")
    assert rg.as_text_drawing(rg.unfold(graph, 2)) == ELMAN
    assert nx.is_directed_acyclic_graph(rg.unfold(graph, 5))


def test_the_graph_is_not_changed_and_node_names_may_be_anything() -> None:
    graph = nx.relabel_nodes(rg.explicit_parameters(rg.zoo.lstm(2, 3)), {"x": ("x", 1), "c": 7})
    before = str(list(graph.nodes(data=True)) + list(graph.edges(data=True)))
    unfolded = rg.unfold(graph, 3, state="inputs")
    assert {"('x', 1)@1", "7@0", "h@3"} <= set(unfolded)
    assert str(list(graph.nodes(data=True)) + list(graph.edges(data=True))) == before


def test_what_is_refused() -> None:
    graph = rg.zoo.elman(1, 2, 1, recurrence="dense")
    for steps in (0, -1, 2.5, True):
        with pytest.raises(rg.OptionError, match=r"steps: found .*; expected an int >= 1"):
            rg.unfold(graph, steps)  # type: ignore[arg-type]
    with pytest.raises(rg.OptionError, match="state: found 'zeros'; expected one of initial, inputs"):
        rg.unfold(graph, 2, state="zeros")
    graph.nodes["a"]["initial"] = 0.5
    with pytest.raises(rg.GraphError, match=r"edge 'a' -> 'a' at t = 1: found a weight on a value of 0\.5 that"):
        rg.unfold(graph, 2)
    rg.unfold(graph, 2, state="inputs")
    graph.edges["x", "a", 0]["delay"] = {"max": 2, "learned": True}
    with pytest.raises(rg.UnsupportedError, match="edge 'x' -> 'a': found a learned delay, all of whose weights"):
        rg.unfold(graph, 2, state="inputs")
    late = rg.zoo.tdnn((1, 2, 1), ([1, 2], 1))
    with pytest.raises(rg.GraphError, match=r"no input of t >= 1 that reaches it.*state='inputs'"):
        rg.unfold(late, 3)
    never = nx.MultiDiGraph()
    never.add_node("x", kind="input", size=1)
    never.add_node("a", size=1, equation="log(memory)")
    never.add_node("y", kind="output", size=1, equation="s + memory")
    never.add_edge("x", "y")
    never.add_edge("y", "a", port="memory", delay=1)
    never.add_edge("a", "y", port="memory", delay=1)
    with pytest.raises(rg.GraphError, match="node 'a@1': found the value -inf of its equation"):
        rg.unfold(never, 2)
