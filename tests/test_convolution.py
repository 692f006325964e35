"""A time-delay network is a stack of 1-D convolutions over time: against scipy.signal, and there and back."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
import pytest
from checking import assert_close, to_numpy
from scipy import signal

import rnngraph as rg
from rnngraph import zoo

Array = npt.NDArray[Any]
FUNCTIONS = {"tanh": np.tanh, "identity": lambda s: s, "s**2": lambda s: s**2}


def parameters(kernel: Any, seed: int = 0, dtype: str = "float64") -> dict[str, Array]:
    random = np.random.default_rng(seed)
    return {name: random.normal(size=shape).astype(dtype) for name, shape in kernel.parameter_shapes.items()}


def correlated(layers: list[rg.ConvolutionLayer], x: Array) -> Array:
    """The stack by scipy: (T, batch, size) -> (T, batch, size)."""
    for layer in layers:
        assert layer.weight is not None
        T, batch, _ = x.shape
        out, into, kernel = layer.weight.shape
        spread = np.zeros((out, into, (kernel - 1) * layer.dilation + 1))
        spread[:, :, :: layer.dilation] = layer.weight
        s = np.zeros((T, batch, out))
        for b, o, i in np.ndindex(batch, out, into):
            padded = np.concatenate([np.zeros(layer.padding), x[:, b, i]])
            s[:, b, o] += signal.correlate(padded, spread[o, i], mode="valid")[:T]
        x = FUNCTIONS[layer.activation](s if layer.bias is None else s + layer.bias)
    return x


STACKS: dict[str, tuple[tuple[int, ...], tuple[Any, ...]]] = {
    "one tap": ((2, 3), ([0],)),
    "one layer": ((2, 3), ([0, 1, 2],)),
    "deep": ((3, 4, 2), (2, [0, 1])),
    "dilated": ((2, 4, 3, 2), ([0, 1, 2], [0, 3, 6], [0, 9])),
    "not from 0 on": ((2, 3, 2), ([1, 2, 3], [4])),
}


@pytest.mark.parametrize("name", STACKS)
def test_equals_the_correlation_of_scipy(name: str, backend: str) -> None:
    graph = zoo.tdnn(*STACKS[name])
    kernel = rg.compile(graph, backend=backend, dtype="float64")
    params = parameters(kernel)
    x = np.random.default_rng(1).normal(size=(17, 2, graph.nodes["x"]["size"]))
    found = kernel.forward(params, {"x": x})[0]["y"]
    assert_close(found, correlated(rg.as_convolution(graph, params), x), 1e-12, name)


def test_one_channel_is_a_filter_with_the_taps_reversed() -> None:
    graph = zoo.tdnn((1, 1), ([0, 1, 2, 3],))
    graph.nodes["y"]["bias"] = False
    kernel = rg.compile(graph, dtype="float64")
    params = parameters(kernel)
    x = np.random.default_rng(1).normal(size=20)
    (layer,) = rg.as_convolution(graph, params)
    assert layer.weight is not None and layer.bias is None
    expected = signal.lfilter(layer.weight[0, 0, ::-1], [1.0], x)
    assert_close(kernel.forward(params, {"x": x[:, None, None]})[0]["y"][:, 0, 0], expected, 1e-12, "lfilter")


def test_what_the_layers_say() -> None:
    graph = zoo.tdnn((3, 4, 2), ([0, 3, 6], [1, 2]))
    first, second = rg.as_convolution(graph)
    assert (first.shape, first.dilation, first.lag, first.padding, first.delays) == ((4, 3, 3), 3, 0, 6, (6, 3, 0))
    assert (second.shape, second.dilation, second.lag, second.padding, second.delays) == ((2, 4, 2), 1, 1, 2, (2, 1))
    assert first.parameters == ("W_x_a1_d6", "W_x_a1_d3", "W_x_a1_d0")
    assert (first.activation, second.activation, second.bias_name) == ("tanh", "identity", "b_y")
    assert first.weight is None and first.bias is None
    params = parameters(rg.compile(graph, dtype="float64"))
    filled = rg.as_convolution(graph, params)[0]
    assert filled.weight is not None and filled.bias is not None
    np.testing.assert_array_equal(filled.weight[:, :, 0], params["W_x_a1_d6"].T)
    np.testing.assert_array_equal(filled.weight[:, :, 2], params["W_x_a1_d0"].T)
    params["b_a1"][:] = 7.0
    assert not (filled.bias == 7.0).any()  # an array of its own


def custom() -> nx.MultiDiGraph:
    """Names and attributes of the user's own."""
    graph = nx.MultiDiGraph()
    graph.add_node("in", kind="input", size=2)
    graph.add_node(7, size=3, equation="s**2", bias="shift")
    graph.add_node("mid", size=2, activation="tanh", bias=False)
    graph.add_node("out", kind="output", size=1)
    graph.add_edge("in", 7, delay=[0, 2, 4], parameter="K")
    graph.add_edge(7, "mid", parameter="now")
    graph.add_edge(7, "mid", delay=1, parameter="before")
    graph.add_edge("mid", "out", delay=3)
    return graph


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [*STACKS, "custom"])
def test_there_and_back_is_exact(name: str, dtype: str) -> None:
    graph = custom() if name == "custom" else zoo.tdnn(*STACKS[name])
    params = parameters(rg.compile(graph, dtype=dtype), dtype=dtype)
    layers = rg.as_convolution(graph, params)
    back, values = rg.from_convolution(layers)
    assert list(map(str, graph)) == list(back)
    assert dict(rg.validate(back).nodes) == dict(rg.validate(graph).nodes)
    assert set(rg.validate(back).edges) == set(rg.validate(graph).edges)
    if name != "custom":
        for node, attributes in graph.nodes(data=True):
            assert back.nodes[node] == attributes
        assert list(back.edges(data="delay")) == list(graph.edges(data="delay"))
    assert values.keys() == params.keys()
    for parameter, value in params.items():
        assert values[parameter].dtype == value.dtype
        np.testing.assert_array_equal(values[parameter], value)
    for again, layer in zip(rg.as_convolution(back, values), layers, strict=True):
        assert again.weight is not None and layer.weight is not None
        np.testing.assert_array_equal(again.weight, layer.weight)
        assert (again.delays, again.activation, again.parameters) == (layer.delays, layer.activation, layer.parameters)


