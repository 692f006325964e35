"""The zoo: structure of each graph, its equations, its errors, and its numbers against torch's layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import networkx as nx
import numpy as np
import pytest
import reference
from random_graphs import random_problem

import rnngraph as rg
from rnngraph import zoo
from rnngraph.errors import GraphError
from rnngraph.validate import validate


def edge(graph: nx.MultiDiGraph, source: str, target: str) -> dict[str, Any]:
    """The attributes of the only edge between two nodes."""
    (attributes,) = graph.get_edge_data(source, target).values()
    return dict(attributes)


def edges(graph: nx.MultiDiGraph) -> set[tuple[str, str, int]]:
    return {(source, target, data.get("delay", 0)) for source, target, data in graph.edges(data=True)}


VARIANTS: dict[str, Callable[[], nx.MultiDiGraph]] = {
    **{name: partial(zoo.example, name) for name in zoo.NETWORKS},
    "feedforward deep": lambda: zoo.feedforward((2, 4, 3, 2), "relu", "sigmoid"),
    "feedforward without hidden layer": lambda: zoo.feedforward((2, 1)),
    "jordan with decay": lambda: zoo.jordan(2, 3, 2, decay=0.5),
    "elman dense": lambda: zoo.elman(2, 3, recurrence="dense"),
    "lstm 1997": lambda: zoo.lstm(2, 3, 1, forget_gate=False),
    "lstm peepholes": lambda: zoo.lstm(2, 3, peepholes=True),
    "lstm 1997 peepholes": lambda: zoo.lstm(2, 3, forget_gate=False, peepholes=True),
    "gru with output": lambda: zoo.gru(2, 3, 2, output_activation="tanh"),
    "gru deep": lambda: zoo.stacked("gru", 2, 3, depth=3),
    "bidirectional elman": lambda: zoo.bidirectional("elman", 2, 3, 1, recurrence="dense", output_activation="tanh"),
    "bidirectional deep": lambda: zoo.stack(zoo.bidirectional("gru", 2, 3, 2), zoo.bidirectional("lstm", 2, 3, 1)),
    "mixed stack": lambda: zoo.stack(zoo.tdnn((2, 3, 3), (2, [1])), zoo.jordan(3, 2, 2), zoo.elman(2, 4, 1)),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_each_network_is_valid_and_runs(name: str) -> None:
    graph = VARIANTS[name]()
    assert type(graph) is nx.MultiDiGraph
    assert dict(validate(graph).parameters) == reference.parameter_shapes(graph)
    problem = random_problem(graph, 1, T=5, batch=2)
    result = reference.loss_and_gradient(graph, problem.parameters, problem.inputs, problem.targets)
    assert np.isfinite(result.loss)
    for parameter, gradient in result.gradients.items():
        assert np.isfinite(gradient).all() and gradient.any(), parameter


@pytest.mark.parametrize("name", zoo.NETWORKS)
def test_docstrings_give_the_equations(name: str) -> None:
    documentation = zoo.NETWORKS[name].__doc__ or ""
    assert "(t) = " in documentation or "(t) from" in documentation
    assert "y(t)" in documentation


def test_feedforward() -> None:
    graph = zoo.feedforward((3, 5, 4, 2), activation="relu")
    assert dict(graph.nodes(data="size")) == {"x": 3, "a1": 5, "a2": 4, "y": 2}
    assert edges(graph) == {("x", "a1", 0), ("a1", "a2", 0), ("a2", "y", 0)}
    assert graph.nodes["a2"]["activation"] == "relu"
    assert graph.nodes["y"]["activation"] == "identity"


def test_jordan_feeds_the_output_back() -> None:
    graph = zoo.jordan(3, 5, 2)
    assert edges(graph) == {("x", "a", 0), ("a", "y", 0), ("y", "a", 1)}
    assert reference.parameter_shapes(graph)["R"] == (2, 5)


def test_jordan_context_is_a_trace_of_the_outputs() -> None:
    graph = zoo.jordan(3, 5, 2, decay=0.25)
    assert edges(graph) == {("x", "a", 0), ("a", "y", 0), ("y", "c", 1), ("c", "c", 1), ("c", "a", 0)}
    graph.nodes["c"]["kind"] = "output"
    problem = random_problem(graph, 2, T=6, batch=2)
    outputs, _ = reference.forward(graph, problem.parameters, problem.inputs)
    y, c = outputs["y"], outputs["c"]
    assert not c[0].any()
    np.testing.assert_allclose(c[3], y[2] + 0.25 * y[1] + 0.25**2 * y[0])


def test_elman_context() -> None:
    assert edge(zoo.elman(3, 5, 2), "a", "a") == {"delay": 1, "structure": "identity"}
    assert edge(zoo.elman(3, 5, 2, recurrence="dense"), "a", "a") == {"delay": 1, "parameter": "R"}
    assert set(reference.parameter_shapes(zoo.elman(3, 5, 2))) == {"W", "V", "b_a", "b_y"}


def test_fully_recurrent() -> None:
    shapes = {"W": (3, 5), "R": (5, 5), "V": (5, 2), "b_a": (5,), "b_y": (2,)}
    assert reference.parameter_shapes(zoo.fully_recurrent(3, 5, 2)) == shapes
    assert zoo.fully_recurrent(3, 5).nodes["a"]["kind"] == "output"


def test_narx_delays() -> None:
    graph = zoo.narx(1, 4, 2, T_x=2, T_y=3)
    assert edge(graph, "x", "a")["delay"] == [0, 1, 2]
    assert edge(graph, "y", "a")["delay"] == [1, 2, 3]
    assert reference.state_depths(graph) == {"x": 2, "y": 3}
    assert edge(zoo.narx(1, 4, 2, T_x=0, T_y=1), "x", "a")["delay"] == [0]


def test_nar_reads_its_measured_past() -> None:
    graph = zoo.nar(2, 4, [1, 3], output_activation="tanh")
    assert dict(graph.nodes(data="size")) == {"y_measured": 2, "a": 4, "y": 2}
    assert edge(graph, "y_measured", "a") == {"delay": [1, 3], "parameter": "R"}
    assert reference.parameter_shapes(graph) == {"R_d1": (2, 4), "R_d3": (2, 4), "V": (4, 2), "b_a": (4,), "b_y": (2,)}


def test_focused_tdnn_delays_its_input_alone() -> None:
    graph = zoo.focused_tdnn((2, 4, 3, 1), [1, 3])
    assert [data for _, _, data in graph.edges(data="delay", default=0)] == [[1, 3], 0, 0]
    assert zoo.focused_tdnn((2, 1), 1).edges["x", "y", 0]["delay"] == [0, 1]


def test_layered_recurrent_loops() -> None:
    graph = zoo.layered_recurrent((2, 4, 3, 1), 2)
    loops = {source: data["delay"] for source, target, data in graph.edges(data=True) if source == target}
    assert loops == {"a1": [1, 2], "a2": [1, 2]}
    assert edge(graph, "a1", "a2") == {}


def test_tdnn_is_a_convolution() -> None:
    graph = zoo.tdnn((2, 3), ([0, 1, 3],))
    problem = random_problem(graph, 4, T=9, batch=1, with_state=False)
    outputs, _ = reference.forward(graph, problem.parameters, problem.inputs)
    kernel = np.zeros((4, 2, 3))
    for delay in (0, 1, 3):
        kernel[delay] = problem.parameters[f"W_x_y_d{delay}"]
    x = problem.inputs["x"][:, 0]
    for unit in range(3):
        expected = sum(np.convolve(x[:, k], kernel[:, k, unit])[:9] for k in range(2))
        np.testing.assert_allclose(outputs["y"][:, 0, unit], expected + problem.parameters["b_y"][unit])


def test_lstm_nodes_and_delays() -> None:
    graph = zoo.lstm(3, 5)
    assert set(graph) == {"x", "i", "f", "o", "z", "c", "h"}
    assert graph.nodes["h"] == {"kind": "output", "size": 5, "equation": "o*tanh(c)"}
    assert graph.nodes["c"]["equation"] == "f*c_prev + i*z"
    assert edge(graph, "c", "c") == {"delay": 1, "port": "c_prev"}
    assert {target for _, target, delay in edges(graph) if _ == "h" and delay == 1} == {"i", "f", "o", "z"}
    peepholes = zoo.lstm(3, 5, peepholes=True)
    assert edges(peepholes) - edges(graph) == {("c", "i", 1), ("c", "f", 1), ("c", "o", 0)}
    assert edge(peepholes, "c", "o")["structure"] == "diagonal"


def test_lstm_of_1997() -> None:
    graph = zoo.lstm(3, 5, forget_gate=False)
    assert set(graph) == {"x", "i", "o", "z", "c", "h"}
    assert graph.nodes["z"]["equation"] == "4*sigmoid(s) - 2"
    assert graph.nodes["c"]["equation"] == "c_prev + i*z"
    assert graph.nodes["h"]["equation"] == "o*(2*sigmoid(c) - 1)"
    chosen = zoo.lstm(3, 5, forget_gate=False, squashing_g="tanh", squashing_h="sin(s)/2 + s")
    assert chosen.nodes["z"]["activation"] == "tanh"
    assert chosen.nodes["h"]["equation"] == "o*(sin(c)/2 + c)"


def test_output_layers() -> None:
    for build in (zoo.lstm, zoo.gru, zoo.elman, zoo.fully_recurrent):
        graph = build(3, 5, 2)
        assert [node for node, kind in graph.nodes(data="kind") if kind == "output"] == ["y"]
        assert graph.nodes["y"]["size"] == 2


def test_stacked_names_and_parameters() -> None:
    graph = zoo.stacked("fully_recurrent", 3, 5, 2, depth=2)
    assert list(graph) == ["x", "a1", "a2", "y"]
    shapes = {
        "W1": (3, 5),
        "R1": (5, 5),
        "W2": (5, 5),
        "R2": (5, 5),
        "V": (5, 2),
        "b_a1": (5,),
        "b_a2": (5,),
        "b_y": (2,),
    }
    assert reference.parameter_shapes(graph) == shapes
    assert zoo.stacked("lstm", 3, 5, depth=2, peepholes=True).nodes["h2"]["kind"] == "output"
    assert zoo.stacked("gru", 3, 5, depth=1).nodes["h1"]["kind"] == "output"


def test_stack_is_the_composition_and_leaves_its_arguments() -> None:
    low, high = zoo.tdnn((2, 3), (2,)), zoo.fully_recurrent(3, 4, 2)
    before = [repr(list(graph.nodes(data=True)) + list(graph.edges(data=True))) for graph in (low, high)]
    both = zoo.stack(low, high)
    assert before == [repr(list(graph.nodes(data=True)) + list(graph.edges(data=True))) for graph in (low, high)]
    problem = random_problem(both, 1, T=6, with_state=False)
    values = problem.parameters
    below = {"W_x_y_d0": values["W_x_y1_d0"], "W_x_y_d1": values["W_x_y1_d1"], "W_x_y_d2": values["W_x_y1_d2"]}
    middle, _ = reference.forward(low, {**below, "b_y": values["b_y1"]}, problem.inputs)
    above = {name: values[f"{name}2"] for name in ("W", "R", "V", "b_a", "b_y")}
    expected, _ = reference.forward(high, above, {"x": middle["y"]})
    outputs, _ = reference.forward(both, values, problem.inputs)
    np.testing.assert_allclose(outputs["y2"], expected["y"])


def test_bidirectional_names_and_delays() -> None:
    graph = zoo.bidirectional("elman", 3, 5, 2, recurrence="dense", activation="relu")
    expected = {("x", "a_forward", 0), ("a_forward", "a_forward", 1), ("a_forward", "y", 0)}
    expected |= {("x", "a_backward", 0), ("a_backward", "a_backward", -1), ("a_backward", "y", 0)}
    assert edges(graph) == expected
    assert graph.nodes["a_backward"]["activation"] == "relu"
    shapes = {f"{name}_{way}": shape for way in ("forward", "backward")
              for name, shape in {"W": (3, 5), "R": (5, 5), "V": (5, 2), "b_a": (5,)}.items()}  # fmt: skip
    assert reference.parameter_shapes(graph) == {**shapes, "b_y": (2,)}


@pytest.mark.parametrize("kind", zoo.STACKABLE)
def test_bidirectional_is_a_network_and_the_same_on_reversed_time(kind: str) -> None:
    graph, layer = zoo.bidirectional(kind, 3, 4), zoo.STACKABLE[kind](3, 4)
    problem = random_problem(graph, 2, T=6, batch=2, with_state=False)
    outputs, _ = reference.forward(graph, problem.parameters, problem.inputs)
    x, output = problem.inputs["x"], next(node for node, kind in layer.nodes(data="kind") if kind == "output")
    assert set(outputs) == {f"{output}_forward", f"{output}_backward"}
    for way, step in (("forward", 1), ("backward", -1)):
        parameters = {
            name.replace(f"_{way}", ""): value for name, value in problem.parameters.items() if f"_{way}" in name
        }
        alone, _ = reference.forward(layer, parameters, {"x": x[::step]})
        np.testing.assert_allclose(outputs[f"{output}_{way}"], alone[output][::step], rtol=1e-12)


def test_both_directions_of_an_lstm_start_alike() -> None:
    """A forget gate multiplies what its cell reads one step ahead in the backward copy: its bias is 1, too."""
    params = rg.compile(zoo.bidirectional("lstm", 2, 3)).init()
    for way in ("forward", "backward"):
        biases = {name: value.tolist() for name, value in params.items() if name.startswith("b_") and way in name}
        assert biases == {f"b_{gate}_{way}": [float(gate == "f")] * 3 for gate in "ifoz"}
    assert validate(zoo.bidirectional("gru", 2, 3)).nodes["z_backward"].forget_gate
    mixed = zoo.lstm(2, 3)  # its loop runs backward, though one of its edges has a delay
    for _, _, data in mixed.edges(data=True):
        data["delay"] = -2 * data.get("delay", 0)
    mixed.edges["f", "c", 0]["delay"] = 1
    assert [name for name, node in validate(mixed).nodes.items() if node.forget_gate] == ["f"]


@pytest.mark.parametrize(
    ("build", "where", "found"),
    [
        (lambda: zoo.feedforward((3,)), "argument sizes", "(3,)"),
        (lambda: zoo.feedforward((3, 0, 2)), "argument sizes[1]", "0"),
        (lambda: zoo.feedforward((3, 2), output_activation="2 + 3"), "argument output_activation", "'2 + 3'"),
        (lambda: zoo.elman(3, 4, 2, recurrence="full"), "argument recurrence", "'full'"),
        (lambda: zoo.elman(True, 4, 2), "argument inputs", "True"),
        (lambda: zoo.jordan(3, 4, 2, decay=1.0), "argument decay", "1.0"),
        (lambda: zoo.jordan(3, 4, 2, decay=float("nan")), "argument decay", "nan"),
        (lambda: zoo.fully_recurrent(3, 2.5, 2), "argument units", "2.5"),  # type: ignore[arg-type]
        (lambda: zoo.narx(1, 4, 1, -1, 1), "argument T_x", "-1"),
        (lambda: zoo.narx(1, 4, 1, 1, 0), "argument T_y", "0"),
        (lambda: zoo.tdnn((3, 4, 2), (2,)), "argument delays", "(2,)"),
        (lambda: zoo.tdnn((3, 4, 2), (2, [])), "argument delays[1]", "[]"),
        (lambda: zoo.tdnn((3, 4, 2), ([0, 0], 1)), "argument delays[0]", "[0, 0]"),
        (lambda: zoo.tdnn((3, 4, 2), ([-1], 1)), "argument delays[0]", "[-1]"),
        (lambda: zoo.tdnn((3, 4, 2), (1, -2)), "argument delays[1]", "-2"),
        (lambda: zoo.lstm(3, -4), "argument hidden", "-4"),
        (lambda: zoo.lstm(3, 4, 0), "argument outputs", "0"),
        (lambda: zoo.lstm(3, 4, squashing_h=""), "argument squashing_h", "''"),
        (lambda: zoo.gru(0, 4), "argument inputs", "0"),
        (lambda: zoo.stacked("jordan", 3, 4), "argument kind", "'jordan'"),
        (lambda: zoo.stacked("gru", 3, 4, depth=0), "argument depth", "0"),
        (lambda: zoo.bidirectional("narx", 3, 4), "argument kind", "'narx'"),
        (lambda: zoo.bidirectional("gru", 3, 0), "argument hidden", "0"),
        (lambda: zoo.stack(), "argument networks", "no network"),
        (lambda: zoo.stack(zoo.gru(3, 4), zoo.gru(5, 4)), "network 2", "an input of size 5"),
        (lambda: zoo.stack(zoo.gru(3, 4), nx.MultiDiGraph()), "network 2", "0 input nodes []"),
        (lambda: zoo.example("lsmt"), "network of the zoo", "'lsmt'"),
    ],
)
def test_bad_arguments(build: Callable[[], nx.MultiDiGraph], where: str, found: str) -> None:
    with pytest.raises(GraphError) as caught:
        build()
    error = caught.value
    assert (error.where, error.found) == (where, found)
    assert error.expected and error.remedy


def _compare_with_torch(
    graph: nx.MultiDiGraph,
    layer: Any,
    parameters: dict[str, Any],
    split: dict[str, tuple[str, int]],
    state: dict[str, Any] | None,
    torch_state: Any,
) -> None:
    """Outputs, loss and every gradient; ``split`` maps a parameter to torch's tensor and the block of its rows."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, target = rng.normal(size=(7, 3, 4)), rng.normal(size=(7, 3, 5))
    result = reference.loss_and_gradient(graph, parameters, {"x": x}, {"h": target}, state=state)
    torch_x = torch.tensor(x, requires_grad=True)
    outputs, _ = layer(torch_x, torch_state)
    loss = torch.nn.functional.mse_loss(outputs, torch.tensor(target))
    loss.backward()
    np.testing.assert_allclose(result.outputs["h"], outputs.detach().numpy(), rtol=1e-12, atol=1e-14)
    assert result.loss == pytest.approx(loss.item(), rel=1e-12)
    np.testing.assert_allclose(result.input_gradients["x"], torch_x.grad.numpy(), rtol=1e-10, atol=1e-14)
    for name, (tensor, block) in split.items():
        gradient = getattr(layer, tensor).grad.numpy()[5 * block : 5 * block + 5].T
        np.testing.assert_allclose(result.gradients[name], gradient, rtol=1e-10, atol=1e-14, err_msg=name)


