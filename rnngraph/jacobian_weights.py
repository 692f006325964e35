"""The chain rule through effective weights, for Jacobians: from what the equations read back to the parameters.

A Jacobian has one row for each output unit, step and sequence. Each row goes back as a gradient does, by the weights
that ``rnngraph.effective.pull_back`` finds; all rows at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnngraph.effective import as_parameters, pull_back
from rnngraph.equations import Total, Weight, WeightValue, meaning, symbols_of
from rnngraph.evaluate import evaluate_expression, matrices_of, numpy_functions
from rnngraph.lower.layout import ParameterLayout
from rnngraph.system import System

Array = NDArray[Any]


class WeightChain:
    """For the forward ``system`` and its ``layout``: Jacobians by its parameters."""

    def __init__(self, system: System, layout: ParameterLayout) -> None:
        read = as_parameters(system)
        totals = tuple(Total(f"dL/d{name}", "gradient", (), name) for name in read.parameters)
        self.system = pull_back(dataclasses.replace(read, totals=totals), system)
        self.layout = layout
        self.read = {total.name: total.of for total in totals if total.of is not None}
        self.functions = numpy_functions()

    def __call__(self, jacobian: Array, params: Mapping[str, Array]) -> Array:
        """From (T, batch, size, columns of parameters and effective weights) to (T, batch, size, P)."""
        rows = jacobian.reshape(-1, jacobian.shape[-1])
        plain = matrices_of(self.system, params, self.functions)
        by_row: dict[str, Array] = {}
        for name, of in self.read.items():
            by_row[name] = rows[:, self._columns(of)].reshape(len(rows), *self.layout.shapes[of])
        for weight in self.system.weight_gradients:
            by_row[weight.name] = self._value(weight, plain, by_row)
        found = rows[:, : self.layout.size].copy()
        for total in self.system.totals:
            for piece in total.contributions:
                if isinstance(piece, WeightValue) and total.of is not None:
                    found[:, self._columns(total.of)] += by_row[piece.weight].reshape(len(rows), -1)
        result: Array = found.reshape(*jacobian.shape[:-1], -1)
        return result

    def _columns(self, name: str) -> Array:
        """Where a parameter or a weight lies in a row."""
        cell = self.layout.cells[name]
        offset, _, stride = self.layout.blocks[cell.block]
        columns: Array = (offset + stride * np.arange(*cell.rows)[:, None] + np.arange(*cell.columns)).ravel()
        return columns

    def _value(self, weight: Weight, plain: Mapping[str, Array], by_row: Mapping[str, Array]) -> Array:
        """One weight of the gradient for every row: (rows, *shape)."""
        if weight.operator == "stack":
            return np.stack([by_row[name] for name in weight.slices], axis=1)
        names = {symbol: str(meaning(symbol)) for symbol in symbols_of(weight.expression)}
        axes = max(by_row[name].ndim - 1 if name in by_row else plain[name].ndim for name in names.values())
        values = {}
        for symbol, name in names.items():
            values[symbol] = plain[name] if name not in by_row else _with_axes(by_row[name], axes)
        value = np.asarray(evaluate_expression(weight.expression, values, self.functions))
        if weight.operator == "sum":
            value = value.sum(axis=tuple(range(1, 1 + axes - len(weight.shape))))
            ones = tuple(axis for axis, length in enumerate(weight.shape, start=1) if length == 1)
            return np.asarray(value.sum(axis=ones, keepdims=True) if ones else value)
        return np.broadcast_to(_with_axes(value, len(weight.shape)), (len(value), *weight.shape))


def _with_axes(value: Array, axes: int) -> Array:
    """(rows, *shape) with ones between, so that it has ``axes`` beside that of the rows."""
    return value.reshape(len(value), *(1,) * (axes + 1 - value.ndim), *value.shape[1:])
