"""Sequences of several lengths side by side: padded with zeros at their end, which weights of 0 mask."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rnngraph.data import as_array
from rnngraph.errors import DataError
from rnngraph.series.prepared import Prepared
from rnngraph.train import checks
from rnngraph.train.batches import Batch, read_parts

Array: TypeAlias = NDArray[Any]


def pad(sequences: Sequence[object], *, one_target: bool = False) -> Prepared:
    """Sequences of any lengths as one batch, with weights (T, batch) that are 0 on the padding.

    Each sequence is (inputs, targets), (inputs, targets, weights) or (inputs, targets, weights, state), or a mapping
    with these keys, as ``fit`` takes it, with or without the axis of the batch: inputs (T, size) or (T, batch, size),
    and (T,) for one unit; targets alike, classes as integers (T,) or (T, batch). Several sequences of one length may
    share an entry, and what ``prepare`` returns keeps its warm-up and all else. T is the longest; what is padded is 0.

    ``one_target``: each sequence has one target, read at its last step, which alone counts: an integer or (batch,)
    integers for classes, else (size,) or (batch, size), and a number for one unit.

    The loss of the batch is the mean over all steps that count, of all sequences: each step counts once, and a long
    sequence more than a short one. A network that looks ahead would read the padding: give ``fit`` a list instead.
    Raises DataError for sequences that do not fit together.
    """
    parts = _parts(sequences, one_target)
    joined = join(parts, "sequences", always_weights=True)
    return dataclasses.replace(joined, order=tuple(range(len(joined.lengths))))


def buckets(sequences: Sequence[object], batch_size: int, *, one_target: bool = False) -> list[Prepared]:
    """Batches of ``batch_size`` sequences of like length, each padded by ``pad``: a list as ``fit`` takes it.

    The sequences are sorted by length, so that little is padded. ``order`` of a batch holds the place of each of its
    sequences in what was given: ``for k, place in enumerate(batch.order): predictions[place] = outputs[:, k]``. An
    entry that holds several sequences counts as so many, and stays together. Raises DataError as ``pad`` does,
    OptionError for a ``batch_size`` below 1.
    """
    checks.count("batch_size", batch_size)
    parts = _parts(sequences, one_target)
    ends = [0, *accumulate(len(part.lengths) for part in parts)]
    ordered = [
        dataclasses.replace(part, order=tuple(range(first, last)))
        for part, first, last in zip(parts, ends[:-1], ends[1:], strict=True)
    ]
    ordered.sort(key=steps_of)
    return [
        join(ordered[first : first + batch_size], "sequences", always_weights=True)
        for first in range(0, len(ordered), batch_size)
    ]


def prepared_parts(data: object, where: str) -> list[Prepared]:
    """``data``, of any form that ``fit`` takes, one part per entry, each with all that a ``Prepared`` knows."""
    entries = data if isinstance(data, list) else [data]
    return [_as_prepared(*pair) for pair in zip(read_parts(data, where), entries, strict=True)]


def steps_of(part: Prepared) -> int:
    """T, padding included."""
    return int(next(iter(part.targets.values())).shape[0])


def join(parts: Sequence[Prepared], where: str, always_weights: bool = False) -> Prepared:
    """Batches side by side along the batch axis, the shorter ones padded with zeros that do not count.

    The weights are None where all steps count, unless ``always_weights``. Raises DataError for parts that differ in
    names, sizes or kinds of arrays, and for parts of several lengths whose state lies after them.
    """
    first = parts[0]
    for number, part in enumerate(parts):
        for what, mine, others in (
            ("input", part.inputs, first.inputs), ("target", part.targets, first.targets),
            ("state", part.state, first.state),
        ):  # fmt: skip
            _check_alike(f"{where}[{number}]", what, mine, others)
    lengths = sorted({steps_of(part) for part in parts})
    ahead = _ahead(parts, lengths, where)
    weights = None
    if always_weights or len(lengths) > 1 or any(part.weights is not None for part in parts):
        weights = np.concatenate([_padded(_weights(part), lengths[-1]) for part in parts], axis=1)
    if len(parts) == 1:
        return dataclasses.replace(first, weights=weights)
    return Prepared(
        {name: _side_by_side([part.inputs[name] for part in parts], lengths[-1]) for name in first.inputs},
        {name: _side_by_side([part.targets[name] for part in parts], lengths[-1]) for name in first.targets},
        weights,
        {name: np.concatenate([part.state[name] for part in parts], axis=1) for name in first.state},
        tuple(length for part in parts for length in part.lengths),
        max(part.dropped for part in parts),
        max(part.warmup for part in parts),
        ahead,
        max(part.tail for part in parts),
        first.origins,
        tuple(place for part in parts for place in part.order),
        _fed_back_gaps(parts, lengths[-1]),
    )


def _fed_back_gaps(parts: Sequence[Prepared], length: int) -> dict[int, Array]:
    """Those of all parts, where one has none nothing is a gap."""
    delays = sorted({delay for part in parts for delay in part.fed_back_gaps})
    none = [np.zeros((steps_of(part), len(part.lengths)), dtype=bool) for part in parts]
    return {
        delay: _side_by_side([part.fed_back_gaps.get(delay, no) for part, no in zip(parts, none, strict=True)], length)
        for delay in delays
    }


def _ahead(parts: Sequence[Prepared], lengths: Sequence[int], where: str) -> Mapping[str, str] | None:
    """Which values of the state lie after the sequences; None where one of the parts does not tell."""
    known = [part.ahead for part in parts if part.ahead is not None]
    for number, each in enumerate(known):
        if each != known[0]:
            raise DataError(
                f"{where}[{number}]: state", f"values of {list(each)} after the sequence",
                f"those of {list(known[0])}, as the first sequence has", "prepare all sequences for one network",
            )  # fmt: skip
    if any(known) and len(lengths) > 1:
        raise DataError(
            where, f"sequences of {lengths[0]} to {lengths[-1]} steps for a network that looks ahead",
            "one length, as the network would read the padding of the shorter ones", "give fit the list as it is",
        )  # fmt: skip
    return known[0] if len(known) == len(parts) else None


def _parts(sequences: Sequence[object], one_target: bool) -> list[Prepared]:
    found = read_parts(_with_axes(sequences, one_target), "sequences")
    return [_as_prepared(*pair) for pair in zip(found, sequences, strict=True)]


def _as_prepared(part: Batch, entry: object) -> Prepared:
    """The checked arrays, and what the entry that they come from knows beside them."""
    state = part.state or {}
    if isinstance(entry, Prepared):
        return dataclasses.replace(
            entry, inputs=part.inputs, targets=part.targets, weights=part.weights, state=state, order=()
        )
    # Whether the values of a state lie before or after the sequence, its names do not tell.
    return Prepared(
        part.inputs, part.targets, part.weights, state, (part.length,) * part.size, ahead=None if state else {}
    )


def _weights(part: Prepared) -> Array:
    if part.weights is not None:
        return part.weights
    return np.ones((steps_of(part), len(part.lengths)))


def _side_by_side(arrays: Sequence[Array], length: int) -> Array:
    return np.concatenate([_padded(array, length) for array in arrays], axis=1)


def _padded(array: Array, length: int) -> Array:
    missing = length - array.shape[0]
    return np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1)) if missing else array


def _check_alike(where: str, what: str, mine: Mapping[str, Array], others: Mapping[str, Array]) -> None:
    if mine.keys() != others.keys():
        raise DataError(
            where, f"{what} of {list(mine)}", f"{what} of {list(others)}, as the first sequence has",
            "give every sequence the same names",
        )  # fmt: skip
    for name, array in mine.items():
        # the depth of a state, the units, and whether the targets are classes
        kept = slice(0 if what == "state" else 2, None, 2)
        shapes = array.shape[kept], others[name].shape[kept]
        if shapes[0] != shapes[1]:
            raise DataError(
                f"{where}: {what} {name!r}", f"shape {array.shape}",
                f"that of the first sequence, {others[name].shape}, but for time and batch",
                "give every sequence the same units, or all of them classes",
            )  # fmt: skip


# The axes that one sequence may lack.


def _with_axes(sequences: object, one_target: bool) -> list[Any]:
    """Every sequence as an entry that ``fit`` takes."""
    if not isinstance(sequences, list | tuple) or not sequences:
        found = "no sequences" if isinstance(sequences, list | tuple) else f"a {type(sequences).__name__}"
        raise DataError("sequences", found, "a list of (inputs, targets)", "give at least one sequence")
    return [_entry(entry, one_target, f"sequences[{number}]") for number, entry in enumerate(sequences)]


def _entry(entry: Any, one_target: bool, where: str) -> Any:
    """Without a batch axis, arrays get one; with ``one_target``, targets the axis of time. Else as it is."""
    if isinstance(entry, Mapping):
        entry = tuple(entry.get(key) for key in ("inputs", "targets", "weights", "state"))
    if not isinstance(entry, tuple) or len(entry) < 2 or not all(isinstance(each, Mapping) for each in entry[:2]):
        return entry  # read_parts refuses it
    inputs, targets, weights, state = (*entry, None, None)[:4]
    given = {name: as_array(f"{where}: input {name!r}", value) for name, value in inputs.items()}
    wanted = {name: as_array(f"{where}: target {name!r}", value) for name, value in targets.items()}
    if not given or not wanted:
        return entry
    single = all(array.ndim < 3 for array in given.values())
    if single:
        given = {name: _batch_of_one(array) for name, array in given.items()}
        weights = None if weights is None else _batch_of_one(as_array(f"{where}: weights", weights), True)
    if one_target:
        length, batch = next(iter(given.values())).shape[:2]
        if weights is not None:
            raise DataError(f"{where}: weights", "weights with one_target", "none", "leave the weights out")
        weights = np.zeros((length, batch))
        weights[-1] = 1.0
        wanted = {
            name: _at_the_end(array, length, single, f"{where}: target {name!r}") for name, array in wanted.items()
        }
    if single:
        wanted = {name: _batch_of_one(array, array.dtype.kind in "iu") for name, array in wanted.items()}
    return given, wanted, weights, state


def _at_the_end(array: Array, length: int, single: bool, where: str) -> Array:
    """One target as a series of ``length`` steps that is 0 before the last."""
    classes = array.dtype.kind in "iu"
    most = (0 if classes else 1) if single else (1 if classes else 2)
    if array.ndim > most:
        expected = ("one class" if classes else "(size,)") if single else ("(batch,)" if classes else "(batch, size)")
        raise DataError(where, f"shape {array.shape}", f"one target for the sequence: {expected}", "give the last one")
    return np.concatenate([np.zeros((length - 1, *array.shape), array.dtype), array[None]])


def _batch_of_one(array: Array, single_numbers: bool = False) -> Array:
    """(T, size) -> (T, 1, size), (T,) -> (T, 1, 1), or (T,) -> (T, 1) for classes and weights."""
    if array.ndim == 1:
        return array[:, None] if single_numbers else array[:, None, None]
    return array[:, None] if array.ndim == 2 else array
