"""The checked network: what ``validate`` makes of a graph, frozen, with every default filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codegen.pattern import Pattern

Expression = Any  # a sympy expression; sympy ships no types


@dataclass(frozen=True, slots=True)
class Node:
    """One layer. ``name`` is ``str`` of the graph's node.

    ``equation`` is a sympy expression in real symbols, one per port (``Symbol(port, real=True)``, ``s`` the weighted
    sum); None for an input. ``bias`` is the bias parameter's name or None. ``initial`` is a number, or the name of the
    learned parameter. ``forget_gate`` marks a forget gate, for initialisation only: a sigmoid node multiplied with
    the past of the node it feeds (in a loop that runs backward in time, with what that node reads ahead).
    """

    name: str
    kind: str  # "input", "unit" or "output"
    size: int
    equation: Expression | None
    bias: str | None
    initial: float | str
    forget_gate: bool = False


@dataclass(frozen=True, slots=True)
class Edge:
    """One connection with one delay: an edge with a list of delays becomes one Edge per delay.

    ``structure`` is "dense", "diagonal", "identity" or "fixed". ``parameter`` names the weight (dense, diagonal: a
    parameter, or an effective weight of the model) or the constant (fixed); None for identity and for ports other than
    "s", which enter unweighted. ``delay`` is negative where the edge looks ahead. Where units were put together into
    layers (``rnngraph.units``) an edge may be "sparse": its ``pattern`` has the delays, ``delay`` is the longest, and
    its parameter (or constant) is the vector of its weights.
    """

    source: str
    destination: str
    delay: int
    port: str
    structure: str
    parameter: str | None
    pattern: Pattern | None = None


@dataclass(frozen=True)
class EffectiveWeight:
    """The weights of an edge whose parameters are not its weights themselves:

        name[d] = expression * mask * softmax over d of (logits / temperature)        entry by entry

    ``expression`` is in sympy symbols of parameters (``Symbol(name, real=True)``), 1 where there are none. ``mask``
    names a constant, ``logits`` a parameter with one entry per delay, or None. ``slices`` names the weight of each
    delay; where it is empty the edge has one delay and reads ``name`` itself. ``shape`` is that of one of them.
    ``nodes`` has the nodes that its axes belong to.
    """

    name: str
    nodes: tuple[str, ...]
    shape: tuple[int, ...]
    expression: Expression
    mask: str | None = None
    logits: str | None = None
    temperature: float = 1.0
    slices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Model:
    """A checked network: nodes and edges in the order of the graph.

    ``parameters`` maps each learned parameter's name to its shape: (source size, destination size) for a dense
    weight, (size,) for a
    diagonal weight, a bias and a learned initial value. ``constants`` holds the values of the fixed edges and the masks
    of ``weights``, the effective weights in the order of their edges.
    """

    nodes: Mapping[str, Node]
    edges: tuple[Edge, ...]
    parameters: Mapping[str, tuple[int, ...]]
    constants: Mapping[str, NDArray[np.float64]]
    weights: tuple[EffectiveWeight, ...] = ()

    @property
    def inputs(self) -> tuple[Node, ...]:
        """The input nodes, in the order of the graph."""
        return tuple(node for node in self.nodes.values() if node.kind == "input")

    @property
    def outputs(self) -> tuple[Node, ...]:
        """The output nodes, in the order of the graph."""
        return tuple(node for node in self.nodes.values() if node.kind == "output")

    def depth(self, name: str) -> int:
        """The longest delay out of a node: how many past values its state holds."""
        return self.depths.get(name, 0)

    def ahead(self, name: str) -> int:
        """The longest look-ahead out of a node: how many values of the sequence that follows its state holds."""
        return self.ahead_depths.get(name, 0)

    @cached_property
    def depths(self) -> Mapping[str, int]:
        """The longest delay out of each node that has one, in the order of the nodes."""
        return self._longest(1)

    @cached_property
    def ahead_depths(self) -> Mapping[str, int]:
        """The longest look-ahead out of each node that has one, in the order of the nodes."""
        return self._longest(-1)

    def _longest(self, sign: int) -> dict[str, int]:
        longest: dict[str, int] = {}
        for edge in self.edges:
            longest[edge.source] = max(longest.get(edge.source, 0), sign * edge.delay)
        return {name: longest[name] for name in self.nodes if longest.get(name, 0) > 0}

    def ahead_names(self) -> dict[str, str]:
        """The name in a state of each node's values after the sequence: its own, unless its values before have it."""
        names: dict[str, str] = {}
        for name in self.ahead_depths:
            wanted = f"{name}:ahead" if name in self.depths else name
            while wanted != name and wanted in self.nodes:
                wanted += "_"
            names[name] = wanted
        return names
