"""From an edge as written to the edges of the Model: one per delay, with its weights and parameters named.

An edge whose weights are its parameters themselves needs nothing more. A mask, an expression of parameters, a delay per
pair of units or a learned delay makes effective weights, which stand beside the edges in the Model.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import sympy
from numpy.typing import NDArray

from rnngraph.attributes import EdgeRecord, NodeRecord, read_constant, read_mask, read_selection
from rnngraph.errors import EquationError, GraphError
from rnngraph.model import Edge, EffectiveWeight, Expression
from rnngraph.parsing import parse_equation, written_names


@dataclass
class Parameters:
    """The learned parameters met so far, in the order of the graph's edges and nodes."""

    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    defaults: set[str] = field(default_factory=set)

    def add(self, name: str, shape: tuple[int, ...], where: str, default: bool, remedy: str) -> str:
        """Register a parameter. A name met before is shared, unless the shapes differ or both names are defaults."""
        if name not in self.shapes:
            self.shapes[name] = shape
            self.origins[name] = where
        elif self.shapes[name] != shape:
            raise GraphError(
                where,
                f"parameter {name!r} of shape {shape}, which {self.origins[name]} gives the shape {self.shapes[name]}",
                "one shape for one parameter",
                remedy if default else "use different names",
            )
        elif default and name in self.defaults:
            raise GraphError(
                where,
                f"the default parameter name {name!r}, which {self.origins[name]} has too",
                "a parameter of its own, or one name written on both to share it",
                remedy,
            )
        if default:
            self.defaults.add(name)
        return name


Mask = NDArray[np.float64] | None  # the shape of the edge's weights, or one such for each delay
REMEDY = "give each edge a parameter='...' of its own, or write parallel edges as one edge with a list of delays"


