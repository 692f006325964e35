"""Checks of the arrays given to a kernel."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rnngraph.data import check_inputs, check_parameters, check_state, check_targets, check_weights
from rnngraph.errors import DataError

T, BATCH = 4, 2
X = np.ones((T, BATCH, 3), np.float32)


def bad(value: float) -> NDArray[np.float32]:
    array: NDArray[np.float32] = X.copy()
    array[2, 1, 0] = value
    return array


def test_fitting_arrays_are_not_copied() -> None:
    arrays, steps, batch = check_inputs({"x": X}, {"x": 3}, "float32")
    assert arrays["x"] is X and (steps, batch) == (T, BATCH)
    classes = np.zeros((T, BATCH), np.intp)
    assert check_targets({"y": classes}, {"y": 5}, {"y": "cross_entropy"}, T, BATCH, "float32")["y"] is classes
    assert check_parameters({"W": X}, {"W": X.shape}, "float32")["W"] is X
    assert check_state({"x": X}, {"x": T}, {"x": 3}, BATCH, "float32")["x"] is X


@pytest.mark.parametrize(
    "value",
    [X.astype(float), X.astype(int), X.astype(">f4"), X.tolist(), np.asfortranarray(X), X > 0, X[:, ::-1]],
)
def test_other_real_arrays_are_converted(value: object) -> None:
    array = check_inputs({"x": value}, {"x": 3}, "float32")[0]["x"]
    assert array.dtype == np.float32 and array.flags.c_contiguous
    np.testing.assert_array_equal(array, X)


def test_large_finite_values_pass() -> None:
    huge = np.full((T, BATCH, 3), 3e38, np.float32)  # their sum is not finite in float32
    assert check_inputs({"x": huge}, {"x": 3}, "float32")[0]["x"] is huge


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (X, r"inputs: found an object of type ndarray; .* pass \{'x': array\}"),
        ({}, "no array for 'x'"),
        ({"x": X, "xx": X}, "unknown name 'xx'; expected 'x'; remedy: did you mean 'x'"),
        ({"x": X[:, 0]}, r"shape \(4, 3\); expected \(T, batch, 3\); remedy: add the batch axis"),
        ({"x": X[0, 0, 0]}, "arrange the axes"),
        ({"x": X[:, :, :2]}, r"shape \(4, 2, 2\)"),
        ({"x": X[:0]}, "T = 0"),
        ({"x": X[:, :0]}, "batch = 0"),
        ({"x": X.astype(complex)}, "dtype complex128"),
        ({"x": X.astype(object)}, "dtype object"),
        ({"x": X.astype(str)}, "dtype <U"),
        ({"x": None}, "dtype object"),
        ({"x": [[1.0], [1.0, 2.0]]}, "no array"),
        ({"x": np.ma.masked_array(X)}, "masked array"),
        ({"x": bad(np.nan)}, r"input 'x': found nan at \[2, 1, 0\]; expected finite"),
        ({"x": bad(-np.inf)}, r"-inf at \[2, 1, 0\]"),
        ({"x": np.where(np.isinf(bad(np.inf)), 1e300, 1.0)}, r"1e\+300 at \[2, 1, 0\], which float32 cannot hold"),
    ],
)
def test_refuses_inputs(inputs: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_inputs(inputs, {"x": 3}, "float32")


def test_inputs_agree_in_time_and_batch() -> None:
    with pytest.raises(
        DataError, match=r"input 'u': found \(T, batch\) = \(3, 2\); expected \(4, 2\), as input 'x' has"
    ):
        check_inputs({"x": X, "u": X[:3]}, {"x": 3, "u": 3}, "float32")


@pytest.mark.parametrize(
    ("target", "loss", "message"),
    [
        (X[:3], "mse", r"target of 'y': found shape \(3, 2, 3\); expected shape \(4, 2, 3\)"),
        (X[:, 0], "mse", "add the batch axis"),
        (bad(np.nan), "mse", "nan at"),
        (bad(2.0), "binary_cross_entropy", "values from 1 to 2"),
        (X, "cross_entropy", r"argmax\(-1\)"),
        (X[:, :, :1].astype(int), "cross_entropy", "remove the last axis"),
        (X[:, :, 0], "cross_entropy", r"dtype float32; expected integers from 0 to 2 .*astype\(int\)"),
        (np.zeros(T, int), "cross_entropy", "add the batch axis"),
        (np.full((T, BATCH), 3), "cross_entropy", r"class 3 at \[0, 0\]"),
        (np.full((T, BATCH), -1), "cross_entropy", "padding"),
        (np.full((T, BATCH), 2**63, np.uint64), "cross_entropy", "class 9223372036854775808"),
    ],
)
def test_refuses_targets(target: object, loss: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_targets({"y": target}, {"y": 3}, {"y": loss}, T, BATCH, "float32")


def test_targets_follow_the_losses() -> None:
    sizes, losses = {"y": 3, "p": 3}, {"y": "mse"}
    assert list(check_targets({"y": X}, sizes, losses, T, BATCH, "float32")) == ["y"]
    with pytest.raises(DataError, match="targets: found the unknown name 'p'"):
        check_targets({"y": X, "p": X}, sizes, losses, T, BATCH, "float32")
    with pytest.raises(DataError, match="targets: found no array for 'y'"):
        check_targets({}, sizes, losses, T, BATCH, "float32")


def test_weights() -> None:
    assert check_weights(None, T, BATCH, "float32") is None
    good = np.ones((T, BATCH), np.float32)
    assert check_weights(good, T, BATCH, "float32") is good


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(T), "add the batch axis"),
        (np.ones((T, BATCH, 1)), "remove the last axis"),
        (np.ones((BATCH, T)), r"shape \(2, 4\); expected shape \(4, 2\)"),
        (np.zeros((T, BATCH)), "zeros only"),
        (np.full((T, BATCH), -1.0), r"-1 at \[0, 0\]; expected weights >= 0"),
        (np.full((T, BATCH), np.nan), "nan at"),
        ("ab", "dtype <U2"),
    ],
)
def test_refuses_weights(weights: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_weights(weights, T, BATCH, "float32")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"b": X}, "state: found the unknown name 'b'; expected 'a', 'c'"),
        ({"a": X[:1]}, r"state of 'a': found shape \(1, 2, 3\); expected shape \(4, 2, 3\)"),
        ({"a": X[:, :1]}, "same batch"),
        ({"c": bad(np.nan)[1:]}, "nan at"),
        (X, "a mapping"),
    ],
)
def test_refuses_state(state: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_state(state, {"a": 4, "c": 3}, {"a": 3, "c": 3}, BATCH, "float32")


def test_state_may_be_partial() -> None:
    sizes = {"a": 3, "c": 3}
    assert check_state(None, {"a": 4, "c": 3}, sizes, BATCH, "float32") == {}
    assert list(check_state({"c": X[1:]}, {"a": 4, "c": 3}, sizes, BATCH, "float32")) == ["c"]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"W": X[0]}, "parameters: found no array for 'b'"),
        (
            {"W": X[0].T, "b": X[0, 0]},
            r"parameter 'W': found shape \(3, 2\); expected shape \(2, 3\); remedy: transpose",
        ),
        ({"W": X[0], "b": X[0]}, "parameter 'b': found shape"),
        ({"W": X[0], "b": [0, np.inf, 0]}, r"inf at \[1\]"),
    ],
)
def test_refuses_parameters(params: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_parameters(params, {"W": (2, 3), "b": (3,)}, "float32")
