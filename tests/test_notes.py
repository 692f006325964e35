"""What graphs note of their nodes: series and states of mixed and folded networks, and notes that no longer hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest

import rnngraph as rg
from rnngraph.notes import read_notes

RNG = np.random.default_rng(5)
N = 40
U = RNG.normal(size=N)
Y = 700.0 + RNG.normal(size=N)
SERIES = {"x": U, "y": Y}
CLOSED = rg.zoo.narx(1, 3, 1, T_x=2, T_y=3)
OPEN, MIXED = rg.open_loop(CLOSED), rg.mix_feedback(CLOSED)


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def run(graph: nx.MultiDiGraph, params: Any, data: rg.Prepared) -> Any:
    return rg.compile(graph, dtype="float64").forward(params, data.inputs, data.state)[0]["y"]


def started(graph: nx.MultiDiGraph) -> Any:
    params = rg.compile(graph, dtype="float64").init(seed=0)
    params.vector[:] = 0.3 * np.random.default_rng(0).normal(size=params.vector.size)
    return dict(params)


def test_a_mixed_network_starts_from_measured_values() -> None:
    """Forcing 1 is the open network and 0 the closed one, both from the same past; so it is in windows."""
    params = started(CLOSED)
    mixed = rg.prepare(SERIES, MIXED)
    assert mixed.inputs["y_forcing"].all() and mixed.dropped == 3 and mixed.weights is None
    close(mixed.state["y_feedback"][:, 0, 0], Y[:3])
    close(mixed.inputs["y_measured"], mixed.targets["y"])
    gated = rg.prepare({**SERIES, "y_forcing": np.zeros(N)}, MIXED)
    for data, other in ((mixed, OPEN), (gated, CLOSED)):
        expected = rg.prepare(SERIES, other)
        close(run(MIXED, params, data), run(other, params, expected))
        cut, same = (rg.windows(each, 8, stride=5) for each in (data, expected))
        close(run(MIXED, params, cut), run(other, params, same))
    own = {**SERIES, "y_measured": Y + 1.0}
    close(run(MIXED, params, rg.prepare(own, MIXED)), run(OPEN, params, rg.prepare(own, OPEN)))


def test_the_horizon_of_a_mixed_network_is_that_of_the_closed_one() -> None:
    late = rg.zoo.narx(1, 3, 1, T_x=2, T_y=[2, 3])
    graph, params = rg.mix_feedback(late), started(late)
    data = rg.prepare({**SERIES, "y_forcing": np.zeros(N)}, graph, horizon=2)
    close(run(graph, params, data), run(late, params, rg.prepare(SERIES, late, horizon=2)))
    close(data.inputs["y_measured"], data.targets["y"])
    for fill in ("samples", "initial"):
        with pytest.raises(rg.OptionError, match="horizon: found 3 with the unit 'y_feedback', which 'a' reads with"):
            rg.prepare(SERIES, graph, horizon=3, fill=fill)


def test_notes_are_saved_with_the_graph(tmp_path: Path) -> None:
    scaling = rg.Scaling.fit(SERIES)
    for graph in (MIXED, scaling.fold(CLOSED, started(CLOSED))[0]):
        rg.save_graph(graph, tmp_path / "graph.json")
        loaded = rg.load_graph(tmp_path / "graph.json")
        assert loaded.graph == graph.graph
        for name, array in rg.prepare(SERIES, graph).state.items():
            close(rg.prepare(SERIES, loaded).state[name], array)


@pytest.mark.parametrize("kind", ["closed", "open", "mixed", "ahead"])
def test_a_folded_network_starts_from_scaled_samples(kind: str) -> None:
    graph = {"closed": CLOSED, "open": OPEN, "mixed": MIXED, "ahead": rg.zoo.tdnn((1, 3, 1), [[0, 2], [0]])}[kind]
    if kind == "ahead":
        graph.edges["x", "a1", 0]["delay"] = [-2, 0, 1]
    scaling, params = rg.Scaling.fit(SERIES), started(graph)
    folded, new = scaling.fold(graph, params)
    scaled, raw = rg.prepare(scaling.scale(SERIES), graph), rg.prepare(SERIES, folded)
    assert raw.dropped == scaled.dropped and raw.warmup == scaled.warmup == 0
    expected = scaling.unscale({"y": run(graph, params, scaled)})["y"]
    close(run(folded, new, raw), expected)
    close(run(folded, new, rg.windows(raw, 7)), scaling.unscale({"y": run(graph, params, rg.windows(scaled, 7))})["y"])
    twice = rg.Scaling.fit({"x": 3 * U + 1, "y": 2 * Y})
    again, last = twice.fold(folded, new)  # a network of millimetres becomes one of metres
    series = {name: twice.unscale({name: array})[name] for name, array in SERIES.items()}
    expected = twice.unscale({"y": run(folded, new, raw)})["y"]
    close(run(again, last, rg.prepare(series, again)), expected)


def test_a_folded_open_network_closes() -> None:
    scaling, params = rg.Scaling.fit(SERIES), started(OPEN)
    folded, new = rg.close_loop(*scaling.fold(OPEN, params))
    expected = run(CLOSED, params, rg.prepare(scaling.scale(SERIES), CLOSED))
    found = run(folded, new, rg.prepare(SERIES, folded))
    close(found, scaling.unscale({"y": expected})["y"])


def test_open_loop_says_why_a_folded_network_cannot_be_opened() -> None:
    folded, _ = rg.Scaling.fit(SERIES).fold(CLOSED, started(CLOSED))
    with pytest.raises(rg.GraphError, match=r"the scaling is folded in, and the loop leads through 'y_scaled'.*before"):
        rg.open_loop(folded)
    causal = rg.zoo.tdnn((1, 3, 1), [[0, 2], [0]])
    with pytest.raises(rg.GraphError, match="it is in open loop as it is"):
        rg.open_loop(rg.Scaling.fit(SERIES).fold(causal, started(causal))[0])


def test_notes_that_do_not_hold_are_passed_over() -> None:
    """A node that is gone, or of another kind: the transformations drop the note, and nothing reads one left."""
    for make in (
        rg.transpose,
        lambda graph: rg.split_layer(graph, ["y", "y_measured"], [1, 1]),
        lambda graph: rg.merge_layers(graph, {"z": ["y"]}),
    ):
        wide = rg.open_loop(rg.zoo.narx(2, 3, 2, 1, 1))
        assert "feedback" not in make(wide).graph and wide.graph["feedback"] == {"y_measured": "y"}
    assert rg.expand_delays(OPEN).graph["feedback"] == {"y_measured": "y"}
    nar = rg.close_loop(rg.zoo.nar(1, 3, 2))
    assert "clock" not in rg.transpose(nar).graph and rg.expand_delays(nar).graph["clock"] == "clock"
    stale = nx.MultiDiGraph(CLOSED)
    stale.graph.update(
        feedback={"z": "y"}, clock="z", scaled={"y": {"of": "x"}, "a": {"of": "x", "offset": ["b"], "factor": [1.0]}},
        mixed={"a": {"measured": "x", "forcing": "z", "own": "y"}, "b": 3},
    )  # fmt: skip
    notes = read_notes(stale)
    assert not notes.measured and not notes.gates and not notes.origins and notes.clock is None
    assert set(rg.prepare(SERIES, stale).state) == {"x", "y"}
