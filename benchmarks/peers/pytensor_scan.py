"""PyTensor: loss and gradient of `scan`, compiled by its Numba backend, which is its default.

Its JAX backend would be JAX once more. One function serves all sizes; the first compiles for a minute or two, and
PyTensor keeps the result in its own cache on disk.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import numpy as np

from benchmarks.peers.loops import named_gradient, packed
from benchmarks.peers.problems import GRADIENT, Case, in_order, make
from benchmarks.processes import Task, UnavailableError


def setup(case: Case) -> dict[str, Task]:
    """Loss and gradient."""
    os.environ.setdefault("PYTENSOR_FLAGS", "floatX=float32")
    try:
        import pytensor
        import pytensor.tensor
    except ImportError as error:
        raise UnavailableError("pytensor is not installed (extra `benchmark`)") from error

    problem = make(case)
    rows, values = packed(case, problem)
    function, names = function_of(pytensor, case.network)
    arguments = [rows, problem.target, *(np.ascontiguousarray(values[name]) for name in names)]

    def read(result: list[Any]) -> list[Any]:
        gradient = dict(zip(names, result[1:], strict=True))
        return in_order(case, result[0], named_gradient(case, gradient))

    task = Task(lambda: function(*arguments), read)
    task.run()  # compiles
    return {GRADIENT: task}


@functools.cache
def function_of(pytensor: Any, network: str) -> tuple[Any, list[str]]:
    """(x, target, parameters...) -> loss and gradient, for sequences and layers of any size; the parameters' names."""
    pt = pytensor.tensor
    x, target, bias = pt.tensor3("x"), pt.tensor3("target"), pt.vector("b")
    names = ["W", "b", "R"] if network == "lstm" else ["W", "b", "R15", "R2"]
    parameters = {name: bias if name == "b" else pt.matrix(name) for name in names}
    T, B = x.shape[0], x.shape[1]
    sums = (x.reshape((T * B, x.shape[2])) @ parameters["W"] + bias).reshape((T, B, bias.shape[0]))
    if network == "lstm":
        zero = pt.zeros((B, parameters["R"].shape[0]))
        h, _ = pytensor.scan(
            functools.partial(lstm_step, pt), [sums], [zero, zero], [parameters["R"]], return_updates=False
        )
    else:
        H = parameters["R2"].shape[0]
        past = {"initial": pt.zeros((5, B, H)), "taps": [-1, -2, -5]}
        fixed = [parameters["R15"][:H], parameters["R15"][H:], parameters["R2"]]
        h = pytensor.scan(functools.partial(delayed_step, pt), [sums], [past], fixed, return_updates=False)
    loss = ((h - target) ** 2).mean()
    inputs = [x, target, *parameters.values()]
    function = pytensor.function(inputs, [loss, *pt.grad(loss, list(parameters.values()))], mode="NUMBA")
    function.trust_input = True
    return function, names


def lstm_step(pt: Any, sum_t: Any, h: Any, c: Any, R: Any) -> tuple[Any, Any]:
    """One step of the LSTM."""
    s, H = sum_t + h @ R, R.shape[0]
    i, f, z, o = (s[:, k * H : (k + 1) * H] for k in range(4))
    c = pt.sigmoid(f) * c + pt.sigmoid(i) * pt.tanh(z)
    return pt.sigmoid(o) * pt.tanh(c), c


def delayed_step(pt: Any, sum_t: Any, h1: Any, h2: Any, h5: Any, R1: Any, R5: Any, R2: Any) -> Any:
    """One step of the delayed cell."""
    H = R2.shape[0]
    return pt.tanh(sum_t[:, :H] + h1 @ R1 + h5 @ R5) * pt.sigmoid(sum_t[:, H:] + h2 @ R2)
