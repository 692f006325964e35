"""What a System costs, against counts by hand and against what the compiled kernel allocates; the memory limit."""

from __future__ import annotations

import dataclasses
from typing import Any

import networkx as nx
import numpy as np
import pytest
import sympy

import rnngraph as rg
from codegen.sweep import Sweep
from rnngraph import zoo
from rnngraph.sizes import B, T, formula, size_symbol

X, A, Y, H = (size_symbol(f"n_{name}") for name in "xayh")
ELMAN = zoo.elman(3, 16, 2, recurrence="dense")


def test_bptt_of_elman_by_hand() -> None:
    forward = 2 * X * A + 2 * A**2 + A + 2 * A * Y  # two products, tanh, one product; biases are added by the products
    loss = 5 * Y  # (y - target)^2 w / 2, and the sum
    backward = 5 * Y + (2 * A * Y + 2 * A**2) + 3 * A  # delta_y; delta_a; delta_a (1 - a^2)
    gradients = 2 * X * A + 2 * A**2 + 2 * A * Y + A + Y
    cost = rg.gradient(ELMAN).cost()
    assert cost.flops_per_step == sympy.expand(B * (forward + loss + backward + gradients))
    assert cost.memory == sympy.expand(B * T * (X + A + 2 * Y + 1))  # x, a, y and target, weight
    numbers = cost.numbers(T=50, batch=4, dtype="float64")
    step = 4 * (6 * 256 + 6 * 32 + 4 * 48 + 11 * 2 + 5 * 16)
    assert (numbers.flops_per_step, numbers.flops) == (step, 50 * step)
    assert (numbers.memory, numbers.bytes) == (4 * 50 * (3 + 16 + 4 + 1), 8 * 4 * 50 * (3 + 16 + 4 + 1))


def test_rtrl_of_elman_by_hand() -> None:
    entries = A * (X + A + 1)  # parameters before the state
    forward = 2 * X * A + 2 * A**2 + A + 2 * A * Y + 5 * Y
    step = 5 * Y + 2 * A * Y + 2 * A * Y + Y  # delta_y, delta_a, dL/dV, dL/db_y
    jacobian = 2 * A + A**2  # 1 - a^2, times the rows of R
    direct = (X + A) * A + entries  # x(t) (1 - a^2) and a(t-1) (1 - a^2); added where row and unit meet
    cost = rg.gradient(ELMAN, method="rtrl").cost()
    expected = forward + step + jacobian + direct + 2 * entries * A**2 + 2 * entries * A
    assert cost.flops_per_step == sympy.expand(B * expected)
    assert cost.memory == sympy.expand(B * (2 * entries * A + A))
    assert sympy.degree(cost.flops_per_step, A) == 4
    assert cost.flops_per_step.coeff(A, 4) == 2 * B
    assert cost.numbers(T=10) == dataclasses.replace(cost.numbers(T=1000), flops=10 * cost.numbers().flops_per_step)


def test_lstm_by_hand() -> None:
    graph = zoo.lstm(3, 16)
    cost = rg.gradient(graph).cost()
    forward, loss, backward, biases = 4 + 3 + 2, 5, 5 + 5 + 7 + 3 * 4, 4  # seed, o; c; i, f, z
    assert forward + loss + backward + biases == 47
    assert cost.flops_per_step == sympy.expand(B * (24 * H**2 + 16 * H * X + 47 * H))
    assert cost.memory == sympy.expand(B * T * (X + 7 * H + 1))  # x; i, f, o, z, c, h, target; the weight
    assert cost.layers[H] == ("i", "f", "o", "z", "c", "h")
    online = rg.gradient(graph, method="rtrl").cost()
    entries = 4 * H * (H + X + 1)
    assert online.memory == sympy.expand(B * (2 * 2 * entries * H + 2 * H))
    leading = sympy.Poly(online.flops_per_step, H, X)
    assert leading.coeff_monomial(H**4) == leading.coeff_monomial(H**3 * X) == 16 * B  # c and h, four gates, 2 each


