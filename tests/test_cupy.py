"""Emitted CuPy modules agree with the NumPy backend; without a device they run on the host, see tests/cuda_host."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import sympy
from checking import assert_all_close, assert_close, losses_of, problem_for, to_numpy
from conftest import cupy_or_standin
from cuda_host import standin
from random_graphs import Problem, random_graph
from test_emitted import HOSTILE, hostile_network

import rnngraph as rg
from codegen.ir import Assign, Bound, Buffer, Copy, Fill, Function, Fused, Loop, MatMul, Statement, Step, View
from codegen.passes import fuse_pointwise, keep_in_registers, pack_products
from codegen.verify import verify_function
from rnngraph import zoo
from rnngraph.program import build_program
from rnngraph.rules import Rule

ALL = ("parameters", "inputs", "state")
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    """CuPy, or its stand-in."""
    cupy_or_standin(monkeypatch)


def cast(problem: Problem, dtype: str) -> Problem:
    """The problem with its floats in ``dtype``."""

    def one(array: Any) -> Any:
        return array.astype(dtype) if array.dtype.kind == "f" else array

    def all_of(arrays: Any) -> Any:
        return None if arrays is None else {name: one(array) for name, array in arrays.items()}

    weights = None if problem.weights is None else one(problem.weights)
    return Problem(
        all_of(problem.parameters), all_of(problem.inputs), all_of(problem.targets), weights, all_of(problem.state)
    )


def assert_backends_agree(graph: nx.MultiDiGraph, losses: Any, problem: Problem, dtype: str) -> None:
    """Outputs, state, loss and every gradient; called twice, so that what a call leaves behind would show."""
    ours = rg.compile(graph, loss=losses, backend="cupy", dtype=dtype, wrt=ALL)
    expected = rg.compile(graph, loss=losses, backend="numpy", dtype=dtype, wrt=ALL)
    problem, tolerance = cast(problem, dtype), TOLERANCE[dtype]
    arguments = problem.parameters, problem.inputs, problem.targets, problem.state, problem.weights
    for _ in range(2):
        given = problem.parameters, problem.inputs, problem.state
        for found, right in zip(ours.forward(*given), expected.forward(*given), strict=True):
            assert_all_close(found, right, tolerance, "output or state")
        loss, gradients = ours.loss_and_gradient(*arguments)
        right_loss, right_gradients = expected.loss_and_gradient(*arguments)
        assert type(loss) is float
        assert_close(loss, np.asarray(right_loss), tolerance, "loss")
        assert_close(ours.loss(*arguments), np.asarray(right_loss), tolerance, "loss alone")
        assert_all_close(gradients, right_gradients, tolerance, "gradient")
        assert_all_close(gradients.inputs, right_gradients.inputs, tolerance, "input gradient")
        assert_all_close(gradients.state, right_gradients.state, tolerance, "state gradient")
        assert_close(gradients.vector, right_gradients.vector, tolerance, "gradient vector")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", zoo.NETWORKS)
@pytest.mark.usefixtures("cupy")
def test_zoo_agrees_with_numpy(name: str, dtype: str) -> None:
    graph = zoo.example(name)
    losses = losses_of(graph, list(zoo.NETWORKS).index(name))
    assert_backends_agree(graph, losses, problem_for(graph, 3, losses, T=6, batch=3, with_state=True), dtype)


@pytest.mark.parametrize("seed", range(1000, 1030))
@pytest.mark.usefixtures("cupy")
def test_random_graph_agrees_with_numpy(seed: int) -> None:
    graph = random_graph(seed)
    losses = losses_of(graph, seed)
    assert_backends_agree(
        graph, losses, problem_for(graph, seed, losses, T=4 + seed % 5, batch=1 + seed % 3), "float64"
    )


# Names.


@pytest.mark.usefixtures("cupy")
def test_hostile_names() -> None:
    own = [
        "grid_1",
        "elements_1",
        "set_a",
        "BLOCK",
        "CUDA",
        "functools",
        "cp",
        "element",
        "row",
        "real",
        "NAN",
        "float",
    ]
    names = [*(name for name in HOSTILE if name.strip()), *own]
    graph = nx.MultiDiGraph()
    graph.add_node("first", kind="input", size=2)
    for before, name in zip(["first", *names], names, strict=False):
        graph.add_node(name, size=2, activation="tanh")
        graph.add_edge(before, name)
    graph.add_edge(names[-1], names[0], delay=1)
    graph.add_node("last", kind="output", size=2)
    graph.add_edge(names[-1], "last")
    assert_backends_agree(graph, "mse", problem_for(graph, 1, {"last": "mse"}, T=3, batch=2), "float64")


@pytest.mark.parametrize("number", range(0, len(HOSTILE), 9))
@pytest.mark.usefixtures("cupy")
def test_hostile_name_of_any_kind_of_node(number: int) -> None:
    graph = hostile_network(number)
    losses = losses_of(graph, 0)
    assert_backends_agree(graph, losses, problem_for(graph, 1, losses, T=4, batch=2, with_state=False), "float64")


# The module.


@pytest.mark.usefixtures("cupy")
def test_init_draws_the_values_of_the_numpy_backend() -> None:
    ours, theirs = (rg.compile(zoo.lstm(3, 4), backend=name) for name in ("cupy", "numpy"))
    assert np.array_equal(to_numpy(ours.init(7).vector), theirs.init(7).vector)


@pytest.mark.usefixtures("cupy")
def test_arrays_may_lie_on_the_device_already() -> None:
    graph = zoo.elman(2, 3, 4)
    kernel = rg.compile(graph, loss="cross_entropy", backend="cupy", dtype="float64")
    problem = problem_for(graph, 1, {"y": "cross_entropy"}, T=5, batch=2, with_state=True, with_weights=True)
    asarray = kernel.module.cp.asarray
    given = problem.parameters, problem.inputs, problem.targets, problem.state, problem.weights
    loss, gradients = kernel.loss_and_gradient(*given)
    moved = [{name: asarray(value) for name, value in part.items()} for part in given[:4] if part is not None]
    loss_again, again = kernel.loss_and_gradient(*moved, asarray(problem.weights))
    assert loss == loss_again
    assert np.array_equal(to_numpy(gradients.vector), to_numpy(again.vector))


@pytest.mark.usefixtures("cupy")
def test_steps_and_pieces_equal_the_whole() -> None:
    kernel = rg.compile(zoo.lstm(2, 3), backend="cupy", dtype="float64")
    params, x = kernel.init(1), np.random.default_rng(0).normal(size=(6, 2, 2))
    whole, last = kernel.forward(params, {"x": x})
    state = kernel.initial_state(2)
    for t in range(6):
        outputs, state = kernel.step(params, state, {"x": x[t]})
        assert_close(outputs["h"], to_numpy(whole["h"])[t], 1e-14, "step")
    assert_all_close(state, {name: to_numpy(value) for name, value in last.items()}, 1e-14, "state")


@pytest.mark.usefixtures("cupy")
def test_training_takes_the_same_course() -> None:
    random = np.random.default_rng(0)
    data = {"x": random.normal(size=(8, 6, 2))}, {"h": random.normal(size=(8, 6, 3))}
    ends = []
    for name in ("cupy", "numpy"):
        kernel = rg.compile(zoo.lstm(2, 3), backend=name, dtype="float64")
        params = kernel.init(0)
        rg.fit(kernel, params, data, optimizer=rg.Adam(1e-2), epochs=5, batch_size=2, seed=1, progress=False)
        ends.append(to_numpy(params.vector))
    assert_close(ends[0], ends[1], 1e-10, "parameters after training")


def test_module_imports_cupy_and_numpy_alone() -> None:
    tree = ast.parse(rg.compile(zoo.lstm(2, 3), backend="cupy").source)
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported == {"functools", "threading", "cupy", "numpy"}
    froms = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert froms == {"collections.abc"}  # Mapping


def test_source_is_there_without_cupy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)  # import cupy raises ImportError
    kernel = rg.compile(zoo.lstm(2, 3), backend="cupy")
    assert kernel.save(tmp_path / "lstm.py").read_text(encoding="utf-8") == kernel.source
    with pytest.raises(rg.BackendError, match=r"rnngraph\[cuda12\].*rnngraph\[cuda13\].*cupy-cuda12x.*cupy-cuda13x"):
        kernel.init()
    with pytest.raises(rg.BackendError, match="'cupy'"):
        kernel.forward({}, {"x": np.zeros((2, 1, 2))})


def test_no_device_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def count() -> int:
        raise RuntimeError("cudaErrorNoDevice")

    monkeypatch.setitem(sys.modules, "cupy", standin)
    monkeypatch.setattr(standin.cuda.runtime, "getDeviceCount", count)
    with pytest.raises(rg.BackendError, match="no CUDA device"):
        rg.compile(zoo.lstm(2, 3), backend="cupy").init()


# What a call costs.


@pytest.mark.usefixtures("host_cupy")
def test_one_product_and_one_kernel_per_step_and_nothing_allocated() -> None:
    kernel = rg.compile(zoo.lstm(2, 3), backend="cupy")
    params = kernel.init()
    used = []
    for T in (4, 5):
        x, target = standin.asarray(np.ones((T, 2, 2), np.float32)), standin.asarray(np.ones((T, 2, 3), np.float32))
        for call in (
            lambda x=x: kernel.forward(params, {"x": x}),
            lambda x=x, target=target: kernel.loss_and_gradient(params, {"x": x}, {"h": target}),
        ):
            call()  # makes the workspace
            standin.counts.clear()
            call()
            used.append(dict(standin.counts))
    forward, gradient, longer_forward, longer_gradient = used
    per_step = [
        {name: longer[name] - shorter[name] for name in longer}
        for shorter, longer in ((forward, longer_forward), (gradient, longer_gradient))
    ]
    assert per_step[0] == {"launches": 1, "products": 1, "allocations": 0}
    assert per_step[1] == {"launches": 2, "products": 2, "allocations": 0}


# The stand-in finds what it is there to find.

RACE = """
typedef double real;
extern "C" {
__global__ void shift(real* x, const long long elements)
{
    const long long element = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (element + 1 < elements) x[element] = x[element + 1];
}
}
"""


def test_standin_runs_threads_in_both_directions(host_cupy: None) -> None:
    shift = standin.RawModule(code=RACE).get_function("shift")
    results = []
    for _ in range(2):
        x = standin.asarray(np.arange(5.0))
        shift((1,), (256,), (x, np.int64(5)))
        results.append(x.get().tolist())
    assert results[0] != results[1]


def test_standin_refuses_what_cupy_refuses_or_hides() -> None:
    device, host = standin.zeros((3, 4)), np.zeros((3, 4))
    for mixed in (
        lambda: device + host,
        lambda: np.concatenate([device, device]),
        lambda: device.__setitem__(..., host),
    ):
        with pytest.raises(TypeError):
            mixed()
    square = standin.zeros((4, 4))
    for left, out in (
        (device[:, :2], square[:3]),
        (device, device),
        (device, square[:3, :4].T),
        (device, square[:, :3].T),
    ):
        with pytest.raises((AssertionError, ValueError)):
            standin.matmul(left, square, out=out)
    assert np.isnan(standin.empty(3).get()).all()


# The passes.

A, B = (Buffer(name, "sequence", 4, length=Bound(1, 1)) for name in "ab")
S, S_ROW = Buffer("s", "step", 4), Buffer("r", "sequence", 4, length=Bound(1, 1))
X = sympy.Symbol("x", real=True)


def at(buffer: Buffer, offset: int, start: int = 0, stop: int = 2) -> View:
    """Columns of the row of a step."""
    return View(buffer, Step(offset), start, stop, label=f"{buffer.name}_{offset}")


def test_a_value_of_one_kernel_stays_in_it() -> None:
    body = Assign(at(A, 1), 2 * X, ((X, at(B, 0)),)), Assign(at(B, 1), X + 1, ((X, at(A, 1)),)), Fill(at(S_ROW, 1), 0.0)
    before = fuse_pointwise(Function("forward", (Loop(body),)))
    loop = keep_in_registers(before).body[0]
    assert isinstance(loop, Loop)
    (kernel,) = loop.body
    assert isinstance(kernel, Fused)
    assert [view.buffer.name for view in kernel.arguments] == [
        "b",
        "b",
    ]  # at t and t - 1; a lives within, s is not read
    assert len(kernel.parts) == 2


def kernels(*body: Statement) -> list[int]:
    """How many parts the statements of a fused loop have; 0 for what is no kernel."""
    loop = fuse_pointwise(Function("forward", (Loop(body),))).body[0]
    assert isinstance(loop, Loop)
    return [len(statement.parts) if isinstance(statement, Fused) else 0 for statement in loop.body]


def test_what_reads_the_own_element_joins() -> None:
    assert kernels(Assign(at(A, 1), 2 * X, ((X, at(B, 0)),)), Assign(at(B, 1), X + 1, ((X, at(A, 1)),))) == [2]
    assert kernels(Fill(at(A, 1), 1.0), Copy(at(B, 1), at(A, 0))) == [2]


def test_what_reads_or_overwrites_other_elements_starts_a_kernel() -> None:
    wide = Assign(at(A, 1, 0, 2), 2 * X, ((X, at(B, 0)),))
    shifted = at(A, 1, 1, 3)
    assert kernels(wide, Assign(at(B, 1), X, ((X, shifted),))) == [1, 1]
    assert kernels(wide, Assign(shifted, X, ((X, at(B, 0)),))) == [1, 1]
    assert kernels(Assign(at(B, 1), X, ((X, shifted),)), wide) == [1, 1]


def test_another_shape_starts_a_kernel() -> None:
    assert kernels(Fill(at(A, 1, 0, 2), 1.0), Fill(at(B, 1, 0, 3), 1.0), Fill(at(A, 1, 2, 4), 1.0)) == [2, 1]


def test_a_statement_moves_only_past_other_memory() -> None:
    first = Assign(at(A, 1), X, ((X, at(B, 0)),))
    product = MatMul(View(S, None, 0, 4), at(B, 1, 0, 4), View(Buffer("w", "matrix", 4, 4), None, 0, 4, (0, 4)))
    assert kernels(first, product, Assign(at(A, 1, 2, 4), X, ((X, at(B, 0)),))) == [2, 0]
    assert kernels(first, product, Assign(at(A, 1, 2, 4), X, ((X, View(S, None, 0, 2)),))) == [1, 0, 1]
    assert kernels(first, product, Assign(at(B, 1), X, ((X, at(A, 1)),))) == [1, 0, 1]


@pytest.mark.parametrize("seed", range(3000, 3012))
def test_prepared_functions_obey_the_grammar(seed: int) -> None:
    graph = random_graph(seed)
    program = build_program(graph, losses_of(graph, seed), Rule(), "float64", ALL).program
    for function in program.functions:
        prepared = fuse_pointwise(pack_products(function))
        verify_function(prepared)
        products = [statement for statement in prepared.statements() if isinstance(statement, MatMul)]
        assert all(view.whole for product in products for view in (product.target, product.left, product.right))
        assert not any(isinstance(statement, Assign) for statement in prepared.statements())
