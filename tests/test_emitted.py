"""The emitted file: it stands alone, no text of the user reaches it unescaped, its loops allocate nothing."""

from __future__ import annotations

import ast
import builtins
import json
import re
import subprocess
import sys
import threading
import tracemalloc
import unicodedata
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import reference
from checking import assert_equals_reference, losses_of, problem_for, to_numpy
from random_graphs import random_graph

import rnngraph as rg
from codegen.ir import Apply, Copy, Fill, Function, Loop, MatMul
from codegen.load import load_source
from codegen.passes import expand_pointwise, merge_neighbours
from rnngraph import zoo

ALL = ("parameters", "inputs", "state")
FUNCTIONS = ("forward", "loss", "loss_and_gradient", "step", "init", "initial_state")

HOSTILE = [
    "class", "None", "print", "np", "T", "t", "w", "params", "state", "loss", "forward", "init", "inputs", "vector",
    "gradient", "a'b", 'a"b', 'a"""b', "a\nb", "a\r\nimport os\n", "a\\", "\\N{BULLET}", "#", "a\u2028b", "a\x00b",
    "a\tb", "{xp}", "%s", "{0}", "gradient_1", "summands_3", "matrix_of_s_a", "loss_values_2", "delta_a_before",
    "fi", "ﬁ", "é", "e\u0301", "日本", "🙂", "Ⅳ", "IV", "x" * 300, "", " ", "1", "_", "__import__('os').system('true')",
    "');import os;('", "s_a", "delta_a", "exp", "matmul", "ForwardWorkspace", "LossAndGradientWorkspace", "fixed_C_a_b",
    "weights_1", "scratch_1", "Parameters", "PARAMETERS", "DTYPE", "ValueError", "_lengths", "_workspace", "threading",
    "rng", "shape", "glorot", "np.random", "nbytes", "steps_1", "held", "node", "name", "size", "depth", "value",
]  # fmt: skip


def hostile_network(number: int) -> nx.MultiDiGraph:
    """A network in which a hidden node, an input, an output or a cell has the hostile name."""
    return nx.relabel_nodes(elman_with_constants(), {("a", "x", "y", "c")[number % 4]: HOSTILE[number]})


def elman_with_constants() -> nx.MultiDiGraph:
    """Every kind of statement in one small network: fixed weights, a cell, delays, a learned initial value."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    graph.add_node("a", size=3, activation="sigmoid", initial="parameter")
    graph.add_node("c", size=3, equation="c_prev/2 + tanh(p)*exp(-square(s))")
    graph.add_node("y", kind="output", size=2)
    graph.add_edge("x", "a", delay=[0, 2])
    graph.add_edge("a", "a", delay=1, structure="fixed", value=np.linspace(-0.5, 0.5, 9).reshape(3, 3))
    graph.add_edge("a", "c", port="p")
    graph.add_edge("x", "c")
    graph.add_edge("c", "c", port="c_prev", delay=1)
    graph.add_edge("c", "a", delay=3, structure="diagonal")
    graph.add_edge("c", "y")
    return graph


def blocked_run(folder: Path, source: str, name: str) -> dict[str, Any]:
    """Run a saved module in a fresh process in which the packages that made it cannot be imported."""
    (folder / "network.py").write_text(source, encoding="utf-8")
    script = folder / "run.py"
    script.write_text(
        f"""
import sys
for blocked in ("rnngraph", "codegen", "sympy", "networkx", "scipy"):
    sys.modules[blocked] = None
import json
import numpy as np
import network
data = np.load("data.npz")
params = network.init(seed=3)
given = {{key: data[key] for key in data.files}}
outputs, state = network.forward(params, {{"x": given["x"]}})
loss, gradients = network.loss_and_gradient(params, {{"x": given["x"]}}, {{{name!r}: given["target"]}})
step, after = network.step(params, network.initial_state(given["x"].shape[1]), {{"x": given["x"][0]}})
loaded = sorted(name for name, module in sys.modules.items() if module is not None and name.split(".")[0] in
    ("rnngraph", "codegen", "sympy", "networkx", "scipy"))
print(json.dumps({{"output": outputs[{name!r}].tolist(), "loss": float(loss), "gradient": gradients.vector.tolist(),
    "step": step[{name!r}].tolist(), "loaded": loaded, "state": sorted(after)}}))
