"""The Jacobian by all parameters, and what it serves: Levenberg-Marquardt and the extended Kalman filter."""

from __future__ import annotations

import sys
from typing import Any

import networkx as nx
import numpy as np
import pytest
from random_graphs import random_graph, random_problem

import rnngraph as rg
from rnngraph import zoo
from rnngraph.errors import BackendError, DataError, OptionError, UnsupportedError
from rnngraph.train import EKF, DivergenceError, History, LevenbergMarquardt

GRAPHS = {
    "elman": lambda: zoo.elman(2, 3, 2, recurrence="dense"),
    "narx": lambda: zoo.narx(1, 3, 2, 1, 2),
    "lstm": lambda: zoo.lstm(1, 2, 1),
    "tdnn": lambda: zoo.tdnn((1, 3, 1), (2, [0])),
}


def linear(inputs: int = 3, outputs: int = 2) -> nx.MultiDiGraph:
    """y(t) = W^T x(t) + b."""
    return zoo.feedforward((inputs, outputs))


def compiled(graph: nx.MultiDiGraph, seed: int = 0, **options: Any) -> tuple[Any, Any]:
    """A float64 kernel and parameters none of which is 0."""
    kernel = rg.compile(graph, dtype="float64", **options)
    params = kernel.init(seed)
    params.vector[...] += 0.1 * np.random.default_rng(seed).normal(size=params.vector.size)
    return kernel, params