def test_local_sensitivities_are_linear_in_the_parameters() -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=3)
    graph.add_node("a", kind="output", size=5, activation="tanh")
    graph.add_edge("x", "a", parameter="W")
    graph.add_edge("a", "a", delay=1, structure="diagonal", parameter="r")
    for method in ("rtrl", "focused"):
        cost = rg.gradient(graph, method=method).cost()
        assert cost.memory == sympy.expand(B * (2 * (X * A + A + A) + A))
        assert sympy.degree(cost.flops_per_step, A) == 1
    # With a dense recurrence a rule that keeps each unit's own sensitivities alone is as cheap.
    for method in ("snap", "rflo", "eprop"):
        cost = rg.gradient(ELMAN, method=method).cost()
        assert sympy.degree(cost.flops_per_step, A) == sympy.degree(cost.memory, A) == 2


def test_truncated_windows() -> None:
    """Every k1 steps, what reaches back in time is computed for k2 steps; the outputs' errors once a step."""
    k1, k2 = size_symbol("k1"), size_symbol("k2")
    cost = rg.gradient(ELMAN, method="tbptt", k1=5, k2=20).cost()
    assert cost.rule == "tbptt(k1=5, k2=20)"
    once = 2 * X * A + 2 * A**2 + A + 2 * A * Y + 5 * Y + 5 * Y + 2 * A * Y + Y
    windows = 2 * A * Y + 2 * A**2 + 3 * A + 2 * X * A + 2 * A**2 + A
    assert cost.flops_per_step == sympy.expand(B * (once + windows * k2 / k1))
    assert cost.memory == sympy.expand(B * k2 * (X + A + 2 * Y + 1))
    assert cost.numbers(T=100).memory == 20 * 24
    assert cost.numbers(T=10).memory == 10 * 24
    assert "Memory grows with k2." in str(cost)


@pytest.mark.parametrize("method", ["bptt", "rtrl", "snap", "rflo", "uoro"])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (zoo.elman(3, 16, 2, recurrence="dense"), zoo.elman(4, 7, 5, recurrence="dense")),
        (zoo.elman(3, 16, 2), zoo.elman(4, 7, 5)),
        (zoo.jordan(3, 5, 2, decay=0.5), zoo.jordan(2, 4, 3, decay=0.5)),
        (zoo.narx(2, 6, 3, 2, 3), zoo.narx(4, 5, 2, 2, 3)),
        (zoo.lstm(3, 4, 2), zoo.lstm(5, 6, 3)),
        (zoo.gru(3, 4, 2), zoo.gru(2, 5, 4)),
    ],
)
def test_formulas_hold_at_other_sizes(first: nx.MultiDiGraph, second: nx.MultiDiGraph, method: str) -> None:
    cost, other = (rg.gradient(graph, method=method).cost() for graph in (first, second))
    values: dict[Any, Any] = {**other.sizes, B: 3, T: 100}
    expected = other.numbers(T=100, batch=3)
    assert cost.flops_per_step.xreplace({k: sympy.Integer(v) for k, v in values.items()}) == expected.flops_per_step
    assert cost.memory.xreplace({k: sympy.Integer(v) for k, v in values.items()}) == expected.memory


@pytest.mark.parametrize("graph", [ELMAN, zoo.lstm(8, 32, 4), zoo.gru(8, 32, 4)])
def test_flops_are_those_of_the_emitted_program(graph: nx.MultiDiGraph) -> None:
    """The compiled program does the same work, but for how it shares and rewrites pointwise expressions."""
    kernel = rg.compile(graph)
    counted = kernel.equations.cost().numbers(T=100, batch=4).flops
    assert abs(counted / kernel.explain(T=100, batch=4).flops["loss_and_gradient"] - 1.0) < 0.05


@pytest.mark.parametrize("method", ["rtrl", "snap", "eprop"])
def test_memory_is_that_of_the_kernel(method: str) -> None:
    """The sensitivities of the emitted code, those with a past, are what is counted beside the states."""
    kernel = rg.compile(zoo.lstm(3, 5, 2), method=method)
    buffers = [
        buffer
        for function in kernel.program.functions
        for statement in function.body
        if isinstance(statement, Sweep)
        for buffer in statement.buffers().values()
    ]
    kept = sum(buffer.slots * buffer.rows * buffer.columns for buffer in buffers if buffer.name.startswith("P_"))
    states = sum(depth * size for depth, size, _ in kernel.program.states.values())
    assert kernel.equations.cost().numbers().memory == kept + states


