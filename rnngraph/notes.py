"""Notes in a graph's own data that say what its nodes stand for: measured outputs, gates, scaled values, a clock.

``graph.graph`` of a network may hold

    "feedback"  {input: output}: the input holds measured values of the output (``open_loop``, the zoo)
    "mixed"     {unit: {"measured": input, "forcing": input, "own": output}} (``mix_feedback``)
    "scaled"    {unit: {"of": input or output, "offset": [...], "factor": [...]}} (``Scaling.fold``)
    "clock"     an input whose values mean nothing (``close_loop``)

A note whose nodes are gone, or have become something else, says nothing: it is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import networkx as nx
import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
FEEDBACK, MIXED, SCALED, CLOCK = "feedback", "mixed", "scaled", "clock"


@dataclass(frozen=True, eq=False)
class Origin:
    """What a unit's values are: those of the input or output ``series``, less ``offset`` and divided by ``factor``."""

    series: str
    offset: Array | None = None
    factor: Array | None = None

    def values(self, array: Array) -> Array:
        """The unit's values (..., size) of those of the series, of the same dtype."""
        if self.offset is None or self.factor is None:
            return array
        dtype = array.dtype if array.dtype.kind == "f" else np.dtype(np.float64)
        scaled: Array = ((array - self.offset) / self.factor).astype(dtype)
        return scaled


@dataclass(frozen=True)
class Notes:
    """The notes that hold for a graph, names as ``str``.

    ``measured``: input -> the output that it holds measured values of; ``mixed``: those of them that a gate mixes with
    the output's own values; ``gates``: gating input -> the unit that mixes; ``origins``: unit -> what its values are.
    """

    measured: Mapping[str, str] = field(default_factory=dict)
    mixed: Mapping[str, str] = field(default_factory=dict)
    gates: Mapping[str, str] = field(default_factory=dict)
    origins: Mapping[str, Origin] = field(default_factory=dict)
    clock: str | None = None


def read_notes(graph: nx.MultiDiGraph) -> Notes:
    """The notes of a graph that fit its nodes."""
    kinds = _kinds(graph)
    sizes = {str(node): size for node, size in graph.nodes(data="size")}
    noted = {key: _fitting(graph.graph.get(key), fits, kinds) for key, fits in _FITS.items()}
    measured = {str(name): str(output) for name, output in noted[FEEDBACK].items()}
    mixed = {str(note["measured"]): str(note["own"]) for note in noted[MIXED].values()}
    origins = {str(unit): Origin(str(note["measured"])) for unit, note in noted[MIXED].items()}
    for unit, note in noted[SCALED].items():
        offset, factor = (np.asarray(note[key], dtype=np.float64) for key in ("offset", "factor"))
        if offset.shape == factor.shape == (sizes[str(unit)],):
            origins[str(unit)] = Origin(str(note["of"]), offset, factor)
    clock = graph.graph.get(CLOCK)
    return Notes(
        {**measured, **mixed}, mixed, {str(note["forcing"]): str(unit) for unit, note in noted[MIXED].items()}, origins,
        str(clock) if kinds.get(str(clock)) == "input" else None,
    )  # fmt: skip


def drop_stale_notes(graph: nx.MultiDiGraph) -> None:
    """Take the notes out of ``graph`` whose nodes are gone or of another kind, as after a transformation."""
    kinds = _kinds(graph)
    for key, fits in _FITS.items():
        noted = graph.graph.get(key)
        if not isinstance(noted, Mapping) or len(kept := _fitting(noted, fits, kinds)) == len(noted):
            continue
        graph.graph[key] = kept
        if not kept:
            del graph.graph[key]
    if CLOCK in graph.graph and kinds.get(str(graph.graph[CLOCK])) != "input":
        del graph.graph[CLOCK]


def _kinds(graph: nx.MultiDiGraph) -> dict[str, str]:
    return {str(node): kind or "unit" for node, kind in graph.nodes(data="kind")}


def _fitting(noted: object, fits: Callable[[Any, Any, Mapping[str, str]], bool], kinds: Mapping[str, str]) -> Any:
    if not isinstance(noted, Mapping):
        return {}
    return {name: note for name, note in noted.items() if fits(name, note, kinds)}


def _measures(name: Any, output: Any, kinds: Mapping[str, str]) -> bool:
    return kinds.get(str(name)) == "input" and kinds.get(str(output)) == "output"


def _mixes(unit: Any, note: Any, kinds: Mapping[str, str]) -> bool:
    if kinds.get(str(unit)) != "unit" or not isinstance(note, Mapping):
        return False
    wanted = {"measured": "input", "forcing": "input", "own": "output"}
    return all(kinds.get(str(note.get(role))) == kind for role, kind in wanted.items())


def _scales(unit: Any, note: Any, kinds: Mapping[str, str]) -> bool:
    if kinds.get(str(unit)) != "unit" or not isinstance(note, Mapping):
        return False
    numbers = [np.asarray(note.get(key)) for key in ("offset", "factor")]
    return kinds.get(str(note.get("of"))) in ("input", "output") and all(each.dtype.kind in "if" for each in numbers)


_FITS: dict[str, Callable[[Any, Any, Mapping[str, str]], bool]] = {FEEDBACK: _measures, MIXED: _mixes, SCALED: _scales}
