"""Learned delays: they find planted ones; ``harden`` and ``set_temperature``."""

from __future__ import annotations

import math
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
import pytest
import reference

import rnngraph as rg
from examples import learned_delays
from rnngraph.delays import MIN_TEMPERATURE

Array = npt.NDArray[Any]
MASK = np.array([[1, 0, 0, 1], [0, 1, 1, 1], [1, 1, 1, 0]])


def graph(temperature: float = 1.0) -> nx.MultiDiGraph:
    """Every structure that can have a learned delay; W is read by an edge with a plain delay, too."""
    found = nx.MultiDiGraph()
    found.add_node("x", kind="input", size=3)
    found.add_node("a", size=4, activation="tanh")
    found.add_node("y", kind="output", size=4)
    learned = {"max": 4, "learned": True, "temperature": temperature}
    found.add_edge("x", "a", delay=learned, parameter="W", structure="masked", mask=MASK)
    found.add_edge("x", "y", delay=1, parameter="W")
    found.add_edge("a", "a", delay={**learned, "shared": True})
    found.add_edge("a", "a", delay={**learned, "parameter": "beta"}, structure="diagonal", parameter="D")
    found.add_edge("a", "y", delay={**learned, "min": 0}, expression="V*sigmoid(G)", label="drawn")
    found.add_edge("a", "y", delay={**learned, "min": 0, "parameter": "gamma"}, structure="identity")
    return found


EDGES = [("x", "a", 0), ("a", "a", 0), ("a", "a", 1), ("a", "y", 0), ("a", "y", 1)]
FIRST = {EDGES[0]: 1, EDGES[1]: 1, EDGES[2]: 1, EDGES[3]: 0, EDGES[4]: 0}
LOGITS = dict(zip(EDGES, ["alpha_W", "alpha_a_a", "beta", "alpha_a_y", "gamma"], strict=True))


def draw(network: nx.MultiDiGraph, seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape) for name, shape in rg.validate(network).parameters.items()}


def inputs(T: int = 20) -> dict[str, Array]:
    return {"x": np.random.default_rng(9).normal(size=(T, 2, 3))}


# ------------------------------------------------------------------------------------------------------------- harden


def test_harden_is_the_limit_of_low_temperature() -> None:
    """The softmax of a very low temperature is 1 at the largest logit: the outputs stay as they are."""
    network = graph(1e-4)
    params = draw(network)
    hard = rg.harden(network, params, inputs())
    assert hard.change == {"y": 0.0}
    before, _ = rg.compile(network, dtype="float64").forward(params, inputs())
    after, _ = rg.compile(hard.graph, dtype="float64").forward(hard.params, inputs())
    np.testing.assert_allclose(after["y"], before["y"], atol=1e-13)


def test_hardened_delays_by_hand() -> None:
    params = draw(graph())
    hard = rg.harden(graph(), params)
    assert list(hard.delays) == EDGES == list(hard.certainty)
    for edge in EDGES:
        logits = params[LOGITS[edge]]
        found, sure = hard.delays[edge], hard.certainty[edge]
        assert found.dtype == np.int64
        for row, column in np.ndindex(found.shape):
            each = np.ravel(logits[:, row, column] if logits.ndim == 3 else logits[:, column])
            if edge == EDGES[0] and not MASK[row, column]:
                assert math.isnan(sure[row, column])
                continue
            assert found[row, column] == FIRST[edge] + int(np.argmax(each))
            p = np.exp(each) / np.exp(each).sum()
            assert sure[row, column] == pytest.approx(p.max(), rel=1e-12)
    assert [hard.delays[edge].shape for edge in EDGES] == [(3, 4), (1, 1), (1, 4), (4, 4), (1, 4)]
    attributes = hard.graph.edges[EDGES[1]]
    assert attributes["delay"] == int(hard.delays[EDGES[1]][0, 0]) and type(attributes["delay"]) is int
    assert hard.graph.edges[EDGES[3]]["label"] == "drawn"
    np.testing.assert_array_equal(hard.graph.edges[EDGES[0]]["delay"], hard.delays[EDGES[0]])


def test_harden_keeps_parameters_and_the_callers_graph() -> None:
    network = graph()
    before = {(u, v, k): dict(edge) for u, v, k, edge in network.edges(keys=True, data=True)}
    params = draw(network)
    copies = {name: value.copy() for name, value in params.items()}
    hard = rg.harden(network, params)
    assert {(u, v, k): d for u, v, k, d in network.edges(keys=True, data=True)} == before
    assert hard.removed == ("alpha_W", "alpha_a_a", "beta", "alpha_a_y", "gamma")
    assert list(hard.params) == ["W", "W_a_a", "D", "G", "V", "b_a", "b_y"]
    for name, value in hard.params.items():
        np.testing.assert_array_equal(value, copies[name])
        value[...] = 7.0  # its own
    for name, value in params.items():
        np.testing.assert_array_equal(value, copies[name])
    # They are all that the hardened network needs, and they can be trained on.
    kernel = rg.compile(hard.graph, dtype="float64")
    assert set(kernel.parameter_shapes) == set(hard.params)
    assert rg.verify(hard.graph).passed


