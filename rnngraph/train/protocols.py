"""What training asks of a kernel and of its parameters: one vector, a loss, a gradient."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

# A numpy array, or an array of another module (cupy) that answers numpy's ufuncs through ``__array_ufunc__``.
Array: TypeAlias = Any


class FlatParameters(Protocol):
    """Parameters or gradients: named arrays that are views of one contiguous 1-D ``vector``, float32 or float64."""

    @property
    def vector(self) -> Array: ...


class TrainableKernel(Protocol):
    """A compiled network with a loss. Arrays are time-major: inputs (T, batch, size), weights (T, batch)."""

    def loss_and_gradient(
        self, params: Any, inputs: Any, targets: Any, state: Any = None, weights: Any = None
    ) -> tuple[Any, Any]:
        """Loss (a number) and its gradient, whose ``.vector`` is laid out as ``params.vector``."""
        ...

    def loss(self, params: Any, inputs: Any, targets: Any, state: Any = None, weights: Any = None) -> Any:
        """Loss without its gradient."""
        ...
