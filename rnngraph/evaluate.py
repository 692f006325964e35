"""The reference interpreter of a System: slow, plain, and independent of scheduling and code generation.

It computes each signal at each t on demand from its equation, with arrays of any element type, exact fractions
included:
this is what ``verify`` compares with sympy's derivative of the unrolled loss.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import sympy
from numpy.typing import NDArray

from codegen.functions import FUNCTIONS, PointwiseFunction, expand_primes
from rnngraph.equations import (
    BoundarySum,
    Contraction,
    Equation,
    Expression,
    Outer,
    PointwiseSum,
    Read,
    Signal,
    SparseOuter,
    Term,
    Total,
    Weight,
    WeightValue,
    is_along_rows,
    meaning,
    reads_of,
)
from rnngraph.system import System

Array = NDArray[Any]
Functions = Mapping[str, Callable[..., Any]]


def numpy_functions() -> dict[str, Callable[..., Any]]:
    """Every function of the table on float arrays."""
    table: dict[str, Callable[..., Any]] = {}
    for name, rule in FUNCTIONS.items():
        if rule.implementation is not None:
            table[name] = rule.implementation
    return table


def evaluate_expression(
    expression: Expression, values: Mapping[Expression, Any], functions: Functions, number: Callable[[Any], Any] = float
) -> Any:
    """A pointwise sympy expression on values per symbol; a function without an entry is rewritten into primitives."""
    cache: dict[Expression, Any] = {}
    order: list[tuple[Expression, bool]] = [(expression, False)]
    while order:  # an explicit stack: expressions may be deeper than Python's recursion limit
        node, ready = order.pop()
        if node in cache:
            continue
        if node.is_Symbol:
            cache[node] = values[node]
        elif node.is_number and not node.atoms(PointwiseFunction):
            cache[node] = number(node)
        elif isinstance(node, PointwiseFunction) and node.func.__name__ not in functions:
            name = node.func.__name__
            rewritten = expand_primes(node) if name.endswith("'") else FUNCTIONS[name].rewrite(*node.args)  # type: ignore[misc]
            if ready:
                cache[node] = cache[rewritten]
            else:
                order += [(node, True), (rewritten, False)]
        elif not ready:
            order.append((node, True))
            order += [(argument, False) for argument in node.args]
        else:
            cache[node] = _apply(node, [cache[argument] for argument in node.args], functions)
    return cache[expression]


def _apply(node: Expression, arguments: list[Any], functions: Functions) -> Any:
    if node.is_Add:
        total = arguments[0]
        for value in arguments[1:]:
            total = total + value
        return total
    if node.is_Mul:
        product = arguments[0]
        for value in arguments[1:]:
            product = product * value
        return product
    if node.is_Pow:
        exponent = int(node.exp)
        return arguments[0] ** exponent if exponent >= 0 else 1 / arguments[0] ** -exponent
    return functions[node.func.__name__](*arguments)


def matrices_of(
    system: System, given: Mapping[str, Array], functions: Functions, number: Callable[[Any], Any] = float
) -> dict[str, Array]:
    """What equations read by name: the given parameters and constants, effective weights and their slices."""
    found = {**system.constants, **given}
    for weight in system.weights:
        found[weight.name] = weight_value(weight, found, functions, number)
        found.update(zip(weight.slices, found[weight.name], strict=bool(weight.slices)))
    return found


def weight_value(
    weight: Weight, found: Mapping[str, Array], functions: Functions, number: Callable[[Any], Any] = float
) -> Array:
    """The value of one effective weight, or of one weight of a gradient, from those before it."""
    if weight.operator == "stack":
        return np.stack([found[name] for name in weight.slices])
    symbols = {symbol: found[str(meaning(symbol))] for symbol in weight.expression.free_symbols}
    value = np.asarray(evaluate_expression(weight.expression, symbols, functions, number))
    if weight.operator == "sum":
        return summed_to(value, weight.shape)
    if weight.operator == "softmax":
        if value.dtype.kind == "f":  # exact numbers cannot overflow
            value = value - value.max(axis=0)
        exponential = functions["exp"](value)
        value = exponential / exponential.sum(axis=0)
    return np.broadcast_to(value, weight.shape)


@dataclass
class Evaluation:
    """One evaluation of a System on data.

    ``given``: arrays (T, batch, size) of inputs, targets and step weights by signal name; ``parameters`` by name;
    ``state``: (depth, batch, size) by node, oldest first; a node without one reads its ``initial``.
    """

    system: System
    T: int
    batch: int
    given: Mapping[str, Array]
    parameters: Mapping[str, Array]
    state: Mapping[str, Array] = field(default_factory=dict)
    functions: Functions = field(default_factory=numpy_functions)
    number: Callable[[Any], Any] = float
    _values: dict[Read, Array] = field(default_factory=dict)

    @cached_property
    def matrices(self) -> dict[str, Array]:
        """What equations read by name: parameters, constants, effective weights and their slices."""
        constants = {name: self._constant(value) for name, value in self.system.constants.items()}
        return matrices_of(self.system, {**self.parameters, **constants}, self.functions, self.number)

    @cached_property
    def _weight_gradients(self) -> dict[str, Array]:
        """The weights of the gradient; they read totals, too."""
        found = dict(self.matrices)
        totals = {total.name: total for total in self.system.totals}
        for weight in self.system.weight_gradients:
            for name in weight.slices if weight.operator == "stack" else weight.reads():
                if name not in found:
                    found[name] = self._total(totals[name])
            found[weight.name] = weight_value(weight, found, self.functions, self.number)
        return found

    def value(self, signal: str, t: int) -> Array:
        """The value of ``signal`` at time t (1-based, outside of 1..T too), shape (batch, size).

        An adjoint outside of 1..T is what reaches there from 1..T; what reads it from there takes it as 0.
        """
        waiting = [Read(signal, t)]
        while waiting:
            name, time = waiting[-1]
            if waiting[-1] in self._values:
                waiting.pop()
                continue
            outside = self._outside(name, time)
            if outside is not None:
                self._values[waiting.pop()] = outside
                continue
            equation = self.system.equation_of(name)
            if not 1 <= time <= self.T and self._is_adjoint(name):
                equation = _reaching_in(equation, time, self.T)
            needed = [Read(read.signal, time - read.delay) for read in equation.reads()]
            missing = [read for read in needed if read not in self._values and not self._reads_zero(*read)]
            if missing:
                waiting += missing
                continue
            self._values[waiting.pop()] = self._compute(equation, time)
        return self._values[Read(signal, t)]

    def _reads_zero(self, name: str, time: int) -> bool:
        return not 1 <= time <= self.T and self._is_adjoint(name)

    def _read(self, name: str, time: int) -> Array:
        """What an equation or a total reads."""
        if not self._reads_zero(name, time):
            return self.value(name, time)
        signal = self.system.signals[name]
        shape = (self.batch, signal.rows, signal.size) if signal.rows else (self.batch, signal.size)
        return np.full(shape, self.number(0), dtype=self._dtype())

    def sequence(self, signal: str) -> Array:
        """The value of ``signal`` at t = 1..T, shape (T, batch, size)."""
        return np.stack([self.value(signal, t) for t in range(1, self.T + 1)])

    def boundary(self, signal: str, depth: int, ahead: bool = False) -> Array:
        """The values of an adjoint signal at t = 1-depth..0, or at T+1..T+depth, shape (depth, batch, size)."""
        first = self.T + 1 if ahead else 1 - depth
        return np.stack([self.value(signal, t) for t in range(first, first + depth)])

    def total(self, total: Total) -> Array:
        """The value of a total: a number for the loss, an array of the parameter's shape for a gradient.

        Where the system has windows (truncated backpropagation), a gradient is summed over them; ``value`` of an
        adjoint is that of one window over all of 1..T.
        """
        if self.system.windows is None or total.kind != "gradient":
            return self._total(total)
        summed: Array = sum((window._total(total) for window in self._windows), start=np.asarray(self.number(0)))
        return summed

    @cached_property
    def _windows(self) -> list[Evaluation]:
        """An evaluation of each window: the losses of its last k1 steps, the state before it as given."""
        assert self.system.windows is not None
        k1, k2 = self.system.windows
        windows: list[Evaluation] = []
        for counted in range(0, self.T, k1):
            start, stop = max(counted + k1 - k2, 0), min(counted + k1, self.T)
            given = {name: array[start:stop] for name, array in self.given.items()}
            for name, array in given.items():
                if self.system.signals[name].kind == "weight":
                    given[name] = array.copy()
                    given[name][: counted - start] = self.number(0)
            state = self.state
            if start > 0:
                depths = self.system.state_depths.items()
                state = {
                    name: np.stack([self.value(name, t) for t in range(start + 1 - depth, start + 1)])
                    for name, depth in depths
                }
            system = dataclasses.replace(self.system, windows=None)
            windows.append(
                dataclasses.replace(self, system=system, T=stop - start, given=given, state=state, _values={})
            )
        return windows

    def _total(self, total: Total) -> Array:
        shape = self.system.shapes[total.of] if total.of is not None else ()
        result = np.zeros(shape, dtype=self._dtype()) + self.number(0)
        for contribution in total.contributions:
            if isinstance(contribution, Contraction):
                result = result + self._contraction(contribution, shape)
                continue
            if isinstance(contribution, WeightValue):
                result = result + self._weight_gradients[contribution.weight]
                continue
            if isinstance(contribution, BoundarySum):
                node, ahead = contribution.node, contribution.ahead
                if (self.system.ahead_names[node] if ahead else node) not in self.state:
                    depth = (self.system.ahead_depths if ahead else self.system.state_depths)[node]
                    result = result + self.boundary(contribution.signal, depth, ahead).sum(axis=(0, 1))
                continue
            for t in range(1, self.T + 1):
                if isinstance(contribution, Outer):
                    left = self._read(contribution.left, t - contribution.left_delay)
                    result = result + left.T @ self._read(contribution.right, t - contribution.right_delay)
                elif isinstance(contribution, SparseOuter):
                    result = result + self._sparse_outer(contribution, t).reshape(shape)
                else:
                    result = result + self._pointwise_sum(contribution, t)
        summed: Array = np.asarray(result)
        return summed

    def _contraction(self, contribution: Contraction, shape: tuple[int, ...]) -> Array:
        result = np.zeros(shape, dtype=self._dtype()) + self.number(0)
        for t in range(1, self.T + 1):
            product = self._read(contribution.sensitivity, t - contribution.delay)
            if contribution.error is not None:
                product = product * _on_rows(self.value(contribution.error, t))
            summed = product if contribution.local else product.sum(axis=2)
            result = result + summed.sum(axis=0).reshape(shape)
        added: Array = np.asarray(result)
        return added

    def _pointwise_sum(self, contribution: PointwiseSum, t: int) -> Array:
        value = self._pointwise(contribution.expression, t)
        value = np.broadcast_to(value, (self.batch, contribution.size))
        summed: Array = value.sum() if contribution.over_units else value.sum(axis=0)
        return summed

    def _dtype(self) -> Any:
        for array in (*self.parameters.values(), *self.given.values()):
            return array.dtype
        return np.dtype(float)

    def _outside(self, name: str, time: int) -> Array | None:
        """The value when it does not come from the signal's equation."""
        signal = self.system.signals[name]
        inside = 1 <= time <= self.T
        if inside:
            return self.given[name][time - 1] if name in self.given else None
        if self._is_adjoint(name):
            return None
        if signal.rows:
            return self._rows_at_start(signal)
        given = self._name_in_state(name, time)
        if given in self.state:
            return np.asarray(self.state[given][time - 1 if time < 1 else time - self.T - 1])
        if signal.kind == "tangent" and self._name_in_state(signal.origin or "", time) in self.state:
            return np.full((self.batch, signal.size), self.number(0), dtype=self._dtype())
        if isinstance(signal.initial, str):
            return np.tile(self.parameters[signal.initial], (self.batch, 1))
        return np.full((self.batch, signal.size), self.number(signal.initial), dtype=self._dtype())

    def _name_in_state(self, name: str, time: int) -> str:
        """By which name a state holds the value of a node at a time outside of 1..T; empty where none does."""
        if time > self.T:
            return self.system.ahead_names.get(name, "")
        return name if name in self.system.state_depths else ""

    def _rows_at_start(self, signal: Signal) -> Array:
        """A sensitivity before t = 1: 0, or the unit matrix for a learned initial value that is in use."""
        value = np.full((self.batch, signal.rows, signal.size), self.number(0), dtype=self._dtype())
        if signal.starts_as_unit and signal.origin not in self.state:
            for k in range(signal.size):
                value[:, k if signal.rows > 1 else 0, k] = self.number(1)
        return value

    def _is_adjoint(self, name: str) -> bool:
        """Whether the signal is an adjoint, or the tangent of one: both are defined at t <= 0 by their equation."""
        signal = self.system.signals[name]
        while signal.kind == "tangent" and signal.origin is not None:
            signal = self.system.signals[signal.origin]
        return signal.kind == "adjoint"

    def _compute(self, equation: Equation, time: int) -> Array:
        signal = self.system.signals[equation.signal]
        shape = (self.batch, signal.rows, signal.size) if signal.rows else (self.batch, signal.size)
        result = np.zeros(shape, dtype=self._dtype()) + self.number(0)
        for term in equation.terms:
            if term.pattern is not None:
                result = result + self._sparse(term, time)
                continue
            source = self._read(term.source, time - term.delay)
            if term.operator == "dense":
                assert term.parameter is not None
                weight = self.matrices[term.parameter]
                result = result + source @ (weight.T if term.transposed else weight)
            elif term.operator in ("product", "expand", "diagonal"):
                result = result + self._with_jacobian(term, source, time, shape)
            elif term.operator == "sum_all":
                result = result + source.sum(axis=(1, 2), keepdims=True)
            elif term.operator == "sum":
                result = result + source.sum(axis=-1, keepdims=True)
            else:
                exponential, logarithm = self.functions["exp"], self.functions["log"]
                result = result + logarithm(exponential(source).sum(axis=1, keepdims=True))
        complete: Array = result + self._pointwise(equation.expression, time, rows=signal.rows > 0)
        return complete

    def _sparse(self, term: Term, time: int) -> Array:
        """Entry by entry."""
        assert term.pattern is not None and term.parameter is not None
        pattern, weights = term.pattern, self.matrices[term.parameter].reshape(-1)
        size = pattern.rows if term.transposed else pattern.columns
        result = np.zeros((self.batch, size), dtype=self._dtype()) + self.number(0)
        for source, destination, delay, entry in pattern.each():
            if term.transposed:
                read = self._read(term.source, time + delay)[:, destination]
                result[:, source] = result[:, source] + weights[entry] * read
            else:
                read = self._read(term.source, time - delay)[:, source]
                result[:, destination] = result[:, destination] + weights[entry] * read
        summed: Array = result
        return summed

    def _sparse_outer(self, outer: SparseOuter, t: int) -> Array:
        result = np.zeros(outer.pattern.weights, dtype=self._dtype()) + self.number(0)
        right = self._read(outer.right, t)
        for source, destination, delay, entry in outer.pattern.each():
            left = self._read(outer.left, t - delay)
            result[entry] = result[entry] + (left[:, source] * right[:, destination]).sum()
        summed: Array = result
        return summed

    def _with_jacobian(self, term: Term, source: Array, time: int, shape: tuple[int, ...]) -> Array:
        if term.jacobian is None:
            matrix = np.full((1, source.shape[2], source.shape[2]), self.number(0), dtype=source.dtype)
            for k in range(source.shape[2]):
                matrix[0, k, k] = self.number(1)
        else:
            matrix = self.value(term.jacobian, time)
        if term.operator == "product":
            product: Array = source @ (matrix.transpose(0, 2, 1) if term.transposed else matrix)
        elif term.operator == "diagonal":
            product = source * np.diagonal(matrix, axis1=1, axis2=2)[:, None, :]
        else:
            product = np.asarray(source[:, :, :, None] * matrix[:, None, :, :]).reshape(shape)
        whole: Array = product
        return whole

    def _constant(self, constant: Array) -> Array:
        numbers = np.empty(constant.shape, dtype=self._dtype())
        for index in np.ndindex(*constant.shape):
            numbers[index] = self.number(constant[index])
        return numbers

    def _pointwise(self, expression: Expression, time: int, rows: bool = False) -> Any:
        values: dict[Expression, Any] = {}
        for symbol in expression.free_symbols:
            found = meaning(symbol)
            if isinstance(found, str):
                values[symbol] = self.matrices[found]
                continue
            value = self._read(found.signal, time - found.delay)
            if is_along_rows(symbol):
                value = value[:, :, None]
            elif rows and value.ndim == 2:
                value = _on_rows(value)
            values[symbol] = value
        return evaluate_expression(expression, values, self.functions, self.number)


def summed_to(value: Array, shape: tuple[int, ...]) -> Array:
    """The sum of an array over the axes that ``shape`` lacks or has of length 1."""
    value = value.sum(axis=tuple(range(value.ndim - len(shape))))
    axes = tuple(axis for axis, length in enumerate(shape) if length == 1)
    summed: Array = value.sum(axis=axes, keepdims=True) if axes else value
    return summed


def _on_rows(value: Array) -> Array:
    """A vector per sequence as one row that stands for all."""
    return value[:, None, :]


def _reaching_in(equation: Equation, time: int, T: int) -> Equation:
    """An adjoint's equation outside of 1..T: what does not read from 1..T is 0 there."""
    summands = [
        summand
        for summand in sympy.Add.make_args(equation.expression)
        if (reads := reads_of(summand)) and all(1 <= time - read.delay <= T for read in reads)
    ]
    terms = tuple(term for term in equation.terms if term.pattern is not None or 1 <= time - term.delay <= T)
    return Equation(equation.signal, terms, sympy.Add(*summands))
