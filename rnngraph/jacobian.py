"""The Jacobian of all outputs by all parameters, by backpropagation through time: one backward sweep for each output.

For output unit k of sequence b at time t, take the linear loss L = sum over (s, j) of target_j(s) y_j(s) and the target
that is 1 at (t, k) and 0 elsewhere. Then dL/dw = dy_k(t, b)/dw: the gradient of that loss is one row of the Jacobian.
In a causal network that row depends on the steps up to t alone, so its sweep is no longer than that. All in all there
are T batch K sweeps of T/2 steps on average: O(T^2). Real-time recurrent learning (Williams and Zipser 1989) gives the
same in one pass of T steps whose cost grows with states times parameters: faster unless the network is large.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
LINEAR_LOSS = "y*target"
# Sweeps have one of at most so many lengths: a kernel keeps buffers for each length that it has met.
LENGTHS = 8


def jacobian_by_bptt(
    module: Any,
    params: Any,
    inputs: Mapping[str, Any],
    state: Mapping[str, Any],
    sizes: Mapping[str, int],
    causal: bool,
) -> dict[str, Array]:
    """{output: (T, batch, size, P)}, columns in the order of ``params.vector``.

    ``module`` is an emitted module whose loss is ``LINEAR_LOSS`` on every output; ``sizes`` the units of each output;
    ``inputs`` and ``state`` are its own, checked; ``causal``: whether no output depends on a later input.
    """
    T, batch = next(iter(inputs.values())).shape[:2]
    dtype = params.vector.dtype
    found = {name: np.empty((T, batch, size, params.vector.size), dtype) for name, size in sizes.items()}
    stride = -(-T // LENGTHS)
    for b in range(batch):
        one = {name: array[:, b : b + 1] for name, array in inputs.items()}
        start = {name: array[:, b : b + 1] for name, array in state.items()}
        for first in range(0, T, stride):
            length = min(first + stride, T) if causal else T
            stretch = {name: array[:length] for name, array in one.items()}
            targets = {name: np.zeros((length, 1, size), dtype) for name, size in sizes.items()}
            for name, size in sizes.items():
                for t in range(first, min(first + stride, T)):
                    for k in range(size):
                        # The kernel's loss is a mean over the steps and over the units of an output.
                        targets[name][t, 0, k] = length * size
                        _, grads = module.loss_and_gradient(params, stretch, targets, start)
                        found[name][t, b, k] = grads.vector
                        targets[name][t, 0, k] = 0.0
    return found
