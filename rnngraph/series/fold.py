"""A scaling folded into a network: fixed nodes before its inputs and after its outputs.

With the scaling v = (value - o) / f of each unit, an input x and an output y become

    x_scaled(t) = diag(1/f) x(t) + offset_x,   offset_x = -o/f
    y(t) = diag(f) y_scaled(t) + offset_y,     offset_y = o

and x_scaled and y_scaled take over all edges of the nodes that were x and y. So delays, loops and initial values go on
in scaled units, and the network is the same at every step, the first ones included.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from typing import Any, TypeAlias

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from rnngraph.errors import DataError
from rnngraph.model import Model
from rnngraph.notes import SCALED, Notes, read_notes
from rnngraph.transform.parameters import explicit_parameters
from rnngraph.validate import validate
from rnngraph.words import clip, nearest

Array: TypeAlias = NDArray[Any]


def fold(
    graph: nx.MultiDiGraph,
    params: Mapping[str, Any],
    offset: Mapping[str, Array],
    factor: Mapping[str, Array],
    left: Collection[str],
) -> tuple[nx.MultiDiGraph, dict[str, Array]]:
    """The network in original units with its parameters: see ``Scaling.fold``. The given ones stay as they are.

    Raises DataError for an input or output that ``offset`` and ``left`` do not know, or that has another size, and
    for parameters of other names; GraphError for a bad graph.
    """
    model = validate(graph)
    _check_parameters(model, params)
    notes = read_notes(graph)
    chosen: dict[Hashable, str] = {}  # node -> name in the scaling
    for node in graph:
        name = str(node)
        if model.nodes[name].kind == "unit" or name in {*left, *notes.gates, notes.clock}:
            continue
        known = name if name in offset else notes.measured.get(name, name)
        if known not in left:
            _check_known(model, name, known, offset)
            chosen[node] = known
    taken = {str(node) for node in graph}
    inner = {node: _fresh(f"{node}_scaled", taken) for node in chosen}
    folded = nx.relabel_nodes(explicit_parameters(graph), inner, copy=True)
    values = {name: np.array(value) for name, value in params.items()}
    folded.graph[SCALED] = _noted(graph, notes, {str(node): name for node, name in chosen.items()}, offset, factor)
    folded.graph[SCALED] |= {inner[node]: _note(node, offset[name], factor[name]) for node, name in chosen.items()}
    for node, name in chosen.items():
        attributes = dict(folded.nodes[inner[node]])
        size, kind = attributes["size"], attributes["kind"]
        bias = _fresh(f"offset_{node}", set(values))
        if kind == "input":
            diagonal, values[bias] = 1.0 / factor[name], -offset[name] / factor[name]
            folded.nodes[inner[node]].clear()
            folded.add_node(inner[node], kind="unit", size=size, bias=bias)
            folded.add_node(node, **attributes)
            folded.add_edge(node, inner[node], structure="fixed", value=np.diag(diagonal))
        else:
            diagonal, values[bias] = factor[name], offset[name].copy()
            folded.nodes[inner[node]]["kind"] = "unit"
            folded.add_node(node, kind="output", size=size, bias=bias)
            folded.add_edge(inner[node], node, structure="fixed", value=np.diag(diagonal))
    return folded, {name: values[name] for name in validate(folded).parameters}


def _noted(
    graph: nx.MultiDiGraph, notes: Notes, chosen: Mapping[str, str], offset: Mapping[str, Array],
    factor: Mapping[str, Array],
) -> dict[str, Any]:  # fmt: skip
    """The notes of units that hold values of an input or output: from now on scaled ones, or scaled once more."""
    scaled = dict(graph.graph.get(SCALED, {}))
    for unit, origin in notes.origins.items():
        if (name := chosen.get(origin.series)) is not None:
            own = (0.0, 1.0) if origin.offset is None or origin.factor is None else (origin.offset, origin.factor)
            scaled[unit] = _note(origin.series, offset[name] + factor[name] * own[0], factor[name] * own[1])
    return scaled


def _note(node: Hashable, offset: Array, factor: Array) -> dict[str, Any]:
    """What ``prepare`` needs to know of a unit that holds scaled values, in JSON's own types."""
    return {"of": str(node), "offset": offset.tolist(), "factor": factor.tolist()}


def _check_known(model: Model, name: str, known: str, offset: Mapping[str, Array]) -> None:
    where = f"{model.nodes[name].kind} {name!r}"
    if known not in offset:
        close = nearest(known, offset)
        raise DataError(
            where, "no scaling of this name", f"a scaling for each input and output, there is {list(offset)}",
            f"did you mean {close!r}?" if close else "fit the scaling with it, or with leave=(name,)",
        )  # fmt: skip
    if offset[known].size != model.nodes[name].size:
        raise DataError(
            where, f"a scaling of {offset[known].size} units", f"{model.nodes[name].size}, the size of the node",
            "fit the scaling on the node's series",
        )  # fmt: skip


def _check_parameters(model: Model, params: Mapping[str, Any]) -> None:
    if not isinstance(params, Mapping) or params.keys() != model.parameters.keys():
        found = f"those of {clip(list(params))}" if isinstance(params, Mapping) else f"a {type(params).__name__}"
        raise DataError(
            "params", found, f"the network's parameters, {list(model.parameters)}", "give its own parameters"
        )


def _fresh(name: str, taken: set[str]) -> str:
    """``name``, or with a number where it is taken; it is taken afterwards."""
    number, fresh = 1, name
    while fresh in taken:
        number += 1
        fresh = f"{name}_{number}"
    taken.add(fresh)
    return fresh
