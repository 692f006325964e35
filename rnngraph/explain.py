"""What a compiled network does: which equations run for all t at once, which are stepped, memory and FLOPs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codegen.blocks import BlockSweep
from codegen.ir import (
    Assign,
    Bound,
    Function,
    MatMul,
    Span,
    SparseGradient,
    SparseMatMul,
    Statement,
    View,
    loops_of,
)
from codegen.sweep import Contract, Record, RowAssign, RowProduct, Seed, Sweep
from rnngraph.errors import OptionError
from rnngraph.program import Compilation


@dataclass(frozen=True)
class Stage:
    """One component of a function's schedule. ``how`` is "batched", "stepped forward" or "stepped backward",
    ", staggered" where a loop mixes delays and look-aheads, ", 5 steps at once" where no cycle has a shorter delay."""

    function: str
    how: str
    computes: tuple[str, ...]


@dataclass(frozen=True)
class BufferUse:
    """One workspace buffer: its shape for the given T and batch, and its size in bytes."""

    function: str
    name: str
    holds: str
    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True)
class Explanation:
    """See ``Kernel.explain``. ``flops`` by function: 2 per multiply-add of a product, 1 per operation of an
    expression."""

    T: int
    batch: int
    stages: tuple[Stage, ...]
    buffers: tuple[BufferUse, ...]
    flops: dict[str, int]
    seconds: dict[str, float]

    def __str__(self) -> str:
        lines = [f"Schedule (T = {self.T}, batch = {self.batch})"]
        for function in dict.fromkeys(stage.function for stage in self.stages):
            memory = sum(buffer.bytes for buffer in self.buffers if buffer.function == function)
            lines += ["", f"{function}: {self.flops[function]:,} FLOP, workspace {memory:,} bytes"]
            for stage in self.stages:
                if stage.function == function:
                    lines.append(f"  {stage.how + ':':18} {', '.join(stage.computes)}")
            for buffer in self.buffers:
                if buffer.function == function:
                    holds = f"  ({buffer.holds})" if buffer.holds else ""
                    lines.append(f"    {buffer.name} {buffer.shape}{holds}")
        lines += ["", "Compilation, milliseconds: "]
        lines[-1] += ", ".join(f"{stage} {1000 * seconds:.1f}" for stage, seconds in self.seconds.items())
        return "\n".join(lines)


def explain(compilation: Compilation, T: int, batch: int) -> Explanation:
    """The explanation of a compilation for sequences of ``T`` steps and ``batch`` sequences at once. Raises OptionError
    for lengths that are no integers >= 1."""
    for name, value in (("T", T), ("batch", batch)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise OptionError(name, repr(value), "an integer >= 1", "give the length and number of sequences")
    T, batch = int(T), int(batch)
    stages: list[Stage] = []
    for name, schedule in compilation.schedules.items():
        for component in schedule.components:
            how = "batched" if not component.loop else f"stepped {'backward' if component.backward else 'forward'}"
            how += ", staggered" if component.shifts else ""
            how += f", {component.steps} steps at once" if component.steps > 1 else ""
            computes = tuple(signal for item in component.items for signal in item.defines)
            if stages and how == "batched" and stages[-1].how == how and stages[-1].function == name:
                stages[-1] = Stage(name, how, stages[-1].computes + computes)
            else:
                stages.append(Stage(name, how, computes))
    itemsize = 8 if compilation.program.dtype == "float64" else 4
    buffers: list[BufferUse] = []
    flops: dict[str, int] = {}
    for function in compilation.program.functions:
        flops[function.name] = _flops(function, T, batch)
        span = T  # the steps that the buffers hold
        for statement in function.body:
            if isinstance(statement, Sweep):
                swept = tuple(buffer.name for buffer in statement.buffers().values())
                how = "stepped forward"
                if isinstance(statement, BlockSweep):
                    how, span = "stepped backward", min(T, statement.length)
                    flops[function.name] += statement.flops_between(T, batch)
                stages.append(Stage(function.name, how, swept))
                for rows in statement.held().values():
                    whole = (rows.slots, batch, rows.rows, rows.columns)
                    size = itemsize * rows.slots * batch * rows.rows * rows.columns
                    holds = "the last values, in cyclic order" if rows.slots > 1 else ""
                    if isinstance(statement, BlockSweep) and rows.slots > 1:
                        holds = "the steps of a block" if rows.history else "before and after a block"
                    buffers.append(BufferUse(function.name, rows.name, holds, whole, size))
                    flops[function.name] += T * _sweep_cost(statement, rows.name, batch)
        for buffer in function.buffers().values():
            if buffer.storage == "workspace" and buffer.shape != "scalar":
                held = function.rows_of_a_step() if function.name == "stream" else buffer.length.at(span)
                held = min(buffer.length.constant, span) if buffer.shape == "step" else held
                shape = {
                    "sequence": (held, batch, buffer.columns),
                    "step": (*((held,) if held > 1 else ()), batch, buffer.columns),
                    "matrix": (buffer.rows, buffer.columns),
                    "vector": (buffer.columns,),
                    "history": (held, buffer.columns, batch),
                }[buffer.shape]
                size = itemsize
                for length in shape:
                    size *= length
                buffers.append(BufferUse(function.name, buffer.name, buffer.note, shape, size))
    return Explanation(T, batch, tuple(stages), tuple(buffers), flops, dict(compilation.seconds))


def _flops(function: Function, T: int, batch: int) -> int:
    total = 0
    for statement in function.body:
        total += _cost(statement, T, batch)
        total += T * sum(_cost(inner, T, batch) for loop in loops_of(statement) for inner in loop.body)
    return total


def _cost(statement: Statement, T: int, batch: int) -> int:
    if isinstance(statement, MatMul):
        rows, inner = _extent(statement.left, T, batch)
        return 2 * rows * inner * _extent(statement.right, T, batch)[1]
    if isinstance(statement, SparseMatMul):
        return 2 * len(statement.pattern) * _extent(statement.target, T, batch)[0]
    if isinstance(statement, SparseGradient):
        return 2 * len(statement.pattern) * _extent(statement.right, T, batch)[0]
    if isinstance(statement, Assign):
        rows, columns = _extent(statement.target, T, batch)
        return int(statement.expression.count_ops()) * rows * columns
    return 0


def _sweep_cost(sweep: Sweep, target: str, batch: int) -> int:
    """The FLOPs of a step for one buffer of the sweep."""
    total = 0
    for statement in sweep.body:
        if isinstance(statement, Seed):
            continue
        if isinstance(statement, Contract | Record):
            found = statement.sensitivity.buffer
            factor = 2 if isinstance(statement, Contract) else 0
        else:
            found = statement.target.buffer
            factor = 2
            if isinstance(statement, RowProduct):
                factor = 2 * statement.left.buffer.columns
            elif isinstance(statement, RowAssign):
                factor = int(statement.expression.count_ops())
        if found.name == target:
            total += factor * batch * found.rows * found.columns
    return total


def _extent(view: View, T: int, batch: int) -> tuple[int, int]:
    """Rows and columns of a view as a matrix: time and batch are one axis."""
    if isinstance(view.time, Span):
        span = Bound(view.time.stop.constant - view.time.start.constant, view.time.stop.times - view.time.start.times)
        rows = span.at(T) * batch
    elif view.rows is not None:
        rows = view.rows[1] - view.rows[0]
    else:
        rows = batch
    return (view.columns, rows) if view.transposed else (rows, view.columns)
