"""Parts of series in the order of time: for training, validation and test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rnngraph.errors import DataError, OptionError
from rnngraph.series.columns import as_table
from rnngraph.series.prepared import Prepared
from rnngraph.train import checks


def split(series: Any, fractions: Sequence[float] = (0.7, 0.15, 0.15), *, overlap: int = 0) -> tuple[Any, ...]:
    """One part of the series per fraction, in the order of time: (training, validation, test) unless given.

    ``series``: as ``rnngraph.prepare`` takes them; each sequence of a list is cut by itself. A part has the form of
    what it is cut from, but a data frame becomes a mapping; arrays are views. ``overlap``: every part but the first
    begins so many samples earlier: those that ``prepare`` takes for the state, so that no step is lost to it.
    Fractions that sum to less than 1 leave the last samples out. Raises OptionError for fractions out of range,
    DataError for a part without a sample.
    """
    if isinstance(series, Prepared):
        raise DataError(
            "series", "what prepare or windows returned", "series as prepare takes them",
            "split first, then prepare each part: overlap gives it the samples for its state",
        )  # fmt: skip
    checks.count("overlap", overlap, least=0)
    expected = "numbers > 0 that sum to 1 or less"
    if not isinstance(fractions, Sequence) or not fractions:
        raise OptionError("fractions", repr(fractions), expected, "give (0.7, 0.15, 0.15), for example")
    shares = [checks.positive("fractions", each) for each in fractions]
    if math.fsum(shares) > 1.0 + 1e-9:
        raise OptionError("fractions", f"a sum of {math.fsum(shares):g}", expected, "divide them by their sum")
    if isinstance(series, list | tuple):
        parts = [_split(entry, shares, overlap, f"series[{number}]") for number, entry in enumerate(series)]
        return tuple(list(part) for part in zip(*parts, strict=True))
    return tuple(_split(series, shares, overlap, "series"))


def _split(series: Any, shares: Sequence[float], overlap: int, where: str) -> list[Any]:
    table = as_table(series, where)
    arrays = {name: np.asarray(value) for name, value in table.items()}
    lengths = {array.shape[0] if array.ndim else 0 for array in arrays.values()}
    if len(lengths) > 1:
        raise DataError(where, f"series of {sorted(lengths)} samples", "one length", "cut them to one length")
    samples = lengths.pop()
    ends = [round(samples * math.fsum(shares[: number + 1])) for number in range(len(shares))]
    parts = []
    for start, end in zip([0, *ends], ends, strict=False):
        if start == end:
            raise DataError(where, f"{samples} samples", "at least one in every part", "give a longer series")
        cut = slice(max(start - overlap, 0), end)
        whole = not isinstance(series, Mapping) and not hasattr(series, "columns")
        parts.append(np.asarray(series)[cut] if whole else {name: array[cut] for name, array in arrays.items()})
    return parts
