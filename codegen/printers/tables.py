"""The tables of an emitted module: parameters, inputs, outputs, states, and the units that run as layers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from codegen.printers.sparse import SHOWN, packed, packed_text
from codegen.printers.views import wrapped
from codegen.program import Layer, NamedParameter, Program

MOST_PARAMETERS = 1000  # that are listed one a line; more are packed

UNPACKED = '''

def _unpacked(text):
    """Integers that were packed into text."""
    return np.frombuffer(zlib.decompress(base64.b85decode("".join(text))), "<i4")


def _names(text):
    """Names that were packed into text."""
    return tuple(json.loads(zlib.decompress(base64.b85decode("".join(text)))))

'''


def table_lines(program: Program) -> list[str]:
    """Everything that stands before the functions, but for constants."""
    lines = ["", f'DTYPE = np.dtype("{program.dtype}")', f"VECTOR_SIZE = {program.vector_size}"]
    lines += _layers(program.layers) if program.layers else []
    lines += _parameters(program.parameters)
    tables: tuple[tuple[str, Mapping[str, object], str], ...] = (
        ("INPUTS", program.inputs, "name: size"),
        ("OUTPUTS", program.outputs, "name: size"),
        ("STATES", program.states, "node: (depth, size, initial value)"),
        ("LOSSES", program.losses, "output: what its target is"),
    )
    for name, table, note in tables:
        lines += _table(name, table, note, program.layers)
    if program.layers:
        lines += _by_layer(program)
    lines += [line for text in program.rules.values() for line in ("", "", text.rstrip())]
    lines += ["", "", "RULES = {" + ", ".join(f"{name!r}: {name}" for name in program.rules) + "}"]
    if program.layers:
        lines += ["# what is drawn as one: (rule, its scale, shape, offset in the vector, from one row to the next)"]
        drawn = [f"    {p.name!r}: ({p.rule!r}, {p.scale!r}, {p.shape!r}, {p.offset}, {p.stride}),"
                 for p in program.drawn]  # fmt: skip
        return [*lines, "INITIALISATION = {", *drawn, "}"]
    return [*lines, "INITIALISATION = {", *(f"    {p.name!r}: {p.rule!r}," for p in program.parameters), "}"]


def packs(lines: Iterable[str]) -> bool:
    """Whether some names or numbers in the lines are packed."""
    return any("_names(" in line or "_unpacked(" in line for line in lines)


def _parameters(parameters: Sequence[NamedParameter]) -> list[str]:
    lines = ["# name: (shape, offset in the vector, from one row to the next, in numbers)"]
    if len(parameters) <= MOST_PARAMETERS:
        lines += ["PARAMETERS = {"]
        lines += [f"    {p.name!r}: ({p.shape!r}, {p.offset}, {p.stride})," for p in parameters]
        return [*lines, "}"]
    shapes = list(dict.fromkeys(p.shape for p in parameters))
    number = {shape: k for k, shape in enumerate(shapes)}
    columns = ([number[p.shape] for p in parameters], [p.offset for p in parameters], [p.stride for p in parameters])
    texts = [packed(np.array(column, dtype=np.int32)) for column in columns]
    lines += ["PARAMETERS = dict(zip(", *_names_lines([p.name for p in parameters], "    "), "    zip("]
    lines += [f"        map({shapes!r}.__getitem__, {texts[0]}.tolist()),"]
    lines += [f"        {text}.tolist()," for text in texts[1:]]
    return [*lines, "        strict=True,", "    ),", "    strict=True,", "))"]


def _names_lines(names: Sequence[str], indent: str) -> list[str]:
    """Names as an argument or an entry: a tuple of strings, or packed."""
    if len(names) <= SHOWN:
        if len(names) == 1:
            return [f"{indent}({names[0]!r},),"]
        return [f"{indent}(", *wrapped([repr(name) for name in names], len(indent) + 4), f"{indent}),"]
    first, *rest = packed_text(json.dumps(list(names)).encode()).splitlines()
    return [f"{indent}_names({first}", *(f"{indent}{line}" for line in rest[:-1]), f"{indent})),"]


def _layers(layers: Mapping[str, Layer]) -> list[str]:
    """The units of each layer, and how many past values each keeps."""
    lines = ["# units that run as layers: their names, in the order of columns", "LAYERS = {"]
    for name, layer in layers.items():
        first, *rest = _names_lines(layer.units, "    ")
        lines += [f"    {name!r}: {first.lstrip()}", *rest]
    lines += ["}", "# how many past values each unit keeps", "DEPTHS = {"]
    for name, layer in layers.items():
        if any(layer.depths):
            same = len(set(layer.depths)) == 1
            text = (
                f"({layer.depths[0]},) * {len(layer.depths)}" if same else f"{packed(np.array(layer.depths))}.tolist()"
            )
            first, *rest = f"{name!r}: {text},".splitlines()
            lines += [f"    {first}", *(f"    {line}" for line in rest)]
    lines += ["}"]
    return [*lines, "COLUMNS = {unit: (name, k) for name, units in LAYERS.items() for k, unit in enumerate(units)}"]


def _table(name: str, table: Mapping[str, object], note: str, layers: Mapping[str, Layer]) -> list[str]:
    """A dictionary; the entries of a layer's units are made of its list of units."""
    within = {unit: layer for layer in layers for unit in layers[layer].units}
    found = list(dict.fromkeys(within[key] for key in table if key in within))
    if not found:
        return [f"{name} = {dict(table)!r}  # {note}"]
    lines = [f"{name} = {{  # {note}"]
    for layer in found:
        lines.append(f"    {_entries(name, layer, [table[unit] for unit in layers[layer].units if unit in table])},")
    lines += [f"    {key!r}: {value!r}," for key, value in table.items() if key not in within]
    return [*lines, "}"]


def _entries(table: str, layer: str, values: Iterable[object]) -> str:
    if table != "STATES":
        return f"**dict.fromkeys(LAYERS[{layer!r}], {next(iter(values))!r})"
    state = next(iter(values))
    assert isinstance(state, tuple)
    _, size, initial = state
    pairs = f"zip(LAYERS[{layer!r}], DEPTHS[{layer!r}], strict=True)"
    return f"**{{unit: (depth, {size}, {initial!r}) for unit, depth in {pairs} if depth}}"


def _by_layer(program: Program) -> list[str]:
    """What the functions are given, units of a layer together."""
    within = {unit: name for name, layer in program.layers.items() for unit in layer.units}

    def sizes(table: Mapping[str, int]) -> dict[str, int]:
        found: dict[str, int] = {}
        for name, size in table.items():
            layer = within.get(name)
            found[layer or name] = len(program.layers[layer].units) if layer else size
        return found

    targets = {within.get(name, name): kind for name, kind in program.losses.items()}
    given = {name: program.outputs[name] for name in program.losses}
    return [
        "# by node or layer: what the functions are given, units of a layer side by side",
        f"INPUT_SIZES = {sizes(program.inputs)!r}",
        f"TARGET_SIZES = {sizes(given)!r}",
        f"TARGETS = {targets!r}",
    ]
