"""The adjoint network, run in reversed time, against the gradient by inputs and the dot-product identity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import sympy
from checking import assert_close
from metamorphic import BATCH, STEPS, has_learned_delays, metamorphic_graph, random_data
from random_graphs import random_graph, random_problem

import rnngraph as rg
from rnngraph.evaluate import Evaluation, evaluate_expression, numpy_functions

EQUATIONS = """\
Forward
  (1) delta_a(t) = V_T^T delta_y(t) + R_T^T delta_s_a(t-1)
  (2) delta_s_a(t) = delta_a(t) * da_ds(t)
  (3) delta_x(t) = W_T^T delta_s_a(t)
"""


def linear_graph(seed: int) -> nx.MultiDiGraph:
    """A random graph whose nodes add up their weighted sum and their ports."""
    graph = random_graph(seed)
    for node, data in graph.nodes(data=True):
        ports = sorted({edge.get("port", "s") for _, _, edge in graph.in_edges(node, data=True)})
        if data.get("kind") != "input":
            for attribute in ("activation", "equation"):
                data.pop(attribute, None)
            if ports != ["s"]:
                data["equation"] = " + ".join(f"{0.5 - 0.2 * k}*{port}" for k, port in enumerate(ports))
    return graph


@pytest.mark.parametrize("seed", range(12))
def test_dot_product_identity_of_linear_networks(seed: int) -> None:
    """<y, u> = <x, x'>: the outputs y on x, without what biases and initial values add, and the adjoint's x' on u."""
    graph = linear_graph(seed)
    problem = random_problem(graph, seed, T=STEPS, batch=BATCH, with_weights=False, with_state=False)
    kernel = rg.compile(graph, dtype="float64")
    outputs, _ = kernel.forward(problem.parameters, problem.inputs)
    offsets, _ = kernel.forward(problem.parameters, {name: 0.0 * x for name, x in problem.inputs.items()})
    adjoint, params = rg.transpose(graph, problem.parameters)
    backward = rg.compile(adjoint, dtype="float64")
    given = sent_back(backward, problem.targets)
    assert set(given) == set(backward.program.inputs), "a linear network needs no factors"
    found, _ = backward.forward(params, given)
    left = sum(((outputs[name] - offsets[name]) * u).sum() for name, u in problem.targets.items())
    right = sum((x * found[f"delta_{name}"][::-1]).sum() for name, x in problem.inputs.items())
    assert_close(left, np.asarray(right), 1e-12, "dot product")


def sent_back(backward: rg.Kernel, derivatives: dict[str, Any]) -> dict[str, Any]:
    """The derivatives by the outputs under the names that they have in the adjoint network, last step first."""
    names = {output: {f"delta_{output}", f"dL_d{output}"} & set(backward.program.inputs) for output in derivatives}
    return {name: derivatives[output][::-1] for output, found in names.items() for name in found}


def factors(graph: nx.MultiDiGraph, problem: Any, wanted: set[str]) -> dict[str, Any]:
    """d<node>/d<port> along a run of the network, by the reference interpreter."""
    system, model = rg.derive(graph), rg.validate(graph)
    run = Evaluation(system, STEPS, BATCH, problem.inputs, problem.parameters)
    sums = {signal.origin: name for name, signal in system.signals.items() if signal.kind == "sum"}
    found: dict[str, Any] = {}
    for name, node in model.nodes.items():
        sources = {edge.port: edge for edge in model.edges if edge.destination == name and edge.port != "s"}
        for port in node.equation.free_symbols if node.equation is not None else ():
            if f"d{name}_d{port}" not in wanted:
                continue
            derivative, steps = sympy.diff(node.equation, port), []
            for t in range(1, STEPS + 1):
                values = {}
                for symbol in derivative.free_symbols:
                    edge = sources.get(symbol.name)
                    values[symbol] = (
                        run.value(sums[name], t) if edge is None else run.value(edge.source, t - edge.delay)
                    )
                value = evaluate_expression(derivative, values, numpy_functions())
                steps.append(np.broadcast_to(value, (BATCH, node.size)))
            found[f"d{name}_d{port}"] = np.array(steps)[::-1]
    return found


