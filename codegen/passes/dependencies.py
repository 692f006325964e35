"""Which statements of a straight run must come before which: the basis of every pass that reorders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from codegen.ir import Statement, View, views_of, written
from codegen.overlap import overlap

Region = tuple[object, ...]  # what same_place compares


@dataclass
class _Region:
    """A part of a buffer: who wrote it last and who has read it since; ``meets`` it are the parts that overlap it, of
    which ``covers`` are those that it contains."""

    view: View
    meets: list[_Region] = field(default_factory=list)
    covers: list[_Region] = field(default_factory=list)
    writer: int | None = None
    readers: list[int] = field(default_factory=list)


def dependencies(segment: Sequence[Statement]) -> list[set[int]]:
    """For each statement of a straight run, earlier ones that it must follow: writers of what it touches, and what
    touched what it writes.

    Those that it must follow through another of its set are left out where that other one has written all that they
    touched: a set that is done, together with all that its members wait for, holds the same statements as if all were
    listed. This keeps the work for n statements near n, however often they use one buffer.
    """
    regions = _regions(view for statement in segment for view in views_of(statement))
    waits_for: list[set[int]] = []
    for index, statement in enumerate(segment):
        target = written(statement)
        touched = [(regions[_key(view)], view is target) for view in views_of(statement) if not _is_empty(view)]
        earlier: set[int] = set()
        for region, writes in touched:
            for other in region.meets:
                if other.writer is not None:
                    earlier.add(other.writer)
                if writes:
                    earlier.update(other.readers)
        for region, writes in touched:
            if not writes:
                region.readers.append(index)
                continue
            for other in region.covers:  # whatever meets it later meets this region, too
                other.writer = None
                other.readers.clear()
            region.writer = index
        waits_for.append(earlier)
    return waits_for


def _key(view: View) -> Region:
    return view.buffer.name, view.time, view.start, view.stop, view.rows


def _is_empty(view: View) -> bool:
    """Whether it has no element, so that no order matters to it."""
    return not overlap(view, view)


def _regions(views: Iterable[View]) -> dict[Region, _Region]:
    """The distinct regions among the views, each with those that it meets."""
    regions: dict[Region, _Region] = {}
    by_buffer: dict[str, list[_Region]] = {}
    for view in views:
        if _key(view) not in regions and not _is_empty(view):
            regions[_key(view)] = region = _Region(view)
            by_buffer.setdefault(view.buffer.name, []).append(region)
    for found in by_buffer.values():
        found.sort(key=lambda region: region.view.start)
        beside: list[_Region] = []  # those that reach to the current column or beyond it
        for region in found:
            beside = [other for other in beside if other.view.stop > region.view.start]
            beside.append(region)
            for other in beside:
                if overlap(region.view, other.view):
                    _meet(region, other)
    return regions


def _meet(first: _Region, second: _Region) -> None:
    for one, other in ((first, second), (second, first)) if first is not second else ((first, first),):
        one.meets.append(other)
        same_rows = (one.view.time, one.view.rows) == (other.view.time, other.view.rows)
        if same_rows and one.view.start <= other.view.start and other.view.stop <= one.view.stop:
            one.covers.append(other)