def _blocks(layer: Any, split: dict[str, tuple[str, int]]) -> dict[str, Any]:
    return {
        name: getattr(layer, tensor).detach().numpy()[5 * block : 5 * block + 5].T
        for name, (tensor, block) in split.items()
    }


@pytest.mark.peers
def test_lstm_equals_torch() -> None:
    torch = pytest.importorskip("torch")
    layer = torch.nn.LSTM(4, 5).double()
    gates = list(enumerate("ifzo"))  # torch's order, with its g for z
    split = {f"W_x_{gate}": ("weight_ih_l0", k) for k, gate in gates}
    split |= {f"W_h_{gate}": ("weight_hh_l0", k) for k, gate in gates}
    biases = {f"b_{gate}": ("bias_ih_l0", k) for k, gate in gates}
    other = _blocks(layer, {f"b_{gate}": ("bias_hh_l0", k) for k, gate in gates})
    parameters = _blocks(layer, split | biases)
    parameters |= {name: parameters[name] + other[name] for name in biases}
    rng = np.random.default_rng(1)
    state = {"h": rng.normal(size=(1, 3, 5)), "c": rng.normal(size=(1, 3, 5))}
    start = (torch.tensor(state["h"]), torch.tensor(state["c"]))
    _compare_with_torch(zoo.lstm(4, 5), layer, parameters, split | biases, state, start)


