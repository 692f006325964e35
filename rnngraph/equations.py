"""The parts of a System: signals, equations and totals over discrete time t = 1..T, closed under differentiation.

Grammar
-------
::

    System    = signals, parameters, constants, weights, equations, totals
    Weight   : w = pointwise expression of parameters, constants and other weights, entry by entry, or its
               sum to a smaller shape, or its softmax over the first axis; without time
    Equation  : v(t) = sum of Terms + pointwise expression          one per signal that is not given from outside
    Term      = dense      W applied to u(t-d), or W transposed     W is a parameter, a constant or a weight
              | sparse     for each entry of a pattern its weight times one unit of u(t-d), d its delay; transposed,
                           of u(t+d)                                the weights are a vector
              | sum        the sum over units of u(t-d)             size n -> 1; its transpose is broadcasting
              | logsumexp  log of the sum over units of exp(u(t))   size n -> 1; stands alone in its equation
              | product    P(t-d) J(t), or J(t) transposed          P, J have rows: one matrix product per sequence
              | expand     row (i, j) gets p_ij(t-d) J_j.(t)        p has rows i, J rows j; without J: the unit vectors
              | sum_all    the sum over rows and units of P(t-d)    one row of one unit
              | diagonal   p(t-d) times the diagonal of J(t)        unit by unit; J is square
    pointwise = sympy expression in at(u, d), meaning u(t-d), and parameter(w), a vector over the units;
                a signal of size 1 is broadcast
    Total     = sum of contributions, each summed over t = 1..T and over the batch
    contribution = Outer          u(t-d) v(t-e)^T                   a matrix
                 | SparseOuter    the entries of u(t-d) v(t)^T in a pattern, d their delays    a vector
                 | PointwiseSum   pointwise expression              a vector, or a number when summed over units too
                 | BoundarySum    u(t) for t <= 0, or for t > T     a vector (gradient of a learned initial value)
                 | Contraction    P(t-d) with an error e(t)         the parameter's shape
                 | WeightValue    a Weight without time             the parameter's shape

A signal may have ``rows``: then it is a matrix (rows, units) per sequence, a Jacobian or a sensitivity. In its
pointwise expression a signal without rows stands for every row, along_rows(u, d) is u(t-d) with its units down the
rows, and parameter(W) may be a matrix of its shape.

Outside 1..T a signal reads as its ``initial`` (a number or a learned vector), adjoint signals as 0. An adjoint signal's
values at t <= 0 and at t > T are defined by its own equation, where everything that does not read from 1..T is 0.
``vjp`` and ``jvp`` map a System to a System (design: every learning rule is such a transformation).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import sympy

from codegen.pattern import Pattern

Expression = Any  # a sympy expression; sympy ships no types

_PARAMETER = "parameter"
_ROWS = "|"


class Read(NamedTuple):
    """One read in a pointwise expression: ``signal`` at t - ``delay``."""

    signal: str
    delay: int


@lru_cache(maxsize=100_000)
def at(signal: str, delay: int = 0) -> Expression:
    """The sympy symbol that stands for ``signal`` at t - ``delay``."""
    return sympy.Symbol(f"{signal}@{delay}", real=True)


@lru_cache(maxsize=100_000)
def parameter(name: str) -> Expression:
    """The sympy symbol that stands for the vector parameter ``name``."""
    return sympy.Symbol(f"{name}@{_PARAMETER}", real=True)


@lru_cache(maxsize=100_000)
def along_rows(signal: str, delay: int = 0) -> Expression:
    """The sympy symbol that stands for ``signal`` at t - ``delay`` with its units down the rows."""
    return sympy.Symbol(f"{signal}@{delay}{_ROWS}", real=True)


def is_along_rows(symbol: Expression) -> bool:
    """Whether a symbol was made by ``along_rows``."""
    return str(symbol.name).endswith(_ROWS)


def meaning(symbol: Expression) -> Read | str:
    """What a symbol of a pointwise expression stands for: a Read, or the name of a parameter."""
    name, _, tail = symbol.name.rpartition("@")
    return name if tail == _PARAMETER else Read(name, int(tail.removesuffix(_ROWS)))


def symbols_of(expression: Expression) -> list[Expression]:
    """The symbols of an expression, in an order that depends on their names alone."""
    return sorted(expression.free_symbols, key=lambda symbol: str(symbol.name))


def reads_of(expression: Expression) -> list[Read]:
    """The signals an expression reads, ordered by name."""
    return [found for symbol in symbols_of(expression) if isinstance(found := meaning(symbol), Read)]


@dataclass(frozen=True)
class Signal:
    """A sequence of vectors of ``size`` units.

    ``kind``: "input", "target", "weight", "noise" (given from outside); "unit" (a node), "sum" (a weighted sum),
    "adjoint", "tangent", "auxiliary", "jacobian", "sensitivity", "seed" (the unit matrix that an adjoint with rows
    starts from at the end of a block). ``origin`` is the node it belongs to, or the signal it
    is the adjoint, tangent or sensitivity of.
    ``initial`` is its value outside 1..T: a number, or the name of a learned vector. ``rows``: 0 for a vector of
    ``size`` units, else it is a matrix of so many rows. ``of`` is the parameter that a sensitivity is by;
    it ``starts_as_unit`` where that is the learned initial value: ones (the unit matrix) at t <= 0 unless a state is
    given.
    """

    name: str
    size: int
    kind: str
    origin: str | None = None
    initial: float | str = 0.0
    rows: int = 0
    of: str | None = None
    starts_as_unit: bool = False


@dataclass(frozen=True)
class Term:
    """One linear (or log-sum-exp) term of an equation: see the grammar. ``parameter`` is None but for "dense" and
    "sparse", which alone has a ``pattern``, ``jacobian`` (a signal, read at t) but for "product", "expand" and
    "diagonal"."""

    operator: str
    source: str
    delay: int = 0
    parameter: str | None = None
    transposed: bool = False
    jacobian: str | None = None
    pattern: Pattern | None = None

    def reads(self) -> list[Read]:
        """The signals it reads."""
        if self.pattern is not None:
            return [Read(self.source, -step if self.transposed else step) for step in self.pattern.steps]
        read = [Read(self.source, self.delay)]
        return read if self.jacobian is None else [*read, Read(self.jacobian, 0)]


@dataclass(frozen=True)
class Equation:
    """``signal``(t) = sum of ``terms`` + ``expression``."""

    signal: str
    terms: tuple[Term, ...]
    expression: Expression

    def reads(self) -> list[Read]:
        """Every (signal, delay) on the right-hand side."""
        return [read for term in self.terms for read in term.reads()] + reads_of(self.expression)


@dataclass(frozen=True)
class Outer:
    """Sum over t and batch of left(t - left_delay) right(t - right_delay)^T."""

    left: str
    right: str
    left_delay: int = 0
    right_delay: int = 0


@dataclass(frozen=True)
class SparseOuter:
    """Sum over t and batch of left(t - delay) right(t) for each entry of ``pattern``, by the number of its weight."""

    left: str
    right: str
    pattern: Pattern

    def reads(self) -> list[Read]:
        """The signals it reads."""
        return [*(Read(self.left, step) for step in self.pattern.steps), Read(self.right, 0)]


@dataclass(frozen=True)
class PointwiseSum:
    """Sum over t and batch (and over units when ``over_units``) of a pointwise expression of ``size`` units."""

    expression: Expression
    size: int
    over_units: bool = False


@dataclass(frozen=True)
class BoundarySum:
    """Sum over batch and over t = 1-depth..0 of an adjoint signal, or over t = T+1..T+depth where it lies ``ahead``:
    the gradient of the learned initial value of ``node``."""

    signal: str
    node: str
    ahead: bool = False


@dataclass(frozen=True)
class Contraction:
    """Sum over t and batch of a sensitivity P(t - delay) with an error e(t). ``local``: element by element, where row i
    of unit k is that of parameter (i, k); else over the units, where each row is that of one parameter. Without an
    error, of the sensitivity itself."""

    sensitivity: str
    error: str | None
    delay: int = 0
    local: bool = False


@dataclass(frozen=True)
class WeightValue:
    """The value of a Weight, which needs no sum: the gradient that comes back through effective weights."""

    weight: str


Contribution = Outer | SparseOuter | PointwiseSum | BoundarySum | Contraction | WeightValue


@dataclass(frozen=True)
class Total:
    """A sum over time and batch. ``kind`` is "loss", "gradient" or "tangent"; ``of`` the parameter for a gradient."""

    name: str
    kind: str
    contributions: tuple[Contribution, ...]
    of: str | None = None


@dataclass(frozen=True)
class Weight:
    """A matrix without time, computed once: ``name`` = ``operator`` of ``expression``.

    The expression's symbols are parameter(name) of parameters, constants, weights and, in the weights of a gradient,
    of totals. Entry by entry; axes align from the last, one that is missing or of length 1 is repeated. ``operator``:
    "pointwise"; "sum" over what ``shape`` lacks; "softmax" over the first axis; "stack": the totals ``slices`` one
    above the other, in place of an expression.
    ``slices``: the names by which equations read w[0], w[1], ..., the weights by delay; without them they read the
    weight by its own name.
    """

    name: str
    shape: tuple[int, ...]
    expression: Expression
    operator: str = "pointwise"
    slices: tuple[str, ...] = ()

    def reads(self) -> list[str]:
        """The names in its expression."""
        return [str(meaning(symbol)) for symbol in symbols_of(self.expression)]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each matrix or vector that equations may read."""
        return dict.fromkeys(self.slices, self.shape[1:]) if self.slices else {self.name: self.shape}


