"""Statements, views and shapes as text, for messages."""

from __future__ import annotations

from codegen.ir import (
    Apply,
    Assign,
    Entrywise,
    Fill,
    Fused,
    Load,
    Loop,
    Reduce,
    Span,
    Staggered,
    Statement,
    Step,
    Store,
    View,
    views_of,
)

Axis = tuple[str, int, int]  # unit ("batch" or ""), constant and multiple of T: unit * (constant + T * times)


class IRError(ValueError):
    """A statement breaks the grammar of codegen.ir: names function and statement, what was found, what was expected."""


def axes(view: View, flat: bool = False) -> tuple[Axis, ...]:
    """The shape of a view as axes; ``flat``: time and batch as one."""
    columns: Axis = ("", view.columns, 0)
    shape = view.buffer.shape
    if shape == "scalar":
        return ()
    if shape == "vector" or view.vector:
        return (columns,)
    if shape == "matrix":
        assert view.rows is not None
        found: tuple[Axis, ...] = (("", view.rows[1] - view.rows[0], 0), columns)
    elif isinstance(view.time, Span):
        start, stop = view.time.start, view.time.stop
        length, times = stop.constant - start.constant, stop.times - start.times
        found = (("batch", length, times), columns) if flat else (("", length, times), ("batch", 1, 0), columns)
    else:
        found = (("batch", view.steps, 0), columns)
    return found[::-1] if view.transposed else found


def length_text(axis: Axis) -> str:
    """One axis as text: T + 1, batch, (T) batch."""
    unit, constant, times = axis
    parts = ([{1: "T"}.get(times, f"{times} T")] if times else []) + ([str(constant)] if constant or not times else [])
    length = " + ".join(parts)
    return length if not unit else unit if length == "1" else f"({length}) {unit}"


def shape_text(view: View, flat: bool = False) -> str:
    """The shape of a view as text."""
    return "(" + ", ".join(map(length_text, axes(view, flat))) + ")"


def view_text(view: View) -> str:
    """A view as text, its rows counted in t or T."""
    name = view.buffer.name
    if isinstance(view.time, Step):
        moment = f"t{view.time.offset - 1:+d}" if view.time.offset != 1 else "t"
        name += f"[{moment}]" if view.steps == 1 else f"[{moment}, {view.steps} steps]"
    elif isinstance(view.time, Span):
        name += f"[{length_text(('', view.time.start.constant, view.time.start.times))}:"
        name += f"{length_text(('', view.time.stop.constant, view.time.stop.times))}]"
    elif view.rows is not None:
        name += f"[{view.rows[0]}:{view.rows[1]}]"
    columns = "" if view.whole else f"[:, {view.start}:{view.stop}]"
    return name + columns + (".T" if view.transposed else "")


def describe(statement: Statement) -> str:
    """A statement in one line, for messages."""
    if isinstance(statement, Loop | Staggered):
        return type(statement).__name__
    if isinstance(statement, Fused):
        return f"Fused [{'; '.join(map(describe, statement.parts))}]"
    views = views_of(statement)
    if isinstance(statement, Store):
        return f"Store of {statement.what} {statement.name!r} from {view_text(views[0])}"
    if isinstance(statement, Load):
        return f"Load of {statement.what} {statement.name!r} into {view_text(views[0])}"
    detail = {Assign: "expression", Entrywise: "expression", Apply: "function", Reduce: "kind", Fill: "value"}.get(
        type(statement), ""
    )
    text = f" {getattr(statement, detail)}" if detail else ""
    return f"{type(statement).__name__} {view_text(views[0])} ={text} [{', '.join(map(view_text, views[1:]))}]"
