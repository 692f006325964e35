"""``rg.verify``: right derivations pass all checks, and each check catches the errors that are planted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import networkx as nx
import numpy as np
import pytest
import sympy
from random_graphs import random_graph

import rnngraph as rg
from codegen.functions import FUNCTIONS, maximum, sign
from rnngraph import zoo
from rnngraph.equations import Outer, Term, at
from rnngraph.losses import with_loss
from rnngraph.paths import direction
from rnngraph.validate import validate
from rnngraph.verify import CHECKS, FailedVerificationError, Verification
from rnngraph.verify.residue import Residue
from rnngraph.verify.shrink import shrink
from rnngraph.verify.unroll import Unrolling
from rnngraph.vjp import _Transposition, vjp

NETWORKS: dict[str, Callable[[], nx.MultiDiGraph]] = {
    **{name: partial(zoo.example, name) for name in zoo.NETWORKS},
    "jordan with decay": lambda: zoo.jordan(2, 3, 2, decay=0.5),
    "elman dense": lambda: zoo.elman(2, 3, 2, recurrence="dense"),
    "lstm 1997": lambda: zoo.lstm(2, 3, 2, forget_gate=False),
    "lstm peepholes": lambda: zoo.lstm(2, 3, peepholes=True),
    "relu": lambda: zoo.feedforward((3, 6, 2), "relu", "sigmoid"),
}


def shared_weight() -> nx.MultiDiGraph:
    """R serves two delays and D is diagonal; the initial value of a is learned."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=3)
    graph.add_node("a", size=4, activation="tanh", initial="parameter")
    graph.add_node("y", kind="output", size=4, equation="maximum(s, p)")
    graph.add_edge("x", "a", parameter="W")
    graph.add_edge("a", "a", parameter="R", delay=1)
    graph.add_edge("a", "a", parameter="R", delay=2)
    graph.add_edge("a", "y", parameter="D", structure="diagonal", delay=1)
    graph.add_edge("a", "y", port="p")
    return graph


@pytest.mark.parametrize("name", NETWORKS)
def test_zoo(name: str) -> None:
    graph = NETWORKS[name]()
    verification = rg.verify(graph, seed=1, points=1, effort=2000)
    assert verification.passed
    assert {row.check for row in verification.rows} == set(CHECKS)
    assert all(row.error == 0 for row in verification.rows if row.check == "exact")
    for check in ("differences", "dot_product"):
        found = {row.quantity for row in verification.rows if row.check == check}
        assert found >= {f"dL/d{parameter}" for parameter in validate(graph).parameters}


@pytest.mark.parametrize("name", ["elman", "lstm peepholes", "gru"])
@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy", "abs(y - target)*y"])
def test_losses(name: str, loss: str) -> None:
    assert rg.verify(NETWORKS[name](), loss, effort=1000).passed


@pytest.mark.parametrize("seed", range(18))
def test_random_graphs(seed: int) -> None:
    assert rg.verify(random_graph(seed), seed=seed, points=1, effort=500).passed


@pytest.mark.parametrize(("effort", "detail"), [(10**6, "all 4 entries"), (2000, "one random direction")])
def test_lstm_entry_by_entry_and_along_directions(effort: int, detail: str) -> None:
    verification = rg.verify(zoo.lstm(3, 5), checks="exact", effort=effort)
    (row,) = (row for row in verification.rows if row.quantity == "dL/dW_h_f")
    assert detail in row.detail


def test_a_large_network_is_verified_along_one_direction() -> None:
    graph = zoo.stacked("elman", 2, 3, 2, depth=20)
    rows = rg.verify(graph, checks="exact", points=1, effort=0).rows
    assert [row.quantity for row in rows][:2] == ["L", "dL/d(42 parameters)"]


def test_long_delays_act_at_the_true_size() -> None:
    graph = zoo.tdnn((2, 3, 2), ([0, 7, 30], [0, 5]))
    rows = rg.verify(graph).rows
    assert any("T=33" in row.detail for row in rows if row.check == "differences")