def series(T: int, batch: int, inputs: int, outputs: int, seed: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    """Random inputs; targets that a small delayed map gives, with noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(T, batch, inputs))
    past = np.concatenate([np.zeros((1, batch, inputs)), x[:-1]])
    y = np.tanh(x @ rng.normal(size=(inputs, outputs))) + 0.5 * past @ rng.normal(size=(inputs, outputs))
    return {"x": x}, {"y": y + 0.05 * rng.normal(size=y.shape)}


def quiet(*args: Any, **options: Any) -> History:
    return rg.fit(*args, **{"progress": False, **options})


def differences(kernel: Any, params: Any, inputs: Any, state: Any = None, step: float = 1e-6) -> dict[str, Any]:
    """The Jacobian by central differences."""
    vector, columns = params.vector.copy(), []
    for index in range(vector.size):
        ends = []
        for sign in (1.0, -1.0):
            params.vector[index] = vector[index] + sign * step
            ends.append({name: value.copy() for name, value in kernel.forward(params, inputs, state)[0].items()})
        params.vector[...] = vector
        columns.append({name: (ends[0][name] - ends[1][name]) / (2 * step) for name in ends[0]})
    return {name: np.stack([column[name] for column in columns], axis=-1) for name in columns[0]}


# --- The Jacobian


@pytest.mark.parametrize("name", GRAPHS)
def test_jacobian_equals_differences(name: str) -> None:
    kernel, params = compiled(GRAPHS[name]())
    size = kernel.program.inputs["x"]
    inputs = {"x": np.random.default_rng(1).normal(size=(11, 2, size))}
    _, state = kernel.forward(params, {"x": 0.5 * inputs["x"]})
    for start in (None, state):
        found, expected = kernel.jacobian(params, inputs, start), differences(kernel, params, inputs, start)
        assert found.keys() == expected.keys()
        for output, value in found.items():
            assert value.dtype == np.float64
            np.testing.assert_allclose(value, expected[output], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("seed", range(6))
def test_jacobian_of_random_graphs(seed: int) -> None:
    """Several outputs, learned initial states, vector parameters in equations: whatever the generator draws."""
    graph = random_graph(seed)
    kernel, params = compiled(graph)
    problem = random_problem(graph, seed)
    found, expected = kernel.jacobian(params, problem.inputs), differences(kernel, params, problem.inputs)
    for output, value in found.items():
        np.testing.assert_allclose(value, expected[output], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_jacobian_gives_the_gradient(loss: str) -> None:
    """dL/dw = sum of dL/dy dy/dw; and the Jacobian does not depend on the kernel's loss."""
    kernel, params = compiled(GRAPHS["elman"](), loss=loss)
    inputs, targets = series(9, 2, 2, 2)
    if loss == "cross_entropy":
        targets = {"y": targets["y"].argmax(-1)}
    _, grads = kernel.loss_and_gradient(params, inputs, targets)
    y = kernel.forward(params, inputs)[0]["y"]
    if loss == "mse":
        back = 2 * (y - targets["y"]) / y.size
    else:
        back = (np.exp(y) / np.exp(y).sum(-1, keepdims=True) - np.eye(2)[targets["y"]]) / 18
    found = np.einsum("tbk,tbkp->p", back, kernel.jacobian(params, inputs)["y"])
    np.testing.assert_allclose(found, grads.vector, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["elman", "narx"])
def test_jacobians_of_both_rules_agree(name: str) -> None:
    kernel, params = compiled(GRAPHS[name]())
    inputs = {"x": np.random.default_rng(1).normal(size=(9, 2, kernel.program.inputs["x"]))}
    found = kernel.jacobian(params, inputs)["y"]
    np.testing.assert_allclose(found, kernel.jacobian(params, inputs, method="bptt")["y"], rtol=1e-10, atol=1e-12)


def test_jacobian_is_the_graphs_at_compile_time_and_in_the_kernels_dtype() -> None:
    graph = linear(1, 1)
    kernel = rg.compile(graph)
    graph.clear()
    found = kernel.jacobian(kernel.init(), {"x": np.full((2, 1, 1), 3.0, np.float32)})["y"]
    assert found.dtype == np.float32 and sorted(found[0, 0, 0]) == [1.0, 3.0]


def test_jacobian_checks_its_arguments() -> None:
    kernel, params = compiled(linear())
    with pytest.raises(DataError, match="input 'x'"):
        kernel.jacobian(params, {"x": np.zeros((2, 1, 4))})
    with pytest.raises(UnsupportedError, match="'bptt' on a device"):
        rg.compile(linear(), backend="cupy").jacobian(params, {"x": np.zeros((2, 1, 3))}, method="bptt")
    with pytest.raises(OptionError, match="'rtrl' or 'bptt'"):
        kernel.jacobian(params, {"x": np.zeros((2, 1, 3))}, method="hebb")


# --- Levenberg-Marquardt


def least_squares(inputs: Any, targets: Any, weights: Any = None) -> Any:
    """W over b, (inputs + 1, outputs), of the linear network's best fit."""
    x = inputs["x"].reshape(-1, inputs["x"].shape[-1])
    rows = np.column_stack((x, np.ones(len(x))))
    y = targets["y"].reshape(len(x), -1)
    root = np.ones((len(x), 1)) if weights is None else np.sqrt(weights).reshape(-1, 1)
    return np.linalg.lstsq(root * rows, root * y, rcond=None)[0]


def matrix_of(params: Any) -> Any:
    """The linear network's parameters as ``least_squares`` gives them."""
    weight, bias = sorted(params.values(), key=lambda value: -value.ndim)
    return np.vstack((weight, bias))


@pytest.mark.parametrize("weighted", [False, True])
def test_levenberg_marquardt_solves_linear_least_squares_in_one_step(weighted: bool) -> None:
    pytest.importorskip("scipy")
    kernel, params = compiled(linear())
    data: Any = series(7, 3, 3, 2)
    weights = np.random.default_rng(2).uniform(size=(7, 3)) * (np.arange(7) != 3)[:, None] if weighted else None
    history = quiet(kernel, params, (*data, weights) if weighted else data, LevenbergMarquardt(damping=1e-12), 1)
    np.testing.assert_allclose(matrix_of(params), least_squares(*data, weights), rtol=1e-9, atol=1e-10)
    assert history.epochs == 1 and history.stopped == "all 1 epochs done"
    assert history.loss[-1] == pytest.approx(kernel.loss(params, *data, weights=weights), rel=1e-12)


def test_levenberg_marquardt_takes_the_step_of_the_damped_equations() -> None:
    pytest.importorskip("scipy")
    kernel, params = compiled(zoo.elman(1, 2, 1, recurrence="dense"))
    inputs, targets = series(12, 2, 1, 1)
    before = params.vector.copy()
    J = kernel.jacobian(params, inputs)["y"].reshape(24, -1)
    e = (targets["y"] - kernel.forward(params, inputs)[0]["y"]).ravel()
    quiet(kernel, params, (inputs, targets), LevenbergMarquardt(damping=5.0), 1)
    step = np.linalg.solve(J.T @ J + 5.0 * np.eye(len(before)), J.T @ e)
    np.testing.assert_allclose(params.vector - before, step, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_levenberg_marquardt_with_weight_decay_is_ridge_regression(weighted: bool) -> None:
    """Mean loss + d/2 |theta|^2 at its minimum, in one step: (J^T W J + n d/2 I) theta = J^T W target."""
    pytest.importorskip("scipy")
    kernel, params = compiled(linear())
    inputs, targets = series(7, 3, 3, 2)
    weights = np.random.default_rng(2).uniform(size=(7, 3)) if weighted else np.ones((7, 3))
    options = LevenbergMarquardt(damping=1e-12, weight_decay=0.3, gradient_tolerance=1e-9)
    history = quiet(kernel, params, (inputs, targets, weights), options, 5)
    rows = np.column_stack((inputs["x"].reshape(-1, 3), np.ones(21)))
    scale = weights.reshape(-1, 1) / 2  # the loss is a mean over the two units too
    normal = rows.T @ (scale * rows) + weights.sum() * 0.15 * np.eye(4)
    best = np.linalg.solve(normal, rows.T @ (scale * targets["y"].reshape(21, 2)))
    np.testing.assert_allclose(matrix_of(params), best, rtol=1e-9, atol=1e-10)
    assert history.epochs == 1 and "gradient_tolerance" in history.stopped
    assert history.loss[-1] == pytest.approx(kernel.loss(params, inputs, targets, weights=weights), rel=1e-12)


def test_levenberg_marquardt_decreases_the_loss_and_beats_adam() -> None:
    pytest.importorskip("scipy")
    data = series(40, 1, 1, 1)
    kernel, params = compiled(zoo.narx(1, 3, 1, 1, 2))
    start = params.vector.copy()
    history = quiet(kernel, params, data, LevenbergMarquardt(), 15)
    assert (np.diff(history.loss) < 0).all() and len(history.gradient_norm) == history.epochs
    params.vector[...] = start
    quiet(kernel, params, data, rg.Adam(1e-2), 150)
    assert history.loss[-1] < 0.8 * kernel.loss(params, *data)


def test_levenberg_marquardt_over_a_list_of_sequences_is_the_joint_fit() -> None:
    pytest.importorskip("scipy")
    kernel, params = compiled(linear())
    parts = [series(length, 2, 3, 2, seed=length) for length in (4, 9)]
    quiet(kernel, params, parts, LevenbergMarquardt(damping=1e-12), 1)
    joint = [
        {name: np.concatenate([part[k][name].reshape(-1, 1, part[k][name].shape[-1]) for part in parts])
         for name in parts[0][k]} for k in (0, 1)
    ]  # fmt: skip
    np.testing.assert_allclose(matrix_of(params), least_squares(*joint), rtol=1e-9, atol=1e-10)


def test_levenberg_marquardt_with_parameters_that_data_do_not_tell_apart() -> None:
    """Two equal inputs: J^T J is singular, and with a tiny mu Cholesky has no digits."""
    pytest.importorskip("scipy")
    kernel, params = compiled(linear(2, 1))
    inputs, targets = series(20, 1, 1, 1)
    doubled = {"x": np.repeat(inputs["x"], 2, axis=-1)}
    quiet(kernel, params, (doubled, targets), LevenbergMarquardt(damping=1e-18), 3)
    best = least_squares(inputs, targets)
    fitted = np.column_stack((inputs["x"].ravel(), np.ones(20))) @ best
    np.testing.assert_allclose(kernel.forward(params, doubled)[0]["y"].ravel(), fitted.ravel(), rtol=1e-7, atol=1e-9)


def test_levenberg_marquardt_stops_by_itself_and_says_why() -> None:
    pytest.importorskip("scipy")
    kernel, params = compiled(linear())
    data = series(10, 2, 3, 2)
    history = quiet(kernel, params, data, LevenbergMarquardt(gradient_tolerance=1e-9), 50)
    assert history.epochs < 50 and "gradient_tolerance" in history.stopped
    history = quiet(kernel, params, data, LevenbergMarquardt(gradient_tolerance=0.0), 50)
    assert history.epochs < 50 and "largest_damping" in history.stopped
    kernel, params = compiled(zoo.elman(1, 3, 1, recurrence="dense"))
    history = quiet(kernel, params, series(20, 1, 1, 1), LevenbergMarquardt(loss_tolerance=0.5), 50)
    assert history.epochs < 50 and "loss_tolerance" in history.stopped


def test_levenberg_marquardt_in_float32_with_early_stopping() -> None:
    pytest.importorskip("scipy")
    kernel = rg.compile(linear())
    params = kernel.init(0)
    data = series(20, 2, 3, 2)
    history = quiet(kernel, params, data, LevenbergMarquardt(), 30, validation=series(9, 2, 3, 2, 1), patience=2)
    assert params.vector.dtype == np.float32 and history.validation_loss
    best = history.validation_loss[history.best_epoch - 1]  # type: ignore[operator]
    assert kernel.loss(params, *series(9, 2, 3, 2, 1)) == pytest.approx(best, rel=1e-6)


def test_levenberg_marquardt_without_scipy_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    kernel, params = compiled(linear())
    with pytest.raises(BackendError, match=r"pip install 'rnngraph\[scipy\]'"):
        quiet(kernel, params, series(4, 1, 3, 2), LevenbergMarquardt())


# --- The extended Kalman filter


@pytest.mark.parametrize("block", [1, 4])
def test_ekf_on_a_linear_network_is_recursive_least_squares(block: int) -> None:
    """With q = 0 the filter's estimate minimises sum of w |target - y|^2 / r + |theta - theta_0|^2 / covariance."""
    kernel, params = compiled(linear(2, 1))
    inputs, targets = series(15, 2, 2, 1)
    weights = np.random.default_rng(2).uniform(0.5, 2.0, size=(15, 2)) * (np.arange(15) != 3)[:, None]
    first = matrix_of(params)[:, 0].copy()
    options = EKF(process_noise=0.0, measurement_noise=0.5, covariance=3.0, block=block)
    quiet(kernel, params, (inputs, targets, weights), options, 1)
    rows = np.column_stack((inputs["x"].reshape(-1, 2), np.ones(30)))
    inverse = weights.reshape(-1) / 0.5
    information = rows.T @ (inverse[:, None] * rows) + np.eye(3) / 3.0
    expected = np.linalg.solve(information, rows.T @ (inverse * targets["y"].ravel()) + first / 3.0)
    np.testing.assert_allclose(matrix_of(params)[:, 0], expected, rtol=1e-9)


def test_ekf_step_by_step_is_the_published_recursion() -> None:
    """On a recurrent network with reach as long as the sequence, against the equations written out."""
    kernel, params = compiled(zoo.elman(1, 2, 2, recurrence="dense"))
    inputs, targets = series(6, 2, 1, 2)
    theta, C = params.vector.copy(), 0.7 * np.eye(params.vector.size)
    own = kernel.init(0)
    for t in range(6):
        own.vector[...] = theta
        y = kernel.forward(own, {"x": inputs["x"][: t + 1]})[0]["y"][t].ravel()
        H = kernel.jacobian(own, {"x": inputs["x"][: t + 1]})["y"][t].reshape(4, -1)
        gain = C @ H.T @ np.linalg.inv(H @ C @ H.T + 0.2 * np.eye(4))
        theta = theta + gain @ (targets["y"][t].ravel() - y)
        C = C - gain @ H @ C + 1e-3 * np.eye(len(C))
    quiet(kernel, params, (inputs, targets), EKF(1e-3, 0.2, 0.7, reach=6), 1)
    np.testing.assert_allclose(params.vector, theta, rtol=1e-9, atol=1e-12)


def test_ekf_with_a_short_reach_learns_a_closed_loop() -> None:
    data = series(60, 1, 1, 1)
    kernel, params = compiled(zoo.narx(1, 3, 1, 1, 1))
    before = kernel.loss(params, *data)
    history = quiet(kernel, params, data, EKF(reach=3), 3)
    assert history.epochs == 3 and history.loss[-1] < history.loss[0]
    assert kernel.loss(params, *data) < 0.3 * before and len(history.gradient_norm) == 3


def test_ekf_divergence_leaves_the_last_good_parameters() -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=1)
    graph.add_node("y", kind="output", size=1, equation="exp(s)")
    graph.add_edge("x", "y")
    kernel, params = compiled(graph)
    data = ({"x": np.array([1.0, 1.0, 1e5])[:, None, None]}, {"y": np.full((3, 1, 1), 2.0)})
    params.vector[...] = 0.5
    with pytest.raises(DivergenceError, match="epoch 1, batch 1 of 1, step 3"):
        quiet(kernel, params, data, EKF(), 2)
    assert np.isfinite(params.vector).all() and (params.vector != 0.5).any()


# --- What is refused


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: LevenbergMarquardt(damping=0.0), "damping"),
        (lambda: LevenbergMarquardt(increase=1.0), "increase: found 1.0; expected a finite number > 1"),
        (lambda: LevenbergMarquardt(decrease=0.1), "decrease"),
        (lambda: LevenbergMarquardt(largest_damping=-1.0), "largest_damping"),
        (lambda: LevenbergMarquardt(loss_tolerance=-1.0), "loss_tolerance"),
        (lambda: LevenbergMarquardt(weight_decay=-1.0), "weight_decay: found -1.0"),
        (lambda: LevenbergMarquardt(gradient_tolerance=float("nan")), "gradient_tolerance"),
        (lambda: EKF(process_noise=-1.0), "process_noise"),
        (lambda: EKF(measurement_noise=0.0), "measurement_noise"),
        (lambda: EKF(covariance=0.0), "covariance"),
        (lambda: EKF(reach=-1), "reach"),
        (lambda: EKF(block=0), "block"),
    ],
)
def test_values_out_of_range_are_refused(make: Any, text: str) -> None:
    with pytest.raises(OptionError, match=text):
        make()


