"""What an emitted module begins with: its docstring, its tables of names and sizes, its constants."""

from __future__ import annotations

import base64
from collections.abc import Iterable

from codegen.ir import Buffer
from codegen.names import comment_text
from codegen.program import Program


def docstring(program: Program, needs: str) -> str:
    """The module's: its title, the equations, and what it ``needs``."""
    lines = [comment_text(program.title), "", *(comment_text(line) for line in program.header)]
    lines += ["", f"Generated source: it needs {needs} alone. Arrays are time-major: (T, batch, size)."]
    return '"""' + "\n".join(line.rstrip() for line in lines).rstrip() + '\n"""\n'


def tables(program: Program) -> list[str]:
    """Parameters, inputs, outputs, states and losses by name, and the rules that parameters are initialised by."""
    lines = ["", f'DTYPE = np.dtype("{program.dtype}")', f"VECTOR_SIZE = {program.vector_size}"]
    lines += ["# name: (shape, offset in the vector, from one row to the next, in numbers)", "PARAMETERS = {"]
    lines += [f"    {p.name!r}: ({p.shape!r}, {p.offset}, {p.stride})," for p in program.parameters]
    lines += ["}", f"INPUTS = {program.inputs!r}  # name: size", f"OUTPUTS = {program.outputs!r}  # name: size"]
    lines += [f"STATES = {program.states!r}  # node: (depth, size, initial value)"]
    lines += [f"LOSSES = {program.losses!r}  # output: what its target is"]
    lines += [line for text in program.rules.values() for line in ("", "", text.rstrip())]
    lines += ["", "", "RULES = {" + ", ".join(f"{name!r}: {name}" for name in program.rules) + "}"]
    return [*lines, "INITIALISATION = {", *(f"    {p.name!r}: {p.rule!r}," for p in program.parameters), "}"]


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
