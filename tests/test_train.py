"""Training on a linear model, y = x w: formulas by hand, clipping, batches, early stopping, failures."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.lib.mixins import NDArrayOperatorsMixin

from rnngraph.errors import BackendError, DataError, OptionError, TrainingError
from rnngraph.train import LBFGS, SGD, Adam, DivergenceError, History, Momentum, fit
from rnngraph.train.batches import Batches
from rnngraph.train.clipping import clip, clip_by_norm, global_norm


class Params(dict[str, Any]):
    """The contract's parameters: named views of one vector."""

    def __init__(self, values: list[float], dtype: str = "float64") -> None:
        self.vector = np.array(values, dtype=dtype)
        super().__init__(w=self.vector[:, None])


class Linear:
    """y = x w with the weighted mean of squared errors; counts its calls, remembers the batches."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def _parts(self, params: Params, inputs: Any, targets: Any, weights: Any) -> tuple[float, Any]:
        residual = inputs["x"] @ params["w"] - targets["y"]
        share = np.ones(residual.shape[:2]) if weights is None else weights
        share = share / share.sum()
        gradient = 2 * np.einsum("tbi,tbj,tb->i", inputs["x"], residual, share)
        return float((residual[..., 0] ** 2 * share).sum()), gradient.astype(params.vector.dtype)

    def loss_and_gradient(
        self, params: Params, inputs: Any, targets: Any, state: Any = None, weights: Any = None
    ) -> tuple[float, Params]:
        self.seen.append(inputs["x"].copy())
        loss, gradient = self._parts(params, inputs, targets, weights)
        grads = Params([0.0] * gradient.size, str(gradient.dtype))
        grads.vector[...] = gradient
        return loss, grads

    def loss(self, params: Params, inputs: Any, targets: Any, state: Any = None, weights: Any = None) -> float:
        return self._parts(params, inputs, targets, weights)[0]


def regression(steps: int = 5, batch: int = 8, seed: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(steps, batch, 2))
    return {"x": x}, {"y": x @ np.array([[1.5], [-2.0]]) + 0.1 * rng.normal(size=(steps, batch, 1))}


def quiet(*args: Any, **options: Any) -> History:
    return fit(*args, **{"progress": False, **options})


# --- Optimisers, by hand


def steps_of(optimizer: Any, gradients: list[list[float]], start: list[float]) -> list[list[float]]:
    vector = np.array(start)
    update = optimizer.start(vector)
    found = []
    for gradient in gradients:
        update(vector, np.array(gradient))
        found.append(vector.tolist())
    return found


def test_sgd_step() -> None:
    assert steps_of(SGD(0.25), [[4.0, -8.0], [1.0, 0.0]], [1.0, 1.0]) == [[0.0, 3.0], [-0.25, 3.0]]


def test_momentum_steps() -> None:
    # v1 = -1/4 * 4 = -1, theta = -1; v2 = -1/2 - 1/2 = -1, theta = -2
    assert steps_of(Momentum(0.25, 0.5), [[4.0], [2.0]], [0.0]) == [[-1.0], [-2.0]]


def test_nesterov_steps() -> None:
    # v1 = -1, theta = 1/2 v1 - 1 = -3/2; v2 = -1/2 - 1/2 = -1, theta = -3/2 - 1/2 - 1/2 = -5/2
    assert steps_of(Momentum(0.25, 0.5, nesterov=True), [[4.0], [2.0]], [0.0]) == [[-1.5], [-2.5]]


def test_adam_steps_with_and_without_decay() -> None:
    # t=1: m=2, v=4 (beta 1/2, 3/4 of 4 and 16): mhat=4, vhat=16: step = 1/8 * 4/(4+1) = 1/10.
    # t=2, g=0: m=1, v=3: mhat = 4/3, vhat = 3/(1-9/16) = 48/7.
    adam = Adam(0.125, beta1=0.5, beta2=0.75, epsilon=1.0)
    second = 0.125 * (4 / 3) / (np.sqrt(48 / 7) + 1)
    np.testing.assert_allclose(steps_of(adam, [[4.0], [0.0]], [1.0]), [[0.9], [0.9 - second]], rtol=1e-15)
    decayed = Adam(0.125, beta1=0.5, beta2=0.75, epsilon=1.0, weight_decay=2.0)
    first = 0.75 * 1.0 - 0.1
    np.testing.assert_allclose(steps_of(decayed, [[4.0], [0.0]], [1.0]), [[first], [0.75 * first - second]], rtol=1e-15)


@pytest.mark.parametrize(
    "optimizer", [SGD(0.1), Momentum(0.1), Momentum(0.1, nesterov=True), Adam(0.1, weight_decay=0.1)]
)
def test_updates_stay_in_place_and_in_dtype(optimizer: Any) -> None:
    vector, gradient = np.ones(3, dtype=np.float32), np.full(3, 0.5, dtype=np.float32)
    update = optimizer.start(vector)
    update(vector, gradient)
    assert vector.dtype == np.float32 and (vector < 1).all() and (gradient == 0.5).all()


class DeviceArray(NDArrayOperatorsMixin):
    """Stands for an array on a device: answers ufuncs, refuses to become a numpy array."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("implicit copy to the host")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
        assert not any(isinstance(value, np.ndarray) for value in inputs)
        bare = [value.values if isinstance(value, DeviceArray) else value for value in inputs]
        if out is None:
            return DeviceArray(getattr(ufunc, method)(*bare, **kwargs))
        getattr(ufunc, method)(*bare, out=out[0].values, **kwargs)
        return out[0]

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> DeviceArray:
        assert function is np.zeros_like
        return DeviceArray(np.zeros_like(args[0].values))

    def dot(self, other: DeviceArray) -> Any:
        return self.values.dot(other.values)


