"""From a plain ``networkx.MultiDiGraph`` to a checked, frozen :class:`rnngraph.model.Model`.

Every default is filled in and every part of the contract checked; nothing of the graph is dropped or guessed. Names:

- A parameter name written by the user that equals another name (written or default) is one shared parameter, of one
  shape.
- Two *default* names never share: parallel edges, or nodes whose joined names coincide, must name their parameters.
- Constants of fixed edges are named by the library, ``C_<source>_<destination>``, made unique; so are masks, ``M_...``,
  and effective weights (``rnngraph.connections``).
- Ports are compared in NFKC form, as Python reads names.

The time is linear in the size of the graph.
"""

from __future__ import annotations

from collections.abc import Hashable
from types import MappingProxyType
from typing import Any

import networkx as nx
import sympy

from codegen.functions import FUNCTIONS
from rnngraph.attributes import EdgeRecord, NodeRecord, check_text, read_edge, read_node
from rnngraph.connections import Connections, Parameters
from rnngraph.errors import EquationError, GraphError
from rnngraph.model import Edge, Expression, Model, Node
from rnngraph.parsing import parse_equation
from rnngraph.paths import check_cycles, check_reachability


def validate(graph: nx.MultiDiGraph) -> Model:
    """Check a graph against the contract and return the Model.

    Raises GraphError (EquationError and CycleError included) for what breaks the contract.
    """
    _check_type(graph)
    names = _node_names(graph)
    records = {names[node]: read_node(names[node], attributes) for node, attributes in graph.nodes(data=True)}
    if not any(record.kind == "output" for record in records.values()):
        raise GraphError(
            "graph",
            "no output node",
            "at least one node with kind='output'",
            "set kind='output' on the nodes whose values are wanted",
        )
    edge_records = [
        read_edge(names[source], names[destination], _edge_place(graph, names, source, destination, key), attributes)
        for source, destination, key, attributes in graph.edges(keys=True, data=True)
    ]
    parameters = Parameters()
    connections = Connections(records, parameters)
    incoming: dict[str, list[EdgeRecord]] = {name: [] for name in records}
    for record in edge_records:
        _check_ends(record, records)
        incoming[record.destination].append(record)
        connections.add(record)
    nodes = {name: _node(record, incoming[name], parameters) for name, record in records.items()}
    connections.finish()
    edges = connections.edges
    _check_initial(nodes, edges)
    check_cycles(nodes, edges, {name for each in connections.weights if each.logits for name in each.slices})
    check_reachability(nodes, edges)
    nodes = _mark_forget_gates(nodes, edges)
    return Model(
        MappingProxyType(nodes),
        tuple(edges),
        MappingProxyType(parameters.shapes),
        MappingProxyType(connections.constants),
        tuple(connections.weights),
    )


def _check_type(graph: object) -> None:
    if not isinstance(graph, nx.MultiDiGraph):
        if isinstance(graph, nx.DiGraph):
            remedy = "convert it: nx.MultiDiGraph(graph)"
        elif isinstance(graph, nx.Graph):
            remedy = "its edges have no direction: build nx.MultiDiGraph() and add each edge from source to destination"
        else:
            remedy = "build one with nx.MultiDiGraph(), add_node and add_edge (nx.node_link_graph reads one from JSON)"
        raise GraphError("graph", f"an object of type {type(graph).__name__}", "a networkx.MultiDiGraph", remedy)
    if not graph:
        raise GraphError("graph", "no nodes", "at least one input and one output", "add nodes with add_node")


def _node_names(graph: nx.MultiDiGraph) -> dict[Hashable, str]:
    names: dict[Hashable, str] = {}
    seen: dict[str, Hashable] = {}
    for node in graph.nodes:
        name = check_text(f"node {node!r}", "name", str(node))
        if name in seen:
            raise GraphError(
                f"nodes {seen[name]!r} and {node!r}",
                f"one name {name!r} for both",
                "nodes whose str() differ",
                "rename one with nx.relabel_nodes",
            )
        seen[name] = node
        names[node] = name
    return names


def _edge_place(graph: nx.MultiDiGraph, names: dict[Hashable, str], source: Any, destination: Any, key: Any) -> str:
    parallel = f" (key {key!r})" if graph.number_of_edges(source, destination) > 1 else ""
    return f"edge {names[source]!r} -> {names[destination]!r}{parallel}"


def _check_ends(record: EdgeRecord, records: dict[str, NodeRecord]) -> None:
    """The kinds and sizes of the two nodes of an edge."""
    source, destination = records[record.source], records[record.destination]
    if destination.kind == "input":
        raise GraphError(
            record.where,
            f"an edge into the input {destination.name!r}",
            "edges out of inputs only, as their values come from the data",
            "turn the edge round, or make the destination a unit",
        )
    if record.port != "s" and source.size not in (destination.size, 1):
        raise GraphError(
            record.where,
            f"a source of size {source.size} on port {record.port!r} of a node of size {destination.size}",
            f"a source of size {destination.size}, or 1",
            "make the sizes equal, or put a unit with a dense edge in between",
        )
    if record.port == "s" and record.structure in ("diagonal", "identity") and source.size != destination.size:
        raise GraphError(
            record.where,
            f"structure={record.structure!r} from size {source.size} to size {destination.size}",
            "equal sizes",
            "make the sizes equal, or use structure='dense'",
        )


