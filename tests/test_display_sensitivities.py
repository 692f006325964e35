"""Systems with sensitivities as text and LaTeX: each operator, the exact text of two networks, and that the printed
entries compute what the interpreter computes."""

from __future__ import annotations

import itertools
import re
from typing import Any

import networkx as nx
import numpy as np
import pytest
import sympy
from forward_rules import CAUSAL
from random_graphs import random_graph
from test_display import elman, in_dollars, latex_parts, lstm, mixed

import rnngraph as rg
from codegen.functions import FUNCTIONS, expand_primes
from rnngraph import zoo
from rnngraph.derive import derive
from rnngraph.display import as_latex, as_text, equation_lines, equation_numbers
from rnngraph.equations import (
    Contraction,
    Equation,
    Expression,
    Outer,
    PointwiseSum,
    Signal,
    Term,
    Total,
    along_rows,
    at,
    parameter,
)
from rnngraph.errors import UnsupportedError
from rnngraph.evaluate import Evaluation, evaluate_expression, numpy_functions
from rnngraph.gradient import gradient
from rnngraph.sensitivity import output_sensitivities
from rnngraph.system import System

METHODS: list[tuple[str, dict[str, int]]] = [
    ("rtrl", {}), ("focused", {}), ("rflo", {}), ("eprop", {}), ("snap", {"order": 1}), ("snap", {"order": 2}),
]  # fmt: skip
APPROXIMATE = ("rflo", "eprop", "snap")

ELMAN = """\
Gradient by rtrl, Williams and Zipser (1989)

Forward
   (1) s_a(t) = W^T x(t) + R^T a(t-1) + b_a
   (2) a(t) = tanh(s_a(t))
   (3) y(t) = V^T a(t) + b_y

Loss
   (4) L = sum over t of 0.5 * w(t) * sum_units((y(t) - target_y(t))^2)

Errors of one step
   (5) delta_y(t) = w(t) * (y(t) - target_y(t))
   (6) delta_a(t) = V delta_y(t)

Jacobians of one step
   (7) J_a_a[l,k](t) = R[l,k] * tanh'(s_a[k](t))

Sensitivities
   (8) P_a_W[ij,k](t) = sum_l(P_a_W[ij,l](t-1) * J_a_a[l,k](t)) + [j = k] * tanh'(s_a[k](t)) * x[i](t)
   (9) P_a_R[ij,k](t) = sum_l(P_a_R[ij,l](t-1) * J_a_a[l,k](t)) + [j = k] * tanh'(s_a[k](t)) * a[i](t-1)
  (10) P_a_b_a[j,k](t) = sum_l(P_a_b_a[j,l](t-1) * J_a_a[l,k](t)) + [j = k] * tanh'(s_a[k](t))

Gradients
  (11) dL/dW[i,j] = sum over t of sum_k(P_a_W[ij,k](t) * delta_a[k](t))
  (12) dL/dR[i,j] = sum over t of sum_k(P_a_R[ij,k](t) * delta_a[k](t))
  (13) dL/dV = sum over t of a(t) delta_y(t)^T
  (14) dL/db_a[j] = sum over t of sum_k(P_a_b_a[j,k](t) * delta_a[k](t))
  (15) dL/db_y = sum over t of delta_y(t)

Where
"""


def test_elman_by_rtrl_reads_as_in_williams_and_zipser() -> None:
    system = gradient(elman(), method="rtrl")
    assert as_text(system).startswith(ELMAN)
    assert set(equation_numbers(system)) == {each.signal for each in system.equations} | {
        total.name for total in system.totals
    }
    latex = as_latex(system)
    assert latex.startswith("\\noindent\\textbf{Gradient by rtrl, Williams and Zipser (1989)}\n\\begin{align}\n")
    assert (
        r"P_{a,b_a}[j,k](t) &= \sum_{l} \left(P_{a,b_a}[j,l](t-1) \, J_{a,a}[l,k](t)\right)"
        r" + [j = k] \, \tanh'\left(s_a[k](t)\right) \tag{10}"
    ) in latex
    assert (
        r"\frac{\partial L}{\partial R[i,j]} &= \sum_{t=1}^{T} \sum_{k} \left(P_{a,R}[ij,k](t) \, \delta_a[k]" in latex
    )