@pytest.mark.parametrize("optimizer", [SGD(0.1), Momentum(0.1, nesterov=True), Adam(0.1, weight_decay=0.1)])
def test_optimisers_and_clipping_serve_arrays_of_another_module(optimizer: Any) -> None:
    vector, gradient = np.array([1.0, 2.0]), np.array([30.0, -40.0])
    device, device_gradient = DeviceArray(vector.copy()), DeviceArray(gradient.copy())
    update, device_update = optimizer.start(vector), optimizer.start(device)
    for _ in range(2):
        clip(gradient, global_norm(gradient), 1.0, 35.0)
        clip(device_gradient, global_norm(device_gradient), 1.0, 35.0)
        update(vector, gradient)
        device_update(device, device_gradient)
    assert (vector == device.values).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: SGD(0.0),
        lambda: SGD(float("nan")),
        lambda: Momentum(0.1, momentum=1.0),
        lambda: Adam(beta1=-0.1),
        lambda: Adam(epsilon=0.0),
        lambda: Adam(weight_decay=-1.0),
        lambda: Adam(learning_rate="fast"),  # type: ignore[arg-type]
        lambda: LBFGS(memory=0),
    ],
)
def test_hyper_parameters_out_of_range_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(OptionError, match="expected"):
        make()


# --- Clipping


def test_clipping_is_exact() -> None:
    gradient = np.array([3.0, -4.0])
    clip(gradient, 5.0, None, 3.5)
    assert gradient.tolist() == [3.0, -3.5]
    gradient = np.array([3.0, -4.0])
    clip(gradient, 5.0, 2.5, None)
    assert gradient.tolist() == [1.5, -2.0]
    clip_by_norm(gradient, 2.5, 2.5)
    assert gradient.tolist() == [1.5, -2.0]
    gradient = np.array([3.0, -8.0])
    clip(gradient, global_norm(gradient), 1.0, 4.0)
    np.testing.assert_allclose(gradient, [0.6, -0.8], rtol=1e-15)


