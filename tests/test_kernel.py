"""The compiled network in the user's hands: parameters, states, chunks and steps, errors, training."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from checking import assert_all_close, assert_close, assert_equals_reference, losses_of, problem_for, to_numpy
from random_graphs import random_graph

import rnngraph as rg
from codegen.load import load_source
from rnngraph import zoo

SOURCES: dict[str, nx.MultiDiGraph] = {
    "elman": zoo.elman(2, 3, 2, recurrence="dense"),
    "lstm": zoo.lstm(2, 3, 2, peepholes=True),
    "gru": zoo.gru(2, 3),
    "narx": zoo.narx(2, 3, 2, 2, 3),
    "tdnn": zoo.tdnn((2, 3, 2), ([0, 4], 1)),
    "jordan": zoo.jordan(2, 3, 2, decay=0.5),
    **{f"random graph {seed}": random_graph(seed) for seed in range(0, 24, 3)},
}


def test_gates_of_unequal_width_with_fixed_weights() -> None:
    """A halved matrix that is copied part by part, with a bias as wide as several blocks."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=1)
    graph.add_node("y", kind="output", size=1)
    for name, size in {"a": 1, "b": 3}.items():
        graph.add_node(name, size=size, activation="sigmoid")
        graph.add_edge("x", name, structure="fixed", value=np.full((1, size), 0.5))
        graph.add_edge("a", name, delay=1)
        graph.add_edge("b", name, delay=1)
        graph.add_edge(name, "y")
    problem = problem_for(graph, 0, {"y": "mse"})
    assert_equals_reference(rg.compile(graph, dtype="float64"), graph, problem, {"y": "mse"})


# Sequences in pieces.


@pytest.mark.parametrize("name", SOURCES)
def test_chunks_give_what_the_whole_gives(name: str, backend: str) -> None:
    """Pieces shorter than the delays included: the state carries the sequence on."""
    graph = SOURCES[name]
    kernel = rg.compile(graph, dtype="float64", backend=backend)
    problem = problem_for(graph, 1, dict.fromkeys(losses_of(graph, 0), "mse"), T=9, batch=2, with_state=True)
    whole, last = kernel.forward(problem.parameters, problem.inputs, problem.state)
    state, pieces = problem.state, []
    for start, stop in ((0, 1), (1, 3), (3, 4), (4, 9)):
        chunk = {name: value[start:stop] for name, value in problem.inputs.items()}
        outputs, state = kernel.forward(problem.parameters, chunk, state)
        pieces.append({name: to_numpy(value) for name, value in outputs.items()})
    joined = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    assert_all_close(joined, {name: to_numpy(value) for name, value in whole.items()}, 1e-12, "output")
    assert_all_close(state, {name: to_numpy(value) for name, value in last.items()}, 1e-12, "state")


@pytest.mark.parametrize("name", SOURCES)
def test_steps_give_what_forward_gives(name: str, backend: str) -> None:
    graph = SOURCES[name]
    kernel = rg.compile(graph, dtype="float64", backend=backend)
    problem = problem_for(graph, 2, dict.fromkeys(losses_of(graph, 0), "mse"), T=7, batch=2, with_state=False)
    whole, last = kernel.forward(problem.parameters, problem.inputs)
    state = kernel.initial_state(2, problem.parameters)
    for t in range(7):
        one = {name: value[t] for name, value in problem.inputs.items()}
        outputs, state = kernel.step(problem.parameters, state, one)
        expected = {name: to_numpy(value)[t] for name, value in whole.items()}
        assert_all_close(outputs, expected, 1e-12, f"output at t = {t + 1}")
    assert_all_close(state, {name: to_numpy(value) for name, value in last.items()}, 1e-12, "state")


def test_a_step_may_start_without_a_state() -> None:
    kernel = rg.compile(zoo.lstm(2, 3))
    params = kernel.init()
    outputs, state = kernel.step(params, None, {"x": np.ones((1, 2))})
    again, _ = kernel.step(params, kernel.initial_state(), {"x": np.ones((1, 2))})
    np.testing.assert_array_equal(outputs["h"], again["h"])
    assert outputs["h"].shape == (1, 3) and {name: value.shape for name, value in state.items()} == {
        "c": (1, 1, 3),
        "h": (1, 1, 3),
    }


