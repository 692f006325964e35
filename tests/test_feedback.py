"""Open and closed loops, and the mixture of both: against hand-written loops, each other, and by their errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import reference
from click.testing import CliRunner
from random_graphs import random_graph, random_problem

import rnngraph as rg
from rnngraph import zoo
from rnngraph.cli import main as command_line

Array = np.ndarray[Any, Any]

FED_BACK: dict[str, Callable[[], nx.MultiDiGraph]] = {
    "jordan": lambda: zoo.jordan(2, 4, 3),
    "jordan with decay": lambda: zoo.jordan(2, 4, 3, decay=0.5),
    "narx": lambda: zoo.narx(2, 4, 1, 2, [1, 3]),
    "fully recurrent": lambda: zoo.fully_recurrent(2, 3),
    "lstm": lambda: zoo.lstm(2, 3),
    "gru": lambda: zoo.gru(2, 3),
    "layered, outputs within": lambda: probed(zoo.layered_recurrent((2, 3, 2, 1), 2)),
    "closed nar": lambda: rg.close_loop(zoo.nar(2, 4, [1, 4])),
}


def probed(graph: nx.MultiDiGraph) -> nx.MultiDiGraph:
    for node in ("a1", "a2"):
        graph.nodes[node]["kind"] = "output"
    return graph


def with_numbers(graph: nx.MultiDiGraph) -> nx.MultiDiGraph:
    """The graph with a number where an output starts from a learned value, as such an output cannot be opened."""
    for _, data in graph.nodes(data=True):
        if data.get("kind") == "output" and data.get("initial") == "parameter":
            data["initial"] = -0.3
    return graph


def random_loops(count: int) -> list[tuple[int, nx.MultiDiGraph, nx.MultiDiGraph]]:
    """Seeds, random networks with feedback, and the same in open loop."""
    found: list[tuple[int, nx.MultiDiGraph, nx.MultiDiGraph]] = []
    seed = 0
    while len(found) < count:
        graph = with_numbers(random_graph(seed))
        try:
            found.append((seed, graph, rg.open_loop(graph)))
        except rg.GraphError as error:
            assert "no feedback" in error.found, (seed, error)
        seed += 1
    assert seed < 4 * count
    return found


def content(graph: nx.MultiDiGraph) -> dict[str, Any]:
    """What the network is, whatever the order of its nodes and edges."""
    model = rg.validate(graph)
    edges = []
    for edge in model.edges:
        fixed = edge.structure == "fixed" and edge.parameter is not None
        weight = model.constants[edge.parameter].tolist() if fixed else edge.parameter  # type: ignore[index]
        edges.append((edge.source, edge.destination, edge.delay, edge.port, edge.structure, str(weight)))
    return {"nodes": dict(model.nodes), "edges": sorted(edges), "parameters": dict(model.parameters)}


def own_outputs_as_measured(opened: nx.MultiDiGraph, inputs: dict[str, Array], outputs: dict[str, Array]) -> Any:
    known = {name: value for name, value in inputs.items() if name in opened}
    return {**known, **{name: outputs[output] for name, output in opened.graph["feedback"].items()}}


def whole_state(graph: nx.MultiDiGraph, batch: int, seed: int) -> dict[str, Array]:
    rng = np.random.default_rng([seed, 7])
    sizes = dict(graph.nodes(data="size"))
    return {
        node: rng.normal(scale=0.5, size=(depth, batch, sizes[node]))
        for node, depth in reference.state_depths(graph).items()
    }


def assert_same(found: dict[str, Any], expected: dict[str, Any], what: str, tolerance: float = 1e-12) -> None:
    assert found.keys() == expected.keys(), what
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=tolerance, err_msg=f"{what}: {name}")


def free_run(params: dict[str, Array], x: Array, y: list[Array], T_x: int, T_y: list[int]) -> Array:
    """A closed NARX network by hand; ``y`` holds the outputs before the first step and gets the others."""
    start = len(y)
    for t in range(len(x)):
        s = params["b_a"] + sum(x[t - d] @ params[f"W_d{d}"] for d in range(T_x + 1) if t >= d)
        s = s + sum(y[start + t - d] @ params[f"R_d{d}"] for d in T_y if start + t >= d)
        y.append(np.tanh(s) @ params["V"] + params["b_y"])
    return np.stack(y[start:])


# Open and closed.


def test_closed_kernel_is_a_free_run_by_hand() -> None:
    opened = zoo.narx(2, 5, 3, 2, [1, 4], loop="open")
    closed = rg.close_loop(opened)
    kernel = rg.compile(closed, dtype="float64")
    params = kernel.init(seed=3)
    x = np.random.default_rng(0).normal(size=(12, 2, 2))
    expected = free_run(params, x, [], 2, [1, 4])
    np.testing.assert_allclose(kernel.forward(params, {"x": x})[0]["y"], expected, atol=1e-13)
    # with a past: four measured outputs, oldest first
    past = np.random.default_rng(1).normal(size=(4, 2, 3))
    _, kept, state = rg.close_loop(opened, params, {"y_measured": past})
    assert_same(state, {"x": np.zeros((2, 2, 2)), "y": past}, "state")
    expected = free_run(params, x, list(past), 2, [1, 4])
    np.testing.assert_allclose(kernel.forward(kept, {"x": x}, state)[0]["y"], expected, atol=1e-13)


@pytest.mark.parametrize("name", FED_BACK)
def test_open_on_own_outputs_is_closed_for_kernels(name: str) -> None:
    graph = FED_BACK[name]()
    opened, closed_again = rg.open_loop(graph), rg.close_loop(rg.open_loop(graph))
    assert content(closed_again) == content(graph)
    closed_kernel, open_kernel = (rg.compile(each, dtype="float64") for each in (graph, opened))
    params = closed_kernel.init(seed=1)
    assert dict(open_kernel.parameter_shapes) == dict(closed_kernel.parameter_shapes)
    inputs = {node.name: np.random.default_rng(5).normal(size=(9, 2, node.size)) for node in rg.validate(graph).inputs}
    state = whole_state(graph, 2, 1)
    outputs, end = closed_kernel.forward(params, inputs, state)
    _, open_params, open_state = rg.open_loop(graph, params, state)
    found, open_end = open_kernel.forward(open_params, own_outputs_as_measured(opened, inputs, outputs), open_state)
    assert_same(found, outputs, "outputs")
    assert_same(rg.close_loop(opened, open_params, open_end)[2], end, "state")


def test_open_on_own_outputs_is_closed_for_random_networks() -> None:
    several = 0
    for seed, graph, opened in random_loops(300):
        problem = random_problem(graph, seed, T=4, batch=1)
        several += len(opened.graph["feedback"]) > 1
        assert content(rg.close_loop(opened)) == content(graph), seed
        assert dict(rg.validate(opened).parameters).items() <= reference.parameter_shapes(graph).items(), seed
        state = whole_state(graph, 1, seed)
        outputs, end = reference.forward(graph, problem.parameters, problem.inputs, state)
        _, params, converted = rg.open_loop(graph, problem.parameters, state)
        assert {name: array.shape[0] for name, array in converted.items()} == reference.state_depths(opened), seed
        measured = own_outputs_as_measured(opened, problem.inputs, outputs)
        found, open_end = reference.forward(opened, params, measured, converted)
        assert_same(found, outputs, f"seed {seed}")
        assert_same(rg.close_loop(opened, params, open_end)[2], end, f"seed {seed}, state")
    assert several > 10


def test_no_loop_through_an_opened_output_is_left() -> None:
    for seed, graph, opened in random_loops(60):
        outputs = {node for node, data in graph.nodes(data=True) if data.get("kind") == "output"}
        for component in nx.strongly_connected_components(opened):
            assert len(component) == 1 or not component & outputs, seed
        assert not any(opened.has_edge(output, output) for output in outputs), seed
        assert graph.graph == {}, seed


def test_a_reader_beside_the_loop_keeps_the_output() -> None:
    """y is fed back over two steps and read by z over four: opening moves the loop alone, and the past is cut."""
    graph = zoo.narx(1, 3, 1, 0, 2)
    graph.add_node("z", kind="output", size=1)
    graph.add_edge("y", "z", delay=4)
    opened = rg.open_loop(graph)
    assert {(u, v) for u, v in opened.edges()} == {("x", "a"), ("y_measured", "a"), ("a", "y"), ("y", "z")}
    past = np.arange(4.0).reshape(4, 1, 1)
    _, _, state = rg.open_loop(graph, state={"y": past})
    assert_same(state, {"y_measured": past[2:], "y": past}, "opened")
    # On the way back the newest values are the measured ones, the older ones those of y.
    _, _, state = rg.close_loop(opened, state={"y_measured": past[2:] + 10, "y": past})
    np.testing.assert_array_equal(state["y"].ravel(), [0, 1, 12, 13])


def test_the_output_of_a_loop_whose_delay_stands_later() -> None:
    """y -> c -> (one step) a -> y: no edge out of y has a delay; measured(t) is read at t."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=1)
    graph.add_node("y", kind="output", size=1)
    graph.add_node("c", size=1, activation="tanh")
    graph.add_edge("x", "y")
    graph.add_edge("y", "c")
    graph.add_edge("c", "y", delay=1)
    assert set(rg.open_loop(graph).edges()) == {("x", "y"), ("c", "y"), ("y_measured", "c")}
    # A probe without delay on the loop of another output keeps its edge: the delayed one opens the loop.
    graph.edges["y", "c", 0]["delay"] = 2
    graph.nodes["c"]["kind"] = "output"
    graph.edges["c", "y", 0]["delay"] = 0
    assert set(rg.open_loop(graph).edges()) == {("x", "y"), ("c", "y"), ("y_measured", "c")}


