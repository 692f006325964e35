r"""Numbered equations as LaTeX: an ``align`` environment that needs amsmath alone, with ``\tag`` numbers, and a
legend."""

from __future__ import annotations

import re

from rnngraph.display.inline import DisplayEquation, inline
from rnngraph.display.legend import heading, legend
from rnngraph.display.notation import TANGENT, Piece, Signs
from rnngraph.display.writer import Writer
from rnngraph.equations import Signal
from rnngraph.system_like import SystemLike

GREEK = [
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi",
    "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega", "Gamma", "Delta", "Theta", "Lambda", "Xi",
    "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega",
]  # fmt: skip
GREEK_LETTERS = dict(zip("αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΥΦΨΩ", (f"\\{name}" for name in GREEK), strict=True))
OPERATORS = {"tanh": r"\tanh", "exp": r"\exp", "log": r"\log", "sin": r"\sin", "cos": r"\cos", "arctan": r"\arctan",
             "maximum": r"\max", "minimum": r"\min", "sigmoid": r"\sigma"}  # fmt: skip
SPECIAL = {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
           **{character: f"\\{character}" for character in "{}$&#%_"}}  # fmt: skip
LETTER_AND_DIGITS = re.compile(r"([A-Za-z])(\d+)")


def as_latex(system: SystemLike) -> str:
    """The equations of ``system`` as one ``align`` environment, a row with the heading before each section; below it
    the legend as an ``itemize`` environment. A rule other than bptt is named before all."""
    writer = LatexWriter(system)
    rows: list[str] = []
    section = ""
    equations = inline(system)
    for equation in equations:
        if equation.section != section:
            section = equation.section
            rows.append(rf"&\textbf{{{section}}} \notag")
        rows.append(rf"{writer.line(equation)} \tag{{{equation.number}}}")
    items = "\n".join(rf"\item {line}" for line in legend(system, writer, {each.name for each in equations}))
    title = heading(system)
    return (
        (f"\\noindent\\textbf{{{escape(title)}}}\n" if title else "")
        + "\\begin{align}\n"
        + " \\\\\n".join(rows)
        + "\n\\end{align}\n\\noindent Where\n"
        "\\begin{itemize}\n" + items + "\n\\end{itemize}"
    )


def escape(text: str) -> str:
    """Any text for use within a LaTeX group of text; what does not print is spelled as its code point."""
    written = []
    for character in text:
        if character in SPECIAL:
            written.append(SPECIAL[character])
        elif character in GREEK_LETTERS:
            written.append(f"${GREEK_LETTERS[character]}$")
        else:
            written.append(character if character.isprintable() else rf"\textbackslash{{}}u{ord(character):04x}")
    return "".join(written)


