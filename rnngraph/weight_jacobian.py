"""Jacobians by effective weights -> Jacobians by the parameters that these are made of: the chain rule in numbers.

The derivative of all entries of the effective weights by all entries of their parameters is one matrix, which does not
depend on time. It is the tangent of the weights along every unit vector of the parameters at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnngraph.effective import tangent_weights
from rnngraph.equations import Weight, meaning
from rnngraph.evaluate import evaluate_expression, numpy_functions
from rnngraph.lower import ParameterLayout
from rnngraph.system import System

Array = NDArray[Any]


class WeightJacobian:
    """d weights / d parameters at ``params``, for Jacobians whose last axis is laid out as the gradient vector is:
    first the parameters, then the effective weights."""

    def __init__(self, system: System, layout: ParameterLayout, params: Mapping[str, Array]) -> None:
        learned = [name for name in system.parameters if any(name in weight.reads() for weight in system.weights)]
        self.size = layout.size
        self.columns = np.concatenate([_places(layout, name) for name in learned])
        self.rows, matrices = _tangents(system, layout, params, learned, len(self.columns))
        self.matrix = np.concatenate(matrices)

    def pull_back(self, jacobian: Array) -> Array:
        """(..., parameters and effective weights) -> (..., parameters)."""
        by_parameters: Array = np.array(jacobian[..., : self.size])
        by_parameters[..., self.columns] += jacobian[..., self.rows] @ self.matrix.astype(jacobian.dtype)
        return by_parameters


def _places(layout: ParameterLayout, name: str) -> NDArray[np.int64]:
    """Where the entries of a parameter or effective weight stand in the gradient vector."""
    view = layout.view(name, "gradient")
    assert view.rows is not None
    down, across = np.arange(*view.rows), np.arange(view.start, view.stop)
    places: NDArray[np.int64] = (view.buffer.offset + down[:, None] * view.buffer.columns + across).ravel()
    return places


def _tangents(
    system: System, layout: ParameterLayout, params: Mapping[str, Array], learned: list[str], count: int
) -> tuple[NDArray[np.int64], list[Array]]:
    """The places of the effective weights that equations read, and their derivatives, (entries, ``count``).

    Every array has one axis more than it is written with, the last: the directions.
    """
    values: dict[str, Array] = {name: np.asarray(params[name], np.float64)[..., None] for name in system.parameters}
    values.update((name, np.asarray(value)[..., None]) for name, value in system.constants.items())
    names = {name: f"dot_{name}" for name in learned}
    start = 0
    for name in learned:
        size = int(np.prod(system.parameters[name]))
        unit = np.zeros((size, count))
        unit[:, start : start + size] = np.eye(size)
        values[names[name]] = unit.reshape(*system.parameters[name], count)
        start += size
    taken = {*values, *system.shapes, *(weight.name for weight in system.weights)}
    tangents, all_names = tangent_weights(system.weights, names, taken)
    for weight in (*system.weights, *tangents):
        values[weight.name] = _value(weight, values)
        values.update(zip(weight.slices, values[weight.name], strict=bool(weight.slices)))
    read = [name for weight in system.weights for name in weight.shapes() if name in layout.cells]
    matrices = []
    for name in read:
        shape = (*system.shapes[name], count)
        matrices.append(np.broadcast_to(values[all_names[name]], shape).reshape(-1, count))
    return np.concatenate([_places(layout, name) for name in read]), matrices


def _value(weight: Weight, values: Mapping[str, Array]) -> Array:
    symbols = {symbol: values[str(meaning(symbol))] for symbol in weight.expression.free_symbols}
    value = np.asarray(evaluate_expression(weight.expression, symbols, numpy_functions()))
    if weight.operator == "sum":
        while value.ndim > len(weight.shape) + 1:
            value = value.sum(axis=0)
        ones = tuple(axis for axis, length in enumerate(weight.shape) if length == 1)
        return np.asarray(value.sum(axis=ones, keepdims=True))
    if weight.operator == "softmax":
        exponential = np.exp(value - value.max(axis=0))
        return np.asarray(exponential / exponential.sum(axis=0))
    return np.broadcast_to(value, (*weight.shape, value.shape[-1]))