def test_chosen_outputs_and_names_that_are_taken() -> None:
    graph = probed(zoo.layered_recurrent((2, 3, 2, 1)))
    graph = nx.relabel_nodes(graph, {"x": "a1_measured"})
    opened = rg.open_loop(graph, outputs=["a1"])
    assert opened.graph["feedback"] == {"a1_measured_": "a1"}
    assert opened.has_edge("a2", "a2")
    both = rg.open_loop(opened)
    assert both.graph["feedback"] == {"a1_measured_": "a1", "a2_measured": "a2"}
    one = rg.close_loop(both, feedback={"a1_measured_": "a1"})
    assert one.graph["feedback"] == {"a2_measured": "a2"}
    assert content(rg.close_loop(one)) == content(graph)


def test_an_open_network_by_hand_is_closed_by_an_argument() -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("u", kind="input", size=1)
    graph.add_node("past", kind="input", size=2)
    graph.add_node("y", kind="output", size=2, activation="tanh")
    graph.add_edge("u", "y")
    graph.add_edge("past", "y", delay=[1, 2])
    graph.add_edge("y", "y", delay=1)
    closed = rg.close_loop(graph, feedback={"past": "y"})
    names = set(rg.validate(closed).parameters)
    assert names == {"W_u_y", "W_past_y_d1", "W_past_y_d2", "W_y_y", "b_y"} == set(rg.validate(graph).parameters)


