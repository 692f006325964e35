"""NVRTC compiles the CUDA text of emitted CuPy modules, without headers and without a GPU, and nothing spills."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import re
from pathlib import Path

import networkx as nx
import pytest
from random_graphs import random_graph

import rnngraph as rg
from benchmarks.unit_networks import sparse_network
from codegen.functions import FUNCTIONS
from rnngraph import zoo

ARCHITECTURES = ("sm_80", "sm_90")
KERNEL = re.compile(r"__global__ void (\w+)\(")
RESOURCES = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")


@functools.cache
def nvrtc() -> ctypes.CDLL | None:
    """The library from the pip package nvidia-cuda-nvrtc, or None."""
    spec = importlib.util.find_spec("nvidia")
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    found = sorted(path for folder in folders for path in Path(folder).rglob("libnvrtc.so.*"))
    return ctypes.CDLL(str(found[-1])) if found else None


@pytest.fixture(autouse=True)
def needs_nvrtc() -> None:
    if nvrtc() is None:
        pytest.skip("NVRTC is not installed (pip install nvidia-cuda-nvrtc)")


def compile_cuda(cuda: str, architecture: str) -> str:
    """The compiler's log; AssertionError with the log when it fails or makes no machine code."""
    library = nvrtc()
    assert library is not None
    program = ctypes.c_void_p()
    assert library.nvrtcCreateProgram(ctypes.byref(program), cuda.encode(), b"kernels.cu", 0, None, None) == 0
    try:
        options = [f"--gpu-architecture={architecture}", "--std=c++14", "-ftz=true", "--ptxas-options=-v"]
        pointers = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        failed = library.nvrtcCompileProgram(program, len(options), pointers)
        size = ctypes.c_size_t()
        library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        library.nvrtcGetProgramLog(program, log)
        text = log.value.decode()
        assert not failed, f"NVRTC rejects the kernels:\n{text}\n{cuda}"
        library.nvrtcGetCUBINSize(program, ctypes.byref(size))
        assert size.value > 0, "no machine code"
        return text
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def assert_compiles(
    graph: nx.MultiDiGraph, dtype: str, loss: str = "mse", architectures: tuple[str, ...] = ARCHITECTURES
) -> None:
    """Every kernel compiles without a warning, keeps everything in registers and uses no stack."""
    kernel = rg.compile(graph, loss=loss, backend="cupy", dtype=dtype, wrt=("parameters", "inputs", "state"))
    cuda = kernel.source.split('CUDA = r"""')[1].split('"""')[0]
    assert "#include" not in cuda
    names = KERNEL.findall(cuda)
    for architecture in architectures:
        log = compile_cuda(cuda, architecture)
        assert "warning" not in log, log
        used = RESOURCES.findall(log)
        assert len(used) == len(names) > 0, log
        assert all(bytes_used == ("0", "0", "0") for bytes_used in used), log


@pytest.mark.parametrize("name", ["lstm", "gru", "elman", "narx", "tdnn"])
def test_network_of_the_zoo(name: str) -> None:
    assert_compiles(zoo.example(name), "float32")


def test_float64() -> None:
    assert_compiles(zoo.lstm(3, 8), "float64", architectures=("sm_90",))


def test_cross_entropy() -> None:
    assert_compiles(zoo.elman(3, 8, 4), "float32", "cross_entropy", ("sm_90",))


def test_sparse_products() -> None:
    assert_compiles(sparse_network(20, edges=3, longest=4), "float32", architectures=("sm_90",))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_function_of_the_table(dtype: str) -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=4)
    graph.add_node("p", size=4)
    graph.add_edge("x", "p")
    for name, rule in FUNCTIONS.items():
        node = f"n_{name}"
        graph.add_node(node, kind="output", size=4, equation=f"{name}(s)" if rule.arity == 1 else f"{name}(s, p)")
        graph.add_edge("x", node)
        if rule.arity == 2:
            graph.add_edge("p", node, port="p")
    # sin and cos of large arguments keep a table on the stack: no spill, but no empty frame either.
    assert_compiles_with_stack(graph, dtype)


def assert_compiles_with_stack(graph: nx.MultiDiGraph, dtype: str) -> None:
    """As assert_compiles, where a stack frame is allowed and spills are not."""
    kernel = rg.compile(graph, backend="cupy", dtype=dtype)
    cuda = kernel.source.split('CUDA = r"""')[1].split('"""')[0]
    log = compile_cuda(cuda, "sm_90")
    assert "warning" not in log, log
    assert all(spills == ("0", "0") for _, *spills in RESOURCES.findall(log) for spills in [tuple(spills)]), log


def test_names_that_mean_something_in_c() -> None:
    names = ["NULL", "NAN", "INFINITY", "float", "real", "row", "tanhf", "linux", "threadIdx", "M_PI", "element", "j0"]
    graph = nx.MultiDiGraph()
    graph.add_node("int", kind="input", size=2)
    before = "int"
    for name in names:
        graph.add_node(name, size=2, activation="tanh")
        graph.add_edge(before, name)
        graph.add_edge(name, name, delay=1)
        before = name
    graph.nodes[before]["kind"] = "output"
    assert_compiles(graph, "float32", architectures=("sm_90",))


@pytest.mark.parametrize("seed", [2001, 2002, 2003])
def test_random_graph(seed: int) -> None:
    graph = random_graph(seed)
    kernel_source = rg.compile(graph, backend="cupy", dtype="float32").source
    if "CUDA" in kernel_source:
        log = compile_cuda(kernel_source.split('CUDA = r"""')[1].split('"""')[0], "sm_90")
        assert "warning" not in log, log