def test_global_norm_beyond_the_range_of_squares() -> None:
    for scale in (1e30, 1.0, 1e-30):
        assert global_norm(np.array([3.0, -4.0], dtype=np.float32) * np.float32(scale)) == pytest.approx(
            5 * scale, rel=1e-6
        )
    assert global_norm(np.zeros(2)) == 0.0
    assert global_norm(np.array([1.0, np.inf])) == np.inf
    assert np.isnan(global_norm(np.array([1.0, np.nan])))


def test_fit_clips_the_step_but_records_the_norm_before() -> None:
    params = Params([0.0, 0.0])
    history = quiet(Linear(), params, regression(), SGD(1.0), 1, clip_norm=1e-3)
    assert np.linalg.norm(params.vector) == pytest.approx(1e-3)
    assert history.gradient_norm[0] > 1.0


# --- The loop


def test_full_batch_sgd_equals_the_formula() -> None:
    inputs, targets = regression()
    params, kernel = Params([0.5, 0.5]), Linear()
    view = params["w"]
    loss, grads = kernel.loss_and_gradient(params, inputs, targets)
    expected = params.vector - 0.1 * grads.vector
    history = quiet(kernel, params, (inputs, targets), SGD(0.1), 1)
    assert (params.vector == expected).all() and (view[:, 0] == expected).all()
    assert history.loss == [loss] and history.gradient_norm == [pytest.approx(np.linalg.norm(grads.vector))]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", [SGD(0.1), Momentum(0.02), Adam(0.1)])
def test_training_finds_the_weights(optimizer: Any, dtype: str) -> None:
    params = Params([0.0, 0.0], dtype)
    history = quiet(Linear(), params, regression(), optimizer, 60, batch_size=3)
    np.testing.assert_allclose(params.vector, [1.5, -2.0], atol=0.1)
    assert history.loss[-1] < 0.02 < history.loss[0] and history.stopped == "all 60 epochs done"


def test_mini_batches_cover_the_batch_axis_once_an_epoch() -> None:
    x = np.arange(2.0 * 7).reshape(2, 7, 1)
    batches = Batches(({"x": x}, {"y": x}, np.ones((2, 7))), 3, shuffle=True, seed=1)
    first, second = list(batches.epoch()), list(batches.epoch())
    assert batches.count == 3 and [batch.size for batch in first] == [3, 3, 1]
    orders = [np.concatenate([batch.inputs["x"][0, :, 0] for batch in epoch]) for epoch in (first, second)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(7)) and (orders[0] != orders[1]).any()
    for batch in first:
        assert (batch.inputs["x"] == batch.targets["y"]).all() and batch.inputs["x"].flags.c_contiguous
        assert (batch.inputs["x"][1] == batch.inputs["x"][0] + 7).all()
    ordered = list(Batches(({"x": x}, {"y": x}), 3, shuffle=False, seed=0).epoch())
    assert ordered[2].inputs["x"][0, 0, 0] == 6.0


def test_epoch_loss_is_the_mean_over_all_steps() -> None:
    inputs, targets = regression(batch=7)
    weights = np.ones((5, 7))
    weights[3:, 2] = 0
    params, kernel = Params([1.0, 1.0]), Linear()
    whole = kernel.loss(params, inputs, targets, weights=weights)
    history = quiet(kernel, params, (inputs, targets, weights), SGD(1e-12), 1, batch_size=3)
    assert history.loss[0] == pytest.approx(whole)


def test_masked_mini_batches_are_left_out() -> None:
    inputs, targets = regression(batch=2)
    weights = np.ones((5, 2))
    weights[:, 1] = 0
    history = quiet(Linear(), Params([0.0, 0.0]), (inputs, targets, weights), SGD(0.1), 2, batch_size=1)
    assert np.isfinite(history.loss).all() and history.epochs == 2


def test_ragged_lists_are_one_mini_batch_each() -> None:
    data = [regression(steps, batch=1, seed=steps) for steps in (3, 5, 9)]
    kernel, params = Linear(), Params([0.0, 0.0])
    history = quiet(kernel, params, data, Adam(0.05), 60, validation=data)
    assert {seen.shape[0] for seen in kernel.seen} == {3, 5, 9} and len(kernel.seen) == 180
    assert len({tuple(seen.shape[0] for seen in kernel.seen[k : k + 3]) for k in range(0, 180, 3)}) > 1
    np.testing.assert_allclose(params.vector, [1.5, -2.0], atol=0.15)
    joined = sum(kernel.loss(params, *one) * one[0]["x"].shape[0] for one in data) / 17
    assert history.validation_loss[-1] == pytest.approx(joined)