def test_fixed_identity_and_port_edges_are_moved_as_they_are() -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    graph.add_node("y", kind="output", size=2, equation="tanh(s) + own/2")
    graph.add_edge("x", "y")
    graph.add_edge("y", "y", delay=[1, 2], structure="fixed", value=[[[0.5, 0], [0, 1]], [[0, 1], [0.25, 0]]])
    graph.add_edge("y", "y", delay=3, structure="identity")
    graph.add_edge("y", "y", delay=1, port="own")
    opened = rg.open_loop(graph)
    assert set(opened.edges()) == {("x", "y"), ("y_measured", "y")}
    assert content(rg.close_loop(opened)) == content(graph)


def test_the_zoo_s_open_networks_are_the_opened_ones() -> None:
    opened = zoo.narx(2, 4, 3, 2, [1, 3], loop="open")
    assert content(opened) == content(rg.open_loop(zoo.narx(2, 4, 3, 2, [1, 3])))
    assert opened.graph == {"feedback": {"y_measured": "y"}}


def test_closed_nar_has_a_clock() -> None:
    """Its only input says how far to run: the values of the clock mean nothing."""
    opened = zoo.nar(2, 4, 3)
    closed = rg.close_loop(opened)
    assert [node for node, kind in closed.nodes(data="kind") if kind == "input"] == ["clock"]
    assert content(rg.open_loop(closed)) == content(opened)
    kernel = rg.compile(closed, dtype="float64")
    params, past = kernel.init(seed=2), np.random.default_rng(3).normal(size=(3, 2, 2))
    found = [kernel.forward(params, {"clock": np.full((8, 2, 1), value)}, {"y": past})[0]["y"] for value in (0.0, 5.0)]
    zeros = {**params, "W_d0": np.zeros((1, 4))}
    np.testing.assert_allclose(found[0], free_run(zeros, np.zeros((8, 2, 1)), list(past), 0, [1, 2, 3]), atol=1e-13)
    np.testing.assert_array_equal(found[0], found[1])