""",
        encoding="utf-8",
    )
    result = subprocess.run(
        [sys.executable, "-W", "error", "-P" if sys.version_info >= (3, 11) else "-B", "run.py"],
        cwd=folder, capture_output=True, text=True, timeout=60, check=False,
        env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def saved_example(graph: nx.MultiDiGraph, output: str, folder: Path) -> tuple[Any, dict[str, Any]]:
    """A kernel saved in ``folder`` beside data, and what ``blocked_run`` must find with it."""
    kernel = rg.compile(graph, dtype="float64")
    size = graph.nodes["x"]["size"]
    rng = np.random.default_rng(0)
    x, target = rng.normal(size=(5, 2, size)), rng.normal(size=(5, 2, graph.nodes[output]["size"]))
    np.savez(folder / "data.npz", x=x, target=target)
    kernel.save(folder / "kernel.py")
    params = kernel.init(seed=3)
    outputs, _ = kernel.forward(params, {"x": x})
    loss, gradients = kernel.loss_and_gradient(params, {"x": x}, {output: target})
    return kernel, {"output": outputs[output], "loss": loss, "gradient": gradients.vector, "step": outputs[output][0]}


@pytest.mark.parametrize("name", ["lstm", "narx", "tdnn", "feedforward"])
def test_saved_file_runs_without_the_packages_that_made_it(name: str, tmp_path: Path) -> None:
    graph = zoo.example(name)
    output = next(node for node, kind in graph.nodes(data="kind") if kind == "output")
    kernel, expected = saved_example(graph, output, tmp_path)
    found = blocked_run(tmp_path, (tmp_path / "kernel.py").read_text(encoding="utf-8"), output)
    for what in ("output", "loss", "gradient"):
        np.testing.assert_array_equal(found[what], expected[what])
    np.testing.assert_allclose(found["step"], expected["step"], rtol=1e-13)
    assert found["loaded"] == []
    assert found["state"] == sorted(kernel.initial_state())


def test_module_has_the_functions_of_the_contract() -> None:
    kernel = rg.compile(zoo.lstm(3, 4, 2), dtype="float32")
    module = load_source(kernel.source)
    for name in FUNCTIONS:
        assert getattr(module, name).__doc__, f"{name} has no docstring"
    assert "(T, batch, size)" in module.forward.__doc__ and "(depth, batch, size)" in module.forward.__doc__
    assert re.search(r"'y':? \(T, batch, (size|2)\)", module.loss_and_gradient.__doc__)
    assert module.__doc__ is not None and "needs numpy alone" in module.__doc__
    assert "weighted mean" in module.loss_and_gradient.__doc__
    classes = rg.compile(zoo.lstm(3, 4, 2), loss="cross_entropy")
    assert re.search(r"'y':? integer classes \(T, batch\)", load_source(classes.source).loss_and_gradient.__doc__)


def test_every_equation_stands_in_docstring_and_comments_by_number() -> None:
    kernel = rg.compile(zoo.elman(3, 4, 2, recurrence="dense"))
    docstring = ast.get_docstring(ast.parse(kernel.source))
    assert docstring is not None
    lines = dict(re.findall(r"^ *\((\d+)\) (.*)$", docstring, re.MULTILINE))
    comments = [line.strip() for line in kernel.source.splitlines() if line.strip().startswith("#")]
    assert len(lines) >= 10
    for number in ("1", "2", "3", "4"):
        assert any(f"({number}) {lines[number]}" in comment for comment in comments), f"no comment for ({number})"


@pytest.mark.parametrize("seed", range(0, 60, 6))
def test_source_is_valid_python_3_10(seed: int) -> None:
    source = rg.compile(random_graph(seed), loss="mse").source
    tree = ast.parse(source, feature_version=(3, 10))
    assert tree.body
    check_names(source)


DANGEROUS = {
    "__import__", "breakpoint", "compile", "delattr", "eval", "exec", "exit", "globals", "input", "locals", "open",
    "print", "quit", "setattr",
}  # fmt: skip
SAFE_BUILTINS = {name for name in dir(builtins) if not name.startswith("_")} - DANGEROUS


def check_names(source: str) -> None:
    """Every name is defined in the file or a harmless builtin; nothing is imported that could reach out."""
    tree = ast.parse(source)
    defined = {"np", "threading", "base64", "Mapping", "__file__", "__name__"}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            defined.add(node.id)
        elif isinstance(node, ast.arg):
            defined.add(node.arg)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            imported = {alias.name for alias in node.names}
            assert imported <= {"numpy", "threading", "base64", "Mapping"}, f"imports {imported}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            assert node.id in defined | SAFE_BUILTINS, f"line {node.lineno}: the name {node.id}"
            assert node.id.isascii()
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert not re.search(r"\.system|popen|\b(__import__|eval|exec|open|compile)\b", called), called
        if isinstance(node, ast.FunctionDef | ast.ClassDef) or (isinstance(node, ast.Name) and node.id in defined):
            name = node.id if isinstance(node, ast.Name) else node.name
            hidden = hasattr(builtins, name) and not name.startswith("__") and name != "abs"
            assert not hidden, f"the builtin {name} is hidden"


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_node_name(number: int) -> None:
    """A valid module, the right numbers, and no text of the name outside of strings and comments."""
    name, graph = HOSTILE[number], hostile_network(number)
    try:
        rg.validate(graph)
    except rg.GraphError as refused:
        assert not name.strip() or not name.isprintable() or len(name) > 100, f"refused: {refused}"
        return
    losses = losses_of(graph, 0)
    kernel = rg.compile(graph, loss=losses, dtype="float64", wrt=ALL)
    problem = problem_for(graph, number, losses, T=4, batch=2, with_state=True, with_weights=True)
    assert_equals_reference(kernel, graph, problem, losses, ALL)
    assert_equals_reference(kernel.module, graph, problem, losses, ALL)
    check_names(kernel.source)


def test_hostile_names_all_in_one_network() -> None:
    """Every name at once: their mangled forms must not meet."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=1)
    graph.add_node("y", kind="output", size=1)
    for name in HOSTILE:
        try:
            rg.validate(nx.relabel_nodes(zoo.elman(1, 1, 1), {"a": name}))
        except rg.GraphError:
            continue
        graph.add_node(name, size=1, activation="tanh")
        graph.add_edge("x", name)
        graph.add_edge(name, name, delay=1, structure="diagonal")
        graph.add_edge(name, "y")
    assert len(graph) > 40
    kernel = rg.compile(graph, dtype="float64")
    problem = problem_for(graph, 0, {"y": "mse"}, T=3, batch=2, with_state=True)
    assert_equals_reference(kernel, graph, problem, {"y": "mse"})
    check_names(kernel.source)


