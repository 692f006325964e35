"""Numbered equations: exact text for the chapter's networks, LaTeX that can be set, inlining that changes no value."""

from __future__ import annotations

import re
from typing import Any

import networkx as nx
import numpy as np
import pytest
import sympy

from rnngraph.derive import derive
from rnngraph.display import as_latex, as_text, equation_lines, equation_numbers, inline
from rnngraph.display.inline import SOFTMAX, DisplayEquation, Side
from rnngraph.display.text import TextWriter, quoted
from rnngraph.equations import BoundarySum, Equation, Outer, PointwiseSum, Read, Signal, Term, at, meaning
from rnngraph.evaluate import Evaluation, evaluate_expression, numpy_functions
from rnngraph.gradient import gradient
from rnngraph.jvp import jvp
from rnngraph.system import System


def elman() -> nx.MultiDiGraph:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=3)
    graph.add_node("a", size=16, activation="tanh")
    graph.add_node("y", kind="output", size=2)
    graph.add_edge("x", "a", parameter="W")
    graph.add_edge("a", "a", parameter="R", delay=1)
    graph.add_edge("a", "y", parameter="V")
    return graph


def lstm(size: int = 4) -> nx.MultiDiGraph:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=3)
    for gate, f in {"i": "sigmoid", "f": "sigmoid", "o": "sigmoid", "z": "tanh"}.items():
        graph.add_node(gate, size=size, activation=f)
        graph.add_edge("x", gate)
        graph.add_edge("h", gate, delay=1)
    graph.add_node("c", size=size, equation="f*c_prev + i*z")
    graph.add_node("h", kind="output", size=size, equation="o*tanh(c)")
    for port in "ifz":
        graph.add_edge(port, "c", port=port)
    graph.add_edge("c", "c", port="c_prev", delay=1)
    graph.add_edge("o", "h", port="o")
    graph.add_edge("c", "h", port="c")
    return graph


def mixed() -> nx.MultiDiGraph:
    """A diagonal loop with a learned initial value, an identity edge, a gate of size 1 and ports read in the past."""
    graph = nx.MultiDiGraph()
    graph.add_node("my input", kind="input", size=3)
    graph.add_node("a", size=4, activation="tanh", initial="parameter")
    graph.add_node("g", size=1, activation="sigmoid", initial=0.5)
    graph.add_node("u", size=4, equation="(1 - g)*s + 0.1*g*q/(1 + q**2)")
    graph.add_node("y", kind="output", size=3)
    graph.add_edge("my input", "a")
    graph.add_edge("a", "a", delay=1, structure="diagonal", parameter="d")
    graph.add_edge("a", "u", delay=2, structure="identity")
    graph.add_edge("a", "u", port="q", delay=1)
    graph.add_edge("my input", "g", delay=[0, 1], parameter="G")
    graph.add_edge("g", "u", port="g", delay=1)
    graph.add_edge("u", "y", parameter="V")
    return graph


def several_outputs() -> nx.MultiDiGraph:
    graph = elman()
    graph.add_node("q", kind="output", size=3)
    graph.add_edge("a", "q", delay=[0, 2])
    graph.add_edge("q", "a", delay=1)
    return graph


def read_through_a_chain() -> nx.MultiDiGraph:
    """The learned initial value of a is read at t-1, and c, which a feeds at t, at t-1 too."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    graph.add_node("a", size=3, activation="tanh", initial="parameter")
    graph.add_node("c", size=3, equation="q**2")
    graph.add_node("e", size=3, equation="exp(q)")
    graph.add_node("y", kind="output", size=3)
    graph.add_edge("x", "a")
    graph.add_edge("a", "c", port="q")
    graph.add_edge("c", "e", port="q", delay=1)
    graph.add_edge("e", "y", delay=1)
    graph.add_edge("a", "y", delay=2)
    return graph


ELMAN = """\
Forward
   (1) s_a(t) = W^T x(t) + R^T a(t-1) + b_a
   (2) a(t) = tanh(s_a(t))
   (3) y(t) = V^T a(t) + b_y

Loss
   (4) L = sum over t of 0.5 * w(t) * sum_units((y(t) - target_y(t))^2)