def test_legend_defines_what_is_shown_and_nothing_else() -> None:
    text = as_text(gradient(elman(), method="rtrl"))
    for piece in (
        "  J_v_u[l,k](t): derivative of v[k](t) by u[l]",
        "  P_v_W[ij,k](t): derivative of v[k](t) by W[i,j]",
        "  P_v_b[j,k](t): derivative of v[k](t) by b[j]",
        "  all of these are 0 for t <= 0\n",
        "  [j = k] is 1 where j = k, else 0",
    ):
        assert piece in text
    assert "P_v_W[i,k]" not in text and "j_v_u" not in text and "approximate" not in text.lower()
    local = as_text(gradient(mixed(), method="rtrl"))
    for piece in (
        "  j_v_u[k](t): ",
        "  P_v_W[i,k](t): ",
        "  P_v_b[k](t): ",
        "P_a_a_0[k](t) = 1 for t <= 0, 0 where a s",
    ):
        assert piece in local
    assert "[ij,k]" not in local and "[j = k]" not in local and "J_v_u" not in local
    assert "delta_g_before_1(t): the same by the state so many steps before t" in local


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_approximate_rules_say_so(method: str, options: dict[str, int]) -> None:
    graph = zoo.elman(2, 3, 1) if method == "focused" else lstm()
    system = gradient(graph, method=method, **options)
    for text in (as_text(system), as_latex(system)):
        assert ("Approximate gradient by " + system.rule in text.splitlines()[0]) == (method in APPROXIMATE)
        assert ("approximate: " in text) == (method in APPROXIMATE)
    if method in ("rflo", "eprop"):
        assert as_text(system).endswith("is left out: h(t-1) -> c(t), h(t-1) -> h(t)")
        assert r"h(t-1) $\to$ c(t)" in as_latex(system)


def test_an_approximate_rule_that_leaves_out_nothing() -> None:
    text = as_text(gradient(zoo.elman(2, 3, 1), method="rflo"))
    assert text.startswith("Approximate gradient by rflo, Murray (2019)\n")
    assert text.endswith("approximate by rule, but rflo leaves out nothing in this network")


def test_bptt_has_no_heading() -> None:
    assert as_text(gradient(elman())).startswith("Forward\n")


def one(equation: Equation, of: str = "W", rows: int = 6, kind: str = "sensitivity") -> tuple[str, str]:
    """The text and LaTeX of one equation for v, of 3 units, among signals of every kind."""
    signals = {
        "u": Signal("u", 2, "unit", "u"),
        "a": Signal("a", 3, "unit", "a"),
        "g": Signal("g", 1, "unit", "g"),
        "J": Signal("J", 3, "jacobian", "a", rows=3),
        "P": Signal("P", 3, "sensitivity", "a", rows=6, of="W"),
        "p": Signal("p", 3, "sensitivity", "a", rows=2, of="W"),
        "q": Signal("q", 3, "sensitivity", "a", rows=1, of="b"),
        "v": Signal("v", 3, kind, "a", rows=rows, of=of or None),
    }
    widen = Equation("P", (Term("product", "P", 1, jacobian="J"),), sympy.S.Zero)
    shapes = {"W": (2, 3), "R": (3, 3), "b": (3,)}
    system = System("", signals, shapes, (widen, equation), (), rule="rtrl")
    (text,) = (line for _, line in equation_lines(system) if line.startswith("v"))
    (latex,) = (row for row in as_latex(system).splitlines() if row.startswith("v"))
    return text, latex


