"""The columns of a file -> the data that training takes, by ``rnngraph.prepare`` and ``rnngraph.windows``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import networkx as nx

from rnngraph.errors import OptionError
from rnngraph.files import load_table
from rnngraph.series import Prepared, prepare, windows
from rnngraph.series.columns import IN_ORDER, Columns
from rnngraph.validate import validate


def read_training(
    path: str,
    graph: nx.MultiDiGraph,
    inputs: Mapping[str, Sequence[str]],
    targets: Mapping[str, Sequence[str]],
    window: int | None = None,
    **options: Any,
) -> Prepared:
    """The table at ``path`` as the network's data; ``options`` go to ``prepare``.

    ``inputs`` and ``targets`` say which columns (or npz arrays) make up a node's data, side by side. A node left out
    takes the column of its own name; if no column is chosen at all and the table has just as many others as the other
    nodes need, these are taken in order. ``window`` cuts long sequences into sequences of that many steps, a rest left
    out. Raises OptionError and DataError.
    """
    model = validate(graph)
    for what, chosen, nodes in (("--input", inputs, model.inputs), ("--target", targets, model.outputs)):
        for name in chosen:
            if name not in [node.name for node in nodes]:
                raise OptionError(what, repr(name), f"one of {[node.name for node in nodes]}", "name one of them")
    table = load_table(path)
    columns: Columns = {**inputs, **targets}
    if not columns and all(array.ndim == 1 for array in table.values()):
        columns = IN_ORDER
    prepared = prepare(table, graph, columns=columns, **options)
    if window is None:
        return prepared
    if window > max(prepared.lengths):
        raise OptionError("--window", str(window), f"at most {max(prepared.lengths)} steps", "give a shorter window")
    return windows(prepared, window)


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
