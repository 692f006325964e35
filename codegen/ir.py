"""The intermediate representation: a small array program over time, frozen.

Grammar
-------
::

    Function   = name, buffers, body
    statement  = Loop        for t = 1..T (or T..1): body; or for several t at once
               | Staggered   loops that take turns, each at a t of its own
               | Sweep       for t = 1..T: statements on matrices per sequence (codegen.sweep)
               | MatMul      target (+)= left @ right
               | SparseMatMul target (+)= sums over the entries of a pattern; reads a history
               | SparseGradient target = for each weight of a pattern the sum over time and batch of source times delta
               | Turn        target = source, a history of the same rows
               | StackMatMul target = stack @ right, or stack^T @ right; the stack is never whole (after stack_products)
               | Assign      target = pointwise expression of the operands        (expression: sympy)
               | Entrywise   target = expression of matrices without time, its sum or softmax over the first axis
               | Apply       target = ufunc(arguments)                            (only after expand_pointwise)
               | Fused       several Assigns of one shape, element by element       (only after fuse_pointwise)
               | Copy        target = source                                      (a vector is repeated)
               | Fill        target = number
               | Reduce      target (+)= sum or log-sum-exp of source over an axis
               | Load        target = what the caller gave (input, target, step weight, state), or its derivative
               | Store       what the caller gets (output, state, gradient of an input or of the state, loss)
    View       = buffer, time, rows, columns, transposed
    time       = Step(offset, steps)  the row t-1+offset of a sequence, t the enclosing loop's variable; with steps > 1
                                      so many rows from there on, fewer where t + steps goes beyond T
               | Span(start, stop)    rows start..stop of a sequence; each bound is constant + T * times
    Buffer     = sequence (length, batch, columns)
               | step (batch, columns); (steps, batch, columns) in a loop of several steps
               | history (length, columns, batch), in a Turn and a SparseMatMul alone
               | matrix (rows, columns) | vector (columns,) | scalar
               | stack (some steps, batch, columns), in a StackMatMul alone

A sequence or step view has shape (time, batch, columns) or (batch, columns); in a MatMul, in a row sum and in a loop of
several steps, time and batch count as one axis. Operands of an Assign have the target's shape, or one column, or are
vectors over the columns.
Storage: "workspace" buffers persist per (T, batch) and are zeroed once, when they are made: padding that is never
written reads 0. "parameter", "direction" and "gradient" buffers are views at ``offset`` of one vector each, laid out
alike: the parameters, the direction in which derivatives are taken, the result. "constant" buffers hold ``values``.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from codegen.pattern import Pattern
from codegen.places import ONCE as ONCE
from codegen.places import Bound as Bound
from codegen.places import Buffer as Buffer
from codegen.places import Host as Host
from codegen.places import Span as Span
from codegen.places import Step as Step
from codegen.places import View as View
from codegen.places import moved as moved

Expression = Any  # a sympy expression; sympy ships no types


@dataclass(frozen=True)
class MatMul:
    target: View
    left: View
    right: View
    accumulate: bool = False
    note: str = ""


@dataclass(frozen=True)
class Taps:
    """``count`` blocks of columns side by side: block k is ``source`` (T rows) moved by k * ``spacing`` rows, back in
    time where that is negative."""

    source: View
    count: int = 1
    spacing: int = 0

    def block(self, number: int) -> View:
        """The rows that block ``number`` holds."""
        return moved(self.source, number * self.spacing)


@dataclass(frozen=True)
class Stack:
    """Taps side by side, and a last column of ones: as many steps at a time as stay in the cache lie in ``buffer``."""

    buffer: Buffer
    taps: tuple[Taps, ...]
    ones: bool


@dataclass(frozen=True)
class StackMatMul:
    """``target`` = stack @ ``right``, or with ``transposed`` stack^T @ ``right``, a sum over all stretches of time.
    ``stands``: an earlier one has built the same stack, and what it reads is unchanged."""

    target: View
    stack: Stack
    right: View
    transposed: bool = False
    stands: bool = False
    note: str = ""


@dataclass(frozen=True)
class Turn:
    """A history's rows = those of a sequence or a step: the sequences of the batch become the last axis, so that what
    one unit is to all of them lies together."""

    target: View
    source: View
    note: str = ""


@dataclass(frozen=True)
class SparseMatMul:
    """For each entry e of ``pattern``: target(t)[destination] += values[weight] * source(t - delay)[source], or
    ``transposed`` target(t)[source] += values[weight] * source(t + delay)[destination]. ``source`` is the history at t;
    ``values`` a vector."""

    target: View
    source: View
    values: View
    pattern: Pattern
    transposed: bool = False
    accumulate: bool = False
    note: str = ""

    def rows(self) -> list[View]:
        """The rows of the history that it reads, one view for each delay."""
        return [moved(self.source, step if self.transposed else -step) for step in self.pattern.steps]


@dataclass(frozen=True)
class SparseGradient:
    """target[weight] = for its entries e the sum over time and batch of left(t - delay)[source] right(t)[destination];
    ``left`` and ``right`` are sequences at t = 1..T, ``target`` a vector."""

    target: View
    left: View
    right: View
    pattern: Pattern
    note: str = ""

    def rows(self) -> list[View]:
        """What it reads of ``left``, one view for each delay."""
        return [moved(self.left, -step) for step in self.pattern.steps]


@dataclass(frozen=True)
class Assign:
    """``operands`` pairs each free symbol of ``expression`` with the view it stands for."""

    target: View
    expression: Expression
    operands: tuple[tuple[Expression, View], ...]
    note: str = ""


@dataclass(frozen=True)
class Entrywise:
    """Outside of loops: matrices read as arrays of up to three axes, entry by entry; axes align from the last, one that
    is missing or of length 1 is repeated. ``shape`` is the target's, ``shapes`` those of the operands. ``operator``:
    "pointwise", "sum" over what ``shape`` lacks, "softmax" over the first axis."""

    target: View
    shape: tuple[int, ...]
    operator: str
    expression: Expression
    operands: tuple[tuple[Expression, View], ...]
    shapes: tuple[tuple[int, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Apply:
    """``target`` = ``function``(arguments), ``function`` a key of codegen.expand_pointwise.UFUNCS; an argument is a
    View or a number."""

    target: View
    function: str
    arguments: tuple[View | float, ...]
    note: str = ""


@dataclass(frozen=True)
class Fused:
    """One kernel: every element runs ``parts`` in order; what a part reads of an earlier part's target is its own
    element.

    All targets have the same shape. ``arguments`` are the memory that the parts' views lie in: whole rows of a
    sequence or
    whole buffers, targets first. After keep_in_registers, what lies outside of them is a value within the kernel.
    """

    parts: tuple[Assign, ...]
    arguments: tuple[View, ...]
    note: str = ""


@dataclass(frozen=True)
class Copy:
    target: View
    source: View
    note: str = ""


@dataclass(frozen=True)
class Fill:
    """With ``once`` nothing else writes to the target: it may be filled when the workspace is made."""

    target: View
    value: float
    note: str = ""
    once: bool = False


@dataclass(frozen=True)
class Reduce:
    """``kind``: "rows" (sum over time and batch: a vector), "all" (a scalar), "units" (sum over columns),
    "logsumexp" (over columns). With ``unless_state`` it happens only when the caller gave no state for that node."""

    target: View
    kind: str
    source: View
    accumulate: bool = False
    unless_state: str | None = None
    note: str = ""


@dataclass(frozen=True)
class Load:
    """``what``: "input", "target", "classes" (integers, loaded as one-hot rows), "weight" (divided by the sum of all),
    "share" (a weight that is one already), "noise" (random signs), "state". A state that is not given is filled with
    ``default``, a number or a vector view; "state_tangent" is 0 where the state is given, else ``default``. With
    ``units``, column k is what the caller calls ``units[k]``; the last rows of a state are those of a unit that keeps
    fewer."""

    target: View
    what: str
    name: str
    default: float | View = 0.0
    note: str = ""
    units: tuple[str, ...] = ()


@dataclass(frozen=True)
class Store:
    """``what``: "output", "state", "input_gradient", "state_gradient", "loss". ``units`` as those of a Load."""

    source: View
    what: str
    name: str
    note: str = ""
    units: tuple[str, ...] = ()


@dataclass(frozen=True)
class Loop:
    """The body for t = 1..T, or for t = T..1 when ``backward``.

    ``steps`` > 1: for t to t + steps - 1 at once, in turns that begin at t = 1, 1 + steps, ..., the last with the steps
    that are left. Each statement runs for all steps of a turn before the next statement does, so the order of the body
    is one in which nothing is read before it is computed. It is so for any smaller number, too.
    """

    body: tuple[Statement, ...]
    backward: bool = False
    note: str = ""
    steps: int = 1


@dataclass(frozen=True)
class Staggered:
    """Loops that take turns, all forward or all backward: in step n, ``parts[k]`` runs for t = n + ``shifts[k]``, where
    this lies in 1..T. What one reads of another's values at other t must have been computed by then."""

    parts: tuple[Loop, ...]
    shifts: tuple[int, ...]
    note: str = ""

    @property
    def backward(self) -> bool:
        """Whether n goes down."""
        return self.parts[0].backward