@pytest.mark.parametrize(
    ("terms", "expression", "of", "rows", "text", "latex"),
    [
        ((Term("product", "P", 2, jacobian="J"),), 0, "W", 6, "v[ij,k](t) = sum_l(P[ij,l](t-2) * J[l,k](t))",
         r"\sum_{l} \left(P[ij,l](t-2) \, J[l,k](t)\right)"),
        ((Term("expand", "p", 1, jacobian="J"),), 0, "W", 6, "v[ij,k](t) = p[i,j](t-1) * J[j,k](t)",
         r"p[i,j](t-1) \, J[j,k](t)"),
        ((Term("expand", "q", 0, jacobian="J"),), 0, "b", 3, "v[j,k](t) = q[j](t) * J[j,k](t)",
         r"q[j](t) \, J[j,k](t)"),
        ((Term("expand", "p"),), 0, "W", 6, "v[ij,k](t) = [j = k] * p[i,k](t)", r"[j = k] \, p[i,k](t)"),
        ((Term("expand", "q"),), 0, "b", 3, "v[j,k](t) = [j = k] * q[k](t)", r"[j = k] \, q[k](t)"),
        ((Term("diagonal", "p", 1, jacobian="J"),), 0, "W", 2, "v[i,k](t) = p[i,k](t-1) * J[k,k](t)",
         r"p[i,k](t-1) \, J[k,k](t)"),
        ((), at("p", 1) * at("a") + along_rows("u", 1) * at("g"), "W", 2,
         "v[i,k](t) = a[k](t) * p[i,k](t-1) + g(t) * u[i](t-1)", r"a[k](t) \, p[i,k](t-1) + g(t) \, u[i](t-1)"),
        ((Term("dense", "J", 0, "R"),), parameter("R") * at("a") - along_rows("a"), "", 3,
         "v[l,k](t) = sum_m(J[l,m](t) * R[m,k]) + R[l,k] * a[k](t) - a[l](t)",
         r"\sum_{m} \left(J[l,m](t) \, R[m,k]\right) + R[l,k] \, a[k](t) - a[l](t)"),
        ((Term("dense", "J", 0, "R", True),), parameter("b"), "", 3, "v[l,k](t) = sum_m(J[l,m](t) * R[k,m]) + b[k]",
         r"\sum_{m} \left(J[l,m](t) \, R[k,m]\right) + b[k]"),
    ],
)  # fmt: skip
def test_operators(terms: Any, expression: Any, of: str, rows: int, text: str, latex: str) -> None:
    written = one(Equation("v", terms, expression + at("g") * 0), of, rows, "sensitivity" if of else "jacobian")
    assert written[0] == text
    assert written[1].split("&= ")[1].removesuffix(r" \\").split(r" \tag")[0] == latex


def test_contractions() -> None:
    signals = {
        "u": Signal("u", 2, "unit", "u"),
        "e": Signal("e", 3, "adjoint", "a"),
        "J": Signal("J", 3, "jacobian", "a", rows=3),
        "P": Signal("P", 3, "sensitivity", "a", rows=6, of="W"),
        "p": Signal("p", 3, "sensitivity", "a", rows=2, of="W"),
        "q": Signal("q", 3, "sensitivity", "a", rows=1, of="b"),
    }
    equations = (Equation("P", (Term("product", "P", 1, jacobian="J"),), sympy.S.Zero),)
    full, local = Contraction("P", "e", 1), Contraction("p", "e", 0, True)
    totals = tuple(
        Total(f"dloss/d{of}{number}", "gradient", pieces, of)
        for number, (of, pieces) in enumerate(
            {
                1: ("W", (full,)), 2: ("W", (local,)), 3: ("W", (full, local, Outer("u", "e", 1))),
                4: ("b", (Contraction("q", "e", 0, True), PointwiseSum(2 * at("e"), 3))),
            }.values()
        )
    )  # fmt: skip
    system = System("", signals, {"W": (2, 3), "b": (3,)}, equations, (), totals=totals, rule="rtrl")
    assert [line for _, line in equation_lines(system)][1:] == [
        "dL/dW[i,j] = sum over t of sum_k(P[ij,k](t-1) * e[k](t))",
        "dL/dW[i,k] = sum over t of p[i,k](t) * e[k](t)",
        "dL/dW[i,j] = sum over t of (sum_k(P[ij,k](t-1) * e[k](t)) + p[i,j](t) * e[j](t) + u[i](t-1) * e[j](t))",
        "dL/db[k] = sum over t of (q[k](t) * e[k](t) + 2 * e[k](t))",
    ]


def test_sensitivities_of_the_outputs() -> None:
    text = as_text(output_sensitivities(derive(elman())))
    assert text.startswith("Sensitivities of the outputs by rtrl, Williams and Zipser (1989)\n\nForward\n")
    assert "P_y_V[ij,k](t) = " in text or "P_y_V[i,k](t) = " in text
    assert "Loss" not in text and "delta" not in text


def graphs() -> list[Any]:
    named = [pytest.param(zoo.example(name), id=name) for name in CAUSAL]
    return named + [pytest.param(random_graph(seed), id=f"random {seed}") for seed in range(20)]