Backward
   (5) delta_y(t) = w(t) * (y(t) - target_y(t))
   (6) delta_s_a(t) = tanh'(s_a(t)) * (V delta_y(t) + R delta_s_a(t+1))

Gradients
   (7) dL/dW = sum over t of x(t) delta_s_a(t)^T
   (8) dL/dR = sum over t of a(t-1) delta_s_a(t)^T
   (9) dL/dV = sum over t of a(t) delta_y(t)^T
  (10) dL/db_a = sum over t of delta_s_a(t)
  (11) dL/db_y = sum over t of delta_y(t)

Where
  t = 1..T; a sum over t is over the sequences of the batch, too; * multiplies unit by unit
  units of each input: x(t) 3
  units of each layer: a(t) 16, y(t) 2
  outputs: y
  parameters: W 3x16, R 16x16, V 16x2, b_a 16, b_y 2
  W^T is the transpose of W; the shape of W is (units of the source, units of the destination)
  a(t) = 0 for t <= 0, unless a state is given
  w(t): weight of step t of a sequence, 1/(T batch); weights that are given are divided by their sum
  delta_v(t) = dL/dv(t): it, and each product with it, is 0 for t > T; f' is the derivative of f"""

LSTM = """\
Forward
   (1) s_i(t) = W_x_i^T x(t) + W_h_i^T h(t-1) + b_i
   (2) i(t) = sigmoid(s_i(t))
   (3) s_f(t) = W_x_f^T x(t) + W_h_f^T h(t-1) + b_f
   (4) f(t) = sigmoid(s_f(t))
   (5) s_o(t) = W_x_o^T x(t) + W_h_o^T h(t-1) + b_o
   (6) o(t) = sigmoid(s_o(t))
   (7) s_z(t) = W_x_z^T x(t) + W_h_z^T h(t-1) + b_z
   (8) z(t) = tanh(s_z(t))
   (9) c(t) = i(t) * z(t) + f(t) * c(t-1)
  (10) h(t) = o(t) * tanh(c(t))

Loss
  (11) L = sum over t of 0.25 * w(t) * sum_units((h(t) - target_h(t))^2)

Backward
  (12) delta_h(t) = 0.5 * w(t) * (h(t) - target_h(t)) + W_h_i delta_s_i(t+1) + W_h_f delta_s_f(t+1) \
+ W_h_o delta_s_o(t+1) + W_h_z delta_s_z(t+1)
  (13) delta_c(t) = tanh'(c(t)) * o(t) * delta_h(t) + f(t+1) * delta_c(t+1)
  (14) delta_s_z(t) = tanh'(s_z(t)) * i(t) * delta_c(t)
  (15) delta_s_o(t) = sigmoid'(s_o(t)) * tanh(c(t)) * delta_h(t)
  (16) delta_s_f(t) = sigmoid'(s_f(t)) * c(t-1) * delta_c(t)
  (17) delta_s_i(t) = sigmoid'(s_i(t)) * z(t) * delta_c(t)

Gradients
  (18) dL/dW_x_i = sum over t of x(t) delta_s_i(t)^T"""

