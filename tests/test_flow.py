"""Gradient flow: paths and norms against central differences, the kernel's own states and the derived deltas.

The derivative dv(t)/du(t-k) is found in other ways by adding to the value of u at t-k in the interpreter; the Jacobian
of the joint state by moving the state that the compiled kernel starts from; and backpropagation's delta_u(t-k) is the
transposed derivative of the output times the error.
"""

from __future__ import annotations

import dataclasses
import sys
from itertools import product
from pathlib import Path as File
from typing import Any

import networkx as nx
import numpy as np
import pytest
from forward_rules import CAUSAL
from random_graphs import random_graph, random_problem

import rnngraph as rg
from rnngraph import zoo
from rnngraph.equations import Read
from rnngraph.evaluate import Evaluation
from rnngraph.flow.links import Link, network_of
from rnngraph.flow.paths import find_paths
from rnngraph.flow.plot import plot_curves
from rnngraph.flow.products import Chain, spectral_norms, state_layout
from rnngraph.flow.trajectory import Trajectory

STEP = 1e-5
TOLERANCE = 1e-8
T, BATCH = 7, 2
GRAPHS = {
    **{name: zoo.example(name) for name in sorted(CAUSAL)},
    **{f"random {seed}": random_graph(seed) for seed in range(300, 322)},
}
WITH_STATE = {name: graph for name, graph in GRAPHS.items() if network_of(graph).delayed}


@dataclasses.dataclass
class Disturbed(Evaluation):
    """The interpreter with a number added to one unit of ``node`` at time ``time``, in every sequence."""

    node: str = ""
    time: int = 0
    addition: Any = 0.0

    def _compute(self, equation: Any, time: int) -> Any:
        value = super()._compute(equation, time)
        return value + self.addition if (equation.signal, time) == (self.node, self.time) else value


def trajectory_of(graph: nx.MultiDiGraph, seed: int = 0, steps: int = T, batch: int = BATCH) -> Trajectory:
    problem = random_problem(graph, seed, steps, batch)
    state = problem.state or {}
    return Trajectory(network_of(graph), problem.parameters, problem.inputs, state, steps, batch)


def differences(trajectory: Trajectory, source: str, lag: int) -> dict[str, np.ndarray]:
    """d v(T)/d source(T - lag) for every unit v by central differences, (batch, size of v, source size)."""
    network, end = trajectory.network, trajectory.T
    columns: dict[str, list[np.ndarray]] = {name: [] for name in network.units}
    for unit in range(network.size(source)):
        runs = []
        for sign in (1, -1):
            addition = np.zeros(network.size(source))
            addition[unit] = sign * STEP
            run = Disturbed(
                network.system, end, trajectory.batch, trajectory.inputs, trajectory.parameters, trajectory.state,
                node=source, time=end - lag, addition=addition,
            )  # fmt: skip
            runs.append(run)
        for name, found in columns.items():
            found.append((runs[0].value(name, end) - runs[1].value(name, end)) / (2 * STEP))
    return {name: np.stack(found, axis=-1) for name, found in columns.items()}


def derivatives(trajectory: Trajectory, source: str, through: Any = None) -> dict[int, dict[str, np.ndarray]]:
    """d v(T)/d source(T - lag) for every unit v by the products of Jacobians, per lag."""
    network = trajectory.network
    names = [name for name in network.units if through is None or name in through]
    chain = Chain(trajectory, state_layout(network, {name: network.delayed.get(name, 1) for name in names}), through)
    found: dict[int, list[np.ndarray]] = {}
    for sequence in range(trajectory.batch):
        for lag, jacobian in chain.by_lag(sequence, source, trajectory.T - 1, chain.one_step(sequence)):
            found.setdefault(lag, []).append(jacobian[-1])
    return {
        lag: {name: np.stack(blocks)[:, chain.layout.places[name, 0]] for name in names}
        for lag, blocks in found.items()
    }


def path_sum(trajectory: Trajectory, source: str, destination: str, lag: int, through: Any = None) -> np.ndarray:
    """The sum of all paths' products at t = T, link by link as they are written."""
    network = trajectory.network
    found = find_paths(network, source, destination, lag, 10**6, through)
    assert len(found.paths) == found.count
    shape = (trajectory.batch, network.size(destination), network.size(source))
    total = np.zeros(shape)
    for path, sequence in product(found.paths, range(trajectory.batch)):
        matrix = np.eye(network.size(destination))
        for link, time in zip(path.links, path.times, strict=True):
            jacobian = trajectory.jacobian(link, sequence)
            matrix = matrix @ (jacobian if jacobian.ndim == 2 else jacobian[trajectory.T - 1 - time])
        total[sequence] += matrix
    return total


