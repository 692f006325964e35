"""What the tests of kernels share: problems with any loss, and the comparison of a kernel with the reference.

Closeness is measured per array: |found - expected| <= tolerance * max(1, largest |expected|). That is relative for
large values and absolute for small ones: a gradient of 1e-9 next to a loss of order 1 has no digits of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
import reference
from random_graphs import Problem, random_problem

import rnngraph as rg

Array = npt.NDArray[Any]

EXPRESSION = "(y - target)**4/(1 + (y - target)**2) + 0.1*sin(y*target)"
LOSSES = ("mse", "cross_entropy", "binary_cross_entropy", EXPRESSION)
VALUE_TOLERANCE = 1e-12
GRADIENT_TOLERANCE = 1e-9


def to_numpy(array: Any) -> Array:
    """A NumPy array, from the device too."""
    return np.asarray(array.get() if hasattr(array, "get") else array)


def losses_of(graph: nx.MultiDiGraph, first: int) -> dict[str, str]:
    """A loss for every output, counted on from number ``first`` of LOSSES; one unit cannot be several classes."""
    outputs = [node for node, kind in graph.nodes(data="kind") if kind == "output"]
    chosen = {output: LOSSES[(first + k) % len(LOSSES)] for k, output in enumerate(outputs)}
    return {
        output: "binary_cross_entropy" if loss == "cross_entropy" and graph.nodes[output]["size"] < 2 else loss
        for output, loss in chosen.items()
    }


def problem_for(graph: nx.MultiDiGraph, seed: int, losses: Mapping[str, str], **options: Any) -> Problem:
    """A random problem whose targets suit each output's loss."""
    problem = random_problem(graph, seed, **options)
    targets = {
        output: random_problem(graph, seed, loss=loss, **options).targets[output] for output, loss in losses.items()
    }
    return dataclasses.replace(problem, targets=targets)


def assert_close(found: Any, expected: Array, tolerance: float, what: str) -> None:
    """See the module's docstring. The message has both arrays."""
    value = to_numpy(found)
    assert value.shape == expected.shape, f"{what}: found shape {value.shape}, expected {expected.shape}"
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    error = float(np.abs(value - expected).max(initial=0.0))
    assert error <= tolerance * scale, f"{what}: off by {error:.3g}\nfound {value}\nexpected {expected}"


def assert_all_close(found: Mapping[str, Any], expected: Mapping[str, Array], tolerance: float, what: str) -> None:
    """The same names with close arrays."""
    assert set(found) == set(expected), f"{what}: found {sorted(found)}, expected {sorted(expected)}"
    for name, array in expected.items():
        assert_close(found[name], array, tolerance, f"{what} of {name!r}")


def assert_equals_reference(
    kernel: Any,
    graph: nx.MultiDiGraph,
    problem: Problem,
    losses: Any,
    wrt: Any = (),
    read_by_reference: Problem | None = None,
) -> None:
    """Outputs, state, loss and gradients of a float64 kernel, or of an emitted module, against the reference tape.

    ``read_by_reference``: the same problem as NumPy arrays, when ``problem`` lies on a device.
    """
    given = read_by_reference or problem
    expected = reference.loss_and_gradient(
        graph, given.parameters, given.inputs, given.targets, loss=losses, state=given.state, weights=given.weights
    )
    outputs, state = kernel.forward(problem.parameters, problem.inputs, problem.state)
    assert_all_close(outputs, expected.outputs, VALUE_TOLERANCE, "output")
    assert_all_close(state, expected.state, VALUE_TOLERANCE, "state")
    arguments = problem.parameters, problem.inputs, problem.targets, problem.state, problem.weights
    loss, gradients = kernel.loss_and_gradient(*arguments)
    assert_close(loss, np.asarray(expected.loss), VALUE_TOLERANCE, "loss")
    assert_close(kernel.loss(*arguments), np.asarray(expected.loss), VALUE_TOLERANCE, "loss alone")
    if "parameters" in wrt or not wrt:
        assert_all_close(gradients, expected.gradients, GRADIENT_TOLERANCE, "gradient")
    if "inputs" in wrt:
        assert_all_close(gradients.inputs, expected.input_gradients, GRADIENT_TOLERANCE, "input gradient")
    if "state" in wrt:
        assert_all_close(gradients.state, expected.state_gradients, GRADIENT_TOLERANCE, "state gradient")


def assert_float32_equals_reference(graph: nx.MultiDiGraph, seed: int, backend: str) -> None:
    """The whole gradient within 1e-5 of the float64 reference, by norm; both get the same float32 numbers."""
    losses = losses_of(graph, seed)
    exact = problem_for(graph, seed, losses, T=6)

    def rounded(arrays: Any) -> Any:
        return (
            None
            if arrays is None
            else {k: v.astype(np.float32) if v.dtype.kind == "f" else v for k, v in arrays.items()}
        )

    weights = None if exact.weights is None else exact.weights.astype(np.float32)
    problem = dataclasses.replace(
        exact, parameters=rounded(exact.parameters), inputs=rounded(exact.inputs), targets=rounded(exact.targets),
        state=rounded(exact.state), weights=weights,
    )  # fmt: skip
    expected = reference.loss_and_gradient(
        graph, problem.parameters, problem.inputs, problem.targets, loss=losses, state=problem.state, weights=weights
    )
    kernel = rg.compile(graph, loss=losses, backend=backend, dtype="float32")
    _, found = kernel.loss_and_gradient(problem.parameters, problem.inputs, problem.targets, problem.state, weights)
    assert to_numpy(found.vector).dtype == np.float32
    difference = [to_numpy(found[name]).astype(np.float64) - value for name, value in expected.gradients.items()]
    error = np.sqrt(sum(float((part**2).sum()) for part in difference))
    norm = np.sqrt(sum(float((part**2).sum()) for part in expected.gradients.values()))
    assert error <= 1e-5 * norm, f"off by {error:.3g}, the gradient's norm is {norm:.3g}"