MIXED = """\
Forward
   (1) s_a(t) = "W_my input_a"^T "my input"(t) + d * a(t-1) + b_a
   (2) a(t) = tanh(s_a(t))
   (3) s_g(t) = G_d0^T "my input"(t) + G_d1^T "my input"(t-1) + b_g
   (4) g(t) = sigmoid(s_g(t))
   (5) s_u(t) = a(t-2) + b_u
   (6) u(t) = 0.1 * a(t-1) * g(t-1) / (a(t-1)^2 + 1) + s_u(t) * (1 - g(t-1))
   (7) y(t) = V^T u(t) + b_y

Loss
   (8) L = sum over t of w(t) * (log sum_units(exp(y(t))) - sum_units(y(t) * target_y(t)))

Backward
   (9) delta_y(t) = w(t) * (softmax(y(t)) - target_y(t))
  (10) delta_u(t) = V delta_y(t)
  (11) delta_s_u(t) = (1 - g(t-1)) * delta_u(t)
  (12) delta_s_g(t) = sigmoid'(s_g(t)) * sum_units((0.1 * a(t) / (a(t)^2 + 1) - s_u(t+1)) * delta_u(t+1))
  (13) delta_a(t) = 0.1 * g(t) * (1 - 2 * a(t)^2 / (a(t)^2 + 1)) * delta_u(t+1) / (a(t)^2 + 1) \
+ d * delta_s_a(t+1) + delta_s_u(t+2)
  (14) delta_s_a(t) = tanh'(s_a(t)) * delta_a(t)

Gradients
  (15) dL/d"W_my input_a" = sum over t of "my input"(t) delta_s_a(t)^T
  (16) dL/dd = sum over t of a(t-1) * delta_s_a(t)
  (17) dL/dG_d0 = sum over t of "my input"(t) delta_s_g(t)^T
  (18) dL/dG_d1 = sum over t of "my input"(t-1) delta_s_g(t)^T
  (19) dL/dV = sum over t of u(t) delta_y(t)^T
  (20) dL/db_a = sum over t of delta_s_a(t)
  (21) dL/da_0 = sum over t <= 0 of delta_a(t)
  (22) dL/db_g = sum over t of delta_s_g(t)
  (23) dL/db_u = sum over t of delta_s_u(t)
  (24) dL/db_y = sum over t of delta_y(t)

Where
  t = 1..T; a sum over t is over the sequences of the batch, too; * multiplies unit by unit
  units of each input: "my input"(t) 3
  units of each layer: a(t) 4, g(t) 1, u(t) 4, y(t) 3
  outputs: y
"""


def test_elman_reads_as_in_the_chapter() -> None:
    assert as_text(gradient(elman())) == ELMAN


def test_lstm() -> None:
    assert as_text(gradient(lstm())).startswith(LSTM)


def test_cross_entropy_diagonal_identity_and_learned_initial() -> None:
    text = as_text(gradient(mixed(), loss="cross_entropy"))
    gradients = text.index("Gradients")
    expected = MIXED.index("Gradients")
    assert text[:gradients] == MIXED[:expected]
    # the order of the parameters is the validator's
    names = re.compile(r"^ +\(\d+\) ", re.MULTILINE)
    assert sorted(names.sub("", text[gradients:]).split("\n\n")[0].split("\n")) == sorted(
        names.sub("", MIXED[expected:]).split("\n\n")[0].split("\n")
    )
    assert "  a(t) = a_0 for t <= 0, unless a state is given\n  g(t) = 0.5 for t <= 0" in text
    assert '"my input"(t) = 0 for t <= 0' in text
    assert "\n  target_y(t) is one-hot: 1 at the unit of the class given for step t, else 0\n" in text
    assert "\n  at t <= 0 a delta holds what reaches back" in text


def test_targets_of_cross_entropy_alone_are_one_hot() -> None:
    system = gradient(several_outputs(), loss={"y": "mse", "q": "cross_entropy"})
    lines = [line for line in as_text(system).split("\n") if "one-hot" in line]
    assert lines == ["  target_q(t) is one-hot: 1 at the unit of the class given for step t, else 0"]
    assert r"\item $\mathrm{target}_q(t)$ is one-hot: 1 at the unit" in as_latex(system)
    assert "one-hot" not in as_text(gradient(several_outputs()))


def test_forward_alone() -> None:
    text = as_text(derive(elman()))
    assert [line for line in text.split("\n") if line.endswith(("Forward", "Loss", "Backward"))] == ["Forward"]
    assert "(3) y(t) = V^T a(t) + b_y" in text
    assert "delta" not in text and "w(t)" not in text


def test_loss_of_one_unit_needs_no_sum_over_units() -> None:
    graph = elman()
    graph.nodes["y"]["size"] = 1
    lines = [line for _, line in equation_lines(gradient(graph))]
    assert "L = sum over t of w(t) * (y(t) - target_y(t))^2" in lines
    assert "delta_y(t) = 2 * w(t) * (y(t) - target_y(t))" in lines


