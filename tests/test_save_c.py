"""A step in C for a device: compiled strictly, it computes what the kernel does, in the memory that it states."""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
import pytest
import sympy
from random_graphs import random_graph, with_weights
from test_emitted import HOSTILE, elman_with_constants
from test_stream import delayed, learned_delays, many_delays
from test_weights import every_kind

import rnngraph as rg
from codegen.interpret import Interpreter
from codegen.printers.c_literals import block_comment, number_text
from codegen.printers.c_text import CExpression
from codegen.verify import verify_function
from rnngraph import zoo
from rnngraph.lower import lower_step

Array = npt.NDArray[Any]
STRICT = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-O1"]
TOLERANCE = {"float32": 3e-6, "float64": 1e-12}
GUARD = 64  # bytes behind a state, which no step may touch
T = 40


def several_ends() -> nx.MultiDiGraph:
    """Two inputs, three outputs, one of them read back, ports of one unit, sums over a node's own past."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=3)
    graph.add_node("gain", kind="input", size=1)
    graph.add_node("a", size=5, equation="tanh(s)*g + old/2", initial=0.25)
    graph.add_node("y", kind="output", size=5, initial="parameter")
    graph.add_node("linear", kind="output", size=2, initial=-0.5)
    graph.add_node("p", kind="output", size=1, equation="softplus(s) - maximum(g, 0.1)**3/7 + sign(g)")
    for source in ("x", "y", "linear"):
        graph.add_edge(source, "a", delay=0 if source == "x" else 1)
    graph.add_edge("gain", "a", port="g")
    graph.add_edge("gain", "p", port="g", delay=2)
    graph.add_edge("a", "a", port="old", delay=1)
    graph.add_edge("a", "y", structure="masked", mask=np.tri(5, dtype=int))
    graph.add_edge("x", "linear", delay=[1, 4])
    graph.add_edge("linear", "linear", delay=1)
    graph.add_edge("y", "p", delay=1)
    return graph


def without_state() -> nx.MultiDiGraph:
    """x -> y alone: a structure that needs no member."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    graph.add_node("y", kind="output", size=3)
    graph.add_edge("x", "y")
    return graph


def spread_taps() -> nx.MultiDiGraph:
    """Taps by threes, unevenly, and of one unit; a loop that is read at 7 to 10."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=1)
    graph.add_node("a", size=4, activation="sigmoid")
    graph.add_node("y", kind="output", size=1, bias=False)
    graph.add_edge("x", "a", delay=[0, 3, 6, 9, 12, 15, 16, 20])
    graph.add_edge("a", "a", delay=[10, 9, 8, 7])
    graph.add_edge("a", "y")
    graph.add_edge("y", "a", delay=[1, 2, 3, 4, 5])
    return graph


GRAPHS: dict[str, nx.MultiDiGraph] = {
    **{name: zoo.example(name) for name in ("lstm", "gru", "elman", "narx", "tdnn", "stacked")},
    "input delays": zoo.narx(2, 3, 2, 4, 5),
    "many delays": many_delays(),
    "learned delays": learned_delays(),
    "fixed weights": elman_with_constants(),
    "every kind of weight": every_kind(),
    "several ends": several_ends(),
    "without state": without_state(),
    "spread taps": spread_taps(),
}


@dataclass(frozen=True)
class Exported:
    """A kernel's step in a compiled library, by its name."""

    kernel: rg.Kernel
    params: dict[str, Array]
    state: dict[str, Array] | None
    name: str
    header: str
    library: ctypes.CDLL

    @property
    def state_bytes(self) -> int:
        """What the header says."""
        found = re.search(rf"(\d+) bytes for each {self.name}_state", self.header)
        assert found
        return int(found[1])

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """The outputs (T, size), step by step; inputs (T, size)."""
        dtype = np.dtype(self.kernel.program.dtype)
        state = np.full(self.state_bytes + GUARD, 0xA5, np.uint8)
        at = state.ctypes.data_as(ctypes.c_void_p)
        outputs = {name: np.zeros((T, size), dtype) for name, size in self.kernel.program.outputs.items()}
        getattr(self.library, f"{self.name}_reset")(at)
        step = getattr(self.library, f"{self.name}_step")
        for t in range(T):
            rows = [np.ascontiguousarray(inputs[name][t], dtype) for name in self.kernel.program.inputs]
            rows += [outputs[name][t] for name in self.kernel.program.outputs]
            step(at, *(row.ctypes.data_as(ctypes.c_void_p) for row in rows))
        assert np.all(state[self.state_bytes :] == 0xA5), "a step wrote behind its state"
        return outputs


