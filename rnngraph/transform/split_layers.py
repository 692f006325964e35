"""Layers taken apart into layers of fewer units, which compute the same side by side.

Matrices are cut into blocks. What goes unit by unit (a diagonal weight, an identity edge, a port) joins equal parts, so
both of its ends are cut alike: of an LSTM all gates, the cell and the hidden layer together.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import networkx as nx
import numpy as np

from rnngraph.equations import fresh_name
from rnngraph.errors import GraphError, OptionError
from rnngraph.model import Model
from rnngraph.transform.arrays import Array, Arrays, read_parameters, read_state, returned
from rnngraph.transform.delays import SUM, port_of, rename_weight, single_delays
from rnngraph.validate import validate
from rnngraph.words import clip

Index = tuple[int, ...]


def split_layer(
    graph: nx.MultiDiGraph, nodes: Any, sizes: Sequence[int], params: Arrays | None = None, state: Arrays | None = None
) -> Any:
    """The same network with the layer ``nodes`` cut into layers of the given ``sizes``, "<node>_1", "<node>_2", ...

    ``nodes``: one node, or a list of nodes of one size that are cut alike. A weight W becomes the blocks W_1, W_2, ...
    (W_1_1, W_1_2, ... where both of its ends are cut); a name that ends in _0 keeps that end. The outputs and states of
    the parts, side by side, are those of the layer. Returns the graph; (graph, params) where ``params`` is given;
    (graph, params, state) where ``state`` is given. Raises OptionError for nodes or sizes that do not fit, GraphError
    for an edge that joins a cut layer unit by unit with a whole one, and for a parameter that the cut would divide in
    two ways; DataError for arrays that do not fit the graph. A masked block without any weight is left out.
    Also UnsupportedError for a learned delay (``rg.harden`` makes it plain).
    """
    model = validate(graph)
    given = nodes if isinstance(nodes, list) and nodes else [nodes]
    wanted = list(sizes) if isinstance(sizes, Iterable) else []
    for node in given:
        if node not in graph:
            raise OptionError("nodes", clip(node), "a node of the graph, or a list of them", "name nodes of the graph")
        size = graph.nodes[node]["size"]
        if not all(_is_size(part) for part in wanted) or sum(wanted) != size:
            raise OptionError(
                "sizes",
                clip(wanted or sizes),
                f"a list of whole numbers >= 1 whose sum is {size}, the size of node {str(node)!r}",
                "give the sizes of the parts",
            )
    chosen: list[Hashable] = list(dict.fromkeys(given))
    split = _Split(model, single_delays(graph), [int(size) for size in wanted])
    split.run(chosen)
    states = read_state(model, state)
    for arrays in (states.before, states.after):
        for node in chosen:
            if (whole := arrays.pop(str(node), None)) is not None:
                arrays.update(zip(split.parts[node], np.split(whole, split.cuts, axis=2), strict=True))
    return returned(split.result, split.cut(read_parameters(model, params)), states, (params, state))


def _is_size(part: object) -> bool:
    return isinstance(part, int | np.integer) and not isinstance(part, bool) and bool(part >= 1)


def block_name(name: str, index: Index) -> str:
    """The name of one block of a parameter; the blocks count from 1."""
    numbers = "".join(f"_{position + 1}" for position in index)
    return f"{name[:-2]}{numbers}_0" if name.endswith("_0") else name + numbers


class _Split:
    """A network whose layers are cut at ``cuts``; ``parts`` has the parts of each cut node."""

    def __init__(self, model: Model, single: nx.MultiDiGraph, sizes: list[int]) -> None:
        self.model, self.single, self.sizes = model, single, sizes
        self.cuts = [int(cut) for cut in np.cumsum(sizes)[:-1]]
        self.parts: dict[Hashable, list[str]] = {}
        self.blocks: dict[str, tuple[bool, ...]] = {}  # a parameter -> which of its axes are cut
        self.names: dict[tuple[str, Index], str] = {}
        self.where: dict[str, str] = {}
        self.result: nx.MultiDiGraph = nx.MultiDiGraph(**single.graph)

    def run(self, nodes: list[Hashable]) -> None:
        taken = set(self.model.nodes)
        for node in nodes:
            self.parts[node] = [fresh_name(f"{node}_{k}", taken) for k in range(1, len(self.sizes) + 1)]
            taken.update(self.parts[node])
        for node, data in self.single.nodes(data=True):
            for k, part in enumerate(self._parts(node)):
                attributes = dict(data)
                if node in self.parts:
                    attributes["size"] = self.sizes[k]
                for key in ("bias", "initial"):
                    if isinstance(data.get(key), str):
                        place = f"node {str(node)!r}"
                        attributes[key] = self._block(data[key], (node in self.parts,), (k,), place)
                self.result.add_node(part, **attributes)
        for source, destination, data in self.single.edges(data=True):
            self._cut_edge(source, destination, data)

    def cut(self, values: Mapping[str, Array] | None) -> dict[str, Array] | None:
        """The parameters of the cut network."""
        if values is None:
            return None
        blocks: dict[str, Array] = {}
        for (name, index), block in self.names.items():
            piece = values[name]
            for axis, position in zip(_cut_axes(self.blocks[name]), index, strict=True):
                piece = np.split(piece, self.cuts, axis=axis)[position]
            blocks[block] = piece.copy()
        return blocks

    def _parts(self, node: Hashable) -> list[Hashable]:
        return list(self.parts.get(node, [node]))

    def _cut_edge(self, source: Hashable, destination: Hashable, data: dict[str, Any]) -> None:
        where = f"edge {str(source)!r} -> {str(destination)!r}"
        axes = source in self.parts, destination in self.parts
        if by_unit(data):
            broadcast = port_of(data) != SUM and not axes[0] and self.single.nodes[source]["size"] == 1
            if axes[0] != axes[1] and not broadcast:
                raise GraphError(
                    where,
                    "a whole layer joined unit by unit with one that is cut",
                    "both of its nodes to be cut, or structure 'dense' or 'fixed'",
                    f"cut {str(destination if axes[0] else source)!r} too: give a list of nodes",
                )
            for k, part in enumerate(self._parts(destination)):
                attributes = rename_weight(data, partial(self._block, axes=axes[1:], index=(k,), where=where))
                self.result.add_edge(self._parts(source)[k] if axes[0] else source, part, **attributes)
            return
        for (i, start), (j, end) in itertools.product(
            enumerate(self._parts(source)), enumerate(self._parts(destination))
        ):
            matrices = {key: np.asarray(data[key]) for key in ("value", "mask") if data.get(key) is not None}
            for key, matrix in matrices.items():
                rows = np.split(matrix, self.cuts, axis=0)[i] if axes[0] else matrix
                matrices[key] = np.split(rows, self.cuts, axis=1)[j] if axes[1] else rows
            if "mask" in matrices and not matrices["mask"].any():
                continue
            attributes = rename_weight(data, partial(self._block, axes=axes, index=(i, j), where=where))
            self.result.add_edge(start, end, **{**attributes, **matrices})

    def _block(self, name: str, axes: tuple[bool, ...], index: Index, where: str) -> str:
        """The name of one block of a parameter."""
        if self.blocks.setdefault(name, axes) != axes:
            raise GraphError(
                where, f"the parameter {name!r}, which is cut in another way on {self.where[name]}",
                "every use of a shared parameter to be cut alike", "cut the other layer too, or share nothing with it",
            )  # fmt: skip
        self.where.setdefault(name, where)
        position = tuple(k for k, is_cut in zip(index, axes, strict=True) if is_cut)
        if (name, position) not in self.names:
            taken = {*self.model.parameters, *self.names.values()} if position else set()
            self.names[name, position] = fresh_name(block_name(name, position) if position else name, taken)
        return self.names[name, position]


def _cut_axes(axes: tuple[bool, ...]) -> list[int]:
    return [axis for axis, is_cut in enumerate(axes) if is_cut]


def by_unit(data: Mapping[str, Any]) -> bool:
    """Whether an edge joins its two layers unit by unit."""
    return port_of(data) != SUM or data.get("structure") in ("diagonal", "identity")
