"""Default parameter names written out, so that a network keeps its parameters when its nodes are renamed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import networkx as nx

from rnngraph.attributes import EdgeRecord, read_edge
from rnngraph.validate import validate


def explicit_parameters(graph: nx.MultiDiGraph) -> nx.MultiDiGraph:
    """``graph`` with the name of every parameter written into ``parameter``, ``bias`` or ``initial``; a new graph.

    Parameters are named after nodes (``W_<source>_<destination>``, ``b_<node>``, ``<node>_0`` and the like) unless a
    name is written. With these names written out, ``networkx.relabel_nodes`` changes no parameter's name or shape. An
    edge with a list of delays gets the name before its ``_d<delay>``; a node without a weighted sum gets no bias.
    Raises GraphError or a subclass for a graph that breaks the contract.
    """
    model = validate(graph)
    result = graph.copy()
    for source, destination, attributes in result.edges(data=True):
        where = f"edge {str(source)!r} -> {str(destination)!r}"
        attributes.update(explicit_edge(read_edge(str(source), str(destination), where, attributes), attributes))
    for node, attributes in result.nodes(data=True):
        checked = model.nodes[str(node)]
        if checked.bias is not None:
            attributes["bias"] = checked.bias
        if isinstance(checked.initial, str):
            attributes["initial"] = checked.initial
    return result


def explicit_edge(record: EdgeRecord, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of the edge that ``record`` was read from, with the names of its parameters written out."""
    written = dict(attributes)
    if record.delays.learned is not None:
        written["delay"] = {**attributes["delay"], "parameter": record.logits}
    weighted = record.port == "s" and record.structure not in ("identity", "fixed")
    if weighted and record.expression is None:  # the names in an expression are written out as it is
        written["parameter"] = record.stem
    return written
