"""Series by name, or the columns of a table -> one time-major array for each node: (samples, batch, units).

Accepted: a mapping from names to arrays, a structured array, a data frame (an object with ``columns`` whose items are
arrays), or a 2-D array, whose columns are called "1", "2", ... as those of a CSV file without a header.
An array is (samples,), (samples, units), or (samples, batch, units); for a node of one unit, and for classes, (samples,
k) with k > 1 is k sequences. Names that no node asks for are left alone: a table may hold more than is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rnngraph.data import as_array, check_finite
from rnngraph.errors import DataError, OptionError
from rnngraph.series.missing import fill_gaps
from rnngraph.words import clip, nearest

Array: TypeAlias = NDArray[Any]
IN_ORDER = "in order"
Columns: TypeAlias = Mapping[str, str | Sequence[str]] | str | None
CHOOSE = (
    "name the columns of each node: columns={node: [names]}, or on the command line --input NODE=COLUMNS "
    "and --target NODE=COLUMNS"
)
FORMS = "a mapping from names to arrays, a structured array, a data frame or a 2-D array"


@dataclass(frozen=True)
class Wanted:
    """A node that needs a series: ``names`` are those it may have in a table, the first that is there is taken.

    ``classes``: its series are the numbers of classes, 0..size-1, one column; ``required``: it cannot be left out.
    """

    node: str
    size: int
    names: tuple[str, ...]
    classes: bool = False
    required: bool = True

    @property
    def width(self) -> int:
        """How many columns it takes."""
        return 1 if self.classes else self.size


def as_table(series: object, where: str) -> dict[str, Any]:
    """The columns of one sequence by name, unchecked; raises DataError for what is no table."""
    if isinstance(series, Mapping):
        table = {str(name): value for name, value in series.items()}
    elif hasattr(series, "columns") and hasattr(series, "__getitem__"):
        frame: Any = series
        table = {str(name): np.asarray(frame[name]) for name in frame.columns}
    else:
        array = as_array(where, series)
        if array.dtype.names is not None:
            table = {name: array[name] for name in array.dtype.names}
        elif array.ndim == 2 and array.dtype.kind in "biuf":
            table = {str(number + 1): array[:, number] for number in range(array.shape[1])}
        else:
            found = f"an array of shape {array.shape}" if array.ndim else f"an object of type {type(series).__name__}"
            raise DataError(where, found, FORMS, "pass {'x': array, 'y': array}, for example")
    if not table:
        raise DataError(where, "no series", FORMS, "pass {'x': array, 'y': array}, for example")
    return table


def read_series(
    series: object, wanted: Sequence[Wanted], columns: Columns, where: str, gaps: bool = False
) -> tuple[dict[str, Array], dict[str, Array]]:
    """The arrays of all nodes of ``wanted`` that the table has, (samples, batch, size), classes (samples, batch).

    Beside them, with ``gaps``, where those have one, (samples, batch): a NaN is then filled, see ``missing``, and else
    refused.

    ``columns`` names the columns of a node, side by side; a node that it leaves out takes the column of its own name.
    With "in order", and for a 2-D array, the nodes whose name is no column take the columns left over, in order.
    Raises DataError for missing columns, wrong shapes, lengths that differ, what is no finite number and what is no
    class; OptionError for ``columns`` of nodes that take none.
    """
    table = as_table(series, where)
    if columns is None and not isinstance(series, Mapping) and not hasattr(series, "columns"):
        columns = IN_ORDER if np.asarray(series).dtype.names is None else None
    chosen = _in_order(table, wanted, where) if columns == IN_ORDER else _chosen(columns, wanted)
    arrays: dict[str, Array] = {}
    found_gaps: dict[str, Array] = {}
    first = ""
    for each in wanted:
        names = chosen.get(each.node) or [name for name in each.names if name in table][:1]
        if not names and not each.required:
            continue
        array = _side_by_side(table, each, names or [each.node], where, gaps)
        if gaps and np.isnan(array).any():
            array, found_gaps[each.node] = fill_gaps(array)
        array = _classes(array, each, where) if each.classes else array
        if first and array.shape[:2] != arrays[first].shape[:2]:
            found, expected = (
                f"{item.shape[0]} samples of {item.shape[1]} sequences" for item in (array, arrays[first])
            )
            raise DataError(
                f"{where}, node {each.node!r}", found, f"{expected}, as node {first!r} has",
                "give arrays of one length and one batch; a list holds sequences of several lengths",
            )  # fmt: skip
        first = first or each.node
        arrays[each.node] = array
    return arrays, found_gaps


def _chosen(columns: Columns, wanted: Sequence[Wanted]) -> dict[str, list[str]]:
    if columns is None:
        return {}
    if not isinstance(columns, Mapping):
        remedy = "pass {'x': ['u', 'v']}, for example"
        raise OptionError("columns", clip(columns), f"a mapping from nodes to columns, {IN_ORDER!r} or None", remedy)
    nodes = [each.node for each in wanted]
    chosen: dict[str, list[str]] = {}
    for node, names in columns.items():
        if str(node) not in nodes:
            close = nearest(str(node), nodes)
            raise OptionError(
                "columns", f"the node {clip(node)}", f"one of {nodes}",
                f"did you mean {close!r}?" if close else "name inputs and outputs that have a loss",
            )  # fmt: skip
        chosen[str(node)] = [names] if isinstance(names, str) else [str(name) for name in names]
    return chosen


def _in_order(table: Mapping[str, Any], wanted: Sequence[Wanted], where: str) -> dict[str, list[str]]:
    """Columns for every node: those of its name; for the other nodes the columns left over, in order."""
    chosen = {each.node: [name for name in each.names if name in table][:1] for each in wanted}
    used = {name for names in chosen.values() for name in names}
    left = [name for name in table if name not in used]
    without = [each for each in wanted if each.required and not chosen[each.node]]
    needed = sum(each.width for each in without)
    if len(left) != needed and without:
        listed = ", ".join(f"{each.node}: {each.width}" for each in without)
        raise DataError(where, f"{len(left)} columns", f"{needed} ({listed})", CHOOSE)
    for each in without:
        chosen[each.node], left = left[: each.width], left[each.width :]
    return chosen


def _side_by_side(table: Mapping[str, Any], wanted: Wanted, names: Sequence[str], where: str, gaps: bool) -> Array:
    """The columns of one node, (samples, batch, width), floating."""
    place = f"{where}, node {wanted.node!r}"
    parts = []
    for name in names:
        if name not in table:
            close = nearest(name, table)
            remedy = f"did you mean {close!r}? Else {CHOOSE}" if close else CHOOSE
            raise DataError(place, f"no column {name!r}", f"one of {list(table)}", remedy)
        parts.append(_three_axes(table[name], wanted.width, f"{where}, series {name!r}", gaps))
    if len({part.shape[:2] for part in parts}) > 1:
        raise DataError(
            place, f"columns of several lengths, {[part.shape[0] for part in parts]}", "one", "cut them to one length"
        )
    joined = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)
    if joined.shape[2] != wanted.width:
        what = "one number of a class" if wanted.classes else f"{wanted.width}, one per unit"
        raise DataError(place, f"{joined.shape[2]} columns", what, CHOOSE)
    return joined


def _three_axes(value: object, width: int, where: str, gaps: bool) -> Array:
    """A floating array (samples, batch, units), not copied where it is floating already."""
    array = as_array(where, value)
    if array.dtype.kind not in "biuf":
        raise DataError(where, f"dtype {array.dtype}", "real numbers", "convert it to numbers")
    if array.dtype.kind != "f":
        array = array.astype(np.float64)
    remedy = (
        "replace it by a number, or by NaN as a gap" if gaps
        else "for gaps, pass missing='mask': each is filled, and the steps that read it do not count"
    )  # fmt: skip
    check_finite(where, np.where(np.isnan(array), 0.0, array) if gaps else array, array, remedy)
    if array.ndim == 2 and width == 1 and array.shape[1] != 1:
        array = array[:, :, None]
    elif 1 <= array.ndim < 3:
        array = array.reshape(array.shape[0], 1, array.shape[1] if array.ndim == 2 else 1)
    if array.ndim != 3:
        expected = "(samples,), (samples, units) or (samples, batch, units)"
        raise DataError(where, f"{array.ndim} axes", expected, "arrange the axes as time, batch, units")
    if 0 in array.shape:
        raise DataError(where, f"shape {array.shape}", "at least one sample", "leave out what is empty")
    return array


def _classes(array: Array, wanted: Wanted, where: str) -> Array:
    """Numbers of classes as integers (samples, batch)."""
    labels = array[:, :, 0].astype(np.int64)
    if (labels != array[:, :, 0]).any() or labels.min() < 0 or labels.max() >= wanted.size:
        raise DataError(
            f"{where}, node {wanted.node!r}", f"values from {array.min():g} to {array.max():g}",
            f"the number of a class, 0..{wanted.size - 1}", "number the classes from 0",
        )  # fmt: skip
    return labels