@pytest.mark.parametrize("seed", range(3))
def test_change_is_that_of_the_reference(seed: int) -> None:
    network = graph(0.5)
    params = draw(network, seed)
    hard = rg.harden(network, params, inputs())
    before, _ = reference.forward(network, params, inputs())
    after, _ = reference.forward(hard.graph, hard.params, inputs())
    expected = np.linalg.norm(after["y"] - before["y"]) / np.linalg.norm(before["y"])
    assert hard.change is not None and 0.01 < expected == pytest.approx(hard.change["y"], rel=1e-9)


def test_some_edges_alone() -> None:
    params = draw(graph())
    hard = rg.harden(graph(), params, edges=[("a", "a", 1), ("x", "a")])
    assert set(hard.delays) == {EDGES[0], EDGES[2]} and hard.removed == ("alpha_W", "beta")
    assert hard.graph.edges[EDGES[1]]["delay"] == graph().edges[EDGES[1]]["delay"]
    again = rg.harden(hard.graph, hard.params)
    whole = rg.harden(graph(), params)
    assert set(again.delays) == {EDGES[1], EDGES[3], EDGES[4]}
    for key in again.delays:
        np.testing.assert_array_equal(again.delays[key], whole.delays[key])


def test_logits_that_two_edges_share_go_with_the_last_of_them() -> None:
    network = nx.MultiDiGraph()
    network.add_node("x", kind="input", size=2)
    network.add_node("y", kind="output", size=2)
    for parameter in "UV":
        network.add_edge("x", "y", parameter=parameter, delay={"max": 3, "learned": True, "parameter": "alpha"})
    params = draw(network)
    one = rg.harden(network, params, edges=[("x", "y", 0)])
    assert one.removed == () and "alpha" in one.params
    both = rg.harden(one.graph, one.params)
    assert both.removed == ("alpha",)
    np.testing.assert_array_equal(one.delays["x", "y", 0], both.delays["x", "y", 1])


def test_a_tie_and_agreement() -> None:
    """Equal logits: the first delay. Where all pairs agree, the delay is a plain number."""
    network = nx.MultiDiGraph()
    network.add_node("x", kind="input", size=2)
    network.add_node("y", kind="output", size=2)
    network.add_edge("x", "y", delay={"min": -1, "max": 2, "learned": True})
    hard = rg.harden(network, {**draw(network), "alpha_x_y": np.zeros((4, 2, 2))})
    assert hard.graph.edges["x", "y", 0]["delay"] == -1
    np.testing.assert_allclose(hard.certainty["x", "y", 0], 0.25)


@pytest.mark.parametrize("other", [None, 2, "learned"])
def test_an_initial_value_that_no_delay_reads_any_more_goes(other: Any) -> None:
    """``other``: the delay of another edge out of the node, which keeps its initial value."""
    network = nx.MultiDiGraph()
    network.add_node("x", kind="input", size=2)
    network.add_node("a", size=2, activation="tanh", initial="parameter")
    network.add_node("y", kind="output", size=2)
    learned = {"min": 0, "max": 2, "learned": True}
    network.add_edge("x", "a")
    network.add_edge("a", "y", delay=learned)
    if other is not None:
        network.add_edge("a", "y", parameter="V", delay=learned if other == "learned" else other)
    params = {**draw(network), "alpha_a_y": np.array([3.0, 0, 0])[:, None, None] * np.ones((3, 2, 2))}
    hard = rg.harden(network, params, {"x": inputs()["x"][..., :2]}, edges=[("a", "y", 0)])
    assert hard.graph.edges["a", "y", 0]["delay"] == 0
    assert hard.removed == (("alpha_a_y", "a_0") if other is None else ("alpha_a_y",))
    assert ("initial" in hard.graph.nodes["a"]) == (other is not None) and network.nodes["a"]["initial"] == "parameter"
    assert set(rg.validate(hard.graph).parameters) == set(hard.params)


def test_float32_parameters_stay_float32() -> None:
    kernel = rg.compile(graph())
    hard = rg.harden(graph(), kernel.init(seed=1))
    assert {value.dtype for value in hard.params.values()} == {np.dtype(np.float32)}
    assert {value.dtype for value in rg.harden(graph(), draw(graph())).params.values()} == {np.dtype(np.float64)}


