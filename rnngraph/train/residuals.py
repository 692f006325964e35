"""What second-order training asks of a kernel beyond the loss: outputs, their Jacobian, and squared errors as the loss.

The loss of a kernel with "mse" on its outputs is, with the step weights w(t, b) (1 if none are given),

    L = 1 / (sum of w) * sum over outputs, t, b, k of e_k(t, b)^2,
    e_k(t, b) = sqrt(w(t, b) / size) (target_k(t, b) - y_k(t, b)).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rnngraph.errors import OptionError
from rnngraph.train.batches import Batch
from rnngraph.train.protocols import Array, TrainableKernel
from rnngraph.train.session import Session

Real = NDArray[np.float64]


class DifferentiableKernel(TrainableKernel, Protocol):
    """A kernel that also gives its outputs (T, batch, size) and their derivatives (T, batch, size, P) by name."""

    @property
    def losses(self) -> Mapping[str, str]:
        """The loss of each output that has one, by name."""
        ...

    def forward(self, params: Any, inputs: Any, state: Any = None) -> tuple[Any, Any]:
        """Outputs, and the state after the last step, which carries a sequence on."""
        ...

    def jacobian(self, params: Any, inputs: Any, state: Any = None) -> Any:
        """Derivatives of the outputs by the entries of ``params.vector``."""
        ...


def check_session(session: Session, name: str) -> tuple[DifferentiableKernel, list[str]]:
    """The session's kernel, if optimiser ``name`` can train it, and its outputs that have a loss.

    Raises ``OptionError`` for a kernel without Jacobian, a loss that is no mean of squares, or parameters that are no
    numpy array.
    """
    kernel: Any = session.kernel
    if not all(callable(getattr(kernel, method, None)) for method in ("forward", "jacobian")):
        raise OptionError(
            "kernel",
            f"an object of type {type(kernel).__name__} without forward and jacobian, with {name}",
            "a compiled network",
            "give kernel = rnngraph.compile(graph, loss='mse'), or use LBFGS",
        )
    for output, loss in kernel.losses.items():
        if loss != "mse":
            raise OptionError(
                "optimizer",
                f"{name} with the loss {loss!r} on output {output!r}",
                "the loss 'mse' on every output: the method is made for sums of squares",
                "compile with loss='mse', or use LBFGS or Adam",
            )
    if not isinstance(session.vector, np.ndarray):
        raise OptionError(
            "optimizer",
            f"{name} with parameters as {type(session.vector).__name__}",
            "a numpy vector",
            "use Adam, or backend='numpy'",
        )
    return kernel, list(kernel.losses)


class Linearised(NamedTuple):
    """Residuals e (N,) and their negative derivatives, the outputs', (N, P), rows of weight 0 left out."""

    residuals: Real
    derivatives: Real


def linearise(kernel: DifferentiableKernel, outputs: list[str], params: Any, batch: Batch) -> Linearised:
    """All residuals of a batch at the present parameters, with the derivatives of the outputs scaled alike."""
    found, _ = kernel.forward(params, batch.inputs, batch.state)
    derivatives = kernel.jacobian(params, batch.inputs, batch.state)
    residuals, rows = [], []
    for name in outputs:
        size = found[name].shape[-1]
        scale = np.sqrt(step_weights(batch) / size)
        counted = scale > 0.0
        error = np.asarray(batch.targets[name], dtype=np.float64)[counted] - found[name][counted]
        residuals.append((scale[counted][:, None] * error).ravel())
        part = scale[counted][:, None, None] * derivatives[name][counted]
        rows.append(part.reshape(-1, part.shape[-1]))
    return Linearised(np.concatenate(residuals), np.concatenate(rows))


def step_weights(batch: Batch) -> Array:
    """The weights w(t, b), float64, 1 if the batch has none."""
    if batch.weights is None:
        return np.ones((batch.length, batch.size))
    return np.asarray(batch.weights, dtype=np.float64)