def test_initial_state_by_depth_and_value() -> None:
    graph = zoo.narx(2, 3, 1, 2, 3)
    graph.nodes["y"]["initial"] = 0.5
    state = rg.compile(graph).initial_state(batch=4)
    assert {name: value.shape for name, value in state.items()} == {"x": (2, 4, 2), "y": (3, 4, 1)}
    assert (state["y"] == 0.5).all() and not state["x"].any()


def test_learned_initial_values_need_the_parameters() -> None:
    graph = zoo.elman(2, 3, 2, recurrence="dense")
    graph.nodes["a"]["initial"] = "parameter"
    kernel = rg.compile(graph, dtype="float64")
    params = kernel.init()
    params["a_0"] = [0.1, -0.2, 0.3]
    assert "a" not in kernel.initial_state(2)
    given = kernel.initial_state(2, params)
    np.testing.assert_array_equal(given["a"], np.tile([0.1, -0.2, 0.3], (1, 2, 1)))
    x = {"x": np.ones((3, 2, 2))}
    np.testing.assert_array_equal(kernel.forward(params, x)[0]["y"], kernel.forward(params, x, given)[0]["y"])


# Parameters.


def test_initialisation_by_role_by_name_and_by_seed() -> None:
    kernel = rg.compile(zoo.lstm(3, 4, 2), dtype="float64")
    params = kernel.init(seed=1)
    assert (params["b_f"] == 1).all() and not params["b_i"].any()
    np.testing.assert_allclose(params["W_h_i"] @ params["W_h_i"].T, np.eye(4), atol=1e-12)
    assert 0 < np.abs(params["W_x_i"]).max() <= math.sqrt(6 / 7)
    np.testing.assert_array_equal(kernel.init(seed=1).vector, params.vector)
    assert not np.array_equal(kernel.init(seed=2)["W_x_i"], params["W_x_i"])
    changed = kernel.init(seed=1, rules={"bias": "small", "W_x_i": "zeros", "recurrent_weight": "identity"})
    assert changed["b_i"].any() and not changed["W_x_i"].any()
    np.testing.assert_array_equal(changed["W_h_i"], np.eye(4))
    np.testing.assert_array_equal(changed["W_x_f"], params["W_x_f"])
    np.testing.assert_array_equal(changed["b_f"], params["b_f"])


def test_the_emitted_file_initialises_as_the_kernel_does() -> None:
    kernel = rg.compile(zoo.lstm(3, 4, 2, peepholes=True))
    module = load_source(kernel.source)
    np.testing.assert_array_equal(module.init(7).vector, kernel.init(7).vector)


def test_assignment_copies_into_the_vector(backend: str) -> None:
    kernel = rg.compile(zoo.elman(2, 3, 2), backend=backend)
    params = kernel.init()
    vector = params.vector
    value = np.full((3, 2), 7.0)
    params["V"] = value
    assert params.vector is vector
    assert int((to_numpy(vector) == 7.0).sum()) == 6
    value[...] = 0.0
    assert (to_numpy(params["V"]) == 7.0).all()
    copied = params.copy()
    copied["V"] = np.zeros((3, 2))
    assert (to_numpy(params["V"]) == 7.0).all()
    with pytest.raises(KeyError, match=r"'U' is not a parameter of this network.*'W', 'V'"):
        params["U"] = value
    with pytest.raises(ValueError):
        params["V"] = np.zeros((2, 3))
    assert list(params) == list(kernel.parameter_shapes)


def test_plain_dicts_lists_and_other_precisions_are_accepted(backend: str) -> None:
    kernel = rg.compile(zoo.elman(2, 3, 2), backend=backend, dtype="float32")
    params = kernel.init(seed=3)
    x = np.random.default_rng(0).normal(size=(4, 2, 2)).astype(np.float32)
    expected, _ = kernel.forward(params, {"x": x})
    plain = {name: to_numpy(value).astype(np.float64) for name, value in params.items()}
    lists = {name: value.tolist() for name, value in plain.items()}
    for form in (plain, lists):
        for inputs in (x, x.astype(np.float64), x.tolist(), np.asfortranarray(x)):
            found, _ = kernel.forward(form, {"x": inputs})
            assert to_numpy(found["y"]).dtype == np.float32
            np.testing.assert_array_equal(to_numpy(found["y"]), to_numpy(expected["y"]))
    wide = rg.compile(zoo.elman(2, 3, 2), backend=backend, dtype="float64").init(seed=3)
    found, _ = kernel.forward(wide, {"x": x})
    np.testing.assert_array_equal(to_numpy(found["y"]), to_numpy(expected["y"]))