def test_from_arrays() -> None:
    random = np.random.default_rng(2)
    weights = [random.normal(size=(4, 2, 3)), random.normal(size=(3, 4, 2)), random.normal(size=(1, 3, 1))]
    biases = [random.normal(size=4), None, random.normal(size=1)]
    graph, params = rg.from_convolution(weights, biases, dilation=[2, 1, 5], activation="s**2")
    assert list(graph) == ["x", "a1", "a2", "y"]
    assert [delay for *_, delay in graph.edges(data="delay")] == [[0, 2, 4], [0, 1], [0]]
    assert graph.nodes["a2"]["bias"] is False
    x = random.normal(size=(12, 2, 2))
    layers = rg.as_convolution(graph, params)
    for layer, weight in zip(layers, weights, strict=True):
        np.testing.assert_array_equal(layer.weight, weight)
    found = rg.compile(graph, dtype="float64").forward(params, {"x": x})[0]["y"]
    assert_close(found, correlated(layers, x), 1e-12, "three layers")
    single, own = rg.from_convolution(weights[0], biases[0], dilation=2)
    assert list(single.edges(data="delay")) == [("x", "y", [0, 2, 4])]
    found = rg.compile(single, dtype="float64").forward(own, {"x": x})[0]["y"]
    assert_close(found, correlated(rg.as_convolution(single, own), x), 1e-12, "one layer")


def test_irregular_delays_can_have_taps_of_zeros() -> None:
    graph = zoo.tdnn((2, 3), ([0, 2, 6],))
    kernel = rg.compile(graph, dtype="float64")
    params = parameters(kernel)
    with pytest.raises(rg.GraphError, match=r"node 'y': found delays \[0, 2, 6\] that are not equally spaced"):
        rg.as_convolution(graph, params)
    (layer,) = rg.as_convolution(graph, params, zero_taps=True)
    assert (layer.dilation, layer.delays, layer.parameters[1]) == (2, (6, 4, 2, 0), "")
    assert layer.weight is not None and not layer.weight[:, :, 1].any()
    x = np.random.default_rng(1).normal(size=(9, 2, 2))
    expected = to_numpy(kernel.forward(params, {"x": x})[0]["y"])
    assert_close(correlated([layer], x), expected, 1e-12, "zero taps")
    back, values = rg.from_convolution([layer])
    assert list(back.edges(data="delay")) == [("x", "y", [0, 2, 4, 6])]
    assert not values["W_x_y_d4"].any()
    assert_close(rg.compile(back, dtype="float64").forward(values, {"x": x})[0]["y"], expected, 1e-12, "back")


