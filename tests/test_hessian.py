"""Hessian-vector products: against the interpreter of the System, differences of gradients, and their own symmetry."""

from __future__ import annotations

import dataclasses
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
import pytest
from checking import assert_close, losses_of, problem_for, to_numpy
from random_graphs import Problem, random_graph

import rnngraph as rg
from codegen.interpret import Interpreter
from codegen.ir import Fill
from codegen.load import load_source
from codegen.verify import IRError, verify_function
from rnngraph import zoo
from rnngraph.derive import derive
from rnngraph.evaluate import Evaluation
from rnngraph.hessian import hessian_program
from rnngraph.losses import with_loss
from rnngraph.vjp import vjp

Array = npt.NDArray[Any]
Case = tuple[nx.MultiDiGraph, dict[str, str], Problem]
NETWORKS = {
    "elman": zoo.elman(2, 3, 2, recurrence="dense"),
    "lstm": zoo.lstm(2, 3, 2, peepholes=True),
    "gru": zoo.gru(2, 3, 2),
    "narx": zoo.narx(1, 3, 2, 2, 3),
    "tdnn": zoo.tdnn((2, 3, 2), ([0, 2], 1)),
    "jordan": zoo.jordan(2, 3, 2, decay=0.4),
}
RANDOM_GRAPHS = 40


def shared_and_learned() -> nx.MultiDiGraph:
    """One weight on two edges, learned initial values at two depths, a fixed edge, a diagonal one, a unit for many."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=3)
    graph.add_node("a", size=3, activation="tanh", initial="parameter")
    graph.add_node("g", size=1, activation="sigmoid", initial="parameter")
    graph.add_node("y", kind="output", size=3, equation="s*gain + square(s)/4", initial="parameter")
    graph.add_edge("x", "a", parameter="W")
    graph.add_edge("a", "a", parameter="W", delay=1)
    graph.add_edge("a", "a", structure="diagonal", delay=3)
    graph.add_edge("a", "g", delay=2)
    graph.add_edge("g", "y", port="gain", delay=1)
    graph.add_edge("a", "y", structure="fixed", value=np.arange(9.0).reshape(3, 3) / 9)
    graph.add_edge("y", "y", delay=1)
    return graph


def chain_of_learned_values() -> nx.MultiDiGraph:
    """b(t) = a(t), both read later: the adjoint of a at t <= 0 must not take what is b's own at t <= 0."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    graph.add_node("a", size=2, activation="tanh", initial="parameter")
    graph.add_node("b", size=2, equation="p", initial=0.25)
    graph.add_node("y", kind="output", size=2)
    graph.add_edge("x", "a")
    graph.add_edge("a", "b", port="p")
    graph.add_edge("b", "y", delay=1)
    graph.add_edge("a", "a", delay=2)
    return graph


GRAPHS = {
    **NETWORKS,
    "shared and learned": shared_and_learned(),
    "chain": chain_of_learned_values(),
    **{f"random graph {seed}": random_graph(seed) for seed in range(RANDOM_GRAPHS)},
}


def case(name: str, T: int = 4) -> Case:
    """The network of that name, losses that go round the table, a problem with state and weights for some."""
    number = list(GRAPHS).index(name)
    graph = GRAPHS[name]
    losses = losses_of(graph, number)
    return graph, losses, problem_for(graph, number, losses, T=T, batch=2)


def direction_for(problem: Problem, seed: int) -> dict[str, Array]:
    rng = np.random.default_rng([seed, 77])
    return {name: rng.normal(size=value.shape) for name, value in problem.parameters.items()}


def arguments(problem: Problem) -> tuple[Any, ...]:
    return problem.inputs, problem.targets, problem.state, problem.weights


def by_the_interpreter(
    graph: nx.MultiDiGraph, losses: Any, problem: Problem, direction: dict[str, Array]
) -> dict[str, Array]:
    """The tangents of the gradients in jvp(vjp(system)), evaluated plainly."""
    system = rg.jvp(vjp(with_loss(derive(graph), losses)))
    T, batch = next(iter(problem.inputs.values())).shape[:2]
    weights = np.ones((T, batch)) if problem.weights is None else problem.weights
    values: dict[str, Array] = {}
    for name, signal in system.signals.items():
        if signal.kind == "input":
            values[name] = problem.inputs[name]
        elif signal.kind == "weight":
            values[name] = (weights / weights.sum())[..., None]
        elif signal.kind == "target" and signal.origin is not None:
            target = problem.targets[signal.origin]
            values[name] = np.eye(signal.size)[target] if losses[signal.origin] == "cross_entropy" else target
    along = {added: direction[name] for added, name in system.directions.items()}
    run = Evaluation(system, T, batch, values, {**problem.parameters, **along}, state=problem.state or {})
    return {total.of: run.total(total) for total in system.totals if total.kind == "tangent" and total.of is not None}


