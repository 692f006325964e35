"""Training data: checked once, then cut into mini-batches over the batch axis.

Accepted: ``(inputs, targets)``, ``(inputs, targets, weights)`` or ``(inputs, targets, weights, state)``, where inputs
maps names to arrays (T, batch, size), targets names to arrays (T, batch, size) or integers (T, batch), weights is (T,
batch) or None, and state maps names to the values before the first step, (depth, batch, size), or is None; the same as
a mapping with the keys "inputs", "targets", "weights", "state"; or a list of such entries, sequences of different
lengths for example, each of them one mini-batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from rnngraph.errors import DataError, OptionError
from rnngraph.train.protocols import Array

KEYS = ("inputs", "targets", "weights", "state")
FORMS = (
    "(inputs, targets), (inputs, targets, weights), (inputs, targets, weights, state) or a list of such tuples, "
    "inputs and targets being dicts of arrays"
)


@dataclass(frozen=True)
class Batch:
    """One stretch of data. ``steps`` is its share in a mean: T * batch, or the sum of its weights.

    ``state`` is the given part of the state before the first step, None where the network starts from its own.
    """

    inputs: dict[str, Array]
    targets: dict[str, Array]
    weights: Array | None
    state: dict[str, Array] | None
    length: int
    size: int
    steps: float

    def columns(self, index: Array) -> Batch:
        """The sequences at ``index`` of the batch axis, copied to contiguous arrays."""
        weights = None if self.weights is None else self.weights.take(index, axis=1)
        return Batch(
            {name: array.take(index, axis=1) for name, array in self.inputs.items()},
            {name: array.take(index, axis=1) for name, array in self.targets.items()},
            weights,
            None if self.state is None else {name: array.take(index, axis=1) for name, array in self.state.items()},
            self.length,
            len(index),
            float(self.length * len(index)) if weights is None else float(weights.sum()),
        )


class Batches:
    """The mini-batches of one data set; ``epoch()`` yields them in a fresh order, those without any weight left out.

    Raises ``DataError`` for data of another form, arrays that disagree in T or batch, empty, not numeric or not
    finite; and ``OptionError`` for a ``batch_size`` with a list.
    """

    def __init__(self, data: object, batch_size: int | None, shuffle: bool, seed: int, where: str = "data") -> None:
        self._parts = read_parts(data, where)
        self._single = not isinstance(data, list)
        if batch_size is not None and not self._single:
            raise OptionError(
                "batch_size",
                f"{batch_size} with a list of {len(self._parts)} sequences",
                "None, since each entry of a list is one mini-batch",
                "leave batch_size out, or pad the sequences to one length, join them and mask the padding by weights",
            )
        self.steps = sum(part.steps for part in self._parts)
        if not self.steps > 0.0:
            raise DataError(
                f"{where}: weights", "nothing but zeros", "a weight > 0 somewhere", "unmask at least one step"
            )
        whole = self._parts[0].size
        self._batch_size = whole if batch_size is None else min(batch_size, whole)
        self._shuffle = shuffle
        self._rng = np.random.default_rng(seed)
        self.count = -(-whole // self._batch_size) if self._single else len(self._parts)

    def inputs(self) -> Iterator[Array]:
        """All arrays of inputs, those that were given."""
        for part in self._parts:
            yield from part.inputs.values()

    def epoch(self) -> Iterator[Batch]:
        """One pass over the data."""
        for batch in self._pass():
            if batch.steps > 0.0:
                yield batch

    def _pass(self) -> Iterator[Batch]:
        if self.count == 1:
            yield self._parts[0]
            return
        total = self._parts[0].size if self._single else len(self._parts)
        order = self._rng.permutation(total) if self._shuffle else np.arange(total)
        if self._single:
            for first in range(0, total, self._batch_size):
                yield self._parts[0].columns(order[first : first + self._batch_size])
        else:
            for index in order:
                yield self._parts[index]


def read_parts(data: object, where: str = "data") -> list[Batch]:
    """``data``, of any accepted form, as one Batch per entry; raises ``DataError``."""
    if isinstance(data, tuple | Mapping):
        return [_checked(data, where)]
    if not isinstance(data, list):
        raise DataError(where, f"a {type(data).__name__}", FORMS, "put the arrays in this form")
    if not data:
        raise DataError(where, "an empty list", "at least one sequence", "give at least one (inputs, targets)")
    return [_checked(entry, f"{where}[{index}]") for index, entry in enumerate(data)]


def _checked(entry: object, where: str) -> Batch:
    if isinstance(entry, Mapping) and {"inputs", "targets"} <= entry.keys() <= set(KEYS):
        entry = tuple(entry.get(key) for key in KEYS)
    if not isinstance(entry, tuple) or len(entry) not in (2, 3, 4) or not isinstance(entry[0], Mapping):
        what = f"a tuple of {len(entry)}" if isinstance(entry, tuple) else f"a {type(entry).__name__}"
        raise DataError(where, what, FORMS, "put the arrays in this form")
    if not isinstance(entry[1], Mapping) or not entry[1]:
        found = "no targets" if isinstance(entry[1], Mapping) else f"targets as a {type(entry[1]).__name__}"
        raise DataError(where, found, "a dict from output names to arrays", 'give targets such as {"y": target}')
    inputs = {name: _array(value, f"{where}: input {name!r}", (3,)) for name, value in entry[0].items()}
    targets = {name: _array(value, f"{where}: target {name!r}", (2, 3)) for name, value in entry[1].items()}
    given = entry[2] if len(entry) > 2 else None
    weights = None if given is None else _array(given, f"{where}: weights", (2,))
    arrays = [(f"input {name!r}", array) for name, array in inputs.items()]
    arrays += [(f"target {name!r}", array) for name, array in targets.items()]
    arrays += [] if weights is None else [("weights", weights)]
    first, reference = arrays[0]
    length, size = (int(extent) for extent in reference.shape[:2])
    for label, array in arrays[1:]:
        if tuple(array.shape[:2]) != (length, size):
            raise DataError(
                f"{where}: {label}",
                f"T={array.shape[0]}, batch={array.shape[1]}",
                f"T={length}, batch={size} as in {first}",
                "give all arrays the same first two axes, time and batch",
            )
    if length == 0 or size == 0:
        raise DataError(
            where, f"T={length}, batch={size}", "at least one step of one sequence", "leave the empty entry out"
        )
    state = None if len(entry) < 4 else _state(entry[3], size, where)
    if weights is None:
        return Batch(inputs, targets, None, state, length, size, float(length * size))
    if float(weights.min()) < 0.0:
        raise DataError(f"{where}: weights", "a negative weight", "weights >= 0", "use 0 to mask a step")
    return Batch(inputs, targets, weights, state, length, size, float(weights.sum()))


def _state(value: object, size: int, where: str) -> dict[str, Array] | None:
    """The given state, checked as far as the data tell: the kernel checks names, depths and sizes."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise DataError(
            f"{where}: state", f"a {type(value).__name__}", "a dict from node names to arrays, or None",
            "give the nodes' values before the first step, as rnngraph.prepare makes them",
        )  # fmt: skip
    state = {name: _array(array, f"{where}: state of {name!r}", (3,), "depth") for name, array in value.items()}
    for name, array in state.items():
        if array.shape[1] != size:
            raise DataError(
                f"{where}: state of {name!r}", f"batch={array.shape[1]}", f"batch={size} as the inputs have",
                "give one state per sequence",
            )  # fmt: skip
    return state


def _array(value: object, where: str, axes: tuple[int, ...], first: str = "T") -> Array:
    """``value`` as an array of a number of axes among ``axes``; an array of another module stays what it is."""
    array: Array = value
    if not (hasattr(value, "__array_ufunc__") and hasattr(value, "__array_function__")):
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise DataError(
                where, f"a {type(value).__name__} that is no array ({error})", "an array", "make it even"
            ) from None
    if array.dtype.kind not in "biuf":
        raise DataError(
            where, f"dtype {array.dtype}", "real numbers", "convert the array to float32, float64 or integers"
        )
    if array.ndim not in axes:
        names = {2: f"({first}, batch)", 3: f"({first}, batch, size)"}
        raise DataError(
            where,
            f"shape {tuple(array.shape)}",
            "an array " + " or ".join(names[axis] for axis in axes),
            "arrays are time-major: add the missing axes, for one sequence of one unit x[:, None, None]",
        )
    if array.dtype.kind == "f" and not bool(np.isfinite(array).all()):
        raise DataError(
            where, "NaN or infinity", "finite values", "fill the gaps with zeros and mask them by weights 0"
        )
    return array