@pytest.mark.parametrize("graph", graphs())
def test_every_method_prints(graph: nx.MultiDiGraph) -> None:
    mathtext = pytest.importorskip("matplotlib.mathtext")
    parser = mathtext.MathTextParser("path")
    systems = [output_sensitivities(derive(graph))]
    for method, options in METHODS:
        try:
            systems.append(gradient(graph, method=method, **options))
        except UnsupportedError:
            assert method == "focused"
    for system in systems:
        lines = equation_lines(system)
        assert len(as_text(system).splitlines()) > len(lines)
        latex = as_latex(system)
        if system.rule != "rtrl" or not system.totals:
            continue
        rows, legend = latex_parts(latex.partition("\n")[2])
        pieces = [re.sub(r" ?\\\\$|\\tag\{\d+\}|\\notag|&", "", row) for row in rows]
        pieces += [piece for line in legend for piece in in_dollars(line)]
        for body in list(dict.fromkeys(pieces))[-24::2]:  # setting formulas is slow
            body = body.replace(r"\text{", r"\mathrm{").replace(r"\textbf{", r"\mathbf{").replace(r"\_", " ")
            body = re.sub(r"\$(\\\w+)\$", r"\1", body).replace(r"\le ", r"\leq ").replace(r"\%", " ")
            parser.parse(f"${body.strip()}$")


# The printed entries, computed as they stand.

READ = re.compile(r"(\w+)(?:\[([a-z,]+)\])?\(t(?:-(\d+))?\)")
WEIGHT = re.compile(r"\b(\w+)\[([a-z,]+)\](?!\()")
FUNCTION = re.compile(r"\b([a-z]\w*)('*)\(")
RANGES = 5


class Entries:
    """Computes lines of text at one t and sequence, entry by entry; what is beyond a size is 0."""

    def __init__(self, evaluation: Evaluation) -> None:
        self.evaluation, self.system, self.t = evaluation, evaluation.system, 1

    def read(self, name: str, letters: str | None, delay: int, where: dict[str, int]) -> float:
        value = self.evaluation.value(name, self.t - delay)[0]
        of = self.system.signals[name].of
        if value.ndim == 2 and of is not None and letters and len(letters.partition(",")[0]) == 2:
            value = value.reshape(*self.system.parameters[of], -1)
        return self.entry(value, letters, where)

    @staticmethod
    def entry(value: Any, letters: str | None, where: dict[str, int]) -> float:
        index = [where[letter] for letter in (letters or "").replace(",", "")]
        array = np.squeeze(value)
        assert array.ndim == len(index), "an index for each dimension but those of length 1"
        inside = all(each < length for each, length in zip(index, array.shape, strict=True))
        return float(array[tuple(index)]) if inside else 0.0

    def compute(self, text: str, where: dict[str, int]) -> float:
        text = READ.sub(lambda m: f"read({m[1]!r}, {m[2]!r}, {m[3] or 0}, here())", text)
        text = WEIGHT.sub(lambda m: f"entry({m[1]!r}, {m[2]!r}, here())", text)
        text = text.replace("[j = k]", "(j == k)").replace("^", "**")
        for bound in "lm":
            while f"sum_{bound}(" in text:
                start = text.index(f"sum_{bound}(")
                end = closing(text, start + 5)
                text = f"{text[:start]}sum(({text[start + 6 : end]}) for {bound} in R){text[end + 1 :]}"
        text = FUNCTION.sub(lambda m: f"call{len(m[2])}_{m[1]}(" if m[1] in FUNCTIONS else m[0], text)
        text = text.replace("here()", "{" + ", ".join(f"{letter!r}: {letter}" for letter in letters_of(text)) + "}")
        weights = self.evaluation.parameters
        names: dict[str, Any] = {name: value.item() for name, value in weights.items() if value.size == 1}
        names |= {"read": self.read, "R": range(RANGES), "sum": sum, **where}
        names["entry"] = lambda name, letters, here: self.entry(weights[name], letters, here)
        for name, rule in FUNCTIONS.items():
            names[f"call0_{name}"] = pointwise(rule.symbol, primes=False)
            names[f"call1_{name}"] = pointwise(rule.symbol, primes=True)
        return float(eval(text, names))


def letters_of(text: str) -> str:
    """The index letters of a line, which are in scope wherever it reads them."""
    return "".join(
        sorted({letter for found in re.findall(r"'([ijklm,]+)'", text) for letter in found if letter != ","})
    )


def closing(text: str, opening: int) -> int:
    depth = 0
    for position in range(opening, len(text)):
        depth += (text[position] == "(") - (text[position] == ")")
        if depth == 0:
            return position
    raise AssertionError("brackets do not match")