def test_a_clock_stays_where_it_is_needed() -> None:
    graph = nx.MultiDiGraph()
    for k in "12":
        graph.add_node(f"u{k}", kind="input", size=1)
        graph.add_node(f"y{k}", kind="output", size=1, activation="tanh")
        graph.add_edge(f"u{k}", f"y{k}", delay=1)
    closed = rg.close_loop(graph, feedback={"u1": "y1", "u2": "y2"})
    assert {(u, v) for u, v in closed.edges()} == {("clock", "y1"), ("clock", "y2"), ("y1", "y1"), ("y2", "y2")}
    one = rg.open_loop(closed, outputs="y1")
    assert one.graph == {"feedback": {"y1_measured": "y1"}, "clock": "clock"}
    assert rg.open_loop(one).graph == {"feedback": {"y1_measured": "y1", "y2_measured": "y2"}}
    closed.add_edge("clock", "y1", parameter="used")  # an input of its own from now on
    assert "clock" in rg.open_loop(closed)


def test_a_network_trained_in_open_loop_runs_closed() -> None:
    """y(t) = 0.6 y(t-1) - 0.3 y(t-2) + x(t-1), learned from measured values, then free."""
    x = np.random.default_rng(0).normal(size=(200, 1, 1))
    y = np.zeros((200, 1, 1))
    for t in range(1, 200):
        y[t] = 0.6 * y[t - 1] - 0.3 * (y[t - 2] if t > 1 else 0.0) + x[t - 1]
    opened = zoo.narx(1, 3, 1, [1], 2, loop="open", activation="identity")
    kernel = rg.compile(opened, dtype="float64")
    params = kernel.init(seed=0)
    rg.fit(kernel, params, ({"x": x, "y_measured": y}, {"y": y}), rg.LevenbergMarquardt(), epochs=30, progress=False)
    closed, kept = rg.close_loop(opened, params)
    assert list(kept) == list(rg.validate(closed).parameters)
    for name, value in kept.items():
        np.testing.assert_array_equal(value, params[name])
        assert not np.shares_memory(value, params[name])
    outputs, _ = rg.compile(closed, dtype="float64").forward(kept, {"x": x})
    np.testing.assert_allclose(outputs["y"], y, atol=1e-4)


def test_initial_values_go_into_the_state() -> None:
    graph = zoo.jordan(1, 2, 1)
    graph.nodes["y"]["initial"] = 0.5
    kernel = rg.compile(graph, dtype="float64")
    opened, params, state = rg.open_loop(graph, kernel.init(), kernel.initial_state(batch=3))
    np.testing.assert_array_equal(state["y_measured"], np.full((1, 3, 1), 0.5))
    assert content(rg.close_loop(opened)) == content(graph)
    _, _, state = rg.close_loop(opened, params, state)
    np.testing.assert_array_equal(state["y"], np.full((1, 3, 1), 0.5))
    with pytest.raises(
        rg.DataError, match=r"state of 'y': found no values; .* as 'y' starts from 0.5 and 'y_measured'"
    ):
        rg.open_loop(graph, state={})
    with pytest.raises(rg.DataError, match=r"state of 'y_measured': found no values"):
        rg.close_loop(opened, state={})


def test_a_learned_start_of_another_unit_stays_learned() -> None:
    graph = zoo.jordan(1, 2, 1)
    graph.add_edge("a", "a", delay=1, parameter="Q")
    graph.nodes["a"]["initial"] = "parameter"
    kernel = rg.compile(graph, dtype="float64")
    params = kernel.init()
    params["a_0"] = [1.0, 2.0]
    past = {"y": np.ones((1, 2, 1))}
    assert set(rg.open_loop(graph, state=past)[2]) == {"y_measured"}
    np.testing.assert_array_equal(rg.open_loop(graph, params, past)[2]["a"], [[[1.0, 2.0], [1.0, 2.0]]])


def test_nothing_given_is_changed() -> None:
    graph = zoo.narx(1, 3, 1, 1, 2)
    kernel = rg.compile(graph, dtype="float64")
    params, state = kernel.init(), {"y": np.ones((2, 1, 1))}
    before = repr((graph.graph, list(graph.nodes(data=True)), list(graph.edges(data=True)), dict(params), state))
    opened, kept, converted = rg.open_loop(graph, params, state)
    kept["V"][...] = 7.0
    converted["y_measured"][...] = 7.0
    opened.nodes["a"]["size"] = 9
    rg.mix_feedback(graph, params, state)[1]["V"][...] = 7.0
    after = repr((graph.graph, list(graph.nodes(data=True)), list(graph.edges(data=True)), dict(params), state))
    assert before == after


