"""Norms against lag: one curve per pair of nodes and class of paths, and their table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rnngraph.flow.trajectory import Array

MOST_COLUMNS = 10


@dataclass(frozen=True)
class Curve:
    """The spectral norm of d ``destination``(t) / d ``source``(t-k).

    ``source`` = ``destination`` = None stands for the joint state of all nodes that are read with a delay. ``through``
    names the nodes that the paths may visit, None stands for all. ``norms`` has the shape (lags, T, batch) and is NaN
    where t - k < 1.
    """

    lags: tuple[int, ...]
    source: str | None
    destination: str | None
    through: tuple[str, ...] | None
    norms: Array

    @property
    def label(self) -> str:
        """What it is of, in words."""
        if self.source is None:
            return "joint state"
        pair = self.source if self.source == self.destination else f"{self.source} to {self.destination}"
        return f"{pair}, all paths" if self.through is None else f"{pair}, through {', '.join(self.through)} alone"

    @cached_property
    def mean(self) -> Array:
        """The mean over t and batch per lag, (lags,)."""
        with np.errstate(over="ignore"):  # of exploding norms the mean may be infinite
            return np.asarray(np.nanmean(self.norms, axis=(1, 2)))

    @cached_property
    def minimum(self) -> Array:
        """The smallest over t and batch per lag, (lags,)."""
        return np.asarray(np.nanmin(self.norms, axis=(1, 2)))

    @cached_property
    def maximum(self) -> Array:
        """The largest over t and batch per lag, (lags,)."""
        return np.asarray(np.nanmax(self.norms, axis=(1, 2)))


def table(curves: Sequence[Curve]) -> list[str]:
    """Mean, smallest and largest norm of each curve, one column per lag; of many lags those nearest to a geometric
    sequence."""
    lags = curves[0].lags
    wanted = np.geomspace(1, len(lags), min(len(lags), MOST_COLUMNS)).round().astype(int) - 1
    chosen = sorted(set(wanted.tolist()))
    rows = [["lag k", "", *(str(lags[index]) for index in chosen)]]
    for curve in curves:
        named = ("mean", curve.mean), ("min", curve.minimum), ("max", curve.maximum)
        for title, values in named:
            label = curve.label if title == "mean" else ""
            rows.append([label, title, *(f"{values[index]:.2g}" for index in chosen)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), row[1].ljust(widths[1])]
        cells += [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    if len(chosen) < len(lags):
        lines.append(f"{len(chosen)} of {len(lags)} lags shown")
    return lines
