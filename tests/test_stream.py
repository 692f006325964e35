"""Streams: a network that goes one step at a time, in place, in ring buffers."""

from __future__ import annotations

import ast
import ctypes
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from checking import Array, assert_all_close, to_numpy
from forward_rules import CAUSAL
from random_graphs import Problem, random_graph, random_problem

import rnngraph as rg
from rnngraph import zoo
from rnngraph.program import build_program
from rnngraph.rules import Rule

T = 17
TOLERANCE = 1e-12


def delayed(delay: int) -> nx.MultiDiGraph:
    """x -> a -> y, a(t) reads a(t - delay)."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    graph.add_node("a", size=3, activation="tanh")
    graph.add_node("y", kind="output", size=1)
    graph.add_edge("x", "a")
    graph.add_edge("a", "a", delay=delay)
    graph.add_edge("a", "y")
    return graph


def many_delays() -> nx.MultiDiGraph:
    """An LSTM whose gates read h at delays 1 to 20."""
    graph = zoo.lstm(2, 3)
    for gate in "ifoz":
        graph.edges["h", gate, 0]["delay"] = list(range(1, 21))
    return graph


def learned_delays() -> nx.MultiDiGraph:
    """Weights that are computed from parameters: spread over delays by a softmax, masked; a loop through both."""
    graph = delayed(2)
    graph.add_node("b", size=3, equation="tanh(s) + p/2", initial="parameter")
    graph.add_edge("x", "b", delay={"max": 4, "learned": True})
    graph.add_edge("a", "b", structure="masked", mask=np.array([[1, 0, 1], [0, 1, 1], [1, 1, 0]]))
    graph.add_edge("a", "b", port="p", delay=1)
    graph.add_edge("b", "a", delay={"max": 3, "learned": True}, structure="diagonal")
    graph.add_edge("b", "y", delay=5)
    return graph


GRAPHS: dict[str, nx.MultiDiGraph] = {
    **{name: zoo.example(name) for name in CAUSAL},
    "input delays": zoo.narx(2, 3, 2, 4, 5),
    "delay 3": delayed(3),
    "many delays": many_delays(),
    "learned delays": learned_delays(),
}


def problem_of(kernel: rg.Kernel, seed: int, batch: int) -> Problem:
    """Random parameters and inputs, and for an even seed a state of some nodes; what ``random_problem`` gives, for
    graphs that its reference does not know, too."""
    rng = np.random.default_rng(seed)
    parameters = {name: rng.normal(scale=0.5, size=shape) for name, shape in kernel.parameter_shapes.items()}
    inputs = {name: rng.normal(size=(T, batch, size)) for name, size in kernel.program.inputs.items()}
    nodes = {node: rng.normal(size=(depth, batch, size)) for node, (depth, size, _) in kernel.program.states.items()}
    state = {node: value for node, value in nodes.items() if rng.random() < 0.7} if seed % 2 == 0 else None
    return Problem(parameters, inputs, {}, None, state)


def stepped(stream: Any, problem: Problem, first: int, last: int) -> dict[str, Array]:
    """The outputs of steps ``first`` to ``last`` (exclusive), (steps, batch, size) by name."""
    steps = []
    for t in range(first, last):
        outputs = stream.step({name: value[t] for name, value in problem.inputs.items()})
        steps.append({name: to_numpy(value).copy() for name, value in outputs.items()})
    return {name: np.stack([step[name] for step in steps]) for name in steps[0]}


def on_host(arrays: Any) -> dict[str, Array]:
    return {name: to_numpy(value) for name, value in arrays.items()}


def check_stream(graph: nx.MultiDiGraph, seed: int, backend: str, batch: int) -> None:
    """A stream gives what ``forward`` gives over three turns of the rings and more, from the initial values or a part
    of a state; its state in between starts another stream, a pure step and the rest of ``forward``."""
    kernel = rg.compile(graph, dtype="float64", backend=backend)
    problem = problem_of(kernel, seed, batch)
    params, state = problem.parameters, problem.state
    outputs, last = kernel.forward(params, problem.inputs, state)
    expected, end = on_host(outputs), on_host(last)
    stream = kernel.stream(params, batch, state)
    middle = 8
    found = stepped(stream, problem, 0, middle)
    between = on_host(stream.state)
    assert stream.time == middle
    kept = {node: value.copy() for node, value in between.items()}
    rest = stepped(stream, problem, middle, T)
    whole = {name: np.concatenate([found[name], rest[name]]) for name in found}
    assert_all_close(whole, expected, TOLERANCE, "output")
    assert_all_close(stream.state, end, TOLERANCE, "state")
    assert_all_close(between, kept, 0.0, "a state that was read")
    _, halfway = kernel.forward(params, {name: value[:middle] for name, value in problem.inputs.items()}, state)
    assert_all_close(between, on_host(halfway), TOLERANCE, "state in between")

    stream.restore(between)
    assert stream.time == 0
    assert_all_close(
        stepped(stream, problem, middle, T), {k: v[middle:] for k, v in expected.items()}, TOLERANCE, "again"
    )
    other = kernel.stream(params, batch, between)
    assert_all_close(
        stepped(other, problem, middle, T), {k: v[middle:] for k, v in expected.items()}, TOLERANCE, "other"
    )
    outputs, _ = kernel.step(params, between, {name: value[middle] for name, value in problem.inputs.items()})
    assert_all_close(outputs, {k: v[middle] for k, v in expected.items()}, TOLERANCE, "pure step")
    later, _ = kernel.forward(params, {name: value[middle:] for name, value in problem.inputs.items()}, between)
    assert_all_close(later, {k: v[middle:] for k, v in expected.items()}, TOLERANCE, "forward from a stream's state")
    stream.reset()
    fresh, _ = kernel.forward(params, problem.inputs)
    assert_all_close(stepped(stream, problem, 0, T), on_host(fresh), TOLERANCE, "after reset")


@pytest.mark.parametrize("name", GRAPHS)
def test_stream_equals_forward(name: str, backend: str) -> None:
    check_stream(GRAPHS[name], list(GRAPHS).index(name), backend, batch=2)


@pytest.mark.parametrize("seed", range(40))
def test_stream_equals_forward_on_random_graphs(seed: int) -> None:
    check_stream(random_graph(seed), seed, "numpy", batch=1 + seed % 3)


@pytest.mark.parametrize("seed", range(1, 40, 5))
def test_stream_equals_forward_on_random_graphs_by_cupy(seed: int, host_cupy: None) -> None:
    check_stream(random_graph(seed), seed, "cupy", batch=1 + seed % 3)


def test_long_delays_over_many_turns() -> None:
    """The oldest row is read just before it is written anew."""
    for delay in (1, 2, 50):
        graph = delayed(delay)
        kernel = rg.compile(graph, dtype="float64")
        problem = random_problem(graph, delay, T=7 * delay + 3, batch=1, with_state=True)
        expected, _ = kernel.forward(problem.parameters, problem.inputs, problem.state)
        stream = kernel.stream(problem.parameters, 1, problem.state)
        assert_all_close(stepped(stream, problem, 0, 7 * delay + 3), expected, TOLERANCE, f"delay {delay}")


def test_ring_buffers_hold_the_longest_delay_and_the_present() -> None:
    for delay in (1, 7, 1000):
        kernel = rg.compile(delayed(delay))
        assert delay + 1 == kernel.module.ROWS
        buffers = [use for use in kernel.explain(T=5, batch=3).buffers if use.function == "stream"]
        assert {use.shape[0] for use in buffers if len(use.shape) == 3} == {delay + 1}
    assert rg.compile(zoo.feedforward((2, 3, 1))).module.ROWS == 1


def test_new_parameters_are_written_once_however_long_a_delay_is(c_compiler: None) -> None:
    """All steps in C have the same address of what the parameters change, and rows of their own."""
    graph = zoo.elman(1, 2)
    graph.add_edge("x", "a", delay=500, parameter="far")
    kernel = rg.compile(graph, backend="c")
    stream = kernel.module.Stream(kernel.init(0))
    calls = [call._obj for (call,) in stream._work.steps_1]
    assert [call.row for call in calls] == list(range(501))
    given = ctypes.addressof(stream._work.given_to_steps)
    assert {ctypes.addressof(call.given.contents) for call in calls} == {given}
    others = kernel.init(1)
    stream.params = others
    assert calls[7].given.contents.parameters in (None, others.vector.ctypes.data)


@pytest.mark.parametrize("backend", ["numpy", "c"])
def test_parameters_changed_in_place_and_replaced(backend: str, c_compiler: None) -> None:
    """After ``refresh`` all of them count, those that steps use as copies too."""
    graph = zoo.lstm(2, 3, 2)
    kernel = rg.compile(graph, dtype="float64", backend=backend)
    problem = random_problem(graph, 3, T=9, batch=1, with_state=False)
    params, others = kernel.init(0), kernel.init(1)
    stream = kernel.stream(params)
    stepped(stream, problem, 0, 3)
    state = stream.state
    params.vector[:] = others.vector
    stream.refresh()
    rest = {name: value[3:] for name, value in problem.inputs.items()}
    expected, _ = kernel.forward(others, rest, state)
    assert stream.time == 3 and stream.params is params
    assert_all_close(stepped(stream, problem, 3, 6), {k: v[:3] for k, v in expected.items()}, TOLERANCE, "refreshed")
    stream.params = problem.parameters  # a plain mapping
    state = stream.state
    expected, _ = kernel.forward(problem.parameters, {name: value[6:] for name, value in problem.inputs.items()}, state)
    assert_all_close(stepped(stream, problem, 6, 9), expected, TOLERANCE, "replaced")


def test_nodes_may_be_called_as_what_the_text_uses() -> None:
    names = ["step", "start", "row", "work", "ROWS", "Stream", "inputs", "rows", "_ring", "StreamWorkspace", "steps_1"]
    graph = nx.MultiDiGraph()
    graph.add_node("views", kind="input", size=2)
    for name in names:
        graph.add_node(name, size=2, activation="tanh", kind="output")
        graph.add_edge("views", name, delay=[0, 2])
        graph.add_edge(name, name, delay=1)
        graph.add_edge(name, names[0], delay=3, parameter=f"V_{name}")
    check_stream(graph, 0, "numpy", batch=2)


def test_learned_initial_values_are_those_of_the_present_parameters() -> None:
    graph = delayed(2)
    graph.nodes["a"]["initial"] = "parameter"
    kernel = rg.compile(graph, dtype="float64")
    problem = random_problem(graph, 0, T=6, batch=2, with_state=False)
    params = kernel.init(0)
    stream = kernel.stream(params, batch=2)
    for start in (0.3, -0.7):
        params["a_0"] = np.full(3, start)
        stream.refresh()
        stream.reset()
        expected, _ = kernel.forward(params, problem.inputs)
        assert_all_close(stepped(stream, problem, 0, 6), expected, TOLERANCE, f"from {start}")
        stream.restore({})
        assert_all_close(stepped(stream, problem, 0, 6), expected, TOLERANCE, f"from {start} again")


def test_a_step_goes_on_in_place_with_a_stream_as_its_state() -> None:
    graph = zoo.lstm(2, 3, 2)
    kernel = rg.compile(graph, dtype="float64")
    problem = random_problem(graph, 5, T=6, batch=2, with_state=False)
    params, state = kernel.init(0), None
    stream: Any = kernel.stream(params, 2)
    first = stream
    for t in range(6):
        x = {"x": problem.inputs["x"][t]}
        expected, state = kernel.step(params, state, x)
        outputs, stream = kernel.step(params, stream, x)
        assert_all_close(outputs, expected, TOLERANCE, f"t = {t + 1}")
        params.vector[:] *= 1.1  # each step takes the parameters that it is given
    assert stream is first and stream.time == 6
    with pytest.raises(rg.DataError, match="a stream of another kernel"):
        rg.compile(graph, dtype="float64").step(params, stream, x)


def test_two_streams_are_apart() -> None:
    kernel = rg.compile(zoo.gru(2, 3), dtype="float64")
    problem = random_problem(zoo.gru(2, 3), 1, T=8, batch=1, with_state=False)
    expected, _ = kernel.forward(problem.parameters, problem.inputs)
    first, second = kernel.stream(problem.parameters), kernel.stream(problem.parameters)
    for t in range(8):
        x = {"x": problem.inputs["x"][t]}
        if t >= 4:
            found = on_host(second.step({"x": problem.inputs["x"][t - 4]}))
            assert_all_close(found, {k: v[t - 4] for k, v in expected.items()}, TOLERANCE, "second")
        assert_all_close(first.step(x), {k: v[t] for k, v in expected.items()}, TOLERANCE, "first")


# Refusals.


@pytest.mark.parametrize(
    ("inputs", "match"),
    [
        ({}, "found no array for 'x'"),
        ({"x": np.zeros((2, 2)), "z": np.zeros((2, 2))}, "unknown name 'z'"),
        ({"x": np.zeros((1, 2))}, "found batch 1; expected batch 2, as the stream has"),
        ({"x": np.zeros((2, 3))}, r"shape \(1, 2, 3\)"),
        ({"x": np.zeros(2)}, r"found shape \(2,\); expected \(batch, 2\)"),
        ({"x": np.array([[0.0, np.nan], [0.0, 0.0]])}, "found nan"),
        ({"x": np.array([[0.0, np.inf], [0.0, 0.0]])}, "found inf"),
        ({"x": np.zeros((2, 2), complex)}, "dtype complex128"),
        ([np.zeros((2, 2))], "an object of type list"),
    ],
)
def test_a_refused_input_leaves_the_stream_where_it_stood(inputs: Any, match: str) -> None:
    kernel = rg.compile(zoo.lstm(2, 3), dtype="float64")
    params = kernel.init()
    stream, twin = kernel.stream(params, 2), kernel.stream(params, 2)
    good = {"x": np.ones((2, 2))}
    stream.step(good), twin.step(good)
    with pytest.raises(rg.DataError, match=match):
        stream.step(inputs)
    np.testing.assert_array_equal(stream.step(good)["h"], twin.step(good)["h"])
    assert stream.time == 2


def test_inputs_of_other_types_are_converted() -> None:
    kernel = rg.compile(zoo.lstm(2, 3), dtype="float32")
    params = kernel.init()
    expected = kernel.stream(params).step({"x": np.array([[1, 2]], np.float32)})["h"]
    for value in ([[1, 2]], np.array([[1, 2]]), np.array([[1.0, 2.0]]), np.array([[1, 9, 2]], np.float32)[:, ::2]):
        np.testing.assert_array_equal(kernel.stream(params).step({"x": value})["h"], expected)
    huge = np.full((1, 2), 1e30, np.float32)  # its squares are infinite in float32, it is not
    assert np.isfinite(kernel.stream(params).step({"x": huge})["h"]).all()


def test_outputs_are_to_be_read_only() -> None:
    """The steps to come read them."""
    kernel = rg.compile(zoo.lstm(2, 3))
    outputs = kernel.stream(kernel.init()).step({"x": np.zeros((1, 2))})
    with pytest.raises(ValueError, match="read-only"):
        outputs["h"] *= 2


def test_bad_states_parameters_and_batches_are_refused() -> None:
    kernel = rg.compile(zoo.lstm(2, 3))
    params = kernel.init()
    stream = kernel.stream(params)
    stream.step({"x": np.ones((1, 2))})
    before = stream.state
    with pytest.raises(rg.DataError, match=r"state of 'h': found shape \(2, 1, 3\)"):
        stream.restore({"h": np.zeros((2, 1, 3))})
    with pytest.raises(rg.DataError, match="unknown name 'q'"):
        kernel.stream(params, state={"q": np.zeros((1, 1, 3))})
    with pytest.raises(rg.DataError, match="no array for"):
        stream.params = {}
    with pytest.raises(rg.OptionError, match="batch: found 0"):
        kernel.stream(params, batch=0)
    assert stream.time == 1
    assert_all_close(stream.state, before, 0.0, "state")


def test_a_network_that_looks_ahead_has_no_stream() -> None:
    graph = delayed(1)
    graph.edges["a", "y", 0]["delay"] = -2
    kernel = rg.compile(graph)
    with pytest.raises(rg.UnsupportedError, match="edge 'a' -> 'y': found delay=-2, a look-ahead"):
        kernel.stream(kernel.init())
    assert not hasattr(kernel.module, "Stream") and "class Stream" not in kernel.source


# The emitted text.


def test_saved_stream_runs_without_the_packages_that_made_it(tmp_path: Path) -> None:
    graph = many_delays()
    kernel = rg.compile(graph, dtype="float64")
    problem = random_problem(graph, 0, T=50, batch=2, with_state=False)
    np.savez(tmp_path / "data.npz", x=problem.inputs["x"])
    kernel.save(tmp_path / "network.py")
    (tmp_path / "run.py").write_text(
        """
