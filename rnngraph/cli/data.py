"""Columns of a table -> the time-major arrays that training takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnngraph.errors import DataError, OptionError
from rnngraph.model import Model, Node

Table = Mapping[str, NDArray[np.float64]]
TIME_BATCH_UNITS = 3


def training_data(
    table: Table,
    model: Model,
    classes: Sequence[str],
    inputs: Mapping[str, Sequence[str]],
    targets: Mapping[str, Sequence[str]],
    learned: Sequence[str],
    window: int | None = None,
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Inputs and targets, (T, batch, size) each, targets of ``classes`` as integers (T, batch).

    ``inputs`` and ``targets`` say which columns (or npz arrays) make up a node's data, side by side. A node left out
    takes the column of its own name (an output: ``target_<name>`` first); if no column is chosen at all and the table
    has just as many others as the other nodes need, these are taken in order. ``learned`` are the outputs that have
    a loss. ``window`` cuts one long sequence into sequences of that many steps, a rest left out. Raises OptionError
    and DataError.
    """
    outputs = [node for node in model.outputs if node.name in learned]
    for what, chosen, nodes in (("--input", inputs, model.inputs), ("--target", targets, outputs)):
        for name in chosen:
            if name not in [node.name for node in nodes]:
                raise OptionError(what, repr(name), f"one of {[node.name for node in nodes]}", "name one of them")
    columns: dict[tuple[str, str], Sequence[str] | None]
    columns = {("x", node.name): inputs.get(node.name) for node in model.inputs}
    columns |= {("y", node.name): targets.get(node.name) for node in outputs}
    widths = {("x", node.name): node.size for node in model.inputs}
    widths |= {("y", node.name): 1 if node.name in classes else node.size for node in outputs}
    if not inputs and not targets and all(array.ndim == 1 for array in table.values()):
        columns = _in_order(table, widths)
    given: dict[str, NDArray[Any]] = {}
    for node in model.inputs:
        given[node.name] = _array(table, node, columns["x", node.name], widths["x", node.name], ())
    wanted: dict[str, NDArray[Any]] = {}
    for node in outputs:
        array = _array(table, node, columns["y", node.name], widths["y", node.name], (f"target_{node.name}",))
        wanted[node.name] = _labels(array, node) if node.name in classes else array
    lengths = {array.shape[:2] for array in (*given.values(), *wanted.values())}
    if len(lengths) > 1:
        raise DataError("data", f"(T, batch) of {sorted(lengths)}", "the same for all", "give arrays of one length")
    if window is not None:
        given = {name: _cut(array, window) for name, array in given.items()}
        wanted = {name: _cut(array, window) for name, array in wanted.items()}
    return given, wanted


def parse_columns(options: Sequence[str], what: str) -> dict[str, list[str]]:
    """Options NODE=COLUMN,COLUMN,... or NODE=2-5 as a mapping; raises OptionError."""
    chosen: dict[str, list[str]] = {}
    for option in options:
        node, separator, text = option.partition("=")
        if not separator or not node or not text:
            raise OptionError(what, repr(option), "NODE=COLUMN,COLUMN,...", f"write {what} x=a,b for instance")
        for column in text.split(","):
            first, dash, last = column.strip().partition("-")
            if dash and first.isdecimal() and last.isdecimal():
                chosen.setdefault(node, []).extend(str(number) for number in range(int(first), int(last) + 1))
            else:
                chosen.setdefault(node, []).append(column.strip())
    return chosen


def _in_order(table: Table, widths: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], Sequence[str] | None]:
    """Columns for every node: those of its name, for the other nodes the columns left over, in order."""
    columns: dict[tuple[str, str], Sequence[str] | None] = {}
    for role, node in widths:
        names = (node,) if role == "x" else (f"target_{node}", node)
        found = next((name for name in names if name in table), None)
        if found is not None:
            columns[role, node] = [found]
    used = {name for chosen in columns.values() for name in chosen or ()}
    left = [name for name in table if name not in used]
    open_widths = {key: width for key, width in widths.items() if key not in columns}
    if len(left) != sum(open_widths.values()) and open_widths:
        wanted = ", ".join(f"{node}: {width}" for (_, node), width in open_widths.items())
        raise DataError(
            "data", f"{len(left)} columns", f"{sum(open_widths.values())} ({wanted})",
            "choose columns with --input NODE=COLUMNS and --target NODE=COLUMNS",
        )  # fmt: skip
    for key, width in open_widths.items():
        columns[key], left = left[:width], left[width:]
    return columns


def _array(
    table: Table, node: Node, columns: Sequence[str] | None, width: int, others: tuple[str, ...]
) -> NDArray[np.float64]:
    """The chosen columns side by side, (T, batch, width)."""
    if columns is None:
        columns = [next((name for name in (*others, node.name) if name in table), node.name)]
    parts = []
    for name in columns:
        if name not in table:
            raise DataError(
                f"data for node {node.name!r}", f"no column {name!r}", f"one of {list(table)}",
                "choose columns with --input NODE=COLUMNS and --target NODE=COLUMNS",
            )  # fmt: skip
        array = table[name]
        if array.ndim == TIME_BATCH_UNITS - 1 and width == 1 and array.shape[1] != 1:
            array = array[:, :, None]  # (T, batch) of single numbers
        elif array.ndim < TIME_BATCH_UNITS:
            array = array.reshape(array.shape[0] if array.ndim else 1, 1, -1)
        if array.ndim != TIME_BATCH_UNITS:
            raise DataError(f"array {name!r}", f"{array.ndim} axes", "(T, batch, units)", "reshape the array")
        parts.append(array)
    if len({part.shape[:2] for part in parts}) > 1:
        raise DataError(f"data for node {node.name!r}", "columns of several lengths", "one", "cut them to one length")
    joined = np.concatenate(parts, axis=2)
    if joined.shape[2] != width:
        raise DataError(
            f"data for node {node.name!r}", f"{joined.shape[2]} columns", f"{width}",
            f"choose {width} columns, NODE=FIRST-LAST for instance",
        )  # fmt: skip
    return joined


def _labels(array: NDArray[np.float64], node: Node) -> NDArray[np.int64]:
    labels = array[:, :, 0].astype(np.int64)
    if (labels != array[:, :, 0]).any() or labels.min(initial=0) < 0 or labels.max(initial=0) >= node.size:
        raise DataError(
            f"targets of node {node.name!r}", f"values from {array.min():g} to {array.max():g}",
            f"the number of a class, 0..{node.size - 1}", "number the classes from 0",
        )  # fmt: skip
    return labels


def _cut(array: NDArray[Any], window: int) -> NDArray[Any]:
    """(T, batch, ...) -> (window, batch * (T // window), ...)."""
    count = array.shape[0] // window
    if count == 0:
        raise OptionError("--window", str(window), f"at most {array.shape[0]} steps", "give a shorter window")
    cut = array[: count * window].reshape(count, window, *array.shape[1:])
    moved = np.moveaxis(cut, 0, 1)
    return np.ascontiguousarray(moved.reshape(window, count * array.shape[1], *array.shape[2:]))