def _node(record: NodeRecord, incoming: list[EdgeRecord], parameters: Parameters) -> Node:
    """One node with its equation read and matched with the ports that feed it."""
    if record.kind == "input":
        return Node(record.name, "input", record.size, None, None, 0.0)
    ports: dict[str, EdgeRecord] = {}
    weighted = False
    for edge in incoming:
        if edge.port == "s":
            weighted = True
        elif edge.port in ports:
            raise GraphError(
                edge.where,
                f"port {edge.port!r} of node {record.name!r}, which {ports[edge.port].where} feeds too",
                "one edge per named port",
                "rename one of the ports and add it in the equation, or use port='s' for a weighted sum",
            )
        else:
            ports[edge.port] = edge
    has_sum = weighted or (record.bias is not None and record.bias is not False)
    equation = _equation(record, ports, has_sum)
    bias = None
    if isinstance(record.bias, str):
        bias = parameters.add(record.bias, (record.size,), record.where, False, "")
    elif has_sum and record.bias is not False:
        remedy = "give one of them a bias='...' or parameter='...' of its own"
        bias = parameters.add(f"b_{record.name}", (record.size,), record.where, True, remedy)
    if isinstance(record.initial, str):
        default = record.initial == f"{record.name}_0"
        parameters.add(record.initial, (record.size,), record.where, default, "rename the node or the parameter")
    return Node(record.name, record.kind, record.size, equation, bias, record.initial)


def _equation(record: NodeRecord, ports: dict[str, EdgeRecord], has_sum: bool) -> Expression:
    text: object = "s" if record.equation is None else record.equation
    equation, used = parse_equation(text, {"s", *ports}, record.where)
    if "s" in used and not has_sum:
        written = "no equation, which means identity(s)," if record.equation is None else "s in its equation"
        raise EquationError(
            record.where,
            f"{written} and no weighted sum",
            "an edge with port='s' (the default port), or bias=True, for a node that uses s",
            f"write an equation of its ports ({', '.join(ports)})" if ports else "add an edge into the node",
        )
    if has_sum and "s" not in used:
        raise EquationError(
            record.where,
            "a weighted sum (edges to port 's', or a bias) that its equation does not use, or that cancels out",
            "s in the equation",
            "add s to the equation, name the edge's port, or remove the bias",
        )
    for port, edge in ports.items():
        if port not in used:
            raise EquationError(
                record.where,
                f"port {port!r}, fed by {edge.where}, that its equation does not use, or that cancels out",
                "every port in the equation",
                f"add {port} to the equation, or remove the edge",
            )
    if not used:
        raise EquationError(
            record.where,
            "an equation without any name",
            "an equation of s or of ports, as a mere number needs no node",
            "write the number into the equations that use it, or learn it: bias=True with no edge",
        )
    return equation


def _check_initial(nodes: dict[str, Node], edges: list[Edge]) -> None:
    delayed = {edge.source for edge in edges if edge.delay != 0}
    for name, node in nodes.items():
        if isinstance(node.initial, str) and name not in delayed:
            raise GraphError(
                f"node {name!r}",
                "a learned initial value of a node that no edge reads with a delay or a look-ahead",
                "a delayed edge out of the node, as no other reads values outside of the sequence",
                "remove 'initial', or add a delay to an edge out of the node",
            )


def _mark_forget_gates(nodes: dict[str, Node], edges: list[Edge]) -> dict[str, Node]:
    """Mark the sigmoid nodes that multiply the past of the very node they feed, as f in c = f*c_prev + i*z.

    Only a product with the destination's own past is a memory; a GRU's reset gate, which multiplies another node's
    past, is not marked. In a loop that runs backward in time the past is what is read ahead, so either sign counts.
    """
    sigmoid = FUNCTIONS["sigmoid"].symbol(sympy.Symbol("s", real=True))
    sources: dict[str, dict[str, Edge]] = {}
    for edge in edges:
        if edge.port != "s":
            sources.setdefault(edge.destination, {})[edge.port] = edge
    gates: set[str] = set()
    for name, ports in sources.items():
        own_past = {port for port, edge in ports.items() if edge.source == name and edge.delay != 0}
        if not own_past:
            continue
        for product in nodes[name].equation.atoms(sympy.Mul):  # type: ignore[union-attr]
            factors = {factor.name for factor in product.args if factor.is_Symbol}
            if factors & own_past:
                gates.update(ports[port].source for port in factors if port in ports)
    return {
        name: Node(node.name, node.kind, node.size, node.equation, node.bias, node.initial, True)
        if name in gates and node.equation == sigmoid
        else node
        for name, node in nodes.items()
    }