import sys
for blocked in ("rnngraph", "codegen", "sympy", "networkx", "scipy"):
    sys.modules[blocked] = None
import json
import numpy as np
import network
x = np.load("data.npz")["x"]
stream = network.Stream(network.init(seed=3), batch=2)
outputs = [stream.step({"x": x_t})["h"].tolist() for x_t in x]
for wrong in ({}, {"y": x[0]}, {"x": x[0, :1]}):
    try:
        stream.step(wrong)
    except ValueError as error:
        print("refused", error, file=sys.stderr)
    else:
        raise AssertionError(wrong)
print(json.dumps({"outputs": outputs, "time": stream.time}))
""",
        encoding="utf-8",
    )
    result = subprocess.run(
        [sys.executable, "-W", "error", "run.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("refused") == 3 and "found shape (1, 2); expected (2, 2)" in result.stderr
    answer = json.loads(result.stdout)
    expected, _ = kernel.forward(kernel.init(seed=3), problem.inputs)
    np.testing.assert_allclose(answer["outputs"], expected["h"], rtol=0, atol=TOLERANCE)
    assert answer["time"] == 50


@pytest.mark.parametrize("batch", [1, 64])
@pytest.mark.parametrize("build", [lambda: zoo.lstm(8, 128), lambda: zoo.narx(1, 128, 1, 4, 5), lambda: delayed(100)])
def test_a_step_of_a_stream_leaves_nothing_behind(build: Callable[[], nx.MultiDiGraph], batch: int) -> None:
    """A thousand steps hold no array at any time: one of 128 numbers has 1024 bytes. With more rows than one, NumPy
    itself buffers operands that are columns of wider rows, while a call lasts."""
    graph = build()
    kernel = rg.compile(graph, dtype="float64")
    stream = kernel.stream(kernel.init(), batch)
    inputs = {"x": np.ones((batch, graph.nodes["x"]["size"]))}
    stream.step(inputs)
    tracemalloc.start()
    stream.step(inputs)
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(1000):
        stream.step(inputs)
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 500 and (batch > 1 or peak - before < 1000), (
        f"{after - before}, {peak - before} at the peak"
    )


def test_every_line_of_a_step_writes_into_memory_that_exists() -> None:
    """In the text: calls with a target, or assignments to a slice."""
    for graph in (GRAPHS["lstm"], GRAPHS["narx"], GRAPHS["jordan"], *(random_graph(seed) for seed in range(5))):
        tree = ast.parse(rg.compile(graph).source)
        (stream,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "_stream")
        (step,) = (node for node in stream.body if isinstance(node, ast.FunctionDef) and node.name == "step")
        assert step.body
        for line in step.body:
            call = isinstance(line, ast.Expr) and isinstance(line.value, ast.Call)
            slice_ = isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Subscript)
            assert call or slice_, ast.unparse(line)


def test_a_delay_costs_memory_and_no_work() -> None:
    """The text of a step is the same for a delay of 1 and of 1000, but for the names of its views."""
    steps = []
    for delay in (2, 1000):
        source = rg.compile(delayed(delay)).source
        text = source[source.index("    def step(") : source.index("    def start(")]
        steps.append(text.replace(f"t-{delay}", "t-d").replace(f"t_minus_{delay}", "t_minus_d"))
    assert steps[0] == steps[1]


def test_every_rule_has_the_stream_of_its_network() -> None:
    """Also where the gradient goes forward in time."""
    graph = delayed(1)
    sources = set()
    for rule in (Rule(), Rule("rtrl"), Rule("tbptt", k1=2, k2=4), Rule("bptt-rtrl", block=3), Rule("uoro", seed=0)):
        program = build_program(graph, "mse", rule, "float64", ("parameters",)).program
        assert [function.name for function in program.functions][-1] == "stream"
        sources.add(str(program.functions[-1]))
    assert len(sources) == 1
