"""Where the numbers of a program lie: buffers, and views of them. The grammar stands in ``codegen.ir``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

ONCE = "a copy, made once per call"  # the note of a matrix that is copied from the parameters


@dataclass(frozen=True)
class Bound:
    """A length or row number: ``constant`` + T * ``times``."""

    constant: int
    times: int = 0

    def at(self, T: int) -> int:
        """Its value for a sequence of T steps."""
        return self.constant + T * self.times


@dataclass(frozen=True)
class Step:
    """The row t - 1 + ``offset`` of a sequence, for the enclosing loop's t; with ``steps`` > 1 so many rows, of which
    the last turn of a loop may have fewer."""

    offset: int
    steps: int = 1


@dataclass(frozen=True)
class Span:
    """Rows ``start`` to ``stop`` (exclusive) of a sequence."""

    start: Bound
    stop: Bound


@dataclass(frozen=True)
class Host:
    """The buffer in whose memory another one lies: from its start, or up to its end."""

    name: str
    at_end: bool = False


@dataclass(frozen=True)
class Buffer:
    """An array: see the grammar. ``note`` says what its columns hold, for the emitted source.

    ``length`` of a "step" buffer: the steps of its loop, where these are several at once.

    ``groups`` > 1 (made by block_gates, for printers that heed it): the columns lie as so many blocks of equal
    width, each
    contiguous over the batch: (length, groups, batch, columns / groups). Views keep counting columns as if they lay
    in one row.

    ``host`` (made by share_buffers): whose memory it lies in; what it holds overwrites the host's values.
    """

    name: str
    shape: str  # "sequence", "step", "matrix", "vector", "scalar", "stack", "history"
    columns: int
    rows: int = 0
    length: Bound = Bound(0)
    storage: str = "workspace"  # or "parameter", "direction", "gradient", "constant"
    offset: int = 0
    values: NDArray[np.float64] | None = field(default=None, compare=False)
    note: str = field(default="", compare=False)
    groups: int = 1
    host: Host | None = None


@dataclass(frozen=True)
class View:
    """A part of a buffer. ``label`` is what it holds, for naming only. ``vector``: one row of a matrix, read as a
    vector."""

    buffer: Buffer
    time: Step | Span | None = None
    start: int = 0
    stop: int = 0
    rows: tuple[int, int] | None = None
    transposed: bool = False
    vector: bool = False
    label: str = field(default="", compare=False)

    @property
    def columns(self) -> int:
        """How many columns it has."""
        return self.stop - self.start

    @property
    def steps(self) -> int:
        """How many steps of a loop it holds at once; 0 for what is no step of a loop."""
        if self.buffer.shape == "step":
            return max(1, self.buffer.length.constant)
        return self.time.steps if isinstance(self.time, Step) else 0

    @property
    def whole(self) -> bool:
        """Whether it takes every column of its buffer."""
        return self.start == 0 and self.stop == self.buffer.columns

    @property
    def width(self) -> int:
        """How many columns a group of its buffer has."""
        return self.buffer.columns // self.buffer.groups


def moved(view: View, steps: int) -> View:
    """The view of a sequence so many rows later."""
    if isinstance(view.time, Step):
        return replace(view, time=replace(view.time, offset=view.time.offset + steps))
    assert isinstance(view.time, Span), "only what lies in time moves"
    start, stop = view.time.start, view.time.stop
    time = Span(Bound(start.constant + steps, start.times), Bound(stop.constant + steps, stop.times))
    return replace(view, time=time)