def test_same_seed_same_run() -> None:
    runs = []
    for seed in (5, 5, 6):
        params = Params([0.0, 0.0])
        quiet(Linear(), params, regression(), Adam(0.1), 3, batch_size=3, seed=seed)
        runs.append(params.vector)
    assert (runs[0] == runs[1]).all() and (runs[0] != runs[2]).any()


def test_lists_and_integer_targets_are_taken() -> None:
    batches = Batches(({"x": [[[1.0]], [[2.0]]]}, {"y": [[0], [1]]}), None, True, 0)
    (batch,) = batches.epoch()
    assert batch.inputs["x"].shape == (2, 1, 1) and batch.targets["y"].dtype.kind == "i"


# --- Validation, early stopping, callbacks


class Scripted(Linear):
    """Linear, but with validation losses from a list."""

    def __init__(self, losses: list[float]) -> None:
        super().__init__()
        self.losses = iter(losses)
        self.vectors: list[Any] = []

    def loss(self, params: Params, inputs: Any, targets: Any, state: Any = None, weights: Any = None) -> float:
        self.vectors.append(params.vector.copy())
        return next(self.losses)


@pytest.mark.parametrize(
    ("epochs", "done", "why"), [(9, 5, "no lower validation loss for 3 epochs"), (4, 4, "all 4 epochs")]
)
def test_early_stopping_restores_the_best(epochs: int, done: int, why: str) -> None:
    kernel, params = Scripted([3.0, 1.0, 2.0, 1.0, 4.0, 0.0]), Params([0.0, 0.0])
    history = quiet(kernel, params, regression(), SGD(0.05), epochs, validation=regression(seed=1), patience=3)
    assert history.epochs == done and history.best_epoch == 2 and history.stopped.startswith(why)
    assert history.validation_loss == [3.0, 1.0, 2.0, 1.0, 4.0][:done]
    assert (params.vector == kernel.vectors[1]).all()


def test_validation_without_patience_keeps_the_last() -> None:
    kernel, params = Scripted([1.0, 2.0]), Params([0.0, 0.0])
    history = quiet(kernel, params, regression(), SGD(0.05), 2, validation=regression(seed=1))
    assert history.best_epoch == 1 and (params.vector == kernel.vectors[1]).all()


def test_callbacks_hear_every_epoch_and_may_stop() -> None:
    heard: list[int] = []
    callbacks = [lambda history: history.epochs == 2, lambda history: heard.append(history.epochs)]
    history = quiet(Linear(), Params([0.0, 0.0]), regression(), SGD(0.1), 9, callbacks=callbacks)
    assert heard == [1, 2] and history.stopped == "a callback asked to stop"


# --- Failures


class Failing(Linear):
    """Linear, but call ``at`` answers with ``loss`` and ``gradient``."""

    def __init__(self, at: int, loss: float = 1.0, gradient: float = 0.0) -> None:
        super().__init__()
        self.at, self.loss_value, self.gradient_value = at, loss, gradient
        self.vectors: list[Any] = []

    def loss_and_gradient(
        self, params: Params, inputs: Any, targets: Any, state: Any = None, weights: Any = None
    ) -> tuple[float, Params]:
        self.vectors.append(params.vector.copy())
        loss, grads = super().loss_and_gradient(params, inputs, targets, state, weights)
        if len(self.vectors) == self.at:
            grads.vector[0] = self.gradient_value
            return self.loss_value, grads
        return loss, grads