def test_loss_of_several_outputs() -> None:
    system = gradient(several_outputs(), loss={"y": "binary_cross_entropy", "q": "mse"})
    loss = dict(equation_lines(system))[equation_numbers(system)["loss"]]
    assert loss == (
        "L = sum over t of w(t) * (0.5 * sum_units(softplus(y(t)) - y(t) * target_y(t))"
        " + 1/3 * sum_units((q(t) - target_q(t))^2))"
    )


def test_tangents_come_last() -> None:
    lines = [line for _, line in equation_lines(jvp(gradient(elman())))]
    assert "dot_s_a(t) = dot_W^T x(t) + R^T dot_a(t-1) + dot_R^T a(t-1) + dot_b_a" in lines
    assert lines[-1].startswith("dot_dL/db_y = ")
    assert lines.index("dot_a(t) = tanh'(s_a(t)) * dot_s_a(t)") > lines.index("dL/db_y = sum over t of delta_y(t)")


def test_signals_that_gradients_need_are_not_inlined() -> None:
    lines = [line for _, line in equation_lines(gradient(elman(), wrt=("parameters", "inputs", "state")))]
    assert "delta_a(t) = V delta_y(t) + R delta_s_a(t+1)" in lines
    assert "delta_x(t) = W delta_s_a(t)" in lines


def test_numbers_of_inlined_signals_are_those_of_their_reader() -> None:
    system = gradient(elman())
    numbers = equation_numbers(system)
    assert numbers["s_a"] == 1 and numbers["loss"] == 4 and numbers["dloss/dR"] == 8
    assert numbers["delta_a"] == numbers["delta_s_a"] == 6
    defined = {equation.signal for equation in system.equations} | {total.name for total in system.totals}
    assert set(numbers) == defined


def test_numbers_without_inlined_signals_are_one_for_each_equation() -> None:
    system = gradient(elman())
    numbers = equation_numbers(system, absorbed=False)
    assert list(numbers.values()) == [number for number, _ in equation_lines(system)]
    assert numbers["delta_s_a"] == 6 and "delta_a" not in numbers
    assert equation_numbers(system).items() >= numbers.items()


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (1 - at("a"), "1 - a(t)"),
        (-at("a") - at("b", 1), "-a(t) - b(t-1)"),
        (-(at("a") + at("b")) * at("c"), "c(t) * (-a(t) - b(t))"),
        (at("a") ** -1, "1 / a(t)"),
        (at("a") / (at("b") * at("c")), "a(t) / (b(t) * c(t))"),
        ((at("a") * at("b")) ** 2, "a(t)^2 * b(t)^2"),
        (at("a") ** at("b"), "a(t)^b(t)"),
        (2 ** at("a"), "2^a(t)"),
        (sympy.Rational(1, 3) * at("a"), "1/3 * a(t)"),
        (sympy.Rational(1, 16) * at("a"), "1/16 * a(t)"),
        (sympy.Rational(0.1) * at("a"), "0.1 * a(t)"),
        (sympy.Rational(2, 5) + at("a", -2), "a(t+2) + 0.4"),
        (sympy.Rational(0.7071067811865476), "0.7071067811865476"),
        (sympy.pi * at("a"), "3.141592653589793 * a(t)"),
        (-sympy.Rational(3, 2), "-1.5"),
        (sympy.S.Zero, "0"),
    ],
)
def test_pointwise_text(expression: Any, text: str) -> None:
    signals = {name: Signal(name, 2, "unit", name) for name in "abcz"}
    system = System("", signals, {}, (Equation("z", (), expression),), ("z",))
    assert equation_lines(system) == [(1, f"z(t) = {text}")]


def test_signals_read_once_in_a_circle_are_shown() -> None:
    signals = {name: Signal(name, 2, "adjoint", name) for name in "abc"}
    equations = (
        Equation("a", (), at("b", -1)),
        Equation("b", (), 2 * at("a", -1)),
        Equation("c", (Term("sum", "c", -1),), at("c", -2)),
    )
    system = System("", signals, {}, equations, ())
    lines = [line for _, line in equation_lines(system)]
    assert lines in ([f"{shown}(t) = 2 * {shown}(t+2)", "c(t) = sum_units(c(t+1)) + c(t+2)"] for shown in ("a", "b"))


