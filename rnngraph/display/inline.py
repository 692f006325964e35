"""System -> display equations: numbered, in sections, with signals that are read once written where they are read.

Inlining is for reading only and changes no value. An adjoint or auxiliary signal that is read once disappears into its
reader: a pointwise one is substituted (shifted in time where it is read at another time), one with matrix products
becomes a group in parentheses, which is possible where it is read at the same t. So the two equations
delta_a(t) = V delta_y(t) + R delta_s_a(t+1) and delta_s_a(t) = tanh'(s_a(t)) * delta_a(t) become the chapter's delta
recursion delta_s_a(t) = tanh'(s_a(t)) * (V delta_y(t) + R delta_s_a(t+1)). Jacobians go into their reader likewise;
one that is a function's derivative and no more goes into every reader.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import sympy

from codegen.functions import PrimeFunction, exp
from rnngraph.display.weights import WeightText
from rnngraph.equations import (
    BoundarySum,
    Contraction,
    Contribution,
    Equation,
    Expression,
    Outer,
    PointwiseSum,
    Read,
    SparseOuter,
    Term,
    Total,
    Weight,
    WeightValue,
    along_rows,
    at,
    is_along_rows,
    meaning,
    reads_of,
)
from rnngraph.rules import RULES
from rnngraph.system_like import SystemLike

WEIGHTS = "Effective weights"
FORWARD, LOSS, TANGENTS, BACKWARD, GRADIENTS = "Forward", "Loss", "Tangents", "Backward", "Gradients"
ERRORS, JACOBIANS, SENSITIVITIES = "Errors of one step", "Jacobians of one step", "Sensitivities"
END_STATE = "Backward from the end state of a block"
SECTIONS = (WEIGHTS, FORWARD, LOSS, BACKWARD, END_STATE, ERRORS, JACOBIANS, SENSITIVITIES, GRADIENTS, TANGENTS)
WRITTEN_OUT = ("adjoint", "auxiliary", "jacobian")  # the kinds of signals that may disappear into their reader

SOFTMAX = sympy.Function("softmax")


@dataclass(frozen=True)
class Side:
    """A right-hand side: sum of ``terms`` + ``expression``; a read that is a key of ``groups`` stands for that side."""

    terms: tuple[Term, ...]
    expression: Expression
    groups: Mapping[Read, Side] = field(default_factory=dict)

    @property
    def pointwise(self) -> bool:
        """Whether it holds no matrix product, sum over units or group."""
        return not self.terms and not self.groups


@dataclass(frozen=True)
class Part:
    """One contribution of a total; ``side`` is its expression when it is a PointwiseSum."""

    contribution: Contribution
    side: Side | None = None


@dataclass(frozen=True)
class DisplayEquation:
    """Equation ``number`` of ``section`` defines ``name``: a signal by ``side``, a total by ``parts``, or a ``weight``.

    ``absorbed`` are the signals that were inlined into it.
    """

    number: int
    section: str
    name: str
    side: Side | None = None
    parts: tuple[Part, ...] = ()
    absorbed: tuple[str, ...] = ()
    weight: Weight | None = None


def rule_name(system: SystemLike) -> str:
    """The learning rule without its options."""
    return system.rule.partition("(")[0]


def goes_forward(system: SystemLike) -> bool:
    """Whether the gradient is by sensitivities, so that adjoints are those of one step."""
    return RULES[rule_name(system)].family == "sensitivities"


def inline(system: SystemLike) -> list[DisplayEquation]:
    """The equations and totals of ``system`` as they are shown, numbered from 1."""
    return _Inlining(system).run()


def shift(expression: Expression, delay: int) -> Expression:
    """``expression`` with every signal read ``delay`` steps earlier."""
    if delay == 0:
        return expression
    earlier: dict[Expression, Expression] = {}
    for symbol in expression.free_symbols:
        read = meaning(symbol)
        if isinstance(read, Read):
            earlier[symbol] = (along_rows if is_along_rows(symbol) else at)(read.signal, read.delay + delay)
    return expression.xreplace(earlier)


class _Inlining:
    """Finds what can be inlined where, and builds the sides."""

    def __init__(self, system: SystemLike) -> None:
        self.system = system
        self.softmax = _softmax_rewriting(system)
        self.equations = {
            equation.signal: Equation(equation.signal, equation.terms, self._tidy(equation.expression, equation.signal))
            for equation in system.equations
        }
        self.at_boundary = {
            part.signal for total in system.totals for part in total.contributions if isinstance(part, BoundarySum)
        } | set(system.state_adjoints.values())
        if system.carry is not None:
            self.at_boundary |= set(system.carry.adjoints.values())
        self.readers: dict[str, list[str]] = {}
        self.sections: dict[str, str] = {}
        self.reader_of: dict[str, str] = {}
        self.sides: dict[str, Side] = {}
        self.absorbed: dict[str, list[str]] = {}

    def run(self) -> list[DisplayEquation]:
        self._find_sections()
        self._find_readers()
        shown: list[tuple[str, str, str, Side | None, tuple[Part, ...]]] = []
        order = self._reading_order()
        for name in order:
            self._side(name)
        totals = [(total, self._total_section(total), self._parts(total)) for total in self.system.totals]
        hidden = {signal for signals in self.absorbed.values() for signal in signals}
        for name in order:
            if name not in hidden:
                shown.append((name, name, self.sections[name], self.sides[name], ()))
        for total, section, parts in totals:
            shown.append((total.name, _key(total), section, None, parts))
        weights = {weight.name: weight for weight in WeightText(self.system).shown()}
        own = {weight.name for weight in self.system.weights}
        back = self._back_through_weights()
        first = next((place for place, entry in enumerate(shown) if entry[1] in back), len(shown))
        shown[first:first] = [(name, name, WEIGHTS if name in own else GRADIENTS, None, ()) for name in weights]
        shown.sort(key=lambda entry: SECTIONS.index(entry[2]))
        return [
            DisplayEquation(number, section, name, side, parts, tuple(self._all_absorbed(key)), weights.get(key))
            for number, (name, key, section, side, parts) in enumerate(shown, start=1)
        ]

    def _back_through_weights(self) -> set[str]:
        """The totals, as readers, that are made of other gradients."""
        return {
            _key(total)
            for total in self.system.totals
            if any(isinstance(piece, WeightValue) for piece in total.contributions)
        }

    def _all_absorbed(self, name: str) -> list[str]:
        found: list[str] = []
        for signal in self.absorbed.get(name, ()):
            found += [signal, *self._all_absorbed(signal)]
        return found

    def _tidy(self, expression: Expression, signal: str) -> Expression:
        expression = expression.xreplace(self.softmax)
        if self.system.signals[signal].kind in ("unit", "sum"):
            return expression  # as the user wrote it
        return _factor(expression)

    # Sections.

    def _find_sections(self) -> None:
        has_loss = any(total.kind == "loss" for total in self.system.totals)
        backward = ERRORS if goes_forward(self.system) else BACKWARD
        kinds = {"adjoint": backward, "tangent": TANGENTS, "jacobian": JACOBIANS, "sensitivity": SENSITIVITIES}
        for name in self.equations:
            kind = self.system.signals[name].kind
            if self.system.carry is not None and self.system.signals[name].rows:
                self.sections[name] = END_STATE
            elif kind != "auxiliary":
                self.sections[name] = kinds.get(kind, FORWARD)
        waiting = [name for name in self.equations if name not in self.sections]
        for name in waiting:
            read = {self.sections.get(read.signal) for read in self.equations[name].reads()}
            direct = {self.system.signals[read.signal].kind for read in self.equations[name].reads()}
            if self.system.signals[name].rows:
                self.sections[name] = SENSITIVITIES
            elif backward in read or "adjoint" in direct:
                self.sections[name] = backward
            elif TANGENTS in read or "tangent" in direct:
                self.sections[name] = TANGENTS
            else:
                self.sections[name] = LOSS if has_loss else FORWARD

    @staticmethod
    def _total_section(total: Total) -> str:
        return {"loss": LOSS, "tangent": TANGENTS}.get(total.kind, GRADIENTS)

    # Who reads whom, and the order of reading.

    def _find_readers(self) -> None:
        for equation in self.equations.values():
            for read in (read for term in equation.terms for read in term.reads()):
                self.readers.setdefault(read.signal, []).append(equation.signal)
            self._count(equation.expression, equation.signal)
        for total in self.system.totals:
            for contribution in total.contributions:
                if isinstance(contribution, PointwiseSum):
                    self._count(_factor(contribution.expression.xreplace(self.softmax)), _key(total))
                elif isinstance(contribution, Outer | SparseOuter):
                    self.readers.setdefault(contribution.left, []).append(_key(total))
                    self.readers.setdefault(contribution.right, []).append(_key(total))
                elif isinstance(contribution, Contraction):
                    for name in filter(None, (contribution.sensitivity, contribution.error)):
                        self.readers.setdefault(name, []).append(_key(total))
                elif isinstance(contribution, BoundarySum):
                    self.readers.setdefault(contribution.signal, []).append(_key(total))
        for name in (*self.system.outputs, *_values(self.system.input_adjoints), *_values(self.system.state_adjoints)):
            self.readers.setdefault(name, []).append("")
        if (carry := self.system.carry) is not None:  # what is carried is written below the equations
            summed = [piece for pieces in carry.direct.values() for piece in pieces]
            for name in (*carry.adjoints.values(), *(name for piece in summed for name in _with_rows(piece))):
                self.readers.setdefault(name, []).append("")

    def _count(self, expression: Expression, reader: str) -> None:
        counts = Counter(node for node in sympy.preorder_traversal(expression) if node.is_Symbol)
        for symbol, count in counts.items():
            found = meaning(symbol)
            if isinstance(found, Read):
                self.readers.setdefault(found.signal, []).extend([reader] * count)

    def _reading_order(self) -> list[str]:
        """The equations, each after those it reads at the same t; else in the system's order."""
        waiting: dict[str, set[str]] = {}
        readers: dict[str, list[str]] = {}
        for name, equation in self.equations.items():
            now = {read.signal for read in equation.reads() if read.delay == 0 and read.signal in self.equations}
            waiting[name] = now - {name}
            for source in waiting[name]:
                readers.setdefault(source, []).append(name)
        place = {name: position for position, name in enumerate(waiting)}
        ready = [place[name] for name, sources in waiting.items() if not sources]  # in order: a heap
        names = list(waiting)
        order: list[str] = []
        while ready:
            name = names[heapq.heappop(ready)]
            order.append(name)
            for reader in readers.get(name, ()):
                waiting[reader].discard(name)
                if not waiting[reader]:
                    heapq.heappush(ready, place[reader])
        return order + [name for name in names if waiting[name]]  # none is left over in a system that can be computed

    # Inlining.

    def _may_inline(self, read: Read, reader: str) -> bool:
        """Whether ``read`` in the definition of ``reader`` can be written out there."""
        name = read.signal
        if name not in self.equations or self.system.signals[name].kind not in WRITTEN_OUT:
            return False
        if self._is_derivative(name):
            return True
        if self.readers.get(name) != [reader] or self._reaches(reader, name):
            return False
        self.reader_of[name] = reader  # before looking into it, so that a loop of signals read once is seen
        if reader in self.at_boundary:
            # its values at t <= 0 count, where a delta that it reads at the same t is 0 and must stay visible
            inside = read.delay < 0 and self._side(name).pointwise
            if inside and all(each.delay == 0 for each in self._deltas(self._side(name).expression)):
                return True
        elif read.delay == 0 or self._side(name).pointwise:
            return True
        del self.reader_of[name]
        return False

    def _is_derivative(self, name: str) -> bool:
        """Whether a signal is a Jacobian that is a vector f'(s(t)), which is as short as its name."""
        if name not in self.equations:
            return False
        equation, signal = self.equations[name], self.system.signals[name]
        short = isinstance(equation.expression, PrimeFunction) and all(
            argument.is_Symbol and isinstance(meaning(argument), Read) for argument in equation.expression.args
        )
        return signal.kind == "jacobian" and not signal.rows and not equation.terms and short

    def _deltas(self, expression: Expression) -> list[Read]:
        kinds = ("adjoint", "auxiliary")
        return [read for read in reads_of(expression) if self.system.signals[read.signal].kind in kinds]

    def _reaches(self, reader: str, name: str) -> bool:
        """Whether ``reader`` is itself inlined, step by step, into ``name``: a loop of signals read once."""
        while reader != name:
            if reader not in self.reader_of:
                return False
            reader = self.reader_of[reader]
        return True

    def _side(self, name: str) -> Side:
        if name not in self.sides:
            equation = self.equations[name]
            self.sides[name] = self._written(equation.terms, equation.expression, name)
        return self.sides[name]

    def _written(self, terms: tuple[Term, ...], expression: Expression, reader: str) -> Side:
        groups: dict[Read, Side] = {}
        substitutions: dict[Expression, Expression] = {}
        down_the_rows = {meaning(symbol): symbol for symbol in expression.free_symbols if is_along_rows(symbol)}
        for down, symbol in down_the_rows.items():
            if isinstance(down, Read) and self._is_derivative(down.signal):
                inner = self.equations[down.signal].expression
                substitutions[symbol] = shift(
                    inner.xreplace({at(*each): along_rows(*each) for each in reads_of(inner)}), down.delay
                )
                self.absorbed.setdefault(reader, []).append(down.signal)
        for read in reads_of(expression):
            if (read in down_the_rows and not self._is_derivative(read.signal)) or not self._may_inline(read, reader):
                continue
            side = self._side(read.signal)
            self.absorbed.setdefault(reader, []).append(read.signal)
            if side.pointwise:
                substitutions[at(read.signal, read.delay)] = shift(side.expression, read.delay)
            else:
                groups[read] = side
        for term in terms:
            read = Read(term.source, term.delay)
            if term.operator in ("sum", "expand") and self._may_inline(read, reader):
                side = self._side(read.signal)
                self.absorbed.setdefault(reader, []).append(read.signal)
                groups[read] = Side((), shift(side.expression, read.delay)) if side.pointwise else side
        if substitutions:
            expression = _factor(expression.xreplace(substitutions))
        return Side(terms, expression, groups)

    def _parts(self, total: Total) -> tuple[Part, ...]:
        parts = []
        for contribution in total.contributions:
            if isinstance(contribution, PointwiseSum):
                expression = _factor(contribution.expression.xreplace(self.softmax))
                parts.append(Part(contribution, self._written((), expression, _key(total))))
            else:
                parts.append(Part(contribution))
        return tuple(parts)


def _key(total: Total) -> str:
    """A total as a reader: no signal's name, so that a node may be called "loss"."""
    return f"{total.name}@total"


def _with_rows(piece: Contribution) -> list[str]:
    """The adjoints of the end state that a direct effect sums."""
    if isinstance(piece, PointwiseSum):
        return [read.signal for read in reads_of(piece.expression)]
    return [piece.right] if isinstance(piece, Outer) else []


def _factor(expression: Expression) -> Expression:
    """Common factors taken out: a w + b w becomes (a + b) w."""
    return sympy.factor_terms(expression)


def _values(mapping: Mapping[str, str]) -> list[str]:
    return [value for value in mapping.values() if value]


def _softmax_rewriting(system: SystemLike) -> dict[Expression, Expression]:
    """exp(y - m) where m is the log-sum-exp of y is read as softmax(y)."""
    return {
        exp(at(term.source) - at(equation.signal)): SOFTMAX(at(term.source))
        for equation in system.equations
        for term in equation.terms
        if term.operator == "logsumexp" and len(equation.terms) == 1 and equation.expression == 0
    }
