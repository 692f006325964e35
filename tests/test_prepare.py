"""``rg.prepare``: states from the first samples, against networks without delays, loops by hand, and whole runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from numpy.typing import NDArray

import rnngraph as rg
from rnngraph.errors import DataError, OptionError, RNNGraphError
from rnngraph.series.depths import steps_from_initial_values

RNG = np.random.default_rng(20)
N = 30
U, Y = RNG.normal(size=N), RNG.normal(size=N)


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def started(graph: nx.MultiDiGraph, seed: int = 0) -> tuple[rg.Kernel, Any]:
    """A float64 kernel with parameters none of which is 0, biases included."""
    kernel = rg.compile(graph, dtype="float64")
    params = kernel.init(seed)
    params.vector[:] = np.random.default_rng(seed).normal(scale=0.5, size=params.vector.size)
    return kernel, params


def test_narx_starts_from_measured_values() -> None:
    graph = rg.zoo.narx(1, 3, 1, T_x=2, T_y=4)
    data = rg.prepare({"x": U, "y": Y}, graph)
    assert data.dropped == 4 and data.lengths == (N - 4,) and data.warmup == 0 and data.weights is None
    close(data.inputs["x"][:, 0, 0], U[4:])
    close(data.targets["y"][:, 0, 0], Y[4:])
    close(data.state["x"][:, 0, 0], U[2:4])
    close(data.state["y"][:, 0, 0], Y[:4])
    kernel, params = started(graph)
    found, _ = kernel.forward(params, data.inputs, data.state)
    past = list(Y[:4])  # closed loop by hand: measured values first, then the network's own
    for t in range(4, N):
        total = params["b_a"] + sum(U[t - d] * params[f"W_d{d}"][0] for d in range(3))
        total = total + sum(past[-d] * params[f"R_d{d}"][0] for d in range(1, 5))
        past.append((np.tanh(total) @ params["V"] + params["b_y"]).item())
    close(found["y"][:, 0, 0], past[4:])


def open_narx() -> nx.MultiDiGraph:
    """NARX with the loop open: the measured output is an input, and the graph notes it."""
    graph = nx.MultiDiGraph(feedback={"y_measured": "y"})
    graph.add_node("x", kind="input", size=1)
    graph.add_node("y_measured", kind="input", size=1)
    graph.add_node("a", size=3, activation="tanh")
    graph.add_node("y", kind="output", size=1)
    graph.add_edge("x", "a", delay=[0, 2])
    graph.add_edge("y_measured", "a", delay=[1, 3])
    graph.add_edge("a", "y")
    return graph


def test_open_loop_shares_the_series_of_the_output() -> None:
    graph = open_narx()
    data = rg.prepare({"x": U, "y": Y}, graph)
    assert data.dropped == 3 and set(data.state) == {"x", "y_measured"}
    close(data.inputs["y_measured"], data.targets["y"])
    close(data.state["y_measured"][:, 0, 0], Y[:3])
    kernel, params = started(graph)
    whole, _ = kernel.forward(params, {"x": U[:, None, None], "y_measured": Y[:, None, None]})
    close(kernel.forward(params, data.inputs, data.state)[0]["y"], whole["y"][3:])
    own = rg.prepare({"x": U, "y": Y, "y_measured": 2 * Y}, graph)
    close(own.inputs["y_measured"], 2 * own.targets["y"])
    table = np.stack([U, Y], axis=1)  # in order: the shared input takes no column
    close(rg.prepare(table, graph).inputs["y_measured"], data.inputs["y_measured"])
    named = rg.prepare({"u": U, "v": Y}, graph, columns={"x": "u", "y": "v"})
    close(named.inputs["y_measured"], data.inputs["y_measured"])
    ahead = rg.prepare({"x": U, "y": Y}, graph, horizon=2)  # the target is shifted, the measured input is not
    close(ahead.inputs["y_measured"], data.inputs["y_measured"][:-2])
    close(ahead.targets["y"], data.targets["y"][2:])


def test_an_open_loop_with_classes_needs_a_series_of_its_own() -> None:
    graph = open_narx()
    with pytest.raises(DataError, match=r"node 'y_measured': found no series of its own, and binary_cross_entropy on"):
        rg.prepare({"x": U, "y": (Y > 0) * 1.0}, graph, loss="binary_cross_entropy")


@pytest.mark.parametrize("delays", [[[0, 1, 4], [0]], [[1, 3], [0, 2]], [3, 2]])
def test_tdnn_equals_the_whole_run_without_its_first_steps(delays: Any) -> None:
    """Metamorphic: after the steps that went into the state or do not count, nothing tells the two apart."""
    graph = rg.zoo.tdnn((2, 3, 1), delays)
    first, second = (max(each) if isinstance(each, list) else each for each in delays)
    x = RNG.normal(size=(N, 2))
    data = rg.prepare({"x": x, "y": Y}, graph)
    assert (data.dropped, data.warmup) == (first, second)
    kernel, params = started(graph)
    whole = kernel.forward(params, {"x": x[:, None]})[0]["y"]
    found = kernel.forward(params, data.inputs, data.state)[0]["y"]
    close(found[second:], whole[first + second :])
    if second:
        assert abs(found[:second] - whole[first : first + second]).min() > 1e-6
        assert data.weights is not None and data.weights.sum() == N - first - second
    loss = kernel.loss(params, **data)
    close(loss, np.mean((whole[first + second :, 0, 0] - Y[first + second :]) ** 2))


@pytest.mark.parametrize("seed", range(12))
def test_random_networks_without_loops_equal_the_whole_run(seed: int) -> None:
    """Layers with random delays between any two of them: whole run = prepared run, after the steps that do not
    count."""
    rng = np.random.default_rng(seed)
    graph = nx.MultiDiGraph()
    names = [f"n{k}" for k in range(int(rng.integers(3, 7)))]
    for k, name in enumerate(names):
        kind = "input" if k < 2 else "output" if k == len(names) - 1 else "unit"
        graph.add_node(
            name, size=int(rng.integers(1, 3)), kind=kind, **({} if kind == "input" else {"activation": "tanh"})
        )
    for k, name in enumerate(names[2:], start=2):
        sources = set(rng.choice(names[:k], size=min(2, k), replace=False)) | {names[k - 1]}
        for source in sorted(sources if k > 2 else names[:2]):
            graph.add_edge(source, name, delay=[int(d) for d in rng.choice(5, size=2, replace=False)])
    series = {name: rng.normal(size=(N, graph.nodes[name]["size"])) for name in (*names[:2], names[-1])}
    kernel, params = started(graph, seed)
    data = rg.prepare(series, graph)
    whole = kernel.forward(params, {name: series[name][:, None] for name in names[:2]})[0][names[-1]]
    found = kernel.forward(params, data.inputs, data.state)[0][names[-1]]
    close(found[data.warmup :], whole[data.dropped + data.warmup :])


def test_jordan_starts_from_the_measured_output() -> None:
    graph = rg.zoo.jordan(1, 3, 1)
    data = rg.prepare({"x": U, "y": Y}, graph)
    assert data.dropped == 1 and list(data.state) == ["y"]
    kernel, params = started(graph)
    first = np.tanh(U[1] * params["W"] + Y[0] * params["R"] + params["b_a"]) @ params["V"] + params["b_y"]
    close(kernel.forward(params, data.inputs, data.state)[0]["y"][0], first)


def test_an_lstm_with_input_delays_equals_one_that_reads_the_delayed_columns() -> None:
    graph = nx.MultiDiGraph()
    delays = [0, 2, 3]
    plain = rg.zoo.lstm(3, 4)
    for node, attributes in plain.nodes(data=True):
        graph.add_node(node, **{**attributes, **({"size": 1} if node == "x" else {})})
    for source, target, attributes in plain.edges(data=True):
        graph.add_edge(source, target, **{**attributes, **({"delay": delays} if source == "x" else {})})
    kernel, params = started(graph)
    data = rg.prepare({"x": U, "h": RNG.normal(size=(N, 4))}, graph)
    assert data.dropped == 3 and set(data.state) == {"x", "h"} and data.warmup == 0
    reference, weights = started(plain)
    for name, value in weights.items():
        rows = [params[f"{name}_d{d}"] for d in delays] if f"{name}_d0" in params else [params[name]]
        value[...] = np.concatenate(rows)
    stacked = np.stack([U[3 - d : N - d] for d in delays], axis=1)
    expected = reference.forward(weights, {"x": stacked[:, None]}, {"h": data.state["h"]})
    close(kernel.forward(params, data.inputs, data.state)[0]["h"], expected[0]["h"])


def two_in_two_out() -> nx.MultiDiGraph:
    graph = nx.MultiDiGraph()
    for name, kind, size in (
        ("u", "input", 1),
        ("v", "input", 2),
        ("a", "unit", 3),
        ("p", "output", 1),
        ("q", "output", 2),
    ):
        graph.add_node(name, kind=kind, size=size)
    graph.add_edge("u", "a", delay=[0, 3])
    graph.add_edge("v", "a", delay=1)
    graph.add_edge("p", "a", delay=5)
    graph.add_edge("a", "p")
    graph.add_edge("a", "q")
    return graph


def series(samples: int, batch: int = 1, seed: int = 0) -> dict[str, NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=(samples, batch, size)) for name, size in (("u", 1), ("v", 2), ("p", 1), ("q", 2))}


def test_several_inputs_and_outputs_and_sequences() -> None:
    graph = two_in_two_out()
    parts = [series(20, 1, 1), series(13, 2, 2), series(9, 1, 3)]
    data = rg.prepare(parts, graph)
    assert data.lengths == (15, 8, 8, 4) and data.inputs["v"].shape == (15, 4, 2) and data.dropped == 5
    assert {name: array.shape for name, array in data.state.items()} == {"u": (3, 4, 1), "v": (1, 4, 2), "p": (5, 4, 1)}
    assert data.weights is not None
    np.testing.assert_array_equal(data.weights.sum(axis=0), data.lengths)
    kernel, params = started(graph)
    loss, gradient = kernel.loss_and_gradient(params, **data)
    single = [rg.prepare(part, graph) for part in parts]
    shares = [sum(part.lengths) / sum(data.lengths) for part in single]
    found = [kernel.loss_and_gradient(params, **part) for part in single]
    close(loss, sum(share * each[0] for share, each in zip(shares, found, strict=True)))
    close(gradient.vector, sum(share * each[1].vector for share, each in zip(shares, found, strict=True)))
    # only some outputs learned: the other one is fed back, its series fills its state all the same
    some = rg.prepare(parts[0], graph, loss={"q": "mse"})
    assert set(some.targets) == {"q"} and set(some.state) == {"u", "v", "p"}
    without = rg.prepare({name: parts[0][name] for name in "uvq"}, graph, loss={"q": "mse"})
    assert without.dropped == 3 and set(without.state) == {"u", "v"}


def test_forms_of_series_and_tables(tmp_path: Path) -> None:
    graph = two_in_two_out()
    columns = {name: RNG.normal(size=N) for name in ("time", "u", "v1", "v2", "p", "q1", "q2")}
    chosen = {"v": ["v1", "v2"], "q": ["q1", "q2"]}
    expected = rg.prepare(
        {
            "u": columns["u"], "p": columns["p"][:, None],
            "v": np.stack([columns["v1"], columns["v2"]], 1), "q": np.stack([columns["q1"], columns["q2"]], 1)[:, None],
        },
        graph,
    )  # fmt: skip
    structured = np.zeros(N, dtype=[(name, float) for name in columns])
    for name, column in columns.items():
        structured[name] = column

    class Frame:
        """What pandas and polars have in common."""

        def __init__(self) -> None:
            self.columns = list(columns)

        def __getitem__(self, name: str) -> Any:
            return structured[name]

    table = np.stack([columns[name] for name in ("u", "v1", "v2", "p", "q1", "q2")], axis=1)
    np.savetxt(
        tmp_path / "a.csv", np.stack(list(columns.values()), 1), delimiter=",", header=",".join(columns), comments=""
    )
    loaded = rg.load_table(tmp_path / "a.csv")
    for given, names in (
        (columns, chosen), (structured, chosen), (Frame(), chosen), (loaded, chosen),
        (table, None), (table.tolist, None),
        ({name: columns[name] for name in list(columns)[1:]}, "in order"),
    ):  # fmt: skip
        found = rg.prepare([table.tolist()] if callable(given) else given, graph, columns=names)
        for what in ("inputs", "targets", "state"):
            for name, array in expected[what].items():
                close(found[what][name], array)


def test_two_axes_of_a_node_of_one_unit_are_sequences() -> None:
    graph = rg.zoo.narx(1, 3, 1, 1, 1)
    data = rg.prepare({"x": np.stack([U, Y], 1), "y": np.stack([Y, U], 1)}, graph)
    assert data.inputs["x"].shape == (N - 1, 2, 1) and data.lengths == (N - 1, N - 1)


def test_types_are_kept_and_integers_become_floating() -> None:
    graph = rg.zoo.tdnn((1, 1), [2])
    data = rg.prepare({"x": U.astype(np.float32), "y": np.arange(N)}, graph)
    assert data.inputs["x"].dtype == data.state["x"].dtype == np.float32 and data.targets["y"].dtype == np.float64


def test_fill_initial_keeps_all_samples() -> None:
    graph = rg.zoo.narx(1, 3, 1, 2, 4)
    data = rg.prepare({"x": U, "y": Y}, graph, fill="initial")
    assert data.dropped == 0 and data.state == {} and data.weights is None
    kernel, params = started(graph)
    close(
        kernel.forward(params, data.inputs, data.state)[0]["y"], kernel.forward(params, {"x": U[:, None, None]})[0]["y"]
    )


def test_horizon_shifts_the_targets() -> None:
    data = rg.prepare({"x": U, "y": Y}, rg.zoo.tdnn((1, 2, 1), [3, 0]), horizon=2)
    close(data.inputs["x"][:, 0, 0], U[3 : N - 2])
    close(data.targets["y"][:, 0, 0], Y[5:])
    two = rg.prepare(series(20), two_in_two_out(), horizon={"q": 3})
    assert two.inputs["u"].shape[0] == 20 - 5 - 3
    close(two.targets["p"], series(20)["p"][5:-3])
    close(two.targets["q"], series(20)["q"][8:])
    fed_back = rg.prepare({"x": U, "y": Y}, rg.zoo.jordan(1, 2, 1), horizon=1)  # y(0) stands for the sample at 1
    close(fed_back.state["y"][:, 0, 0], Y[1:2])
    close(fed_back.targets["y"][:, 0, 0], Y[2:])


def test_nodes_that_are_no_strings() -> None:
    graph = nx.relabel_nodes(rg.zoo.tdnn((1, 2, 1), [3, 0]), {"x": 1, "y": 2})
    data = rg.prepare({1: U, 2: Y}, graph, horizon={2: 1})
    close(data.targets["2"][:, 0, 0], Y[4:])


def test_classes() -> None:
    graph = rg.zoo.lstm(1, 4, 3)
    labels = RNG.integers(0, 3, size=N)
    data = rg.prepare({"x": U, "y": labels}, graph, loss="cross_entropy")
    assert data.targets["y"].dtype == np.int64 and data.targets["y"].shape == (N, 1)
    kernel = rg.compile(graph, loss="cross_entropy")
    assert np.isfinite(kernel.loss(kernel.init(), **data))
    both = rg.prepare({"x": np.stack([U, U], 1), "y": np.stack([labels, labels], 1)}, graph, loss="cross_entropy")
    np.testing.assert_array_equal(both.targets["y"], np.stack([labels, labels], 1))
    # logits that are fed back: a class is no value of theirs
    fed_back = rg.prepare({"x": U, "y": labels}, rg.zoo.jordan(1, 2, 3), loss="cross_entropy")
    assert fed_back.state == {} and fed_back.dropped == 0


def test_weights_are_cut_along() -> None:
    graph = rg.zoo.tdnn((1, 2, 1), [2, 1])
    weights = RNG.random(N)
    data = rg.prepare({"x": U, "y": Y}, graph, weights=weights)
    assert data.weights is not None
    np.testing.assert_array_equal(data.weights[:, 0], [0.0, *weights[3:]])
    free = rg.prepare([{"x": U, "y": Y}] * 2, graph, weights=[weights, None], warmup=0, horizon=1)
    assert free.weights is not None
    np.testing.assert_array_equal(free.weights, np.stack([weights[2:-1], np.ones(N - 3)], 1))
    masked = rg.prepare({"x": U, "y": Y}, graph, warmup=5)
    assert masked.weights is not None and np.flatnonzero(masked.weights[:, 0])[0] == 5


def test_given_arrays_stay_as_they_are() -> None:
    given = {"x": U.copy(), "y": Y.copy()}
    graph = rg.zoo.narx(1, 3, 1, 2, 4)
    before = nx.utils.graphs_equal(graph, graph.copy())
    rg.windows(rg.prepare(given, graph), 5)
    np.testing.assert_array_equal(given["x"], U)
    np.testing.assert_array_equal(given["y"], Y)
    assert before and set(given) == {"x", "y"}


def test_prints_and_is_a_mapping() -> None:
    graph = rg.zoo.tdnn((1, 2, 1), [2, 1])
    data = rg.prepare([{"x": U, "y": Y}, {"x": U[:9], "y": Y[:9]}], graph)
    assert str(data).splitlines() == [
        "2 sequences of 7 to 28 steps; 2 samples went into the state",
        "  input   x  (28, 2, 1)",
        "  target  y  (28, 2, 1)",
        "  state   x  (2, 2, 1)",
        "  weights: 33 of 56 steps count",
    ]
    assert data.data == (data.inputs, data.targets, data.weights, data.state)
    assert dict(data) == {"inputs": data.inputs, "targets": data.targets, "weights": data.weights, "state": data.state}
    with pytest.raises(KeyError):
        data["lengths"]


def test_steps_that_depend_on_initial_values() -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=1)
    for name in "abc":
        graph.add_node(name, size=1)
    graph.add_node("y", kind="output", size=1)
    graph.add_edge("x", "a", delay=9)
    graph.add_edge("a", "b", delay=[0, 3])
    graph.add_edge("a", "c", delay=1)
    graph.add_edge("b", "y", delay=2)
    graph.add_edge("c", "y", delay=6)
    model = rg.validate(graph)
    assert steps_from_initial_values(model, {"x"}, ["y"]) == 7
    assert steps_from_initial_values(model, {"x", "a"}, ["y"]) == 6
    assert steps_from_initial_values(model, (), ["y"]) == 9 + 7
    graph.add_edge("c", "c", delay=1)  # a loop starts from its value by design, what reaches it late does not
    assert steps_from_initial_values(rg.validate(graph), {"x"}, ["y"]) == 7
    assert steps_from_initial_values(rg.validate(graph), {"x", "a"}, ["y"]) == 2
    graph.add_nodes_from("de", size=1)  # a loop of two nodes, read late
    graph.add_edge("a", "d", delay=1)
    graph.add_edge("d", "e")
    graph.add_edge("e", "d", delay=1)
    graph.add_edge("e", "y", delay=8)
    assert steps_from_initial_values(rg.validate(graph), {"x", "a"}, ["y"]) == 2
    graph.nodes["b"]["initial"] = "parameter"
    assert steps_from_initial_values(rg.validate(graph), {"x", "a"}, ["y"]) == 0


NARX = rg.zoo.narx(1, 3, 1, 2, 4)
HOLE = np.where(np.arange(N) == 7, np.nan, U)


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ({"x": U}, {}, r"series, node 'y': found no column 'y'; expected one of \['x'\]; remedy: name the columns"),
        ({"x": U, "y1": Y}, {}, "no column 'y'; .*did you mean 'y1'"),
        (
            {"x": U, "y": Y[:9]},
            {},
            "node 'y': found 9 samples of 1 sequences; expected 30 samples of 1 sequences, as node 'x'",
        ),
        (
            {"x": HOLE, "y": Y},
            {},
            r"series 'x': found nan at \[7\]; expected finite numbers; remedy: for gaps, pass missing='mask'",
        ),
        ({"x": U, "y": list("ab")}, {}, "series 'y': found dtype <U1; expected real numbers"),
        ({"x": np.ones((N, 1, 2)), "y": Y}, {}, "node 'x': found 2 columns; expected 1, one per unit"),
        ({"x": np.ones((N, 1, 1, 1)), "y": Y}, {}, "'x': found 4 axes"),
        ({"x": 3.0, "y": Y}, {}, "'x': found 0 axes"),
        ({"x": U[:0], "y": Y[:0]}, {}, r"shape \(0, 1, 1\); expected at least one sample"),
        (
            {"x": U[:4], "y": Y[:4]},
            {},
            "found 4 samples; expected at least 5: 4 for the state, and one step; remedy: give a longer",
        ),
        ({"x": U, "y": Y}, {"horizon": 27, "fill": "initial", "warmup": 3}, "found 3 steps, of which"),
        ({"x": U, "y": Y}, {"horizon": 30, "fill": "initial"}, "at least 31: 0 for the state and 30 for the horizon"),
        (
            {"x": U, "y": Y},
            {"fill": "sample"},
            "fill: found 'sample'; expected 'samples' or 'initial'; remedy: did you mean 'samples'",
        ),
        ({"x": U, "y": Y}, {"horizon": -1}, "horizon: found -1"),
        ({"x": U, "y": Y}, {"horizon": {"z": 1}}, "horizon: found the name 'z'"),
        ({"x": U, "y": Y}, {"missing": "masked"}, "missing: found 'masked'; .*did you mean 'mask'"),
        ({"x": np.where(U > 1, np.inf, U), "y": Y}, {"missing": "mask"}, "found inf at .* or by NaN as a gap"),
        ({"x": U, "y": Y * np.nan}, {"missing": "mask"}, "a gap in what each step reads, or in its target"),
        ({"x": U, "y": Y}, {"tail": -1}, "tail: found -1"),
        ({"x": U, "y": Y}, {"tail": 20, "warmup": 7}, "the first 7 and the last 20 do not count"),
        (
            {"x": U, "y": Y},
            {"horizon": 3},
            "horizon: found 3 with the output 'y', which 'a' reads with delay 1; expected a horizon of at most 1",
        ),
        ({"x": U, "y": Y}, {"warmup": 26}, "found 26 steps, of which the first 26 do not count; expected at least 27"),
        ({"x": U, "y": Y}, {"weights": U}, r"weights: found -.* at \[0, 0\]; expected weights >= 0"),
        ({"x": U, "y": Y}, {"weights": np.ones(9)}, r"weights: found shape \(9, 1\); expected shape \(30, 1\)"),
        ({"x": U, "y": Y}, {"columns": {"z": "x"}}, "columns: found the node 'z'"),
        ({"x": U, "y": Y}, {"columns": "x"}, "columns: found 'x'; expected a mapping"),
        ({"x": U, "y": Y}, {"columns": {"x": "u"}}, "no column 'u'"),
        ({"x": U, "y": Y}, {"columns": {"x": ["x", "y"]}}, "node 'x': found 2 columns"),
        ({}, {}, "series: found no series"),
        (7, {}, "series: found an object of type int; expected a mapping"),
        (U, {}, r"series: found an array of shape \(30,\)"),
        (np.ones((N, 3)), {}, r"series: found 3 columns; expected 2 \(x: 1, y: 1\)"),
        ([], {}, "series: found an empty list"),
        ([{"x": U, "y": Y}, {"x": U}], {}, r"series\[1\], node 'y': found no column 'y'"),
        ([{"x": U, "y": Y}] * 2, {"weights": U}, "weights: found a ndarray; expected a list of 2"),
        ([{"x": U, "y": Y}] * 2, {"weights": [U]}, "weights: found 1 arrays"),
        ({"x": np.ma.masked_array(U), "y": Y}, {}, "masked array"),
        ({"x": U, "y": Y}, {"loss": {"z": "mse"}}, "loss: found the output 'z'"),
    ],
)
def test_bad_series_and_options(given: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises((DataError, OptionError), match=message):
        rg.prepare(given, NARX, **options)


def test_wrong_classes() -> None:
    graph = rg.zoo.lstm(1, 4, 3)
    for wrong in (3.0, -1.0, 0.5):
        with pytest.raises(DataError, match=r"node 'y': found values from .*; expected the number of a class, 0..2"):
            rg.prepare({"x": U, "y": np.full(N, wrong)}, graph, loss="cross_entropy")
    with pytest.raises(RNNGraphError, match="found 2 columns; expected one number of a class"):
        rg.prepare({"x": U, "y": np.zeros((N, 1, 2))}, graph, loss="cross_entropy")


def test_a_clock_needs_no_series() -> None:
    """An input whose values mean nothing, as the graph notes it: a network without other inputs in closed loop."""
    graph = nx.MultiDiGraph(clock="clock")
    graph.add_node("clock", kind="input", size=1)
    graph.add_node("y", kind="output", size=1)
    graph.add_edge("clock", "y", structure="fixed", value=[[0.0]])
    graph.add_edge("y", "y", delay=[1, 2])
    data = rg.prepare({"y": Y}, graph)
    assert data.inputs["clock"].shape == (N - 2, 1, 1) and not data.inputs["clock"].any()
    table = rg.prepare(Y[:, None], graph)
    close(table.targets["y"], data.targets["y"])
    scaling = rg.Scaling.fit({"y": Y})
    kernel = rg.compile(graph, dtype="float64")
    folded, params = scaling.fold(graph, kernel.init())
    assert set(params) == {"W_y_y_d1", "W_y_y_d2", "b_y", "offset_y"} and "clock_scaled" not in folded
