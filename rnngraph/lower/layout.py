"""Where each parameter lies in the one vector.

The weights of a packed product stand in the vector as the product's matrix, row by row, with the biases as its last
row:
the product needs no copy, and its gradient is one product too. A parameter used twice has a place of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

from codegen.ir import Buffer, View
from codegen.program import NamedParameter
from rnngraph.equations import Weight, meaning
from rnngraph.initialise import ParameterSpec, default_rule
from rnngraph.schedule import Product, Schedule
from rnngraph.system import System


@dataclass(frozen=True)
class Cell:
    """A parameter's place: ``rows`` and ``columns`` (half-open) of a block of the vector."""

    block: int
    rows: tuple[int, int]
    columns: tuple[int, int]


@dataclass(frozen=True)
class ParameterLayout:
    """``blocks`` holds (offset, rows, columns) of each matrix in the vector; ``cells`` where each parameter lies in
    them. The last ``direction_blocks`` lie in a second vector of the same layout, the direction of a derivative.

    The last blocks (of each half) hold the ``effective`` weights, which are computed: their gradients lie behind
    those of the parameters, ``inner_size`` numbers, from ``size`` on. ``rules`` has the parameters alone."""

    blocks: tuple[tuple[int, int, int], ...]
    cells: Mapping[str, Cell]
    shapes: Mapping[str, tuple[int, ...]]
    rules: Mapping[str, str]
    size: int
    direction_blocks: int = 0
    effective: tuple[str, ...] = ()
    inner_size: int = 0

    def with_directions(self, directions: Mapping[str, str]) -> ParameterLayout:
        """The layout extended by the direction's parameters: each lies in its vector as its parameter does in its own.

        ``directions`` maps the name of a direction's parameter to the parameter.
        """
        count = len(self.blocks)
        cells = {added: replace(self.cells[name], block=self.cells[name].block + count)
                 for added, name in directions.items()}  # fmt: skip
        shapes = {added: self.shapes[name] for added, name in directions.items()}
        return replace(
            self, blocks=self.blocks * 2, cells={**self.cells, **cells}, shapes={**self.shapes, **shapes},
            direction_blocks=count,
        )  # fmt: skip

    def buffer(self, block: int, storage: str = "parameter") -> Buffer:
        """Block ``block`` of the parameter vector ("parameter"), of the gradient vector ("gradient"), or of a gradient
        that is an intermediate value ("first_gradient")."""
        offset, rows, columns = self.blocks[block]
        half = len(self.blocks) - self.direction_blocks
        along, number = block >= half, block % half if half else block
        own = half - len(self.effective)
        if storage == "parameter":
            kind = "direction" if along else "weight" if number >= own else "weights"
            storage = "workspace" if number >= own else kind.replace("weights", "parameter")
        else:
            kind = storage
            storage = "workspace" if storage == "first_gradient" else storage
        name = f"{kind}_{number + 1 if number < own else self.effective[number - own]}"
        note = ", ".join(self._holds[block])
        return Buffer(name, "matrix", columns, rows, storage=storage, offset=offset, note=note)

    @cached_property
    def _holds(self) -> list[list[str]]:
        """The parameters in each block."""
        holds: list[list[str]] = [[] for _ in self.blocks]
        for name, cell in self.cells.items():
            holds[cell.block].append(name)
        return holds

    def view(self, name: str, storage: str = "parameter") -> View:
        """The parameter (or its gradient) as a view: a matrix, or a vector for a bias or diagonal."""
        cell = self.cells[name]
        vector = len(self.shapes[name]) == 1
        return View(self.buffer(cell.block, storage), None, *cell.columns, rows=cell.rows, vector=vector, label=name)

    def named(self) -> tuple[NamedParameter, ...]:
        """The named parameters in the network's own order, as the emitted file lists them."""
        result = []
        for name in self.rules:
            shape, cell = self.shapes[name], self.cells[name]
            offset, _, stride = self.blocks[cell.block]
            start = offset + cell.rows[0] * stride + cell.columns[0]
            result.append(NamedParameter(name, shape, start, stride, self.rules[name]))
        return tuple(result)


