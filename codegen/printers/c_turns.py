"""The C text of loops over t: by steps, by chunks of steps, by turns of several steps at once, and staggered ones."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.ir import Loop, Staggered
from codegen.printers.loops import shifted


def chunk_lines(loop: Loop, rows: int, sums: Sequence[str], body: Sequence[str], summed: Sequence[str]) -> list[str]:
    """A loop over chunks of steps, with what is summed up ahead of and behind all steps of each."""
    if loop.backward:
        heads = [
            "for (long last = T; last >= 1; last -= chunk) {",
            "    const long first = last > chunk ? last - chunk + 1 : 1;",
        ]
    else:
        heads = [
            "for (long first = 1; first <= T; first += chunk) {",
            "    const long last = first + chunk - 1 < T ? first + chunk - 1 : T;",
        ]
    steps, of_a_turn = loop.steps, "batch" if loop.steps == 1 else f"{loop.steps} * batch"
    whole = f"{rows} / batch" if steps == 1 else f"{rows} / ({of_a_turn}) * {steps}"
    together = ["    if (together) {", *("        " + line for line in sums), "    }"] if sums else []
    return [
        f"const long chunk = {of_a_turn} < {rows} ? {whole} : {steps};",
        *([f"const int together = rows == batch && chunk > {steps};"] if sums else []),
        *heads,
        *together,
        *("    " + line for line in steps_lines(loop, "first", "last", body)),
        *("    " + line for line in summed),
        "}",
    ]


def steps_lines(loop: Loop, first: str, last: str, body: Sequence[str]) -> list[str]:
    """A loop over the steps from first to last, some at once: fewer in the last turn."""
    if loop.steps == 1:
        head = f"t = {last}; t >= {first}; --t" if loop.backward else f"t = {first}; t <= {last}; ++t"
        return [f"for (long {head}) {{", *("    " + line for line in body), "}"]
    head = f"t = {first}; t <= {last}; t += turn"
    if loop.backward:
        head = f"t = {first} + ({last} - {first}) / turn * turn; t >= {first}; t -= turn"
    rows = f"const long turn_rows = ({last} - t < turn ? {last} - t + 1 : turn) * rows;"
    return [f"for (long {head}) {{", *("    " + line for line in (rows, *body)), "}"]


def staggered_lines(statement: Staggered, bodies: Sequence[Sequence[str]]) -> list[str]:
    result = [_head(statement)]
    for shift, body in zip(statement.shifts, bodies, strict=True):
        result.append(f"    if (1 <= {shifted('step', shift)} && {shifted('step', shift)} <= T) {{")
        result.append(f"        const long t = {shifted('step', shift)};")
        result += ["        " + line for line in body]
        result.append("    }")
    return [*result, "}"]


def _head(statement: Staggered) -> str:
    first, last = str(1 - max(statement.shifts)), shifted("T", -min(statement.shifts))
    if statement.backward:
        return f"for (long step = {last}; step >= {first}; --step) {{"
    return f"for (long step = {first}; step <= {last}; ++step) {{"