def test_every_equation_stays_on_one_line_whatever_the_names() -> None:
    graph = nx.MultiDiGraph()
    names = ["a\nb", "c d", 'e"f', "g\\h", "i\u2028j", "%$#&_{}^~", "t", "été", "k_1_", "9"]
    graph.add_nodes_from((name, {"size": 2, "kind": "output"}) for name in names)
    graph.add_node("in put", kind="input", size=2)
    graph.add_edges_from(("in put", name) for name in names)
    system = gradient(graph)
    count = len(system.equations) + len(system.totals)
    assert len(equation_lines(system)) == count
    assert all(len(line.splitlines()) == 1 for _, line in equation_lines(system))
    rows, legend = latex_parts(as_latex(system))
    assert len(rows) == count + 4 and all(line.startswith(r"\item ") for line in legend)  # four sections
    assert quoted('e"f') == '"e\\"f"' and quoted("été") == "été" and quoted("9") == '"9"'


def latex_parts(latex: str) -> tuple[list[str], list[str]]:
    """The rows of the equations and the items of the legend, without what stands around them."""
    lines = latex.splitlines()
    end, first = lines.index(r"\end{align}"), lines.index(r"\begin{itemize}")
    assert (lines[0], lines[end + 1 : first], lines[-1]) == (
        r"\begin{align}", [r"\noindent Where"], r"\end{itemize}",
    )  # fmt: skip
    return lines[1:end], lines[first + 1 : -1]


LATEX = r"""\begin{align}
&\textbf{Forward} \notag \\
s_a(t) &= W^{\top}\, x(t) + R^{\top}\, a(t-1) + b_a \tag{1} \\
a(t) &= \tanh\left(s_a(t)\right) \tag{2} \\
y(t) &= V^{\top}\, a(t) + b_y \tag{3} \\
&\textbf{Loss} \notag \\
L &= SUM \left({\left(y(t) - \mathrm{target}_y(t)\right)}^{2}\right) \tag{4} \\
&\textbf{Backward} \notag \\
\delta_y(t) &= w(t) \, \left(y(t) - \mathrm{target}_y(t)\right) \tag{5} \\
\delta_{s_a}(t) &= \tanh'\left(s_a(t)\right) \odot \left(V\, \delta_y(t) + R\, \delta_{s_a}(t+1)\right) \tag{6} \\
&\textbf{Gradients} \notag \\
\frac{\partial L}{\partial W} &= \sum_{t=1}^{T} x(t)\, {\delta_{s_a}(t)}^{\top} \tag{7} \\
\frac{\partial L}{\partial R} &= \sum_{t=1}^{T} a(t-1)\, {\delta_{s_a}(t)}^{\top} \tag{8} \\
\frac{\partial L}{\partial V} &= \sum_{t=1}^{T} a(t)\, {\delta_y(t)}^{\top} \tag{9} \\
\frac{\partial L}{\partial b_a} &= \sum_{t=1}^{T} \delta_{s_a}(t) \tag{10} \\
\frac{\partial L}{\partial b_y} &= \sum_{t=1}^{T} \delta_y(t) \tag{11}
\end{align}
\noindent Where
\begin{itemize}
\item $t = 1, \ldots, T$; a sum over $t$ is over the sequences of the batch, too; $\odot$ multiplies unit by unit
\item units of each input: $x(t)$ 3
\item units of each layer: $a(t)$ 16, $y(t)$ 2
\item outputs: $y$
\item parameters: $W$ $3 \times 16$, $R$ $16 \times 16$, $V$ $16 \times 2$, $b_a$ $16$, $b_y$ $2$
\item $W^{\top}$ is the transpose of $W$; the shape of $W$ is (units of the source, units of the destination)
\item $a(t) = 0$ for $t \le 0$, unless a state is given
\item $w(t)$: weight of step $t$ of a sequence, $1 / (T \cdot \text{batch})$; weights that are given are divided by~
their sum
\item $\delta_v(t) = \frac{\partial L}{\partial v}(t)$: it, and each product with it, is 0 for $t > T$; $f'$ is the~
derivative of $f$
\end{itemize}""".replace("~\n", " ").replace("SUM", r"\sum_{t=1}^{T} 0.5 \, w(t) \, \sum_{\text{units}}")


