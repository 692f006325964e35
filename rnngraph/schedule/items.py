"""What a Schedule is made of: items (one computation each), gathered into components in an order that can run.

A component without a loop is computed for all t at once; the items of a loop are stepped together, forward in time or
backward.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rnngraph.equations import Equation, Expression, Read, Signal, Term, reads_of
from rnngraph.system import System


@dataclass(frozen=True)
class Slot:
    """One source of a product: ``signal`` at t - ``delay``."""

    signal: str
    delay: int


@dataclass(frozen=True)
class Block:
    """One weight of a product's matrix; ``transposed`` when it stands there transposed."""

    parameter: str
    transposed: bool


@dataclass(frozen=True)
class Product:
    """results(t) = [sources side by side, 1] @ [blocks; biases]: every source feeds every result.

    ``blocks[k][j]`` is the weight from source k to result j; ``biases`` has one name per result, or is empty.
    """

    sources: tuple[Slot, ...]
    results: tuple[str, ...]
    blocks: tuple[tuple[Block, ...], ...]
    biases: tuple[str, ...] = ()

    @property
    def defines(self) -> tuple[str, ...]:
        """The signals it computes."""
        return self.results

    def reads(self) -> list[Read]:
        """The signals it reads, with their delays."""
        return [Read(slot.signal, slot.delay) for slot in self.sources]


@dataclass(frozen=True)
class Pointwise:
    """signal(t) = a pointwise expression."""

    signal: str
    expression: Expression

    @property
    def defines(self) -> tuple[str, ...]:
        """The signal it computes."""
        return (self.signal,)

    def reads(self) -> list[Read]:
        """The signals it reads, with their delays."""
        return reads_of(self.expression)


@dataclass(frozen=True)
class UnitReduction:
    """signal(t) = sum, or logsumexp, over the units of source(t)."""

    signal: str
    operator: str
    source: str

    @property
    def defines(self) -> tuple[str, ...]:
        """The signal it computes."""
        return (self.signal,)

    def reads(self) -> list[Read]:
        """The signal it reads."""
        return [Read(self.source, 0)]


@dataclass(frozen=True)
class SparseProduct:
    """signal(t) = the sum of sparse terms."""

    signal: str
    terms: tuple[Term, ...]

    @property
    def defines(self) -> tuple[str, ...]:
        """The signal it computes."""
        return (self.signal,)

    def reads(self) -> list[Read]:
        """The signals it reads, with their delays."""
        return [read for term in self.terms for read in term.reads()]


Item = Product | SparseProduct | Pointwise | UnitReduction


@dataclass(frozen=True)
class Component:
    """Items in the order in which they run; ``loop`` when they are stepped, ``backward`` when from t = T to 1.

    ``inputs``: those whose value at t belongs to step t, so that a stream can run the loop; none where whole sequences
    are given. ``shifts``, where a loop mixes delays and look-aheads: one number per item, which in step n computes
    t = n + shift. ``steps``: how many a loop takes at once, each item for all of them before the next.
    """

    items: tuple[Item, ...]
    loop: bool = False
    backward: bool = False
    inputs: tuple[str, ...] = ()
    shifts: tuple[int, ...] = ()
    steps: int = 1


@dataclass(frozen=True)
class Schedule:
    """The components of ``system`` in an order that can run. ``signals`` has those of the system and the new ones:
    product results, shared function values, factors taken out of loops. ``boundaries`` has, for each adjoint that is
    wanted at t <= 0 (False) or at t > T (True), the part of its equation that reaches there from 1..T. ``sweep``
    has the equations of signals with rows, in running order: they are stepped after all components."""

    system: System
    signals: Mapping[str, Signal]
    components: tuple[Component, ...]
    component_of: Mapping[str, int] = field(default_factory=dict)
    boundaries: Mapping[tuple[str, bool], Expression] = field(default_factory=dict)
    sweep: tuple[Equation, ...] = ()

    def items(self) -> list[Item]:
        """All items, in running order."""
        return [item for component in self.components for item in component.items]