def test_text() -> None:
    text = str(rg.gradient(ELMAN, method="rtrl").cost())
    assert text.startswith("Cost of rtrl, for B sequences of T steps\n  here n_x = 3, n_a = 16, n_y = 2\n")
    assert "FLOP per time step: B (2 n_a^4 + 2 n_a^3 n_x + 4 n_a^3" in text
    assert "75 %  131,072  2 B n_a^4      P_a_R(t): P_a_R(t-1) J_a_a(t)" in text
    assert "2 B n_a^3      P_a_R, the last and the next" in text
    assert text.endswith("Memory does not depend on T.")
    assert str(rg.derive(zoo.feedforward([2, 3, 1])).cost()).startswith("Cost of the forward pass")
    assert formula(B * 0) == "0"
    assert formula(B * T * (A + 2 * A**2)) == "B T (2 n_a^2 + n_a)"


@pytest.mark.parametrize("options", [{"T": 0}, {"batch": True}, {"T": 1.5}, {"dtype": "float16"}])
def test_bad_numbers_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(rg.OptionError, match=next(iter(options))):
        rg.gradient(ELMAN).cost().numbers(**options)


def test_memory_limit_at_compile_time() -> None:
    with pytest.raises(
        rg.OptionError, match=r"42\.2 KiB for the sensitivities of one sequence by method='rtrl'"
    ) as caught:
        rg.compile(ELMAN, method="rtrl", memory_limit=4000)
    assert "the largest is P_a_R, 2 times 256 x 16 numbers a sequence" in str(caught.value)
    assert "3.91 KiB at most" in str(caught.value)
    assert "use method='snap', order=1 (approximate; 3.5 KiB), or use method='bptt'" in str(caught.value)
    with pytest.raises(rg.OptionError, match=r"use method='rflo' \(approximate; 1\.25 KiB\)"):
        rg.compile(ELMAN, method="rtrl", memory_limit=2000)
    with pytest.raises(rg.OptionError, match=r"GiB for the sensitivities"):
        rg.compile(zoo.lstm(64, 1024), method="rtrl")
    rg.compile(ELMAN, method="snap", memory_limit=4000)
    rg.compile(ELMAN, memory_limit=1)  # without sensitivities


def test_memory_limit_at_a_call() -> None:
    kernel = rg.compile(ELMAN, method="rtrl", memory_limit=300_000)
    params = kernel.init()
    x, y = np.zeros((3, 7, 3)), np.zeros((3, 7, 2))
    with pytest.raises(rg.OptionError, match=r"296 KiB for the sensitivities of 7 sequences.*give 6 sequences at once"):
        kernel.loss_and_gradient(params, {"x": x}, {"y": y})
    with pytest.raises(rg.OptionError, match="of 7 sequences"):
        kernel.step_and_gradient(params, None, {"x": x[0]}, {"y": y[0]})
    assert kernel.loss_and_gradient(params, {"x": x[:, :6]}, {"y": y[:, :6]})[0] >= 0.0
    kernel.loss(params, {"x": x}, {"y": y})  # no gradient, no sensitivities


def test_memory_limit_of_the_jacobian() -> None:
    kernel = rg.compile(ELMAN, memory_limit=300_000)
    x = np.zeros((3, 7, 3))
    with pytest.raises(
        rg.OptionError, match=r"of 7 sequences for the Jacobian of the outputs.*method='bptt'"
    ) as caught:
        kernel.jacobian(kernel.init(), {"x": x})
    fits = int(str(caught.value).partition("remedy: give ")[2].split()[0])
    assert 1 <= fits < 7
    assert kernel.jacobian(kernel.init(), {"x": x[:, :fits]})["y"].shape[:3] == (3, fits, 2)


@pytest.mark.parametrize("limit", [0, -1.0, True, "8", None, float("nan")])
def test_bad_memory_limit(limit: Any) -> None:
    with pytest.raises(rg.OptionError, match=r"memory_limit: found .*leave it out for 8 GiB"):
        rg.compile(ELMAN, memory_limit=limit)