# What is made works with everything that takes a graph.


@pytest.mark.parametrize("make", [rg.open_loop, lambda g: rg.close_loop(rg.open_loop(g)), rg.mix_feedback])
def test_networks_are_verified_drawn_and_saved(make: Callable[[Any], Any], tmp_path: Path) -> None:
    graph = make(zoo.narx(1, 2, 1, 0, 2))
    rg.save_graph(graph, tmp_path / "graph.json")
    loaded = rg.load_graph(tmp_path / "graph.json")
    assert (loaded.graph, content(loaded)) == (graph.graph, content(graph))
    rg.draw(graph, tmp_path / "graph.png")
    for command in ("show", "derive", "verify"):
        result = CliRunner().invoke(command_line, [command, str(tmp_path / "graph.json")])
        assert result.exit_code == 0, result.output


def test_a_loaded_open_network_is_closed(tmp_path: Path) -> None:
    rg.save_graph(rg.open_loop(zoo.jordan(1, 3, 2)), tmp_path / "open.json")
    closed = rg.close_loop(rg.load_graph(tmp_path / "open.json"))
    assert content(closed) == content(zoo.jordan(1, 3, 2))
    rg.save_graph(rg.close_loop(zoo.nar(1, 3, 2)), tmp_path / "closed.json")
    opened = rg.open_loop(rg.load_graph(tmp_path / "closed.json"))
    assert content(opened) == content(zoo.nar(1, 3, 2))


def test_closed_nar_is_verified() -> None:
    rg.verify(rg.close_loop(zoo.nar(1, 3, 2)))


def test_node_names_that_are_no_text() -> None:
    graph = nx.relabel_nodes(zoo.narx(1, 3, 1, 1, 2), {"y": 7, "a": ("a", 1)})
    opened = rg.open_loop(graph, outputs=[7])
    assert opened.graph["feedback"] == {"7_measured": "7"}
    assert content(rg.close_loop(opened)) == content(graph)


# The mixture.


@pytest.mark.parametrize("name", FED_BACK)
def test_mixture_of_kernels_at_its_ends(name: str) -> None:
    graph = FED_BACK[name]()
    opened, mixed = rg.open_loop(graph), rg.mix_feedback(graph)
    kernels = {key: rg.compile(each, dtype="float64") for key, each in (("c", graph), ("o", opened), ("m", mixed))}
    params = kernels["c"].init(seed=4)
    problem = random_problem(opened, 3, T=7, batch=2, with_weights=True, with_state=False)
    closed_inputs = {
        node.name: problem.inputs.get(node.name, np.zeros((7, 2, 1))) for node in rg.validate(graph).inputs
    }
    state = whole_state(graph, 2, 5)
    states = {"c": state, "o": rg.open_loop(graph, params, state)[2], "m": rg.mix_feedback(graph, params, state)[2]}
    for forcing, key, inputs in ((1.0, "o", problem.inputs), (0.0, "c", closed_inputs)):
        names = [node for node in rg.validate(mixed).nodes if node.endswith("_forcing")]
        gates = {name: np.full((7, 2, 1), forcing) for name in names}
        assert len(gates) == len(opened.graph["feedback"])
        loss, grads = kernels["m"].loss_and_gradient(
            params, {**problem.inputs, **gates}, problem.targets, states["m"], problem.weights
        )
        expected, gradients = kernels[key].loss_and_gradient(
            params, inputs, problem.targets, states[key], problem.weights
        )
        assert loss == pytest.approx(expected, rel=1e-12)
        assert_same(dict(grads), dict(gradients), f"forcing {forcing}")


def test_mixture_of_random_networks_at_its_ends() -> None:
    for seed, graph, opened in random_loops(15):
        mixed = rg.mix_feedback(graph)
        problem = random_problem(opened, seed, T=5, batch=2, with_state=False)
        state = whole_state(graph, 2, seed)
        _, params, mixed_state = rg.mix_feedback(graph, problem.parameters, state)
        inputs = problem.inputs
        for forcing in (1.0, 0.0):
            gates = {node: np.full((5, 2, 1), forcing) for node in mixed if str(node).endswith("_forcing")}
            found = reference.loss_and_gradient(
                mixed, params, {**inputs, **gates}, problem.targets, state=mixed_state, weights=problem.weights
            )
            of = opened if forcing else graph
            start = rg.open_loop(graph, params, state)[2] if forcing else state
            known = inputs if forcing else {node: inputs[node] for node in inputs if node in graph}
            expected = reference.loss_and_gradient(
                of, params, known, problem.targets, state=start, weights=problem.weights
            )
            assert found.loss == pytest.approx(expected.loss, rel=1e-12), seed
            assert_same(found.gradients, expected.gradients, f"seed {seed}, forcing {forcing}")