@pytest.mark.parametrize("name", sorted(WITH_STATE))
def test_total_derivatives_equal_central_differences_and_the_sum_of_all_paths(name: str) -> None:
    trajectory = trajectory_of(GRAPHS[name])
    for source in trajectory.network.units:
        found = derivatives(trajectory, source)
        for lag in (1, 2, 5):
            for destination, expected in differences(trajectory, source, lag).items():
                block, scale = found[lag][destination], max(1, np.abs(expected).max())
                np.testing.assert_allclose(block, expected, rtol=0, atol=TOLERANCE * scale)
                if find_paths(trajectory.network, source, destination, lag, 0).count < 50:
                    summed = path_sum(trajectory, source, destination, lag)
                    np.testing.assert_allclose(block, summed, rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize("name", sorted(WITH_STATE))
def test_joint_state_equals_the_differences_of_the_kernels_state(name: str) -> None:
    """The kernel runs from s(1) to s(T); s is the state that it returns."""
    graph = GRAPHS[name]
    trajectory = trajectory_of(graph)
    network = trajectory.network
    kernel = rg.compile(graph, dtype="float64")
    first, rest = ({key: value[cut] for key, value in trajectory.inputs.items()} for cut in (slice(1), slice(1, None)))
    _, state = kernel.forward(trajectory.parameters, first, trajectory.state)
    layout = state_layout(network, network.delayed)
    chain = Chain(trajectory, layout)
    found = np.stack(
        [[*chain.by_lag(sequence, None, T - 1, chain.one_step(sequence))][-1][1][0] for sequence in range(BATCH)]
    )

    def end(node: str, age: int, unit: int, addition: float) -> np.ndarray:
        moved = {key: value.copy() for key, value in state.items()}
        moved[node][-1 - age, :, unit] += addition
        _, after = kernel.forward(trajectory.parameters, rest, moved)
        return np.concatenate([after[key][-1 - old] for key, old in layout.places], axis=1)

    for (node, age), place in layout.places.items():
        for unit in range(network.size(node)):
            expected = (end(node, age, unit, STEP) - end(node, age, unit, -STEP)) / (2 * STEP)
            scale = max(1, np.abs(expected).max())
            np.testing.assert_allclose(found[:, :, place.start + unit], expected, rtol=0, atol=TOLERANCE * scale)


@pytest.mark.parametrize("name", ["elman", "gru", "lstm", "narx", "jordan", *(f"random {k}" for k in (300, 304, 309))])
def test_deltas_of_backpropagation_are_made_of_these_derivatives(name: str) -> None:
    """delta_u(t) = sum over k of (dy(t+k)/du(t))^T (error of y at t+k)."""
    graph = GRAPHS[name]
    trajectory = trajectory_of(graph)
    network = trajectory.network
    outputs = network.system.outputs
    problem = random_problem(graph, 0, T, BATCH, with_weights=False)
    grad = rg.gradient(graph, loss="mse")
    parts = {f"target_{output}": problem.targets[output] for output in outputs}
    targets = {signal: parts[signal] for signal in grad.signals if signal in parts}
    weights = {signal: np.full((T, BATCH, 1), 1.0) for signal, part in grad.signals.items() if part.kind == "weight"}
    evaluation = Evaluation(
        grad, T, BATCH, {**trajectory.inputs, **targets, **weights}, trajectory.parameters, trajectory.state
    )
    errors = {
        output: 2 * (evaluation.sequence(output) - problem.targets[output]) / network.size(output) for output in outputs
    }
    at, largest = 2, 0.0
    for source in network.units:
        if f"delta_{source}" not in grad.signals:
            continue  # it depends on no parameter
        expected = evaluation.value(f"delta_{source}", at)
        total = np.zeros_like(expected)
        for output, time in product(outputs, range(at, T + 1)):
            inputs = {key: value[:time] for key, value in trajectory.inputs.items()}
            cut = dataclasses.replace(trajectory, T=time, inputs=inputs, _derivatives={})
            lag = time - at
            jacobian = derivatives(cut, source)[lag][output] if lag else path_sum(cut, source, output, 0)
            total += np.einsum("bvu,bv->bu", jacobian, errors[output][time - 1])
        np.testing.assert_allclose(total, expected, rtol=1e-10, atol=1e-13)
        largest = max(largest, np.abs(expected).max())
    assert largest > 1e-3


@pytest.mark.parametrize("name", ["lstm", "gru", "random 301", "random 305"])
def test_paths_through_some_nodes_alone(name: str) -> None:
    trajectory = trajectory_of(GRAPHS[name])
    for node in trajectory.network.delayed:
        found = derivatives(trajectory, node, (node,))
        for lag in (1, 3):
            np.testing.assert_allclose(found[lag][node], path_sum(trajectory, node, node, lag, (node,)), atol=1e-13)


def test_a_planted_error_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A matrix that is not transposed, a derivative at the wrong time, a delay off by one: each is seen."""
    graph = zoo.elman(3, 4, 4, recurrence="dense")  # every weight that is used here is square
    trajectory = trajectory_of(graph)

    def right(changed: Trajectory) -> bool:
        return np.allclose(derivatives(changed, "a")[2]["a"], differences(trajectory, "a", 2)["a"], atol=TOLERANCE)

    assert right(trajectory)
    matrix, derivative = Trajectory.matrix, Trajectory.derivative
    with monkeypatch.context() as patch:
        patch.setattr(Trajectory, "matrix", lambda self, link: matrix(self, link).T)
        assert not right(trajectory_of(graph))
    with monkeypatch.context() as patch:
        patch.setattr(Trajectory, "derivative", lambda self, link: np.roll(derivative(self, link), 1, axis=0))
        assert not right(trajectory_of(graph))
    links = tuple(dataclasses.replace(link, delay=2) if link.delay == 1 else link for link in trajectory.network.links)
    late = dataclasses.replace(trajectory.network, links=links)
    assert not right(dataclasses.replace(trajectory, network=late))
    assert find_paths(late, "a", "a", 2, 5).count == 1
    assert find_paths(late, "a", "a", 3, 5).count == 0


def test_a_planted_error_in_the_start_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adding to c(t) changes h(t) at once: without that the derivative is wrong."""
    trajectory = trajectory_of(zoo.lstm(3, 4))
    expected = differences(trajectory, "c", 2)["c"]
    assert np.allclose(derivatives(trajectory, "c")[2]["c"], expected, atol=TOLERANCE)
    impulse = Chain.impulse

    def alone(self: Chain, sequence: int, source: str) -> np.ndarray:
        place, start = self.layout.places[source, 0], impulse(self, sequence, source)
        return np.where(np.isin(np.arange(self.layout.size), np.arange(place.start, place.stop))[:, None], start, 0)

    monkeypatch.setattr(Chain, "impulse", alone)
    assert not np.allclose(derivatives(trajectory, "c")[2]["c"], expected, atol=TOLERANCE)


def test_paths_of_the_lstm_are_written_as_in_the_equations() -> None:
    paths = rg.gradient_paths(zoo.lstm(3, 4), "c", lag=2, limit=5)
    assert (paths.count, paths.left_out) == (19, 14)
    products = paths.products()
    assert products[0] == "diag(f(t)) diag(f(t-1))"
    assert "diag(f(t)) diag(i(t-1)) diag(tanh'(s_z(t-1))) W_h_z^T diag(tanh'(c(t-2)) * o(t-2))" in products
    text = str(paths)
    assert text.startswith("dc(t)/dc(t-2) is the sum over 19 paths, the 5 shortest of them:")
    assert "c(t) <- c(t-1) <- z(t-1) <- h(t-2) <- c(t-2)" in text
    assert "14 paths left out: raise the limit to see more" in text
    latex = paths.latex()
    assert r"\operatorname{diag}\left(f(t)\right)\, \operatorname{diag}\left(f(t-1)\right) \\" in latex
    assert r"{W_{h,z}}^{\top}" in latex and "14 paths left out" in latex
    alone = rg.gradient_paths(zoo.lstm(3, 4), "c", lag=3, through=["c"])
    assert alone.products() == ["diag(f(t)) diag(f(t-1)) diag(f(t-2))"]
    cell_of_1997 = rg.gradient_paths(zoo.lstm(3, 4, forget_gate=False), "c", lag=3, limit=1)
    assert cell_of_1997.products() == ["I"]
    assert "I is the identity matrix" in str(cell_of_1997)


def test_lengths_rise_and_paths_differ() -> None:
    network = network_of(zoo.lstm(3, 4, peepholes=True))
    found = find_paths(network, "c", "h", 2, 10**4)
    lengths = [sum(link.source in network.units for link in path.links) for path in found.paths]
    assert lengths == sorted(lengths) and found.count == len(set(found.paths)) == len(lengths)
    for path in found.paths:
        assert sum(link.delay for link in path.links) == 2


def test_a_long_lag_is_counted_without_listing() -> None:
    paths = rg.gradient_paths(zoo.lstm(3, 4), "c", lag=300, limit=1)
    assert paths.count > 10**50 and len(paths.paths) == 1


def test_notation_of_spread_scaled_and_parallel_links() -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    graph.add_node("g", size=1, activation="sigmoid")
    graph.add_node("I", kind="output", size=2, equation="0.5*old + g*s - 2*older")
    graph.add_edge("x", "g")
    graph.add_edge("I", "g", delay=1)
    graph.add_edge("x", "I")
    graph.add_edge("g", "I", port="g")
    graph.add_edge("I", "I", delay=1, port="old")
    graph.add_edge("I", "I", delay=2, port="older")
    graph.add_edge("I", "I", delay=2, parameter="R", structure="diagonal")
    assert set(rg.gradient_paths(graph, "I", lag=2).products()) >= {"0.5 0.5 I", "(-2) I", "g(t) diag(R)"}
    spread = rg.gradient_paths(graph, "I", lag=1)
    assert "diag(s_I(t)) ones sigmoid'(s_g(t)) W_I_g^T" in spread.products()
    assert "ones is a column of ones" in str(spread) and r"\mathbf{1}" in spread.latex()
    assert (
        str(rg.gradient_paths(zoo.elman(2, 3, 1), "y", "a", lag=1))
        == "da(t)/dy(t-1) = 0: no path leads from y(t-1) to a(t)"
    )


def test_norms_are_those_of_the_matrices() -> None:
    rng = np.random.default_rng(0)
    for shape in [(5, 3, 3), (5, 2, 4), (5, 4, 2), (3, 1, 1)]:
        matrices = rng.normal(size=shape)
        expected = np.linalg.norm(matrices, 2, axis=(1, 2))
        for scale in (1.0, 1e-200, 1e200):
            np.testing.assert_allclose(spectral_norms(matrices * scale), expected * scale, rtol=1e-13)
    matrices[0, 0, 0], matrices[1, 0, 0], matrices[2] = np.inf, np.nan, 0
    assert spectral_norms(matrices).tolist() == [np.inf, np.inf, 0.0]


def test_flow_of_an_lstm_and_its_carousel() -> None:
    graph = zoo.lstm(2, 5)
    kernel = rg.compile(graph, dtype="float64")
    params = kernel.init(seed=1)
    params["b_f"][:] = 4.0
    inputs = {"x": np.random.default_rng(2).normal(size=(30, 3, 2))}
    flow = rg.gradient_flow(graph, params, inputs, lags=[20, 1, 5], nodes=["c", ("h", "c"), ("c", "h")])
    assert flow.lags == (1, 5, 20) and (flow.T, flow.batch) == (30, 3)
    # h's part is not measured alone: no path leads from h to c without a gate
    labels = [
        "joint state", "c, all paths", "c, through c alone", "h to c, all paths", "c to h, all paths",
        "c to h, through c, h alone",
    ]  # fmt: skip
    assert [curve.label for curve in flow.curves] == labels
    carousel = flow.curve("c", alone=True)
    evaluation = Evaluation(rg.derive(graph), 30, 3, inputs, dict(params))
    gates = evaluation.sequence("f")
    for row, lag in enumerate(flow.lags):
        for t in range(lag + 1, 31):  # the norm of a diagonal matrix is its largest entry
            expected = gates[t - lag : t].prod(axis=0).max(axis=1)
            np.testing.assert_allclose(carousel.norms[row, t - 1], expected, rtol=1e-13)
    assert np.isnan(carousel.norms[1, :5]).all() and np.isfinite(carousel.norms[1, 5:]).all()
    np.testing.assert_allclose(carousel.mean, np.nanmean(carousel.norms, axis=(1, 2)))
    assert (carousel.minimum <= carousel.mean).all() and (carousel.mean <= carousel.maximum).all()
    assert "c, through c alone" in str(flow) and "T = 30, batch = 3" in str(flow)
    with pytest.raises(rg.OptionError, match="found c to f"):
        flow.curve("c", "f")


def test_an_elman_network_vanishes_and_the_cell_of_1997_does_not() -> None:
    inputs = {"x": np.random.default_rng(0).normal(size=(60, 1, 3))}
    elman, lstm = zoo.elman(3, 8, 1, recurrence="dense"), zoo.lstm(3, 8, forget_gate=False)
    flows = [rg.gradient_flow(graph, rg.compile(graph).init(seed=0), inputs) for graph in (elman, lstm)]
    assert flows[0].curve("a").maximum[-1] < 1e-4 < flows[0].curve("a").maximum[0]
    np.testing.assert_array_equal(flows[1].curve("c", alone=True).norms[:, -1], 1.0)


def test_explosion_is_infinite_not_an_error(tmp_path: File) -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=1)
    graph.add_node("a", kind="output", size=2, equation="sin(s)")
    graph.add_edge("x", "a")
    graph.add_edge("a", "a", delay=1, parameter="R")
    params = {"W_x_a": np.ones((1, 2)), "b_a": np.zeros(2), "R": 1e60 * np.eye(2) + 1e59}
    flow = rg.gradient_flow(graph, params, {"x": np.zeros((12, 1, 1)) + 0.3})
    assert np.isinf(flow.curve("a").maximum[-1]) and "inf" in str(flow)
    pytest.importorskip("matplotlib")
    flow.plot(tmp_path / "explosion.png")


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"lags": [0]}, rg.OptionError, "lags: found 0; expected a whole number from 1 to 4"),
        ({"lags": []}, rg.OptionError, "found no lag"),
        ({"lags": [5]}, rg.OptionError, "from 1 to 4"),
        ({"lags": [1.5]}, rg.OptionError, "found 1.5"),
        ({"nodes": ["q"]}, rg.OptionError, "nodes: found 'q'; expected a node that is no input: 'a', 'y'"),
        ({"nodes": ["x"]}, rg.OptionError, "found 'x'"),
        ({"nodes": [("a", "y", "a")]}, rg.OptionError, "a pair"),
        ({"inputs": {}}, rg.DataError, "inputs"),
        ({"inputs": {"x": np.zeros((1, 1, 2))}}, rg.OptionError, "T = 1"),
        ({"params": {}}, rg.DataError, "parameters"),
        ({"state": {"x": np.zeros((1, 1, 2))}}, rg.DataError, "state"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], error: type[Exception], match: str) -> None:
    graph = zoo.elman(2, 3, 1, recurrence="dense")
    given = {"params": rg.compile(graph).init(seed=0), "inputs": {"x": np.zeros((5, 1, 2))}, **options}
    with pytest.raises(error, match=match):
        rg.gradient_flow(graph, **given)


