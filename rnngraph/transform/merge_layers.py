"""Layers of equal equations put together into one: their weights become the blocks of one matrix.

Only what is exact is merged: every block of a matrix must be there, from and to every part, at the same delays, since a
block of zeros would be learned; what goes unit by unit must join equal parts.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import networkx as nx
import numpy as np

from rnngraph.equations import fresh_name
from rnngraph.errors import GraphError, OptionError
from rnngraph.model import Model
from rnngraph.transform.arrays import Array, Arrays, learned_value, read_parameters, read_state, returned
from rnngraph.transform.delays import port_of, single_delays
from rnngraph.transform.split_layers import Index, block_name, by_unit
from rnngraph.validate import validate
from rnngraph.words import clip

Blocks = dict[Index, str]  # the position of a block: (row, column), (k,) in a vector, () if uncut -> its name
Bundle = tuple[Hashable, Hashable, int, str, str]  # source, destination, delay, port, structure


def merge_layers(
    graph: nx.MultiDiGraph,
    layers: Mapping[Hashable, Sequence[Hashable]],
    params: Arrays | None = None,
    state: Arrays | None = None,
) -> Any:
    """The same network with several layers put together: ``{"a": ["a_1", "a_2"]}`` makes the node "a" of two.

    It undoes ``split_layer``. The parts agree in kind, equation, bias or none, and initial value; every other node, and
    every part itself, is joined with each part or with none, by edges of the same structure, delay and port. Blocks
    named W_1, W_2, ... become W again, others a parameter of the default name. The output and the state of a merged
    layer are those of its parts, side by side. Returns the graph; (graph, params) where ``params`` is given;
    (graph, params, state) where ``state`` is given. Raises OptionError for ``layers`` that name no nodes, GraphError
    for parts that differ and for a missing block, DataError for arrays that do not fit the graph,
    UnsupportedError for a learned delay (``rg.harden`` makes it plain).
    """
    model = validate(graph)
    _check_layers(graph, layers)
    merge = _LayerMerge(model, single_delays(graph), layers)
    merge.run()
    values, states = read_parameters(model, params), read_state(model, state)
    for arrays in (states.before, states.after):
        for name, parts in layers.items():
            given = [arrays.pop(str(part), None) for part in parts]
            some = next((array for array in given if array is not None), None)
            if some is not None:
                pieces = [
                    merge.initial(part, some, values) if array is None else array
                    for part, array in zip(parts, given, strict=True)
                ]
                arrays[str(name)] = np.concatenate(pieces, axis=2)
    return returned(merge.result, merge.join(values), states, (params, state))


def _check_layers(graph: nx.MultiDiGraph, layers: object) -> None:
    expected = "a mapping: new node -> list of nodes, each node at most once"
    if not isinstance(layers, Mapping) or not all(isinstance(parts, list | tuple) for parts in layers.values()):
        raise OptionError("layers", clip(layers), expected, 'write {"a": ["a_1", "a_2"]} for instance')
    parts = [part for group in layers.values() for part in group]
    for part in parts:
        if part not in graph or parts.count(part) > 1:
            found = f"{clip(part)}, which is " + ("no node of the graph" if part not in graph else "named twice")
            raise OptionError("layers", found, expected, "name each node of the graph once")
    left = {str(node) for node in graph if node not in parts}
    names = [str(name) for name in layers]
    for name, group in layers.items():
        if not group or str(name) in left or names.count(str(name)) > 1:
            found = f"no nodes for {clip(name)}" if not group else f"{clip(name)}, the name of another node"
            raise OptionError("layers", found, expected, "give each new layer its nodes and a name of its own")


class _LayerMerge:
    """A network whose parts are put together."""

    def __init__(self, model: Model, single: nx.MultiDiGraph, layers: Mapping[Hashable, Sequence[Hashable]]) -> None:
        self.model, self.single, self.layers = model, single, layers
        self.home = {part: (name, k) for name, parts in layers.items() for k, part in enumerate(parts)}
        self.blocks: dict[str, Blocks] = {}  # the name of each parameter afterwards -> what it is made of
        self.uses: dict[str, str] = {}  # the name of each parameter before -> afterwards
        self.result: nx.MultiDiGraph = nx.MultiDiGraph(**single.graph)

    def run(self) -> None:
        for node, data in self.single.nodes(data=True):
            name, position = self.home.get(node, (node, 0))
            if node not in self.home:
                attributes = dict(data)
                for key in ("bias", "initial"):
                    if isinstance(data.get(key), str):
                        attributes[key] = self._joined({(): data[key]}, data[key], f"node {str(node)!r}")
                self.result.add_node(node, **attributes)
            elif position == 0:
                self.result.add_node(name, **self._merged_node(name))
        bundles: dict[Bundle, dict[Index, list[dict[str, Any]]]] = {}
        for source, destination, data in self.single.edges(data=True):
            (start, i), (end, j) = self.home.get(source, (source, 0)), self.home.get(destination, (destination, 0))
            bundle = start, end, data["delay"], str(port_of(data)), data.get("structure") or "dense"
            bundles.setdefault(bundle, {}).setdefault((i, j), []).append(data)
        for bundle, edges in bundles.items():
            self._merge_edges(bundle, edges)

    def join(self, values: Mapping[str, Array] | None) -> dict[str, Array] | None:
        """The parameters of the merged network."""
        if values is None:
            return None
        return {name: _assembled(blocks, values) for name, blocks in self.blocks.items()}

    def initial(self, part: Hashable, like: Array, values: dict[str, Array] | None) -> Array:
        """The values outside of the sequence of a part whose state is not given."""
        node = self.model.nodes[str(part)]
        start: Any = node.initial
        if isinstance(start, str):
            start = learned_value(start, values, f"node {node.name!r}")
        return np.full((*like.shape[:2], node.size), start, dtype=like.dtype)

    def _merged_node(self, name: Hashable) -> dict[str, Any]:
        parts = [self.model.nodes[str(part)] for part in self.layers[name]]
        where = f"layer {str(name)!r}"
        for part in parts[1:]:
            for what in ("kind", "equation"):
                first, second = getattr(parts[0], what), getattr(part, what)
                if first != second:
                    raise _unequal(where, parts[0].name, part.name, what, first, second)
            if (part.bias is None) != (parts[0].bias is None):
                raise _unequal(where, parts[0].name, part.name, "bias", parts[0].bias, part.bias)
            learned = isinstance(part.initial, str), isinstance(parts[0].initial, str)
            if part.initial != parts[0].initial and learned != (True, True):
                raise _unequal(where, parts[0].name, part.name, "initial", parts[0].initial, part.initial)
        attributes = dict(self.single.nodes[self.layers[name][0]])
        attributes["size"] = sum(part.size for part in parts)
        if parts[0].bias is not None:
            names: Blocks = {(k,): str(part.bias) for k, part in enumerate(parts)}
            attributes["bias"] = self._joined(names, f"b_{name}", where)
        if isinstance(parts[0].initial, str):
            names = {(k,): str(part.initial) for k, part in enumerate(parts)}
            attributes["initial"] = self._joined(names, f"{name}_0", where)
        return attributes

    def _merge_edges(self, bundle: Bundle, edges: dict[Index, list[dict[str, Any]]]) -> None:
        """Edges between the same two layers, at the same delay: as many as there are blocks, or a whole multiple."""
        source, destination = bundle[:2]
        where = f"edges {str(source)!r} -> {str(destination)!r} of delay {bundle[2]}"
        rows, columns = (len(self.layers.get(node, (node,))) for node in (source, destination))
        axes = source in self.layers, destination in self.layers
        unit_by_unit = by_unit(next(iter(edges.values()))[0])
        if unit_by_unit and axes[0] != axes[1] and (axes[0] or self.model.nodes[str(source)].size > 1):
            raise GraphError(
                where, "a layer to be merged that is joined unit by unit with one that is not",
                "both of its layers to be merged", "name the parts of both in layers",
            )  # fmt: skip
        expected = {(i, j) for i in range(rows) for j in range(columns) if not unit_by_unit or i == j or not axes[0]}
        counts = {len(edges.get(place, ())) for place in expected}
        if set(edges) != expected or len(counts) != 1 or (unit_by_unit and all(axes) and rows != columns):
            raise GraphError(
                where, "edges between some of their parts only",
                "edges of one structure, delay and port between equal parts" if unit_by_unit
                else "edges of one structure, delay and port from every part to every part",
                "merge layers that are connected alike, as a block of zeros would be learned",
            )  # fmt: skip
        if unit_by_unit and all(axes):
            self._check_equal_sizes(where, source, destination)
        for copy in range(counts.pop()):
            data = {place: edges[place][copy] for place in expected}
            attributes = dict(data[min(data)])
            if isinstance(attributes.get("parameter"), str):
                uncut = axes == (False, False)
                names: Blocks = {
                    () if uncut else place[1:] if unit_by_unit else place: str(one["parameter"])
                    for place, one in sorted(data.items())
                }
                default = attributes["parameter"] if uncut else f"W_{source}_{destination}"
                attributes["parameter"] = self._joined(names, default, where)
            if attributes.get("expression") is not None and any(axes):
                raise GraphError(
                    where,
                    "weights that are expressions of parameters",
                    "weights that are parameters themselves",
                    "merge other layers, or replace the expressions by parameters",
                )
            for key in ("value", "mask"):
                if attributes.get(key) is not None and not unit_by_unit:
                    attributes[key] = np.block([[data[i, j][key] for j in range(columns)] for i in range(rows)])
            self.result.add_edge(source, destination, **attributes)

    def _check_equal_sizes(self, where: str, source: Hashable, destination: Hashable) -> None:
        pairs = zip(self.layers[source], self.layers[destination], strict=True)
        for start, end in pairs:
            sizes = self.model.nodes[str(start)].size, self.model.nodes[str(end)].size
            if sizes[0] != sizes[1]:
                raise GraphError(
                    where, f"parts of {sizes[0]} and {sizes[1]} units that are joined unit by unit", "equal parts",
                    "list the parts of both layers in the same order",
                )  # fmt: skip

    def _joined(self, blocks: Blocks, default: str, where: str) -> str:
        """The name of the parameter that has these blocks, the same for the same blocks."""
        known = next((self.uses[name] for name in blocks.values() if name in self.uses), None)
        alike = known is None or self.blocks[known] == blocks
        if not alike or len(set(blocks.values())) < len(blocks):
            raise GraphError(
                where,
                f"a parameter among {', '.join(sorted(set(blocks.values())))} that is used in another place, too",
                "every use of a shared parameter to be merged alike",
                "give the parts parameters of their own",
            )
        if known is not None:
            return known
        taken = {*self.blocks, *self.model.parameters} - set(blocks.values())
        name = fresh_name(_whole_name(blocks) or default, taken)
        self.blocks[name] = blocks
        self.uses.update(dict.fromkeys(blocks.values(), name))
        return name


def _whole_name(blocks: Blocks) -> str | None:
    """The name whose blocks ``split_layer`` would call so; None where they are called otherwise."""
    axes = [axis for axis in range(len(next(iter(blocks)))) if max(index[axis] for index in blocks) > 0]
    names = {tuple(index[axis] for axis in axes): name for index, name in blocks.items()}
    first, end = names[(0,) * len(axes)], "_1" * len(axes)
    whole = first.removesuffix(end + "_0") + "_0" if first.endswith(end + "_0") else first.removesuffix(end)
    return whole if all(block_name(whole, index) == name for index, name in names.items()) else None


def _assembled(blocks: Blocks, values: Mapping[str, Array]) -> Array:
    """The parameter that is made of blocks."""
    last = max(blocks)
    if not last:
        whole: Array = values[blocks[()]].copy()
        return whole
    if len(last) == 1:
        vector: Array = np.concatenate([values[blocks[k,]] for k in range(last[0] + 1)])
        return vector
    joined: Array = np.block([[values[blocks[i, j]] for j in range(last[1] + 1)] for i in range(last[0] + 1)])
    return joined


def _unequal(where: str, first: str, second: str, what: str, one: object, other: object) -> GraphError:
    return GraphError(
        where,
        f"{what} {clip(one)} on {first!r} and {clip(other)} on {second!r}",
        f"one {what} for all parts",
        "merge layers that differ in size and parameters alone",
    )