def altered(edit: str) -> nx.MultiDiGraph:
    """A stack of two layers, made into something else."""
    graph = zoo.tdnn((2, 2, 2), ([0, 1], [0, 1]))
    if edit == "loop":
        graph.add_edge("a1", "a1", delay=1)
    elif edit == "feedback":
        graph.add_edge("y", "a1", delay=1)
    elif edit == "skip":
        graph.add_edge("x", "y")
    elif edit == "port":
        graph.add_edge("a1", "y", port="gate")
        graph.nodes["y"].pop("activation")
        graph.nodes["y"]["equation"] = "s*gate"
    elif edit == "diagonal":
        graph.edges["a1", "y", 0]["structure"] = "diagonal"
    elif edit == "initial":
        graph.nodes["a1"]["initial"] = 0.5
    elif edit == "twice":
        graph.add_edge("a1", "y", delay=1, parameter="V")
    elif edit == "two inputs":
        graph.add_node("z", kind="input", size=2)
        graph.add_edge("z", "a1")
    elif edit == "two outputs":
        graph.nodes["a1"]["kind"] = "output"
    elif edit == "beside":
        graph.add_node("c", size=2, bias=True)
        graph.add_edge("c", "y")
    return graph


REFUSED = {
    "loop": "edge 'a1' -> 'a1': found a loop",
    "feedback": r"node 'a1': found weights from \['x', 'y'\]; expected weights from 'x' alone",
    "skip": "node 'x': found a layer that both 'a1' and 'y' read",
    "port": "edge 'a1' -> 'y': found port='gate'; expected a weighted connection",
    "diagonal": "edge 'a1' -> 'y': found structure='diagonal'; expected structure='dense'",
    "initial": "node 'a1': found initial=0.5 for t <= 0; expected 0, with which a convolution pads",
    "twice": "edges 'a1' -> 'y': found two weights at delay 1; expected one weight a delay",
    "two inputs": r"graph: found the input nodes \['x', 'z'\]; expected one input",
    "two outputs": r"graph: found the output nodes \['a1', 'y'\]; expected one output",
    "beside": r"node 'y': found weights from \['a1', 'c'\]; expected weights from 'a1' alone",
}


@pytest.mark.parametrize("edit", REFUSED)
def test_what_is_no_stack_of_convolutions_is_refused(edit: str) -> None:
    graph = altered(edit)
    rg.validate(graph)
    with pytest.raises(rg.GraphError, match=REFUSED[edit]):
        rg.as_convolution(graph)


def test_an_initial_value_that_no_delay_reads_does_not_matter() -> None:
    graph = zoo.tdnn((2, 2, 2), ([0, 1], [0]))
    graph.nodes["a1"]["initial"] = 0.5
    assert len(rg.as_convolution(graph)) == 2


def test_wrong_arrays_are_refused() -> None:
    graph = zoo.tdnn((2, 3), ([0, 1],))
    params = parameters(rg.compile(graph, dtype="float64"))
    for wrong, text in (
        ({"W_x_y_d0": params["W_x_y_d0"]}, "parameters: found no array for 'W_x_y_d1'"),
        (
            {**params, "W_x_y_d0": np.zeros((3, 2))},
            r"parameter 'W_x_y_d0': found shape \(3, 2\); expected shape \(2, 3\)",
        ),
        ({**params, "b_y": np.zeros(2)}, r"parameter 'b_y': found shape \(2,\); expected shape \(3,\)"),
    ):
        with pytest.raises(rg.DataError, match=text):
            rg.as_convolution(graph, wrong)
    weight = np.zeros((3, 2, 4))
    for given, text in (
        (
            {"weight": np.zeros((3, 2))},
            r"weight 0: found shape \(3, 2\); expected \(out_channels, in_channels, kernel\)",
        ),
        ({"weight": [weight, weight]}, "weight 1: found 2 in_channels; expected 3, as the layer before has out"),
        ({"weight": weight, "bias": np.zeros(2)}, r"bias 0: found shape \(2,\); expected shape \(3,\)"),
        ({"weight": [weight], "bias": [None, None]}, "argument bias: found 2 entries; expected 1, one a layer"),
        ({"weight": rg.as_convolution(graph)}, "layer 'y': found no weights"),
        ({"weight": []}, "argument weight: found an empty list"),
        ({"weight": [weight], "bias": 3.0}, r"bias 0: found shape \(\)"),
        ({"weight": weight, "bias": "no"}, "bias 0: found dtype <U2; expected real numbers"),
        ({"weight": [[[1.0], [2.0, 3.0]]]}, "that is no array"),
    ):
        with pytest.raises(rg.DataError, match=text):
            rg.from_convolution(**given)
    for dilation, text in (
        (0, r"dilation\[0\]: found 0; expected an int >= 1"),
        (None, r"dilation\[0\]: found None; expected an int >= 1"),
        ([1, 2], "dilation: found 2 entries"),
    ):
        with pytest.raises(rg.OptionError, match=text):
            rg.from_convolution(weight, dilation=dilation)  # type: ignore[arg-type]
    with pytest.raises(rg.OptionError, match="argument activation: found 3; expected the name of a function"):
        rg.from_convolution(weight, activation=3)  # type: ignore[arg-type]
    with pytest.raises(rg.GraphError, match=r"activation='than'.*did you mean 'tanh'"):
        rg.from_convolution(weight, output_activation="than")