def test_table() -> None:
    verification = rg.verify(zoo.elman(2, 3, 1), seed=3)
    lines = str(verification).splitlines()
    assert lines[0].split() == ["check", "quantity", "error", "tolerance", "passed", "compared"]
    assert len(lines) == len(verification.rows) + 2
    assert lines[3].startswith("exact        dL/dW        0         0          yes     all 4 entries, T=3")
    assert isinstance(verification, Verification)
    assert verification == rg.verify(zoo.elman(2, 3, 1), seed=3)


# Planted errors: each is a wrong rule of differentiation, put in the place of the right one.


def failures(graph: nx.MultiDiGraph, check: str, loss: object = "mse") -> set[str]:
    """The quantities that fail; the message must name the first of them."""
    with pytest.raises(rg.VerificationError) as caught:
        rg.verify(graph, loss, checks=check)
    assert isinstance(caught.value, FailedVerificationError)
    verification = caught.value.verification
    failed = [row for row in verification.rows if not row.passed]
    assert {row.check for row in failed} == {check}
    assert f"{failed[0].quantity} by check {check!r}: found an error of" in str(caught.value)
    assert "NO" in str(verification) and "remedy: " in str(caught.value)
    return {row.quantity for row in failed}


def plant_in_dense(monkeypatch: pytest.MonkeyPatch, change: Callable[[Term], Term]) -> None:
    """The transposition rule sees a changed term."""
    right = _Transposition._transpose_dense

    def wrong(self: Any, term: Term, adjoint: str) -> None:
        right(self, change(term), adjoint)

    monkeypatch.setattr(_Transposition, "_transpose_dense", wrong)


@pytest.mark.parametrize("check", CHECKS)
def test_a_dropped_time_shift_is_caught(monkeypatch: pytest.MonkeyPatch, check: str) -> None:
    plant_in_dense(monkeypatch, lambda term: dataclasses.replace(term, delay=0))
    failed = failures(zoo.tdnn((2, 3, 2), ([0, 1], [0, 2])), check)
    assert {"dL/dW_x_a1_d1", "dL/dW_a1_y_d2"} <= failed
    assert not failed & {"dL/db_y", "dL/dW_a1_y_d0"}


@pytest.mark.parametrize("check", CHECKS)
def test_a_wrong_delay_in_a_loop_is_caught(monkeypatch: pytest.MonkeyPatch, check: str) -> None:
    right = _Transposition._transpose_dense

    def wrong(self: Any, term: Term, adjoint: str) -> None:
        right(self, term, adjoint)
        if term.delay:  # the adjoint is taken one step too late
            *others, last = self.terms[term.source]
            self.terms[term.source] = [*others, dataclasses.replace(last, delay=last.delay - 1)]

    monkeypatch.setattr(_Transposition, "_transpose_dense", wrong)
    failed = failures(zoo.elman(2, 3, 2, recurrence="dense"), check)
    assert {"dL/dW", "dL/dR"} <= failed and "dL/dV" not in failed


def test_a_circle_of_adjoints_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_in_dense(monkeypatch, lambda term: dataclasses.replace(term, delay=0))
    assert failures(zoo.fully_recurrent(2, 3), "exact") == {"order of evaluation"}


@pytest.mark.parametrize("check", CHECKS)
def test_a_missing_contribution_of_a_shared_weight_is_caught(monkeypatch: pytest.MonkeyPatch, check: str) -> None:
    right = _Transposition._collect_initial_values

    def wrong(self: Any) -> None:
        right(self)
        if "parameters" in self.wrt:
            self.gradients["R"] = self.gradients["R"][:1]

    monkeypatch.setattr(_Transposition, "_collect_initial_values", wrong)
    assert failures(shared_weight(), check) - {"L"} == {"dL/dR"}


@pytest.mark.parametrize("check", CHECKS)
def test_a_missing_gradient_of_an_initial_value_is_caught(monkeypatch: pytest.MonkeyPatch, check: str) -> None:
    monkeypatch.setattr(_Transposition, "_collect_initial_values", lambda self: None)
    assert failures(shared_weight(), check) - {"L"} == {"dL/da_0"}


