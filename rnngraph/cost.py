"""What a System costs: FLOPs of a time step and the numbers it keeps, as formulas in the sizes, from its equations.

A multiply-add of a product counts 2, each operation of a pointwise expression 1, as the equations stand; an equation
a(t) = f(s(t)) serves every f(s(t)), and what does not vary over the rows of a matrix is computed once. B sequences run
at once. Kept are

    by BPTT              what the backward pass reads of the forward pass and of the data, at all T steps
    by truncated BPTT    the same at the last k2 steps
    by bptt-rtrl         the same at the steps of a block of h steps, the state at its start, and two values of the
                         derivative P of the joint state by the parameters, whatever T is
    by sensitivities     the states and the sensitivities that the next step reads, whatever T is; of a sensitivity
                         one value more, since the last is read while the next is made

Work and memory at t <= 0, for learned initial values, are left out: they do not grow with T. This is the rule's cost;
the workspaces of the emitted code, which trades memory for speed, are those of ``Kernel.explain``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import networkx as nx
import numpy as np
import sympy

from codegen.functions import PointwiseFunction, expand_primes
from rnngraph import cost_blocks
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
    WeightValue,
    at,
    is_along_rows,
    meaning,
    reads_of,
    symbols_of,
)
from rnngraph.errors import OptionError, UnsupportedError
from rnngraph.sizes import BLOCK, K1, K2, B, Sizes, T, formula
from rnngraph.system_like import SystemLike

SHOWN = 5  # contributions
FORWARD_KINDS = ("input", "target", "weight", "unit", "sum")


@dataclass(frozen=True)
class Share:
    """One contribution: what it is, as text, and how much, as an expression in the sizes."""

    what: str
    amount: Expression


@dataclass(frozen=True)
class CostNumbers:
    """``flops_per_step`` and ``flops`` of all T steps; ``memory``: how many numbers are kept; ``bytes``: their size."""

    flops_per_step: int
    flops: int
    memory: int
    bytes: int


@dataclass(frozen=True)
class Cost:
    """See the module's docstring. ``flops`` and ``kept``: the contributions, the largest first for the sizes at hand.

    ``rule``: the learning rule, "" without a gradient. ``sizes`` maps the symbols to their numbers in this network,
    ``layers`` to the layers that are so wide. Symbols: n_<layer> (units), B (sequences at once), T (steps), k1 and k2
    of truncated BPTT, h (steps of a block).
    """

    rule: str
    flops: tuple[Share, ...]
    kept: tuple[Share, ...]
    sizes: Mapping[Expression, int]
    layers: Mapping[Expression, tuple[str, ...]]

    @property
    def flops_per_step(self) -> Expression:
        """FLOPs of one time step of B sequences, a polynomial in the sizes."""
        return sympy.expand(sympy.Add(*(share.amount for share in self.flops)))

    @property
    def memory(self) -> Expression:
        """How many numbers are kept, a polynomial in the sizes."""
        return sympy.expand(sympy.Add(*(share.amount for share in self.kept)))

    def numbers(self, T: int = 100, batch: int = 1, dtype: str = "float32") -> CostNumbers:
        """The cost of ``batch`` sequences of ``T`` steps. Raises OptionError for a length, batch or dtype that is
        none."""
        for name, value in (("T", T), ("batch", batch)):
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise OptionError(name, repr(value), "an integer >= 1", "give the length and number of sequences")
        if dtype not in ("float32", "float64"):
            raise OptionError("dtype", repr(dtype), "'float32' or 'float64'", "give the dtype of the kernel")
        step = _number(self.flops_per_step, self.sizes, int(T), int(batch))
        memory = _number(self.memory, self.sizes, int(T), int(batch))
        return CostNumbers(step, step * int(T), memory, memory * (8 if dtype == "float64" else 4))

    def __str__(self) -> str:
        where = ", ".join(f"{symbol} = {value}" for symbol, value in self.sizes.items())
        lines = [f"Cost of {self.rule or 'the forward pass'}, for B sequences of T steps", f"  here {where}", ""]
        for title, shares, whole in (
            ("FLOP per time step", self.flops, self.flops_per_step),
            ("Numbers kept", self.kept, self.memory),
        ):
            lines += [f"{title}: {formula(whole)}", *self._table(shares, whole), ""]
        growth = [str(symbol) for symbol in (T, K2) if self.memory.has(symbol)]
        lines.append(f"Memory grows with {growth[0]}." if growth else "Memory does not depend on T.")
        equal = [f"{symbol}: {', '.join(names)}" for symbol, names in self.layers.items() if len(names) > 1]
        return "\n".join([*lines, *(["Equally wide: " + "; ".join(equal)] if equal else [])])

    def _table(self, shares: tuple[Share, ...], whole: Expression) -> list[str]:
        """The largest contributions, those of one formula together, for T = 100 and one sequence."""
        total = _number(whole, self.sizes)
        groups: dict[Expression, list[str]] = {}
        for share in shares:
            groups.setdefault(share.amount, []).append(share.what)
        amounts = {amount: _number(amount, self.sizes) * len(whats) for amount, whats in groups.items()}
        ranked = sorted(groups, key=lambda amount: -amounts[amount])
        rows = []
        for amount in ranked[:SHOWN]:
            whats, times = groups[amount], len(groups[amount])
            what = whats[0] if times == 1 else f"{whats[0]} and {times - 1} more of this size"
            rows.append((_percent(amounts[amount], total), f"{amounts[amount]:,}", formula(times * amount), what))
        if len(ranked) > SHOWN:
            rest = total - sum(amounts[amount] for amount in ranked[:SHOWN])
            rows.append((_percent(rest, total), f"{rest:,}", "", "the rest"))
        rows.append(("", f"{total:,}", "", "in all, for T = 100 and B = 1"))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        return [
            f"  {row[0]:>{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:{widths[2]}}  {row[3]}".rstrip() for row in rows
        ]


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.0f} %"


def _number(expression: Expression, sizes: Mapping[Expression, int], length: int = 100, batch: int = 1) -> int:
    values = {symbol: sympy.Integer(value) for symbol, value in sizes.items()}
    if BLOCK in sizes:  # nor is a block
        values[BLOCK] = sympy.Integer(min(sizes[BLOCK], length))
    if K2 in sizes and not expression.has(K1):  # a history is never longer than the sequence
        values[K2] = sympy.Integer(min(sizes[K2], length))
    return int(sympy.ceiling(expression.xreplace({**values, T: sympy.Integer(length), B: sympy.Integer(batch)})))


def _by_size(shares: list[Share], sizes: Mapping[Expression, int]) -> tuple[Share, ...]:
    """The largest first, those of nothing left out."""
    kept = [share for share in shares if share.amount != 0]
    return tuple(sorted(kept, key=lambda share: -_number(share.amount, sizes)))


def cost(system: SystemLike) -> Cost:
    """The cost of a System. Raises UnsupportedError for a kind of term that it does not know."""
    return _Count(system).run()


class _Count:
    """Goes through the equations and totals of one System."""

    def __init__(self, system: SystemLike) -> None:
        self.system = system
        self.sizes = Sizes(system)
        self.applications = {
            expression: at(equation.signal)
            for equation in system.equations
            if not equation.terms and isinstance(expression := expand_primes(equation.expression), PointwiseFunction)
        }
        self.equations = [self._shared(equation) for equation in system.equations]
        self.vectors = {  # what serves all rows and is counted already
            equation.expression
            for equation in self.equations
            if not equation.terms and not system.signals[equation.signal].rows
        }
        self.forward = forward_signals(system)
        self.again = self._again()

    def run(self) -> Cost:
        flops = [share for equation in self.equations for share in self._equation(equation)]
        for total in self.system.totals:
            for piece in total.contributions:
                flops += self._contribution(total, piece)
        sizes = dict(self.sizes.values)
        if (carry := self.system.carry) is not None:
            flops += [Share(*found) for found in cost_blocks.flops(carry, self.sizes)]
            found_kept = cost_blocks.kept(carry, self.sizes, self.system.state_depths)
            kept = [*(Share(*found) for found in found_kept), *self._history()]
            sizes[BLOCK] = carry.length
        elif any(signal.rows for signal in self.system.signals.values()):
            kept = self._sensitivities()
        else:
            kept = self._history()
        if self.system.windows is not None:
            sizes |= dict(zip((K1, K2), self.system.windows, strict=True))
        trained = any(total.kind == "gradient" for total in self.system.totals)
        rule = self.system.rule if trained else ""
        if self.system.windows is not None:
            rule = f"tbptt(k1={sizes[K1]}, k2={sizes[K2]})"
        return Cost(rule, _by_size(flops, sizes), _by_size(kept, sizes), sizes, self.sizes.members)

    # What is computed.

    def _shared(self, equation: Equation) -> Equation:
        if self.applications.get(equation.expression) == at(equation.signal):
            return equation
        return Equation(equation.signal, equation.terms, self._once(equation.expression))

    def _once(self, expression: Expression) -> Expression:
        return expand_primes(expression).xreplace(self.applications)

    def _equation(self, equation: Equation) -> list[Share]:
        often = self._times(equation.signal)
        shares = [
            Share(f"{equation.signal}(t): {self._text(term)}", often * self._term(term, equation.signal))
            for term in equation.terms
        ]
        pointwise = self._operations(equation.expression, equation.signal)
        return [*shares, Share(f"{equation.signal}(t): unit by unit", often * pointwise)]

    def _term(self, term: Term, signal: str) -> Expression:
        units, source = self.sizes.of(signal), self.sizes.of(term.source)
        if term.operator == "dense":
            return 2 * self.sizes.rows(signal) * source * units
        if term.pattern is not None:
            return sympy.Integer(2 * len(term.pattern))
        if term.operator in ("sum", "sum_all"):
            return self.sizes.rows(term.source) * source
        if term.operator == "logsumexp":
            return 2 * source + 1
        if term.operator == "product":
            return 2 * self.sizes.rows(term.source) * source * units
        if term.operator == "expand":  # without a Jacobian each entry is added at one place
            entries = self.sizes.rows(term.source) * source
            return entries if term.jacobian is None else 2 * entries * units
        if term.operator == "diagonal":
            return 2 * self.sizes.rows(signal) * units
        raise UnsupportedError("cost", f"a term {term.operator!r} of {signal!r}", "a term of the grammar", "report it")

    def _operations(self, expression: Expression, signal: str) -> Expression:
        """Those on every row, and those on vectors that serve all rows."""
        units, rows = self.sizes.of(signal), self.sizes.rows(signal)
        if not self.system.signals[signal].rows:
            return int(expression.count_ops()) * units
        fixed: dict[Expression, Expression] = {}
        moving = self._without_vectors(expression, fixed)
        vectors = sum(int(part.count_ops()) for part in fixed if part not in self.vectors)
        self.vectors.update(fixed)
        return int(moving.count_ops()) * rows * units + vectors * units

    def _without_vectors(self, expression: Expression, fixed: dict[Expression, Expression]) -> Expression:
        """The expression with a symbol for each largest part that has no rows; those parts are added to ``fixed``."""
        if not self._has_rows(expression):
            if expression.is_number:
                return expression
            return fixed.setdefault(expression, sympy.Symbol(f"v{len(fixed)}", real=True))
        if not expression.args:
            return expression
        moving = [argument for argument in expression.args if self._has_rows(argument)]
        parts = [self._without_vectors(argument, fixed) for argument in moving]
        others = [argument for argument in expression.args if argument not in moving]
        if others and (expression.is_Add or expression.is_Mul):
            parts.append(self._without_vectors(expression.func(*others), fixed))
            return expression.func(*parts)
        return expression.func(*(self._without_vectors(argument, fixed) for argument in expression.args))

    def _has_rows(self, expression: Expression) -> bool:
        for symbol in symbols_of(expression):
            found = meaning(symbol)
            if isinstance(found, str):
                if len(self.sizes.shape(found)) == 2:
                    return True
            elif is_along_rows(symbol) or self.system.signals[found.signal].rows:
                return True
        return False

    def _contribution(self, total: Total, piece: Contribution) -> list[Share]:
        if isinstance(piece, BoundarySum | WeightValue):
            return []  # what is done once, not at every step
        often = self._times(*(read.signal for read in contribution_reads(piece)))
        if isinstance(piece, Outer):
            amount = 2 * self.sizes.of(piece.left) * self.sizes.of(piece.right)
            text = f"{piece.left}{_time(piece.left_delay)} {piece.right}{_time(piece.right_delay)}^T"
        elif isinstance(piece, SparseOuter):
            amount = sympy.Integer(2 * len(piece.pattern))
            text = f"{piece.left}(t-d) {piece.right}(t)^T, where there are weights"
        elif isinstance(piece, Contraction):
            amount = 2 * self.sizes.rows(piece.sensitivity) * self.sizes.of(piece.sensitivity)
            text = f"{piece.sensitivity}{_time(piece.delay)}"
            if piece.error is None:  # nothing but the sum over t and the batch
                amount = amount / 2
            else:
                text += f" with {piece.error}(t)"
        else:
            expression = self._once(piece.expression)
            sizes = [self.sizes.of(read.signal) for read in reads_of(expression)]
            units = next((size for size in sizes if self.sizes.number(size) == piece.size), sympy.Integer(piece.size))
            amount = (int(expression.count_ops()) + 1) * units
            text = "unit by unit"
        return [Share(f"{total.name}: {text}", often * amount)]

    def _times(self, *signals: str) -> Expression:
        """How often a step computes it: B sequences; in windows, what reaches back k2 steps each k1 steps."""
        return B * K2 / K1 if self.system.windows is not None and self.again.intersection(signals) else B

    def _again(self) -> set[str]:
        """The backward signals of which a window of truncated BPTT computes k2 steps: those that reach back in time."""
        graph = nx.DiGraph()
        start: set[str] = set()
        for equation in self.equations:
            for read in equation.reads():
                if equation.signal not in self.forward and read.signal not in self.forward:
                    graph.add_edge(read.signal, equation.signal)
                    if read.delay != 0:
                        start.add(equation.signal)
        return start.union(*(nx.descendants(graph, name) for name in start))

    def _text(self, term: Term) -> str:
        source = f"{term.source}{_time(term.delay)}"
        if term.operator == "dense":
            if self.system.signals[term.source].rows:
                return f"{source} {term.parameter}"
            return f"{term.parameter} {source}" if term.transposed else f"{term.parameter}^T {source}"
        if term.jacobian is not None:
            return f"{source} {term.jacobian}(t)"
        if term.pattern is not None:
            side = f"{term.source}({'t+d' if term.transposed else 't-d'})"
            return f"{term.parameter} {side}" if term.transposed else f"{term.parameter}^T {side}"
        return f"{term.operator} of {source}"

    # What is kept.

    def _history(self) -> list[Share]:
        backward = [equation for equation in self.equations if equation.signal not in self.forward]
        if not backward:
            return self._states()
        reads = [read.signal for equation in backward for read in equation.reads()]
        for total in self.system.totals:
            if total.kind == "gradient":
                reads += [read.signal for piece in total.contributions for read in self._contribution_reads(piece)]
        length = K2 if self.system.windows is not None else BLOCK if self.system.carry is not None else T
        return [
            Share(f"{name}(t) of every step", B * length * self.sizes.of(name))
            for name in dict.fromkeys(reads)
            if name in self.forward
        ]

    def _contribution_reads(self, piece: Contribution) -> list[Read]:
        if isinstance(piece, PointwiseSum):
            return reads_of(self._once(piece.expression))
        return contribution_reads(piece)

    def _states(self) -> list[Share]:
        return [
            Share(f"{name}, the last {depth}" if depth > 1 else f"{name}, the last", B * depth * self.sizes.of(name))
            for name, depth in self.system.state_depths.items()
        ]

    def _sensitivities(self) -> list[Share]:
        depths: dict[str, int] = {}
        pieces = [piece for total in self.system.totals for piece in total.contributions]
        for read in [
            *(read for equation in self.equations for read in equation.reads()),
            *(read for piece in pieces for read in contribution_reads(piece)),
        ]:
            if self.system.signals[read.signal].rows:
                depths[read.signal] = max(depths.get(read.signal, 0), read.delay)
        kept = [
            Share(_values(name, depth), B * (depth + 1) * self.sizes.rows(name) * self.sizes.of(name))
            for name, depth in depths.items()
            if depth > 0 or self.system.signals[name].kind == "sensitivity"
        ]
        return [*kept, *self._states()]


def _values(name: str, depth: int) -> str:
    """Which values of a sensitivity are kept."""
    return f"{name}, the last{f' {depth}' if depth > 1 else ''} and the next" if depth else f"{name}, of the step"


def contribution_reads(piece: Contribution) -> list[Read]:
    """The signals that a contribution to a total reads."""
    if isinstance(piece, PointwiseSum):
        return reads_of(piece.expression)
    if isinstance(piece, Outer):
        return [Read(piece.left, piece.left_delay), Read(piece.right, piece.right_delay)]
    if isinstance(piece, SparseOuter):
        return piece.reads()
    if isinstance(piece, Contraction):
        reads = [Read(piece.sensitivity, piece.delay)]
        return reads if piece.error is None else [*reads, Read(piece.error, 0)]
    return []


def forward_signals(system: SystemLike) -> set[str]:
    """The signals of the network and its loss, those of its gradient left out."""
    found = {name for name, signal in system.signals.items() if signal.kind in FORWARD_KINDS}
    sources = {equation.signal: [read.signal for read in equation.reads()] for equation in system.equations}
    losses = [total for total in system.totals if total.kind == "loss"]
    waiting = [read.signal for total in losses for piece in total.contributions for read in contribution_reads(piece)]
    while waiting:
        name = waiting.pop()
        if name not in found:
            waiting += sources.get(name, [])
        found.add(name)
    return found


def _time(delay: int) -> str:
    return "(t)" if delay == 0 else f"(t-{delay})" if delay > 0 else f"(t+{-delay})"