@pytest.mark.parametrize("seed", [seed for seed in range(20) if not has_learned_delays(metamorphic_graph(seed))][:12])
def test_gradient_by_inputs_of_any_network(seed: int) -> None:
    """With the factors of the forward pass as inputs, the adjoint network is backpropagation through time."""
    graph = metamorphic_graph(seed)
    kernel = rg.compile(graph, "y*target", dtype="float64", wrt=("inputs",))
    problem = random_data(kernel, np.random.default_rng([seed, 8]))
    _, gradients = kernel.loss_and_gradient(problem.parameters, problem.inputs, problem.targets)
    adjoint, params = rg.transpose(graph, problem.parameters)
    backward = rg.compile(adjoint, dtype="float64")
    given = sent_back(backward, {name: target / target.size for name, target in problem.targets.items()})
    given |= factors(graph, problem, set(backward.program.inputs))
    found, _ = backward.forward(params, given)
    for name, gradient in gradients.inputs.items():
        assert_close(found[f"delta_{name}"][::-1], gradient, 1e-12, f"gradient by {name!r}")


def test_elman_network_to_read() -> None:
    adjoint = rg.transpose(rg.zoo.elman(2, 3, 1, recurrence="dense"))
    assert str(rg.derive(adjoint)).startswith(EQUATIONS)


def test_transposed_twice() -> None:
    """A linear network without biases is its adjoint's adjoint, up to names."""
    graph = rg.zoo.elman(2, 3, 1, recurrence="dense", activation="identity")
    for node in "ay":
        graph.nodes[node]["bias"] = False
    params = rg.compile(graph, dtype="float64").init()
    adjoint, turned = rg.transpose(graph, params)
    twice, again = rg.transpose(adjoint, turned)
    x = np.random.default_rng(0).normal(size=(5, 2, 2))
    expected, _ = rg.compile(graph, dtype="float64").forward(params, {"x": x})
    found, _ = rg.compile(twice, dtype="float64").forward(again, {"delta_delta_x": x})
    np.testing.assert_allclose(found["delta_delta_y"], expected["y"], rtol=1e-12)
    assert turned["V_T"].shape == (1, 3)
    turned["V_T"][:] = 0.0
    assert params["V"].any(), "the caller's arrays changed"


def test_look_ahead_becomes_look_ahead_in_reversed_time() -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    graph.add_node("y", kind="output", size=2, bias=False)
    graph.add_edge("x", "y", delay=-1)
    graph.add_edge("y", "y", delay=-2, structure="diagonal")
    kernel = rg.compile(graph, "y*target", dtype="float64", wrt=("inputs",))
    data = random_data(kernel, np.random.default_rng(0))
    _, gradients = kernel.loss_and_gradient(data.parameters, data.inputs, data.targets)
    adjoint, params = rg.transpose(graph, data.parameters)
    given = {"dL_dy": (data.targets["y"] / data.targets["y"].size)[::-1]}
    found, _ = rg.compile(adjoint, dtype="float64").forward(params, given)
    assert_close(found["delta_x"][::-1], gradients.inputs["x"], 1e-12, "gradient by x")


def test_a_port_fed_by_one_unit_gets_the_sum_back() -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=1)
    graph.add_node("y", kind="output", size=3, equation="2*p")
    graph.add_edge("x", "y", port="p", delay=1)
    found, _ = rg.compile(rg.transpose(graph), dtype="float64").forward({}, {"delta_y": np.ones((2, 1, 3))})
    assert found["delta_x"].ravel().tolist() == [0.0, 6.0]


def test_nodes_that_no_input_reaches_are_left_out() -> None:
    graph = rg.zoo.elman(2, 3, 1)
    graph.add_node("offset", size=3, activation="tanh", bias=True)
    graph.add_edge("offset", "a", parameter="U")
    adjoint, params = rg.transpose(graph, rg.compile(graph).init())
    assert "delta_offset" not in adjoint
    assert "U_T" not in params
    rg.validate(adjoint)


def test_it_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for graph in (rg.zoo.elman(2, 3, 1), rg.unfold(rg.zoo.elman(2, 3, 1, recurrence="dense"), 3)):
        rg.draw(rg.transpose(graph), tmp_path / "adjoint.svg")
        assert (tmp_path / "adjoint.svg").stat().st_size > 0
