"""When two views may share memory within one run of a body."""

from __future__ import annotations

import dataclasses

from codegen.ir import Span, Step, View


def overlap(first: View, second: View) -> bool:
    """Whether the views can share an element. Inside a loop of one step at a time, two steps of different offset are
    different rows; several steps at once share rows with those that begin a few steps later."""
    if first.buffer.name != second.buffer.name:
        return False
    if first.start >= second.stop or second.start >= first.stop:
        return False
    if first.rows is not None and second.rows is not None:
        return first.rows[0] < second.rows[1] and second.rows[0] < first.rows[1]
    if isinstance(first.time, Step) and isinstance(second.time, Step):
        return abs(first.time.offset - second.time.offset) < max(first.time.steps, second.time.steps)
    if isinstance(first.time, Span) and isinstance(second.time, Span):
        # Rows before t = 1 against rows from t = 1 on: both ends are known numbers, or the same multiple of T.
        return not (_ends_before(first.time, second.time) or _ends_before(second.time, first.time))
    return True


def _ends_before(first: Span, second: Span) -> bool:
    return first.stop.times <= second.start.times and first.stop.constant <= second.start.constant


def same_place(first: View, second: View) -> bool:
    """Whether the views are the same elements."""
    return (first.buffer.name, first.time, first.start, first.stop, first.rows) == (
        second.buffer.name,
        second.time,
        second.start,
        second.stop,
        second.rows,
    )


def neighbours(left: View, right: View) -> View | None:
    """One view of both when ``right`` begins where ``left`` ends, else None."""
    fits = (left.buffer.name, left.time, left.rows, left.transposed, left.vector) == (
        right.buffer.name, right.time, right.rows, right.transposed, right.vector,
    )  # fmt: skip
    if not fits or left.stop != right.start:
        return None
    return dataclasses.replace(left, stop=right.stop, label=_joined_label(left, right))


def _joined_label(left: View, right: View) -> str:
    """gates i_t and f_t become i_f_t; the same tail is written once."""
    tail = "_t" if left.label.endswith("_t") and right.label.endswith("_t") else ""
    first, second = left.label.removesuffix("_t"), right.label.removesuffix("_t")
    common = 0
    while common < min(len(first), len(second)) and first[common] == second[common]:
        common += 1
    common = first[:common].rfind("_") + 1
    return f"{first}_{second[common:]}{tail}"
