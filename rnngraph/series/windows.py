"""Long sequences cut into windows of one length, side by side in the batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rnngraph.errors import DataError, OptionError
from rnngraph.series.padding import join
from rnngraph.series.prepared import Prepared
from rnngraph.train import checks
from rnngraph.train.batches import Batch, read_parts

Array: TypeAlias = NDArray[Any]


def windows(data: object, length: int, stride: int | None = None, warmup: int | None = None) -> Prepared:
    """Windows of ``length`` steps out of each sequence, along the batch axis: training with a history of that length.

    ``data``: as ``rnngraph.prepare`` returns it or ``fit`` takes it; a list may hold sequences of several lengths.
    A window begins every ``stride`` steps, ``length - warmup`` unless given; steps left over at the end of a sequence
    are left out, and so are windows in which no step counts, as in the padding of a shorter sequence. The first
    ``warmup`` steps of a window get the weight 0 (unless given, as many as ``prepare`` masked): the network
    runs itself in over them, since its hidden state at the start of the window is not known.

    Where the data have a state, as ``prepare`` fills it, each window has its own: the samples before it of the inputs,
    and of the targets of outputs that are fed back, and the samples after it of inputs that are read ahead. Without a
    state, windows start from the initial values.

    Raises DataError for bad data and for a state of nodes that have no samples, OptionError for a length beyond that of
    the sequences and for a stride or warm-up out of range.
    """
    checks.count("length", length)
    whole = data if isinstance(data, Prepared) else None
    warmup = checks.count("warmup", (whole.warmup if whole else 0) if warmup is None else warmup, least=0)
    if warmup >= length:
        raise OptionError("warmup", str(warmup), f"less than the length, {length}", "leave steps that count")
    every = length - warmup if stride is None else checks.count("stride", stride)
    parts = read_parts(data)
    longest = max(part.length for part in parts)
    if longest < length:
        raise OptionError("length", str(length), f"at most {longest} steps", "give shorter windows")
    found = []
    for number, part in enumerate(parts):
        ahead = whole.ahead if whole else {}
        cut = _windows(part, length, every, warmup, ahead, f"data[{number}]" if len(parts) > 1 else "data")
        found += [] if cut is None else [cut]
    if not found:
        raise DataError("data", "windows without a step that counts", "a weight > 0 in one", "give a shorter warmup")
    return dataclasses.replace(join(found, "data"), dropped=whole.dropped if whole else 0, warmup=warmup)


def _windows(
    part: Batch, length: int, stride: int, warmup: int, ahead: Mapping[str, str], where: str
) -> Prepared | None:
    starts = range(0, part.length - length + 1, stride)
    if not starts:
        return None
    weights = None
    if part.weights is not None or warmup:
        whole = np.ones((part.length, part.size)) if part.weights is None else part.weights
        weights = _cut(whole, starts, length)
        weights[:warmup] = 0.0
    values = {
        "inputs": {name: _cut(array, starts, length) for name, array in part.inputs.items()},
        "targets": {name: _cut(array, starts, length) for name, array in part.targets.items()},
        "state": {
            name: _following(part, name, ahead[name], starts, length)
            if name in ahead
            else _states(part, name, starts, where)
            for name in part.state or {}
        },
    }
    if weights is not None and not (counted := weights.any(axis=0)).all():
        weights = weights[:, counted]
        values = {what: {name: array[:, counted] for name, array in arrays.items()} for what, arrays in values.items()}
        if not counted.any():
            return None
    batch = next(iter(values["inputs"].values())).shape[1]
    return Prepared(values["inputs"], values["targets"], weights, values["state"], (length,) * batch, ahead=ahead)


def _cut(array: Array, starts: range, length: int) -> Array:
    """(T, batch, ...) -> (length, windows * batch, ...): the sequences of the first window, then of the second."""
    return np.concatenate([array[start : start + length] for start in starts], axis=1)


def _states(part: Batch, name: str, starts: range, where: str) -> Array:
    """The last values of a node before each window: (depth, windows * batch, size)."""
    assert part.state is not None
    state = part.state[name]
    series = part.inputs.get(name, part.targets.get(name))
    if (series is None or series.shape[2:] != state.shape[2:]) and len(starts) > 1:
        raise DataError(
            f"{where}: state of {name!r}", "a node whose values are no samples", "states of inputs and targets alone",
            f"leave {name!r} out of the state, or cut one window",
        )  # fmt: skip
    known = state if series is None else np.concatenate([state, series])
    return _cut(known, starts, state.shape[0])


def _following(part: Batch, name: str, source: str, starts: range, length: int) -> Array:
    """The first values of an input after each window: (depth, windows * batch, size)."""
    assert part.state is not None
    state = part.state[name]
    known = np.concatenate([part.inputs[source], state])
    return _cut(known, range(starts.start + length, starts.stop + length, starts.step), state.shape[0])
