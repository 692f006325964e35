"""The places of a sparse product's weights: which unit reads which, and how many steps back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Pattern:
    """Entry e leads from unit ``sources[e]`` of ``rows`` to unit ``destinations[e]`` of ``columns``, with a delay of
    ``delays[e]`` >= 0 steps; its weight is number ``entries[e]`` of ``weights``, and no other entry's.

    One pattern is equal to itself alone: it may have a hundred thousand entries.
    """

    name: str
    rows: int
    columns: int
    weights: int
    sources: Indices
    destinations: Indices
    delays: Indices
    entries: Indices

    def __len__(self) -> int:
        return len(self.sources)

    def __repr__(self) -> str:
        return f"Pattern({self.name!r}, {self.rows} x {self.columns}, {len(self)} entries)"

    def each(self) -> Iterator[tuple[int, int, int, int]]:
        """Source, destination, delay and number of the weight of each entry."""
        columns = (self.sources, self.destinations, self.delays, self.entries)
        return zip(*(column.tolist() for column in columns), strict=True)

    @cached_property
    def steps(self) -> tuple[int, ...]:
        """The distinct delays, shortest first."""
        return tuple(int(delay) for delay in np.unique(self.delays))

    @cached_property
    def in_order(self) -> bool:
        """Whether entry e has the weight number e."""
        return len(self) == self.weights and bool((self.entries == np.arange(len(self))).all())