def test_half_forcing_by_hand() -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=1)
    graph.add_node("y", kind="output", size=1, initial=2.0)
    graph.add_edge("x", "y")
    graph.add_edge("y", "y", delay=1, parameter="r")
    kernel = rg.compile(rg.mix_feedback(graph), dtype="float64")
    params = {"W_x_y": [[1.0]], "r": [[0.5]], "b_y": [0.0]}
    ones = np.ones((3, 1, 1))
    outputs, _ = kernel.forward(params, {"x": ones, "y_measured": 4 * ones, "y_forcing": 0.5 * ones})
    # y(1) = 1 + 0.5*2; then y(t) = 1 + 0.5*(0.5*4 + 0.5*y(t-1))
    np.testing.assert_allclose(outputs["y"].ravel(), [2.0, 2.5, 2.625])


# The schedule.


def mixed_problem(T: int = 12, batch: int = 4) -> tuple[rg.Kernel, Any, dict[str, Array]]:
    kernel = rg.compile(rg.mix_feedback(zoo.jordan(1, 3, 1)), dtype="float64")
    x, y = np.random.default_rng(0).normal(size=(2, T, batch, 1))
    return kernel, kernel.init(seed=0), {"x": x, "y_measured": y}


def test_training_follows_the_schedule() -> None:
    """Three epochs under a schedule are three runs of one epoch, each with its own gate, by mini-batches too."""
    for batch_size in (None, 3):
        kernel, params, inputs = mixed_problem()
        targets = {"y": inputs["y_measured"]}
        schedule = rg.ForcingSchedule(12, 4, [1.0, 0.5, 0.0], sample=False)
        gate = {"y_forcing": schedule.forcing}
        options = {"optimizer": rg.SGD(0.1), "batch_size": batch_size, "shuffle": False, "progress": False}
        rg.fit(kernel, params, ({**inputs, **gate}, targets), epochs=3, callbacks=[schedule], **options)
        assert not schedule.forcing.any()
        expected = kernel.init(seed=0)
        for value in (1.0, 0.5, 0.0):
            gate = {"y_forcing": np.full((12, 4, 1), value)}
            rg.fit(kernel, expected, ({**inputs, **gate}, targets), epochs=1, **options)
        np.testing.assert_allclose(params.vector, expected.vector, atol=1e-14)


def test_a_sampled_schedule() -> None:
    schedule = rg.ForcingSchedule(500, 4, lambda epoch: 0.9**epoch, seed=1)
    assert schedule.forcing.all()
    history = rg.History()
    for epoch in range(1, 12):
        history.loss.append(0.0)
        schedule(history)
        assert set(np.unique(schedule.forcing)) == {0.0, 1.0}
        assert abs(schedule.forcing.mean() - 0.9**epoch) < 0.04
    again = rg.ForcingSchedule(500, 4, [0.5], seed=1)
    np.testing.assert_array_equal(again.forcing, rg.ForcingSchedule(500, 4, [0.5], seed=1).forcing)
    assert again.probability(99) == 0.5


def test_a_schedule_for_data_of_every_form() -> None:
    """It writes what fit reads: prepared, in a list, padded and cut into windows; padding stays 0."""
    graph = rg.mix_feedback(zoo.narx(1, 3, 1, 1, 2))
    kernel = rg.compile(graph, dtype="float64")
    rng = np.random.default_rng(0)
    long, short = ({"x": rng.normal(size=n), "y": rng.normal(size=n)} for n in (30, 12))
    one, both = rg.prepare(long, graph), rg.prepare([long, short], graph)
    for data in (one, both, rg.windows(both, 8), [one, rg.prepare(short, graph)], one.data, rg.pad([one])):
        schedule = rg.ForcingSchedule.for_data(data, "y_forcing", [1.0, 0.5, 0.0], sample=False)
        entries = data if isinstance(data, list) else [data]
        assert len(schedule.arrays) == len(entries) and schedule.forcing is schedule.arrays[0]
        for entry in entries:
            inputs = entry[0] if isinstance(entry, tuple) else entry["inputs"]
            lengths = getattr(entry, "lengths", (28,))
            np.testing.assert_array_equal(inputs["y_forcing"].sum(axis=0)[:, 0], lengths)
        params = kernel.init(seed=0)
        seen = rg.fit(kernel, params, data, rg.SGD(1e-12), epochs=3, callbacks=[schedule], progress=False)
        assert len({round(loss, 9) for loss in seen.loss}) == 3  # open, half, closed
        assert not any(array.any() for array in schedule.arrays)


