"""A System unrolled over t = 1..T into one scalar sympy expression of its loss.

The expression shares its parts: each value of a signal is one :class:`Shared` atom. sympy's chain rule goes through it
as through the identity function, and the derivative is remembered there, so that ``sympy.diff`` takes time in
proportion to the number of values, where a tree written out would grow exponentially with T.

This is deliberately not the code of ``vjp`` or of ``evaluate``: only sympy differentiates here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import networkx as nx
import numpy as np
import sympy

from codegen.functions import exp, log
from rnngraph.equations import Equation, Expression, PointwiseSum, Read, Term, Weight, meaning
from rnngraph.system import System

Key = tuple[str, str, tuple[int, ...]]  # ("parameter", "input", "state" or "given"; name; index)


class Given(sympy.Dummy):  # type: ignore[misc]
    """A number of the data that nothing is differentiated by."""

    @property
    def free_symbols(self) -> set[Any]:
        """Empty: a constant for sympy.diff."""
        return set()


class Shared(sympy.Dummy):  # type: ignore[misc]
    """A subexpression that occurs in many places; ``tape`` lists all of them, each after what it reads."""

    body: Expression
    tape: list[Shared]
    variables: set[Any]
    derivatives: dict[Any, Expression]

    @property
    def free_symbols(self) -> set[Any]:
        """The variables of the body."""
        return self.variables

    def _eval_derivative(self, variable: Any) -> Expression:
        if variable not in self.derivatives:
            self.derivatives[variable] = share(sympy.diff(self.body, variable), self.tape)
        return self.derivatives[variable]

    def _eval_derivative_n_times(self, variable: Any, count: int) -> Expression:
        assert count == 1, "first derivatives only"
        return self._eval_derivative(variable)


def share(body: Expression, tape: list[Shared]) -> Expression:
    """``body`` as one atom; numbers and atoms stay what they are."""
    if body.is_Atom:
        return body
    atom = Shared("shared", real=True)
    atom.body, atom.tape, atom.variables, atom.derivatives = body, tape, body.free_symbols, {}
    tape.append(atom)
    return atom


class Unrolling:
    """The loss of ``system`` over ``T`` steps of one sequence.

    ``quantities``: what can be differentiated by, (kind, name) with kind "parameter", "input" or "state", to the list
    of its indices: (row, column) or (unit,) of a parameter, (t, unit) of an input, t in 1..T, and of a state, t <= 0,
    or t > T for what lies ahead.
    ``variables``: (kind, name) -> sympy variables. ``along`` says how they enter:

    - "entries": one variable per entry, in the order of ``quantities``;
    - "directions": one per quantity: entry = value + direction * variable at variable = 0;
    - "together": one per kind, shared by all quantities of the kind.

    ``leaves`` maps a key to the atom of a datum; a direction has the key (kind + " direction", name, index).
    """

    def __init__(self, system: System, T: int, along: str) -> None:
        self.system = system
        self.T = T
        self.along = along
        self.tape: list[Shared] = []
        self.leaves: dict[Key, Any] = {}
        self.quantities: dict[tuple[str, str], list[tuple[int, ...]]] = {}
        self.variables: dict[tuple[str, str], list[Any]] = {}
        self.logsumexps: list[tuple[list[Expression], Expression]] = []
        self._entries: dict[Key, Expression] = {}
        self._values: dict[Read, list[Expression]] = {}
        self._declare()
        self._compute_weights()
        for name, t in self._order():
            self._values[Read(name, t)] = self._compute(system.equation_of(name), t)
        self.loss = self._loss()
        self.parts = tuple(self.tape)  # of the loss; the tape goes on with the parts of derivatives

    def _declare(self) -> None:
        for name, shape in self.system.parameters.items():
            self._add("parameter", name, list(np.ndindex(*shape)))
        for name, signal in self.system.signals.items():
            if signal.kind == "input":
                self._add("input", name, [(t, j) for t in range(1, self.T + 1) for j in range(signal.size)])
        for name, depth in self.system.state_depths.items():
            signal = self.system.signals[name]
            if not isinstance(signal.initial, str):
                self._add("state", name, [(t, j) for t in range(1 - depth, 1) for j in range(signal.size)])
        for name, depth in self.system.ahead_depths.items():
            signal = self.system.signals[name]
            if not isinstance(signal.initial, str):
                times = range(self.T + 1, self.T + 1 + depth)
                self._add("state", self.system.ahead_names[name], [(t, j) for t in times for j in range(signal.size)])

    def _add(self, kind: str, name: str, indices: list[tuple[int, ...]]) -> None:
        self.quantities[kind, name] = indices
        if self.along == "entries":
            self.variables[kind, name] = [sympy.Dummy("entry", real=True) for _ in indices]
            for index, variable in zip(indices, self.variables[kind, name], strict=True):
                self.leaves[kind, name, index] = self._entries[kind, name, index] = variable
            return
        same = [variables for (other, _), variables in self.variables.items() if other == kind]
        together = self.along == "together" and same
        self.variables[kind, name] = same[0] if together else [sympy.Dummy("along", real=True)]
        for index in indices:
            value, direction = Given("value", real=True), Given("direction", real=True)
            self.leaves[kind, name, index] = value
            self.leaves[f"{kind} direction", name, index] = direction
            moved = share(value + direction * self.variables[kind, name][0], self.tape)
            self._entries[kind, name, index] = moved

    def _compute_weights(self) -> None:
        """The entries of effective weights, by the names of the matrices that equations read."""
        shapes = {**self.system.parameters, **{name: value.shape for name, value in self.system.constants.items()}}
        for weight in self.system.weights:
            shapes[weight.name] = weight.shape
            values = {index: self._weight_entry(weight, index, shapes) for index in np.ndindex(*weight.shape)}
            if weight.operator == "softmax":
                raised = {index: share(exp(value), self.tape) for index, value in values.items()}
                sums = {
                    rest: share(sympy.Add(*(value for index, value in raised.items() if index[1:] == rest)), self.tape)
                    for rest in np.ndindex(*weight.shape[1:])
                }
                values = {index: share(value / sums[index[1:]], self.tape) for index, value in raised.items()}
            for index, value in values.items():
                self._entries["parameter", weight.name, index] = value
                if weight.slices:
                    self._entries["parameter", weight.slices[index[0]], index[1:]] = value

    def _weight_entry(
        self, weight: Weight, index: tuple[int, ...], shapes: Mapping[str, tuple[int, ...]]
    ) -> Expression:
        """One entry of a weight's expression; an axis that an operand lacks, or that has one value, is repeated."""
        assert weight.operator in ("pointwise", "softmax"), "the weights of a forward pass"
        values = {}
        for symbol in weight.expression.free_symbols:
            name = str(meaning(symbol))
            shape = shapes[name]
            own = index[len(index) - len(shape) :]
            values[symbol] = self._weight(name, tuple(0 if n == 1 else k for k, n in zip(own, shape, strict=True)))
        return share(weight.expression.xreplace(values), self.tape)

    def _order(self) -> list[Read]:
        """Every value of a signal with an equation, each after those that it reads."""
        graph = nx.DiGraph()
        defined = {equation.signal for equation in self.system.equations}
        for equation in self.system.equations:
            for t in range(1, self.T + 1):
                graph.add_node(Read(equation.signal, t))
                for read in equation.reads():
                    if read.signal in defined and 1 <= t - read.delay <= self.T:
                        graph.add_edge(Read(read.signal, t - read.delay), Read(equation.signal, t))
        return list(nx.topological_sort(graph))

    def _read(self, name: str, t: int) -> list[Expression]:
        if (found := self._values.get(Read(name, t))) is not None:
            return found
        signal = self.system.signals[name]
        units = range(signal.size)
        if not 1 <= t <= self.T:
            if isinstance(signal.initial, str):
                return [self._entries["parameter", signal.initial, (j,)] for j in units]
            return [self._entries["state", name if t < 1 else self.system.ahead_names[name], (t, j)] for j in units]
        if signal.kind == "input":
            return [self._entries["input", name, (t, j)] for j in units]
        for j in units:
            self.leaves.setdefault(("given", name, (t, j)), Given("given", real=True))
        return [self.leaves["given", name, (t, j)] for j in units]

    def _compute(self, equation: Equation, t: int) -> list[Expression]:
        size = self.system.signals[equation.signal].size
        columns = [self._term(term, t, size) for term in equation.terms]
        values = []
        for j in range(size):
            summands = [column[j] for column in columns]
            values.append(share(sympy.Add(*summands, self._pointwise(equation.expression, t, j)), self.tape))
        return values

    def _term(self, term: Term, t: int, size: int) -> list[Expression]:
        if term.pattern is not None:
            assert term.parameter is not None and not term.transposed, "the forward equations alone are unrolled"
            summands: list[list[Expression]] = [[] for _ in range(size)]
            for unit, to, delay, entry in term.pattern.each():
                weight = self._weight(term.parameter, (entry,))
                summands[to].append(weight * self._read(term.source, t - delay)[unit])
            return [sympy.Add(*each) for each in summands]
        source = self._read(term.source, t - term.delay)
        if term.operator == "sum":
            return [sympy.Add(*source)]
        if term.operator == "logsumexp":
            value = share(log(share(sympy.Add(*(exp(y) for y in source)), self.tape)), self.tape)
            self.logsumexps.append((source, value))
            return [value]
        assert term.parameter is not None
        name = term.parameter
        return [
            sympy.Add(
                *(self._weight(name, (j, i) if term.transposed else (i, j)) * source[i] for i in range(len(source)))
            )
            for j in range(size)
        ]

    def _weight(self, name: str, index: tuple[int, ...]) -> Expression:
        constant = self.system.constants.get(name)
        return self._entries["parameter", name, index] if constant is None else sympy.Rational(float(constant[index]))

    def _pointwise(self, expression: Expression, t: int, unit: int) -> Expression:
        values = {}
        for symbol in expression.free_symbols:
            found = meaning(symbol)
            if isinstance(found, str):
                values[symbol] = self._entries["parameter", found, (unit,)]
            else:
                vector = self._read(found.signal, t - found.delay)
                values[symbol] = vector[unit if len(vector) > 1 else 0]
        return expression.xreplace(values)

    def _loss(self) -> Expression:
        summands = []
        for contribution in self.system.total("loss").contributions:
            assert isinstance(contribution, PointwiseSum), "a loss is a sum of pointwise expressions"
            for t in range(1, self.T + 1):
                for unit in range(contribution.size):
                    summands.append(share(self._pointwise(contribution.expression, t, unit), self.tape))
        return share(sympy.Add(*summands), self.tape)

    def differentiate(self, variable: Any) -> Expression:
        """``sympy.diff`` of the loss. The shared parts go first, in order, so that the recursion stays shallow."""
        for part in self.parts:
            if variable in part.variables:
                sympy.diff(part, variable)
        return sympy.diff(self.loss, variable)
