"""Delays as nodes and back: an edge of delay n equals n unit delays, a chain of units that copy their source.

One chain serves all edges out of a node. Where a(t) = v for t <= 0, the unit a_k(t) = a(t-k) starts from v as well, be
it a number or a learned parameter, which they share by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
import sympy

from rnngraph.attributes import EdgeRecord, read_constant, read_edge, read_mask, read_selection
from rnngraph.equations import fresh_name
from rnngraph.errors import DataError, UnsupportedError
from rnngraph.model import Expression, Model
from rnngraph.parsing import parse_equation, written_names
from rnngraph.transform.arrays import Array, Arrays, States, learned_value, read_parameters, read_state, returned
from rnngraph.transform.parameters import explicit_parameters
from rnngraph.validate import validate
from rnngraph.words import normalize_name

Connection = tuple[Hashable, Hashable, dict[str, Any]]  # source, destination, attributes

SUM = sympy.Symbol("s", real=True)


def single_delays(graph: nx.MultiDiGraph) -> nx.MultiDiGraph:
    """The same network with every name written out and one edge for each delay of a list or a matrix; a new graph.

    A delay for each pair of units becomes one masked edge per delay, all with the same weight; a delay for each unit of
    an identity edge one fixed edge per delay. Masks and values are arrays. Raises GraphError or a subclass for a graph
    that breaks the contract, UnsupportedError for a learned delay, whose softmax ties its delays, and for a diagonal
    edge with several delays.
    """
    written = explicit_parameters(graph)
    edges: list[Connection] = []
    for source, destination, attributes in written.edges(data=True):
        record = read_edge(str(source), str(destination), f"edge {str(source)!r} -> {str(destination)!r}", attributes)
        sizes = written.nodes[source]["size"], written.nodes[destination]["size"]
        if record.delays.learned is not None:
            raise UnsupportedError(
                record.where,
                "a learned delay, all of whose weights depend on each other",
                "delays that are fixed, for a transformation that takes edges of one delay each",
                "make it plain first: hardened = rg.harden(graph, params)",
            )
        mask, selection = read_mask(record, *sizes), read_selection(record, *sizes)
        for position, delay in enumerate(record.delays.steps):
            changed = {**attributes, "delay": delay}
            if mask is not None:
                changed["mask"] = mask  # as an array, whatever was written: a file's mask is a list
            if record.structure == "fixed":
                changed["value"] = read_constant(record, *sizes)[position]
            elif selection is not None and record.structure in ("diagonal", "identity"):
                changed |= _of_units(record, selection[position])
            elif selection is not None:
                chosen = selection[position] if mask is None else selection[position] * mask
                if not chosen.any():
                    continue
                changed |= {"structure": "masked", "mask": chosen}
            elif record.delays.listed:
                changed = rename_weight(changed, lambda name, delay=delay: f"{name}_d{delay}")  # type: ignore[misc]
            edges.append((source, destination, changed))
    return build(written, written.nodes, edges)


def _of_units(record: EdgeRecord, chosen: Array) -> dict[str, Any]:
    """What becomes of an edge unit by unit for those of its units that have one delay (1 in ``chosen``)."""
    if chosen.all():
        return {}
    if record.structure == "diagonal":  # the weights of a mask would be a matrix, and the parameter is a vector
        size = len(chosen)
        raise UnsupportedError(
            record.where, "a delay for each unit with structure='diagonal'",
            "one delay for all of its units, for a transformation that takes edges of one delay each",
            f"use structure='masked' with mask=numpy.eye({size}), a matrix of delays of shape ({size}, {size}) and a"
            " weight with these diagonal entries",
        )  # fmt: skip
    return {"structure": "fixed", "value": np.diag(chosen)}


def rename_weight(attributes: Mapping[str, Any], rename: Callable[[str], str]) -> dict[str, Any]:
    """The attributes of an edge with other names for the parameters of its weight, those in an expression too."""
    changed = dict(attributes)
    if changed.get("parameter") is not None:
        changed["parameter"] = rename(changed["parameter"])
    if changed.get("expression") is not None:
        expression, used = parse_equation(changed["expression"], written_names(changed["expression"]), "expression")
        changed["expression"] = expression.xreplace(
            {sympy.Symbol(name, real=True): sympy.Symbol(rename(name), real=True) for name in sorted(used)}
        )
    return changed


def port_of(attributes: Mapping[str, Any]) -> Expression:
    """The symbol that an edge enters its destination's equation under; ``SUM`` for the weighted sum."""
    return sympy.Symbol(normalize_name(attributes.get("port") or "s"), real=True)


def build(graph: nx.MultiDiGraph, nodes: Iterable[Hashable], edges: Iterable[Connection]) -> nx.MultiDiGraph:
    """A new graph of some nodes of ``graph``, with their attributes, and the given edges."""
    result = nx.MultiDiGraph(**graph.graph)
    result.add_nodes_from((node, dict(graph.nodes[node])) for node in nodes)
    for source, destination, attributes in edges:
        result.add_edge(source, destination, **attributes)
    return result


