"""Products with taps in C: as those of NumPy, by one thread and by several, for taps near and far, wide and narrow."""

from __future__ import annotations

import networkx as nx
import pytest
from test_c import assert_as_numpy
from test_stacks import several_sources

import rnngraph as rg
from codegen.printers.c_products import SUMMED_ROWS
from codegen.printers.c_stacks import FEWEST_ROWS, STACKED
from rnngraph import zoo

WRT = ("parameters", "inputs")  # by the state no deltas are stacked
NETWORKS = {
    "narrow, many taps": lambda: zoo.tdnn((1, 3, 1), ([*range(12)], [*range(5)])),
    "wide, few taps": lambda: zoo.tdnn((9, 34, 5), ([0, 1, 2], [0, 2])),
    "dilated": lambda: zoo.tdnn((2, 3, 2), ([0, 7, 14, 21], [0, 30])),
    "several sources": several_sources,
    "no bias": lambda: without_biases(zoo.tdnn((4, 5), ([0, 1, 2, 3],))),
    "long rows": lambda: zoo.tdnn((40, 3), ([*range(40)],)),
}


def without_biases(graph: nx.MultiDiGraph) -> nx.MultiDiGraph:
    """The same network, in which no node has a bias."""
    for node in graph:
        if graph.nodes[node].get("kind") != "input":
            graph.nodes[node]["bias"] = False
    return graph


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str, threads: int, c_compiler: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sequence and several, fewer rows than one chunk has and more than two, T of one step."""
    monkeypatch.setenv("CFLAGS", "-O0 -DLEAST_WORK=1 -DLEAST_ROWS=1")
    monkeypatch.setenv("RNNGRAPH_THREADS", str(threads))
    for T, batch in ((1, 1), (1, 5), (9, 1), (11, 3), (2 * SUMMED_ROWS + 9, 1), (70, 9)):
        source = assert_as_numpy(NETWORKS[name](), 1, "float64", T, batch, WRT)
    assert "stack_rows(" in source and "taps_gradient(" in source
    assert "_stretch(T" not in source  # NumPy has none of it


@pytest.mark.parametrize("batch", [SUMMED_ROWS // 7 - 1, SUMMED_ROWS + 3])
@pytest.mark.parametrize("name", ["dilated", "wide, few taps"])
def test_taps_that_lie_more_rows_apart_than_a_gradient_sums_at_once(name: str, batch: int, c_compiler: None) -> None:
    """Steps of a large batch, so that the windows of taps overlap a little, just so, or not at all."""
    assert_as_numpy(NETWORKS[name](), 1, "float64", 25, batch, WRT)


@pytest.mark.parametrize("name", NETWORKS)
def test_vectors_of_floats_as_they_are_compiled_for_use(
    name: str, c_compiler: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CFLAGS")
    assert_as_numpy(NETWORKS[name](), 1, "float32", 37, 8, WRT)


def test_no_memory_is_taken_for_whole_stacks(c_compiler: None) -> None:
    """What lies side by side is of one size, however long the sequence is."""
    kernel = rg.compile(NETWORKS["long rows"](), backend="c", dtype="float32")
    short, long = (vars(kernel.module.ForwardWorkspace(T, 4)) for T in (5, 500))
    (name,) = (name for name in long if name.startswith("stack_"))
    assert long[name].size == short[name].size
    assert long[name].size <= max(STACKED, FEWEST_ROWS * 1601) * kernel.module.THREADS
    per_step = 4 * 4 * (40 + 3)  # x and y
    assert long["nbytes"] - short["nbytes"] == 495 * per_step