@dataclass(frozen=True)
class Carry:
    """What "bptt-rtrl" carries from block to block of ``length`` steps: for each sequence the derivative P of the joint
    state by the parameters. The joint state s is every state v with its past, v(T-depth+1) to v(T), oldest first, one
    after the other; it has ``size`` units. At the end of a block

        dL/dw += P dL_block/ds(0)              P <- P ds(T)/ds(0) + direct

    ``starts``: by state its first unit in s. ``adjoints``: by state the signal ds(T)/dv(t), whose rows are the units of
    s(T) and whose values at t <= 0 make up ds(T)/ds(0); ``seeds``: by state the given signal it starts from.
    ``direct``: by parameter what it does inside the block, a sum over t for each sequence and row: Outer or
    PointwiseSum of such an adjoint. ``initial``: by state the parameter that is its learned initial value.
    """

    length: int
    size: int
    starts: Mapping[str, int]
    adjoints: Mapping[str, str]
    seeds: Mapping[str, str]
    direct: Mapping[str, tuple[Contribution, ...]]
    initial: Mapping[str, str]


def fresh_name(wanted: str, taken: Iterable[str]) -> str:
    """``wanted``, with underscores added until it is not among ``taken``."""
    while wanted in taken:
        wanted += "_"
    return wanted