@pytest.mark.parametrize("name", GRAPHS)
def test_equals_the_interpreter_of_the_system(name: str, backend: str) -> None:
    graph, losses, problem = case(name)
    direction = direction_for(problem, 1)
    kernel = rg.compile(graph, loss=losses, dtype="float64", backend=backend)
    found = kernel.hessian_vector_product(problem.parameters, direction, *arguments(problem))
    expected = by_the_interpreter(graph, losses, problem, direction)
    assert set(found) == set(kernel.parameter_shapes)
    for parameter, value in expected.items():
        assert_close(found[parameter], value, 1e-10, f"Hessian product of {parameter}")


@pytest.mark.parametrize("name", GRAPHS)
def test_symmetric_and_the_difference_of_gradients(name: str) -> None:
    graph, losses, problem = case(name)
    kernel = rg.compile(graph, loss=losses, dtype="float64")
    params, v, w = (kernel.init(0) for _ in range(3))
    params.update(problem.parameters)
    v.update(direction_for(problem, 1))
    w.update(direction_for(problem, 2))
    data = arguments(problem)
    along_v = kernel.hessian_vector_product(params, v, *data).vector
    along_w = kernel.hessian_vector_product(params, w, *data).vector
    scale = np.linalg.norm(along_v) * np.linalg.norm(w.vector) + np.linalg.norm(along_w) * np.linalg.norm(v.vector)
    assert abs(along_v @ w.vector - along_w @ v.vector) <= 1e-10 * max(scale, 1e-30)
    gradients = []
    for step in (1e-5, -1e-5):
        moved = params.copy()
        moved.vector[...] += step * v.vector
        gradients.append(kernel.loss_and_gradient(moved, *data)[1].vector)
    assert_close(along_v, (gradients[0] - gradients[1]) / 2e-5, 1e-6, "Hessian product")


@pytest.mark.parametrize("name", [*NETWORKS, "shared and learned", *(f"random graph {k}" for k in range(0, 20, 4))])
def test_the_program_is_valid_and_its_interpreter_agrees(name: str) -> None:
    """The grammar before and after the printer's passes is checked elsewhere for all statements: here the new ones."""
    graph, losses, problem = case(name)
    direction = direction_for(problem, 3)
    kernel = rg.compile(graph, loss=losses, dtype="float64")
    program = hessian_program(kernel.compilation)
    (function,) = program.functions
    verify_function(function)
    params, along = kernel.init(0), kernel.init(0)
    params.update(problem.parameters)
    along.update(direction)
    gradient = np.full(program.vector_size, np.nan)
    given = {
        "inputs": problem.inputs, "targets": problem.targets, "state": problem.state or {}, "weights": problem.weights,
    }  # fmt: skip
    run = Interpreter(4, 2, params.vector, gradient, given, direction=along.vector)
    assert run.run(function) == {}
    found = kernel.hessian_vector_product(params, along, *arguments(problem))
    assert_close(gradient, found.vector, 1e-12, "interpreted program")


@pytest.mark.parametrize("name", [*NETWORKS, "shared and learned"])
def test_float32(name: str, backend: str) -> None:
    graph, losses, problem = case(name)
    direction = direction_for(problem, 1)
    kernel = rg.compile(graph, loss=losses, dtype="float32", backend=backend)
    found = kernel.hessian_vector_product(problem.parameters, direction, *arguments(problem))
    expected = by_the_interpreter(graph, losses, problem, direction)
    assert found.vector.dtype == np.float32
    for parameter, value in expected.items():
        assert_close(found[parameter], value, 2e-4, f"Hessian product of {parameter}")


@pytest.mark.parametrize("given", [(), ("a",), ("a", "y"), ("a", "g", "y")])
def test_a_given_state_does_not_move_with_the_learned_values(given: tuple[str, ...], backend: str) -> None:
    graph, losses = shared_and_learned(), {"y": "mse"}
    problem = problem_for(graph, 5, losses, T=4, batch=2, with_state=False)
    depths = {"a": (3, 3), "g": (1, 1), "y": (1, 3)}
    rng = np.random.default_rng(3)
    state = {node: rng.normal(size=(depths[node][0], 2, depths[node][1])) for node in given}
    problem = dataclasses.replace(problem, state=state or None)
    direction = direction_for(problem, 1)
    kernel = rg.compile(graph, dtype="float64", backend=backend)
    expected = by_the_interpreter(graph, losses, problem, direction)
    for _ in range(2):  # the second call finds the workspace of the first
        found = kernel.hessian_vector_product(problem.parameters, direction, *arguments(problem))
        for parameter, value in expected.items():
            assert_close(found[parameter], value, 1e-10, f"Hessian product of {parameter}")
        for node in given:
            assert not to_numpy(found[f"{node}_0"]).any()


def test_a_linear_loss_has_no_second_derivative() -> None:
    """Every tangent is 0 and left out: only the fill of the result remains."""
    graph = zoo.feedforward((2, 3), activation="identity")
    kernel = rg.compile(graph, loss="3*y + target", dtype="float64")
    problem = problem_for(graph, 0, {"y": "mse"}, T=3)
    found = kernel.hessian_vector_product(problem.parameters, direction_for(problem, 0), *arguments(problem))
    assert not found.vector.any()