def test_latex_of_elman() -> None:
    assert as_latex(gradient(elman())) == LATEX


def greek() -> nx.MultiDiGraph:
    graph = nx.relabel_nodes(elman(), {"x": "a b%", "a": "α_2", "y": "hidden1"})
    graph.nodes["α_2"]["activation"] = "softplus"
    return graph


@pytest.mark.parametrize("graph", [lstm(), mixed(), several_outputs(), greek()])
def test_every_latex_line_can_be_set(graph: nx.MultiDiGraph) -> None:
    mathtext = pytest.importorskip("matplotlib.mathtext")
    parser = mathtext.MathTextParser("path")
    for system in (gradient(graph), jvp(gradient(graph))):
        latex = as_latex(system)
        assert latex.count("{") - latex.count(r"\{") == latex.count("}") - latex.count(r"\}")
        rows, legend = latex_parts(latex)
        assert [int(number) for number in re.findall(r"\\tag\{(\d+)\}", latex)] == list(
            range(1, len(equation_lines(system)) + 1)
        )
        pieces = [re.sub(r" ?\\\\$|\\tag\{\d+\}|\\notag|&", "", row) for row in rows]
        pieces += [piece for line in legend for piece in in_dollars(line)]
        for body in pieces:
            # what mathtext lacks or spells otherwise
            body = body.replace(r"\text{", r"\mathrm{").replace(r"\textbf{", r"\mathbf{").replace(r"\_", " ")
            body = re.sub(r"\$(\\\w+)\$", r"\1", body).replace(r"\le ", r"\leq ").replace(r"\%", " ")
            parser.parse(f"${body.strip()}$")


def in_dollars(line: str) -> list[str]:
    """The formulas of a sentence; a dollar sign within braces belongs to a name."""
    pieces, depth, start = [], 0, -1
    for position, character in enumerate(line):
        depth += (character == "{") - (character == "}")
        if character == "$" and depth == 0:
            if start >= 0:
                pieces.append(line[start:position])
            start = -1 if start >= 0 else position + 1
    assert start == -1 and depth == 0
    return pieces


DELTAS = ("adjoint", "auxiliary")


def test_latex_of_functions_and_names() -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x_in", kind="input", size=2)
    graph.add_node("h 1%", kind="output", size=2, equation="sqrt(abs(q)) + maximum(leaky_relu(q), 1/q)/3 - q**2")
    graph.add_edge("x_in", "h 1%", port="q", delay=1)
    (line,) = (line for line in as_latex(derive(graph)).split("\n") if r"\tag" in line)
    assert line == (
        r"\text{h 1\%}(t) &= \frac{1}{3} \, \max\left(\operatorname{leaky\_relu}\left(x_{\mathrm{in}}(t-1)\right),"
        r" \frac{1}{x_{\mathrm{in}}(t-1)}\right) + \sqrt{\left|x_{\mathrm{in}}(t-1)\right|}"
        r" - {x_{\mathrm{in}}(t-1)}^{2} \tag{1}"
    )


