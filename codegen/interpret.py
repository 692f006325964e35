"""The interpreter: runs a Function one statement at a time on NumPy arrays. Slow and plain: the printers' oracle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codegen.functions import FUNCTIONS
from codegen.ir import (
    Apply,
    Assign,
    Buffer,
    Copy,
    Entrywise,
    Expression,
    Fill,
    Function,
    Fused,
    Load,
    Loop,
    MatMul,
    Reduce,
    Span,
    SparseGradient,
    SparseMatMul,
    Stack,
    StackMatMul,
    Staggered,
    Statement,
    Step,
    Store,
    Turn,
    View,
    loops_of,
)
from codegen.ufuncs import UFUNCS
from codegen.walk import turns

Array = NDArray[Any]


@dataclass
class Interpreter:
    """One run. ``vector``, ``gradient`` and ``direction`` are the vectors of the parameters, the gradient and the
    direction; ``given`` has "inputs", "targets", "state" (mappings) and "weights" or "shares" (an array (T, batch);
    weights may be None).
    Results are collected in ``results``."""

    T: int
    batch: int
    vector: Array
    gradient: Array
    given: Mapping[str, Any]
    buffers: dict[str, Array] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    direction: Array | None = None

    def run(self, function: Function) -> dict[str, Any]:
        """Run every statement; the results by kind: "output", "state", ... each a mapping, and "loss"."""
        for statement in function.body:
            self._execute(statement, None)
        return self.results

    def value(self, view: View) -> Array:
        """What a view without time holds, for instance a matrix that was computed from the parameters."""
        return self._array(view, None)

    def _execute(self, statement: Statement, t: int | None) -> None:
        if isinstance(statement, Loop | Staggered):
            for number, step in turns(statement, self.T):
                for inner in loops_of(statement)[number].body:
                    self._execute(inner, step)
        elif isinstance(statement, MatMul):
            target = self._array(statement.target, t, flat=True)
            product = self._array(statement.left, t, flat=True) @ self._array(statement.right, t, flat=True)
            target[...] = target + product if statement.accumulate else product
        elif isinstance(statement, StackMatMul):
            left = self._stacked(statement.stack)
            product = (left.T if statement.transposed else left) @ self._array(statement.right, t, flat=True)
            self._array(statement.target, t, flat=True)[...] = product
        elif isinstance(statement, Turn):
            self._array(statement.target, t)[...] = self._array(statement.source, t)
        elif isinstance(statement, SparseMatMul):
            self._sparse(statement, t)
        elif isinstance(statement, SparseGradient):
            self._sparse_gradient(statement)
        elif isinstance(statement, Assign):
            values = {symbol: self._array(view, t) for symbol, view in statement.operands}
            self._array(statement.target, t)[...] = evaluate(statement.expression, values)
        elif isinstance(statement, Entrywise):
            self._entrywise(statement)
        elif isinstance(statement, Fused):
            for part in statement.parts:
                self._execute(part, t)
        elif isinstance(statement, Apply):
            arguments = [
                self._repeated(a, statement.target, t) if isinstance(a, View) else a for a in statement.arguments
            ]
            self._array(statement.target, t)[...] = UFUNCS[statement.function].implementation(*arguments)
        elif isinstance(statement, Copy):
            self._array(statement.target, t)[...] = self._array(statement.source, t)
        elif isinstance(statement, Fill):
            self._array(statement.target, t)[...] = statement.value
        elif isinstance(statement, Reduce):
            self._reduce(statement, t)
        elif isinstance(statement, Load):
            self._load(statement)
        else:
            assert isinstance(statement, Store), f"{type(statement).__name__} is not interpreted"
            self._store(statement)

    def _entrywise(self, statement: Entrywise) -> None:
        pairs = zip(statement.operands, statement.shapes, strict=True)
        values = {symbol: self._array(view, None).reshape(shape) for (symbol, view), shape in pairs}
        value = evaluate(statement.expression, values)
        target = self._array(statement.target, None)
        if statement.operator == "softmax":
            exponential = np.exp(value - value.max(axis=0))
            value = exponential / exponential.sum(axis=0)
        elif statement.operator == "sum":
            value = value.sum(axis=tuple(range(value.ndim - len(statement.shape))))
            ones = tuple(axis for axis, length in enumerate(statement.shape) if length == 1)
            value = value.sum(axis=ones, keepdims=True)
        target[...] = np.broadcast_to(value, statement.shape).reshape(target.shape)

    def _sparse(self, statement: SparseMatMul, t: int | None) -> None:
        """Entry by entry. Here a history lies as a sequence does."""
        target, values = self._array(statement.target, t), self._array(statement.values, t)
        result = np.zeros_like(target)
        rows = dict(zip(statement.pattern.steps, (self._array(view, t) for view in statement.rows()), strict=True))
        for source, destination, delay, entry in statement.pattern.each():
            to, read = (source, destination) if statement.transposed else (destination, source)
            result[..., to] += values[entry] * rows[delay][..., read]
        target[...] = target + result if statement.accumulate else result

    def _sparse_gradient(self, statement: SparseGradient) -> None:
        target, right = self._array(statement.target, None), self._array(statement.right, None)
        result = np.zeros_like(target)
        rows = dict(zip(statement.pattern.steps, (self._array(view, None) for view in statement.rows()), strict=True))
        for source, destination, delay, entry in statement.pattern.each():
            result[entry] += (rows[delay][..., source] * right[..., destination]).sum()
        target[...] = result

    def _stacked(self, stack: Stack) -> Array:
        """All rows of a stack, as a matrix."""
        blocks = [
            self._array(taps.block(number), None, flat=True) for taps in stack.taps for number in range(taps.count)
        ]
        if stack.ones:
            blocks.append(np.ones((len(blocks[0]), 1)))
        return np.concatenate(blocks, axis=1)

    def _repeated(self, view: View, target: View, t: int | None) -> Array:
        """An operand of an Apply; one group wide, it serves each group of the target."""
        array = self._array(view, t)
        return np.tile(array, target.columns // view.columns) if 1 < view.columns < target.columns else array

    def _reduce(self, statement: Reduce, t: int | None) -> None:
        if statement.unless_state is not None and statement.unless_state in self.given["state"]:
            return
        source, target = self._array(statement.source, t), self._array(statement.target, t)
        if statement.kind == "rows":
            value = source.sum(axis=tuple(range(source.ndim - 1)))
        elif statement.kind == "all":
            value = source.sum()
        elif statement.kind == "units":
            value = source.sum(axis=-1, keepdims=True)
        else:
            largest = source.max(axis=-1, keepdims=True)
            value = largest + np.log(np.exp(source - largest).sum(axis=-1, keepdims=True))
        target[...] = target + value if statement.accumulate else value

    def _load(self, statement: Load) -> None:
        target = self._array(statement.target, None)
        if statement.units:
            for column, unit in enumerate(statement.units):
                self._load(replace(statement, target=_column(statement.target, column), name=unit, units=()))
            return
        if statement.what == "input":
            target[...] = self.given["inputs"][statement.name]
        elif statement.what == "target":
            target[...] = self.given["targets"][statement.name]
        elif statement.what == "classes":
            target[...] = self.given["targets"][statement.name][..., None] == np.arange(statement.target.columns)
        elif statement.what == "share":
            target[...] = self.given["shares"][..., None]
        elif statement.what == "weight":
            weights = self.given.get("weights")
            scale = self.T * self.batch if weights is None else weights.sum()
            target[...] = (np.ones((self.T, self.batch)) if weights is None else weights)[..., None] / scale
        elif statement.what == "state_tangent" and statement.name in self.given["state"]:
            target[...] = 0.0
        elif statement.name in self.given["state"]:
            given = self.given["state"][statement.name]
            if target.ndim == 3 and len(given) < len(target):  # of a unit that keeps fewer values than its layer
                target[: -len(given)] = statement.default
                target = target[-len(given) :]
            target[...] = given.reshape(target.shape)
        else:
            default = statement.default
            target[...] = self._array(default, None) if isinstance(default, View) else default

    def _store(self, statement: Store) -> None:
        value = self._array(statement.source, None).copy()
        if statement.units:
            found = self.results.setdefault(statement.what, {})
            rows = value[None] if statement.source.buffer.shape == "step" else value
            found.update({unit: rows[..., k : k + 1] for k, unit in enumerate(statement.units)})
            return
        if statement.what == "loss":
            self.results["loss"] = float(value)
            return
        if statement.source.buffer.shape == "step":
            value = value[None]
        self.results.setdefault(statement.what, {})[statement.name] = value

    def _array(self, view: View, t: int | None, flat: bool = False) -> Array:
        array = self._buffer(view.buffer)
        if view.buffer.shape == "scalar":
            return array
        if view.buffer.shape in ("sequence", "history"):
            if isinstance(view.time, Step):
                assert t is not None, "a step outside a loop"
                row = t - 1 + view.time.offset
                count = min(view.steps, self.T - t + 1)
                assert 0 <= row <= array.shape[0] - count, f"row {row} of {view.buffer.name} with {len(array)} rows"
                array = array[row] if view.steps == 1 else _merged(array[row : row + count])
            else:
                assert isinstance(view.time, Span)
                start, stop = view.time.start.at(self.T), view.time.stop.at(self.T)
                assert 0 <= start <= stop <= array.shape[0], f"rows {start}:{stop} of {view.buffer.name}"
                array = array[start:stop]
        elif view.steps > 1:
            assert t is not None, "several steps outside a loop"
            array = _merged(array[: self.T - t + 1])
        elif view.buffer.shape == "matrix":
            assert view.rows is not None
            array = array[view.rows[0]] if view.vector else array[view.rows[0] : view.rows[1]]
        array = array[..., view.start : view.stop]
        if flat and array.ndim == 3:
            array = _merged(array)
        result: Array = array.T if view.transposed else array
        return result

    def _memory(self, buffer: Buffer, shape: tuple[int, ...]) -> Array:
        """Fresh memory, or a part of that of the buffer's host."""
        if buffer.host is None:
            return np.zeros(shape, dtype=self.vector.dtype)
        memory = self.buffers[buffer.host.name].reshape(-1)
        size = math.prod(shape)
        return (memory[memory.size - size :] if buffer.host.at_end else memory[:size]).reshape(shape)

    def _buffer(self, buffer: Buffer) -> Array:
        if buffer.storage == "constant":
            assert buffer.values is not None
            return buffer.values
        if buffer.storage in ("parameter", "direction", "gradient"):
            vectors = {"parameter": self.vector, "direction": self.direction, "gradient": self.gradient}
            vector = vectors[buffer.storage]
            assert vector is not None, f"{buffer.name} without a direction"
            return vector[buffer.offset : buffer.offset + buffer.rows * buffer.columns].reshape(
                buffer.rows, buffer.columns
            )
        if buffer.name not in self.buffers:
            shapes: dict[str, tuple[int, ...]] = {
                "sequence": (buffer.length.at(self.T), self.batch, buffer.columns),
                "history": (buffer.length.at(self.T), self.batch, buffer.columns),
                "step": (*((buffer.length.constant,) if buffer.length.constant else ()), self.batch, buffer.columns),
                "matrix": (buffer.rows, buffer.columns),
                "vector": (buffer.columns,),
                "scalar": (),
            }
            self.buffers[buffer.name] = self._memory(buffer, shapes[buffer.shape])
        return self.buffers[buffer.name]


def _column(view: View, column: int) -> View:
    return replace(view, start=view.start + column, stop=view.start + column + 1)


def _merged(array: Array) -> Array:
    """Time and batch as one axis, as a view: a sequence's rows are evenly spaced even when it is a part of the
    columns."""
    shape = (array.shape[0] * array.shape[1], array.shape[2])
    merged: Array = np.lib.stride_tricks.as_strided(array, shape, array.strides[1:])
    return merged


def evaluate(expression: Expression, values: Mapping[Expression, Any]) -> Any:
    """A pointwise expression of primitives on arrays."""
    if expression.is_Symbol:
        return values[expression]
    if expression.is_number:
        return float(expression)
    arguments = [evaluate(argument, values) for argument in expression.args]
    if expression.is_Add:
        return sum(arguments[1:], arguments[0])
    if expression.is_Mul:
        result = arguments[0]
        for argument in arguments[1:]:
            result = result * argument
        return result
    if expression.is_Pow:
        exponent = int(expression.exp)
        return arguments[0] ** exponent if exponent >= 0 else 1 / arguments[0] ** -exponent
    implementation = FUNCTIONS[expression.func.__name__].implementation
    assert implementation is not None, "not a primitive: run rewrite_in_primitives first"
    return implementation(*arguments)