def test_nfkc_twins_are_two_nodes() -> None:
    """Python reads an identifier in NFKC form: two such nodes must not become one variable."""
    first, second = "ﬁ", "fi"
    assert unicodedata.normalize("NFKC", first) == second
    graph = zoo.feedforward((2, 3, 3, 2))
    graph = nx.relabel_nodes(graph, {"a1": first, "a2": second})
    problem = problem_for(graph, 0, {"y": "mse"}, T=2)
    assert_equals_reference(rg.compile(graph, dtype="float64"), graph, problem, {"y": "mse"})


def test_no_text_leaves_its_comment() -> None:
    name = 'a"""\nimport os\n"""\\'
    graph = nx.relabel_nodes(zoo.elman(2, 3, 2), {"a": name})
    try:
        rg.validate(graph)
    except rg.GraphError:
        return
    source = rg.compile(graph).source
    assert not any(line.strip().startswith("import os") for line in source.splitlines())
    assert not any(isinstance(node, ast.Import) and node.names[0].name == "os" for node in ast.walk(ast.parse(source)))


@pytest.mark.parametrize("size", [1, 3, 9, 40])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fixed_matrices_small_and_large(size: int, dtype: str) -> None:
    """Small ones as readable lists, large ones as base64: the numbers are exact in both."""
    value = np.random.default_rng(0).normal(size=(size, size)) / size
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=size)
    graph.add_node("y", kind="output", size=size)
    graph.add_edge("x", "y", structure="fixed", value=value)
    graph.add_edge("x", "y", structure="diagonal")
    kernel = rg.compile(graph, dtype=dtype)
    assert ("b64decode" in kernel.source) == (size > 8)
    assert max(map(len, kernel.source.splitlines())) < 2500
    x = np.eye(size)[:, None, :]
    params = {"W_x_y": np.zeros(size), "b_y": np.zeros(size)}
    outputs, _ = load_source(kernel.source).forward(params, {"x": x})
    np.testing.assert_array_equal(outputs["y"][:, 0], value.astype(dtype))


def test_two_large_fixed_matrices() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(2, 12, 12)) / 12
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=12)
    graph.add_node("a", size=12, activation="tanh")
    graph.add_node("y", kind="output", size=12)
    graph.add_edge("x", "a", structure="fixed", value=first)
    graph.add_edge("a", "a", structure="fixed", value=second, delay=1)
    graph.add_edge("a", "y")
    problem = problem_for(graph, 0, {"y": "mse"}, T=3)
    assert_equals_reference(rg.compile(graph, dtype="float64"), graph, problem, {"y": "mse"})