def test_parameters_of_another_network_are_read_by_name() -> None:
    """Same names, another layout in the vector: never by position."""
    first = rg.compile(zoo.lstm(2, 3, 2), dtype="float64")
    reordered = nx.MultiDiGraph()
    reordered.add_nodes_from(reversed(list(zoo.lstm(2, 3, 2).nodes(data=True))))
    reordered.add_edges_from(reversed(list(zoo.lstm(2, 3, 2).edges(data=True))))
    second = rg.compile(reordered, dtype="float64")
    params = first.init(seed=1)
    x = {"x": np.random.default_rng(0).normal(size=(4, 2, 2))}
    expected, _ = first.forward(params, x)
    found, _ = second.forward(params, x)
    np.testing.assert_allclose(found["y"], expected["y"], rtol=1e-12)


def test_gradients_are_laid_out_as_the_parameters(backend: str) -> None:
    kernel = rg.compile(zoo.lstm(2, 3, 2), backend=backend)
    params = kernel.init()
    loss, grads = kernel.loss_and_gradient(params, {"x": np.ones((3, 1, 2))}, {"y": np.ones((3, 1, 2))})
    assert np.ndim(loss) == 0 and list(grads) == list(params)
    assert grads.vector.shape == params.vector.shape and grads.vector.dtype == params.vector.dtype
    before = {name: to_numpy(value).copy() for name, value in params.items()}
    params.vector[...] = params.vector - 0.5 * grads.vector
    for name, value in params.items():
        np.testing.assert_allclose(to_numpy(value), before[name] - 0.5 * to_numpy(grads[name]), rtol=1e-6, atol=1e-7)


def test_results_are_the_callers_own() -> None:
    kernel = rg.compile(zoo.elman(2, 3, 2), dtype="float64")
    params = kernel.init()
    x = np.ones((3, 1, 2))
    outputs, state = kernel.forward(params, {"x": x})
    kept = outputs["y"].copy()
    outputs["y"][...] = np.nan
    state["a"][...] = np.nan
    assert x.all()
    np.testing.assert_array_equal(kernel.forward(params, {"x": x})[0]["y"], kept)


# Text.


def test_save_writes_the_source(tmp_path: Path) -> None:
    kernel = rg.compile(zoo.elman(2, 3, 2))
    path = kernel.save(tmp_path / "network.py")
    assert path.read_text(encoding="utf-8") == kernel.source
    assert [each.name for each in tmp_path.iterdir()] == ["network.py"]  # nothing temporary is left
    kernel.save(str(path))
    with pytest.raises(rg.DataError, match="No such file or directory"):
        kernel.save(tmp_path / "missing" / "network.py")


def test_repr_names_inputs_outputs_and_loss() -> None:
    kernel = rg.compile(zoo.elman(2, 3, 2), loss="cross_entropy")
    text = repr(kernel)
    for part in ("['x'] -> ['y']", "17 parameters", "'y': 'cross_entropy'", "backend='numpy'", "dtype='float32'"):
        assert part in text
    assert len(text) < 200


def test_kernel_carries_its_equations_and_times() -> None:
    kernel = rg.compile(zoo.elman(2, 3, 2))
    assert "dL/dW" in str(kernel.equations)
    assert {"validate", "differentiate", "schedule", "lower"} <= set(kernel.seconds)
    assert "stepped forward" in str(kernel.explain())


# Errors.