def test_a_schedule_of_which_the_data_hold_a_copy_is_refused() -> None:
    graph = rg.mix_feedback(zoo.narx(1, 3, 1, 1, 2))
    kernel = rg.compile(graph, dtype="float64")
    params = kernel.init()
    x, y = np.random.default_rng(0).normal(size=(2, 30))
    schedule = rg.ForcingSchedule(30, 1, [1.0, 0.0])
    series = {"x": x, "y": y, "y_forcing": schedule.forcing}
    whole = rg.prepare(series, graph)
    rg.fit(kernel, params, whole, epochs=2, callbacks=[schedule], progress=False)
    assert not whole.inputs["y_forcing"].any()
    for data in (rg.windows(whole, 8), rg.pad([whole, whole]), rg.prepare([series, series], graph)):
        with pytest.raises(rg.OptionError, match=r"callbacks: found a ForcingSchedule whose array .*for_data"):
            rg.fit(kernel, params, data, epochs=2, callbacks=[schedule], progress=False)
    inputs = dict(whole.inputs)
    for gate, message in (
        (np.broadcast_to(1.0, (28, 1, 1)), "read-only"),
        (np.ones((28, 1, 1), int), "of int64"),
        (inputs["y_measured"], "the memory of input 'y_measured'"),
    ):
        with pytest.raises(rg.DataError, match=message):
            rg.ForcingSchedule.for_data(({**inputs, "y_forcing": gate}, whole.targets), "y_forcing", [1.0])
    with pytest.raises(rg.DataError, match=r"input 'y_forced': found no such input; .* did you mean 'y_forcing'"):
        rg.ForcingSchedule.for_data(whole, "y_forced", [1.0])
    with pytest.raises(rg.OptionError, match="probability of epoch 0: found 2"):
        rg.ForcingSchedule.for_data(whole, "y_forcing", [2.0])


def test_a_measured_value_every_nth_step() -> None:
    np.testing.assert_array_equal(rg.forcing_every(3, 7)[:, 0, 0], [0, 0, 1, 0, 0, 1, 0])
    assert rg.forcing_every(1, 4, 2).all()
    # In a Jordan network whose measured values are its own, the gate changes nothing.
    kernel, params, inputs = mixed_problem()
    free, _ = kernel.forward(params, {**inputs, "y_forcing": np.zeros((12, 4, 1))})
    own = {"x": inputs["x"], "y_measured": free["y"], "y_forcing": rg.forcing_every(4, 12, 4)}
    np.testing.assert_allclose(kernel.forward(params, own)[0]["y"], free["y"], atol=1e-14)
    # A measured value at t = 4 reaches y(5), and none before.
    changed = kernel.forward(params, {**own, "y_measured": free["y"] + 1.0})[0]["y"] != free["y"]
    np.testing.assert_array_equal(changed[:5, 0, 0], [False, False, False, False, True])


# Errors.


def cyclic() -> nx.MultiDiGraph:
    graph = zoo.narx(1, 3, 1, 1, 2, loop="open")
    graph.edges["y_measured", "a", 0]["delay"] = [0, 1]
    return graph


def learned() -> nx.MultiDiGraph:
    graph = zoo.jordan(1, 3, 1)
    graph.nodes["y"]["initial"] = "parameter"
    return graph


def renamed() -> nx.MultiDiGraph:
    return nx.relabel_nodes(zoo.narx(2, 3, 1, 1, 2, loop="open"), {"y_measured": "measured"})


def unequal() -> nx.MultiDiGraph:
    return zoo.narx(2, 3, 1, 1, 2, loop="open")


