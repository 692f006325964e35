"""Going through the statements of a function: the turns of its loops, and statements with bodies or views changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, replace

from codegen.ir import Fused, Loop, Opaque, Stack, Staggered, Statement, View, loops_of, written


def turns(statement: Loop | Staggered, T: int) -> Iterator[tuple[int, int]]:
    """Which of the statement's loops runs for which t, in running order; for which first t, where it takes several
    steps at once."""
    shifts = statement.shifts if isinstance(statement, Staggered) else (0,)
    steps = range(1 - max(shifts), T - min(shifts) + 1, 1 if isinstance(statement, Staggered) else statement.steps)
    for step in reversed(steps) if statement.backward else steps:
        yield from ((k, step + shift) for k, shift in enumerate(shifts) if 1 <= step + shift <= T)


def statements_in(statement: Statement) -> tuple[Statement, ...]:
    """The statements in the loops of a statement; one that is no loop is its own."""
    loops = loops_of(statement)
    return tuple(inner for loop in loops for inner in loop.body) if loops else (statement,)


def targets_of(statements: Iterable[Statement]) -> list[View]:
    """What statements that are no loops write, a Fused with each of its parts."""
    found: list[View] = []
    for statement in statements:
        if isinstance(statement, Fused):
            found += [part.target for part in statement.parts]
        elif (target := written(statement)) is not None:
            found.append(target)
    return found


def map_bodies(
    statement: Loop | Staggered, change: Callable[[tuple[Statement, ...]], Iterable[Statement]]
) -> Loop | Staggered:
    """The statement with the body of each of its loops changed."""
    loops = tuple(replace(loop, body=tuple(change(loop.body))) for loop in loops_of(statement))
    return replace(statement, parts=loops) if isinstance(statement, Staggered) else loops[0]


def map_views(statement: Statement, change: Callable[[View], View]) -> Statement:
    """The statement with every view changed; an Opaque's views keep all but their buffers."""
    if isinstance(statement, Loop | Staggered):
        return map_bodies(statement, lambda body: [map_views(inner, change) for inner in body])
    if isinstance(statement, Opaque):
        return statement.map_buffers(lambda buffer: change(View(buffer)).buffer)
    values: dict[str, object] = {}
    for entry in fields(statement):
        value = getattr(statement, entry.name)
        if isinstance(value, View):
            values[entry.name] = change(value)
        elif isinstance(value, Stack):
            taps = tuple(replace(each, source=change(each.source)) for each in value.taps)
            values[entry.name] = replace(value, taps=taps)
        elif entry.name == "arguments":
            values[entry.name] = tuple(change(a) if isinstance(a, View) else a for a in value)
        elif entry.name == "operands":
            values[entry.name] = tuple((symbol, change(view)) for symbol, view in value)
        elif entry.name == "parts":
            values[entry.name] = tuple(map_views(part, change) for part in value)
    return replace(statement, **values)  # type: ignore[arg-type]