def test_two_threads_call_one_kernel() -> None:
    graph = zoo.lstm(4, 8, 3)
    kernel = rg.compile(graph, dtype="float64")
    problems = [problem_for(graph, seed, {"y": "mse"}, T=12, batch=3, with_state=False) for seed in range(4)]
    expected = [kernel.loss_and_gradient(p.parameters, p.inputs, p.targets, weights=p.weights) for p in problems]
    outputs = [to_numpy(kernel.forward(p.parameters, p.inputs)[0]["y"]) for p in problems]
    wrong: list[str] = []
    start = threading.Barrier(len(problems))

    def work(number: int) -> None:
        problem = problems[number]
        start.wait()
        for _ in range(30):
            loss, gradients = kernel.loss_and_gradient(
                problem.parameters, problem.inputs, problem.targets, weights=problem.weights
            )
            found, _ = kernel.forward(problem.parameters, problem.inputs)
            same = np.array_equal(gradients.vector, expected[number][1].vector) and loss == expected[number][0]
            if not same or not np.array_equal(found["y"], outputs[number]):
                wrong.append(f"thread {number}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(problems))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


BAD_CALLS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no input": ({}, {}, r"inputs: found \[\]; expected \['x'\]"),
    "another input": ({"z": np.zeros((2, 1, 3))}, {}, r"'x' is missing"),
    "two axes": ({"x": np.zeros((2, 3))}, {}, r"input 'x': found shape \(2, 3\); expected \(T, batch, 3\)"),
    "another size": ({"x": np.zeros((2, 1, 4))}, {}, r"input 'x': found shape \(2, 1, 4\)"),
    "no steps": ({"x": np.zeros((0, 1, 3))}, {}, r"input 'x': found shape \(0, 1, 3\)"),
    "a parameter missing": ({"x": np.zeros((2, 1, 3))}, {"V": None}, r"missing \['V'\]"),
    "an unknown parameter": ({"x": np.zeros((2, 1, 3))}, {"U": np.zeros(2)}, r"unknown \['U'\]"),
    "a transposed parameter": (
        {"x": np.zeros((2, 1, 3))},
        {"V": np.zeros((2, 4))},
        r"parameter 'V': found shape \(2, 4\)",
    ),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_standalone_module_refuses_wrong_shapes(name: str) -> None:
    inputs, changes, message = BAD_CALLS[name]
    module = load_source(rg.compile(zoo.elman(3, 4, 2)).source)
    params = {**module.init(), **changes}
    params = {key: value for key, value in params.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        module.forward(params, inputs)
    with pytest.raises(ValueError, match=message):
        module.loss_and_gradient(params, inputs, {"y": np.zeros((2, 1, 2))})


def test_unequal_lengths_are_refused() -> None:
    graph = nx.MultiDiGraph()
    for name in ("u", "v"):
        graph.add_node(name, kind="input", size=1)
        graph.add_edge(name, "y")
    graph.add_node("y", kind="output", size=1)
    module = load_source(rg.compile(graph).source)
    with pytest.raises(ValueError, match="T and batch the same for all inputs"):
        module.forward(module.init(), {"u": np.zeros((2, 1, 1)), "v": np.zeros((3, 1, 1))})


def test_wrong_targets_and_states_do_not_pass() -> None:
    module = load_source(rg.compile(zoo.elman(3, 4, 2)).source)
    params, x = module.init(), np.zeros((3, 2, 3), np.float32)
    with pytest.raises(ValueError):
        module.loss_and_gradient(params, {"x": x}, {"y": np.zeros((3, 2, 5))})
    with pytest.raises(ValueError):
        module.forward(params, {"x": x}, {"a": np.zeros((1, 2, 5))})


# What the time loops do.


def loop_statements(function: Function) -> list[Any]:
    return [inner for statement in function.body if isinstance(statement, Loop) for inner in statement.body]


@pytest.mark.parametrize("seed", range(30))
def test_loops_hold_calls_that_write_in_place(seed: int) -> None:
    kernel = rg.compile(random_graph(seed))
    for function in kernel.program.functions:
        for statement in loop_statements(merge_neighbours(expand_pointwise(function))):
            in_place = isinstance(statement, Apply | Copy | Fill) or (
                not statement.accumulate if isinstance(statement, MatMul) else statement.kind == "units"
            )
            assert in_place, f"{function.name}: {statement}"


def test_loops_with_maximum_and_minimum_raise_no_warning() -> None:
    """NumPy 2.4 deprecates maximum(a, b, out) by position; pytest makes a warning an error."""
    graph = rg.zoo.elman(1, 3, 1, recurrence="dense", activation="relu")
    graph.nodes["y"].update(activation="identity")
    graph.add_node("z", kind="output", size=3, equation="minimum(r, maximum(q, 0.25))")
    graph.add_edge("z", "z", delay=1, port="r")
    graph.add_edge("a", "z", port="q")
    kernel = rg.compile(graph, dtype="float64")
    x = np.random.default_rng(0).normal(size=(6, 2, 1))
    outputs, _ = kernel.forward(kernel.init(0), {"x": x})
    kernel.loss_and_gradient(kernel.init(0), {"x": x}, {"y": x, "z": np.zeros((6, 2, 3))})
    assert outputs["z"].max() == 0.0 and "maximum(s_a, ZERO, out=" in kernel.source


def test_every_statement_of_a_loop_writes_into_memory_that_exists() -> None:
    """In the text: each line of a loop is a call with ``out=`` or an assignment to a slice."""
    for graph in (
        zoo.lstm(2, 3, 2, peepholes=True),
        zoo.gru(2, 3),
        zoo.narx(1, 3, 1, 2, 2),
        zoo.jordan(2, 3, 2, decay=0.5),
    ):
        tree = ast.parse(rg.compile(graph).source)
        loops = [
            node for function in tree.body if isinstance(function, ast.FunctionDef) and "loss" in function.name
            for node in function.body if isinstance(node, ast.For)
        ]  # fmt: skip
        assert loops
        for loop in loops:
            for line in loop.body:
                text = ast.unparse(line)
                call = isinstance(line, ast.Expr) and isinstance(line.value, ast.Call)
                slice_ = isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Subscript)
                # ufunc(a, b, out) with the target as its last positional argument is the same as out=.
                assert call or slice_, text


def test_memory_of_a_call_is_what_it_returns() -> None:
    """Once the workspace exists, the steps of a forward pass leave nothing behind but outputs and state."""
    kernel = rg.compile(zoo.lstm(2, 16, 1), dtype="float64")
    params = kernel.init()
    rng = np.random.default_rng(0)

    def peak(T: int) -> int:
        x = rng.normal(size=(T, 4, 2))
        kernel.forward(params, {"x": x})  # makes the workspace
        tracemalloc.start()
        kernel.forward(params, {"x": x})
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    returned = 200 * 4 * 1 * 8  # the outputs of 200 steps; their hidden values would be 16 times as much
    short, long = peak(20), peak(220)
    assert long - short < 2 * returned, f"{short} bytes for 20 steps, {long} bytes for 220"


def test_workspaces_are_kept_for_a_few_shapes_and_freed_on_demand() -> None:
    graph = zoo.elman(2, 3, 2)
    kernel = rg.compile(graph, dtype="float64")
    for T in (3, 5, 4, 7, 2, 6, 3, 5):
        problem = problem_for(graph, T, {"y": "mse"}, T=T, with_state=False)
        assert_equals_reference(kernel, graph, problem, {"y": "mse"})
    kernel.module.release_workspaces()
    problem = problem_for(graph, 1, {"y": "mse"}, T=3, with_state=False)
    assert_equals_reference(kernel, graph, problem, {"y": "mse"})


def test_compile_gives_the_same_text_every_time(tmp_path: Path) -> None:
    """Also in another process, where hashes of strings differ."""
    script = "import sys, rnngraph as rg; sys.path.insert(0, {0!r}); from random_graphs import random_graph\n" + (
        "from hashlib import sha256\n"
        "print([sha256(rg.compile(random_graph(s)).source.encode()).hexdigest() for s in (3, 8, 21)])"
    )
    answers = set()
    for seed in ("1", "2"):
        result = subprocess.run(
            [sys.executable, "-c", script.format(str(Path(__file__).parent))], capture_output=True, text=True,
            cwd=Path(__file__).parent.parent, env={"PYTHONHASHSEED": seed, "PATH": "/usr/bin:/bin"}, check=True,
            timeout=120,
        )  # fmt: skip
        answers.add(result.stdout)
    assert len(answers) == 1


def test_reference_itself_reads_hostile_names() -> None:
    """A guard of the tests above: the reference sees the very names that the kernel got."""
    graph = nx.relabel_nodes(zoo.elman(2, 3, 2, recurrence="dense"), {"y": "import os"})
    assert "b_import os" in reference.parameter_shapes(graph)