@pytest.mark.peers
def test_gru_equals_torch() -> None:
    torch = pytest.importorskip("torch")
    layer = torch.nn.GRU(4, 5).double()
    split = {"W_x_r": ("weight_ih_l0", 0), "W_x_z": ("weight_ih_l0", 1), "W_x_n": ("weight_ih_l0", 2)}
    split |= {"W_h_r": ("weight_hh_l0", 0), "W_h_z": ("weight_hh_l0", 1), "W_h_hn": ("weight_hh_l0", 2)}
    split |= {"b_n": ("bias_ih_l0", 2), "b_hn": ("bias_hh_l0", 2)}
    biases = {"b_r": ("bias_ih_l0", 0), "b_z": ("bias_ih_l0", 1)}
    other = _blocks(layer, {"b_r": ("bias_hh_l0", 0), "b_z": ("bias_hh_l0", 1)})
    parameters = _blocks(layer, split | biases)
    parameters |= {name: parameters[name] + other[name] for name in biases}
    state = {"h": np.random.default_rng(1).normal(size=(1, 3, 5))}
    start = torch.tensor(state["h"])
    _compare_with_torch(zoo.gru(4, 5), layer, parameters, split | biases, state, start)


@pytest.mark.parametrize(("build", "kind"), [(zoo.bidirectional, "lstm"), (zoo.stacked, "elman")])
def test_an_unknown_option_is_refused(build: Any, kind: str) -> None:
    with pytest.raises(
        GraphError, match=f"argument foo: found no such option of '{kind}'; expected some of .*activation"
    ):
        build(kind, 2, 3, foo=1)