def compiler() -> list[str]:
    names = [*shlex.split(os.environ.get("CC", ""))[:1], "cc", "gcc", "clang"]
    return next(([name] for name in names if shutil.which(name)), [sys.executable, "-m", "ziglang", "cc"])


def compiled(*arguments: str | Path) -> None:
    result = subprocess.run([*compiler(), *STRICT, *map(str, arguments)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def random_params(kernel: rg.Kernel, seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(scale=0.6 / np.sqrt(shape[0]) if len(shape) > 1 else 0.4, size=shape).astype(
            kernel.program.dtype
        )
        for name, shape in kernel.parameter_shapes.items()
    }


def exported(kernels: dict[str, rg.Kernel], folder: Path, seed: int = 0) -> list[Exported]:
    """All kernels in one library. Those of odd numbers start from a state of some of the nodes."""
    results = []
    sources: list[Path] = []
    probe = ["#include <stddef.h>"]
    headers = {}
    for number, (name, kernel) in enumerate(kernels.items()):
        params = random_params(kernel, seed + number)
        rng = np.random.default_rng([seed, number])
        nodes = {
            node: rng.normal(size=(depth, 1, size)).astype(kernel.program.dtype)
            for node, (depth, size, _) in kernel.program.states.items()
            if rng.random() < 0.7
        }
        state = nodes if number % 2 else None
        header, source, _ = kernel.save_c(folder, params, name=name, state=state)
        sources.append(source)
        headers[name] = header.read_text("ascii")
        probe += [f'#include "{name}.h"', f"size_t {name}_bytes(void);"]
        probe += [f"size_t {name}_bytes(void) {{ return sizeof({name}_state); }}"]
        results.append((kernel, params, state, name))
    (folder / "probe.c").write_text("\n".join(probe) + "\n", "ascii")
    compiled("-shared", "-fPIC", "-o", folder / "all.so", *sources, folder / "probe.c", "-lm")
    library = ctypes.CDLL(str(folder / "all.so"))
    return [Exported(*each, headers[each[-1]], library) for each in results]


def check(found: Exported, seed: int) -> None:
    """Outputs and the size of the state."""
    kernel, dtype = found.kernel, found.kernel.program.dtype
    rng = np.random.default_rng([seed, 7])
    inputs = {name: rng.normal(size=(T, size)).astype(dtype) for name, size in kernel.program.inputs.items()}
    outputs, _ = kernel.forward(found.params, {name: value[:, None] for name, value in inputs.items()}, found.state)
    for name, value in found.run(inputs).items():
        scale = max(1.0, float(np.abs(outputs[name]).max()))
        np.testing.assert_allclose(
            value, outputs[name][:, 0], rtol=0, atol=scale * TOLERANCE[dtype], err_msg=f"{found.name}, seed {seed}"
        )
    bytes_of = getattr(found.library, f"{found.name}_bytes")
    bytes_of.restype = ctypes.c_size_t
    assert bytes_of() == found.state_bytes, found.name


@pytest.mark.usefixtures("c_compiler")
def test_steps_equal_forward(tmp_path: Path) -> None:
    kernels = {f"net_{k}": rg.compile(graph, dtype="float64") for k, graph in enumerate(GRAPHS.values())}
    for name in ("lstm", "several ends", "spread taps"):
        kernels[f"single_{list(GRAPHS).index(name)}"] = rg.compile(GRAPHS[name], dtype="float32")
    for found in exported(kernels, tmp_path):
        check(found, 0)


def causal_kernels(seeds: range) -> dict[int, rg.Kernel]:
    """Those of random networks, every second one with effective weights."""
    graphs = {seed: with_weights(random_graph(seed), seed) if seed % 2 else random_graph(seed) for seed in seeds}
    graphs = {seed: graph for seed, graph in graphs.items() if rg.derive(graph).look_ahead is None}
    return {seed: rg.compile(graph, dtype="float64") for seed, graph in graphs.items()}


@pytest.mark.usefixtures("c_compiler")
def test_steps_of_random_networks_equal_forward(tmp_path: Path) -> None:
    kernels = {f"net_{seed}": kernel for seed, kernel in causal_kernels(range(9)).items()}
    assert len(kernels) > 5
    for found in exported(kernels, tmp_path, seed=100):
        check(found, 100)


def test_the_step_that_is_printed_equals_forward() -> None:
    """The statements before they are printed, run by the interpreter: no compiler is needed."""
    for seed, kernel in causal_kernels(range(20, 24)).items():
        function = lower_step(kernel.compilation.forward, kernel.compilation.layout, {})
        verify_function(function)
        rng = np.random.default_rng(seed)
        params = kernel._parameters(random_params(kernel, seed))
        inputs = {name: rng.normal(size=(9, 2, size)) for name, size in kernel.program.inputs.items()}
        state = {name: rng.normal(size=(n, 2, size)) for name, (n, size, _) in kernel.program.states.items()}
        run = Interpreter(9, 2, params.vector, np.zeros(0), {"inputs": inputs, "state": state}).run(function)
        outputs, last = kernel.forward(params, inputs, state)
        for kind, expected in (("output", outputs), ("state", last)):
            for name, value in expected.items():
                np.testing.assert_allclose(run[kind][name], value, atol=1e-11, err_msg=f"seed {seed}, {kind} {name}")


@pytest.fixture
def pump(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A NARX network's files."""
    kernel = rg.compile(zoo.narx(1, 3, 1, 2, 2))
    return kernel.save_c(tmp_path / "made" / "here", random_params(kernel, 3), name="pump")


def run_test(files: tuple[Path, Path, Path]) -> subprocess.CompletedProcess[str]:
    program = files[0].parent / "run"
    compiled(files[1], files[2], "-o", program, "-lm")
    return subprocess.run([str(program)], capture_output=True, text=True, timeout=20)


@pytest.mark.usefixtures("c_compiler")
def test_the_main_tells_right_from_wrong(pump: tuple[Path, Path, Path]) -> None:
    right = run_test(pump)
    assert right.returncode == 0 and re.match(r"largest error of 22 steps: \S+, tolerance 1\S*e-05\n", right.stdout)
    source, test = pump[1].read_text(), pump[2].read_text()
    number = re.search(r"expected_y\[.*\n.*\n    (-?[\d.]+)f", test)
    assert number
    start, stop = number.span(1)
    pump[2].write_text(f"{test[:start]}{float(number[1]) + 1e-3:.6f}{test[stop:]}")
    assert run_test(pump).returncode == 1
    pump[2].write_text(test)
    assert run_test(pump).returncode == 0
    assert source.count("state->y[unit] = 0.0f;") == 1  # without it, the second run begins where the first ended
    pump[1].write_text(source.replace("state->y[unit] = 0.0f;", ""))
    assert run_test(pump).returncode == 1
    pump[1].write_text(source.replace("tanhf(", "sqrtf("))  # NaN is no agreement
    assert run_test(pump).returncode == 1


@pytest.mark.usefixtures("c_compiler")
def test_nothing_but_math_is_needed(pump: tuple[Path, Path, Path], tmp_path: Path) -> None:
    assert set(re.findall(r"#include (\S+)", pump[1].read_text())) == {'"pump.h"', "<math.h>"}
    assert set(re.findall(r"#include (\S+)", pump[0].read_text())) == {"<stdint.h>"}
    called = set(re.findall(r"\b(\w+)\(", re.sub(r"/\*.*?\*/", "", pump[1].read_text(), flags=re.DOTALL)))
    assert called <= {"tanhf", "add_product", "back", "repeat", "for", "pump_reset", "pump_step"}
    compiled("-ffreestanding", "-fno-builtin", "-c", pump[1], "-o", tmp_path / "pump.o")
    if shutil.which("nm"):
        listed = subprocess.run(["nm", str(tmp_path / "pump.o")], capture_output=True, text=True, check=True).stdout
        symbols = [line.split()[-2:] for line in listed.splitlines()]
        assert {name for kind, name in symbols if kind == "U"} <= {"tanhf", "_GLOBAL_OFFSET_TABLE_"}
        assert {name for kind, name in symbols if kind == "T"} == {"pump_reset", "pump_step"}
        assert not [name for kind, name in symbols if kind in "BbDdC"], "memory that is neither state nor constant"


def test_header_states_the_constants(pump: tuple[Path, Path, Path]) -> None:
    arrays = re.findall(r"^static const real \w+\[(\d+)\]", pump[1].read_text(), re.MULTILINE)
    assert f", {4 * sum(map(int, arrays))} bytes of constants" in pump[0].read_text()


def test_a_delay_costs_memory_and_no_work(tmp_path: Path) -> None:
    steps = []
    for delay in (50, 1000):
        kernel = rg.compile(delayed(delay))
        _, source, _ = kernel.save_c(tmp_path, kernel.init(), name="net")
        steps.append(
            source.read_text().partition("void net_step(")[2].replace(f"{delay + 1}", "R").replace(f"{delay}", "D")
        )
    assert steps[0] == steps[1]


@pytest.mark.usefixtures("c_compiler")
def test_large_networks_count_in_long(tmp_path: Path) -> None:
    kernel = rg.compile(zoo.elman(200, 200, 1))
    files = kernel.save_c(tmp_path, kernel.init(), name="net", inputs={"x": np.ones((3, 1, 200))})
    assert "const long whole" in files[1].read_text()
    assert run_test(files).returncode == 0


@pytest.mark.usefixtures("c_compiler")
def test_hostile_names(tmp_path: Path) -> None:
    """Inputs, outputs, cells and parameters: their mangled forms do not meet, and their text ends no comment."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=1)
    extra = [
        "*/ int oops;", "/* open", "??/", "????/", "a??", "restrict", "typeof", "unit", "tap", "back", "repeat",
        "add_product", "row_3", "row_2", "state", "X", "NULL", "NAN", "INFINITY", "y0", "y1", "gamma", "tanhf", "expf",
        "net_step", "net_state", "uint16_t", "real", "{int}", "{name}", "STEPS", "found_x", "input_x", "int", "main",
        "math_errhandling", "far", "x past", "x returned", "y past", "y returned", "back(", "gamma past",
        "tap returned",
    ]  # fmt: skip
    names = []
    for name in dict.fromkeys([*extra, *HOSTILE[::5]]):
        try:
            rg.validate(nx.relabel_nodes(zoo.elman(1, 1, 1), {"a": name}))
        except rg.GraphError:
            continue
        kind = ("input", "output", "unit")[len(names) % 3]
        names.append(name)
        graph.add_node(name, size=2, kind=kind, **({} if kind == "input" else {"activation": "tanh"}))
        if kind != "input":
            graph.add_edge("x", name, parameter=f"W {name}")
            graph.add_edge(name, name, delay=1 + len(names) % 2, parameter=f"R {name}")
            graph.add_edge(names[len(names) // 2], name, delay=2)
        if kind == "input":
            graph.add_edge(name, "y", delay=len(names) % 2)
        else:
            graph.add_edge(name, "y", parameter=f"V {name}")
        graph.add_node("y", kind="output", size=1)
    assert {"*/ int oops;", "??/", "restrict", "int"} <= set(names) and len(names) > 45
    kernel = rg.compile(graph, dtype="float64")
    (found,) = exported({"net": kernel}, tmp_path)
    check(found, 5)
    assert run_test(tuple(tmp_path / f"net{end}" for end in (".h", ".c", "_test.c"))).returncode == 0  # type: ignore[arg-type]
    for path in tmp_path.glob("net*.[ch]"):
        text = path.read_text("ascii")
        assert text.count("/*") == text.count("*/") and "??" not in text and "\\\n" not in text
        assert "oops" not in re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL).replace("int_oops", "")
    if shutil.which("g++"):
        (tmp_path / "all.cpp").write_text('#include "net.h"\n')
        subprocess.run(["g++", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", str(tmp_path / "all.cpp")], check=True)


@pytest.mark.usefixtures("c_compiler")
def test_parameters_take_no_macro_of_a_network_in_capitals(tmp_path: Path) -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    graph.add_node("y", kind="output", size=1, bias="H")
    graph.add_edge("x", "y", parameter="X_SIZE")
    kernel = rg.compile(graph)
    files = kernel.save_c(tmp_path, random_params(kernel, 0), name="NET")
    assert run_test(files).returncode == 0  # NET_H and NET_X_SIZE are macros


def test_a_weight_that_taps_share_is_written_once(tmp_path: Path) -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=1)
    graph.add_node("y", kind="output", size=3, activation="tanh")
    graph.add_edge("x", "y")
    for delay in range(1, 7):  # 1 to 4 share R, 5 and 6 do not
        graph.add_edge("y", "y", delay=delay, parameter="R" if delay < 5 else f"R{delay}")
    kernel = rg.compile(graph, dtype="float64")
    _, source, _ = kernel.save_c(tmp_path, kernel.init(), name="net")
    text = source.read_text()
    assert re.findall(r"net_R\w*\[\d+\]", text) == ["net_R[9]", "net_R5[9]", "net_R6[9]"]
    assert text.count("tap < 4") == 1


def test_wide_arguments_are_counted_in_long(tmp_path: Path) -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=40000)
    graph.add_node("y", kind="output", size=40000, equation="2*p")
    graph.add_edge("x", "y", port="p")
    files = rg.compile(graph).save_c(tmp_path, {}, inputs={"x": np.ones((1, 1, 40000))})
    assert "for (long unit = 0; unit < 40000" in files[1].read_text()


def test_text_of_numbers_and_comments() -> None:
    for dtype, kind in (("float32", np.float32), ("float64", np.float64)):
        for value in (0.1, 1 / 3, -2.0, 1e-30, 123456789.0, 1e20, -0.0):
            text = number_text(value, dtype)
            assert kind(text.removesuffix("f")) == kind(value) and re.search(r"[.e]", text)
            assert text.endswith("f") == (dtype == "float32")
    for value, text in ((sympy.Rational(1, 10**60), "0.0f"), (sympy.Float(2.0**-149), "1.401298464324817e-45f")):
        assert CExpression({}, "float32", lambda text, label: text).text(value) == text  # no literal out of range
    assert block_comment("a */ b") == "a * / b"
    assert block_comment("???/ é\n") == "? ? ?/ e "
    assert block_comment("β \N{FULLWIDTH ASTERISK}\N{FULLWIDTH SOLIDUS}\N{FULLWIDTH REVERSE SOLIDUS}") == "[u03b2] * //"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"params": None}, rg.OptionError, r"params: found None; .*kernel.init"),
        ({"params": {}}, rg.DataError, "parameter"),
        ({"name": "1st"}, rg.OptionError, "name: found '1st'"),
        ({"name": "a-b"}, rg.OptionError, "letter first"),
        ({"name": "../net"}, rg.OptionError, "letter first"),
        ({"name": "n" * 26}, rg.OptionError, "at most 25"),
        ({"name": 3}, rg.OptionError, "name"),
        ({"name": "Math"}, rg.OptionError, "no header .*Math_net"),
        ({"name": "a_test"}, rg.OptionError, "does not end .* 'a'"),
        ({"directory": 3}, rg.OptionError, "path: .* a folder"),
        ({"directory": ""}, rg.OptionError, "path: found ''"),
        ({"directory": __file__}, rg.DataError, "folder"),
        ({"inputs": {"x": np.zeros((3, 2, 1))}}, rg.DataError, "batch 2"),
        ({"inputs": {"x": np.full((3, 1, 1), -1.0)}}, rg.DataError, r"output 'y': .*not finite at t = 1 .*inputs="),
        ({"state": {"a": np.zeros((2, 1, 3))}}, rg.DataError, "state of 'a'"),
    ],
)
def test_errors(arguments: dict[str, Any], error: type[Exception], message: str, tmp_path: Path) -> None:
    graph = delayed(1)
    graph.nodes["x"]["size"] = 1
    graph.nodes["y"]["equation"] = "log(s)"
    kernel = rg.compile(graph)
    params = kernel.init()
    params.update({name: 0.0 for name in params})
    params["b_y"] = 1.0
    params["W_x_a"], params["W_a_y"] = 5.0, 1.0
    given = {"directory": tmp_path / "new", "params": params, "inputs": {"x": np.ones((3, 1, 1))}, **arguments}
    with np.errstate(all="ignore"), pytest.raises(error, match=message):
        kernel.save_c(**given)
    assert list(tmp_path.iterdir()) == [], "nothing is written where something is wrong"


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The present one will do; where one file cannot be written, none is."""
    kernel = rg.compile(without_state())
    monkeypatch.chdir(tmp_path)
    kernel.save_c(".", kernel.init(), name="here")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here.c", "here.h", "here_test.c"]
    (tmp_path / "net_test.c").mkdir()
    with pytest.raises(rg.DataError, match="net_test"):
        kernel.save_c(tmp_path, kernel.init(), name="net")
    assert not (tmp_path / "net.h").exists()


def test_look_ahead_is_refused(tmp_path: Path) -> None:
    graph = delayed(1)
    graph.add_edge("x", "y", delay=-2)
    kernel = rg.compile(graph)
    with pytest.raises(rg.UnsupportedError, match="edge 'x' -> 'y': found delay=-2, a look-ahead"):
        kernel.save_c(tmp_path, kernel.init())


def test_files_do_not_depend_on_the_backend(backend: str, tmp_path: Path) -> None:
    graph = every_kind()
    kernels = {name: rg.compile(graph, backend=name) for name in ("numpy", backend)}
    params = random_params(kernels["numpy"], 1)
    texts = []
    for number, kernel in enumerate(kernels.values()):
        own = kernel.module.pack({name: kernel.module.__dict__.get("cp", np).asarray(params[name]) for name in params})
        files = kernel.save_c(tmp_path / str(number), own)
        assert [path.name for path in files] == ["network.h", "network.c", "network_test.c"]
        texts.append([path.read_text() for path in files])
    assert texts[0] == texts[-1]


def test_effective_weights_must_be_finite(tmp_path: Path) -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=1)
    graph.add_node("y", kind="output", size=1, activation="tanh")
    graph.add_edge("x", "y", expression="exp(G)")
    kernel = rg.compile(graph)
    params = {name: np.full(shape, 100.0) for name, shape in kernel.parameter_shapes.items()}
    with np.errstate(all="ignore"), pytest.raises(rg.DataError, match="not finite"):
        kernel.save_c(tmp_path, params)