@pytest.mark.parametrize("check", CHECKS)
def test_a_wrong_sign_is_caught(monkeypatch: pytest.MonkeyPatch, check: str) -> None:
    right = _Transposition._pointwise

    def wrong(self: Any, expression: Any, size: int, cotangent: Any, owner: str) -> None:
        right(self, expression, size, -cotangent if owner == "c" else cotangent, owner)

    monkeypatch.setattr(_Transposition, "_pointwise", wrong)
    failed = failures(zoo.lstm(2, 3), check)
    assert {"dL/dW_x_i", "dL/dW_h_z"} <= failed


@pytest.mark.parametrize("check", CHECKS)
def test_a_swapped_outer_product_is_caught(monkeypatch: pytest.MonkeyPatch, check: str) -> None:
    right = _Transposition._transpose_dense

    def wrong(self: Any, term: Term, adjoint: str) -> None:
        right(self, term, adjoint)
        if term.parameter == "R":
            self.gradients["R"] = [Outer(adjoint, term.source, 0, term.delay)]

    monkeypatch.setattr(_Transposition, "_transpose_dense", wrong)
    assert "dL/dR" in failures(zoo.fully_recurrent(2, 3), check)


def test_the_swapped_derivative_of_a_function_is_caught_by_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules of the table are common to both sides of the other checks: a kernel's own loss knows nothing of them."""
    half = sympy.Rational(1, 2)
    swapped = (lambda a, b: half * (1 - sign(a - b)), lambda a, b: half * (1 + sign(a - b)))
    monkeypatch.setattr(maximum, "derivatives", swapped)
    assert {"dL/dD", "dL/dW"} <= failures(shared_weight(), "differences")


@pytest.mark.parametrize("check", ["exact", "differences"])
def test_a_wrong_softmax_is_caught(monkeypatch: pytest.MonkeyPatch, check: str) -> None:
    """exp(y) instead of exp(y - m): the identity given to the exact check does not let it pass."""
    monkeypatch.setitem(vjp.__globals__, "exp", lambda argument: FUNCTIONS["exp"].symbol(at("y")))
    assert "dL/dV" in failures(zoo.elman(2, 3, 3), check, "cross_entropy")


def test_errors() -> None:
    graph = zoo.elman(2, 3)
    wrong: list[dict[str, Any]] = [
        {"checks": "proof"}, {"checks": ()}, {"seed": -1}, {"points": 0}, {"effort": 1.5}, {"loss": "nse"},
    ]  # fmt: skip
    for arguments in wrong:
        with pytest.raises(rg.RNNGraphError, match="remedy"):
            rg.verify(graph, **arguments)
    graph.nodes["a"]["kind"] = "unit"
    with pytest.raises(rg.GraphError, match="no output"):
        rg.verify(graph)


def test_equations_outside_their_domain_are_named() -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=1)
    graph.add_node("y", kind="output", size=1, equation="log(-square(s) - 1)")
    graph.add_edge("x", "y")
    assert rg.verify(graph, checks="exact").passed
    with pytest.raises(rg.VerificationError, match="not finite"):
        rg.verify(graph, checks="differences")


# The parts.


def test_shrink_keeps_what_must_be_equal() -> None:
    graph = zoo.lstm(5, 7, 3, peepholes=True)
    small = shrink(validate(graph))
    assert {node.size for node in small.nodes.values()} == {2}
    assert small.parameters["W_h_f"] == (2, 2) and small.parameters["W_c_f"] == (2,)
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=1)
    graph.add_node("a", size=9, equation="s*p")
    graph.add_node("y", kind="output", size=4)
    graph.add_edge("x", "a", delay=[0, 40, 7])
    graph.add_edge("x", "a", port="p")
    graph.add_edge("a", "y", structure="fixed", value=np.zeros((9, 4)))
    small = shrink(validate(graph))
    assert {name: node.size for name, node in small.nodes.items()} == {"x": 1, "a": 2, "y": 2}
    assert [edge.delay for edge in small.edges] == [0, 2, 1, 0, 0]
    assert small.constants["C_a_y"].shape == (2, 2) and small.constants["C_a_y"].all()