def expand_delays(graph: nx.MultiDiGraph, params: Arrays | None = None, state: Arrays | None = None) -> Any:
    """The same network with no delay longer than 1: an edge of delay n reads a chain of n - 1 units.

    The unit ``<node>_<k>`` holds the value of the node k steps ago; look-ahead edges stay as they are. Outputs, loss,
    gradients and the names of parameters stay. Returns the graph; (graph, params) where ``params`` is given; (graph,
    params, state) where ``state`` is given, (depth, batch, size) by the names that a kernel takes, oldest first. Raises
    GraphError or a subclass for a graph that breaks the contract, DataError for arrays that do not fit it,
    UnsupportedError for a learned delay and for a diagonal edge with several.
    """
    model = validate(graph)
    single = single_delays(graph)
    values, states = read_parameters(model, params), read_state(model, state)
    result = build(single, single.nodes, ())
    taken = set(model.nodes)
    chains: dict[Hashable, list[Hashable]] = {}  # node -> itself, and the units that hold its past
    for node in single:
        name = str(node)
        depth = longest_delay(single, node)
        given = states.before.pop(name, None) if depth > 1 else None
        chains[node] = [node]
        for k in range(1, depth):
            unit = fresh_name(f"{name}_{k}", taken)
            taken.add(unit)
            source = model.nodes[name]
            result.add_node(unit, size=source.size, bias=False, initial=source.initial)
            result.add_edge(chains[node][-1], unit, structure="identity", delay=1)
            chains[node].append(unit)
        if given is not None:
            states.before |= {str(unit): given[depth - 1 - k : depth - k] for k, unit in enumerate(chains[node])}
    for source, destination, data in single.edges(data=True):
        late = data["delay"] - 1
        result.add_edge(chains[source][max(late, 0)], destination, **{**data, "delay": min(data["delay"], 1)})
    return returned(result, values, states, (params, state))


def longest_delay(graph: nx.MultiDiGraph, node: Hashable) -> int:
    """The longest delay out of a node of a graph with one delay per edge."""
    return max((0, *(int(data["delay"]) for _, _, data in graph.out_edges(node, data=True))))


def merge_delays(graph: nx.MultiDiGraph, params: Arrays | None = None, state: Arrays | None = None) -> Any:
    """The same network without chains of delays: what reads a copy of a node's past reads that node, so much earlier.

    A unit is such a copy when its one edge has structure "identity" and a delay, its activation is the identity, it has
    no bias, and it starts from the value that its source starts from. Outputs and gradients stay. Arguments and
    returned values as in ``expand_delays``. Raises GraphError or a subclass for a graph that breaks the contract,
    DataError for arrays that do not fit it, and where the states of a copy and of its source contradict each other,
    OptionError where a state depends on a learned initial value and no ``params`` are given,
    UnsupportedError for a learned delay (``rg.harden`` makes it plain).
    """
    model = validate(graph)
    merge = _Merge(model, single_delays(graph), read_parameters(model, params), read_state(model, state))
    for node in list(merge.graph):
        merge.bypass(node)
    return returned(merge.graph, merge.values, merge.states, (params, state))


@dataclass
class _Merge:
    """A network on the way to one without chains."""

    model: Model
    graph: nx.MultiDiGraph
    values: dict[str, Array] | None
    states: States

    def bypass(self, node: Hashable) -> None:
        """Let the readers of ``node`` read its source, where ``node`` is a copy of that."""
        checked, incoming = self.model.nodes[str(node)], list(self.graph.in_edges(node, data=True))
        if checked.kind != "unit" or checked.equation != SUM or checked.bias is not None or len(incoming) != 1:
            return
        source, _, data = incoming[0]
        delay, late = data["delay"], longest_delay(self.graph, node)
        starts_alike = late == 0 or checked.initial == self.model.nodes[str(source)].initial
        if data.get("structure") != "identity" or delay < 1 or source == node or not starts_alike:
            return
        if any(read["delay"] < 0 for _, _, read in self.graph.out_edges(node, data=True)):
            return  # beyond the sequence it starts from a value, where its source may not
        if late > 0:
            self._join_states(node, source, delay, late)
        for _, reader, read in list(self.graph.out_edges(node, data=True)):
            self.graph.add_edge(source, reader, **{**read, "delay": read["delay"] + delay})
        self.graph.remove_node(node)
        self.states.before.pop(str(node), None)

    def _join_states(self, node: Hashable, source: Hashable, delay: int, late: int) -> None:
        """The last ``late`` values of ``node`` are values of ``source``, ``delay`` steps older."""
        older, own = self.states.before.get(str(node)), self.states.before.get(str(source))
        if older is None and own is None:
            return
        older = self._initial(node, late, own) if older is None else older
        own = self._initial(source, longest_delay(self.graph, source), older) if own is None else own
        count = min(len(own) - delay, late)  # so many of the older values stand in the source's own state, too
        if not np.array_equal(own[len(own) - delay - count : len(own) - delay], older[late - count :]):
            raise DataError(
                f"state of {str(node)!r}",
                f"values that are not those of {str(source)!r}, {delay} steps earlier",
                "the same values, as the one is a copy of the other",
                "give states as forward returns them",
            )
        self.states.before[str(source)] = np.concatenate([older[: late - count], own])

    def _initial(self, node: Hashable, depth: int, like: Any) -> Array:
        """The last ``depth`` values of a node whose state is not given."""
        checked = self.model.nodes[str(node)]
        start: Any = checked.initial
        if isinstance(start, str):
            start = learned_value(start, self.values, f"node {checked.name!r}")
        return np.full((depth, like.shape[1], checked.size), start, dtype=like.dtype)
