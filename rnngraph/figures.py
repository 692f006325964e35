"""Figures of matplotlib (an optional extra): made without a window, written whole or not at all."""

from __future__ import annotations

import io
import os
from typing import Any

from rnngraph.errors import BackendError, OptionError
from rnngraph.files import as_path, write_atomic

try:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    DRAWS = True
except ImportError:  # the extra `plot` is not installed
    DRAWS = False

DPI = 150
FORMATS = (".png", ".pdf", ".svg")


def new_figure(where: str) -> Any:
    """An empty matplotlib Figure. Raises BackendError without matplotlib; ``where`` names the caller."""
    if not DRAWS:
        raise BackendError(where, "no matplotlib", "matplotlib >= 3.8", "pip install rnngraph[plot]")
    figure = Figure(layout=None)
    FigureCanvasAgg(figure)
    return figure


def checked_suffix(path: str | os.PathLike[str] | None) -> str:
    """The ending of ``path``, which names the format; OptionError for one that is none of ``FORMATS``."""
    suffix = FORMATS[0] if path is None else as_path(path).suffix.lower()
    if suffix not in FORMATS:
        raise OptionError(
            "path", f"the ending {suffix!r}" if suffix else "no ending", f"one of {', '.join(FORMATS)}",
            "end the path with one of them, or write another format with savefig of the figure that is returned",
        )  # fmt: skip
    return suffix


def write_figure(figure: Any, path: str | os.PathLike[str], suffix: str) -> None:
    """Write the figure to ``path``; raises DataError where the folder cannot be written to."""
    picture = io.BytesIO()
    figure.savefig(picture, dpi=DPI, format=suffix.removeprefix("."))
    write_atomic(path, picture.getvalue())