def pointwise(function: Any, primes: bool) -> Any:
    """A function of the table on numbers, or its derivative."""

    def call(*values: float) -> float:
        symbols = [at(f"v{number}") for number in range(len(values))]
        expression: Expression = function(*symbols)
        expression = expand_primes(expression.diff(symbols[0])) if primes else expression
        given = {symbol: np.array([value]) for symbol, value in zip(symbols, values, strict=True)}
        return float(evaluate_expression(expression, given, numpy_functions()).item())

    return call


@pytest.mark.parametrize(
    ("graph", "method", "options"),
    [
        (elman(), "rtrl", {}),
        (zoo.lstm(2, 3), "rtrl", {}),
        (zoo.lstm(2, 3), "snap", {"order": 1}),
        (zoo.gru(2, 3, 1), "rtrl", {}),
        (zoo.elman(2, 3, 2), "focused", {}),
        (zoo.jordan(2, 3, 1), "rtrl", {}),
        (zoo.narx(1, 3, 1, 1, 2), "rtrl", {}),
    ]
    + [(random_graph(seed), "rtrl", {}) for seed in (1, 4, 7)],
)
def test_printed_entries_are_the_values(graph: nx.MultiDiGraph, method: str, options: dict[str, int]) -> None:
    for name in graph:
        graph.nodes[name]["size"] = min(graph.nodes[name]["size"], RANGES - 1)
    system = gradient(graph, method=method, **options)
    random = np.random.default_rng(0)
    given = {
        name: random.normal(size=(3, 1, signal.size))
        for name, signal in system.signals.items()
        if signal.kind in ("input", "target", "weight")
    }
    parameters = {name: random.normal(size=shape) for name, shape in system.parameters.items()}
    entries = Entries(Evaluation(system, 3, 1, given, parameters))
    count = 0
    for name, number in equation_numbers(system, absorbed=False).items():
        line = dict(equation_lines(system))[number]
        left, _, right = line.partition(" = ")
        if name not in system.signals or not system.signals[name].rows:
            continue
        entries.t = 2 + count % 2
        letters = READ.fullmatch(left)
        assert letters is not None
        free = (letters[2] or "").replace(",", "")
        for values in itertools.product(range(2), repeat=len(free)):
            where = {**dict.fromkeys("ijklm", 0), **dict(zip(free, values, strict=True))}
            expected = entries.read(name, letters[2], 0, where)
            np.testing.assert_allclose(entries.compute(right, where), expected, rtol=1e-9, atol=1e-12, err_msg=line)
        count += 1
    assert count > 0


def test_blocks_say_what_is_carried() -> None:
    """Schmidhuber's rule: Lambda at the block's start, the recursion of P, and what the gradients get from it."""
    system = rg.gradient(rg.zoo.elman(3, 4, 2, recurrence="dense"), method="bptt-rtrl")
    text, latex = str(system), system.latex()
    for line in (
        "Lambda_a[l,k](t) = E_a[l,k](t) + sum_m(Lambda_s_a[l,m](t+1) * R[k,m])",
        "Lambda_s_a[l,k](t) = tanh'(s_a[k](t)) * Lambda_a[l,k](t)",
        "a sequence is cut into blocks of 4 steps",
        "T is the number of its steps",
        "s(T): the joint state at the end of the block, 4 units: a(T)",
        "E_a[l,k](t): 1 where s[l](T) is a[k](t), else 0",
        "Lambda_v[l,k](t): derivative of s[l](T) by v[k](t)",
        "J[l,m]: derivative of s[l](T) by s[m](0) for each sequence, made of Lambda_a(0)",
        "e[l]: derivative of the block's part of L by s[l](0) for each sequence, made of delta_a(0)",
        "dL/dR[i,j] gets, beside what its equation says, sum_l(P_R[l,ij] * e[l]) of each sequence",
        "P_R[l,ij] <- sum_m(J[l,m] * P_R[m,ij]) + sum over t of a[i](t-1) * Lambda_s_a[l,j](t)",
        "P_b_a[l,j] <- sum_m(J[l,m] * P_b_a[m,j]) + sum over t of Lambda_s_a[l,j](t)",
        "nothing is carried for V, b_y",
    ):
        assert line in text, line
    assert r"$P_W[l,ij] \gets \sum_{m} \left(J[l,m] \, P_W[m,ij]\right) + \sum_{t=1}^{T} x[i](t) \," in latex
    assert "= dL/dv(t)" not in text


