"""Jacobians by RTRL of networks with effective weights, against those by backpropagation; training that uses them."""

from __future__ import annotations

import networkx as nx
import numpy as np

import rnngraph as rg


def network() -> nx.MultiDiGraph:
    """Every kind of effective weight, and a parameter that is used plainly and inside one."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=3)
    graph.add_node("a", size=4, activation="tanh")
    graph.add_node("y", kind="output", size=2)
    graph.add_edge("x", "a", delay={"max": 3, "learned": True, "temperature": 0.5})
    graph.add_edge("x", "a", parameter="U")
    graph.add_edge("x", "a", delay=4, expression="U*sigmoid(G)")
    graph.add_edge("a", "a", delay=1, structure="masked", mask=np.kron(np.eye(2), np.ones((2, 2))))
    graph.add_edge("a", "a", delay={"max": 2, "learned": True, "shared": True}, structure="diagonal", parameter="D")
    graph.add_edge("a", "y", delay=np.array([[0, 1], [2, 0], [1, 1], [0, 0]]))
    return graph


def test_rtrl_agrees_with_bptt_and_is_the_default() -> None:
    kernel = rg.compile(network(), dtype="float64")
    params = kernel.init(seed=0)
    rng = np.random.default_rng(1)
    params.vector[:] = 0.4 * rng.normal(size=params.vector.size)
    inputs = {"x": rng.normal(size=(7, 2, 3))}
    expected = kernel.jacobian(params, inputs, method="bptt")["y"]
    for method in ("rtrl", None):
        np.testing.assert_allclose(kernel.jacobian(params, inputs, method=method)["y"], expected, rtol=0, atol=1e-12)
    first, state = kernel.outputs_and_jacobian(params, {"x": inputs["x"][:3]})[1:]
    second = kernel.outputs_and_jacobian(params, {"x": inputs["x"][3:]}, state)[1]
    np.testing.assert_allclose(np.concatenate([first["y"], second["y"]]), expected, rtol=0, atol=1e-12)


def test_levenberg_marquardt_trains_effective_weights() -> None:
    kernel = rg.compile(network(), dtype="float64")
    rng = np.random.default_rng(2)
    inputs = {"x": rng.normal(size=(60, 1, 3))}
    teacher = kernel.init(seed=5)
    teacher.vector[:] = 0.5 * rng.normal(size=teacher.vector.size)
    targets, _ = kernel.forward(teacher, inputs)
    params = kernel.init(seed=0)
    params.vector[:] += 0.1 * rng.normal(size=params.vector.size)
    history = rg.fit(kernel, params, (inputs, targets), optimizer=rg.LevenbergMarquardt(), epochs=10, progress=False)
    assert history.loss[-1] < 0.5 * history.loss[0], history.loss
