"""Kernels against torch and JAX: outputs, and the gradients of parameters, inputs and initial state."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
import pytest
from checking import assert_close

import rnngraph as rg
from rnngraph import zoo

pytestmark = pytest.mark.peers

Array = npt.NDArray[Any]
ALL = ("parameters", "inputs", "state")
TOLERANCE = {"float64": 1e-10, "float32": 2e-5}
T, BATCH, INPUTS, HIDDEN = 9, 4, 3, 5


def random(*shape: int, seed: int = 0, dtype: str = "float64") -> Array:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(dtype)


def params_of(kernel: Any, dtype: str) -> dict[str, Array]:
    """Every parameter drawn at random: no zeros that could hide a missing term."""
    shapes = kernel.parameter_shapes
    return {name: 0.5 * random(*shape, seed=k, dtype=dtype) for k, (name, shape) in enumerate(shapes.items())}


def run(kernel: Any, params: dict[str, Array], output: str, state: dict[str, Array] | None, dtype: str) -> Any:
    x = random(T, BATCH, kernel.program.inputs["x"], seed=50, dtype=dtype)
    target = random(T, BATCH, kernel.program.outputs[output], seed=51, dtype=dtype)
    outputs, last = kernel.forward(params, {"x": x}, state)
    loss, grads = kernel.loss_and_gradient(params, {"x": x}, {output: target}, state)
    return x, target, outputs[output], last, loss, grads


# torch stacks the gates along the rows of one weight: this order, and the bias twice.
LSTM_GATES = "ifzo"
GRU_GATES = "rzn"


def torch_layer(torch: Any, kind: str, params: dict[str, Array], dtype: str) -> Any:
    """torch.nn.LSTM or GRU with the parameters of zoo.lstm or zoo.gru."""
    layer = getattr(torch.nn, kind)(INPUTS, HIDDEN).to(getattr(torch, dtype))
    copy_weights(torch, layer, kind, params, "l0")
    return layer


def copy_weights(torch: Any, layer: Any, kind: str, params: dict[str, Array], suffix: str) -> None:
    """Give torch's tensors of one layer and direction the values of zoo.lstm or zoo.gru."""
    gates = LSTM_GATES if kind == "LSTM" else GRU_GATES
    recurrent = {gate: "hn" if gate == "n" else gate for gate in gates}
    values = {
        "weight_ih": np.concatenate([params[f"W_x_{gate}"].T for gate in gates]),
        "weight_hh": np.concatenate([params[f"W_h_{recurrent[gate]}"].T for gate in gates]),
        "bias_ih": np.concatenate([params[f"b_{gate}"] for gate in gates]),
    }
    with torch.no_grad():
        for tensor, value in values.items():
            getattr(layer, f"{tensor}_{suffix}").copy_(torch.from_numpy(value))
        second = getattr(layer, f"bias_hh_{suffix}")
        second.zero_()
        if kind == "GRU":
            second[2 * HIDDEN :] = torch.from_numpy(params["b_hn"])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_recurrent_layer_equals_torch(kind: str, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    graph = zoo.lstm(INPUTS, HIDDEN) if kind == "LSTM" else zoo.gru(INPUTS, HIDDEN)
    kernel = rg.compile(graph, dtype=dtype, wrt=ALL)
    params = params_of(kernel, dtype)
    names = ("h", "c") if kind == "LSTM" else ("h",)
    state = {name: random(1, BATCH, HIDDEN, seed=60 + k, dtype=dtype) for k, name in enumerate(names)}
    x, target, found, last, loss, grads = run(kernel, params, "h", state, dtype)
    layer = torch_layer(torch, kind, params, dtype)
    x_torch = torch.from_numpy(x).requires_grad_()
    initial = [torch.from_numpy(state[name]).requires_grad_() for name in names]
    expected, final = layer(x_torch, tuple(initial) if kind == "LSTM" else initial[0])
    torch_loss = torch.nn.functional.mse_loss(expected, torch.from_numpy(target))
    torch_loss.backward()
    tolerance = TOLERANCE[dtype]
    assert_close(found, expected.detach().numpy(), tolerance, "output")
    for name, value in zip(names, final if kind == "LSTM" else (final,), strict=True):
        assert_close(last[name], value.detach().numpy(), tolerance, f"final {name}")
    assert float(loss) == pytest.approx(torch_loss.item(), rel=tolerance)
    assert_close(grads.inputs["x"], x_torch.grad.numpy(), tolerance, "gradient of the input")
    for name, value in zip(names, initial, strict=True):
        assert_close(grads.state[name], value.grad.numpy(), tolerance, f"gradient of the initial {name}")
    gates = LSTM_GATES if kind == "LSTM" else GRU_GATES
    for k, gate in enumerate(gates):
        rows = slice(k * HIDDEN, (k + 1) * HIDDEN)
        hidden = "hn" if gate == "n" else gate
        assert_close(grads[f"W_x_{gate}"], layer.weight_ih_l0.grad[rows].numpy().T, tolerance, f"W_x_{gate}")
        assert_close(grads[f"W_h_{hidden}"], layer.weight_hh_l0.grad[rows].numpy().T, tolerance, f"W_h_{hidden}")
        assert_close(grads[f"b_{gate}"], layer.bias_ih_l0.grad[rows].numpy(), tolerance, f"b_{gate}")
    if kind == "GRU":
        assert_close(grads["b_hn"], layer.bias_hh_l0.grad[2 * HIDDEN :].numpy(), tolerance, "b_hn")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_bidirectional_layer_equals_torch(kind: str, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    kernel = rg.compile(zoo.bidirectional(kind.lower(), INPUTS, HIDDEN, 2), dtype=dtype, wrt=ALL)
    params = params_of(kernel, dtype)
    cells = "hc" if kind == "LSTM" else "h"
    names = {cell: [f"{cell}_forward", f"{cell}_backward"] for cell in cells}
    state = {
        name: random(1, BATCH, HIDDEN, seed=len(name) + ord(name[0]), dtype=dtype)
        for pair in names.values()
        for name in pair
    }
    x, target, found, last, loss, grads = run(kernel, params, "y", state, dtype)

    layer = getattr(torch.nn, kind)(INPUTS, HIDDEN, bidirectional=True).to(getattr(torch, dtype))
    short: dict[str, dict[str, str]] = {}  # by direction: the name in zoo.lstm or zoo.gru, and here
    for direction, suffix in (("forward", "l0"), ("backward", "l0_reverse")):
        own = [name for name in params if name.endswith(f"_{direction}") and not name.startswith("V")]
        short[direction] = {name.removesuffix(f"_{direction}").replace(f"h_{direction}_", "h_"): name for name in own}
        copied = {plain: params[name] for plain, name in short[direction].items()}
        copy_weights(torch, layer, kind, copied, suffix)
    head = torch.nn.Linear(2 * HIDDEN, 2).to(getattr(torch, dtype))
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(np.concatenate([params["V_forward"], params["V_backward"]]).T))
        head.bias.copy_(torch.from_numpy(params["b_y"]))

    x_torch = torch.from_numpy(x).requires_grad_()
    initial = [torch.from_numpy(np.concatenate([state[n] for n in names[cell]])).requires_grad_() for cell in cells]
    hidden, final = layer(x_torch, tuple(initial) if kind == "LSTM" else initial[0])
    expected = head(hidden)
    torch_loss = torch.nn.functional.mse_loss(expected, torch.from_numpy(target))
    torch_loss.backward()
    tolerance = TOLERANCE[dtype]
    assert_close(found, expected.detach().numpy(), tolerance, "output")
    assert float(loss) == pytest.approx(torch_loss.item(), rel=tolerance)
    assert_close(grads.inputs["x"], x_torch.grad.numpy(), tolerance, "gradient of the input")
    for cell, start, end in zip(cells, initial, final if kind == "LSTM" else (final,), strict=True):
        for k, name in enumerate(names[cell]):
            assert_close(last[name], end[k : k + 1].detach().numpy(), tolerance, f"final {name}")
            assert_close(grads.state[name], start.grad[k : k + 1].numpy(), tolerance, f"gradient of the initial {name}")
    weights = np.concatenate([grads["V_forward"], grads["V_backward"]])
    assert_close(weights, head.weight.grad.numpy().T, tolerance, "V_forward, V_backward")
    gates = LSTM_GATES if kind == "LSTM" else GRU_GATES
    for direction, suffix in (("forward", "l0"), ("backward", "l0_reverse")):
        for k, gate in enumerate(gates):
            rows = slice(k * HIDDEN, (k + 1) * HIDDEN)
            into = "hn" if gate == "n" else gate
            for plain, tensor in ((f"W_x_{gate}", "weight_ih"), (f"W_h_{into}", "weight_hh"), (f"b_{gate}", "bias_ih")):
                name, gradient = short[direction][plain], getattr(layer, f"{tensor}_{suffix}").grad[rows].numpy().T
                assert_close(grads[name], gradient, tolerance, name)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_hessian_vector_product_of_an_lstm_equals_double_backward_of_torch(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    kernel = rg.compile(zoo.lstm(INPUTS, HIDDEN), dtype=dtype)
    params = params_of(kernel, dtype)
    direction = {name: random(*value.shape, seed=k + 90, dtype=dtype) for k, (name, value) in enumerate(params.items())}
    state = {name: random(1, BATCH, HIDDEN, seed=60 + k, dtype=dtype) for k, name in enumerate("hc")}
    x, target, *_ = run(kernel, params, "h", state, dtype)
    found = kernel.hessian_vector_product(params, direction, {"x": x}, {"h": target}, state)
    layer = torch_layer(torch, "LSTM", params, dtype)
    along = torch_layer(torch, "LSTM", direction, dtype)
    initial = tuple(torch.from_numpy(state[name]) for name in "hc")
    loss = torch.nn.functional.mse_loss(layer(torch.from_numpy(x), initial)[0], torch.from_numpy(target))
    gradients = torch.autograd.grad(loss, list(layer.parameters()), create_graph=True)
    slope = sum((gradient * part.detach()).sum() for gradient, part in zip(gradients, along.parameters(), strict=True))
    torch.autograd.backward(slope, inputs=list(layer.parameters()))
    tolerance = 10 * TOLERANCE[dtype]
    for k, gate in enumerate(LSTM_GATES):
        rows = slice(k * HIDDEN, (k + 1) * HIDDEN)
        assert_close(found[f"W_x_{gate}"], layer.weight_ih_l0.grad[rows].numpy().T, tolerance, f"W_x_{gate}")
        assert_close(found[f"W_h_{gate}"], layer.weight_hh_l0.grad[rows].numpy().T, tolerance, f"W_h_{gate}")
        assert_close(found[f"b_{gate}"], layer.bias_ih_l0.grad[rows].numpy(), tolerance, f"b_{gate}")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_hessian_vector_product_of_a_cell_of_ones_own_equals_jax(dtype: str) -> None:
    jax = pytest.importorskip("jax")
    kernel = rg.compile(delayed_cell(), dtype=dtype)
    params = params_of(kernel, dtype)
    direction = {name: random(*value.shape, seed=k + 90, dtype=dtype) for k, (name, value) in enumerate(params.items())}
    state = {"h": random(5, BATCH, HIDDEN, seed=60, dtype=dtype)}
    x, target, *_ = run(kernel, params, "h", state, dtype)
    found = kernel.hessian_vector_product(params, direction, {"x": x}, {"h": target}, state)
    with jax.enable_x64(dtype == "float64") if hasattr(jax, "enable_x64") else jax.experimental.enable_x64():
        numpy = jax.numpy

        def loss_of(p: Any) -> Any:
            def step(history: Any, x_t: Any) -> Any:
                s = x_t @ p["W"] + history[4] @ p["R1"] + history[0] @ p["R5"] + p["b_h"]
                h = numpy.tanh(s) * jax.nn.sigmoid(x_t @ p["G"] + history[3] @ p["R2"] + p["b_g"])
                return numpy.concatenate([history[1:], h[None]]), h

            return ((jax.lax.scan(step, numpy.asarray(state["h"]), numpy.asarray(x))[1] - target) ** 2).mean()

        primal, tangent = (
            {name: numpy.asarray(value) for name, value in given.items()} for given in (params, direction)
        )
        _, expected = jax.jvp(jax.grad(loss_of), (primal,), (tangent,))
        for name, value in expected.items():
            assert_close(found[name], np.asarray(value), 10 * TOLERANCE[dtype], f"Hessian product of {name}")


def test_swapped_gates_are_noticed() -> None:
    """The comparison can fail: torch's gates in another order."""
    torch = pytest.importorskip("torch")
    kernel = rg.compile(zoo.lstm(INPUTS, HIDDEN), dtype="float64")
    params = params_of(kernel, "float64")
    x, _, found, *_ = run(kernel, params, "h", None, "float64")
    swapped = {**params, "b_i": params["b_f"], "b_f": params["b_i"]}
    expected, _ = torch_layer(torch, "LSTM", swapped, "float64")(torch.from_numpy(x))
    with pytest.raises(AssertionError, match="output: off by"):
        assert_close(found, expected.detach().numpy(), 1e-10, "output")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_two_layers_and_a_readout_equal_torch(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    kernel = rg.compile(zoo.stacked("lstm", INPUTS, HIDDEN, 2), dtype=dtype, loss="cross_entropy")
    params = params_of(kernel, dtype)
    x = random(T, BATCH, INPUTS, seed=50, dtype=dtype)
    classes = np.random.default_rng(0).integers(0, 2, size=(T, BATCH))
    loss, grads = kernel.loss_and_gradient(params, {"x": x}, {"y": classes})
    first = {name.replace("1", ""): value for name, value in params.items()}
    second = {name.replace("h1", "x").replace("2", ""): value for name, value in params.items()}
    layers = []
    for prepared, size in ((first, INPUTS), (second, HIDDEN)):
        gates = LSTM_GATES
        layer = torch.nn.LSTM(size, HIDDEN).to(getattr(torch, dtype))
        with torch.no_grad():
            layer.weight_ih_l0.copy_(torch.from_numpy(np.concatenate([prepared[f"W_x_{g}"].T for g in gates])))
            layer.weight_hh_l0.copy_(torch.from_numpy(np.concatenate([prepared[f"W_h_{g}"].T for g in gates])))
            layer.bias_ih_l0.copy_(torch.from_numpy(np.concatenate([prepared[f"b_{g}"] for g in gates])))
            layer.bias_hh_l0.zero_()
        layers.append(layer)
    readout = torch.from_numpy(params["V"]).requires_grad_()
    hidden = torch.from_numpy(x)
    for layer in layers:
        hidden, _ = layer(hidden)
    logits = hidden @ readout + torch.from_numpy(params["b_y"])
    expected = torch.nn.functional.cross_entropy(logits.reshape(-1, 2), torch.from_numpy(classes.reshape(-1)))
    expected.backward()
    tolerance = TOLERANCE[dtype]
    assert float(loss) == pytest.approx(expected.item(), rel=tolerance)
    assert_close(grads["V"], readout.grad.numpy(), tolerance, "V")
    below = layers[0].weight_hh_l0.grad[:HIDDEN].numpy().T
    assert_close(grads["W_h1_i1"], below, tolerance, "W_h1_i1")
    assert_close(grads["W_h1_i2"], layers[1].weight_ih_l0.grad[:HIDDEN].numpy().T, tolerance, "W_h1_i2")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_tdnn_equals_convolution(dtype: str) -> None:
    """A time-delay layer is a causal 1-D convolution, its taps from late to early."""
    torch = pytest.importorskip("torch")
    kernel = rg.compile(zoo.tdnn((INPUTS, HIDDEN, 2), (2, [0, 3])), dtype=dtype, wrt=("parameters", "inputs"))
    params = params_of(kernel, dtype)
    x, target, found, _, loss, grads = run(kernel, params, "y", None, dtype)

    def taps(stem: str, delays: int, used: tuple[int, ...]) -> Any:
        weight = np.zeros((*params[f"{stem}_d{used[0]}"].T.shape, delays + 1), dtype)
        for d in used:
            weight[:, :, delays - d] = params[f"{stem}_d{d}"].T
        return torch.from_numpy(weight).requires_grad_()

    first, second = taps("W_x_a1", 2, (0, 1, 2)), taps("W_a1_y", 3, (0, 3))
    x_torch = torch.from_numpy(x).requires_grad_()
    convolve, pad = torch.nn.functional.conv1d, torch.nn.functional.pad
    series = x_torch.permute(1, 2, 0)
    hidden = torch.tanh(convolve(pad(series, (2, 0)), first, torch.from_numpy(params["b_a1"])))
    expected = convolve(pad(hidden, (3, 0)), second, torch.from_numpy(params["b_y"])).permute(2, 0, 1)
    torch_loss = torch.nn.functional.mse_loss(expected, torch.from_numpy(target))
    torch_loss.backward()
    tolerance = TOLERANCE[dtype]
    assert_close(found, expected.detach().numpy(), tolerance, "output")
    assert float(loss) == pytest.approx(torch_loss.item(), rel=tolerance)
    assert_close(grads.inputs["x"], x_torch.grad.numpy(), tolerance, "gradient of the input")
    for stem, weight, delays, used in (("W_x_a1", first, 2, (0, 1, 2)), ("W_a1_y", second, 3, (0, 3))):
        for d in used:
            gradient = weight.grad[:, :, delays - d].numpy().T
            assert_close(grads[f"{stem}_d{d}"], gradient, tolerance, f"{stem}_d{d}")


def delayed_cell() -> nx.MultiDiGraph:
    """h(t) = tanh(W^T x(t) + R1^T h(t-1) + R5^T h(t-5)) * sigmoid(G^T x(t) + R2^T h(t-2)): no library has it."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=INPUTS)
    graph.add_node("g", size=HIDDEN, activation="sigmoid")
    graph.add_node("h", kind="output", size=HIDDEN, equation="tanh(s)*g")
    graph.add_edge("x", "h", parameter="W")
    graph.add_edge("h", "h", delay=1, parameter="R1")
    graph.add_edge("h", "h", delay=5, parameter="R5")
    graph.add_edge("x", "g", parameter="G")
    graph.add_edge("h", "g", delay=2, parameter="R2")
    graph.add_edge("g", "h", port="g")
    return graph


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_cell_of_ones_own_equals_jax(dtype: str) -> None:
    jax = pytest.importorskip("jax")
    kernel = rg.compile(delayed_cell(), dtype=dtype, wrt=ALL)
    params = params_of(kernel, dtype)
    state = {"h": random(5, BATCH, HIDDEN, seed=60, dtype=dtype)}
    x, target, found, last, loss, grads = run(kernel, params, "h", state, dtype)
    with jax.enable_x64(dtype == "float64") if hasattr(jax, "enable_x64") else jax.experimental.enable_x64():
        numpy = jax.numpy

        def outputs(p: Any, inputs: Any, past: Any) -> Any:
            def step(history: Any, x_t: Any) -> Any:
                s = x_t @ p["W"] + history[4] @ p["R1"] + history[0] @ p["R5"] + p["b_h"]
                gate = jax.nn.sigmoid(x_t @ p["G"] + history[3] @ p["R2"] + p["b_g"])
                h = numpy.tanh(s) * gate
                return numpy.concatenate([history[1:], h[None]]), h

            final, hidden = jax.lax.scan(step, past, inputs)
            return hidden, final

        def loss_of(p: Any, inputs: Any, past: Any) -> Any:
            return ((outputs(p, inputs, past)[0] - target) ** 2).mean()

        arrays = (
            {name: numpy.asarray(value) for name, value in params.items()},
            numpy.asarray(x),
            numpy.asarray(state["h"]),
        )
        hidden, final = outputs(*arrays)
        value, (by_params, by_input, by_state) = jax.value_and_grad(loss_of, argnums=(0, 1, 2))(*arrays)
        assert hidden.dtype == dtype
        tolerance = TOLERANCE[dtype]
        assert_close(found, np.asarray(hidden), tolerance, "output")
        assert_close(last["h"], np.asarray(final), tolerance, "final state")
        assert float(loss) == pytest.approx(float(value), rel=tolerance)
        for name, gradient in by_params.items():
            assert_close(grads[name], np.asarray(gradient), tolerance, f"gradient of {name}")
        assert_close(grads.inputs["x"], np.asarray(by_input), tolerance, "gradient of the input")
        assert_close(grads.state["h"], np.asarray(by_state), tolerance, "gradient of the state")