def loop_of_both_signs(*delays: int) -> nx.MultiDiGraph:
    """A ring of as many units as there are delays."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    names = [f"n{k}" for k in range(len(delays))]
    for name in names:
        graph.add_node(name, size=2, activation="tanh")
    graph.nodes[names[0]]["kind"] = "output"
    graph.add_edge("x", names[0], delay=[0, 9])
    for k, delay in enumerate(delays):
        graph.add_edge(names[k - 1], names[k], delay=delay)
    return graph


@pytest.mark.parametrize(
    ("delays", "short"),
    [((-1, 5), (-1, 2)), ((1, -5), (1, -2)), ((-2, -2, 5), (-1, -1, 3)), ((9, 8, -7, 0), (2, 1, -1, 0))],
)
def test_shrink_keeps_the_direction_of_loops_of_both_signs(delays: tuple[int, ...], short: tuple[int, ...]) -> None:
    graph = loop_of_both_signs(*delays)
    graph.add_edge("x", "n1", delay=-40)  # outside of the loop: shortened as far as can be
    small = shrink(validate(graph))
    found = {(edge.source, edge.destination): edge.delay for edge in small.edges}
    ring = [found[f"n{(k - 1) % len(delays)}", f"n{k}"] for k in range(len(delays))]
    assert ring == list(short) and np.sign(sum(ring)) == np.sign(sum(delays))
    assert found["x", "n1"] == -(1 + len({delay for delay in delays if delay < 0}))
    assert rg.verify(graph, points=1, effort=500).passed


def test_shrink_keeps_the_direction_of_random_loops() -> None:
    rng, count = np.random.default_rng(0), 0
    for _ in range(300):
        graph = loop_of_both_signs(*(int(delay) for delay in rng.integers(-9, 10, size=int(rng.integers(2, 6)))))
        units = [node for node in graph if node != "x"]
        for k in range(int(rng.integers(0, 4))):
            ends = (str(name) for name in rng.choice(units, 2))
            graph.add_edge(*ends, delay=int(rng.integers(-9, 10)), parameter=f"W{k}")
        try:
            model = validate(graph)
        except rg.CycleError:
            continue
        pairs = list(zip(model.edges, shrink(model).edges, strict=True))
        for long, short in pairs:
            assert np.sign(long.delay) == np.sign(short.delay) and abs(short.delay) <= abs(long.delay)
        sides = zip(*pairs, strict=True)
        inside = [[(e.source, e.destination, e.delay) for e in each if e.source != "x"] for each in sides]
        assert direction(units, inside[0]) == direction(units, inside[1]) != 0
        count += min(delay for *_, delay in inside[0]) < 0 < max(delay for *_, delay in inside[0])
    assert count > 50


def test_unrolled_loss_by_hand() -> None:
    """y(t) = R y(t-1) + x(t): the loss of two steps, written out."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=1)
    graph.add_node("y", kind="output", size=1, bias=False)
    graph.add_edge("x", "y", structure="identity")
    graph.add_edge("y", "y", parameter="R", delay=1)
    unrolling = Unrolling(with_loss(rg.derive(graph), "y*target"), 2, "entries")

    def written_out(expression: Any) -> Any:
        for part in reversed(unrolling.tape):
            expression = expression.xreplace({part: part.body})
        return sympy.expand(expression)

    leaves = unrolling.leaves
    R, y0 = leaves["parameter", "R", (0, 0)], leaves["state", "y", (0, 0)]
    x1, x2 = (leaves["input", "x", (t, 0)] for t in (1, 2))
    first, second = (leaves["given", "w", (t, 0)] * leaves["given", "target_y", (t, 0)] for t in (1, 2))
    y1 = R * y0 + x1
    assert written_out(unrolling.loss - first * y1 - second * (R * y1 + x2)) == 0
    slope = unrolling.differentiate(R)
    assert written_out(slope - first * y0 - second * (y1 + R * y0)) == 0


def test_residues_follow_the_rationals() -> None:
    a, b = Fraction(3, 7), Fraction(-5, 11)
    x, y = Residue(a), Residue(b)
    assert (x + b, a * y, x - y, x / y, 2 / x, -x) == tuple(map(Residue, (a + b, a * b, a - b, a / b, 2 / a, -a)))
    assert (x**3, y**-2) == (Residue(a**3), Residue(b**-2))
    assert abs(x - a) == 0 and abs(x - b) == 1 and len({x, Residue(a)}) == 1
    with pytest.raises(ZeroDivisionError):
        1 / (x - a)