def test_wrong_arguments_of_paths_and_networks_without_state() -> None:
    graph = zoo.lstm(2, 3)
    for options, match in [
        ({"source": "cc"}, "did you mean 'c'"),
        ({"source": "c", "lag": -1}, "lag: found -1"),
        ({"source": "c", "limit": True}, "limit: found True"),
        ({"source": "c", "destination": "h", "through": ["c"]}, "own ends"),
    ]:
        with pytest.raises(rg.OptionError, match=match):
            rg.gradient_paths(graph, **options)
    flat = zoo.example("feedforward")
    with pytest.raises(rg.UnsupportedError, match="no unit that is read with a delay"):
        rg.gradient_flow(flat, {}, {})


def test_picture(tmp_path: File, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    graph = nx.relabel_nodes(zoo.lstm(2, 3), {"c": "c$_1$"})
    flow = rg.gradient_flow(graph, rg.compile(graph).init(seed=0), {"x": np.ones((9, 2, 2))})
    figure = flow.plot(tmp_path / "flow.png")
    assert (tmp_path / "flow.png").stat().st_size > 5000
    assert figure.axes[0].get_yscale() == "log"
    rg.plot_gradient_flow({"one": flow, "two $": flow}, tmp_path / "two.svg")
    single = rg.gradient_flow(graph, rg.compile(graph).init(seed=0), {"x": np.ones((9, 2, 2))}, lags=[2])
    single.plot()
    nothing = dataclasses.replace(flow.curves[0], norms=np.where(np.isnan(flow.curves[0].norms), np.nan, 0.0))
    plot_curves({"": [nothing]}, tmp_path / "zero.png")  # nothing to show on a logarithmic axis
    with pytest.raises(rg.OptionError, match=r"found the ending '\.xyz'"):
        flow.plot(tmp_path / "flow.xyz")
    with pytest.raises(rg.OptionError, match="no gradient flow"):
        rg.plot_gradient_flow({})
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(rg.BackendError, match="no matplotlib"):
        flow.plot()


def test_values_before_the_first_step_come_from_the_state() -> None:
    """A link's derivative at t = 1 reads the given state."""
    trajectory = trajectory_of(zoo.lstm(2, 3))
    network = trajectory.network
    past = np.full((1, BATCH, 3), 0.25)
    held = Trajectory(network, trajectory.parameters, trajectory.inputs, {"c": past}, T, BATCH)
    [link] = [link for link in network.links if (link.source, link.destination) == ("f", "c")]
    assert isinstance(link, Link) and Read(link.source, link.delay) == Read("f", 0)
    np.testing.assert_array_equal(held.derivative(link)[0], past[0])
