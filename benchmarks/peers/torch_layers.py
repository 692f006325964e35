"""torch's own layers, `nn.LSTM`, `nn.GRU` and `nn.RNN`, with the parameters of the graphs."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from benchmarks.peers.problems import DEPTH, FORWARD, GRADIENT, Case, in_order, layers, make, pack, unpack
from benchmarks.processes import Task, UnavailableError, given_threads

LAYERS = {"lstm": "LSTM", "stack": "LSTM", "gru": "GRU", "elman": "RNN"}


def import_torch() -> Any:
    """torch, with as many threads as the process was given."""
    if given_threads() == 1:
        os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    try:
        import torch
    except ImportError as error:
        raise UnavailableError("torch is not installed") from error
    torch.set_num_threads(given_threads())
    return torch


def setup(case: Case) -> dict[str, Task]:
    """The tasks of torch's layer, or layers."""
    torch = import_torch()
    problem = make(case)
    depth = DEPTH if case.network == "stack" else 1
    module = getattr(torch.nn, LAYERS[case.network])(case.I, case.H, num_layers=depth)
    copy_weights(torch, case, module, problem.parameters)
    x, target = torch.from_numpy(problem.x), torch.from_numpy(problem.target)

    def forward() -> Any:
        with torch.inference_mode():
            return module(x)[0]

    def loss_and_gradient() -> Any:
        module.zero_grad()
        loss = torch.nn.functional.mse_loss(module(x)[0], target)
        loss.backward()
        return loss

    return {
        FORWARD: Task(forward, lambda h: [h.numpy()]),
        GRADIENT: Task(loss_and_gradient, lambda loss: in_order(case, loss.item(), gradients(case, module))),
    }


def copy_weights(torch: Any, case: Case, module: Any, parameters: dict[str, Any]) -> None:
    """Gives the module the parameters: gates above each other, torch's second bias zero but for the GRU's candidate."""
    with torch.no_grad():
        for level, layer in enumerate(layers(case)):
            values = {
                "weight_ih": pack(parameters, layer.inputs).T,
                "weight_hh": pack(parameters, layer.recurrent).T,
                "bias_ih": pack(parameters, layer.bias),
            }
            for name, value in values.items():
                getattr(module, f"{name}_l{level}").copy_(torch.from_numpy(np.ascontiguousarray(value)))
            second = getattr(module, f"bias_hh_l{level}")
            second.zero_()
            if layer.recurrent_bias:
                second[-case.H :] = torch.from_numpy(parameters[layer.recurrent_bias])


def gradients(case: Case, module: Any) -> dict[str, Any]:
    """The module's gradients by the names of the graph."""
    found: dict[str, Any] = {}
    for level, layer in enumerate(layers(case)):
        weights, recurrent, bias, second = (
            getattr(module, f"{name}_l{level}").grad.numpy().T
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        found |= unpack(weights, layer.inputs) | unpack(recurrent, layer.recurrent) | unpack(bias, layer.bias)
        if layer.recurrent_bias:
            found[layer.recurrent_bias] = second[-case.H :]
    return found