class Connections:
    """The edges of a Model, as they are added one by one; ``finish`` names what the library names itself."""

    def __init__(self, records: dict[str, NodeRecord], parameters: Parameters) -> None:
        self.records = records
        self.parameters = parameters
        self.edges: list[Edge] = []
        self.weights: list[EffectiveWeight] = []
        self.constants: dict[str, NDArray[np.float64]] = {}
        self._taken: set[str] = set()  # names that the library may not give
        self._fixed: list[tuple[int, EdgeRecord]] = []
        self._effective: list[tuple[int, EdgeRecord, list[Expression], str | None, Mask]] = []

    def add(self, record: EdgeRecord) -> None:
        """One edge per delay, its parameters registered. Raises GraphError, EquationError."""
        start = len(self.edges)
        structure = "dense" if record.structure == "masked" else record.structure
        record, mask = self._masked(record)
        delays = record.delays
        simple = not one_for_all(record) and mask is None and record.expression is None
        if simple and structure in ("dense", "diagonal"):
            stem = record.stem
            names: list[str | None] = []
            for suffix in self._suffixes(record):
                names.append(self._parameter(stem + suffix, record, record.parameter is None))
        else:
            names = [None] * len(delays.steps)
            if structure == "fixed":
                self._fixed.append((start, record))
            elif not simple:
                expressions = self._expressions(record)
                self._effective.append((start, record, expressions, self._logits(record), mask))
                structure = "diagonal" if structure == "identity" else structure
        self.edges += [
            Edge(record.source, record.destination, delay, record.port, structure, name)
            for delay, name in zip(delays.steps, names, strict=True)
        ]

    def finish(self) -> None:
        """Name the constants and the effective weights, after all parameters, so that no name is taken twice."""
        self._taken.update(self.parameters.shapes)
        for start, record in self._fixed:
            values = read_constant(record, self._size(record.source), self._size(record.destination))
            for offset, suffix in enumerate(self._suffixes(record)):
                name = self._constant(f"C_{record.source}_{record.destination}{suffix}", values[offset])
                self.edges[start + offset] = replace(self.edges[start + offset], parameter=name)
        for start, record, expressions, logits, mask in self._effective:
            self._add_weights(start, record, expressions, logits, mask)

    # The parameters of an edge.

    def _size(self, node: str) -> int:
        return self.records[node].size

    def _masked(self, record: EdgeRecord) -> tuple[EdgeRecord, Mask]:
        """The edge's mask, by delay where each pair of units has its own; the delays of no pair are left out."""
        sizes = self._size(record.source), self._size(record.destination)
        mask, selection = read_mask(record, *sizes), read_selection(record, *sizes)
        if selection is None or record.structure == "fixed":
            return record, mask
        selected = selection if mask is None else selection * mask
        kept = [k for k in range(len(selected)) if selected[k].any()]
        steps = tuple(record.delays.steps[k] for k in kept)
        return replace(record, delays=replace(record.delays, steps=steps)), selected[kept]

    def _nodes(self, record: EdgeRecord) -> tuple[str, ...]:
        """The nodes that the axes of the edge's weights belong to."""
        if record.structure in ("dense", "masked", "fixed"):
            return record.source, record.destination
        return (record.destination,)

    def _shape(self, record: EdgeRecord) -> tuple[int, ...]:
        return tuple(self._size(node) for node in self._nodes(record))

    def _suffixes(self, record: EdgeRecord) -> list[str]:
        """What the names of an edge's weights end with, by delay."""
        delays = record.delays
        return [f"_d{delay}" if delays.listed else "" for delay in delays.steps]

    def _parameter(self, name: str, record: EdgeRecord, default: bool) -> str:
        return self.parameters.add(name, self._shape(record), record.where, default, REMEDY)

    def _expressions(self, record: EdgeRecord) -> list[Expression]:
        """The weight before mask and softmax: one for each delay of a plain list, else one for all delays."""
        found = []
        for suffix in [""] if one_for_all(record) else self._suffixes(record):
            if record.structure == "identity":
                found.append(sympy.S.One)
            elif record.expression is None:
                name = self._parameter(record.stem + suffix, record, record.parameter is None)
                found.append(sympy.Symbol(name, real=True))
            else:
                found.append(self._written(record, suffix))
        return found

    def _written(self, record: EdgeRecord, suffix: str) -> Expression:
        where = f"expression of {record.where}"
        names = written_names(record.expression)
        expression, used = parse_equation(record.expression, names, where)
        if not used:
            raise EquationError(where, "an expression without a parameter", "the name of one at least",
                                "use structure='fixed' with value=... for weights that are not learned")  # fmt: skip
        renamed = {}
        for name in sorted(used):
            renamed[sympy.Symbol(name, real=True)] = sympy.Symbol(
                self._parameter(name + suffix, record, False), real=True
            )
        return expression.xreplace(renamed)

    def _logits(self, record: EdgeRecord) -> str | None:
        """The logits of a learned delay: a matrix (or vector, or number) for each delay."""
        learned = record.delays.learned
        if learned is None:
            return None
        shape = self._shape(record)
        entries = (1,) * len(shape) if learned.shared else shape
        remedy = "give one of them a delay={..., 'parameter': '...'} of its own"
        whole = (len(record.delays.steps), *entries)
        return self.parameters.add(record.logits, whole, record.where, learned.parameter is None, remedy)

    # Names that the library gives.

    def _constant(self, wanted: str, values: NDArray[np.float64]) -> str:
        name = self._free(wanted)
        values.setflags(write=False)
        self.constants[name] = values
        return name

    def _free(self, wanted: str) -> str:
        """A name that nothing has, which is then taken."""
        name, number = wanted, 1
        while name in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name

    def _add_weights(
        self, start: int, record: EdgeRecord, expressions: list[Expression], logits: str | None, mask: Mask
    ) -> None:
        ends = f"{record.source}_{record.destination}"
        constant = None if mask is None else self._constant(f"M_{ends}", mask)
        stem = record.stem if record.expression is None else f"W_{ends}"
        learned = record.delays.learned
        temperature = learned.temperature if learned is not None else 1.0
        nodes, shape = self._nodes(record), self._shape(record)
        suffixes = self._suffixes(record)
        if one_for_all(record):
            name = self._free(f"{stem}_by_delay")
            slices: list[str] = []
            for offset, suffix in enumerate(suffixes):
                slices.append(self._free(f"{stem}{suffix}"))
                self.edges[start + offset] = replace(self.edges[start + offset], parameter=slices[-1])
            self.weights.append(
                EffectiveWeight(name, nodes, shape, expressions[0], constant, logits, temperature, tuple(slices))
            )
            return
        ending = "masked" if record.expression is None else "effective"
        for offset, (suffix, expression) in enumerate(zip(suffixes, expressions, strict=True)):
            name = self._free(f"{stem}{suffix}_{ending}")
            self.weights.append(EffectiveWeight(name, nodes, shape, expression, constant))
            self.edges[start + offset] = replace(self.edges[start + offset], parameter=name)


def one_for_all(record: EdgeRecord) -> bool:
    """Whether one weight is spread over the delays of an edge, by a softmax or by a delay for each pair of units."""
    return record.delays.learned is not None or record.delays.matrix is not None
