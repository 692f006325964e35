"""Reading an edge's ``delay``: a number of steps, a list of them, a learned delay, or one delay per pair of units."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
from numpy.typing import NDArray

from rnngraph.errors import GraphError
from rnngraph.words import clip, nearest

MAX_DELAY = 1_000_000
MAX_LEARNED = 10_000  # delays of one learned edge: each costs a weight matrix and a copy of the source
MIN_TEMPERATURE = 1e-9  # below, a softmax is as hard in float32, and its derivatives or logits / temperature overflow
TEMPERATURE = f"a number of {MIN_TEMPERATURE} or more"
STEPS = "a whole number of time steps (an int), a list of them, {'max': D, 'learned': True}, or an integer matrix"


@dataclass(frozen=True, slots=True)
class LearnedDelay:
    """The softmax over delays ``first`` to ``last``: logits per pair of units, or per edge where ``shared``."""

    first: int
    last: int
    shared: bool
    temperature: float
    parameter: str | None


@dataclass(frozen=True, slots=True)
class Delays:
    """``steps``: the distinct delays. ``listed`` tells a list from a single delay. ``matrix`` has the delay of each
    pair of units, (source size, destination size), or of each unit, (1, size), for a diagonal or identity edge."""

    steps: tuple[int, ...]
    listed: bool = False
    learned: LearnedDelay | None = None
    matrix: NDArray[np.int64] | None = None


def read_delays(where: str, delay: object) -> Delays:
    """The delays of one edge. Raises GraphError."""
    if isinstance(delay, Mapping):
        learned = _learned(where, delay)
        return Delays(tuple(range(learned.first, learned.last + 1)), True, learned)
    if isinstance(delay, np.ndarray):
        if delay.dtype.kind not in "iu":
            raise GraphError(
                where, f"a delay array of dtype {delay.dtype}", "whole numbers", "convert it: delay.astype(int)"
            )
        delay = delay.tolist()
    if not isinstance(delay, (list, tuple, range)):
        return Delays((_steps(where, delay),))
    if any(isinstance(item, (list, tuple, range)) for item in delay):
        matrix = _matrix(where, delay)
        return Delays(tuple(int(value) for value in np.unique(matrix)), True, None, matrix)
    delays = tuple(_steps(where, item) for item in delay)
    if not delays:
        raise GraphError(where, "an empty list of delays", "at least one delay", "remove the edge, or give delay=[0]")
    seen: set[int] = set()
    for item in delays:
        if item in seen:
            raise GraphError(where, f"delay {item} twice in one list", "distinct delays", f"list {item} once")
        seen.add(item)
    return Delays(delays, True)


def _steps(where: str, delay: object) -> int:
    if isinstance(delay, (bool, np.bool_)) or not isinstance(delay, Integral):
        raise GraphError(where, f"delay={clip(delay)} of type {type(delay).__name__}", STEPS, "correct 'delay'")
    steps = int(delay)
    if abs(steps) > MAX_DELAY:
        expected = f"a delay of at most {MAX_DELAY} steps, a look-ahead likewise"
        raise GraphError(where, f"delay={clip(steps)}", expected, "give a shorter delay")
    return steps


def _matrix(where: str, rows: Sequence[object]) -> NDArray[np.int64]:
    expected = "one delay for each unit of the source (rows) and of the destination (columns)"
    lengths = {len(row) if isinstance(row, (list, tuple, range)) else -1 for row in rows}
    if len(lengths) > 1 or min(lengths) < 1:
        raise GraphError(where, "rows of delays of different lengths", expected, "give every row as many delays")
    values = [[_steps(where, item) for item in row] for row in rows if isinstance(row, (list, tuple, range))]
    return np.array(values, dtype=np.int64)


LEARNED_KEYS = ("max", "learned", "min", "shared", "temperature", "parameter")


def _learned(where: str, delay: Mapping[object, object]) -> LearnedDelay:
    for key in delay:
        if key not in LEARNED_KEYS:
            close = nearest(str(key), LEARNED_KEYS)
            raise GraphError(
                where, f"the unknown key {clip(key)} in delay={clip(dict(delay))}", ", ".join(LEARNED_KEYS),
                f"did you mean {close!r}?" if close else "remove it",
            )  # fmt: skip
    learned = delay.get("learned")
    if not isinstance(learned, (bool, np.bool_)) or not learned:
        raise GraphError(
            where, f"delay={clip(dict(delay))}", "{'max': D, 'learned': True} for a learned delay",
            "write 'learned': True, or give an int or a list of ints for fixed delays",
        )  # fmt: skip
    if "max" not in delay:
        raise GraphError(where, f"delay={clip(dict(delay))}", "the longest delay, 'max'", "add 'max': D")
    last, first = (_whole(where, key, delay.get(key, 1)) for key in ("max", "min"))
    if not -MAX_DELAY <= first <= last <= MAX_DELAY or last - first >= MAX_LEARNED:
        raise GraphError(
            where, f"delays from {clip(first)} to {clip(last)}",
            f"min <= max, at most {MAX_LEARNED} delays to choose from, none beyond {MAX_DELAY}",
            "correct 'max' or 'min' ('min' is 1 unless given)",
        )  # fmt: skip
    shared = delay.get("shared", False)
    if not isinstance(shared, (bool, np.bool_)):
        raise GraphError(where, f"'shared': {clip(shared)}", "True or False", "True learns one delay for the edge")
    given = delay.get("temperature", 1.0)
    temperature = as_temperature(given)
    if temperature is None:
        raise GraphError(where, f"'temperature': {clip(given)}", TEMPERATURE, "leave it out for 1")
    parameter = delay.get("parameter")
    if parameter is not None and not (isinstance(parameter, str) and parameter.strip()):
        raise GraphError(
            where, f"'parameter': {clip(parameter)} in the delay", "the name of the logits", "leave it out"
        )
    return LearnedDelay(first, last, bool(shared), temperature, parameter)


def _whole(where: str, key: str, value: object) -> int:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Integral):
        raise GraphError(
            where, f"{key!r}: {clip(value)} in the delay", "a whole number of time steps", f"correct {key!r}"
        )
    return int(value)


def as_temperature(temperature: object) -> float | None:
    """The temperature of a softmax over delays as a float, None where it is no finite number or below the least."""
    if isinstance(temperature, (bool, np.bool_)) or not isinstance(temperature, Real):
        return None
    try:
        number = float(temperature)
    except OverflowError:
        return None
    return number if math.isfinite(number) and number >= MIN_TEMPERATURE else None
