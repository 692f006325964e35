"""Products that sum over all steps of what a loop computes: gradients of weights, summed up chunk by chunk behind it.

What the loop has just written is still in the cache then, and where nothing else reads it, it need not be kept for all
steps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from codegen.ir import Bound, Loop, MatMul, Opaque, Span, Statement, Step, View, views_of
from codegen.overlap import overlap
from codegen.printers.c_products import SUMMED_ROWS
from codegen.walk import statements_in, targets_of

ROWS = SUMMED_ROWS  # of a chunk: what gradient_product takes at once


@dataclass(frozen=True)
class Behind:
    """A product that follows a loop, and its sides at the loop's t."""

    product: MatMul
    left: View
    right: View


def products_behind(statements: Sequence[Statement]) -> tuple[list[Statement], dict[int, list[Behind]]]:
    """The statements without the products that loops do behind their chunks, and these, by the identity of the loop."""
    body: list[Statement] = []
    found: dict[int, list[Behind]] = {}
    for statement in statements:
        if isinstance(statement, MatMul) and is_gradient(statement):
            loop = _maker(statement, body, found)
            left, right = (_at_t(side, loop.steps if loop else 1) for side in (statement.left, statement.right))
            if loop is not None and left is not None and right is not None:
                found.setdefault(id(loop), []).append(Behind(statement, left, right))
                continue
        body.append(statement)
    return body, found


def is_gradient(product: MatMul) -> bool:
    """Whether it sums over the rows of both sides."""
    return product.left.transposed


def _maker(product: MatMul, before: Sequence[Statement], found: Mapping[int, Sequence[Behind]]) -> Loop | None:
    """The loop among those before the product that computes a side of it step by step, if the product can be done with
    it."""
    for statement in reversed(before):
        writes = targets_of(statements_in(statement))
        touched = [view for inner in statements_in(statement) for view in views_of(inner)]
        if isinstance(statement, Opaque) or any(_meets(view, product.target) for view in touched):
            return None
        if any(_meets(view, side) for view in writes for side in (product.left, product.right)):
            return statement if isinstance(statement, Loop) and _stand(statement, product) else None
        if any(_meets(other.product.target, product.target) for other in found.get(id(statement), ())):
            return None
    return None


def _stand(loop: Loop, product: MatMul) -> bool:
    """Whether the sides have their values once the loop has done a step: what it writes of them is at their t."""
    sides = [_at_t(side, loop.steps) for side in (product.left, product.right)]
    writes = targets_of(loop.body)
    return all(
        side is not None and all(view.time == side.time for view in writes if _meets(view, side)) for side in sides
    )


def _at_t(view: View, steps: int) -> View | None:
    """A view of all steps, at the t of a loop of so many steps at once: row t - 1 + start; None where it has no row
    for each t alone."""
    time = view.time
    if not isinstance(time, Span) or time.start.times or time.stop != Bound(time.start.constant, 1):
        return None
    return dataclasses.replace(view, time=Step(time.start.constant, steps), transposed=False)


def _meets(one: View, other: View | None) -> bool:
    """Whether two views may share memory at some t."""
    if other is None or one.buffer.name != other.buffer.name:
        return False
    if one.buffer.shape == "sequence":  # whatever their times
        return one.start < other.stop and other.start < one.stop
    return overlap(one, other)