@pytest.mark.parametrize(("loss", "gradient"), [(np.nan, 0.0), (np.inf, 0.0), (1.0, np.nan), (1.0, -np.inf)])
def test_divergence_goes_back_to_the_last_finite_parameters(loss: float, gradient: float) -> None:
    kernel, params = Failing(5, loss, gradient), Params([0.0, 0.0])
    with pytest.raises(TrainingError, match=r"epoch 2, batch 2 of 3: .*(nan|inf).*clip_norm.*learning rate") as caught:
        quiet(kernel, params, regression(), SGD(0.05), 9, batch_size=3)
    assert (params.vector == kernel.vectors[3]).all() and (kernel.vectors[3] != kernel.vectors[4]).any()
    assert isinstance(caught.value, DivergenceError) and caught.value.history.epochs == 1


def test_divergence_at_once_leaves_the_initial_parameters() -> None:
    params = Params([0.5, 0.25])
    with pytest.raises(TrainingError, match="epoch 1, batch 1 of 1"):
        quiet(Failing(1, np.nan), params, regression(), SGD(0.05), 9)
    assert params.vector.tolist() == [0.5, 0.25]


def test_last_update_that_overflows_is_taken_back() -> None:
    params = Params([0.5, 0.25], "float32")
    inputs, targets = regression()
    with pytest.raises(TrainingError, match="parameter that is not finite"):  # and no warning of numpy's
        quiet(Linear(), params, (inputs, {"y": targets["y"] * 1e18}), SGD(1e30), 1)
    assert params.vector.tolist() == [0.5, 0.25]


def test_validation_that_diverges() -> None:
    params = Params([0.5, 0.25])
    with pytest.raises(TrainingError, match="epoch 1, validation: found a validation loss of nan"):
        quiet(Scripted([np.nan]), params, regression(), SGD(0.05), 9, validation=regression())
    assert params.vector.tolist() == [0.5, 0.25]


def test_interrupt_inside_an_update_takes_it_back() -> None:
    class Interrupted:
        def start(self, vector: Any) -> Callable[[Any, Any], None]:
            def update(vector: Any, gradient: Any) -> None:
                vector[0] = 99.0
                raise KeyboardInterrupt

            return update

    params = Params([0.5, 0.25])
    with pytest.raises(KeyboardInterrupt):
        quiet(Linear(), params, regression(), Interrupted())
    assert params.vector.tolist() == [0.5, 0.25]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"epochs": 0}, "epochs: found 0"),
        ({"batch_size": 2.5}, "batch_size"),
        ({"batch_size": True}, "batch_size"),
        ({"patience": 2}, "without validation"),
        ({"clip_norm": -1.0}, "clip_norm"),
        ({"clip_value": 0.0}, "clip_value"),
        ({"seed": -1}, "seed"),
        ({"optimizer": "adam"}, "optimizer: found 'adam'"),
        ({"optimizer": LBFGS(), "batch_size": 2}, "with LBFGS"),
        ({"optimizer": LBFGS(), "clip_norm": 2.0}, "with LBFGS"),
        ({"optimizer": Adam}, r"optimizer: found the class Adam; .* write Adam\(\)"),
        ({"optimizer": LBFGS}, r"optimizer: found the class LBFGS; .* write LBFGS\(\)"),
        ({"callbacks": [3]}, "callbacks"),
        ({"callbacks": print}, r"callbacks: .*; expected a list of .*; remedy: write callbacks=\[print\]"),
        ({"callbacks": None}, "callbacks: found None"),
    ],
)
def test_options_are_checked(options: dict[str, Any], text: str) -> None:
    with pytest.raises(OptionError, match=text):
        quiet(Linear(), Params([0.0, 0.0]), regression(), **options)


@pytest.mark.parametrize(
    ("kernel", "found"), [(None, "None"), (3, "an object of type int"), (Linear, "the class Linear")]
)
def test_what_is_no_kernel_is_refused(kernel: Any, found: str) -> None:
    with pytest.raises(OptionError, match=f"kernel: found .*{found}; expected a compiled network; .*compile"):
        quiet(kernel, Params([0.0, 0.0]), regression())


