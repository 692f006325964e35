"""Series as people have them -> what ``fit`` and a kernel take: preparing, scaling, windows, padding, splitting."""

from __future__ import annotations

from rnngraph.series.padding import buckets, pad
from rnngraph.series.prepare import prepare
from rnngraph.series.prepared import Prepared
from rnngraph.series.scaling import Scaling
from rnngraph.series.split import split
from rnngraph.series.windows import windows

__all__ = ["Prepared", "Scaling", "buckets", "pad", "prepare", "split", "windows"]
