"""What an emitted module begins with: its docstring and its constants."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence

from codegen.ir import Buffer
from codegen.names import comment_text
from codegen.program import Program


def docstring(program: Program, needs: str) -> str:
    """The module's: its title, the equations, and what it ``needs``."""
    lines = [comment_text(program.title), "", *(comment_text(line) for line in program.header)]
    lines += ["", f"Generated source: it needs {needs} alone. Arrays are time-major: (T, batch, size)."]
    return '"""' + "\n".join(line.rstrip() for line in lines).rstrip() + '\n"""\n'


def imports(lines: Sequence[str], packed: bool, copies: bool) -> list[str]:
    """A target's own import lines, with those of what unpacks numbers and names, and of deepcopy where a state carries
    more than arrays."""
    place = lines.index("from collections.abc import Mapping")
    modules = {*lines[:place], *((f"import {name}" for name in ("base64", "json", "zlib")) if packed else ())}
    copy = ["from copy import deepcopy"] if copies else []
    return [*sorted(modules), lines[place], *copy, *lines[place + 1 :]]


def constants(buffers: Iterable[tuple[str, Buffer]], xp: str) -> list[str]:
    """The constants by name, as arrays of ``xp``: short ones as numbers, long ones as their bytes."""
    lines: list[str] = []
    for name, buffer in buffers:
        values = buffer.values
        assert values is not None
        if values.size <= 64:
            lines.append(f"{name} = {xp}.array({values.tolist()!r}, DTYPE)")
            continue
        data = base64.b64encode(values.astype("<f8").tobytes()).decode("ascii")
        lines += ["import base64", f"{name} = {xp}.asarray(np.frombuffer(base64.b64decode(", *(
            f"    {data[k : k + 100]!r}" for k in range(0, len(data), 100)
        ), f'), "<f8").reshape({values.shape!r}).astype(DTYPE))']  # fmt: skip
    return ["", *lines] if lines else []
