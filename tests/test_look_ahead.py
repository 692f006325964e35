"""Edges with negative delays: time reversal, the reference tape, loops that mix delays and look-aheads, states after
the sequence, what is refused, and the printed equations."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
import pytest
import reference
from checking import (
    GRADIENT_TOLERANCE,
    VALUE_TOLERANCE,
    assert_all_close,
    assert_close,
    assert_equals_reference,
    losses_of,
    problem_for,
)
from random_graphs import Problem, random_graph, random_problem

import rnngraph as rg
from codegen.printers.cupy import CuPyPrinter
from codegen.printers.numpy import NumPyPrinter
from codegen.verify import verify_function
from rnngraph.errors import OptionError, UnsupportedError

ALL = ("parameters", "inputs", "state")


def with_delays(graph: nx.MultiDiGraph, change: Any) -> nx.MultiDiGraph:
    """A copy in which each delay d from u to v is ``change(u, v, d)``; nodes read at t alone learn no initial value."""
    result = graph.copy()
    for source, target, edge in result.edges(data=True):
        delay = edge.get("delay", 0)
        several = isinstance(delay, list)
        edge["delay"] = [change(source, target, d) for d in delay] if several else change(source, target, delay)
    delayed = {reference.state_node(result, name) for name in reference.state_depths(result)}
    for node, data in result.nodes(data=True):
        if data.get("initial") == "parameter" and node not in delayed:
            data["initial"] = 0.25
    return result


def turned(graph: nx.MultiDiGraph) -> nx.MultiDiGraph:
    """Every delay a look-ahead."""
    return with_delays(graph, lambda source, target, delay: -delay)


def component_of(graph: nx.MultiDiGraph) -> dict[str, int]:
    parts = nx.strongly_connected_components(nx.DiGraph(graph))
    return {node: number for number, part in enumerate(parts) for node in part}


def signs_mixed(graph: nx.MultiDiGraph, seed: int) -> nx.MultiDiGraph:
    """Each strongly connected component keeps its direction or is turned; so is each other edge."""
    rng = np.random.default_rng([seed, 8])
    part = component_of(graph)
    sign = {number: int(rng.choice([-1, 1])) for number in sorted(set(part.values()))}

    def change(source: str, target: str, delay: int) -> int:
        return delay * (sign[part[source]] if part[source] == part[target] else int(rng.choice([-1, 1])))

    return with_delays(graph, change)


def retimed(graph: nx.MultiDiGraph, seed: int) -> nx.MultiDiGraph:
    """Each node is moved in time: its edges mix delays and look-aheads, while the sum over each cycle stays (Leiserson
    and Saxe 1991). Some components are then turned."""
    rng = np.random.default_rng([seed, 9])
    moved = {node: int(step) for node, step in zip(graph, rng.integers(-3, 4, size=len(graph)), strict=True)}
    part = component_of(graph)
    sign = {number: int(rng.choice([-1, 1])) for number in sorted(set(part.values()))}
    return with_delays(graph, lambda a, b, delay: sign[part[a]] * (delay + moved[a] - moved[b]))


def is_staggered(kernel: Any) -> bool:
    schedules = kernel.compilation.schedules.values()
    return any(component.shifts for schedule in schedules for component in schedule.components)


def network(*edges: tuple[str, str, int], sizes: dict[str, int] | None = None, **nodes: Any) -> nx.MultiDiGraph:
    """x (input), a, b (tanh), y (output) and the edges (source, destination, delay); ``nodes``: further attributes."""
    graph = nx.MultiDiGraph()
    size = {"x": 2, "a": 3, "b": 3, "y": 2, **(sizes or {})}
    for name, attributes in {
        "x": {"kind": "input"}, "a": {"activation": "tanh"}, "b": {"activation": "tanh"}, "y": {"kind": "output"},
    }.items():  # fmt: skip
        if any(name in edge[:2] for edge in edges):
            graph.add_node(name, size=size[name], **{**attributes, **nodes.get(name, {})})
    for source, target, delay in edges:
        graph.add_edge(source, target, delay=delay)
    return graph


MIXED = network(("x", "a", 0), ("a", "b", 2), ("b", "a", -1), ("b", "y", 0), ("a", "y", -1))
MIXED_BACKWARD = network(("x", "a", 1), ("a", "b", -3), ("b", "a", 1), ("b", "b", -1), ("b", "y", 2), ("a", "y", 0))
ONLY_AHEAD = network(("x", "a", -1), ("a", "a", -2), ("a", "y", 0), ("x", "y", -3), a={"initial": "parameter"})


# Time reversal.


@pytest.mark.parametrize("seed", range(8))
def test_turned_network_on_reversed_data_is_the_network_reversed(seed: int) -> None:
    graph = random_graph(seed)
    problem = random_problem(graph, seed, T=1 + seed % 7, batch=2, with_weights=True)
    kernel, back = (rg.compile(each, dtype="float64", wrt=ALL) for each in (graph, turned(graph)))
    name_in = {
        name: name if name in problem.parameters else name.replace("_d-", "_d") for name in back.parameter_shapes
    }
    parameters = {name: problem.parameters[name_in[name]] for name in name_in}

    def reverse(arrays: Any) -> dict[str, npt.NDArray[Any]] | None:
        return None if arrays is None else {name: array[::-1].copy() for name, array in arrays.items()}

    outputs, state = kernel.forward(problem.parameters, problem.inputs, problem.state)
    found, found_state = back.forward(parameters, reverse(problem.inputs), reverse(problem.state))
    assert_all_close(reverse(found), outputs, VALUE_TOLERANCE, "output")
    assert_all_close(reverse(found_state), state, VALUE_TOLERANCE, "state")
    _, expected = kernel.loss_and_gradient(
        problem.parameters, problem.inputs, problem.targets, problem.state, problem.weights
    )
    _, gradients = back.loss_and_gradient(
        parameters, reverse(problem.inputs), reverse(problem.targets), reverse(problem.state), problem.weights[::-1]
    )
    for name, original in name_in.items():
        assert_close(gradients[name], expected[original], GRADIENT_TOLERANCE, f"gradient of {name!r}")
    assert_all_close(reverse(gradients.inputs), expected.inputs, GRADIENT_TOLERANCE, "input gradient")
    assert_all_close(reverse(gradients.state), expected.state, GRADIENT_TOLERANCE, "state gradient")


# The reference tape.


def check(graph: nx.MultiDiGraph, seed: int, backend: str = "numpy", lengths: tuple[int, ...] = (1, 2, 7)) -> Any:
    losses = losses_of(graph, seed)
    kernel = rg.compile(graph, loss=losses, dtype="float64", wrt=ALL, backend=backend)
    for T in lengths:
        assert_equals_reference(kernel, graph, problem_for(graph, seed, losses, T=T, batch=2), losses, ALL)
    return kernel


@pytest.mark.parametrize("seed", range(16))
def test_look_ahead_anywhere_equals_the_reference(seed: int) -> None:
    check(signs_mixed(random_graph(seed), seed), seed)


@pytest.mark.parametrize("seed", range(16))
def test_retimed_networks_equal_the_reference(seed: int) -> None:
    kernel = check(retimed(random_graph(seed), seed), seed)
    assert is_staggered(kernel) == (seed in (8, 9, 10, 11, 13, 15))


@pytest.mark.parametrize("make", [signs_mixed, retimed])
def test_look_ahead_on_each_backend(make: Any, backend: str) -> None:
    check(make(random_graph(13), 13), 13, backend)


@pytest.mark.parametrize("graph", [signs_mixed(random_graph(4), 4), ONLY_AHEAD, MIXED])
def test_proofs(graph: nx.MultiDiGraph) -> None:
    verification = rg.verify(graph, seed=1, points=1, effort=1000)
    assert verification.passed
    assert all(row.error == 0 for row in verification.rows if row.check == "exact")


# Loops that mix delays and look-aheads.


def test_a_mixed_loop_by_hand() -> None:
    kernel = rg.compile(MIXED, dtype="float64")
    p, T = kernel.init(1), 6
    x = np.random.default_rng(2).normal(size=(T, 1, 2))
    a, b = np.zeros((T + 9, 1, 3)), np.zeros((T + 9, 1, 3))  # row t + 4
    for t in range(1, T + 2):  # b(t) first: it waits for a(t-2) alone, which waits for b(t-1)
        if t <= T:
            b[t + 4] = np.tanh(a[t - 2 + 4] @ p["W_a_b"] + p["b_b"])
        if t > 1:
            a[t - 1 + 4] = np.tanh(x[t - 2] @ p["W_x_a"] + b[t + 4] @ p["W_b_a"] + p["b_a"])
    y = b[5 : T + 5] @ p["W_b_y"] + a[6 : T + 6] @ p["W_a_y"] + p["b_y"]
    outputs, state = kernel.forward(p, {"x": x})
    assert_close(outputs["y"], y, VALUE_TOLERANCE, "output")
    assert_all_close(state, {"a": a[T + 3 : T + 5], "a:ahead": a[5:6], "b": b[5:6]}, VALUE_TOLERANCE, "state")


@pytest.mark.parametrize("graph", [MIXED, MIXED_BACKWARD])
def test_mixed_loops_on_each_backend(graph: nx.MultiDiGraph, backend: str) -> None:
    assert is_staggered(check(graph, 4, backend, lengths=(1, 2, 3, 8)))


def test_mixed_loops_keep_the_grammar_through_all_passes() -> None:
    for graph in (MIXED, MIXED_BACKWARD, retimed(random_graph(13), 13)):
        program = rg.compile(graph, dtype="float64", wrt=ALL).program
        for function in program.functions:
            verify_function(function)
            verify_function(NumPyPrinter(program).prepare(function))
            verify_function(CuPyPrinter(program).prepare(function))


def test_mixed_loops_are_explained_and_printed() -> None:
    kernel = rg.compile(MIXED)
    hows = [stage.how for stage in kernel.explain(T=5, batch=1).stages if stage.function == "loss_and_gradient"]
    assert "stepped forward, staggered" in hows and "stepped backward, staggered" in hows
    assert "    for step in range(1, T + 2):\n        if 1 <= step <= T:\n" in kernel.source
    assert "        if 1 <= step - 1 <= T:\n" in kernel.source
    assert "    for step in range(T, -1, -1):\n" in kernel.source


@pytest.mark.parametrize("T", [1, 5])
def test_hessian_of_a_mixed_loop(T: int) -> None:
    kernel = rg.compile(MIXED_BACKWARD, dtype="float64")
    problem = random_problem(MIXED_BACKWARD, 5, T=T, batch=2, with_state=True)
    data = problem.inputs, problem.targets, problem.state, problem.weights
    rng = np.random.default_rng(6)
    direction = {name: rng.normal(size=value.shape) for name, value in problem.parameters.items()}
    found = kernel.hessian_vector_product(problem.parameters, direction, *data)
    step = 1e-5

    def gradient(sign: int) -> npt.NDArray[Any]:
        moved = {name: value + sign * step * direction[name] for name, value in problem.parameters.items()}
        vector: npt.NDArray[Any] = kernel.loss_and_gradient(moved, *data)[1].vector
        return vector

    assert_close(found.vector, (gradient(1) - gradient(-1)) / (2 * step), 1e-8, "Hessian times a direction")


# States.


def test_chunks_from_the_last_to_the_first_are_the_whole() -> None:
    graph, T = ONLY_AHEAD, 9
    problem = random_problem(graph, 7, T=T, batch=2, with_state=False)
    kernel = rg.compile(graph, dtype="float64")
    whole, first = kernel.forward(problem.parameters, problem.inputs)
    parts: list[Any] = []
    state: Any = None
    for start, stop in ((8, 9), (5, 8), (4, 5), (0, 4)):
        outputs, state = kernel.forward(problem.parameters, {"x": problem.inputs["x"][start:stop]}, state)
        parts.insert(0, outputs["y"])
    assert_close(np.concatenate(parts), whole["y"], VALUE_TOLERANCE, "output")
    assert_all_close(state, first, VALUE_TOLERANCE, "state")
    assert {name: value.shape for name, value in state.items()} == {"x": (3, 2, 2), "a": (2, 2, 3)}
    assert_close(state["x"], problem.inputs["x"][:3], 0.0, "the inputs that the stretch before reads")


def test_names_of_states_before_and_after() -> None:
    graph = network(("x", "a", 0), ("x", "a", -2), ("a", "a", 1), ("a", "y", -3), ("x", "y", 1))
    graph.edges["x", "a", 1]["parameter"] = "V"
    kernel = rg.compile(graph, dtype="float64", wrt=ALL)
    state = kernel.initial_state(batch=4)
    shapes = {"x": (1, 4, 2), "x:ahead": (2, 4, 2), "a": (1, 4, 3), "a:ahead": (3, 4, 3)}
    assert {name: value.shape for name, value in state.items()} == shapes
    problem = random_problem(graph, 1, T=5, batch=4, with_state=False)
    for name in shapes:  # one part alone
        given = {name: np.random.default_rng(3).normal(size=shapes[name])}
        part = Problem(problem.parameters, problem.inputs, problem.targets, problem.weights, given)
        assert_equals_reference(kernel, graph, part, "mse", ALL)


def test_a_node_may_have_the_name_of_a_state() -> None:
    graph = network(("x", "a", 0), ("a", "a", 1), ("a", "y", -1))
    graph = nx.relabel_nodes(graph, {"x": "a:ahead"})
    kernel = rg.compile(graph, dtype="float64")
    assert len(kernel.program.states) == 2 and "a:ahead" not in kernel.program.states
    _, state = kernel.forward(kernel.init(0), {"a:ahead": np.ones((3, 1, 2))})
    assert set(state) == set(kernel.program.states)


@pytest.mark.parametrize("graph", [
    ONLY_AHEAD,
    network(("x", "a", 0), ("a", "a", 2), ("a", "y", -1), a={"initial": "parameter"}),
    network(("x", "a", 0), ("a", "b", 2), ("b", "a", -1), ("b", "y", 0), ("a", "y", 0), a={"initial": "parameter"},
            b={"initial": "parameter"}),
])  # fmt: skip
@pytest.mark.parametrize("with_state", [True, False])
def test_learned_initial_values(graph: nx.MultiDiGraph, with_state: bool) -> None:
    kernel = rg.compile(graph, dtype="float64", wrt=ALL)
    for T in (1, 4):
        problem = random_problem(graph, 2, T=T, batch=2, with_state=with_state)
        assert_equals_reference(kernel, graph, problem, "mse", ALL)
    if not with_state:
        _, gradients = kernel.loss_and_gradient(problem.parameters, problem.inputs, problem.targets)
        assert np.abs(gradients["a_0"]).min() > 0


# What a future forbids.


def test_refusals() -> None:
    kernel = rg.compile(ONLY_AHEAD)
    assert not kernel.causal and rg.compile(rg.zoo.lstm(2, 2)).causal
    params, x = kernel.init(0), np.zeros((4, 1, 2))
    with pytest.raises(UnsupportedError, match="edge 'x' -> 'a': found delay=-1, a look-ahead; expected delays >= 0"):
        kernel.step(params, None, {"x": x[0]})
    assert "def step(" not in kernel.source
    with pytest.raises(UnsupportedError, match=r"'tbptt' on a network that reads node 'x' at t\+3"):
        rg.compile(ONLY_AHEAD, method="tbptt", k1=2, k2=2)
    for method in ("rtrl", "focused", "rflo", "snap", "uoro", "bptt-rtrl"):
        with pytest.raises(UnsupportedError, match=r"reads 'x' at t\+1; .*delays >= 0 for a rule that goes forward"):
            rg.compile(network(("x", "a", -1), ("a", "a", -2), ("a", "y", 0)), method=method)
    with pytest.raises(UnsupportedError, match=r"'x' at t\+1, a look-ahead; expected delays >= 0"):
        rg.gradient_flow(ONLY_AHEAD, params, {"x": x})
    with pytest.raises(OptionError, match="EKF on a network that looks ahead"):
        rg.fit(kernel, params, ({"x": x}, {"y": np.zeros((4, 1, 2))}), optimizer=rg.EKF(), epochs=1)


def test_jacobian_goes_back_from_each_output() -> None:
    kernel = rg.compile(MIXED, dtype="float64")
    params = kernel.init(1)
    x = np.random.default_rng(0).normal(size=(4, 2, 2))
    found = kernel.jacobian(params, {"x": x})["y"]
    step = 1e-6
    for column in range(0, params.vector.size, 5):
        moved = [kernel.init(1), kernel.init(1)]
        for sign, each in zip((1, -1), moved, strict=True):
            each.vector[column] += sign * step
        plus, minus = (kernel.forward(each, {"x": x})[0]["y"] for each in moved)
        assert_close(found[..., column], (plus - minus) / (2 * step), 1e-8, f"column {column}")


# Equations.


def test_equations_in_text_and_latex() -> None:
    system = rg.gradient(ONLY_AHEAD, loss="mse")
    text, latex = str(system), system.latex()
    assert "s_a(t) = W_x_a^T x(t+1) + W_a_a^T a(t+2) + b_a" in text
    assert "y(t) = W_a_y^T a(t) + W_x_y^T x(t+3) + b_y" in text
    assert "delta_a(t) = W_a_y delta_y(t) + W_a_a delta_s_a(t-2)" in text
    assert "dL/dW_x_y = sum over t of x(t+3) delta_y(t)^T" in text
    assert "dL/da_0 = sum over t > T of delta_a(t)" in text
    assert "  x(t) = 0 for t > T, unless a state is given" in text
    assert "  a(t) = a_0 for t > T, unless a state is given" in text
    assert "delta_v(t) = dL/dv(t): it, and each product with it, is 0 for t <= 0;" in text
    assert "at t > T a delta holds what reaches back from t = 1..T alone" in text
    assert r"W_{x,y}}^{\top}\, x(t+3)" in latex and r"\sum_{t > T}" in latex and "for $t > T$" in latex


def test_legend_of_both_directions() -> None:
    text = str(rg.gradient(MIXED, loss="mse"))
    assert "it, and each product with it, is 0 for t <= 0 and for t > T;" in text
    assert "  a(t) = 0 for t <= 0, unless a state is given" in text
    assert "  b(t) = a(t) = 0 for t > T" in text or "  a(t) = b(t) = 0 for t > T" in text