GOOD = {
    "params": None, "inputs": {"x": np.zeros((4, 2, 3))}, "targets": {"y": np.zeros((4, 2, 2))}, "state": None,
    "weights": None,
}  # fmt: skip
NAN = np.full((4, 2, 3), np.nan)
BAD: dict[str, tuple[str, Any, str]] = {
    "no mapping": (
        "inputs",
        np.zeros((4, 2, 3)),
        r"inputs: found an object of type ndarray; expected a mapping of 'x'",
    ),
    "a missing input": ("inputs", {}, r"inputs: found no array for 'x'"),
    "an unknown input": ("inputs", {"x": np.zeros((4, 2, 3)), "z": 1}, r"inputs: found the unknown name 'z'"),
    "an input without batch": ("inputs", {"x": np.zeros((4, 3))}, r"input 'x'.*add the batch axis"),
    "an input of another size": (
        "inputs",
        {"x": np.zeros((4, 2, 5))},
        r"input 'x'.*shape \(4, 2, 5\).*\(T, batch, 3\)",
    ),
    "an input of no length": ("inputs", {"x": np.zeros((0, 2, 3))}, r"input 'x'.*T = 0"),
    "an input that is NaN": ("inputs", {"x": NAN}, r"input 'x': found nan at \[0, 0, 0\]; expected finite"),
    "an input of text": ("inputs", {"x": [["a"]]}, r"input 'x'.*real numbers"),
    "a ragged input": ("inputs", {"x": [[[1.0, 2.0, 3.0]], [[1.0]]]}, r"input 'x'.*no array"),
    "complex input": ("inputs", {"x": np.zeros((4, 2, 3), complex)}, r"input 'x': found dtype complex128"),
    "a missing target": ("targets", {}, r"targets: found no array for 'y'"),
    "a short target": ("targets", {"y": np.zeros((3, 2, 2))}, r"target of 'y': found shape \(3, 2, 2\)"),
    "a target of an unknown output": (
        "targets",
        {"Y": np.zeros((4, 2, 2))},
        r"targets: found the unknown name 'Y'; expected 'y'",
    ),
    "weights of another shape": ("weights", np.ones((4, 3)), r"weights: found shape \(4, 3\)"),
    "negative weights": ("weights", -np.ones((4, 2)), r"weights: found -1"),
    "no weight at all": ("weights", np.zeros((4, 2)), r"weights: found zeros only"),
    "an unknown state": ("state", {"q": np.zeros((1, 2, 4))}, r"state: found the unknown name 'q'"),
    "a state of another batch": ("state", {"a": np.zeros((1, 3, 4))}, r"state of 'a'.*same batch"),
    "a state without depth": ("state", {"a": np.zeros((2, 4))}, r"state of 'a': found shape \(2, 4\)"),
    "a missing parameter": ("params", {"W": np.zeros((3, 4))}, r"parameters: found no array for 'V'"),
    "no parameters": ("params", np.zeros(30), r"parameters: found an object of type ndarray"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_data_is_refused_with_name_found_expected_and_remedy(name: str, backend: str) -> None:
    kernel = rg.compile(zoo.elman(3, 4, 2), backend=backend)
    field, value, message = BAD[name]
    arguments = {**GOOD, "params": kernel.init(), field: value}
    with pytest.raises(rg.DataError, match=re.compile(message)) as caught:
        kernel.loss_and_gradient(**arguments)
    assert "expected" in str(caught.value) and "remedy" in str(caught.value)
    if field != "targets" and field != "weights":
        with pytest.raises(rg.DataError, match=re.compile(message)):
            kernel.forward(arguments["params"], arguments["inputs"], arguments["state"])


def test_classes_are_checked() -> None:
    kernel = rg.compile(zoo.elman(3, 4, 2), loss="cross_entropy")
    params, x = kernel.init(), {"x": np.zeros((2, 1, 3))}
    for target, message in (
        (np.array([[0], [2]]), r"class 2 at \[1, 0\].*integers from 0 to 1"),
        (np.array([[0.0], [1.0]]), r"dtype float64.*astype\(int\)"),
        (np.zeros((2, 1, 2), int), r"argmax"),
        (np.array([[0], [-1]]), r"class -1"),
    ):
        with pytest.raises(rg.DataError, match=message):
            kernel.loss_and_gradient(params, x, {"y": target})
    loss, _ = kernel.loss_and_gradient(params, x, {"y": [[0], [1]]})
    assert loss > 0


def test_steps_and_batches_are_checked() -> None:
    kernel = rg.compile(zoo.elman(3, 4, 2))
    with pytest.raises(rg.DataError, match="give one time step: no time axis"):
        kernel.step(kernel.init(), None, {"x": np.zeros((1, 2, 3))})
    for batch in (0, 1.5, True):
        with pytest.raises(rg.OptionError, match="integer >= 1"):
            kernel.initial_state(batch)  # type: ignore[arg-type]


OPTIONS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "an unknown backend": ({"backend": "fortran"}, rg.OptionError, "'fortran'.*numpy"),
    "an unknown dtype": ({"dtype": "float16"}, rg.OptionError, "'float16'.*float32"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_bad_options_are_refused(name: str) -> None:
    options, error, message = OPTIONS[name]
    with pytest.raises(error, match=message):
        rg.compile(zoo.elman(2, 3, 2), **options)


def test_dtypes_by_name_and_by_type() -> None:
    for dtype in ("float64", np.float64, np.dtype("float64")):
        assert rg.compile(zoo.elman(2, 3, 2), dtype=dtype).init().vector.dtype == np.float64


# Training with real kernels.


def sines(T: int = 20, batch: int = 4) -> tuple[dict[str, Any], dict[str, Any]]:
    """The next value of a sine of unknown phase."""
    phase = np.random.default_rng(0).uniform(0, 2 * np.pi, size=batch)
    values = np.sin(0.5 * np.arange(T + 1)[:, None, None] + phase[None, :, None])
    return {"x": values[:-1]}, {"y": values[1:]}


@pytest.mark.parametrize("name", ["elman", "lstm", "gru", "tdnn"])
def test_fit_with_adam_lowers_the_loss(name: str) -> None:
    graphs = {
        "elman": zoo.elman(1, 8, 1, recurrence="dense"), "lstm": zoo.lstm(1, 8, 1), "gru": zoo.gru(1, 8, 1),
        "tdnn": zoo.tdnn((1, 8, 1), (3, [0])),
    }  # fmt: skip
    kernel = rg.compile(graphs[name])
    params = kernel.init()
    before = kernel.loss(params, *sines())
    history = rg.fit(kernel, params, sines(), optimizer=rg.Adam(0.02), epochs=60, progress=False)
    assert kernel.loss(params, *sines()) < 0.25 * before
    assert history.epochs == 60


def test_fit_with_lbfgs_lowers_the_loss() -> None:
    kernel = rg.compile(zoo.narx(1, 6, 1, 1, 2), dtype="float64")
    params = kernel.init()
    before = kernel.loss(params, *sines())
    rg.fit(kernel, params, sines(), optimizer=rg.LBFGS(), epochs=40, progress=False)
    assert kernel.loss(params, *sines()) < 0.1 * before


def test_fit_learns_classes_with_masked_steps() -> None:
    """The class is the sign of the first input, asked for at the last step only."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 32, 1))
    classes = np.broadcast_to((x[0, :, 0] > 0).astype(int), (6, 32))
    weights = np.zeros((6, 32))
    weights[-1] = 1.0
    kernel = rg.compile(zoo.lstm(1, 8, 2), loss="cross_entropy")
    params = kernel.init()
    data = ({"x": x}, {"y": classes}, weights)
    rg.fit(kernel, params, data, optimizer=rg.Adam(0.03), epochs=150, progress=False)
    outputs, _ = kernel.forward(params, {"x": x})
    assert (outputs["y"][-1].argmax(-1) == classes[-1]).mean() > 0.95


def test_early_stopping_restores_the_best_parameters() -> None:
    kernel = rg.compile(zoo.elman(1, 8, 1, recurrence="dense"))
    params = kernel.init()
    noise = ({"x": np.random.default_rng(1).normal(size=(20, 4, 1))}, {"y": np.zeros((20, 4, 1))})
    history = rg.fit(
        kernel, params, sines(), optimizer=rg.Adam(0.05), epochs=200, validation=noise, patience=5, progress=False
    )
    assert history.epochs < 200 and "no lower validation loss" in history.stopped
    assert kernel.loss(params, *noise) == pytest.approx(min(history.validation_loss), rel=1e-5)


def test_losses_agree_between_loss_and_gradient_and_loss(backend: str) -> None:
    kernel = rg.compile(zoo.gru(1, 4, 1), backend=backend, dtype="float64")
    params = kernel.init()
    inputs, targets = sines(5, 2)
    loss, _ = kernel.loss_and_gradient(params, inputs, targets)
    assert_close(kernel.loss(params, inputs, targets), np.asarray(float(loss)), 1e-14, "loss")


def test_a_learned_initial_value_does_not_take_the_error_of_a_copy() -> None:
    """b(t) = a(t) for t >= 1 alone: what comes from b(0), a number, is not an error of a(0), which is learned."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    graph.add_node("a", size=2, activation="tanh", initial="parameter")
    graph.add_node("b", size=2, equation="p", initial=0.25)
    graph.add_node("y", kind="output", size=2)
    graph.add_edge("x", "a")
    graph.add_edge("a", "b", port="p")
    graph.add_edge("b", "y", delay=1)
    graph.add_edge("a", "a", delay=2)
    problem = problem_for(graph, 1, {"y": "mse"}, T=4, with_state=False)
    assert_equals_reference(rg.compile(graph, dtype="float64"), graph, problem, "mse")