def test_blocks_name_the_past_and_initial_values() -> None:
    """Delays give a state several moments; a learned initial value starts P as the unit matrix."""
    text = str(rg.gradient(rg.zoo.narx(1, 3, 1, 2, 5), method="bptt-rtrl", block=2))
    assert "5 units: y(T-4), ..., y(T), one after the other; s(0), that at its start: y(-4), ..., y(0)" in text
    graph = rg.zoo.elman(3, 4, 2, recurrence="dense")
    graph.nodes["a"]["initial"] = "parameter"
    text = str(rg.gradient(graph, method="bptt-rtrl", block=2))
    assert "before the first block 1 where s[l](0) is a[j](t) at a t <= 0 and that state is not given" in text


def test_blocks_without_a_state() -> None:
    """Nothing is carried, and the text says so."""
    text = str(rg.gradient(rg.zoo.feedforward([2, 3, 1]), method="bptt-rtrl"))
    assert "the network has no state: nothing is carried from block to block" in text


@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize("graph", [elman(), zoo.lstm(2, 3, 2, peepholes=True), zoo.narx(2, 3, 2, 2, 3)])
def test_the_printed_recursion_carries_the_gradient(graph: nx.MultiDiGraph, block: int) -> None:
    """The legend's lines for P, computed as they stand: gradients of the whole sequence, blocks shorter than a delay
    among them."""
    system = gradient(graph, method="bptt-rtrl", block=block)
    carry, depths, text = system.carry, system.state_depths, as_text(system)
    assert carry is not None
    random, T = np.random.default_rng(0), 6
    given = {
        name: random.normal(size=(T, 1, signal.size))
        for name, signal in system.signals.items()
        if signal.kind in ("input", "target", "weight")
    }
    parameters = {name: random.normal(size=shape) for name, shape in system.parameters.items()}
    P = {name: np.zeros((carry.size, *shape)) for name, shape in system.parameters.items()}
    state: dict[str, Any] = {}
    gradients: dict[str, Any] = {total.name: 0.0 for total in system.totals}
    for first in range(0, T, block):
        seeds = {
            seed: np.zeros((block, 1, carry.size, system.signals[node].size)) for node, seed in carry.seeds.items()
        }
        columns, errors = [], []
        now = {name: values[first : first + block] for name, values in given.items()}
        for node, start in carry.starts.items():
            size, depth = system.signals[node].size, depths[node]
            for k, unit in itertools.product(range(max(0, depth - block), depth), range(size)):
                seeds[carry.seeds[node]][block - depth + k, 0, start + k * size + unit, unit] = 1.0
        here = Evaluation(system, block, 1, {**now, **seeds}, parameters, state)
        for node, start in carry.starts.items():
            size, depth = system.signals[node].size, depths[node]
            for k, rows in enumerate(here.boundary(carry.adjoints[node], depth)):  # at t = k - depth + 1 <= 0
                seed = np.zeros((carry.size, size))
                if k + 1 > block:  # E is 1 there, too: s(T) still has what was before the block
                    seed[start + (k - block) * size :][:size] = np.eye(size)
                columns.append(rows[0] + seed)
            errors += [error[0] for error in here.boundary(system.state_adjoints[node], depth)]
        J, e = np.concatenate(columns, axis=1), np.concatenate(errors)
        for total in system.totals:
            gradients[total.name] += here.total(total) + (np.tensordot(e, P[total.of], 1) if total.of else 0.0)
        for name in P:
            line = re.search(rf"P_{name}(?:\[\w*,?\w*\])? <- sum_m\(.*?\]\)(.*), for each sequence", text)
            P[name] = np.tensordot(J, P[name], 1)
            for piece in line[1].split(" + sum over t of ")[1:] if line else ():
                reads = [READ.fullmatch(factor) for factor in piece.split(" * ")]
                for t in range(1, block + 1):
                    values = [np.squeeze(here.value(each[1], t - int(each[3] or 0))[0]) for each in reads if each]
                    letters = [(each[2] or "").replace(",", "") for each in reads if each]
                    free = "l" + "".join(letter for letter in "ij" if letter in "".join(letters))
                    P[name] += np.einsum(f"{','.join(letters)}->{free}", *values).reshape(P[name].shape)
        state = {
            node: np.stack([here.value(node, t) for t in range(block - depth + 1, block + 1)])
            for node, depth in depths.items()
        }
    whole = gradient(graph)
    expected = Evaluation(whole, T, 1, given, parameters)
    for total in whole.totals:
        np.testing.assert_allclose(gradients[total.name], expected.total(total), rtol=1e-9, atol=1e-12)