@pytest.mark.parametrize("dilation", [np.int64(2), np.array([2]), (2,)])
def test_dilations_of_numpy(dilation: Any) -> None:
    graph, _ = rg.from_convolution(np.ones((3, 2, 2)), dilation=dilation)
    assert [delay for *_, delay in graph.edges(data="delay")] == [[0, 2]]


COMPUTED: dict[str, dict[str, Any]] = {
    "mask": {"structure": "masked", "mask": [[1, 0, 1], [0, 1, 1]], "delay": [0, 1]},
    "expression": {"expression": "exp(U)*V", "delay": [0, 1]},
    "delay for each pair": {"delay": [[0, 1, 2], [1, 1, 0]]},
    "learned delay": {"delay": {"max": 3, "learned": True}},
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", COMPUTED)
def test_weights_that_are_computed_from_parameters(name: str, dtype: str) -> None:
    """Their values are the kernel of the convolution; it has no parameters to name, and none without their values."""
    graph = zoo.tdnn((2, 3, 1), ([0], [0, 1]))
    graph.edges["x", "a1", 0].clear()
    graph.edges["x", "a1", 0].update(COMPUTED[name])
    kernel = rg.compile(graph, dtype=dtype)
    params = parameters(kernel, dtype=dtype)
    if "alpha_x_a1" in params:
        params["alpha_x_a1"] *= 1000  # a softmax that overflows unless it is taken from the largest on
    with pytest.raises(
        rg.GraphError, match="edge 'x' -> 'a1': found weights that are computed from parameters, and no"
    ):
        rg.as_convolution(graph)
    layers = rg.as_convolution(graph, params)
    assert not any(layers[0].parameters) and all(layers[1].parameters)
    assert layers[0].weight is not None and layers[0].weight.dtype == dtype
    x = np.random.default_rng(1).normal(size=(9, 2, 2)).astype(dtype)
    expected = kernel.forward(params, {"x": x})[0]["y"]
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    assert_close(correlated(layers, x), expected, tolerance, name)
    back, values = rg.from_convolution(layers)
    assert set(values) == {f"W_x_a1_d{d}" for d in layers[0].delays} | {"W_a1_y_d0", "W_a1_y_d1", "b_a1", "b_y"}
    assert_close(rg.compile(back, dtype=dtype).forward(values, {"x": x})[0]["y"], expected, tolerance, "back")


@pytest.mark.peers
@pytest.mark.parametrize("name", STACKS)
def test_equals_conv1d_of_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    graph = zoo.tdnn(*STACKS[name])
    kernel = rg.compile(graph, dtype="float64", loss="mse")
    params = parameters(kernel)
    random = np.random.default_rng(1)
    x = random.normal(size=(11, 2, graph.nodes["x"]["size"]))
    target = random.normal(size=(11, 2, graph.nodes["y"]["size"]))
    leaves, a = [], torch.from_numpy(x).permute(1, 2, 0)
    for layer in rg.as_convolution(graph, params):
        weight, bias = (torch.tensor(value, requires_grad=True) for value in (layer.weight, layer.bias))
        leaves.append((layer, weight, bias))
        padded = torch.nn.functional.pad(a, (layer.padding, 0))
        s = torch.nn.functional.conv1d(padded, weight, bias, dilation=layer.dilation)[:, :, : len(x)]
        a = torch.tanh(s) if layer.activation == "tanh" else s
    y = a.permute(2, 0, 1)
    torch.nn.functional.mse_loss(y, torch.from_numpy(target)).backward()
    _, gradients = kernel.loss_and_gradient(params, {"x": x}, {"y": target})
    assert_close(kernel.forward(params, {"x": x})[0]["y"], y.detach().numpy(), 1e-12, "y")
    for layer, weight, bias in leaves:
        for tap, parameter in enumerate(layer.parameters):
            assert_close(gradients[parameter], weight.grad[:, :, tap].T.numpy(), 1e-11, parameter)
        assert_close(gradients[layer.bias_name], bias.grad.numpy(), 1e-11, str(layer.bias_name))
