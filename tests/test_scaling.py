"""``rg.Scaling``: moments by hand, the way back, files, and networks in the units of the data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from random_graphs import random_graph, random_problem

import rnngraph as rg
from rnngraph.errors import DataError, OptionError

RNG = np.random.default_rng(23)
X = np.array([3.0, -50.0]) + np.array([0.1, 20.0]) * RNG.normal(size=(30, 2))
Y = 7.0 + RNG.normal(size=30)


def test_standard_scaling_by_hand() -> None:
    scaling = rg.Scaling.fit({"x": X, "y": Y})
    scaled = scaling.scale({"x": X, "y": Y})
    np.testing.assert_allclose(scaled["x"], (X - X.mean(0)) / X.std(0), rtol=1e-12)
    np.testing.assert_allclose(scaled["y"], (Y - Y.mean()) / Y.std(), rtol=1e-12)
    back = scaling.unscale(scaled)
    np.testing.assert_allclose(back["x"], X, rtol=1e-14)
    np.testing.assert_allclose(scaling.scale({"x": X[:, None]})["x"][:, 0], scaled["x"])  # time-major
    np.testing.assert_allclose(scaling.scale({"x": X[3]})["x"], scaled["x"][3])  # one step
    assert scaling.scale({"y": Y.astype(np.float32)})["y"].dtype == np.float32
    assert scaling.scale({"y": np.arange(3)})["y"].dtype == np.float64


def test_minmax_scaling_and_several_sequences() -> None:
    parts = [{"x": X[:10, None]}, {"x": X[10:, None]}]
    scaling = rg.Scaling.fit(parts, "minmax")
    scaled = scaling.scale({"x": X})["x"]
    np.testing.assert_allclose([scaled.min(0), scaled.max(0)], [[-1, -1], [1, 1]], rtol=1e-12)
    scaled = rg.Scaling.fit({"x": X}, "minmax", limits=(0.0, 2.0)).scale({"x": X})["x"]
    np.testing.assert_allclose([scaled.min(0), scaled.max(0)], [[0, 0], [2, 2]], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["standard", "minmax"])
@pytest.mark.parametrize("value", [0.1, 0.0, -1e300])
def test_constant_units_are_named_and_divided_by_one(kind: str, value: float) -> None:
    x = np.stack([np.full(30, value), Y], axis=1)
    scaling = rg.Scaling.fit({"x": x}, kind)
    assert scaling.constant == {"x": (0,)} and "constant, factor 1: unit 0" in str(scaling)
    scaled = scaling.scale({"x": x})
    assert not scaled["x"][:, 0].any()
    np.testing.assert_array_equal(scaling.unscale(scaled)["x"][:, 0], x[:, 0])


def test_values_that_differ_by_rounding_alone_are_constant() -> None:
    x = np.where(np.arange(30) % 2, 0.1 + 0.2, 0.3)
    assert rg.Scaling.fit({"x": x}).constant == {"x": (0,)}


def test_names_left_alone() -> None:
    labels = np.arange(30) % 3
    scaling = rg.Scaling.fit({"x": X, "y": labels}, leave=["y"])
    assert scaling.scale({"y": labels})["y"] is labels
    assert str(scaling).splitlines()[-1] == "  y  as it is"


def test_save_and_load(tmp_path: Path) -> None:
    path = tmp_path / "scaling.json"
    scaling = rg.Scaling.fit({"x": X, "y": Y, "c": np.ones(30)}, "minmax", leave=["c"])
    scaling.save(path)
    loaded = rg.Scaling.load(path)
    assert str(loaded) == str(scaling) and loaded.left == ("c",) and loaded.kind == "minmax"
    for name in ("x", "y"):
        np.testing.assert_array_equal(
            loaded.scale({name: {"x": X, "y": Y}[name]})[name], scaling.scale({"x": X, "y": Y})[name]
        )
    content = json.loads(path.read_text("utf-8"))
    for change, message in (
        ({"format": "other"}, "JSON of something else"),
        ({"offset": 3}, "a scaling that cannot be read"),
        ({"factor": {}}, "numbers of 'x' that are no scaling"),
        ({"factor": {"x": [0.0, 1.0], "y": [1.0]}}, "numbers of 'x' that are no scaling"),
        ({"offset": {"x": ["a", 1.0]}}, "a scaling that cannot be read"),
        ({"left": None}, "a scaling that cannot be read"),
    ):
        path.write_text(json.dumps({**content, **change}), "utf-8")
        with pytest.raises(DataError, match=message):
            rg.Scaling.load(path)
    path.write_text("{", "utf-8")
    with pytest.raises(DataError, match="no valid JSON"):
        rg.Scaling.load(path)
    with pytest.raises(DataError, match="No such file"):
        rg.Scaling.load(tmp_path / "none.json")


HOLE = X.copy()
HOLE[4, 1] = np.nan


@pytest.mark.parametrize(
    ("series", "options", "message"),
    [
        (
            {"x": HOLE},
            {},
            r"series 'x': found nan at \[4, 1\]; expected finite numbers; remedy: for gaps, pass missing='mask'",
        ),
        ([{"x": X}, {"x": HOLE}], {}, r"series 'x' of sequence 1: found nan at \[4, 1\]"),
        ([{"x": X}, {"y": X}], {}, "series 'x' of sequence 1: found no such series"),
        ({"x": list("ab")}, {}, "series 'x': found dtype <U1"),
        ({"x": 3.0}, {}, r"series 'x': found shape \(\)"),
        ({"x": X[:0]}, {}, r"series 'x': found shape \(0, 2\)"),
        ([], {}, "found an empty list"),
        ({"x": X}, {"kind": "minmaks"}, "kind: found 'minmaks'; .* did you mean 'minmax'"),
        ({"x": X}, {"limits": (1, 1)}, r"limits: found \(1, 1\)"),
        ({"x": X}, {"limits": 5}, "limits: found 5; expected two finite numbers"),
        ({"x": X}, {"limits": ("a", "b")}, r"limits: found \('a', 'b'\)"),
        ({"x": X}, {"limits": (1, 2, 3)}, "limits: found"),
        ({"x": X}, {"limits": ((1, 2), (3, 4))}, "limits: found"),
        ({"x": X}, {"missing": "fill"}, "missing: found 'fill'"),
        ({"x": X}, {"leave": ["y"]}, "leave: found 'y'"),
    ],
)
def test_what_cannot_be_fitted(series: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises((DataError, OptionError), match=message):
        rg.Scaling.fit(series, **options)


def test_what_cannot_be_scaled() -> None:
    scaling = rg.Scaling.fit({"x": X, "speed": Y})
    for series, message in (
        (Y, r"series: found an array of shape \(30,\)"),
        (7, "series: found an object of type int"),
        ({"sped": Y}, "found the unknown name 'sped'; .* did you mean 'speed'"),
        ({"x": Y}, r"series 'x': found shape \(30,\); expected 2 units along the last axis"),
        ({"x": HOLE}, r"series 'x': found nan at \[4, 1\]"),
    ):
        with pytest.raises(DataError, match=message):
            scaling.scale(series)
        with pytest.raises(DataError, match=message):
            scaling.unscale(series)


def test_what_fit_takes_scale_takes() -> None:
    structured = np.zeros(30, dtype=[("u", float), ("y", float)])
    structured["u"], structured["y"] = X[:, 0], Y
    table = np.stack([X[:, 0], Y], axis=1)
    for series in (structured, table, [{"u": X[:, 0], "y": Y}, {"u": X[:5, 0], "y": Y[:5]}]):
        scaling = rg.Scaling.fit(series)
        scaled = scaling.scale(series)
        back = scaling.unscale(scaled)
        if isinstance(series, list):
            assert [list(entry) for entry in scaled] == [["u", "y"]] * 2
            np.testing.assert_allclose(back[1]["y"], Y[:5], rtol=1e-12)
        elif series is table:
            np.testing.assert_allclose(scaled.mean(axis=0), [0, 0], atol=1e-12)
            np.testing.assert_allclose(back, table, rtol=1e-12)
        else:
            np.testing.assert_allclose(back["y"], Y, rtol=1e-12)


def test_gaps_are_left_out_and_stay() -> None:
    for kind in ("standard", "minmax"):
        scaling = rg.Scaling.fit({"x": HOLE}, kind, missing="mask")
        known = rg.Scaling.fit({"x": np.delete(HOLE, 4, axis=0)}, kind)
        np.testing.assert_allclose(scaling.offset["x"][1], known.offset["x"][1], rtol=1e-12)
        np.testing.assert_allclose(scaling.factor["x"][1], known.factor["x"][1], rtol=1e-12)
        scaled = scaling.scale({"x": HOLE}, missing="mask")
        np.testing.assert_array_equal(np.isnan(scaled["x"]), np.isnan(HOLE))
        np.testing.assert_allclose(scaling.unscale(scaled, missing="mask")["x"], HOLE, rtol=1e-12)
        assert rg.Scaling.fit({"x": Y * np.nan}, kind, missing="mask").constant == {"x": (0,)}


def test_a_measured_output_has_the_scale_of_the_output() -> None:
    scaling = rg.Scaling.fit({"x": Y, "y": 3 * Y})
    graph = rg.mix_feedback(rg.zoo.narx(1, 2, 1, 1, 1))
    series = {"x": Y, "y_measured": 3 * Y, "y_forcing": np.ones(30)}
    with pytest.raises(
        DataError, match=r"'y_measured'.*; for an input that open_loop or mix_feedback added, pass graph"
    ):
        scaling.scale(series)
    scaled = scaling.scale(series, graph=graph)
    np.testing.assert_allclose(scaled["y_measured"], scaling.scale({"y": 3 * Y})["y"])
    assert scaled["y_forcing"] is series["y_forcing"]


# Folding.


def check_fold(graph: nx.MultiDiGraph, seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(graph, seed, T=9, batch=2, with_state=False)
    sizes = dict(graph.nodes(data="size"))
    ends = [node for node, kind in graph.nodes(data="kind") if kind in ("input", "output")]
    scaling = rg.Scaling.fit({str(node): rng.normal(rng.normal() * 10, 5, size=(20, sizes[node])) for node in ends})
    before = nx.node_link_data(graph, edges="edges")
    folded, params = scaling.fold(graph, problem.parameters)
    assert str(nx.node_link_data(graph, edges="edges")) == str(before)
    raw = scaling.unscale(problem.inputs)
    kernel, other = rg.compile(graph, dtype="float64"), rg.compile(folded, dtype="float64")
    outputs, state = kernel.forward(problem.parameters, problem.inputs)
    expected = scaling.unscale(outputs)
    # Rounding is relative to the size of the offsets; a network may enlarge it.
    scale = {name: max(1.0, float(np.abs(array).max())) for name, array in expected.items()}
    found, last = other.forward(params, raw)
    for name, array in expected.items():
        assert np.abs(found[name] - array).max() <= 1e-12 * scale[name], f"seed {seed}, output {name!r}"
    # The state goes on in scaled units, under the names of the new nodes.
    assert len(last) == len(state)
    inner = {str(end): next(iter((*folded.predecessors(end), *folded.successors(end)))) for end in ends}
    carried = {str(inner.get(name, name)): array for name, array in state.items()}
    found, _ = other.forward(params, raw, carried)
    again = scaling.unscale(kernel.forward(problem.parameters, problem.inputs, state)[0])
    for name, array in again.items():
        assert np.abs(found[name] - array).max() <= 1e-12 * scale[name], f"seed {seed}, output {name!r}, from a state"


@pytest.mark.parametrize("name", sorted(rg.zoo.NETWORKS))
def test_folded_networks_of_the_zoo(name: str) -> None:
    check_fold(rg.zoo.example(name), 0)


@pytest.mark.parametrize("seed", range(8))
def test_folded_random_networks(seed: int) -> None:
    check_fold(random_graph(seed), seed)


def test_folding_keeps_names_that_come_from_a_node() -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    graph.add_node("x_scaled", size=2)
    graph.add_node("y", kind="output", size=2, initial="parameter", equation="p*s")
    graph.add_edge("x", "x_scaled", delay=[0, 2])
    graph.add_edge("x", "y", port="p")
    graph.add_edge("x_scaled", "y")
    graph.add_edge("y", "y", structure="diagonal", delay=1)
    check_fold(graph, 1)
    scaling = rg.Scaling.fit({"x": X, "y": X})
    kernel = rg.compile(graph, dtype="float64")
    folded, params = scaling.fold(graph, kernel.init())
    kept = {"W_x_x_scaled_d0", "W_x_x_scaled_d2", "b_x_scaled", "W_x_scaled_y", "W_y_y", "b_y"}
    assert set(params) == kept | {"y_0", "offset_x", "offset_y"}
    assert {node for node, kind in folded.nodes(data="kind") if kind in ("input", "output")} == {"x", "y"}


def test_a_measured_output_is_scaled_as_the_output_and_classes_stay() -> None:
    graph = nx.MultiDiGraph(feedback={"y_measured": "y"})
    for name, kind, size in (("x", "input", 1), ("y_measured", "input", 2), ("y", "output", 2), ("label", "output", 3)):
        graph.add_node(name, kind=kind, size=size)
    graph.add_edge("x", "y", delay=2)
    graph.add_edge("y_measured", "y", delay=1)
    graph.add_edge("x", "label")
    kernel = rg.compile(graph, dtype="float64")
    params = kernel.init()
    scaling = rg.Scaling.fit({"x": Y, "y": X, "label": np.arange(30) % 3}, leave=["label"])
    folded, new = scaling.fold(graph, params)
    assert "label_scaled" not in folded and folded.graph["feedback"] == graph.graph["feedback"]
    found, _ = rg.compile(folded, dtype="float64").forward(new, {"x": Y[:, None, None], "y_measured": X[:, None]})
    scaled = scaling.scale({"x": Y[:, None, None], "y": X[:, None]})
    expected, _ = kernel.forward(params, {"x": scaled["x"], "y_measured": scaled["y"]})
    np.testing.assert_allclose(found["y"], scaling.unscale({"y": expected["y"]})["y"], rtol=1e-12)
    np.testing.assert_allclose(found["label"], expected["label"], rtol=1e-12)


def test_what_cannot_be_folded() -> None:
    graph = rg.zoo.elman(2, 3, 1)
    params = rg.compile(graph).init()
    with pytest.raises(DataError, match=r"output 'y': found no scaling of this name; .* there is \['x'\]"):
        rg.Scaling.fit({"x": X}).fold(graph, params)
    with pytest.raises(DataError, match="input 'x': found a scaling of 1 units; expected 2"):
        rg.Scaling.fit({"x": Y, "y": Y}).fold(graph, params)
    with pytest.raises(DataError, match="params: found those of"):
        rg.Scaling.fit({"x": X, "y": Y}).fold(graph, {"W": params["W"]})