def test_what_harden_prints() -> None:
    params = {name: np.zeros(value.shape) for name, value in draw(graph()).items()}
    params["alpha_W"][2] = 3.0
    params["alpha_a_a"][1] = 3.0
    params["beta"][[0, 1, 2, 3], [0, 1, 2, 3]] = 5.0
    assert str(rg.harden(graph(), params, inputs())) == (
        "learned delays of 5 edges made plain\n"
        "  x -> a: delay 3 for all 8 pairs of units; softmax at the selected delay: smallest 0.87, median 0.87\n"
        "  a -> a (key 0): delay 2; softmax at the selected delay: smallest 0.87, median 0.87\n"
        "  a -> a (key 1): delays 1 to 4 of 4 units; softmax at the selected delay: smallest 0.98, median 0.98\n"
        "  a -> y (key 0): delay 0 for all 16 pairs of units; softmax at the selected delay: smallest 0.2, median 0.2\n"
        "  a -> y (key 1): delay 0 for all 4 units; softmax at the selected delay: smallest 0.2, median 0.2\n"
        "  no longer parameters: alpha_W, alpha_a_a, beta, alpha_a_y, gamma\n"
        "  output y: changed by 0 %, norm of the change / norm of the output"
    )


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda g, p: rg.harden(rg.zoo.elman(3, 4, 2), p), rg.DataError, "parameters: found"),
        (lambda g, p: rg.harden(g, {}), rg.DataError, "found no array for 'W'"),
        (lambda g, p: rg.harden(g, {**p, "beta": np.zeros((4, 3))}), rg.DataError, "'beta'"),
        (lambda g, p: rg.harden(g, {**p, "beta": np.full((4, 4), np.nan)}), rg.DataError, "'beta'"),
        (lambda g, p: rg.harden(g, p, edges=[("x", "y")]), rg.OptionError, "tuples that name learned edges: .'x', 'a'"),
        (lambda g, p: rg.harden(g, p, edges=["xa"]), rg.OptionError, "edges: found 'xa'"),
        (lambda g, p: rg.harden(g, p, edges="xa"), rg.OptionError, "edges: found 'xa'; expected a list of tuples"),
        (lambda g, p: rg.harden(g, p, edges=[("x", "a", 1)]), rg.OptionError, "check the names"),
        (lambda g, p: rg.harden(g, p, {"x": np.zeros((4, 3))}), rg.DataError, "input 'x'"),
        (
            lambda g, p: rg.set_temperature(g, 0),
            rg.OptionError,
            "temperature: found 0; expected a number of 1e-09 or more",
        ),
        (lambda g, p: rg.set_temperature(g, math.nan), rg.OptionError, "expected a number of 1e-09 or more"),
        (lambda g, p: rg.set_temperature(g, 5e-324), rg.OptionError, "temperature: found 5e-324"),
        (lambda g, p: rg.set_temperature(g, 10**400), rg.OptionError, "expected a number of 1e-09 or more"),
        (lambda g, p: rg.harden(g, p, edges=5), rg.OptionError, "edges: found 5; expected a list of tuples"),
        (lambda g, p: rg.set_temperature(g, "cold"), rg.OptionError, "temperature: found 'cold'"),
        (lambda g, p: rg.set_temperature(rg.zoo.elman(3, 4, 2), 1), rg.OptionError, "found no learned delay"),
        (lambda g, p: rg.set_temperature(nx.MultiDiGraph(), 1), rg.GraphError, "no nodes"),
    ],
)
def test_errors(call: Any, error: type[Exception], text: str) -> None:
    network = graph()
    with pytest.raises(error, match=text):
        call(network, draw(network))


# -------------------------------------------------------------------------------------------------------- temperature


def test_set_temperature() -> None:
    network = graph()
    cold = rg.set_temperature(network, 0.25, [("a", "a")])
    found = {key: cold.edges[key]["delay"]["temperature"] for key in EDGES}
    assert found == {EDGES[0]: 1.0, EDGES[1]: 0.25, EDGES[2]: 0.25, EDGES[3]: 1.0, EDGES[4]: 1.0}
    assert {network.edges[key]["delay"]["temperature"] for key in EDGES} == {1.0}
    params = draw(network)
    scaled = {**params, "alpha_a_a": params["alpha_a_a"] * 4, "beta": params["beta"] * 4}
    outputs = [
        rg.compile(g, dtype="float64").forward(p, inputs())[0]["y"] for g, p in ((cold, params), (network, scaled))
    ]
    np.testing.assert_allclose(*outputs, atol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_lowest_temperature_is_that_of_finite_numbers(dtype: str) -> None:
    kernel = rg.compile(graph(MIN_TEMPERATURE), dtype=dtype)
    params = kernel.init(seed=0)
    for logits in (0.0, 1e6):
        for name in LOGITS.values():
            params[name][0] = logits
        loss, gradients = kernel.loss_and_gradient(params, inputs(), {"y": np.ones((20, 2, 4))})
        assert np.isfinite(loss) and np.isfinite(gradients.vector @ gradients.vector)


# ------------------------------------------------------------------------------------------------------------ recovery


@pytest.mark.parametrize("seed", [100, 101])
def test_planted_delays_are_recovered(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example with fewer steps; the ten seeds of its table are in benchmarks/results/learned_delays.md."""
    monkeypatch.setattr(learned_delays, "STEPS", 1000)
    found = learned_delays.recover(learned_delays.teacher(seed))
    assert found.right == 1.0, found
    assert abs(found.change) < 0.01 and found.learned < 0.105, found


def test_the_example_prints_its_tables(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in {"SEEDS": range(1), "STEPS": 200, "EPOCHS": 4, "UNITS": 3}.items():
        monkeypatch.setattr(learned_delays, name, value)
    learned_delays.main([])
    printed = capsys.readouterr().out
    assert printed.count("right in all: ") == 2 and "largest change of an error" in printed