def test_training_goes_on_as_its_refusal_of_a_plain_dict_says() -> None:
    opened = zoo.narx(1, 2, 1, 1, 1, loop="open")
    closed, values = rg.close_loop(opened, rg.compile(opened).init(seed=1))
    kernel, rng = rg.compile(closed), np.random.default_rng(0)
    data = {"x": rng.normal(size=(5, 1, 1))}, {"y": rng.normal(size=(5, 1, 1))}
    with pytest.raises(rg.DataError, match=r"params = kernel\.init\(\), then params\.update\(values\)"):
        rg.fit(kernel, values, data)
    params = kernel.init()
    params.update(values)
    np.testing.assert_array_equal(params["V"], values["V"])
    rg.fit(kernel, params, data, epochs=1)
    assert (params["V"] != values["V"]).any()


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: rg.open_loop(zoo.tdnn((1, 2), (2,))), rg.GraphError, "output 'y': found no feedback"),
        (lambda: rg.open_loop(cyclic()), rg.GraphError, "it is in open loop already; rg.close_loop"),
        (lambda: rg.open_loop(zoo.jordan(1, 2, 1), outputs=["z"]), rg.OptionError, "argument outputs: found 'z'"),
        (lambda: rg.open_loop(zoo.jordan(1, 2, 1), outputs=[]), rg.OptionError, "argument outputs: found []"),
        (lambda: rg.open_loop(zoo.jordan(1, 2, 1), outputs=3), rg.OptionError, "argument outputs: found 3"),
        (lambda: rg.open_loop(learned()), rg.GraphError, "node 'y': found a learned initial value"),
        (lambda: rg.mix_feedback(learned()), rg.GraphError, "set initial to a number, or leave it out"),
        (lambda: rg.open_loop(zoo.jordan(1, 2, 1), {"W": 1}), rg.DataError, "parameters: found no array for 'V'"),
        (lambda: rg.open_loop(zoo.jordan(1, 2, 1), 5), rg.DataError, "parameters: found an object of type int"),
        (lambda: rg.open_loop(zoo.jordan(1, 2, 1), state={"z": 1}), rg.DataError, "the unknown name 'z'"),
        (lambda: rg.open_loop(zoo.jordan(1, 2, 1), state=[1]), rg.DataError, "state: found an object of type list"),
        (lambda: rg.open_loop(zoo.jordan(1, 2, 1), state={"y": np.ones((2, 1, 1))}), rg.DataError, "shape (1, 1, 1)"),
        (lambda: rg.close_loop(zoo.jordan(1, 2, 1)), rg.GraphError, "no pair of a measured input and its output"),
        (lambda: rg.close_loop(renamed()), rg.GraphError, "graph data 'feedback': found 'y_measured' as the input"),
        (lambda: rg.close_loop(cyclic()), rg.CycleError, "edge 'y_measured' -> 'a': found a delay of 0, which would"),
        (lambda: rg.close_loop(cyclic()), rg.CycleError, "close the loop y -> a -> y without any delay"),
        (lambda: rg.close_loop(cyclic()), rg.CycleError, "remedy: raise the delays first: rg.add_delay(graph)"),
        (lambda: rg.close_loop(unequal(), feedback={"x": "y"}), rg.OptionError, "'x' of size 2 for output 'y' of"),
        (lambda: rg.close_loop(unequal(), feedback={"z": "y"}), rg.OptionError, "found 'z' as the input of a pair"),
        (lambda: rg.close_loop(unequal(), feedback={"x": "a"}), rg.OptionError, "found 'a' as the output of a pair"),
        (lambda: rg.close_loop(unequal(), feedback={}), rg.OptionError, "argument feedback: found {}"),
        (lambda: rg.ForcingSchedule(0, 1, [1.0]), rg.OptionError, "T: found 0"),
        (lambda: rg.ForcingSchedule(3, 1, []), rg.OptionError, "probability: found []"),
        (lambda: rg.ForcingSchedule(3, 1, [1.5]), rg.OptionError, "probability of epoch 0: found 1.5"),
        (lambda: rg.ForcingSchedule(3, 1, 0.5), rg.OptionError, "probability: found 0.5"),
        (lambda: rg.forcing_every(0, 3), rg.OptionError, "steps: found 0"),
        (lambda: zoo.narx(1, 2, 1, 1, 1, loop="half"), rg.GraphError, "argument loop: found 'half'"),
        (lambda: zoo.narx(1, 2, 1, 1, [0, 1]), rg.GraphError, "found [0, 1]; expected distinct ints >= 1"),
        (lambda: zoo.nar(1, 2, 0), rg.GraphError, "use tdnn for a network without feedback"),
        (lambda: zoo.layered_recurrent((2, 1)), rg.GraphError, "at least one hidden layer"),
    ],
)  # fmt: skip
def test_errors(make: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        make()
    assert message in str(caught.value), caught.value