def test_callbacks_may_be_any_iterable() -> None:
    heard: list[int] = []
    once = (callback for callback in [lambda history: heard.append(history.epochs)])
    quiet(Linear(), Params([0.0, 0.0]), regression(), SGD(0.1), 2, callbacks=once)
    assert heard == [1, 2]


X = np.ones((4, 3, 2))
Y = np.ones((4, 3, 1))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (({"x": X}, {"y": Y[:2]}), r"data: target 'y': found T=2, batch=3; expected T=4, batch=3 as in input 'x'"),
        (({"x": X}, {"y": Y[:, :2]}), "batch=2"),
        (({"x": X}, {"y": Y}, np.ones((4, 2))), "weights"),
        (({"x": X}, {"y": Y}, np.zeros((4, 3))), "nothing but zeros"),
        (({"x": X}, {"y": Y}, -np.ones((4, 3))), "negative"),
        (({"x": X[:, :0]}, {"y": Y[:, :0]}), "batch=0"),
        (({"x": X[:0]}, {"y": Y[:0]}), "T=0"),
        (({"x": X}, {}), "no targets"),
        (({"x": X}, Y), "targets as a ndarray"),
        (({"x": X},), "a tuple of 1"),
        (({"x": X[..., 0]}, {"y": Y}), "time-major"),
        (({"x": X * np.nan}, {"y": Y}), "NaN"),
        (({"x": X.astype(str)}, {"y": Y}), "dtype"),
        (({"x": [[[1.0], [2.0, 3.0]]]}, {"y": Y}), "no array"),
        ([], "empty list"),
        ([({"x": X}, {"y": Y}), ({"x": X}, {"y": Y[1:]})], r"data\[1\]"),
        (X, "ndarray"),
    ],
)
def test_data_is_checked(data: Any, text: str) -> None:
    with pytest.raises(DataError, match=text):
        quiet(Linear(), Params([0.0, 0.0]), data)


def test_batch_size_with_a_list_is_refused() -> None:
    with pytest.raises(OptionError, match="each entry of a list is one mini-batch"):
        quiet(Linear(), Params([0.0, 0.0]), [({"x": X}, {"y": Y})], batch_size=2)


def test_params_without_a_vector_or_not_finite_are_refused() -> None:
    message = (
        r"a dict without \.vector; .* changes in place; .*params = kernel\.init\(\), then params\.update\(values\)"
    )
    with pytest.raises(DataError, match=message):
        quiet(Linear(), {"w": np.ones((2, 1))}, regression())
    with pytest.raises(DataError, match="NaN or infinite"):
        quiet(Linear(), Params([np.nan, 0.0]), regression())


def test_gradient_of_other_parameters_is_refused() -> None:
    class Other(Linear):
        def loss_and_gradient(self, *args: Any, **kwargs: Any) -> tuple[float, Params]:
            return 1.0, Params([0.0])

    with pytest.raises(OptionError, match="gradient vector of shape"):
        quiet(Other(), Params([0.0, 0.0]), regression())


def test_kernel_without_the_gradient_by_the_parameters_is_refused() -> None:
    class Gradients(dict[str, Any]):
        vector = None

    class OfInputs(Linear):
        def loss_and_gradient(self, *args: Any, **kwargs: Any) -> tuple[float, Any]:
            return 1.0, Gradients()

    params = Params([0.5, 0.25])
    with pytest.raises(OptionError, match=r'no gradient by the parameters; .* compile the kernel with "parameters" in'):
        quiet(OfInputs(), params, regression())
    assert params.vector.tolist() == [0.5, 0.25]


# --- L-BFGS


def least_squares(data: list[Any]) -> Any:
    x = np.concatenate([inputs["x"].reshape(-1, 2) for inputs, _ in data])
    y = np.concatenate([targets["y"].reshape(-1) for _, targets in data])
    return np.linalg.lstsq(x, y, rcond=None)[0]


