"""Long sequences cut into windows of one length, side by side in the batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeAlias

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from rnngraph.errors import DataError, OptionError
from rnngraph.notes import read_notes
from rnngraph.series.padding import join, prepared_parts, steps_of
from rnngraph.series.prepared import Prepared
from rnngraph.train import checks
from rnngraph.validate import validate

Array: TypeAlias = NDArray[Any]


def windows(
    data: object,
    length: int,
    stride: int | None = None,
    warmup: int | None = None,
    *,
    tail: int | None = None,
    graph: nx.MultiDiGraph | None = None,
) -> Prepared:
    """Windows of ``length`` steps out of each sequence, along the batch axis: training with a history of that length.

    ``data``: as ``rnngraph.prepare`` returns it or ``fit`` takes it; a list may hold sequences of several lengths.
    A window begins every ``stride`` steps, ``length - warmup - tail`` unless given; steps left over at the end of a
    sequence are left out, and so are windows in which no step counts, as in the padding of a shorter sequence. The
    first ``warmup`` steps of a window get the weight 0 (unless given, as many as ``prepare`` masked): a recurrent
    network forgets in them that it did not start from its state at that time. So do its last ``tail`` steps, which
    read what a hidden layer would have only after the window.

    Where the data have a state, as ``prepare`` fills it, each window has its own: the samples before it of the inputs,
    and of the targets of outputs that are fed back, and the samples after it of inputs that are read ahead. Without a
    state, windows start from the initial values. Names alone do not tell whether values lie before or after: a tuple or
    mapping that holds a state needs ``graph``, the network of the data; what ``prepare`` and ``pad`` return knows it.

    Raises DataError for bad data, for a state of nodes that have no samples, and for one of which is not known where it
    lies; OptionError for a length beyond that of the sequences and for a stride, warm-up or tail out of range.
    """
    checks.count("length", length)
    parts = prepared_parts(data, "data")
    if graph is not None:
        parts = [_told(part, graph) for part in parts]
    warmup = _masked("warmup", warmup, max(part.warmup for part in parts), length)
    tail = _masked("tail", tail, max(part.tail for part in parts), length - warmup)
    every = length - warmup - tail if stride is None else checks.count("stride", stride)
    longest = max(steps_of(part) for part in parts)
    if longest < length:
        raise OptionError("length", str(length), f"at most {longest} steps", "give shorter windows")
    found = []
    for number, part in enumerate(parts):
        starts = range(0, steps_of(part) - length + 1, every)
        where = f"data[{number}]" if len(parts) > 1 else "data"
        cut = _windows(part, length, starts, warmup, tail, where) if starts else None
        found += [] if cut is None else [cut]
    if not found:
        raise DataError("data", "windows without a step that counts", "a weight > 0 in one", "give a shorter warmup")
    return dataclasses.replace(join(found, "data"), warmup=warmup, tail=tail)


def _masked(name: str, given: int | None, known: int, length: int) -> int:
    steps = checks.count(name, known if given is None else given, least=0)
    if steps >= length:
        what = "the length" if name == "warmup" else "what the warm-up leaves of the length"
        raise OptionError(name, str(steps), f"less than {what}, {length}", "leave steps that count")
    return steps


def _told(part: Prepared, graph: nx.MultiDiGraph) -> Prepared:
    """What the graph says of a state made by hand."""
    if part.ahead is not None:
        return part
    ahead = {key: name for name, key in validate(graph).ahead_names().items() if key in part.state}
    return dataclasses.replace(part, ahead=ahead, origins=read_notes(graph).origins)


def _windows(part: Prepared, length: int, starts: range, warmup: int, tail: int, where: str) -> Prepared | None:
    steps, batch = steps_of(part), len(part.lengths)
    weights = None
    if part.weights is not None or warmup or tail:
        weights = _cut(np.ones((steps, batch)) if part.weights is None else part.weights, starts, length)
        weights[:warmup] = 0.0
        weights[length - tail :] = 0.0
    gaps = {delay: _cut(array, starts, length) for delay, array in part.fed_back_gaps.items()}
    if weights is not None:
        for delay, gap in gaps.items():  # what is a measured past here was the network's own within the sequence
            weights[:delay][gap[:delay]] = 0.0
    inputs, targets = (
        {name: _cut(array, starts, length) for name, array in arrays.items()} for arrays in (part.inputs, part.targets)
    )
    state = _states(part, starts, length, where)
    counted = np.ones(len(starts) * batch, dtype=bool) if weights is None else weights.any(axis=0)
    if not counted.any():
        return None
    if weights is not None and not counted.all():
        weights = weights[:, counted]
        inputs, targets, state = (
            {name: array[:, counted] for name, array in arrays.items()} for arrays in (inputs, targets, state)
        )
        gaps = {delay: array[:, counted] for delay, array in gaps.items()}
    # A window may reach into the padding of its sequence.
    lengths = np.clip(np.array(part.lengths) - np.array(starts)[:, None], 0, length).ravel()[counted]
    return dataclasses.replace(
        part, inputs=inputs, targets=targets, weights=weights, state=state,
        lengths=tuple(int(each) for each in lengths), order=(), fed_back_gaps=gaps,
    )  # fmt: skip


def _cut(array: Array, starts: range, length: int) -> Array:
    """(T, batch, ...) -> (length, windows * batch, ...): the sequences of the first window, then of the second."""
    return np.concatenate([array[start : start + length] for start in starts], axis=1)


def _states(part: Prepared, starts: range, length: int, where: str) -> dict[str, Array]:
    """The last values of each node before each window, or its first ones after it: (depth, windows * batch, size)."""
    if len(starts) == 1 and length == steps_of(part):
        return part.state
    if part.ahead is None:
        raise DataError(
            f"{where}: state of {next(iter(part.state))!r}",
            "values of which a tuple or mapping does not tell whether they lie before or after the sequence",
            "what prepare or pad returned, or the network", "give windows the prepared data, or graph=graph",
        )  # fmt: skip
    states = {}
    for name, state in part.state.items():
        series = _series(part, part.ahead.get(name, name))
        if (series is None or series.shape[2:] != state.shape[2:]) and (len(starts) > 1 or name in part.ahead):
            raise DataError(
                f"{where}: state of {name!r}", "a node whose values are no samples",
                "states of inputs and targets alone", f"leave {name!r} out of the state, or cut one window",
            )  # fmt: skip
        if name in part.ahead and series is not None:
            after = range(starts.start + length, starts.stop + length, starts.step)
            states[name] = _cut(np.concatenate([series, state]), after, state.shape[0])
        else:
            states[name] = _cut(state if series is None else np.concatenate([state, series]), starts, state.shape[0])
    return states


def _series(part: Prepared, node: str) -> Array | None:
    """The values of a node at all steps, where they are samples: of its own, or those that it is made of."""
    origin = part.origins.get(node)
    series: Mapping[str, Array] = {**part.targets, **part.inputs}
    if origin is None:
        return series.get(node)
    return origin.values(series[origin.series]) if origin.series in series else None
