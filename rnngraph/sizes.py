"""The sizes of a System as symbols, one for all layers that must be equally wide: shapes and costs become formulas.

Two layers must be equally wide where one reads the other unit by unit: the gates, the cell and the output of an LSTM
share one symbol. A size that follows from no layer stands as a number.
"""

from __future__ import annotations

import sympy

from rnngraph.equations import Expression, is_along_rows, meaning, reads_of, symbols_of
from rnngraph.system_like import SystemLike

SUMMANDS = 5  # of a formula, before it is cut short


def size_symbol(name: str) -> Expression:
    """A symbol for a number of units, steps or sequences."""
    return sympy.Symbol(name, integer=True, positive=True)


# Steps, sequences at once, the windows of truncated BPTT, the steps of a block.
T, B, K1, K2, BLOCK = (size_symbol(name) for name in ("T", "B", "k1", "k2", "h"))


class Sizes:
    """``values`` maps each symbol to its number, ``members`` to the layers that have it.

    ``of`` a signal is its units, ``rows`` its rows (one for a vector), ``shape`` that of a parameter or constant.
    """

    def __init__(self, system: SystemLike) -> None:
        self.system = system
        self.equation = {equation.signal: equation for equation in system.equations}
        self.parent = {name: name for name, signal in system.signals.items() if signal.kind in ("input", "unit")}
        self._join()
        members: dict[str, list[str]] = {}
        for name in self.parent:
            members.setdefault(self._root(name), []).append(name)
        preferred = [*system.outputs, *system.state_depths]
        self.values: dict[Expression, int] = {}
        self.members: dict[Expression, tuple[str, ...]] = {}
        self.symbols: dict[str, Expression] = {}
        for root, names in members.items():
            chosen = next((name for name in preferred if name in names), names[0])
            symbol = size_symbol(f"n_{chosen}")
            self.symbols[root] = symbol
            self.values[symbol] = system.signals[root].size
            self.members[symbol] = tuple(names)
        self._units: dict[str, Expression] = {}
        self._searched: set[str] = set()
        self._rows: dict[str, Expression] = {}
        self.shapes = self._shapes()

    def of(self, name: str) -> Expression:
        """The units of a signal."""
        if name in self._units:
            return self._units[name]
        size = sympy.Integer(self.system.signals[name].size)
        if name in self._searched:
            return size
        self._searched.add(name)
        found = self._find_units(name)
        self._searched.remove(name)
        if self.number(found) != size:
            found = size
        if not (found.is_Integer and self._searched):  # a search that ran in a circle may end elsewhere
            self._units[name] = found
        return found

    def _find_units(self, name: str) -> Expression:
        signal = self.system.signals[name]
        base = self._base(name)
        if base in self.parent:
            return self.symbols[self._root(base)]
        if signal.of is not None:
            return self.shape(signal.of)[-1]
        if name in self.equation and signal.size > 1:
            for term in self.equation[name].terms:
                if term.jacobian is not None:
                    return self.rows(term.jacobian) if term.transposed else self.of(term.jacobian)
            for read in reads_of(self.equation[name].expression):
                if self.system.signals[read.signal].size == signal.size:
                    found = self.of(read.signal)
                    if not found.is_Integer:
                        return found
        return sympy.Integer(signal.size)

    def shape(self, name: str) -> tuple[Expression, ...]:
        """The shape of a parameter or constant."""
        return self.shapes[name]

    def rows(self, name: str) -> Expression:
        """The rows of a signal; 1 for a vector."""
        if name not in self._rows:
            number = max(self.system.signals[name].rows, 1)
            found = self._find_rows(name)
            self._rows[name] = found if self.number(found) == number else sympy.Integer(number)
        return self._rows[name]

    def joint_state(self) -> Expression:
        """The units of all states that are carried from block to block, with their past."""
        depths, carry = self.system.state_depths, self.system.carry
        return sympy.Add(*(depths[state] * self.of(state) for state in (carry.starts if carry is not None else ())))

    def number(self, expression: Expression) -> int:
        """An expression in the sizes alone as a number."""
        return int(expression.xreplace(self.values))

    def is_full(self, name: str) -> bool:
        """Whether a sensitivity has a row for each number of its parameter, not for each row of it."""
        signal = self.system.signals[name]
        assert signal.of is not None
        shape = self.system.shapes[signal.of]
        entries = shape[0] * (shape[1] if len(shape) == 2 else 1)
        narrow = shape[0] if len(shape) == 2 else 1
        if entries != narrow:
            return signal.rows == entries
        terms = self.equation[name].terms if name in self.equation else ()
        return any(term.operator in ("product", "expand") for term in terms)

    def _find_rows(self, name: str) -> Expression:
        signal = self.system.signals[name]
        if signal.rows <= 1:
            return sympy.Integer(1)
        if signal.of is not None:
            shape = self.shape(signal.of)
            if signal.kind == "sensitivity" and self.is_full(name):
                return sympy.Mul(*shape)
            return shape[0] if len(shape) == 2 else sympy.Integer(1)
        if self.system.carry is not None:  # a row for each unit of the joint state
            return self.joint_state()
        equation = self.equation.get(name)
        if equation is None:
            return sympy.Integer(signal.rows)
        for term in equation.terms:
            if self.system.signals[term.source].rows == signal.rows:
                return self.rows(term.source)
        for symbol in symbols_of(equation.expression):
            found = meaning(symbol)
            if isinstance(found, str):
                if len(self.shape(found)) == 2:
                    return self.shape(found)[0]
            elif is_along_rows(symbol):
                return self.of(found.signal)
            elif self.system.signals[found.signal].rows == signal.rows:
                return self.rows(found.signal)
        return sympy.Integer(signal.rows)

    def _join(self) -> None:
        for equation in self.system.equations:
            if self.system.signals[equation.signal].kind not in ("unit", "sum"):
                continue
            for read in reads_of(equation.expression):
                ends = self._base(equation.signal), self._base(read.signal)
                if all(end in self.parent for end in ends):
                    first, second = (self._root(end) for end in ends)
                    if self.system.signals[first].size == self.system.signals[second].size:
                        self.parent[second] = first

    def _root(self, name: str) -> str:
        while self.parent[name] != name:
            name = self.parent[name]
        return name

    def _base(self, name: str) -> str:
        """The layer that a signal belongs to."""
        seen: set[str] = set()
        while name not in self.parent and name not in seen:
            seen.add(name)
            name = self.system.signals[name].origin or name
            if name not in self.system.signals:
                break
        return name

    def _shapes(self) -> dict[str, tuple[Expression, ...]]:
        known: dict[str, tuple[int, ...]] = dict(self.system.shapes)
        known |= {name: tuple(value.shape) for name, value in self.system.constants.items()}
        found: dict[str, tuple[Expression, ...]] = {}

        def note(name: str, *shape: Expression) -> None:
            if tuple(self.number(extent) for extent in shape) == known[name]:
                found.setdefault(name, shape)

        for equation in self.system.equations:
            if self.system.signals[equation.signal].kind not in ("unit", "sum"):
                continue
            for term in equation.terms:
                if term.parameter is not None:
                    ends = self.of(term.source), self.of(equation.signal)
                    note(term.parameter, *(ends[::-1] if term.transposed else ends))
            for symbol in symbols_of(equation.expression):
                name = meaning(symbol)
                if isinstance(name, str):
                    note(name, self.of(equation.signal))
        for name, signal in self.system.signals.items():
            if isinstance(signal.initial, str):
                note(signal.initial, self.of(name))
        for name, shape in known.items():
            found.setdefault(name, tuple(sympy.Integer(extent) for extent in shape))
        return found


