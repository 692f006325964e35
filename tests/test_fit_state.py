"""Training from given states: every optimiser on a linear network whose least-squares solution needs them."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest
from checking import to_numpy
from numpy.typing import NDArray

import rnngraph as rg
from rnngraph.errors import DataError
from rnngraph.train.batches import Batches

Array = NDArray[np.float64]
RNG = np.random.default_rng(22)
N = 12
# Few samples: a start from zeros instead of the first samples would move the solution far.
X = 3.0 + RNG.normal(size=(N, 2, 1))
Y = RNG.normal(size=(N, 2, 1))


def linear() -> nx.MultiDiGraph:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=1)
    graph.add_node("y", kind="output", size=1)
    graph.add_edge("x", "y", delay=[0, 1, 3], parameter="W")
    return graph


def solution() -> tuple[Array, float]:
    """(W_d0, W_d1, W_d3, b_y) by numpy on the lagged columns, and the mean of squares."""
    columns = [X[3 - d : N - d].reshape(-1) for d in (0, 1, 3)]
    matrix = np.stack([*columns, np.ones_like(columns[0])], axis=1)
    found, squares, *_ = np.linalg.lstsq(matrix, Y[3:].reshape(-1), rcond=None)
    return found, float(squares[0]) / len(matrix)


def values(params: Any) -> Array:
    return np.concatenate([np.ravel(params[name]) for name in ("W_d0", "W_d1", "W_d3", "b_y")])


@pytest.mark.parametrize(
    ("optimizer", "epochs", "tolerance"),
    [
        (rg.LBFGS(gradient_tolerance=1e-12, loss_tolerance=1e-16), 200, 1e-6),
        (rg.LevenbergMarquardt(), 30, 1e-8),
        (rg.EKF(process_noise=0.0, covariance=1e8, measurement_noise=1.0, reach=3), 1, 1e-5),
    ],
)
@pytest.mark.parametrize("form", ["prepared", "tuple", "list"])
def test_least_squares_from_the_samples(optimizer: Any, epochs: int, tolerance: float, form: str) -> None:
    kernel = rg.compile(linear(), dtype="float64")
    params = kernel.init()
    data = rg.prepare({"x": X, "y": Y}, linear())
    parts = [rg.prepare({"x": X[:, [k]], "y": Y[:, [k]]}, linear()) for k in (0, 1)]
    given = {"prepared": data, "tuple": data.data, "list": parts}[form]
    rg.fit(kernel, params, given, optimizer, epochs=epochs, progress=False)
    expected, squares = solution()
    np.testing.assert_allclose(values(params), expected, atol=tolerance * np.abs(expected).max())
    np.testing.assert_allclose(kernel.loss(params, **data), squares, rtol=1e-6)


def test_steps_and_validation_start_from_the_state(backend: str) -> None:
    kernel = rg.compile(linear(), dtype="float64", backend=backend)
    params = kernel.init()
    data = rg.prepare({"x": X, "y": Y}, linear())
    expected = params.copy()
    loss, gradient = kernel.loss_and_gradient(expected, **data)
    assert loss != kernel.loss(expected, data.inputs, data.targets)
    expected.vector[:] -= 0.01 * gradient.vector
    history = rg.fit(kernel, params, data, rg.SGD(0.01), epochs=1, validation=data, progress=False)
    np.testing.assert_array_equal(to_numpy(params.vector), to_numpy(expected.vector))
    assert history.loss == [float(loss)] and history.validation_loss == [float(kernel.loss(params, **data))]


def test_states_go_with_their_sequences() -> None:
    x = np.arange(5.0)[None, :, None]
    batches = Batches(({"x": x}, {"y": x}, None, {"x": -np.repeat(x, 2, axis=0)}), 2, shuffle=True, seed=0)
    seen = 0
    for batch in batches.epoch():
        assert batch.state is not None and batch.state["x"].shape == (2, batch.size, 1)
        np.testing.assert_array_equal(batch.state["x"][1], -batch.inputs["x"][0])
        seen += batch.size
    assert seen == 5


def test_compare_starts_from_the_state() -> None:
    graph = rg.zoo.narx(1, 2, 1, 1, 2)
    data = rg.prepare({"x": X, "y": Y}, graph)
    found = rg.compare(graph, data, methods=["rtrl"])
    kernel = rg.compile(graph, dtype="float64")
    np.testing.assert_allclose(found.loss[0], kernel.loss(kernel.init(0), **data), rtol=1e-12)
    np.testing.assert_allclose(found["rtrl"].cosine, 1.0, rtol=1e-12)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (np.zeros((3, 2, 1)), "data: state: found a ndarray; expected a dict from node names to arrays"),
        (
            {"x": np.zeros((3, 2))},
            r"data: state of 'x': found shape \(3, 2\); expected an array \(depth, batch, size\)",
        ),
        ({"x": np.zeros((3, 1, 1))}, "data: state of 'x': found batch=1; expected batch=2 as the inputs have"),
        ({"x": np.full((3, 2, 1), np.inf)}, "data: state of 'x': found NaN or infinity"),
        ({"x": np.zeros((2, 2, 1))}, r"state of 'x': found shape \(2, 2, 1\); expected shape \(3, 2, 1\)"),
        ({"z": np.zeros((3, 2, 1))}, "state: found the unknown name 'z'"),
    ],
)
def test_bad_states(state: Any, message: str) -> None:
    kernel = rg.compile(linear(), dtype="float64")
    params = kernel.init()
    before = params.vector.copy()
    with pytest.raises(DataError, match=message):
        rg.fit(kernel, params, ({"x": X}, {"y": Y}, None, state), epochs=1, progress=False)
    np.testing.assert_array_equal(params.vector, before)
