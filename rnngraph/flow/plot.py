"""Curves as a picture, drawn by matplotlib (an optional extra, imported when the first picture is drawn)."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rnngraph.errors import BackendError, OptionError
from rnngraph.files import as_path, write_atomic
from rnngraph.flow.curves import Curve
from rnngraph.flow.trajectory import Array

WIDTH, HEIGHT, DPI = 4.6, 3.9, 150
FORMATS = (".png", ".pdf", ".svg")
JOINT = "#444444"
# One colour per pair of nodes, whether of all paths (solid) or of a part (dashed).
COLORS = ("#1f6fb4", "#c2502c", "#3a8a4d", "#8a5aa5", "#a3823a", "#4aa3a8", "#b84a84", "#6b6b2f")
LEAST = 1e-16  # what is smaller is not shown
MOST = 1e30  # what is larger is drawn there
UNREADABLE = str.maketrans({"$": r"\$"})


def plot_curves(panels: Mapping[str, Sequence[Curve]], path: str | os.PathLike[str] | None) -> Any:
    """One panel per title, all with the same axes; the matplotlib Figure. See ``GradientFlow.plot``."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # importing it takes longer than all the rest
        from matplotlib.figure import Figure
    except ImportError:
        raise BackendError("plot", "no matplotlib", "matplotlib >= 3.8", "pip install rnngraph[plot]") from None
    suffix = FORMATS[0] if path is None else as_path(path).suffix.lower()
    if suffix not in FORMATS:
        raise OptionError(
            "path", f"the ending {suffix!r}" if suffix else "no ending", f"one of {', '.join(FORMATS)}",
            "end the path with one of them, or write another format with savefig of the figure that is returned",
        )  # fmt: skip
    figure = Figure(figsize=(0.7 + WIDTH * len(panels), HEIGHT), layout="constrained")
    FigureCanvasAgg(figure)
    every = [curve for curves in panels.values() for curve in curves]
    top = min(max([1.0, *(_finite(curve.maximum).max(initial=0.0) for curve in every)]), MOST)
    bottom = min([1.0, *(_finite(curve.minimum).min(initial=1.0) for curve in every)])
    low = max(bottom / 2, LEAST)
    all_axes = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    all_axes[0].set_yscale("log")
    for axes, (title, curves) in zip(all_axes, panels.items(), strict=True):
        _draw(axes, curves, low)
        axes.set_title(title.translate(UNREADABLE), fontsize=11)
        axes.set_xlabel("lag k")
    all_axes[0].set_ylabel("spectral norm of dv(t)/du(t-k)")
    all_axes[0].set_ylim(low, top * 2)
    if path is not None:
        picture = io.BytesIO()
        figure.savefig(picture, dpi=DPI, format=suffix.removeprefix("."))
        write_atomic(path, picture.getvalue())
    return figure


def _draw(axes: Any, curves: Sequence[Curve], low: float) -> None:
    pairs = dict.fromkeys((curve.source, curve.destination) for curve in curves if curve.source is not None)
    colors = {pair: COLORS[index % len(COLORS)] for index, pair in enumerate(pairs)}
    for curve in curves:
        color = JOINT if curve.source is None else colors[curve.source, curve.destination]
        style = "dotted" if curve.source is None else "dashed" if curve.through is not None else "solid"
        front = 3 if curve.source is None else 2
        marker = "o" if len(curve.lags) == 1 else None
        mean = np.where(curve.mean > 0, np.minimum(curve.mean, MOST), np.nan)  # a gap where it is 0
        label = curve.label.translate(UNREADABLE)
        axes.plot(curve.lags, mean, color=color, linestyle=style, linewidth=1.6, marker=marker, label=label,
                  zorder=front)  # fmt: skip
        lower, upper = (np.clip(edge, low, MOST) for edge in (curve.minimum, curve.maximum))
        axes.fill_between(curve.lags, lower, upper, color=color, alpha=0.1, linewidth=0)
    axes.axhline(1.0, color="#bbbbbb", linewidth=0.8, zorder=0)
    axes.grid(True, color="#eeeeee", linewidth=0.6)
    axes.legend(fontsize=8, frameon=False, loc="lower left")


def _finite(values: Array) -> Array:
    """The values that can stand on a logarithmic axis."""
    return values[np.isfinite(values) & (values > 0)]
