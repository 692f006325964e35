"""The compiled core: its functions of numbers, its products, its compiler and cache, and what it agrees with."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import threading
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
import pytest
import sympy
from checking import losses_of, problem_for
from random_graphs import random_graph, with_long_loops

import rnngraph as rg
from codegen import functions
from codegen.ir import Assign, Bound, Buffer, Function, Loop, Span, Statement, Step, View, views_of
from codegen.load import load_source
from codegen.passes import fuse_pointwise, keep_in_registers, sink_pointwise
from codegen.printers.c_library import IMPORTS, LIBRARY
from codegen.printers.c_loops import SIGNATURE
from codegen.printers.c_support import common_text, core_text
from rnngraph import zoo

Array = npt.NDArray[Any]
pytestmark = pytest.mark.usefixtures("c_compiler")

# The exact function, its name in C, the largest argument and the error in units of the last place, for both types; all
# numbers of float32 were tried once, the worst is 2.55. Of the C library's tanhf it is 2.2.
FUNCTIONS = {
    "exp": (np.exp, "fast_exp", (87.0, 700.0), (2.0, 2.0)),
    "tanh": (np.tanh, "fast_tanh", (12.0, 25.0), (2.6, 2.6)),
}
BOTH = pytest.mark.parametrize("dtype", ["float32", "float64"])


def core(dtype: str, *functions: str) -> Any:
    """A core with the given C functions."""
    names = [text.split("(")[0].split()[-1] for text in functions]
    source = "\n".join(
        [
            *(f"import {name}" for name in IMPORTS),
            f"COMMON = {common_text(dtype)!r}",
            f"CORE = {core_text(dtype, list(functions))!r}",
            f"CORE_FUNCTIONS = {names!r}",
            LIBRARY,
        ]
    )
    return load_source(source, "c")


@BOTH
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_err_by_few_units_in_the_last_place(name: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CFLAGS")  # as they are used
    exact, spelled, arguments, errors = FUNCTIONS[name]
    limit, most = (pair[dtype == "float64"] for pair in (arguments, errors))
    body = f"for (long k = 0; k < T; ++k) memory[1][k] = {spelled}(memory[0][k]);"
    module = core(dtype, f"void run({SIGNATURE}) {{ {body} }}")
    rng = np.random.default_rng(0)
    parts = [rng.uniform(-limit, limit, 200_000), rng.normal(size=200_000), 10.0 ** rng.uniform(-30, 0, 10_000)]
    x = np.concatenate(parts).astype(dtype)
    y = np.empty_like(x)
    module._core.run(module._memory(x, y), None, None, None, len(x), 1)
    expected = exact(x.astype(np.longdouble))
    assert float((abs(y - expected) / np.spacing(abs(expected).astype(dtype))).max()) <= most
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e4, -1e4], dtype)
    y = np.empty_like(special)
    module._core.run(module._memory(special, y), None, None, None, len(special), 1)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(y, exact(special))
        np.testing.assert_array_equal(np.signbit(y[1:]), np.signbit(exact(special[1:])))


@BOTH
@pytest.mark.parametrize("flags", ["", "-O1 -march=x86-64 -DTILE_ROWS=8", "-O3"])
def test_products_of_all_shapes(dtype: str, flags: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CFLAGS", flags)
    body = """
        const real *const n = memory[0];
        pack(memory[3], memory[2], (long)n[0], (long)n[1], (long)n[2], (long)n[3]);
        product(
            T, (long)n[7], (long)n[8], (long)n[0], (long)n[1], memory[1], (long)n[4], memory[3],
            memory[4], (long)n[5], (int)n[6], (int)n[9]);
    """
    module = core(dtype, f"void run({SIGNATURE}) {{ {body} }}")
    rng = np.random.default_rng(1)
    tolerance = 1e-5 if dtype == "float32" else 1e-13
    for rows, depth, columns in [
        (1, 1, 1), (1, 5, 17), (2, 3, 33), (3, 9, 16), (4, 300, 31), (5, 257, 8), (6, 4, 70), (7, 256, 5), (13, 1, 64),
        (200, 20, 3), (1, 70, 70), (300, 5, 20),
        # blocks of a matrix, the last of them lower than the others; one that is far
        (1, 577, 150), (2, 288, 5), (5, 289, 8), (9, 577, 40), (300, 577, 40), (7, 600, 300),
    ]:  # fmt: skip
        for transposed in (False, True):
            for add in (0, 1):
                backwards = add != transposed
                left = rng.normal(size=(rows, depth + 2)).astype(dtype)
                right = rng.normal(size=(columns, depth) if transposed else (depth, columns)).astype(dtype)
                target = rng.normal(size=(rows, columns + 3)).astype(dtype)
                expected = target.copy()
                start, stop = (0, depth) if backwards else sorted(rng.integers(0, depth + 1, 2))
                product = left[:, start:stop] @ (right.T if transposed else right)[start:stop]
                if stop > start:
                    expected[:, :columns] = product + add * expected[:, :columns]
                steps = (1, depth) if transposed else (columns, 1)
                strides = depth + 2, columns + 3
                numbers = np.array([depth, columns, *steps, *strides, add, start, stop, backwards], dtype)
                packed = np.full(depth * (-(-columns // 32) * 32), np.nan, dtype)
                memory = module._memory(numbers, left, right, packed, target)
                module._core.run(memory, None, None, None, rows, 1)
                np.testing.assert_allclose(target, expected, rtol=0, atol=tolerance * depth**0.5)


def assert_as_numpy(
    graph: nx.MultiDiGraph,
    seed: int,
    dtype: str = "float64",
    T: int = 6,
    batch: int = 3,
    wrt: tuple[str, ...] = ("parameters", "inputs", "state"),
) -> str:
    """Outputs, loss and gradients of the compiled core are those of the NumPy backend; returns its source."""
    losses = losses_of(graph, seed)
    ours, theirs = (rg.compile(graph, loss=losses, backend=name, dtype=dtype, wrt=wrt) for name in ("c", "numpy"))
    problem = problem_for(graph, seed, losses, T=T, batch=batch, with_state=True)
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == "float32" else {"rtol": 1e-11, "atol": 1e-12}
    given = problem.parameters, problem.inputs
    for name, output in theirs.forward(*given, problem.state)[0].items():
        np.testing.assert_allclose(ours.forward(*given, problem.state)[0][name], output, **tolerance)
    results = [
        kernel.loss_and_gradient(*given, problem.targets, problem.state, problem.weights) for kernel in (ours, theirs)
    ]
    (loss, found), (expected_loss, expected) = results
    np.testing.assert_allclose(loss, expected_loss, **tolerance)
    np.testing.assert_allclose(found.vector, expected.vector, **tolerance)
    for name, gradient in (expected.inputs or {}).items():
        np.testing.assert_allclose(found.inputs[name], gradient, **tolerance)
    return str(ours.source)


@BOTH
@pytest.mark.parametrize("name", ["lstm", "gru", "narx", "elman"])
def test_networks_compiled_with_all_optimisations(name: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CFLAGS", "-Wall -Wextra -Werror")
    for T, batch in ((1, 1), (6, 1), (5, 13)):
        assert_as_numpy(rg.zoo.NETWORKS[name](*ARGUMENTS[name]), 3, dtype, T, batch)


ARGUMENTS: dict[str, tuple[Any, ...]] = {"lstm": (5, 33), "gru": (3, 16), "narx": (1, 20, 1, 3, 3), "elman": (4, 7, 2)}


@pytest.mark.parametrize("seed", range(8))
def test_random_graphs_compile_without_warnings(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CFLAGS", "-O1 -Wall -Wextra -Werror")
    graph = random_graph(seed)
    assert_as_numpy(with_long_loops(graph, seed) if seed % 2 else graph, seed)


def test_cheap_values_are_not_stored() -> None:
    program = rg.compile(zoo.lstm(2, 3)).program
    (function,) = (each for each in program.functions if each.name == "loss_and_gradient")
    stored = {name for name in function.buffers() if name.startswith(("factor", "summand"))}
    sunk = keep_in_registers(fuse_pointwise(sink_pointwise(function)))
    left = {view.buffer.name for statement in sunk.statements() for view in views_of(statement)}
    assert len(stored) == 3 and not stored & left


ROW = sympy.Symbol("row", real=True)
SOURCE, VALUE, SUM = (Buffer(name, "sequence", 2, length=Bound(1, 1)) for name in ("source", "value", "sum"))


def every(buffer: Buffer, first: int = 0) -> View:
    return View(buffer, Span(Bound(first), Bound(first, 1)), 0, 2, label=buffer.name)


def at(buffer: Buffer, offset: int = 0) -> View:
    return View(buffer, Step(offset), 0, 2, label=buffer.name)


def copied(target: View, source: View, expression: Any = 2 * ROW) -> Assign:
    return Assign(target, expression, ((ROW, source),))


def test_values_stay_where_the_loop_reads_other_steps_or_changes_what_they_are_made_of() -> None:
    value = copied(every(VALUE), every(SOURCE))
    loop = Loop((copied(at(SUM, 1), at(VALUE)),))

    def number(*body: Statement) -> int:
        return len(sink_pointwise(Function("forward", body)).body)

    assert number(value, loop) == 1
    assert number(copied(every(VALUE), every(SOURCE), functions.tanh(ROW)), loop) == 2  # not cheap
    assert number(value, Loop((copied(at(SUM, 1), at(VALUE, 1)),))) == 2  # another t
    assert number(value, Loop((copied(at(SOURCE, 1), at(VALUE)),))) == 2  # its source changes in the loop
    assert number(value, copied(every(SOURCE), every(SUM)), loop) == 3  # or before it
    assert number(value, loop, loop) == 3  # two loops read it
    assert number(loop, value) == 2  # it comes too late
    assert number(value, loop, copied(every(SUM), every(VALUE))) == 3  # what follows reads it


def test_every_method_runs_in_c() -> None:
    graph = zoo.elman(2, 3, 1, recurrence="dense")
    rng = np.random.default_rng(0)
    data = {"x": rng.normal(size=(6, 2, 2))}, {"y": rng.normal(size=(6, 2, 1))}
    for method, options in (("rtrl", {}), ("tbptt", {"k1": 2, "k2": 4}), ("bptt-rtrl", {"block": 2}), ("uoro", {})):
        kernels = [rg.compile(graph, method=method, backend=b, dtype="float64", **options) for b in ("c", "numpy")]
        params = kernels[0].init(seed=0)
        (loss, found), (expected_loss, expected) = (kernel.loss_and_gradient(params, *data) for kernel in kernels)
        assert loss == pytest.approx(expected_loss, rel=1e-12), method
        np.testing.assert_allclose(found.vector, expected.vector, rtol=1e-10, atol=1e-13, err_msg=method)
    kernel = rg.compile(graph, backend="c", dtype="float64")
    reference = rg.compile(graph, dtype="float64")
    products = [each.hessian_vector_product(params, params, *data).vector for each in (kernel, reference)]
    np.testing.assert_allclose(*products, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(
        kernel.jacobian(params, data[0])["y"], reference.jacobian(params, data[0])["y"], rtol=1e-10, atol=1e-13
    )
    stream = kernel.stream(params, batch=2)
    steps = np.array([stream.step({"x": x})["y"].copy() for x in data[0]["x"]])
    np.testing.assert_allclose(steps, kernel.forward(params, data[0])[0]["y"], rtol=1e-12)


def test_threads_do_not_disturb_each_other() -> None:
    kernel = rg.compile(zoo.lstm(3, 8), backend="c", dtype="float64")
    params = kernel.init(seed=0)
    inputs = [{"x": np.random.default_rng(seed).normal(size=(50, 2, 3))} for seed in range(4)]
    expected = [kernel.forward(params, each)[0]["h"] for each in inputs]
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(20):
            if not np.array_equal(kernel.forward(params, inputs[number])[0]["h"], expected[number]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_without_a_compiler_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = rg.compile(zoo.elman(1, 2, 1), backend="c")
    monkeypatch.setenv("CC", "no-such-compiler --quickly")
    with pytest.raises(rg.BackendError, match=r"no-such-compiler --quickly.*rnngraph\[c\]"):
        kernel.init()
    monkeypatch.setenv("CC", "false")
    with pytest.raises(rg.BackendError, match=r"false.* failed"):
        kernel.init()


def test_errors_of_the_compiler_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CFLAGS", "-no-such-flag")
    with pytest.raises(rg.BackendError, match="no-such-flag"):
        rg.compile(zoo.elman(1, 2, 1), backend="c").init()


def test_a_core_is_compiled_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RNNGRAPH_CACHE", str(tmp_path))
    source = rg.compile(zoo.elman(1, 3, 1), backend="c").source
    load_source(source, "c")
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert sorted(path.suffix for path in files) == [".o", ".so"]
    load_source(source, "c")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files


def _load(source: str, results: Any) -> None:
    module = load_source(source, "c")
    results.put(float(module.forward(module.init(0), {"x": np.ones((3, 1, 1), np.float32)})[0]["y"].sum()))


def test_processes_may_compile_the_same_core_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RNNGRAPH_CACHE", str(tmp_path))
    source = rg.compile(zoo.elman(1, 4, 1), backend="c").source
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [context.Process(target=_load, args=(source, results)) for _ in range(4)]
    for worker in workers:
        worker.start()
    found = {results.get(timeout=60) for _ in workers}
    for worker in workers:
        worker.join()
    assert len(found) == 1
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".o", ".so"]


def test_a_folder_that_cannot_be_written_is_no_obstacle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("RNNGRAPH_CACHE", str(tmp_path / "file"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    rg.compile(zoo.elman(1, 2, 1), backend="c").init()


def test_the_saved_module_needs_numpy_and_a_compiler_alone(tmp_path: Path) -> None:
    kernel = rg.compile(zoo.elman(1, 2, 1), backend="c")
    kernel.save(tmp_path / "elman_c.py")
    text = (tmp_path / "elman_c.py").read_text("utf-8")
    assert "numpy and a C compiler" in text
    assert not any(name in text for name in ("import rnngraph", "import sympy", "import codegen", "import networkx"))
    assert ctypes.sizeof(ctypes.c_long) == 8 or os.name == "nt"


RESERVED = (
    "T",
    "batch",
    "memory",
    "memory_1",
    "scratch_of_gradient_1_1",
    "row",
    "column",
    "element",
    "x_data",
    "double",
    "product",
    "pack",
    "real",
    "t",
)


def test_names_of_c_are_no_names_of_nodes() -> None:
    for name in RESERVED:
        graph = nx.MultiDiGraph()
        graph.add_node("input", kind="input", size=2)
        graph.add_node(name, size=3, activation="tanh")
        graph.add_node("y", kind="output", size=2)
        for source, target, delay in (("input", name, 0), (name, name, 1), (name, "y", 0)):
            graph.add_edge(source, target, delay=delay)
        assert_as_numpy(graph, 1)


def test_a_stream_outlives_the_parameters_it_was_given() -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=64)
    graph.add_node("y", kind="output", size=64, activation="tanh")
    graph.add_edge("x", "y", structure="diagonal")
    graph.add_edge("y", "y", delay=1, structure="diagonal")
    kernel = rg.compile(graph, backend="c", dtype="float64")
    params = kernel.init(seed=0)
    x = np.random.default_rng(0).normal(size=(5, 1, 64))
    expected = kernel.forward(params, {"x": x})[0]["y"]
    stream = kernel.module.Stream({name: value.copy() for name, value in params.items()})
    gc.collect()
    rubbish = [np.full(size, np.nan) for size in range(100, 400) for _ in range(20)]
    steps = np.array([stream.step({"x": each})["y"].copy() for each in x])
    np.testing.assert_allclose(steps, expected, rtol=1e-12)
    assert len(rubbish) == 6000
