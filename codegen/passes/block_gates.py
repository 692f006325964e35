"""Lay the gates of a loop out one after the other: a buffer of k equal parts becomes k contiguous blocks per step.

NumPy enters its inner loop once per row of a column slice; on a block that is contiguous over batch and units it enters
once per call. Measured on an LSTM with a batch of 32 or more: additions and products take a third to a sixth of the
time. The product that fills such a buffer multiplies by a matrix that is blocked in the same way.

Before: Applies, no Assigns. After: some buffers have ``groups`` > 1; matrices that fill them are workspace copies.
"""

from __future__ import annotations

import dataclasses

from codegen.ir import (
    ONCE,
    Apply,
    Buffer,
    Copy,
    Fill,
    Function,
    Loop,
    MatMul,
    Staggered,
    Statement,
    View,
    loops_of,
    views_of,
)
from codegen.walk import map_bodies, map_views


def block_gates(function: Function) -> Function:
    """See the module's docstring."""
    copies: list[Statement] = []
    body = _own_matrices(function.body, copies)
    body = (*copies, *body)
    groups = _choose(body)
    if not groups:
        return function

    def blocked(view: View) -> View:
        buffer = view.buffer
        if buffer.name not in groups:
            return view
        return dataclasses.replace(view, buffer=dataclasses.replace(buffer, groups=groups[buffer.name]))

    return dataclasses.replace(function, body=tuple(map_views(statement, blocked) for statement in body))


def _own_matrices(body: tuple[Statement, ...], copies: list[Statement]) -> tuple[Statement, ...]:
    """Give products in loops whose results are used in parts a matrix of their own, where it is a view of the
    parameters."""
    parts = _parts(body)

    def owned(inner: Statement) -> Statement:
        if (
            isinstance(inner, MatMul)
            and inner.right.buffer.storage in ("parameter", "direction")
            and inner.target.whole
            and _width(parts.get(inner.target.buffer.name, set()), inner.target.buffer) is not None
        ):
            return _with_own_matrix(inner, copies)
        return inner

    result: list[Statement] = []
    for statement in body:
        if isinstance(statement, Loop | Staggered) and not _several_steps(statement):
            statement = map_bodies(statement, lambda inside: [owned(inner) for inner in inside])
        result.append(statement)
    return tuple(result)


def _with_own_matrix(product: MatMul, copies: list[Statement]) -> MatMul:
    right = product.right
    assert right.rows is not None
    rows, columns = right.rows[1] - right.rows[0], right.columns
    if right.transposed:
        rows, columns = columns, rows
    buffer = Buffer(f"blocks_for_{product.target.buffer.name}", "matrix", columns, rows, note=ONCE)
    whole = View(buffer, None, 0, columns, (0, rows), label=buffer.name)
    copies.append(Copy(whole, right))
    return dataclasses.replace(product, right=whole)


def _inside(statement: Statement) -> list[Statement]:
    """What stands in the loops of a statement."""
    return [inner for loop in loops_of(statement) for inner in loop.body]


def _several_steps(statement: Statement) -> bool:
    """Whether a loop takes several steps at once: its rows are many, and its gates stay side by side."""
    return any(loop.steps > 1 for loop in loops_of(statement))


def _parts(body: tuple[Statement, ...]) -> dict[str, set[tuple[int, int]]]:
    """The column ranges in which each buffer is used inside loops."""
    parts: dict[str, set[tuple[int, int]]] = {}
    for statement in body:
        for inner in _inside(statement):
            for view in views_of(inner):
                parts.setdefault(view.buffer.name, set()).add((view.start, view.stop))
    return parts


def _width(parts: set[tuple[int, int]], buffer: Buffer) -> int | None:
    """The common width of the parts, or None when they are not multiples of the narrowest."""
    widths = [stop - start for start, stop in parts]
    width = min(widths, default=buffer.columns)
    fits = all(start % width == 0 and stop % width == 0 for start, stop in parts) and buffer.columns % width == 0
    return width if fits and width < buffer.columns else None


def _choose(body: tuple[Statement, ...]) -> dict[str, int]:
    """How many groups each buffer that can be blocked gets."""
    statements = [inner for statement in body for inner in _inside(statement) or [statement]]
    buffers = {view.buffer.name: view.buffer for statement in statements for view in views_of(statement)}
    parts = _parts(body)
    for statement in statements:  # what stands outside loops must fit, too
        for view in views_of(statement):
            if view.buffer.name in parts:
                parts[view.buffer.name].add((view.start, view.stop))
    of_several = {
        view.buffer.name
        for statement in filter(_several_steps, body)
        for inner in _inside(statement)
        for view in views_of(inner)
    }
    width: dict[str, int] = {}
    for name, ranges in parts.items():
        buffer = buffers[name]
        common = _width(ranges, buffer)
        fits = buffer.storage == "workspace" and buffer.shape in ("sequence", "step") and name not in of_several
        if fits and common is not None:
            width[name] = common
    matrices: dict[str, str] = {}
    _drop_unfit(body, statements, width, matrices)
    _agree(statements, width, matrices)
    groups = {name: buffers[name].columns // width[name] for name in width}
    groups.update({matrix: groups[target] for matrix, target in matrices.items() if target in groups})
    return groups


def _drop_unfit(
    body: tuple[Statement, ...], statements: list[Statement], width: dict[str, int], matrices: dict[str, str]
) -> None:
    """Remove buffers with a use that wants rows; find the matrix of each product that fills a blocked buffer."""
    inside = {id(inner) for statement in body for inner in _inside(statement)}
    for statement in statements:
        if isinstance(statement, MatMul):
            for view in (statement.left, statement.right):
                width.pop(view.buffer.name, None)
            target, right = statement.target, statement.right
            if target.buffer.name in width:
                own = right.buffer.storage == "workspace" and not right.transposed and right.whole
                rows = right.rows == (0, right.buffer.rows)
                if id(statement) in inside and target.whole and own and rows and not statement.accumulate:
                    matrices[right.buffer.name] = target.buffer.name
                else:
                    del width[target.buffer.name]
        elif not isinstance(statement, Apply | Fill):
            for view in views_of(statement):
                if view.columns != width.get(view.buffer.name, view.columns):
                    del width[view.buffer.name]


def _agree(statements: list[Statement], width: dict[str, int], matrices: dict[str, str]) -> None:
    """Drop buffers that meet others of another width in one call, until all that are left agree."""
    changed = True
    while changed:
        changed = False
        for statement in statements:
            if isinstance(statement, Apply):
                wide = [
                    view for view in views_of(statement) if view.columns > width.get(view.buffer.name, view.columns)
                ]
                blocked = [view for view in views_of(statement) if view.columns > 1 and view.buffer.name in width]
                widths = {width[view.buffer.name] for view in blocked} if wide else set()
                multiple = (
                    all(view.columns % min(widths) == 0 or view.columns == 1 for view in views_of(statement))
                    if widths
                    else True
                )
                if len(widths) > 1 or not multiple:
                    for view in wide:
                        changed = width.pop(view.buffer.name, None) is not None or changed
        for statement in statements:
            if isinstance(statement, MatMul) and statement.target.buffer.name not in width:
                changed = matrices.pop(statement.right.buffer.name, None) is not None or changed
