"""The part of the intermediate representation that goes forward in time with matrices per sequence: sensitivities.

Grammar
-------
::

    Sweep         for t = 1..T: body, in order
    row statement = RowAssign    target = pointwise expression of the operands
                  | RowProduct   target (+)= left @ right, for every sequence
                  | Expand       target row (i, j) (+)= local_ij jacobian_j.    (no jacobian: the unit vectors)
                  | RowSum       target (+)= sum over the columns of source
                  | Seed         target += the unit matrix, in rows that go on with t, in the last steps
                  | Contract     gradient += sum over the batch of a sensitivity with an error
                  | RowSum       target (+)= the sum over the units of the source, or over its rows too
                  | Record       the step's Jacobian of an output by a parameter = a sensitivity
    RowView   = buffer, delay                the value at t - delay: (batch, rows, columns)
    Operand   = RowView, or a View of a vector: on every row, or with its units down the rows, or of a matrix parameter

A BlockSweep (codegen.blocks) goes from t = T to 1 instead, on buffers with a ``history``.
A RowBuffer keeps the last ``slots`` values in turn: the value at time t lies in slot t modulo slots. What has more than
one slot is carried from call to call by who steps online.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from codegen.ir import Buffer, Expression, Opaque, View


@dataclass(frozen=True)
class RowBuffer:
    """(slots, batch, rows, columns). ``unit_of``: at t <= 0 it is the unit matrix (ones where ``rows`` is 1) unless a
    state of that node is given; else 0. With a ``history`` it is (T + 2 padding, batch, rows, columns) instead, and
    holds 0 outside of 1..T."""

    name: str
    rows: int
    columns: int
    slots: int = 1
    unit_of: str | None = None
    history: bool = False
    padding: int = 0
    note: str = ""


@dataclass(frozen=True)
class RowView:
    """The value at t - ``delay``; ``diagonal``: of a square matrix the diagonal, as a vector on every row."""

    buffer: RowBuffer
    delay: int = 0
    diagonal: bool = False
    transposed: bool = False


@dataclass(frozen=True)
class Lifted:
    """A vector or a matrix parameter as an operand. ``along``: "units" (the same on every row), "rows", "matrix"."""

    view: View
    along: str


Operand = RowView | Lifted


@dataclass(frozen=True)
class RowAssign:
    """``accumulate`` adds to the target."""

    target: RowView
    expression: Expression
    operands: tuple[tuple[Expression, Operand], ...]
    accumulate: bool = False
    note: str = ""


@dataclass(frozen=True)
class RowProduct:
    target: RowView
    left: RowView
    right: RowView | View
    accumulate: bool = False
    note: str = ""


@dataclass(frozen=True)
class Expand:
    target: RowView
    local: RowView
    jacobian: RowView | None
    accumulate: bool = False
    note: str = ""


@dataclass(frozen=True)
class Contract:
    """``gradient``: the parameter's place. ``local``: element by element, else over the units of each row. Without an
    error the sensitivity itself is added up."""

    gradient: View
    sensitivity: RowView
    error: View | None
    local: bool
    note: str = ""


@dataclass(frozen=True)
class Record:
    """The step's Jacobian of ``output`` by a parameter, in the columns that the parameter has in the vector."""

    output: str
    parameter: View
    sensitivity: RowView
    local: bool
    note: str = ""


@dataclass(frozen=True)
class RowSum:
    """target (one unit) (+)= the sum over the units of the source, row by row, or with ``over_rows`` over all rows too
    (then the target has one row)."""

    target: RowView
    source: RowView
    over_rows: bool = False
    accumulate: bool = False
    note: str = ""


@dataclass(frozen=True)
class Seed:
    """At t = T - k, for k = 0..depth-1, adds the unit matrix to the target's rows from ``last_row`` - k ``columns``."""

    target: RowView
    last_row: int
    depth: int
    note: str = ""


RowStatement = RowAssign | RowProduct | Expand | Contract | Record | RowSum | Seed


@dataclass(frozen=True)
class Sweep(Opaque):
    body: tuple[RowStatement, ...]
    note: str = ""

    def views(self) -> list[View]:
        """The vectors and parameters it reads; what it writes is its own."""
        found: list[View] = []
        for statement in self.body:
            if isinstance(statement, RowAssign):
                found += [operand.view for _, operand in statement.operands if isinstance(operand, Lifted)]
            elif isinstance(statement, RowProduct) and isinstance(statement.right, View):
                found.append(statement.right)
            elif isinstance(statement, Contract) and statement.error is not None:
                found.append(statement.error)
        return found

    def buffers(self) -> dict[str, RowBuffer]:
        """Its own buffers by name, in the order of first use."""
        found: dict[str, RowBuffer] = {}
        for statement in self.body:
            for field in dataclasses.fields(statement):
                value = getattr(statement, field.name)
                if isinstance(value, RowView):
                    found.setdefault(value.buffer.name, value.buffer)
            if isinstance(statement, RowAssign):
                for _, operand in statement.operands:
                    if isinstance(operand, RowView):
                        found.setdefault(operand.buffer.name, operand.buffer)
        return found

    def held(self) -> dict[str, RowBuffer]:
        """All that it keeps for each sequence, ``slots`` times rows x columns, by name."""
        return self.buffers()

    def map_buffers(self, change: Callable[[Buffer], Buffer]) -> Sweep:
        """The sweep with the buffer of every vector and parameter changed."""

        def view(given: View) -> View:
            return dataclasses.replace(given, buffer=change(given.buffer))

        def changed(statement: RowStatement) -> RowStatement:
            if isinstance(statement, RowAssign):
                operands = tuple(
                    (symbol, Lifted(view(operand.view), operand.along) if isinstance(operand, Lifted) else operand)
                    for symbol, operand in statement.operands
                )
                return dataclasses.replace(statement, operands=operands)
            if isinstance(statement, RowProduct) and isinstance(statement.right, View):
                return dataclasses.replace(statement, right=view(statement.right))
            if isinstance(statement, Contract) and statement.error is not None:
                return dataclasses.replace(statement, error=view(statement.error))
            return statement

        return dataclasses.replace(self, body=tuple(changed(statement) for statement in self.body))