def test_made_at_the_first_call_and_stands_alone() -> None:
    graph, losses, problem = case("lstm")
    kernel = rg.compile(graph, loss=losses, dtype="float64")
    assert "hessian_vector_product" not in kernel.source and "hessian" not in kernel.compilation.seconds
    source = kernel.hessian_source
    assert "dot_W_x_i" in source and kernel.compilation.seconds["hessian"] > 0 and source is kernel.hessian_source
    module = load_source(source)
    direction = direction_for(problem, 1)
    alone = module.hessian_vector_product(problem.parameters, direction, *arguments(problem))
    found = kernel.hessian_vector_product(problem.parameters, direction, *arguments(problem))
    np.testing.assert_array_equal(alone.vector, found.vector)
    assert not hasattr(module, "step")
    kernel.release_workspaces()
    again = kernel.hessian_vector_product(problem.parameters, found, *arguments(problem))
    assert again.vector.shape == found.vector.shape  # a product is a direction


def test_a_kernel_of_other_gradients_has_it_too() -> None:
    graph, losses, problem = case("gru")
    direction = direction_for(problem, 1)
    first, second = (rg.compile(graph, loss=losses, dtype="float64", wrt=wrt) for wrt in ("parameters", "inputs"))
    expected = first.hessian_vector_product(problem.parameters, direction, *arguments(problem))
    found = second.hessian_vector_product(problem.parameters, direction, *arguments(problem))
    np.testing.assert_array_equal(found.vector, expected.vector)


def test_bad_directions_are_named(backend: str) -> None:
    graph, losses, problem = case("elman")
    kernel = rg.compile(graph, loss=losses, backend=backend)
    direction = direction_for(problem, 1)

    def call(given: Any) -> Any:
        return kernel.hessian_vector_product(problem.parameters, given, *arguments(problem))

    with pytest.raises(rg.DataError, match=r"direction: found no array for 'b_a'"):
        call({name: value for name, value in direction.items() if name != "b_a"})
    with pytest.raises(rg.DataError, match=r"direction: found the unknown name 'Q'"):
        call({**direction, "Q": np.zeros(3)})
    with pytest.raises(rg.DataError, match=r"direction 'b_a': found shape \(7,\)"):
        call({**direction, "b_a": np.zeros(7)})
    with pytest.raises(rg.DataError, match=r"direction: found an object of type ndarray"):
        call(np.zeros(kernel.program.vector_size))
    with pytest.raises(rg.DataError, match=r"direction 'b_a': found nan at"):
        call({**direction, "b_a": np.full(3, np.nan)})


def test_names_that_end_in_underscores_or_begin_with_dot() -> None:
    """A parameter that is called as another's direction, a node as another's tangent."""
    graph = zoo.elman(2, 3, 2, recurrence="dense")
    for source, destination, key in list(graph.edges(keys=True)):
        if (source, destination) == ("a", "y"):
            graph.edges[source, destination, key]["parameter"] = "dot_W"
    graph = nx.relabel_nodes(graph, {"y": "dot_a", "x": "direction_1"})
    losses = {"dot_a": "mse"}
    problem = problem_for(graph, 2, losses, T=3)
    direction = direction_for(problem, 1)
    kernel = rg.compile(graph, loss=losses, dtype="float64")
    found = kernel.hessian_vector_product(problem.parameters, direction, *arguments(problem))
    for parameter, value in by_the_interpreter(graph, losses, problem, direction).items():
        assert_close(found[parameter], value, 1e-10, f"Hessian product of {parameter}")


def test_planted_errors_are_seen() -> None:
    """The comparisons can fail: one summand of the tangents is lost, or the state's tangent is not set to 0."""
    graph, losses, problem = case("lstm")
    direction = direction_for(problem, 1)
    kernel = rg.compile(graph, loss=losses, dtype="float64")
    source = kernel.hessian_source
    expected = by_the_interpreter(graph, losses, problem, direction)
    line = next(line for line in source.splitlines() if "direction_1[" in line and "dot(" in line)
    module = load_source(source.replace(line, line.split("dot(")[0] + "pass", 1))
    found = module.hessian_vector_product(problem.parameters, direction, *arguments(problem))
    with pytest.raises(AssertionError, match="off by"):
        for parameter, value in expected.items():
            assert_close(found[parameter], value, 1e-10, f"Hessian product of {parameter}")


def test_a_program_that_writes_to_the_direction_is_refused() -> None:
    kernel = rg.compile(zoo.elman(2, 3, 2, recurrence="dense"))
    (function,) = hessian_program(kernel.compilation).functions
    views = [view for statement in function.statements() for view in getattr(statement, "__dict__", {}).values()]
    target = next(view for view in views if getattr(getattr(view, "buffer", None), "storage", "") == "direction")
    bad = dataclasses.replace(function, body=(*function.body, Fill(dataclasses.replace(target, transposed=False), 0.0)))
    with pytest.raises(IRError, match="a write to the direction buffer"):
        verify_function(bad)