class Opaque(abc.ABC):
    """A statement of another file's grammar (codegen.sweep): what passes need to know of it."""

    note: str

    @abc.abstractmethod
    def views(self) -> list[View]:
        """The views that it reads; what it writes is its own."""

    @abc.abstractmethod
    def map_buffers(self, change: Callable[[Buffer], Buffer]) -> Opaque:
        """The statement with every view's buffer changed."""


Statement = (
    MatMul
    | StackMatMul
    | SparseMatMul
    | SparseGradient
    | Turn
    | Assign
    | Entrywise
    | Apply
    | Fused
    | Copy
    | Fill
    | Reduce
    | Load
    | Store
    | Loop
    | Staggered
    | Opaque
)


@dataclass(frozen=True)
class Function:
    """One entry point: ``name`` is "forward", "loss", "loss_and_gradient", "hessian_vector_product" or "jacobian".
    ``body`` runs for given T and batch.

    "stream" computes what "forward" does in one loop over all that a step computes, so that a printer can make of it
    what runs one step a call: nothing but the Loads and Stores stands outside the loop and reads a sequence of T rows.
    "step" is the same in less memory, for devices.

    "window_loss" and "window_gradient" run on a part of a sequence: step weights are taken as they are, and the state
    after the last step is a result too.
    """

    name: str
    body: tuple[Statement, ...]

    def statements(self) -> Iterator[Statement]:
        """Every statement, those inside loops included."""
        for statement in self.body:
            yield statement
            for loop in loops_of(statement):
                yield from loop.body

    def buffers(self) -> Mapping[str, Buffer]:
        """The buffers it uses, by name, in the order of first use."""
        return self._buffers

    @cached_property
    def _buffers(self) -> Mapping[str, Buffer]:
        found: dict[str, Buffer] = {}
        for statement in self.statements():
            for view in views_of(statement):
                found.setdefault(view.buffer.name, view.buffer)
            if isinstance(statement, StackMatMul):
                found.setdefault(statement.stack.buffer.name, statement.stack.buffer)
        return found

    def rows_of_a_step(self) -> int:
        """How many neighbouring rows of the sequences one step of its loops reaches: what a ring buffer must hold."""
        timed = [buffer for buffer in self.buffers().values() if buffer.shape in ("sequence", "history")]
        lengths = [buffer.length.constant for buffer in timed]
        return 1 + max(lengths, default=0)


