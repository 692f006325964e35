"""Assigns for all t move into the loop that alone reads them: what is cheap is computed where it is read, not stored.

The equations take out of a loop what the loop does not change, since NumPy is quicker over long arrays. Compiled code
is not: there a stored value costs a pass over memory. Before: Assigns. After: no Assign outside of loops is cheap, read
by one later loop alone, at one t, and made of what stands unchanged until that loop has run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from codegen.functions import PointwiseFunction
from codegen.ir import Assign, Bound, Function, Loop, Span, Statement, Step, View, views_of
from codegen.overlap import overlap
from codegen.passes.fuse_pointwise import same_element
from codegen.walk import statements_in, targets_of

CHEAP = {"abs", "sign", "step", "maximum", "minimum"}


def sink_pointwise(function: Function) -> Function:
    """See the module's docstring."""
    body = list(function.body)
    for index in range(len(body) - 1, -1, -1):
        statement = body[index]
        if isinstance(statement, Assign) and (loop := _only_reader(body, index)) is not None:
            inner = body[loop]
            assert isinstance(inner, Loop)
            body[loop] = dataclasses.replace(inner, body=(_at_each_step(statement, inner.steps), *inner.body))
            del body[index]
    return dataclasses.replace(function, body=tuple(body))


def _only_reader(body: Sequence[Statement], index: int) -> int | None:
    """The number of the loop that may take the Assign in, if there is one."""
    assign = body[index]
    assert isinstance(assign, Assign)
    target = assign.target
    if target.buffer.storage != "workspace" or not _is_cheap(assign) or not _all_steps(target):
        return None
    readers = [k for k, other in enumerate(body) if k != index and any(_meets(view, target) for view in _views(other))]
    if len(readers) != 1 or readers[0] < index:
        return None
    (loop,) = readers
    reader = body[loop]
    if not isinstance(reader, Loop):
        return None
    assert isinstance(target.time, Span)
    place = dataclasses.replace(target, time=Step(target.time.start.constant, reader.steps))
    if any(_meets(view, target) and not same_element(view, place) for view in _views(body[loop])):
        return None
    operands = [view for _, view in assign.operands]
    if not all(view.time is None or _all_steps(view) for view in operands):
        return None
    changed = [view for other in body[index + 1 : loop + 1] for view in targets_of(statements_in(other))]
    if any(_meets(view, target) for view in targets_of(statements_in(body[loop]))):
        return None
    return None if any(_meets(view, operand) for view in changed for operand in operands) else loop


def _at_each_step(assign: Assign, steps: int) -> Assign:
    def step(view: View) -> View:
        if not isinstance(view.time, Span):
            return view
        return dataclasses.replace(view, time=Step(view.time.start.constant, steps))

    operands = tuple((symbol, step(view)) for symbol, view in assign.operands)
    return dataclasses.replace(assign, target=step(assign.target), operands=operands)


def _is_cheap(assign: Assign) -> bool:
    calls = {call.func.__name__ for call in assign.expression.atoms(PointwiseFunction)}
    return calls <= CHEAP


def _all_steps(view: View) -> bool:
    """Whether a view has T rows of a sequence."""
    time = view.time
    return isinstance(time, Span) and time.stop == Bound(time.start.constant, 1) and time.start.times == 0


def _views(statement: Statement) -> list[View]:
    return [view for inner in statements_in(statement) for view in views_of(inner)]


def _meets(first: View, second: View) -> bool:
    """Whether two views share columns of a buffer, at whatever t."""
    if first.buffer.name != second.buffer.name:
        return False
    return overlap(*(dataclasses.replace(view, time=None, label="") for view in (first, second)))
