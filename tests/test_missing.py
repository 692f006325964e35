"""Gaps in series: the steps that read one, found by changing what stands in for it, and what stands in."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest

import rnngraph as rg
from rnngraph.series.missing import fill_gaps, reading_delays

RNG = np.random.default_rng(3)
N = 30
U, Y = RNG.normal(size=N), RNG.normal(size=N)


def counted(data: rg.Prepared) -> list[int]:
    """The samples whose steps count."""
    steps = len(data.targets["y"])
    weights = np.ones((steps, 1)) if data.weights is None else data.weights
    return [int(step) + data.dropped for step in np.flatnonzero(weights[:, 0])]


def hole(array: Any, *places: int) -> Any:
    changed = array.copy()
    changed[list(places)] = np.nan
    return changed


def test_a_gap_holds_the_last_known_value() -> None:
    given = np.array([[np.nan, 1.0], [2.0, np.nan], [np.nan, np.nan], [5.0, 4.0]])[:, None]
    filled, gaps = fill_gaps(given)
    np.testing.assert_array_equal(filled[:, 0], [[2.0, 1.0], [2.0, 1.0], [2.0, 1.0], [5.0, 4.0]])
    np.testing.assert_array_equal(gaps[:, 0], [True, True, True, False])
    assert not fill_gaps(np.full((3, 1, 1), np.nan))[0].any()


def test_gaps_of_inputs_and_targets_by_hand() -> None:
    causal = rg.zoo.tdnn((1, 3, 1), [[0, 2], [0]])
    data = rg.prepare({"x": hole(U, 10), "y": hole(Y, 20)}, causal, missing="mask")
    assert [s for s in range(2, N) if s not in counted(data)] == [10, 12, 20]
    assert data.inputs["x"][8, 0, 0] == U[9]
    data = rg.prepare({"x": hole(U, 10), "y": hole(Y, 20)}, causal, missing="mask", horizon=3)
    assert [s for s in range(2, N - 3) if s not in counted(data)] == [10, 12, 17]
    data = rg.prepare({"x": hole(U, 1), "y": Y}, causal, missing="mask", weights=np.full(N, 2.0))
    assert data.weights is not None and [s for s in range(2, N) if s not in counted(data)] == [3]  # through the state
    assert data.weights.max() == 2.0
    assert rg.prepare({"x": U, "y": Y}, causal, missing="mask").weights is None
    data = rg.prepare({"x": hole(U, 0), "y": hole(Y, 0, 1)}, rg.zoo.tdnn((1, 1), [[1]]), missing="mask")
    assert counted(data) == list(range(2, N))
    data = rg.prepare([{"x": hole(U, 10), "y": Y}, {"x": U[:9], "y": Y[:9]}], causal, missing="mask")
    assert data.weights is not None and data.weights.sum(axis=0).tolist() == [N - 4, 7]


def test_gaps_in_fed_back_values() -> None:
    """In open loop each step that reads the gap; in closed loop those that read it as the past, of the state."""
    closed = rg.zoo.narx(1, 3, 1, T_x=1, T_y=[1, 3])
    for graph in (rg.open_loop(closed), rg.mix_feedback(closed)):
        data = rg.prepare({"x": U, "y": hole(Y, 2, 10)}, graph, missing="mask")
        assert [s for s in range(3, N) if s not in counted(data)] == [3, 5, 10, 11, 13]
    data = rg.prepare({"x": U, "y": hole(Y, 2, 10)}, closed, missing="mask")
    assert [s for s in range(3, N) if s not in counted(data)] == [3, 5, 10]
    folded, _ = rg.Scaling.fit({"x": U, "y": Y}).fold(closed, dict(rg.compile(closed).init()))
    again = rg.prepare({"x": U, "y": hole(Y, 2, 10)}, folded, missing="mask")
    assert counted(again) == counted(data)
    own = rg.prepare({"x": U, "y": Y, "y_measured": hole(Y, 10)}, rg.open_loop(closed), missing="mask")
    assert [s for s in range(3, N) if s not in counted(own)] == [11, 13]


def test_windows_read_a_gap_as_their_past() -> None:
    """A gap in an output is its own past within the sequence; a window that begins after it reads the stand-in."""
    closed = rg.zoo.narx(1, 3, 1, T_x=1, T_y=[1, 3])
    series = {"x": U, "y": hole(Y, 10)}
    one = rg.prepare(series, closed, missing="mask")
    both = rg.prepare([series, {"x": U[:20], "y": Y[:20]}], closed, missing="mask")
    for data, every in ((one, 1), ([one], 1), (both, 2), (rg.pad([one]), 1), (rg.windows(one, 27), 1)):
        cut = rg.windows(data, 4, stride=1)
        assert cut.weights is not None
        for start in range(3, 15):  # the sample that a window begins with
            alone = rg.prepare(
                {name: each[start - 3 : start + 4] for name, each in series.items()}, closed, missing="mask"
            )
            np.testing.assert_array_equal(
                cut.weights[:, every * (start - 3)], np.ones(4) if alone.weights is None else alone.weights[:, 0]
            )


def test_classes_and_loops() -> None:
    """A gap in the numbers of classes; and a loop, whose memory of a stand-in is not counted."""
    labels = np.arange(N) % 3.0
    graph = rg.zoo.lstm(1, 4, 3)
    data = rg.prepare({"x": hole(U, 4), "y": hole(labels, 8)}, graph, loss="cross_entropy", missing="mask")
    assert data.targets["y"].dtype == np.int64 and [s for s in range(N) if s not in counted(data)] == [4, 8]


def feedforward(seed: int) -> nx.MultiDiGraph:
    """A random network without loops, with delays, look-aheads and several layers."""
    rng = np.random.default_rng(seed)
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=1)
    layers = ["x", "a", "b", "y"]
    for name in layers[1:]:
        graph.add_node(name, size=2, activation="tanh", kind="output" if name == "y" else "unit")
        for source in layers[: layers.index(name)]:
            if source == layers[layers.index(name) - 1] or rng.random() < 0.5:
                graph.add_edge(source, name, delay=sorted({int(d) for d in rng.integers(-2, 4, 2)}))
    return graph


@pytest.mark.parametrize("seed", range(12))
def test_all_steps_that_read_a_gap_and_no_other(seed: int) -> None:
    """What changes with the value that stands in for a gap does not count; all else does."""
    graph = feedforward(seed)
    kernel = rg.compile(graph, dtype="float64")
    params = kernel.init(seed=seed)
    target = RNG.normal(size=(N, 2))
    data = rg.prepare({"x": hole(U, 14), "y": target}, graph, missing="mask", warmup=0, tail=0)
    known, other = U.copy(), U.copy()
    other[14] += 3.0
    found = []
    for series in (known, other):
        plain = rg.prepare({"x": series, "y": target}, graph, warmup=0, tail=0)
        found.append(kernel.forward(params, plain.inputs, plain.state)[0]["y"][:, 0])
    changed = np.flatnonzero(np.abs(found[0] - found[1]).max(axis=1) > 0) + data.dropped
    assert sorted(set(range(data.dropped, data.dropped + len(found[0]))) - set(counted(data))) == changed.tolist()
    sums = reading_delays(rg.validate(graph), ["x"], ["y"])["x"]
    assert {int(step) - 14 for step in changed} == sums


def test_a_path_through_a_loop_counts_its_layers_once() -> None:
    graph = rg.zoo.tdnn((1, 3, 1), [[0, 1], [0, 4]])
    graph.add_edge("y", "a1", delay=2)
    assert reading_delays(rg.validate(graph), ["x", "y"], ["y"]) == {"x": {0, 1, 4, 5}, "y": {2, 6}}
