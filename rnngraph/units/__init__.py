"""Networks declared unit by unit: their units are put together into layers before equations are derived."""

from __future__ import annotations

from rnngraph.units.grouping import Entry, Grouping, as_given, group_units

__all__ = ["Entry", "Grouping", "as_given", "group_units"]