@pytest.mark.parametrize("optimizer", [LevenbergMarquardt(), EKF()], ids=["lm", "ekf"])
def test_losses_and_options_that_do_not_fit_are_refused(optimizer: Any) -> None:
    name = type(optimizer).__name__
    kernel, params = compiled(linear(), loss="cross_entropy")
    classes = ({"x": np.zeros((2, 1, 3))}, {"y": np.zeros((2, 1), int)})
    with pytest.raises(OptionError, match=f"{name} with the loss 'cross_entropy' on output 'y'; expected .*'mse'"):
        quiet(kernel, params, classes, optimizer)
    kernel, params = compiled(linear())
    with pytest.raises(OptionError, match=f"clip_norm: found 1.0 with {name}"):
        quiet(kernel, params, series(4, 1, 3, 2), optimizer, clip_norm=1.0)
    with pytest.raises(OptionError, match=rf"found the class {name}; .* write {name}\(\)"):
        quiet(kernel, params, series(4, 1, 3, 2), type(optimizer))
    if name == "LevenbergMarquardt":
        with pytest.raises(OptionError, match="batch_size: found 1 with LevenbergMarquardt"):
            quiet(kernel, params, series(4, 2, 3, 2), optimizer, batch_size=1)


@pytest.mark.parametrize("optimizer", [LevenbergMarquardt(), EKF()], ids=["lm", "ekf"])
def test_kernels_without_a_jacobian_are_refused(optimizer: Any) -> None:
    class Bare:
        def loss(self, *args: Any, **options: Any) -> float:
            return 0.0

        loss_and_gradient = loss

    _, params = compiled(linear())
    with pytest.raises(OptionError, match=r"an object of type Bare without forward and jacobian"):
        quiet(Bare(), params, series(4, 1, 3, 2), optimizer)
