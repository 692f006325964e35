"""Model -> Model: units put together into layers, their edges into dense, diagonal and sparse weights.

What the caller names stays: ``Grouping`` has the units of each layer and where each parameter of the given model lies.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from codegen.pattern import Indices, Pattern
from codegen.program import NamedParameter
from rnngraph.equations import fresh_name
from rnngraph.model import Edge, Model, Node
from rnngraph.units.partition import layers_of

Value = TypeVar("Value")


class Entry(NamedTuple):
    """Where a parameter lies: the first row and column in ``parameter``, or the first number of a vector; from one row
    of it to the next are ``stride`` numbers, None where they are those of a row of ``parameter``."""

    parameter: str
    row: int
    column: int
    stride: int | None = None


@dataclass(frozen=True)
class Grouping:
    """``model`` is what is derived and compiled, ``given`` what was declared. ``layers`` has the units of each layer of
    ``model`` that was made here; ``entries`` where each parameter of ``given`` lies, but for those that ``model`` has
    by the same name."""

    given: Model
    model: Model
    layers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    entries: Mapping[str, Entry] = field(default_factory=dict)

    def losses(self, given: Mapping[str, object]) -> dict[str, object]:
        """The loss of each output of ``model``, which all units of a layer share."""
        losses = {}
        for node in self.model.outputs:
            unit = self.layers.get(node.name, (node.name,))[0]
            if unit in given:
                losses[node.name] = given[unit]
        return losses

    def parameter(self, name: str) -> str:
        """The parameter of ``model`` that holds one of ``given``."""
        return self.entries[name].parameter if name in self.entries else name

    def by_unit(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """What is known of nodes of ``model``, for those of ``given``."""
        return {unit: value for name, value in values.items() for unit in self.layers.get(name, (name,))}

    def scaled(self, drawn: Iterable[NamedParameter]) -> tuple[NamedParameter, ...]:
        """The parameters of ``model`` with the scale of what is drawn for sparse weights: Glorot's rule, which takes a
        vector for one weight into each unit and one out of it, with the mean numbers of these."""
        patterns = {edge.parameter: edge.pattern for edge in self.model.edges if edge.pattern is not None}
        found = []
        for place in drawn:
            pattern = patterns.get(place.name)
            if pattern is not None:
                ends = (len(np.unique(units)) for units in (pattern.sources, pattern.destinations))
                fans = sum(len(pattern) / count for count in ends)
                place = replace(place, scale=round((2.0 / fans) ** 0.5, 6))
            found.append(place)
        return tuple(found)

    def named(self, drawn: Iterable[NamedParameter]) -> tuple[NamedParameter, ...]:
        """The parameters that the caller names, given where those of ``model`` lie."""
        places = {place.name: place for place in drawn}
        found = []
        for name, shape in self.given.parameters.items():
            entry = self.entries.get(name)
            if entry is None:
                found.append(places[name])
                continue
            whole = places[entry.parameter]
            offset = whole.offset + entry.row * whole.stride + entry.column
            stride = whole.stride if entry.stride is None else entry.stride
            found.append(NamedParameter(name, shape, offset, stride, whole.rule))
        return tuple(found)


def as_given(model: Model) -> Grouping:
    """The model as it is."""
    return Grouping(model, model)


def group_units(model: Model, losses: Mapping[str, object]) -> Grouping:
    """The model with its units put together into layers, as far as ``layers_of`` finds some."""
    layers = layers_of(model, losses)
    return _Merge(model, layers).run() if layers else as_given(model)


class _Merge:
    def __init__(self, model: Model, layers: Sequence[tuple[str, ...]]) -> None:
        self.model = model
        self.layers: dict[str, tuple[str, ...]] = {}
        self.home: dict[str, tuple[str, int]] = {name: (name, 0) for name in model.nodes}
        merged = {name for units in layers for name in units}
        taken = set(model.nodes)
        for units in layers:
            name = _layer_name(model.nodes[units[0]], units)
            if name in taken:
                name = fresh_name(f"{name}_{model.nodes[units[0]].kind}s", taken)
            taken.add(name)
            self.layers[name] = units
            self.home.update((unit, (name, column)) for column, unit in enumerate(units))
        self.sizes = {name: len(units) for name, units in self.layers.items()}
        self.sizes.update((name, node.size) for name, node in model.nodes.items() if name not in merged)
        self.parameters: dict[str, tuple[int, ...]] = {}
        self.constants: dict[str, NDArray[np.float64]] = {}
        self.entries: dict[str, Entry] = {}
        # Names that stay: a layer's parameters are named around them.
        self.names = {*model.constants}
        self.edges: list[Edge] = []

    def run(self) -> Grouping:
        pairs: dict[tuple[str, str], list[Edge]] = defaultdict(list)
        ports: dict[tuple[str, str, str], Edge] = {}
        for edge in self.model.edges:
            source, destination = self.home[edge.source][0], self.home[edge.destination][0]
            if edge.port != "s":
                ports.setdefault((source, destination, edge.port), edge)
            else:
                pairs[source, destination].append(edge)
        self._keep_names(pairs)
        nodes = self._nodes()
        for (source, destination), edges in pairs.items():
            if source in self.layers or destination in self.layers:
                self._merge_edges(source, destination, edges)
            else:
                self.edges += edges
        self.edges += [
            Edge(source, destination, edge.delay, port, "identity", None)
            for (source, destination, port), edge in ports.items()
        ]
        model = Model(nodes, tuple(self.edges), self.parameters, self.constants, self.model.weights)
        return Grouping(self.model, model, self.layers, self.entries)

    def _keep_names(self, pairs: Mapping[tuple[str, str], list[Edge]]) -> None:
        """The parameters and constants that belong to no layer alone are what they were."""
        moved: set[str] = set()
        for (source, destination), edges in pairs.items():
            if source in self.layers or destination in self.layers:
                moved.update(edge.parameter for edge in edges if edge.parameter is not None)
        moved.update(
            bias
            for units in self.layers.values()
            for unit in units
            if (bias := self.model.nodes[unit].bias) is not None
        )
        self.parameters.update((name, shape) for name, shape in self.model.parameters.items() if name not in moved)
        self.constants.update((name, value) for name, value in self.model.constants.items() if name not in moved)
        self.names |= self.parameters.keys()
        self.names.update(name for weight in self.model.weights for name in (weight.name, *weight.slices))

    def _parameter(self, wanted: str, shape: tuple[int, ...]) -> str:
        name = fresh_name(wanted, self.names)
        self.names.add(name)
        self.parameters[name] = shape
        return name

    def _nodes(self) -> dict[str, Node]:
        """The nodes, a layer in the place of the first of its units."""
        nodes: dict[str, Node] = {}
        for name, node in self.model.nodes.items():
            layer, _ = self.home[name]
            if layer not in self.layers:
                nodes[name] = node
            elif layer not in nodes:
                units = self.layers[layer]
                bias = None
                if node.bias is not None:
                    bias = self._parameter(f"b_{layer}", (len(units),))
                    for column, unit in enumerate(units):
                        self.entries[str(self.model.nodes[unit].bias)] = Entry(bias, 0, column)
                nodes[layer] = Node(layer, node.kind, len(units), node.equation, bias, node.initial, node.forget_gate)
        return nodes

    # Edges between two nodes of which one at least is a layer.

    def _merge_edges(self, source: str, destination: str, edges: Iterable[Edge]) -> None:
        learned: list[Edge] = []
        fixed: list[Edge] = []
        for edge in edges:
            found = learned if edge.parameter is not None and edge.parameter in self.model.parameters else fixed
            found.append(edge)
        if learned:
            self._merge_learned(source, destination, learned)
        if fixed:
            self._add_fixed(source, destination, fixed)

    def _merge_learned(self, source: str, destination: str, edges: list[Edge]) -> None:
        """Edges of one delay are dense or diagonal where they can be; all others are one sparse product."""
        rows, columns, delays = self._ends(edges)
        by_delay = np.argsort(delays, kind="stable").astype(np.int32)
        steps, starts = np.unique(delays[by_delay], return_index=True)
        rest: list[Indices] = []
        for delay, chosen in zip(steps.tolist(), np.split(by_delay, starts[1:]), strict=True):
            wanted = f"W_{source}_{destination}" + (f"_d{delay}" if len(steps) > 1 else "")
            if self._is_diagonal(source, destination, rows[chosen], columns[chosen]):
                self._add_diagonal(source, destination, delay, [edges[k] for k in chosen], wanted)
            elif self._is_complete(source, destination, rows[chosen], columns[chosen]):
                self._add_dense(source, destination, delay, [edges[k] for k in chosen], wanted)
            else:
                rest.append(chosen)
        if rest:  # in the order in which they lie in memory
            self._add_sparse(source, destination, [edges[k] for k in np.sort(np.concatenate(rest))])

    def _ends(self, edges: Sequence[Edge]) -> tuple[Indices, Indices, Indices]:
        """The first source, the first destination and the delay of each edge."""
        count, home = len(edges), self.home
        return (
            np.fromiter((home[edge.source][1] for edge in edges), np.int32, count),
            np.fromiter((home[edge.destination][1] for edge in edges), np.int32, count),
            np.fromiter((edge.delay for edge in edges), np.int32, count),
        )

    def _is_diagonal(self, source: str, destination: str, rows: Indices, columns: Indices) -> bool:
        size = self.sizes[source]
        if not (source in self.layers and destination in self.layers and size == self.sizes[destination]):
            return False
        return len(rows) == size and bool((rows == columns).all()) and len(np.unique(rows)) == size

    def _is_complete(self, source: str, destination: str, rows: Indices, columns: Indices) -> bool:
        """Whether every unit (or the whole node) is joined with every one of the other side, once."""
        height = self.sizes[source] if source in self.layers else 1
        width = self.sizes[destination] if destination in self.layers else 1
        return len(rows) == height * width and len(np.unique(rows.astype(np.int64) * width + columns)) == len(rows)

    def _add_diagonal(self, source: str, destination: str, delay: int, edges: Iterable[Edge], wanted: str) -> None:
        name = self._parameter(wanted, (self.sizes[source],))
        for edge in edges:
            self.entries[str(edge.parameter)] = Entry(name, 0, self.home[edge.source][1])
        self.edges.append(Edge(source, destination, delay, "s", "diagonal", name))

    def _add_dense(self, source: str, destination: str, delay: int, edges: Iterable[Edge], wanted: str) -> None:
        name = self._parameter(wanted, (self.sizes[source], self.sizes[destination]))
        for edge in edges:
            self.entries[str(edge.parameter)] = Entry(name, self.home[edge.source][1], self.home[edge.destination][1])
        self.edges.append(Edge(source, destination, delay, "s", "dense", name))

    def _add_sparse(self, source: str, destination: str, edges: Sequence[Edge]) -> None:
        """One vector of weights, in the order in which the units of the destination read them."""
        rows, columns = self._part(source), self._part(destination)
        ends = self._ends(edges)
        order = np.lexsort((ends[0], ends[2], ends[1]))
        area = rows * columns
        name = self._parameter(f"W_{source}_{destination}", (area * len(edges),))
        for edge, number in zip(edges, np.argsort(order).tolist(), strict=True):
            self.entries[str(edge.parameter)] = Entry(name, 0, area * number, columns)
        self._add_pattern(name, source, destination, [end[order] for end in ends], rows, columns)

    def _add_fixed(self, source: str, destination: str, edges: list[Edge]) -> None:
        """Weights that are not learned: those of fixed edges, and 1 for "identity"."""
        rows, columns = self._part(source), self._part(destination)
        values = [
            np.eye(rows, columns) if edge.parameter is None else self.model.constants[edge.parameter] for edge in edges
        ]
        name = fresh_name(f"C_{source}_{destination}", self.names)
        self.names.add(name)
        self.constants[name] = np.concatenate([value.reshape(-1) for value in values])
        self._add_pattern(name, source, destination, self._ends(edges), rows, columns)

    def _part(self, node: str) -> int:
        """How many units of ``node`` an edge joins: one of a layer, or all."""
        return 1 if node in self.layers else self.sizes[node]

    def _add_pattern(
        self, name: str, source: str, destination: str, ends: Sequence[Indices], rows: int, columns: int
    ) -> None:
        """An edge with a pattern; ``ends`` as ``_ends`` gives them, edge by edge in the order of the weights."""
        area = rows * columns
        inside = np.indices((rows, columns)).reshape(2, -1).astype(np.int32)
        first_sources, first_destinations, each_delay = ends
        sources = (first_sources[:, None] + inside[0]).reshape(-1)
        destinations = (first_destinations[:, None] + inside[1]).reshape(-1)
        delays = np.repeat(each_delay, area)
        count = len(each_delay) * area
        order = np.lexsort((sources, delays, destinations))
        pattern = Pattern(
            name.removeprefix("W_").removeprefix("C_"), self.sizes[source], self.sizes[destination], count,
            sources[order], destinations[order], delays[order], np.arange(count, dtype=np.int32)[order],
        )  # fmt: skip
        longest = int(delays.max())
        self.edges.append(Edge(source, destination, longest, "s", "sparse", name, pattern))


def _layer_name(node: Node, units: Sequence[str]) -> str:
    """What the names of all units begin with, or else a name for what they compute."""
    common = re.sub(r"[\W_]+$", "", _common_start(units).rstrip("0123456789"))
    if common:
        return common
    if node.kind == "input":
        return "inputs"
    if node.equation is not None and node.equation.is_Function and node.equation.args[0].is_Symbol:
        return f"{node.equation.func.__name__}_units"
    return "units"


def _common_start(names: Sequence[str]) -> str:
    first, last = min(names), max(names)  # what these two share, all share
    count = 0
    while count < min(len(first), len(last)) and first[count] == last[count]:
        count += 1
    return first[:count]
