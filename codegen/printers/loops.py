"""The text of loops over t in an emitted module: their heads, and the parts that take turns in a staggered one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from codegen.ir import Staggered
from codegen.printers.views import wrapped


@dataclass(frozen=True)
class LoopText:
    """What a loop prints: what it binds ``before`` it, ``names`` of its views in a step, which lie in ``steps`` of the
    workspace, and the lines of its ``body``, not indented; or, in place of names and body, a ``function``."""

    before: Sequence[str]
    names: Sequence[str]
    steps: str
    body: Sequence[str]
    function: str = ""


def loop_lines(loop: LoopText) -> list[str]:
    """One loop; each step has its views ready."""
    return [*loop.before, *_head(loop), *indented(loop.body, 8)]


def staggered_lines(statement: Staggered, parts: Sequence[LoopText]) -> list[str]:
    """One loop in which each part runs at a t of its own, where this lies in 1..T."""
    first, last = 1 - max(statement.shifts), -min(statement.shifts)
    moments = f"range({first}, {shifted('T', last + 1)})"
    if statement.backward:
        moments = f"range({shifted('T', last)}, {first - 1}, -1)"
    lines = [line for part in parts for line in part.before]
    lines.append(f"    for step in {moments}:")
    for part, shift in zip(parts, statement.shifts, strict=True):
        lines.append(f"        if 1 <= {shifted('step', shift)} <= T:")
        views = f"work.{part.steps}[{shifted('step', shift - 1)}]"
        one_line = f"{_listed(part.names)} = {views}"
        cut = [one_line] if len(one_line) <= 98 else ["(", *wrapped(part.names, 4), f") = {views}"]
        lines += indented([*(cut if part.names else []), *part.body], 12)
    return lines


def _head(loop: LoopText) -> list[str]:
    if not loop.names:
        return ["    for _ in range(T):"]
    one_line = f"    for {_listed(loop.names)} in work.{loop.steps}:"
    if len(one_line) > 110:
        return ["    for (", *wrapped(loop.names, 8), f"    ) in work.{loop.steps}:"]
    return [one_line]


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names)}{',' if len(names) == 1 else ''}"


def shifted(name: str, steps: int) -> str:
    """A number some steps on or back."""
    return name if steps == 0 else f"{name} {'+' if steps > 0 else '-'} {abs(steps)}"


def indented(lines: Iterable[str], spaces: int) -> list[str]:
    """The lines moved to the right."""
    return [" " * spaces + line for line in lines]
