"""ONNX Runtime: the forward pass by its LSTM, GRU and RNN operators; it has no gradient of them.

Input and output are bound once, and the last layer's axis of directions is dropped outside: at 16 units and batch 1
this takes 0.84 of the time of `session.run` on a graph that drops it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.peers.problems import FORWARD, Case, Layer, layers, make, pack
from benchmarks.processes import Task, UnavailableError, given_threads

OPERATORS = {"lstm": "LSTM", "stack": "LSTM", "gru": "GRU", "elman": "RNN"}
GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}  # where ONNX's i o f z and z r h stand in torch's order


def setup(case: Case) -> dict[str, Task]:
    """The forward pass over the whole sequence as one session call."""
    try:
        import onnxruntime
        from onnx import TensorProto, helper, numpy_helper
    except ImportError as error:
        raise UnavailableError("onnx or onnxruntime is not installed") from error

    problem = make(case)
    operator = OPERATORS[case.network]
    options = {"linear_before_reset": 1} if operator == "GRU" else {}
    nodes, fixed, source = [], {}, "x"
    for level, layer in enumerate(layers(case)):
        names = [f"{name}{level}" for name in ("W", "R", "B")]
        fixed |= dict(zip(names, weights(layer, problem.parameters, GATES[operator]), strict=True))
        if level:
            fixed["axis"] = np.array([1])
            nodes.append(helper.make_node("Squeeze", [source, "axis"], [f"h{level}"]))  # the axis of directions
            source = f"h{level}"
        nodes.append(helper.make_node(operator, [source, *names], [f"all{level}"], hidden_size=case.H, **options))
        source = f"all{level}"
    values = {"x": (case.T, case.B, case.I), source: (case.T, 1, case.B, case.H)}
    first, last = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in values.items())
    initial = [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in fixed.items()]
    graph = helper.make_graph(nodes, case.network, [first], [last], initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = given_threads()
    session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    given, result = (onnxruntime.OrtValue.ortvalue_from_numpy(a) for a in (problem.x, np.empty(values[source], "f4")))
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", given)
    binding.bind_ortvalue_output(source, result)

    def run() -> Any:
        session.run_with_iobinding(binding)
        return result

    return {FORWARD: Task(run, lambda h: [h.numpy()[:, 0]])}


def weights(layer: Layer, named: dict[str, Any], gates: tuple[int, ...]) -> list[Any]:
    """W, R and B of the operator: (directions, gates, ...), all gates above each other."""

    def stack(names: list[str]) -> Any:
        return pack(named, [names[k] for k in gates]).T

    bias = stack(layer.bias)
    second = np.zeros_like(bias)
    if layer.recurrent_bias:
        second[-len(named[layer.recurrent_bias]) :] = named[layer.recurrent_bias]
    return [stack(layer.inputs)[None], stack(layer.recurrent)[None], np.concatenate([bias, second])[None]]