def lay_out_parameters(system: System, schedule: Schedule) -> ParameterLayout:
    """The layout for the forward ``system`` and its ``schedule``."""
    uses = _count_uses(system)
    blocks: list[tuple[int, int, int]] = []
    cells: dict[str, Cell] = {}
    offset = 0
    for item in schedule.items():
        if isinstance(item, Product) and _is_native(item, uses, system):
            rows, columns = _fill_cells(item, schedule, len(blocks), cells)
            blocks.append((offset, rows, columns))
            offset += rows * columns
    for name, shape in system.parameters.items():
        if name not in cells:
            rows, columns = prod(shape[:-1]), shape[-1]
            cells[name] = Cell(len(blocks), (0, rows), (0, columns))
            blocks.append((offset, rows, columns))
            offset += rows * columns
    size = offset
    effective = []
    for weight in system.weights:
        shapes = weight.shapes()
        if any(name in uses for name in shapes):
            columns, row = weight.shape[-1], 0
            for name, shape in shapes.items():
                height = prod(shape[:-1])
                cells[name] = Cell(len(blocks), (row, row + height), (0, columns))
                row += height
            effective.append(weight.name)
            blocks.append((offset, row, columns))
            offset += row * columns
    roles = parameter_roles(system)
    rules = {name: default_rule(ParameterSpec(name, shape, roles[name])) for name, shape in system.parameters.items()}
    return ParameterLayout(
        tuple(blocks), cells, dict(system.shapes), rules, size,
        effective=tuple(effective), inner_size=offset - size,
    )  # fmt: skip


def _is_native(product: Product, uses: Counter[str], system: System) -> bool:
    names = [block.parameter for row in product.blocks for block in row] + list(product.biases)
    return all(uses[name] == 1 and name in system.parameters for name in names)


def _fill_cells(product: Product, schedule: Schedule, block: int, cells: dict[str, Cell]) -> tuple[int, int]:
    row = 0
    widths = [schedule.signals[result].size for result in product.results]
    starts = [sum(widths[:j]) for j in range(len(widths))]
    for slot, weights in zip(product.sources, product.blocks, strict=True):
        height = schedule.signals[slot.signal].size
        for j, weight in enumerate(weights):
            cells[weight.parameter] = Cell(block, (row, row + height), (starts[j], starts[j] + widths[j]))
        row += height
    for j, bias in enumerate(product.biases):
        cells[bias] = Cell(block, (row, row + 1), (starts[j], starts[j] + widths[j]))
    return row + (1 if product.biases else 0), sum(widths)


def _count_uses(system: System) -> Counter[str]:
    uses: Counter[str] = Counter()
    for equation in system.equations:
        uses.update(term.parameter for term in equation.terms if term.parameter is not None)
        uses.update(found for symbol in equation.expression.free_symbols if isinstance(found := meaning(symbol), str))
    uses.update(signal.initial for signal in system.signals.values() if isinstance(signal.initial, str))
    return uses


def parameter_roles(system: System) -> dict[str, str]:
    """The role of every parameter, which decides how it is initialised: see ``initialise.ROLES``."""
    roles: dict[str, str] = {}
    within = {name: weight for weight in system.weights for name in weight.shapes()}
    for equation in system.equations:
        for term in equation.terms:
            if term.parameter is not None:
                recurrent = term.delay != 0 and system.signals[term.source].kind == "unit"
                role = "recurrent_weight" if recurrent else "input_weight"
                for name in _made_of(term.parameter, within):
                    roles.setdefault(name, role)
        for symbol in equation.expression.free_symbols:
            found = meaning(symbol)
            if isinstance(found, str):
                alone = symbol in equation.expression.as_ordered_terms()
                role = "forget_bias" if found in system.forget_biases else "bias" if alone else "diagonal"
                for name in _made_of(found, within):
                    roles.setdefault(name, role)
    for signal in system.signals.values():
        if isinstance(signal.initial, str):
            roles.setdefault(signal.initial, "initial")
    for weight in system.weights:
        if weight.operator == "softmax":
            roles.update(dict.fromkeys(weight.reads(), "delay_logits"))
    return {name: roles.get(name, "bias") for name in system.parameters}


def _made_of(name: str, within: Mapping[str, Weight]) -> list[str]:
    """The names of the parameters of an effective weight; those that a softmax is made of not among them."""
    return within[name].reads() if name in within else [name]
