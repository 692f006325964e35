"""Networks that predict ahead: delays taken from the inputs, and forecasts on the network's own outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import pytest
import reference
from random_graphs import random_graph, random_problem

import rnngraph as rg
from rnngraph import zoo


def model_of(graph: nx.MultiDiGraph) -> Any:
    model = rg.validate(graph)
    constants = {name: value.tolist() for name, value in model.constants.items()}
    return dict(model.nodes), model.edges, dict(model.parameters), constants


def delayed(graph: nx.MultiDiGraph) -> nx.MultiDiGraph:
    """The graph with every delay out of an input raised by 2, by hand."""
    result = graph.copy()
    for source, _, data in result.edges(data=True):
        if result.nodes[source].get("kind") == "input":
            delay = data.get("delay", 0)
            data["delay"] = [d + 2 for d in delay] if isinstance(delay, list) else delay + 2
    return result


def test_an_open_narx_predicts_one_step_ahead() -> None:
    """y(t+1) at time t, with the same parameters by name, and the state cut by its oldest value."""
    opened = zoo.narx(2, 3, 1, [1, 2], 3, loop="open")
    kernel = rg.compile(opened, dtype="float64")
    params = kernel.init(seed=0)
    rng = np.random.default_rng(1)
    inputs = {"x": rng.normal(size=(9, 2, 2)), "y_measured": rng.normal(size=(9, 2, 1))}
    state = {"x": rng.normal(size=(2, 2, 2)), "y_measured": rng.normal(size=(3, 2, 1))}
    ahead, kept, early = rg.remove_delay(opened, 1, params, state)
    assert kept.keys() == dict(params).keys()
    assert {name: len(past) for name, past in early.items()} == {"x": 1, "y_measured": 2}
    expected, _ = kernel.forward(params, inputs, state)
    found, _ = rg.compile(ahead, dtype="float64").forward(kept, inputs, early)
    np.testing.assert_allclose(found["y"][:-1], expected["y"][1:], atol=1e-14)
    assert {data["parameter"]: data["delay"] for _, v, data in ahead.edges(data=True) if v == "a"} == {
        "W_d1": 0, "W_d2": 1, "R_d1": 0, "R_d2": 1, "R_d3": 2
    }  # fmt: skip


def test_shifted_random_networks_answer_earlier() -> None:
    """From rest, y_new(t) = y(t+2) if the inputs are 0 before t = 1, where the network is at rest too."""
    for seed in range(30):
        graph = delayed(random_graph(seed))
        ahead = rg.remove_delay(graph, 2)
        assert {e.parameter for e in rg.validate(ahead).edges if e.structure != "fixed"} == {
            e.parameter for e in rg.validate(graph).edges if e.structure != "fixed"
        }, seed
        assert model_of(rg.add_delay(ahead, 2)) == model_of(graph), seed
        problem = random_problem(graph, seed, T=5, batch=1)
        # The units' past: that after the first two steps, on which the inputs do not bear yet.
        _, state = reference.forward(graph, problem.parameters, {n: a[:2] for n, a in problem.inputs.items()})
        units = {name: past for name, past in state.items() if name not in problem.inputs}
        expected, _ = reference.forward(graph, problem.parameters, problem.inputs)
        found, _ = reference.forward(ahead, problem.parameters, problem.inputs, units)
        for name in expected:
            np.testing.assert_allclose(found[name][:-2], expected[name][2:], atol=1e-12, err_msg=f"{seed}: {name}")


def test_listed_fixed_and_identity_edges_stay_listed() -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=1)
    graph.add_node("y", kind="output", size=1)
    graph.add_edge("x", "y", key="k", delay=[1, 3], structure="fixed", value=[[[2.0]], [[3.0]]])
    graph.add_edge("x", "y", key=1, delay=[2, 1], structure="identity")
    graph.add_edge("x", "y", delay=[5, 1, 2])
    ahead = rg.remove_delay(graph)
    assert [(key, data["delay"], data.get("parameter")) for _, _, key, data in ahead.edges(keys=True, data=True)] == [
        ("k", [0, 2], None), (1, [1, 0], None), (2, 4, "W_x_y_d5"), (3, 0, "W_x_y_d1"), (4, 1, "W_x_y_d2")
    ]  # fmt: skip
    assert graph.edges["x", "y", "k"]["delay"] == [1, 3]
    assert model_of(rg.add_delay(ahead)) == model_of(graph)


def test_keys_of_the_user_are_kept() -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=1)
    graph.add_node("y", kind="output", size=1)
    graph.add_edge("x", "y", key=0, delay=[1, 2], parameter="U")
    graph.add_edge("x", "y", key=1, delay=1, parameter="V")
    ahead = rg.remove_delay(graph)
    assert {key: data["parameter"] for _, _, key, data in ahead.edges(keys=True, data=True)} == {
        0: "U_d1", 2: "U_d2", 1: "V"
    }  # fmt: skip


def test_a_shifted_network_is_closed_again_after_add_delay() -> None:
    opened = zoo.narx(1, 3, 1, 1, 2, loop="open")
    ahead = rg.remove_delay(opened, inputs=["y_measured"])
    with pytest.raises(rg.CycleError, match=r"raise the delays first: rg.add_delay"):
        rg.close_loop(ahead)
    assert sorted(map(str, rg.validate(rg.close_loop(rg.add_delay(ahead, inputs="y_measured"))).edges)) == sorted(
        map(str, rg.validate(zoo.narx(1, 3, 1, 1, 2)).edges)
    )


def test_add_delay_fills_older_values_with_zeros() -> None:
    past = np.ones((2, 1, 1))
    _, _, state = rg.add_delay(zoo.focused_tdnn((1, 2, 1), 2), 2, state={"x": past})
    np.testing.assert_array_equal(state["x"].ravel(), [0, 0, 1, 1])
    _, _, state = rg.add_delay(zoo.narx(1, 2, 1, 0, 1, loop="open"), state={"y_measured": np.ones((1, 3, 1))})
    np.testing.assert_array_equal(state["x"], np.zeros((1, 3, 1)))


# Forecasts.


def test_forecasts_of_a_narx_by_hand() -> None:
    opened = zoo.narx(1, 3, 2, [1], [1, 3], loop="open")
    params = dict(rg.compile(opened, dtype="float64").init(seed=5))
    rng = np.random.default_rng(2)
    x, measured = rng.normal(size=(9, 2, 1)), rng.normal(size=(6, 2, 2))
    y = list(measured)
    for t in range(6, 9):
        s = params["b_a"] + x[t - 1] @ params["W_d1"] + y[t - 1] @ params["R_d1"] + y[t - 3] @ params["R_d3"]
        y.append(np.tanh(s) @ params["V"] + params["b_y"])
    found = rg.predict_ahead(opened, params, {"x": x[:6], "y_measured": measured}, 3, {"x": x[6:]})
    np.testing.assert_allclose(found["y"], np.stack(y[6:]), atol=1e-13)
    # One step at a time, the forecast taken as measured, is the same.
    first = rg.predict_ahead(opened, params, {"x": x[:6], "y_measured": measured}, 1, {"x": x[6:7]})["y"]
    more = {"x": x[:7], "y_measured": np.concatenate([measured, first])}
    second = rg.predict_ahead(opened, params, more, 2, {"x": x[7:]})["y"]
    np.testing.assert_allclose(np.concatenate([first, second]), found["y"], atol=1e-13)


def test_forecasts_of_a_nar_need_no_future() -> None:
    opened = zoo.nar(1, 2, [2])
    params = dict(rg.compile(opened, dtype="float64").init(seed=5))
    y = [*np.random.default_rng(2).normal(size=(4, 3, 1))]
    measured = np.stack(y)
    for t in range(4, 9):
        y.append(np.tanh(params["b_a"] + y[t - 2] @ params["R_d2"]) @ params["V"] + params["b_y"])
    found = rg.predict_ahead(opened, params, {"y_measured": measured}, 5)
    np.testing.assert_allclose(found["y"], np.stack(y[4:]), atol=1e-13)


# Errors.


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: rg.remove_delay(zoo.narx(1, 2, 1, 1, 1)), rg.GraphError, "edge 'x' -> 'a': found a delay of 0, from"),
        (lambda: rg.remove_delay(zoo.narx(1, 2, 1, [1, 2], 1), 2), rg.GraphError, "a delay of 1, from which 2 cannot"),
        (lambda: rg.remove_delay(zoo.nar(1, 2, 1), 0), rg.OptionError, "argument steps: found 0"),
        (lambda: rg.add_delay(zoo.nar(1, 2, 1), True), rg.OptionError, "argument steps: found True"),
        (lambda: rg.add_delay(zoo.nar(1, 2, 1), inputs="y"), rg.OptionError, "argument inputs: found 'y'"),
        (lambda: rg.add_delay(zoo.nar(1, 2, 1), inputs="y_measure"), rg.OptionError, "did you mean 'y_measured'?"),
        (
            lambda: rg.add_delay(zoo.jordan(1, 2, 1), state={"y": np.ones((1, 1, 1))}),
            rg.UnsupportedError,
            "state of 'y': found the past of a unit",
        ),
        (lambda: rg.predict_ahead(zoo.nar(1, 2, 1), {}, {}, 0), rg.OptionError, "argument horizon: found 0"),
    ],
)
def test_errors(make: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        make()
    assert message in str(caught.value), caught.value


def test_errors_of_forecasts() -> None:
    opened = zoo.narx(1, 2, 1, 1, 1, loop="open")
    params = rg.compile(opened, dtype="float64").init()
    inputs = {"x": np.ones((3, 1, 1)), "y_measured": np.ones((3, 1, 1))}
    with pytest.raises(rg.DataError, match=r"future 'x': found 3 time steps; expected 2, the horizon"):
        rg.predict_ahead(opened, params, inputs, 2, {"x": inputs["x"]})
    with pytest.raises(rg.DataError, match=r"future: found a list; expected a mapping from inputs to arrays"):
        rg.predict_ahead(opened, params, inputs, 2, [1])  # type: ignore[arg-type]
    with pytest.raises(rg.DataError, match=r"inputs: found no array for 'x'"):
        rg.predict_ahead(opened, params, inputs, 2)
    with pytest.raises(rg.GraphError, match=r"no pair of a measured input and its output"):
        rg.predict_ahead(zoo.narx(1, 2, 1, 1, 1), params, {"x": inputs["x"]}, 2)