class LatexWriter(Writer):
    r"""LaTeX: ``\odot`` is elementwise, juxtaposition a matrix product or a product with a number."""

    signs = Signs(
        r"t = 1, \ldots, T", r"t \le 0", r"t > T", r"\odot", r" \times ", r"1 / (T \cdot \text{batch})", r"\gets"
    )

    def line(self, equation: DisplayEquation) -> str:
        """The equation with its alignment mark."""
        return f"{self.left(equation)} &= {self.right(equation)}"

    def name(self, name: str) -> str:
        signal = self.system.signals.get(name)
        rest = name.removeprefix(TANGENT)
        if rest != name and (rest in self.system.shapes if signal is None else signal.origin == rest):
            return self.tangent(self.name(rest))
        if signal is not None and signal.kind in ("sensitivity", "jacobian") and (pair := self._pair(signal)):
            return pair
        if signal is not None and signal.origin is not None and signal.origin != name:
            head = name.removesuffix(signal.origin)
            if head.endswith("_") and head.count("_") == 1:  # delta_<origin>, s_<origin>, target_<origin>
                return f"{self._plain(head.removesuffix('_'))}{_subscript(self.name(signal.origin))}"
        return self._plain(name)

    def _pair(self, signal: Signal) -> str | None:
        """P_<state>_<parameter> or J_<state>_<source> as a letter with two names below; None for another form."""
        letter, of, rest = signal.name[:1], f"_{signal.origin}_", signal.name[1:]
        if not rest.startswith(of):
            return None
        second = rest.removeprefix(of)
        known = self.system.shapes if signal.of is not None else self.system.signals
        return f"{letter}_{{{self.name(signal.origin or '')},{self.name(second)}}}" if second in known else None

    def _plain(self, name: str) -> str:
        if not name.isidentifier() or not all(part.isalnum() for part in name.split("_")):
            return rf"\text{{{escape(name)}}}"
        head, *rest = (self._part(part) for part in name.split("_"))
        if not rest:
            return head
        if head.endswith("}") and "_{" in head:
            return rf"{{{head}}}{_subscript(','.join(rest))}"
        return head + _subscript(",".join(rest))

    @staticmethod
    def _part(part: str) -> str:
        if part in GREEK:
            return f"\\{part}"
        if part in GREEK_LETTERS:
            return GREEK_LETTERS[part]
        if match := LETTER_AND_DIGITS.fullmatch(part):
            return f"{match[1]}_{{{match[2]}}}"
        if len(part) == 1 or part.isdecimal():
            return part if part.isascii() else rf"\text{{{part}}}"
        return rf"\mathrm{{{part}}}" if part.isascii() else rf"\text{{{escape(part)}}}"

    def derivative(self, name: str, entry: str = "") -> str:
        return rf"\frac{{\partial L}}{{\partial {self.name(name)}{entry}}}"

    def tangent(self, text: str) -> str:
        return rf"\dot{{{text}}}"

    def power(self, base: str, exponent: str) -> str:
        return f"{{{base}}}^{{{exponent}}}"

    def multiply(self, left: Piece, right: Piece) -> str:
        return f"{left.text} {_times(left, right)} {right.text}"

    def divide(self, top: Piece, bottom: Piece) -> str:
        return rf"\frac{{{top.text}}}{{{bottom.text}}}"

    def call(self, function: str, arguments: list[str]) -> str:
        if function == "sqrt":
            return rf"\sqrt{{{arguments[0]}}}"
        if function == "abs":
            return rf"\left|{arguments[0]}\right|"
        base = function.rstrip("'")
        operator = OPERATORS.get(base, rf"\operatorname{{{escape(base)}}}") + function[len(base) :]
        return rf"{operator}\left({', '.join(arguments)}\right)"

    def bracket(self, text: str) -> str:
        return rf"\left({text}\right)"

    def transpose(self, text: str) -> str:
        return rf"{{{text}}}^{{\top}}" if any(sign in text for sign in "_^'}") else rf"{text}^{{\top}}"

    def matrix_product(self, left: str, right: str) -> str:
        return rf"{left}\, {right}"

    def sum_units(self, text: str) -> str:
        return rf"\sum_{{\text{{units}}}} {self.bracket(text)}"

    def sum_index(self, index: str, text: str) -> str:
        return rf"\sum_{{{index}}} {self.bracket(text)}"

    def over_delays(self, operator: str, index: str, text: str) -> str:
        sign = r"\sum" if operator == "sum" else r"\operatorname{softmax}"
        return rf"{sign}_{{{index}}} {text}"

    def log_sum_exp(self, text: str) -> str:
        return rf"\log \sum_{{\text{{units}}}} \exp{self.bracket(text)}"

    def sum_time(self, text: str) -> str:
        return rf"\sum_{{t=1}}^{{T}} {text}"

    def sum_outside(self, text: str, times: str) -> str:
        return rf"\sum_{{{times}}} {text}"

    def fraction(self, top: int, bottom: int) -> str:
        return rf"\frac{{{top}}}{{{bottom}}}"

    def math(self, text: str) -> str:
        return f"${text}$"

    def note(self, text: str) -> str:
        return escape(text).replace("->", r"$\to$")


def _subscript(text: str) -> str:
    return f"_{text}" if len(text) == 1 else f"_{{{text}}}"


def _times(left: Piece, right: Piece) -> str:
    return r"\," if left.scalar or right.scalar else r"\odot"