def test_lbfgs_reaches_the_least_squares_solution() -> None:
    pytest.importorskip("scipy")
    ragged = [regression(steps, 2, steps) for steps in (3, 7)]
    for data in (regression(), ragged):
        params = Params([0.0, 0.0])
        history = quiet(Linear(), params, data, LBFGS(loss_tolerance=0.0, gradient_tolerance=1e-10), 50)
        np.testing.assert_allclose(params.vector, least_squares(data if isinstance(data, list) else [data]), rtol=1e-8)
        assert 0 < history.epochs < 50 and history.stopped.startswith("L-BFGS ended: CONVERGENCE")
        assert history.loss == sorted(history.loss, reverse=True) and history.gradient_norm[-1] < 1e-8


def test_lbfgs_in_float32_and_with_a_bound_of_epochs() -> None:
    pytest.importorskip("scipy")
    params = Params([0.0, 0.0], "float32")
    quiet(Linear(), params, regression(), LBFGS(), 50)
    np.testing.assert_allclose(params.vector, least_squares([regression()]), rtol=1e-3)
    history = quiet(Linear(), Params([0.0, 0.0]), regression(), LBFGS(loss_tolerance=0.0, gradient_tolerance=0.0), 1)
    assert history.epochs == 1 and history.stopped == "all 1 epochs done"


def test_lbfgs_early_stopping_and_divergence() -> None:
    pytest.importorskip("scipy")
    kernel, params = Scripted([1.0, 2.0]), Params([0.0, 0.0])
    history = quiet(kernel, params, regression(), LBFGS(), 50, validation=regression(seed=1), patience=1)
    assert history.epochs == 2 and (params.vector == kernel.vectors[0]).all()
    params = Params([0.5, 0.25])
    with pytest.raises(DivergenceError, match="iteration 1"):
        quiet(Failing(2, np.nan), params, regression(), LBFGS(), 50)
    assert params.vector.tolist() == [0.5, 0.25]


def test_lbfgs_without_scipy_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(BackendError, match=r"pip install 'rnngraph\[scipy\]'"):
        quiet(Linear(), Params([0.0, 0.0]), regression(), LBFGS())


# --- Output


@pytest.mark.parametrize("progress", [False, True])
def test_nothing_is_printed_without_a_terminal(
    progress: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    fit(Linear(), Params([0.0, 0.0]), regression(), SGD(0.1), 3, batch_size=3, progress=progress)
    assert capsys.readouterr() == ("", "")


def test_the_bar_goes_to_a_terminal_on_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    history = fit(Linear(), Params([0.0, 0.0]), regression(), SGD(0.1), 3, validation=regression(), callbacks=[print])
    out, err = capsys.readouterr()
    assert "3/3" in err and f"validation {history.validation_loss[-1]:.4g}" in err
    assert "3/3" not in out and out.count("running") == 3


def test_history_table_and_dictionary() -> None:
    history = History([3.0, 1.0, 2.0] * 20, [], [0.5] * 60, [0.1] * 60, "all 60 epochs done")
    lines = str(history).splitlines()
    assert len(lines) <= 14 and lines[0].split() == ["epoch", "loss", "grad", "norm", "seconds"]
    assert any(line.split()[0] == "2" and line.endswith("*") for line in lines) and lines[-2].split()[0] == "60"
    assert lines[-1] == "all 60 epochs done; * best epoch; 6 s in all"
    plain = history.as_dict()
    assert json.loads(json.dumps(plain)) == plain and plain["best_epoch"] == 2
    assert str(History()) == "no complete epoch; running"
    assert "validation" in str(History([1.0], [0.5], [1.0], [0.1], "done"))


def test_data_as_a_mapping_is_the_same_as_a_tuple() -> None:
    inputs, targets = regression()
    as_tuple, as_mapping = Params([0.0, 0.0]), Params([0.0, 0.0])
    quiet(Linear(), as_tuple, (inputs, targets), Adam(0.1), epochs=3)
    quiet(Linear(), as_mapping, {"inputs": inputs, "targets": targets}, Adam(0.1), epochs=3)
    assert np.array_equal(as_tuple.vector, as_mapping.vector)
