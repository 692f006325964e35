"""Checks of the arrays that a kernel is given: names, shapes, dtypes and values, each refused with a DataError.

An array that already has the kernel's dtype and layout is passed on as it is, never copied. Arrays are time-major:
(T, batch, size).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rnngraph.errors import DataError
from rnngraph.words import clip, nearest

Array = NDArray[Any]


def check_inputs(inputs: object, sizes: Mapping[str, int], dtype: DTypeLike) -> tuple[dict[str, Array], int, int]:
    """The inputs as C-contiguous arrays (T, batch, size) in the order of ``sizes``, with T and batch.

    Raises DataError for missing or unknown names, a wrong shape or dtype, T or batch 0 or unequal, NaN, infinity.
    """
    given = _mapping("inputs", inputs, sizes)
    arrays: dict[str, Array] = {}
    first = ""
    for name, size in sizes.items():
        where = f"input {name!r}"
        array = _real(where, given[name], dtype)
        if array.ndim != 3:
            raise DataError(where, f"shape {array.shape}", f"(T, batch, {size})", _rank_remedy(array, size))
        if array.shape[2] != size:
            raise DataError(
                where, f"shape {array.shape}", f"(T, batch, {size})", f"give {size} values per step, or change the size"
            )
        if array.shape[0] == 0 or array.shape[1] == 0:
            axis = "time steps (T = 0)" if array.shape[0] == 0 else "sequences (batch = 0)"
            raise DataError(where, f"no {axis}", "at least one time step and one sequence", "leave out empty batches")
        if not first:
            first = name
        elif array.shape[:2] != arrays[first].shape[:2]:
            raise DataError(
                where,
                f"(T, batch) = {array.shape[:2]}",
                f"{arrays[first].shape[:2]}, as input {first!r} has",
                "cut or pad the inputs to one length and one batch",
            )
        arrays[name] = array
    if not arrays:
        raise DataError("inputs", "no inputs", "at least one input", "add a node with kind='input'")
    steps, batch, _ = arrays[first].shape
    for name, array in arrays.items():
        check_finite(
            f"input {name!r}", array, given[name], "replace it; padding is a number such as 0 with a weight of 0"
        )
    return arrays, steps, batch


def check_targets(
    targets: object, outputs: Mapping[str, int], losses: Mapping[str, str], T: int, batch: int, dtype: DTypeLike
) -> dict[str, Array]:
    """The targets of the outputs that have a loss, in the order of ``losses``.

    Integers (T, batch) in 0..size-1, returned as intp, for "cross_entropy"; (T, batch, size) for every other loss, in
    0..1 for "binary_cross_entropy". Raises DataError.
    """
    given = _mapping("targets", targets, losses)
    checked: dict[str, Array] = {}
    for name, loss in losses.items():
        where, size = f"target of {name!r}", outputs[name]
        if loss == "cross_entropy":
            checked[name] = _classes(where, given[name], size, (T, batch))
            continue
        array = _real(where, given[name], dtype)
        _shape(where, array, (T, batch, size), _rank_remedy(array, size))
        check_finite(where, array, given[name], "replace it; padding is a number such as 0 with a weight of 0")
        if loss == "binary_cross_entropy" and not (array.min() >= 0 and array.max() <= 1):
            raise DataError(
                where,
                f"values from {array.min():g} to {array.max():g}",
                "probabilities from 0 to 1 for binary_cross_entropy",
                "scale the targets, or use loss='mse'",
            )
        checked[name] = array
    return checked


def check_weights(weights: object, T: int, batch: int, dtype: DTypeLike) -> Array | None:
    """The weights of the loss, (T, batch), finite, not negative, not all zero; None stays None. Raises DataError."""
    if weights is None:
        return None
    array = _real("weights", weights, dtype)
    if array.ndim == 1:
        remedy = "add the batch axis: np.repeat(weights[:, None], batch, axis=1)"
    elif array.shape == (T, batch, 1):
        remedy = "remove the last axis: weights[:, :, 0]"
    else:
        remedy = "give one weight per time step and sequence"
    _shape("weights", array, (T, batch), remedy)
    check_finite("weights", array, weights, "use 0 for a step that does not count")
    if array.min() < 0:
        where = _position(array < 0)
        raise DataError(
            "weights", f"{array[where]:g} at {list(where)}", "weights >= 0", "use 0 for a step that does not count"
        )
    with np.errstate(over="ignore"):
        total = array.sum(dtype=np.float64)
    if not math.isfinite(total):
        raise DataError(
            "weights", "a sum that is not finite", "weights of moderate size", "divide the weights by a number"
        )
    if not array.any():
        raise DataError("weights", "zeros only", "at least one weight above 0", "leave out a batch without valid steps")
    return array


def check_state(
    state: object, depths: Mapping[str, int], sizes: Mapping[str, int], batch: int, dtype: DTypeLike
) -> dict[str, Array]:
    """The given part of the state, arrays (depth, batch, size), oldest first; None is the empty part.

    ``depths`` holds each node's longest delay out of it. Raises DataError.
    """
    if state is None:
        return {}
    given = _mapping("state", state, depths, partial=True)
    checked: dict[str, Array] = {}
    for name, value in given.items():
        where = f"state of {name!r}"
        array = _real(where, value, dtype)
        shape = (depths[name], batch, sizes[name])
        if array.ndim == 3 and array.shape[1] != batch and (array.shape[0], array.shape[2]) == (shape[0], shape[2]):
            remedy = "give the state of a run with the same batch, or none"
        else:
            remedy = "give the node's last values, (depth, batch, size), oldest first, as forward returns them"
        _shape(where, array, shape, remedy)
        check_finite(where, array, value, "start from another state, such as kernel.initial_state(batch)")
        checked[name] = array
    return checked


def check_parameters(
    params: object, shapes: Mapping[str, tuple[int, ...]], dtype: DTypeLike, what: str = "parameter"
) -> dict[str, Array]:
    """The parameters as C-contiguous arrays in the order of ``shapes``; ``what`` they are called in a DataError."""
    given = _mapping(f"{what}s" if what == "parameter" else what, params, shapes)
    checked: dict[str, Array] = {}
    for name, shape in shapes.items():
        where = f"{what} {name!r}"
        array = _real(where, given[name], dtype)
        remedy = "transpose it: (source size, destination size)" if array.shape == shape[::-1] else "reshape it"
        _shape(where, array, shape, remedy)
        check_finite(where, array, given[name], "start from kernel.init(), or train with a smaller step")
        checked[name] = array
    return checked


def batch_of(inputs: Mapping[str, Any]) -> int:
    """The number of sequences of checked inputs."""
    return int(next(iter(inputs.values())).shape[1])


def _mapping(where: str, given: object, names: Iterable[str], partial: bool = False) -> Mapping[str, Any]:
    """A mapping with exactly the expected names (or, ``partial``, some of them)."""
    if type(given) is dict and isinstance(names, dict) and given.keys() == names.keys():
        return given
    expected = list(names)
    listed = ", ".join(repr(name) for name in expected) or "no names"
    if not isinstance(given, Mapping):
        example = f"{{{expected[0]!r}: array}}" if expected else "{}"
        raise DataError(where, f"an object of type {type(given).__name__}", f"a mapping of {listed}", f"pass {example}")
    known = set(expected)
    for name in given:
        if name not in known:
            close = nearest(str(name), expected)
            remedy = f"did you mean {close!r}?" if close else f"remove {clip(name)}"
            raise DataError(where, f"the unknown name {clip(name)}", listed, remedy)
    if not partial:
        for name in expected:
            if name not in given:
                raise DataError(where, f"no array for {name!r}", listed, f"add {name!r}")
    return given


def as_array(where: str, value: object) -> Array:
    """``value`` as an array; DataError when it is none (ragged lists, masked arrays)."""
    if isinstance(value, np.ma.MaskedArray):
        raise DataError(
            where, "a masked array", "a plain array", "fill it (value.filled(0)) and mask steps by weights=0"
        )
    try:
        return np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(
            where, f"a {type(value).__name__} that is no array ({error})", "numbers in a regular array", "convert it"
        ) from None


def _real(where: str, value: object, dtype: DTypeLike) -> Array:
    """A C-contiguous array of the dtype, not copied where it is one already."""
    if type(value) is np.ndarray and value.dtype == dtype and value.ndim and value.flags.c_contiguous:
        return value
    array = as_array(where, value)
    if array.dtype.kind not in "biuf":
        remedy = "split it into real and imaginary units" if array.dtype.kind == "c" else "convert it to numbers"
        raise DataError(where, f"dtype {array.dtype}", "real numbers", remedy)
    if array.ndim == 0:
        return array.astype(dtype)
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit becomes infinite and is refused as such
        return np.ascontiguousarray(array, dtype=dtype)


def _shape(where: str, array: Array, shape: tuple[int, ...], remedy: str) -> None:
    if array.shape != shape:
        raise DataError(where, f"shape {array.shape}", f"shape {shape}", remedy)


def _rank_remedy(array: Array, size: int) -> str:
    if array.ndim == 2 and array.shape[1] == size:
        return "add the batch axis: array[:, None, :]"
    if array.ndim == 2 and size == 1:
        return "add the axis of units: array[:, :, None]"
    if array.ndim == 1 and size == 1:
        return "add the axes of batch and units: array[:, None, None]"
    return "arrange the axes as time, batch, units"


def _position(mask: Array) -> tuple[int, ...]:
    """The index of the first True."""
    return tuple(int(index) for index in np.unravel_index(int(np.argmax(mask)), mask.shape))


def check_finite(where: str, array: Array, given: object, remedy: str) -> None:
    """Refuse NaN and infinity. A finite sum of squares, which is cheap, proves that all is well; only else is each
    entry read."""
    if math.isfinite(np.vdot(array, array)):  # unlike dot it does not warn where this overflows
        return
    wrong = ~np.isfinite(array)
    if not wrong.any():
        return
    index = _position(wrong)
    found = f"{array[index]} at {list(index)}"
    original = np.asarray(given)[index]
    if np.isfinite(original):
        found = f"{original:g} at {list(index)}, which {array.dtype} cannot hold"
    raise DataError(where, found, "finite numbers", remedy)


def _classes(where: str, value: object, size: int, shape: tuple[int, int]) -> Array:
    """Integer classes (T, batch) of cross entropy."""
    array = as_array(where, value)
    expected = f"integers from 0 to {size - 1} of shape {shape}"
    if array.shape == (*shape, size) and size > 1:
        raise DataError(where, f"shape {array.shape}", expected, "turn one-hot targets into classes: array.argmax(-1)")
    if array.shape == (*shape, 1):
        raise DataError(where, f"shape {array.shape}", expected, "remove the last axis: array[:, :, 0]")
    if array.dtype.kind not in "iu":
        raise DataError(where, f"dtype {array.dtype}", expected, "convert it: array.astype(int)")
    if array.shape != shape:
        remedy = (
            "add the batch axis: array[:, None]" if array.ndim == 1 else "give one class per time step and sequence"
        )
        raise DataError(where, f"shape {array.shape}", expected, remedy)
    if array.size and (array.min() < 0 or array.max() >= size):
        index = _position((array < 0) | (array >= size))
        raise DataError(
            where,
            f"class {array[index]} at {list(index)}",
            expected,
            "use a class from 0 on for padding too, with a weight of 0" if array[index] < 0 else "count classes from 0",
        )
    return np.ascontiguousarray(array, dtype=np.intp)
