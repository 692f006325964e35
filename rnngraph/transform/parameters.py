"""Default parameter names written out, so that a network keeps its parameters when its nodes are renamed."""

from __future__ import annotations

import networkx as nx

from rnngraph.attributes import read_edge
from rnngraph.validate import validate


def explicit_parameters(graph: nx.MultiDiGraph) -> nx.MultiDiGraph:
    """``graph`` with the name of every weight and bias written into its ``parameter`` or ``bias``; a new graph.

    Parameters are named after nodes (``W_<source>_<destination>``, ``b_<node>``) unless a name is written. With these
    names written out, ``networkx.relabel_nodes`` changes no parameter's name or shape. A learned initial value has no
    attribute for its name: it stays ``<node>_0`` and follows the node. An edge with a list of delays gets the name
    before its ``_d<delay>``. A node without a weighted sum gets no bias. Raises GraphError and its kin for a graph that
    breaks the contract.
    """
    model = validate(graph)
    result = graph.copy()
    for source, destination, attributes in result.edges(data=True):
        record = read_edge(str(source), str(destination), f"edge {str(source)!r} -> {str(destination)!r}", attributes)
        if record.port == "s" and record.structure not in ("identity", "fixed"):
            attributes["parameter"] = record.stem
    for node, attributes in result.nodes(data=True):
        bias = model.nodes[str(node)].bias
        if bias is not None:
            attributes["bias"] = bias
    return result