def loops_of(statement: Statement) -> tuple[Loop, ...]:
    """The loops of a statement: a Loop itself, the parts of a Staggered, else none."""
    if isinstance(statement, Staggered):
        return statement.parts
    return (statement,) if isinstance(statement, Loop) else ()


def views_of(statement: Statement) -> list[View]:
    """The views a statement touches, target first; those in a loop are not included."""
    if isinstance(statement, MatMul):
        return [statement.target, statement.left, statement.right]
    if isinstance(statement, SparseMatMul):
        return [statement.target, *statement.rows(), statement.values]
    if isinstance(statement, SparseGradient):
        return [statement.target, *statement.rows(), statement.right]
    if isinstance(statement, StackMatMul):
        blocks = [taps.block(number) for taps in statement.stack.taps for number in range(taps.count)]
        return [statement.target, *blocks, statement.right]
    if isinstance(statement, Fused):
        return list(statement.arguments)
    if isinstance(statement, Assign | Entrywise):
        return [statement.target, *(view for _, view in statement.operands)]
    if isinstance(statement, Apply):
        return [statement.target, *(argument for argument in statement.arguments if isinstance(argument, View))]
    if isinstance(statement, Copy | Reduce | Turn):
        return [statement.target, statement.source]
    if isinstance(statement, Load):
        return [statement.target, *([statement.default] if isinstance(statement.default, View) else [])]
    if isinstance(statement, Fill):
        return [statement.target]
    if isinstance(statement, Store):
        return [statement.source]
    return statement.views() if isinstance(statement, Opaque) else []


def written(statement: Statement) -> View | None:
    """The view a statement writes, if any; a Fused writes several: see its parts."""
    return None if isinstance(statement, Loop | Staggered | Store | Fused | Opaque) else statement.target