class Shown:
    """Computes the equations as they are displayed; the counterpart of Evaluation."""

    def __init__(self, evaluation: Evaluation, equations: list[DisplayEquation]) -> None:
        self.evaluation = evaluation
        self.equations = {equation.name: equation for equation in equations}
        self.functions = {**numpy_functions(), "softmax": lambda y: np.exp(y) / np.exp(y).sum(axis=1, keepdims=True)}
        self.known: dict[tuple[str, int], Any] = {}

    def value(self, name: str, t: int) -> Any:
        adjoint = self.evaluation.system.signals[name].kind in DELTAS
        inside = 1 <= t <= self.evaluation.T
        if name not in self.equations or not (inside or (adjoint and t < 1)):
            return self.evaluation.value(name, t)
        if (name, t) not in self.known:
            side = self.equations[name].side
            assert side is not None
            self.known[name, t] = self.side(side, t, t < 1)
        return self.known[name, t]

    def side(self, side: Side, t: int, boundary: bool = False) -> Any:
        total: Any = 0.0
        for term in side.terms:
            if boundary and t - term.delay < 1:
                continue
            group = side.groups.get(Read(term.source, term.delay))
            source = self.side(group, t) if group is not None else self.value(term.source, t - term.delay)
            if term.operator == "dense":
                weight = self.evaluation.parameters[str(term.parameter)]
                total = total + source @ (weight.T if term.transposed else weight)
            elif term.operator == "sum":
                total = total + source.sum(axis=1, keepdims=True)
            else:
                total = total + np.log(np.exp(source).sum(axis=1, keepdims=True))
        values: dict[Any, Any] = {}
        for symbol in side.expression.free_symbols:
            read = meaning(symbol)
            if isinstance(read, str):
                values[symbol] = self.evaluation.parameters[read]
            elif read in side.groups:
                values[symbol] = self.side(side.groups[read], t, boundary)
            elif boundary and t - read.delay < 1 and self.evaluation.system.signals[read.signal].kind in DELTAS:
                values[symbol] = np.zeros((1, 1))
            else:
                values[symbol] = self.value(read.signal, t - read.delay)
        expression = side.expression
        for softmax in expression.atoms(sympy.core.function.AppliedUndef):
            assert softmax.func == SOFTMAX
            stand_in = sympy.Symbol("softmax")
            values[stand_in] = self.functions["softmax"](values[softmax.args[0]])
            expression = expression.xreplace({softmax: stand_in})
        return total + evaluate_expression(expression, values, numpy_functions())

    def total(self, name: str) -> Any:
        total: Any = 0.0
        for part in self.equations[name].parts:
            contribution = part.contribution
            if isinstance(contribution, BoundarySum):
                depth = self.evaluation.system.state_depths[contribution.node]
                total = total + sum(self.value(contribution.signal, t).sum(axis=0) for t in range(1 - depth, 1))
                continue
            for t in range(1, self.evaluation.T + 1):
                if isinstance(contribution, Outer):
                    left = self.value(contribution.left, t - contribution.left_delay)
                    total = total + left.T @ self.value(contribution.right, t - contribution.right_delay)
                else:
                    assert isinstance(contribution, PointwiseSum) and part.side is not None
                    value = np.broadcast_to(self.side(part.side, t), (self.evaluation.batch, contribution.size))
                    total = total + (value.sum() if contribution.over_units else value.sum(axis=0))
        return total


@pytest.mark.parametrize(
    ("graph", "loss"),
    [
        (elman(), "mse"),
        (elman(), "cross_entropy"),
        (lstm(), "binary_cross_entropy"),
        (mixed(), "cross_entropy"),
        (mixed(), "abs(y - target)**3"),
        (read_through_a_chain(), "mse"),
        (several_outputs(), {"y": "mse", "q": "cross_entropy"}),
    ],
)
def test_inlining_changes_no_value(graph: nx.MultiDiGraph, loss: Any) -> None:
    system = gradient(graph, loss=loss)
    random = np.random.default_rng(0)
    given = {
        name: random.normal(size=(4, 2, signal.size))
        for name, signal in system.signals.items()
        if signal.kind in ("input", "target", "weight")
    }
    parameters = {name: random.normal(size=shape) for name, shape in system.parameters.items()}
    evaluation = Evaluation(system, 4, 2, given, parameters)
    equations = inline(system)
    assert len(equations) < len(system.equations) + len(system.totals)
    shown = Shown(evaluation, equations)
    for equation in equations:
        if equation.side is not None:
            for t in range(1, 5):
                expected = evaluation.value(equation.name, t)
                np.testing.assert_allclose(shown.value(equation.name, t), expected, rtol=1e-10, atol=1e-12)
        else:
            expected = evaluation.total(system.total(equation.name))
            np.testing.assert_allclose(shown.total(equation.name), expected, rtol=1e-10, atol=1e-12)


def test_constants_are_listed() -> None:
    graph = elman()
    graph.add_edge("x", "y", structure="fixed", value=np.ones((3, 2)))
    system = derive(graph)
    (name,) = system.constants
    text = as_text(system)
    assert f"constants: {quoted(name)} 3x2" in text
    assert f"{TextWriter(system).name(name)}^T x(t)" in text