def formula(expression: Expression) -> str:
    """A polynomial with its summands of the highest degree first; B, T, k1 and k2 are taken out, the end cut short."""
    expression = sympy.expand(expression)
    if expression == 0:
        return "0"
    summands = sympy.Add.make_args(expression)
    outside: Expression = sympy.S.One
    for symbol in (B, T, K1, K2):
        exponents = {summand.as_powers_dict()[symbol] for summand in summands}
        if len(exponents) == 1:
            outside *= symbol ** exponents.pop()
    inside = sympy.expand(expression / outside)
    ordered = sorted(sympy.Add.make_args(inside), key=_order)
    texts = [_monomial(summand) for summand in ordered[:SUMMANDS]]
    if len(ordered) > SUMMANDS:
        texts.append(f"{len(ordered) - SUMMANDS} smaller")
    text = " + ".join(texts)
    if len(texts) == 1:
        return _monomial(expression)
    return text if outside == 1 else f"{_monomial(outside)} ({text})"


def _order(summand: Expression) -> tuple[int, int, int, str]:
    """The highest degree first, then the highest power, then the largest coefficient."""
    coefficient, factors = summand.as_coeff_Mul()
    powers = [int(power) for symbol, power in factors.as_powers_dict().items() if symbol.is_Symbol]
    return -sum(powers), -max(powers, default=0), -int(coefficient), str(factors)


def _monomial(expression: Expression) -> str:
    coefficient, factors = expression.as_coeff_Mul()
    above: list[str] = []
    below: list[str] = []
    for symbol, power in sorted(factors.as_powers_dict().items(), key=lambda item: str(item[0])):
        if symbol != 1:
            text = str(symbol) if abs(power) == 1 else f"{symbol}^{abs(power)}"
            (above if power > 0 else below).append(text)
    if coefficient != 1 or not above:
        above.insert(0, str(coefficient))
    return " ".join(above) + ("/" + " ".join(below) if below else "")
