"""Effective weights (masks, learned delays, a delay for each pair of units, expressions of parameters) against what
knows nothing of them: the reference tape, networks written otherwise, NumPy loops, torch and JAX."""

from __future__ import annotations

import dataclasses
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
import pytest
import reference
from checking import (
    assert_all_close,
    assert_close,
    assert_equals_reference,
    assert_float32_equals_reference,
    losses_of,
    problem_for,
    to_numpy,
)
from random_graphs import Problem, random_graph, with_weights
from test_emitted import blocked_run, saved_example

import rnngraph as rg

Array = npt.NDArray[Any]
ALL = ("parameters", "inputs", "state")
MASK = np.array([[1, 0, 0], [0, 1, 1], [1, 1, 1]])
DELAYS = np.array([[1, 3, 1], [2, 1, 3], [3, 3, 2]])


def every_kind() -> nx.MultiDiGraph:
    """Each kind of effective weight, weights and logits that edges share, and one parameter read as it is, too."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=3)
    graph.add_node("a", size=3, activation="tanh", initial="parameter")
    graph.add_node("y", kind="output", size=3, activation="sigmoid")
    logits = {"parameter": "alpha", "temperature": 0.7}
    graph.add_edge("x", "a", delay={"max": 2, "min": 0, "learned": True, **logits}, parameter="W")
    graph.add_edge("a", "a", delay={"max": 3, "learned": True, **logits}, parameter="W", structure="masked", mask=MASK)
    graph.add_edge("a", "a", delay={"max": 2, "learned": True, "shared": True}, structure="diagonal", parameter="D")
    graph.add_edge("a", "a", delay=[[1, 2, 1]], structure="identity")
    graph.add_edge("x", "y", delay=DELAYS, expression="V*sigmoid(W)")
    graph.add_edge("a", "y", delay=[0, 2], structure="masked", mask=MASK.T, parameter="U")
    graph.add_edge("a", "y", parameter="V")
    graph.add_edge("y", "a", delay=DELAYS, structure="fixed", value=MASK / 5)
    graph.add_edge("y", "y", delay={"max": 2, "learned": True, "parameter": "b_a0"}, structure="identity")
    return graph


def arguments(problem: Problem) -> tuple[Any, ...]:
    return problem.parameters, problem.inputs, problem.targets, problem.state, problem.weights


def tape(graph: nx.MultiDiGraph, problem: Problem, losses: Any = "mse") -> reference.Result:
    return reference.loss_and_gradient(
        graph, *arguments(problem)[:3], loss=losses, state=problem.state, weights=problem.weights
    )


# ------------------------------------------------------------------------------------------ against the reference tape


@pytest.mark.parametrize("extra", [False, True])
def test_every_kind_equals_reference(extra: bool, backend: str) -> None:
    graph = every_kind()
    losses = {"y": "mse"}
    kernel = rg.compile(graph, dtype="float64", backend=backend, wrt=ALL)
    for T, batch in ((7, 2), (1, 1)):
        problem = problem_for(graph, 3, losses, T=T, batch=batch, with_weights=extra, with_state=extra)
        assert_equals_reference(kernel, graph, problem, losses, ALL)


@pytest.mark.parametrize("seed", range(24))
def test_random_graphs_equal_reference(seed: int, backend: str) -> None:
    graph = with_weights(random_graph(seed), seed)
    losses = losses_of(graph, seed)
    problem = problem_for(graph, seed, losses, T=1 + seed % 7, batch=1 + seed % 3)
    kernel = rg.compile(graph, losses, dtype="float64", backend=backend, wrt=ALL)
    assert_equals_reference(kernel, graph, problem, losses, ALL)


def test_random_graphs_have_every_kind() -> None:
    found: Counter[str] = Counter()
    for seed in range(24):
        for _, _, edge in with_weights(random_graph(seed), seed).edges(data=True):
            delay, structure = edge.get("delay", 0), edge.get("structure", "dense")
            kind = "learned" if isinstance(delay, dict) else ("number", "list", "matrix")[np.ndim(delay)]
            found.update([f"{structure}, {kind}", *(["expression"] if "expression" in edge else [])])
            if kind == "learned" and delay.get("shared"):
                found.update(["shared"])
    expected = {f"{s}, {d}" for s in ("dense", "masked", "diagonal", "identity") for d in ("learned", "matrix")}
    assert expected | {"fixed, matrix", "masked, list", "masked, number", "expression", "shared"} <= set(found), found


def test_with_weights_leaves_its_graph_alone() -> None:
    graph = random_graph(5)
    before = [dict(edge) for _, _, edge in graph.edges(data=True)]
    assert with_weights(graph, 5) is not graph
    assert [dict(edge) for _, _, edge in graph.edges(data=True)] == before


@pytest.mark.parametrize("seed", range(6))
def test_float32(seed: int, backend: str) -> None:
    assert_float32_equals_reference(with_weights(random_graph(seed), seed), seed, backend)


def test_a_wrong_mask_a_wrong_delay_and_a_wrong_temperature_are_noticed() -> None:
    """The comparison can fail."""
    graph = every_kind()
    losses = {"y": "mse"}
    problem = problem_for(graph, 3, losses, T=6)
    changes: dict[tuple[str, str, int], dict[str, Any]] = {
        ("a", "a", 0): {"mask": MASK.T},
        ("x", "y", 0): {"delay": DELAYS.T},
        ("x", "a", 0): {"delay": {"max": 2, "min": 0, "learned": True, "parameter": "alpha"}},
    }
    for edge, change in changes.items():
        wrong = graph.copy()
        wrong.edges[edge].update(change)
        with pytest.raises(AssertionError, match="off by"):
            assert_equals_reference(rg.compile(wrong, dtype="float64", wrt=ALL), graph, problem, losses, ALL)


# ------------------------------------------------------------------------------------- other rules, second derivatives


RULES: dict[str, dict[str, int]] = {"rtrl": {}, "tbptt": {"k1": 6, "k2": 6}, "bptt-rtrl": {"block": 2}}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ["every kind", 3, 11])
def test_exact_rules_give_the_gradient_of_bptt(rule: str, name: str | int, backend: str) -> None:
    graph = every_kind() if isinstance(name, str) else with_weights(random_graph(name), name)
    losses = losses_of(graph, 0)
    problem = problem_for(graph, 2, losses, T=6, batch=2, with_weights=True)
    kernel = rg.compile(graph, losses, rule, backend, "float64", **RULES[rule])  # type: ignore[arg-type]
    loss, gradients = kernel.loss_and_gradient(*arguments(problem))
    expected = tape(graph, problem, losses)
    assert_close(loss, np.asarray(expected.loss), 1e-12, "loss")
    assert_all_close(gradients, expected.gradients, 1e-9, "gradient")


def test_focused_backpropagation_is_exact_with_loops_of_units_alone() -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=3)
    graph.add_node("y", kind="output", size=3, activation="tanh")
    graph.add_edge("x", "y", structure="masked", mask=MASK, delay={"max": 2, "learned": True})
    graph.add_edge("y", "y", structure="diagonal", delay={"max": 3, "learned": True})
    problem = problem_for(graph, 4, {"y": "mse"}, T=6)
    _, gradients = rg.compile(graph, method="focused", dtype="float64").loss_and_gradient(*arguments(problem))
    assert_all_close(gradients, tape(graph, problem).gradients, 1e-9, "gradient")


@pytest.mark.parametrize("method", ["rtrl", "bptt"])
@pytest.mark.parametrize("seed", [None, 3, 8])
def test_jacobian_of_the_outputs(method: str, seed: int | None) -> None:
    graph = every_kind() if seed is None else with_weights(random_graph(seed), seed)
    losses = losses_of(graph, 0)
    problem = problem_for(graph, 1, losses, T=4, batch=2, with_state=True)
    kernel = rg.compile(graph, losses, dtype="float64")
    jacobians = kernel.jacobian(problem.parameters, problem.inputs, problem.state, method=method)
    rng = np.random.default_rng(0)
    for output, jacobian in jacobians.items():
        factor = rng.normal(size=jacobian.shape[:3])
        found = kernel.init()
        found.vector[:] = np.einsum("tbk,tbkp->p", factor, jacobian)
        steps, _, size = factor.shape
        linear = dataclasses.replace(problem, targets={output: factor * size}, weights=np.ones(factor.shape[:2]))
        expected = tape(graph, linear, {output: "y*target"}).gradients
        scale = steps * factor.shape[1]
        assert_all_close(found, {name: scale * value for name, value in expected.items()}, 1e-9, f"{output} by")


@pytest.mark.parametrize("seed", [None, 1, 6, 11])
def test_hessian_vector_product(seed: int | None, backend: str) -> None:
    graph = every_kind() if seed is None else with_weights(random_graph(seed), seed)
    losses = losses_of(graph, 0)
    problem = problem_for(graph, 7, losses, T=5, batch=2)
    rng = np.random.default_rng(1)
    along = {name: rng.normal(size=value.shape) for name, value in problem.parameters.items()}
    kernel = rg.compile(graph, losses, dtype="float64", backend=backend)
    found = kernel.hessian_vector_product(problem.parameters, along, *arguments(problem)[1:])
    h = 1e-6
    ends = []
    for sign in (1, -1):
        moved = {name: value + sign * h * along[name] for name, value in problem.parameters.items()}
        ends.append(tape(graph, dataclasses.replace(problem, parameters=moved), losses).gradients)
    assert_all_close(found, {name: (ends[0][name] - ends[1][name]) / (2 * h) for name in along}, 2e-7, "product")


@pytest.mark.parametrize("seed", [None, 2, 13])
def test_verify(seed: int | None) -> None:
    graph = every_kind() if seed is None else with_weights(random_graph(seed), seed)
    assert rg.verify(graph).passed


# ------------------------------------------------------------------------------------------- networks written otherwise


def layer(size: int = 3, units: int = 3, **edge: Any) -> nx.MultiDiGraph:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=size)
    graph.add_node("y", kind="output", size=units, activation="tanh", bias=False)
    graph.add_edge("x", "y", **edge)
    return graph


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def test_the_gradient_is_0_where_the_mask_is_0(backend: str) -> None:
    graph = layer(structure="masked", mask=MASK, delay=DELAYS)
    kernel = rg.compile(graph, dtype="float64", backend=backend)
    params = {"W_x_y": random(3, 3)}
    inputs, targets = {"x": random(8, 2, 3, seed=1)}, {"y": random(8, 2, 3, seed=2)}
    _, gradients = kernel.loss_and_gradient(params, inputs, targets)
    gradient = to_numpy(gradients["W_x_y"])
    assert (gradient[MASK == 0] == 0).all() and (gradient[MASK == 1] != 0).all()
    # So training never moves a weight that does not exist, and its value does not count.
    other = {"W_x_y": np.where(MASK, params["W_x_y"], 7.0)}
    assert kernel.loss(params, inputs, targets) == kernel.loss(other, inputs, targets)


def test_a_delay_matrix_equals_a_masked_edge_for_each_delay() -> None:
    params, inputs = {"W": random(3, 3)}, {"x": random(8, 2, 3, seed=1)}
    targets = {"y": random(8, 2, 3, seed=2)}
    apart = layer(structure="masked", mask=DELAYS == 1, delay=1, parameter="W")
    for delay in (2, 3):
        apart.add_edge("x", "y", structure="masked", mask=delay == DELAYS, delay=delay, parameter="W")
    kernels = [rg.compile(graph, dtype="float64", wrt=ALL) for graph in (layer(delay=DELAYS, parameter="W"), apart)]
    (loss, gradients), (expected, others) = (kernel.loss_and_gradient(params, inputs, targets) for kernel in kernels)
    assert_close(loss, np.asarray(expected), 1e-14, "loss")
    for found, other in ((gradients, others), (gradients.inputs, others.inputs), (gradients.state, others.state)):
        assert_all_close(found, dict(other), 1e-14, "gradient")


@pytest.mark.parametrize("masked", [False, True])
def test_a_delay_matrix_equals_a_loop(masked: bool, backend: str) -> None:
    W, x = random(3, 3), random(8, 2, 3, seed=1)
    mask = MASK if masked else np.ones((3, 3))
    edge = {"structure": "masked", "mask": MASK} if masked else {}
    outputs, _ = rg.compile(layer(delay=DELAYS, **edge), dtype="float64", backend=backend).forward(
        {"W_x_y": W}, {"x": x}
    )
    expected = np.zeros((8, 2, 3))
    for t in range(8):
        for i in range(3):
            for j in range(3):
                if t >= DELAYS[i, j]:
                    expected[t, :, j] += mask[i, j] * W[i, j] * x[t - DELAYS[i, j], :, i]
    assert_close(outputs["y"], np.tanh(expected), 1e-13, "output")


@pytest.mark.parametrize("structure", ["diagonal", "identity"])
def test_a_delay_for_each_unit_equals_a_loop(structure: str) -> None:
    W = random(3) if structure == "diagonal" else np.ones(3)
    x = random(8, 2, 3, seed=1)
    graph = layer(delay=np.array([[2, 0, 1]]), structure=structure)
    kernel = rg.compile(graph, dtype="float64")
    outputs, state = kernel.forward({"W_x_y": W} if structure == "diagonal" else {}, {"x": x})
    expected = np.stack([np.concatenate([np.zeros((d, 2)), x[: 8 - d, :, j]]) for j, d in enumerate((2, 0, 1))], axis=2)
    assert_close(outputs["y"], np.tanh(W * expected), 1e-13, "output")
    assert state["x"].shape == (2, 2, 3)


def test_a_block_diagonal_mask_equals_separate_heads(backend: str) -> None:
    """One recurrent layer of four units in two blocks, and two layers of two units."""
    whole, heads = nx.MultiDiGraph(), nx.MultiDiGraph()
    blocks = {"a0": slice(0, 2), "a1": slice(2, 4)}
    for graph, names, size in ((whole, ["a"], 4), (heads, list(blocks), 2)):
        graph.add_node("x", kind="input", size=3)
        for name in names:
            graph.add_node(name, kind="output", size=size, activation="tanh")
            graph.add_edge("x", name)
    whole.add_edge("a", "a", delay=1, structure="masked", mask=np.kron(np.eye(2), np.ones((2, 2))))
    for name in blocks:
        heads.add_edge(name, name, delay=1)
    params = {"W_x_a": random(3, 4), "W_a_a": random(4, 4), "b_a": random(4)}
    apart = {}
    for name, block in blocks.items():
        apart |= {f"W_x_{name}": params["W_x_a"][:, block], f"W_{name}_{name}": params["W_a_a"][block, block],
                  f"b_{name}": params["b_a"][block]}  # fmt: skip
    inputs, target = {"x": random(6, 2, 3, seed=1)}, random(6, 2, 4, seed=2)
    one, two = (rg.compile(graph, dtype="float64", backend=backend) for graph in (whole, heads))
    loss, gradients = one.loss_and_gradient(params, inputs, {"a": target})
    expected, others = two.loss_and_gradient(apart, inputs, {name: target[..., b] for name, b in blocks.items()})
    assert_close(2 * loss, np.asarray(expected), 1e-13, "loss")  # a mean over 4 units, and two over 2 units each
    for name, block in blocks.items():
        recurrent = to_numpy(others[f"W_{name}_{name}"])
        assert_close(2 * to_numpy(gradients["W_a_a"])[block, block], recurrent, 1e-13, name)
        assert_close(2 * to_numpy(gradients["W_x_a"])[:, block], to_numpy(others[f"W_x_{name}"]), 1e-13, name)


def test_a_learned_delay_with_equal_logits_is_the_mean_over_the_delays() -> None:
    W, x = random(3, 3), random(8, 2, 3, seed=1)
    kernel = rg.compile(layer(delay={"max": 4, "min": 0, "learned": True}), dtype="float64")
    outputs, _ = kernel.forward({"W_x_y": W, "alpha_x_y": np.full((5, 3, 3), 3.0)}, {"x": x})
    padded = np.concatenate([np.zeros((4, 2, 3)), x])
    mean = np.mean([padded[4 - d : 12 - d] for d in range(5)], axis=0)
    assert_close(outputs["y"], np.tanh(mean @ W), 1e-13, "output")


# --------------------------------------------------------------------------------------------------- torch and JAX


@pytest.mark.peers
def test_learned_delays_equal_a_convolution_of_torch() -> None:
    torch = pytest.importorskip("torch")
    D, T, batch = 4, 9, 2
    graph = layer(3, 2, delay={"max": D, "learned": True, "temperature": 0.6})
    params = {"W_x_y": random(3, 2), "alpha_x_y": random(D, 3, 2)}
    x, target = random(T, batch, 3, seed=1), random(T, batch, 2, seed=2)
    kernel = rg.compile(graph, dtype="float64", wrt=ALL)
    loss, gradients = kernel.loss_and_gradient(params, {"x": x}, {"y": target})
    W, alpha, inputs = (torch.tensor(each, requires_grad=True) for each in (*params.values(), x))
    taps = W * torch.softmax(alpha / 0.6, dim=0)  # (D, source, destination): delays 1..D
    padded = torch.nn.functional.pad(inputs.permute(1, 2, 0), (D, 0))[..., :-1]  # the tap of delay 1 is the last
    y = torch.tanh(torch.nn.functional.conv1d(padded, taps.flip(0).permute(2, 1, 0))).permute(2, 0, 1)
    expected = ((y - torch.tensor(target)) ** 2).mean()
    expected.backward()
    assert_close(loss, expected.detach().numpy(), 1e-12, "loss")
    found = {**gradients, "x": gradients.inputs["x"]}
    for name, variable in (("W_x_y", W), ("alpha_x_y", alpha), ("x", inputs)):
        assert_close(found[name], variable.grad.numpy(), 1e-12, name)


@pytest.mark.peers
def test_a_recurrent_learned_delay_equals_jax() -> None:
    jax = pytest.importorskip("jax")
    graph = layer(3, 3)
    graph.add_edge("y", "y", delay={"max": 3, "learned": True}, structure="masked", mask=MASK, parameter="R")
    params = {"W_x_y": random(3, 3), "R": random(3, 3, seed=3), "alpha_R": random(3, 3, 3)}
    x, target = random(7, 2, 3, seed=1), random(7, 2, 3, seed=2)
    with jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64():
        numpy = jax.numpy

        def loss_of(p: Any) -> Any:
            taps = MASK * p["R"] * jax.nn.softmax(p["alpha_R"], axis=0)

            def step(history: Any, x_t: Any) -> Any:  # the last value first
                y = numpy.tanh(x_t @ p["W_x_y"] + numpy.einsum("dbi,dij->bj", history, taps))
                return numpy.concatenate([y[None], history[:-1]]), y

            return ((jax.lax.scan(step, numpy.zeros((3, 2, 3)), numpy.asarray(x))[1] - target) ** 2).mean()

        expected, others = jax.value_and_grad(loss_of)({name: numpy.asarray(value) for name, value in params.items()})
        loss, gradients = rg.compile(graph, dtype="float64").loss_and_gradient(params, {"x": x}, {"y": target})
        assert_close(loss, np.asarray(expected), 1e-12, "loss")
        assert_all_close(gradients, {name: np.asarray(value) for name, value in others.items()}, 1e-12, "gradient")


# ------------------------------------------------------------------------------------------------------ files, training


def test_saved_file_runs_without_the_packages_that_made_it(tmp_path: Path) -> None:
    kernel, expected = saved_example(every_kind(), "y", tmp_path)
    found = blocked_run(tmp_path, kernel.source, "y")
    assert found["loaded"] == []
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-13, err_msg=name)


@pytest.mark.parametrize("seed", [None, *range(8)])
def test_graph_file_round_trip(seed: int | None, tmp_path: Path) -> None:
    """The model of the graph that was read back is the same, constants included, and so is the emitted source."""
    graph = every_kind() if seed is None else with_weights(random_graph(seed), seed)
    path = tmp_path / "graph.json"
    rg.save_graph(graph, path)
    again = rg.load_graph(path)
    assert rg.compile(again).source == rg.compile(graph).source
    before, after = rg.validate(graph), rg.validate(again)
    assert (after.weights, after.edges, after.nodes) == (before.weights, before.edges, before.nodes)
    assert_all_close(after.constants, dict(before.constants), 0.0, "constant")


def test_levenberg_marquardt_and_lbfgs_train_masked_weights() -> None:
    pytest.importorskip("scipy")
    graph = layer(structure="masked", mask=MASK, delay=DELAYS)
    W = np.where(MASK, random(3, 3), 0.0)
    inputs = {"x": random(60, 1, 3, seed=1)}
    kernel = rg.compile(graph, dtype="float64")
    targets, _ = kernel.forward({"W_x_y": W}, inputs)
    for optimizer, epochs in ((rg.LevenbergMarquardt(), 30), (rg.LBFGS(), 60)):
        params = kernel.init(seed=1)
        start = params["W_x_y"].copy()
        with warnings.catch_warnings(action="error"):
            rg.fit(kernel, params, (inputs, targets), optimizer, epochs, progress=False)
        assert_close(np.where(MASK, params["W_x_y"], 0.0), W, 1e-4, type(optimizer).__name__)
        assert (params["W_x_y"] == start)[MASK == 0].all()
