"""Writes display equations down: order of summands and factors, signs, brackets; how a piece looks is a subclass's.

Order: in a sum, nearer times before farther ones, matrix products before the rest, parameters last; in a product,
numbers and weights, then parameters, derivatives, signals, functions, brackets, and last the error signal, as the
chapter writes it.
"""

from __future__ import annotations

import sympy

from rnngraph.display.indexed import (
    ENTRY,
    PASSED,
    SUMMED,
    UNIT,
    WITH_JACOBIAN,
    Indices,
    entry_text,
    full_sensitivities,
    row_of,
)
from rnngraph.display.inline import SOFTMAX, DisplayEquation, Part, Side
from rnngraph.display.notation import ATOM, POWER, PRODUCT, SUM, TANGENT, Notation, Piece
from rnngraph.display.order import factor_key, summand_key, term_key
from rnngraph.display.weights import WeightText
from rnngraph.equations import (
    BoundarySum,
    Contraction,
    Expression,
    Outer,
    PointwiseSum,
    Read,
    SparseOuter,
    Term,
    Weight,
    WeightValue,
    is_along_rows,
    meaning,
    reads_of,
)
from rnngraph.system_like import SystemLike


class Writer(Notation):
    """Writes the equations of one system."""

    chosen = f"[{ENTRY[1]} = {UNIT}]"

    def __init__(self, system: SystemLike) -> None:
        self.system = system
        self.index = {name: position for position, name in enumerate(system.signals)}
        self.groups: dict[Read, Side] = {}
        self.full = full_sensitivities(system)
        self.weights = WeightText(system)
        self.of_weights = False  # whether an equation of weights is being written
        self.indices: Indices | None = None  # of the equation of a matrix that is being written

    # Single pieces, for those who write something else than equations.

    def read(self, signal: str, delay: int) -> str:
        """A signal at t - ``delay``."""
        return self._read(signal, delay)

    def pointwise(self, expression: Expression) -> Piece:
        """A pointwise expression."""
        return self._pointwise(expression)

    def hold(self, piece: Piece, strength: int) -> Piece:
        """The piece, bracketed unless it holds together as strongly as asked."""
        return self._hold(piece, strength)

    # Equations.

    def left(self, equation: DisplayEquation) -> str:
        """The left-hand side."""
        if equation.weight is not None:
            return self.weights.name(equation.name, self)
        if equation.side is not None:
            self.indices = self._indices_of(equation.name)
            return self._read(equation.name, 0)
        entry = self._entry_of_total(equation)
        if entry is None:
            return self.total(equation.name)
        of = next(total.of for total in self.system.totals if total.name == equation.name)
        assert of is not None
        shape = self.system.shapes[of]
        letters = [each for each, count in (*entry.row, (entry.unit, shape[-1])) if count > 1]
        return self.derivative(of, f"[{','.join(letters)}]" if letters else "")

    def _indices_of(self, name: str) -> Indices | None:
        """The letters in the equation of a matrix, None for a vector's."""
        signal = self.system.signals[name]
        if not signal.rows:
            return None
        return Indices(row_of(signal, self.system, name in self.full))

    def _entry_of_total(self, equation: DisplayEquation) -> Indices | None:
        """The letters of a gradient by sensitivities, None for another's: they are those of the sensitivity's rows."""
        found = [part.contribution for part in equation.parts if isinstance(part.contribution, Contraction)]
        if not found:
            return None
        full = any(piece.sensitivity in self.full for piece in found)
        first, last = ENTRY
        of = self.system.signals[found[0].sensitivity].of
        shape = self.system.shapes[of or ""]
        return Indices(((first, shape[0]),) if len(shape) > 1 else (), last if full else UNIT)

    def total(self, name: str) -> str:
        """A total's name: L for "loss", dL/dW for "dloss/dW", and their tangents."""
        totals = {total.name: total for total in self.system.totals}
        if name not in totals:
            return self.name(name)
        total, rest = totals[name], name.removeprefix(TANGENT)
        if total.kind == "tangent" and rest in totals:
            return self.tangent(self.total(rest))
        if total.kind == "tangent" and total.of is not None:
            return self.tangent(self.derivative(total.of))
        if total.kind == "gradient" and total.of is not None:
            return self.derivative(total.of, self.weights.index(total.of))
        return self.name("L" if name == "loss" else name)

    def right(self, equation: DisplayEquation) -> str:
        """The right-hand side."""
        if equation.weight is not None:
            return self._weight(equation.weight)
        if equation.side is not None:
            self.indices = self._indices_of(equation.name)
            return self._side(equation.side).text
        self.indices = self._entry_of_total(equation)
        inside: list[tuple[Expression, Piece]] = []
        before: list[str] = []
        for part in equation.parts:
            if isinstance(part.contribution, BoundarySum):
                times = self.signs.after if part.contribution.ahead else self.signs.before
                before.append(self.sum_outside(self._read(part.contribution.signal, 0), times))
            elif isinstance(part.contribution, WeightValue):
                before.append(self._weight(self.weights.weights[part.contribution.weight]))
            else:
                inside.append(self._contribution(part))
        self.indices = None
        if inside:
            summed = self._hold(self._summed(inside), PRODUCT).text
            before.insert(0, self.sum_time(summed))
        return self._join(before) if before else "0"

    def _weight(self, weight: Weight) -> str:
        """The right-hand side of a weight."""
        self.of_weights = True
        piece = self._pointwise(weight.expression)
        self.of_weights = False
        return self.weights.right(weight, piece.text, piece.strength, self)

    def _contribution(self, part: Part) -> tuple[Expression, Piece]:
        """A common factor and the rest of what is summed over t = 1..T."""
        contribution = part.contribution
        if isinstance(contribution, Contraction):
            return sympy.S.One, self._contraction(contribution)
        if isinstance(contribution, SparseOuter):
            column = f"{self.name(contribution.left)}(t-d)"
            row = self._read(contribution.right, 0)
            return sympy.S.One, Piece(self.matrix_product(column, self.transpose(row)), PRODUCT)
        if isinstance(contribution, Outer):
            if self.indices is not None:
                left = Piece(self._down_rows(contribution.left, contribution.left_delay), ATOM, True)
                right = Piece(self._read(contribution.right, contribution.right_delay), ATOM, True)
                return sympy.S.One, Piece(self.multiply(left, right), PRODUCT, True)
            column = self._read(contribution.left, contribution.left_delay)
            row = self._read(contribution.right, contribution.right_delay)
            return sympy.S.One, Piece(self.matrix_product(column, self.transpose(row)), PRODUCT)
        assert part.side is not None and isinstance(contribution, PointwiseSum)
        return self._summand(contribution, part.side)

    def _contraction(self, contribution: Contraction) -> Piece:
        """A sensitivity with an error: summed over the units where it is full, else entry by entry."""
        name, outer = contribution.sensitivity, self.indices
        signal = self.system.signals[name]
        assert outer is not None
        full = name in self.full
        unit = UNIT if full else outer.unit
        self.indices = Indices(row_of(signal, self.system, full), unit)
        pieces = [Piece(self._read(name, contribution.delay), ATOM, True)]
        if contribution.error is not None:
            pieces.append(Piece(self._read(contribution.error, 0), ATOM, True))
        self.indices = outer
        product = self._multiplied(pieces)
        return self._over(UNIT, signal.size, product) if full else product

    def _summed(self, entries: list[tuple[Expression, Piece]]) -> Piece:
        """The sum of factor * piece, with what all factors share (the step weight) before the bracket."""
        shared = set.intersection(*({*sympy.Mul.make_args(factor)} for factor, _ in entries))
        common = sympy.Mul(*(each for each in shared if not each.is_number)) if len(entries) > 1 else sympy.S.One
        pieces = [self._scaled(factor / common, piece) for factor, piece in entries]
        if len(pieces) == 1:
            return pieces[0]
        total = Piece(self._join([piece.text for piece in pieces]), SUM, all(piece.scalar for piece in pieces))
        return self._scaled(common, total)

    def _scaled(self, factor: Expression, piece: Piece) -> Piece:
        if factor == 1:
            return piece
        if piece.text == "1":
            return self._pointwise(factor)
        negative = bool(factor.could_extract_minus_sign())
        written = self._pointwise(-factor if negative else factor)
        held = self._hold(piece, POWER)
        text = held.text if written.text == "1" else self.multiply(self._hold(written, PRODUCT), held)
        return Piece(f"-{text}" if negative else text, PRODUCT, piece.scalar)

    def _summand(self, contribution: PointwiseSum, side: Side) -> tuple[Expression, Piece]:
        """The factor that is one number for all units, and the rest, summed over units where asked."""
        if not contribution.over_units:
            return sympy.S.One, self._side(side)
        outside: list[Expression] = []
        inside: list[Expression] = []
        for factor in sympy.Mul.make_args(side.expression):
            grouped = any(read in side.groups for read in reads_of(factor))
            (outside if self._is_scalar(factor) and not grouped else inside).append(factor)
        body = self._side(Side((), sympy.Mul(*inside), side.groups))
        if contribution.size > 1:
            body = Piece(self.sum_units(body.text), ATOM, True)
        return sympy.Mul(*outside), body

    # Sums of terms and summands.

    def _side(self, side: Side) -> Piece:
        outer, self.groups = self.groups, {**self.groups, **side.groups}
        entries = [(term_key(term, self.system), self._term(term)) for term in side.terms]
        if side.expression != 0:
            entries += [
                (summand_key(summand, self.system, self.index), self._pointwise(summand))
                for summand in sympy.Add.make_args(side.expression)
            ]
        self.groups = outer
        if not entries:
            return Piece("0", ATOM, True)
        entries.sort(key=lambda entry: entry[0])
        if len(entries) == 1:
            return entries[0][1]
        scalar = all(piece.scalar for _, piece in entries)
        return Piece(self._join([piece.text for _, piece in entries]), SUM, scalar)

    def _term(self, term: Term) -> Piece:
        if term.operator in WITH_JACOBIAN:
            return self._with_jacobian(term)
        if term.operator == "sum_all":
            return self._sum_all(term)
        if term.operator == "sparse":
            return self._sparse(term)
        indices = self.indices
        if term.operator == "dense" and indices is not None:
            return self._weighted(term, indices)
        self.indices = None  # what is summed over units is a vector
        read = Read(term.source, term.delay)
        group = self.groups.get(read) if term.operator == "sum" else None
        argument = self._side(group).text if group is not None else self._read(*read)
        self.indices = indices
        if term.operator == "sum":
            return Piece(self.sum_units(argument), ATOM, True)
        if term.operator == "logsumexp":
            return Piece(self.log_sum_exp(argument), ATOM, True)
        assert term.parameter is not None
        matrix = self.name(term.parameter)
        return Piece(self.matrix_product(matrix if term.transposed else self.transpose(matrix), argument), PRODUCT)

    def _sparse(self, term: Term) -> Piece:
        """Each weight has a delay d of its own."""
        assert term.parameter is not None
        matrix = self.name(term.parameter)
        read = f"{self.name(term.source)}({'t+d' if term.transposed else 't-d'})"
        return Piece(self.matrix_product(matrix if term.transposed else self.transpose(matrix), read), PRODUCT)

    def _sum_all(self, term: Term) -> Piece:
        """The sum over the rows and units of a matrix."""
        outer, groups = self.indices, self.groups
        source = self.system.signals[term.source]
        row = row_of(source, self.system, full=False)
        self.indices = Indices(row, UNIT)
        read = Read(term.source, term.delay)
        group = groups.get(read)
        piece = self._side(group) if group is not None else Piece(self._read(*read), ATOM, True)
        self.indices = outer
        piece = self._over(UNIT, source.size, piece)
        for letter, count in row:
            piece = self._over(letter, count, piece)
        return piece

    def _weighted(self, term: Term, indices: Indices) -> Piece:
        """A weight applied to each row of a matrix, or to a vector, as a sum over the units of the source."""
        assert term.parameter is not None
        self.indices = Indices(indices.row, SUMMED)
        source = Piece(self._read(term.source, term.delay), ATOM, True)
        self.indices = indices
        sides = [(SUMMED, indices.unit), (indices.unit, SUMMED)][term.transposed]
        shape = self._shape(term.parameter)
        weight = Piece(self._entry(term.parameter, *zip(sides, shape, strict=True)), ATOM, True)
        return self._over(SUMMED, self.system.signals[term.source].size, self._multiplied([source, weight]))

    def _with_jacobian(self, term: Term) -> Piece:
        """A sensitivity that passes a Jacobian, or a local one that is spread out."""
        indices, groups = self.indices, self.groups
        assert indices is not None
        source = self.system.signals[term.source]
        row = row_of(source, self.system, term.source in self.full)
        unit = {"product": PASSED, "diagonal": indices.unit, "expand": ENTRY[1] if term.jacobian else indices.unit}
        self.indices = Indices(row, unit[term.operator])
        read = Read(term.source, term.delay)
        group = groups.get(read)
        piece = self._side(group) if group is not None else Piece(self._read(*read), ATOM, True)
        if term.jacobian is not None:
            matrix = self.system.signals[term.jacobian]
            entry = (self.indices.unit, indices.unit)[:: -1 if term.transposed else 1]
            self.indices = Indices(((entry[0], matrix.rows),), entry[1])
            pieces = [piece, Piece(self._read(term.jacobian, 0), ATOM, True)]
        else:
            # the unit vectors: row (i, j) is 0 but at unit j
            plain = piece.strength == PRODUCT and not piece.text.startswith("-")
            piece = Piece(piece.text, POWER, True) if plain else piece
            pieces = [Piece(self.chosen, ATOM, True), piece] if source.size > 1 else [piece]
        self.indices = indices
        product = self._multiplied(pieces)
        return self._over(PASSED, source.size, product) if term.operator == "product" else product

    # Pointwise expressions.

    def _read(self, signal: str, delay: int) -> str:
        if self.indices is None:
            return self._timed(signal, "", delay)
        found = self.system.signals[signal]
        row = self.indices.row if found.rows > 1 else ()
        return self._timed(signal, entry_text(row, self.indices.unit, found.size), delay)

    def _down_rows(self, signal: str, delay: int) -> str:
        """A signal with its units down the rows."""
        assert self.indices is not None
        size = self.system.signals[signal].size
        return self._timed(signal, entry_text((), self.indices.along_rows(), size), delay)

    def _timed(self, signal: str, entry: str, delay: int) -> str:
        time = "t" if delay == 0 else f"t-{delay}" if delay > 0 else f"t+{-delay}"
        return f"{self.name(signal)}{entry}({time})"

    def _shape(self, name: str) -> tuple[int, ...]:
        known = self.system.shapes.get(name)
        return tuple(self.system.constants[name].shape) if known is None else known

    def _entry(self, name: str, *letters: tuple[str, int]) -> str:
        """A parameter or constant with its letters, each with the number of its values."""
        shown = ",".join(letter for letter, count in letters if count > 1)
        return f"{self.name(name)}[{shown}]" if shown else self.name(name)

    def _parameter(self, name: str) -> str:
        if self.of_weights:
            return self.weights.name(name, self)
        if self.indices is None:
            return self.name(name)
        shape = self._shape(name)
        letters = (self.indices.along_rows(), self.indices.unit)[-len(shape) :]
        return self._entry(name, *zip(letters, shape, strict=True))

    def _is_scalar(self, expression: Expression) -> bool:
        """Whether it is one number for all units."""
        if self.indices is not None:
            return True
        for symbol in expression.free_symbols:
            found = meaning(symbol)
            if isinstance(found, str):
                if self.system.shapes.get(found) != (1,):
                    return False
            elif self.system.signals[found.signal].size != 1:
                return False
        return True

    def _pointwise(self, expression: Expression) -> Piece:
        scalar = self._is_scalar(expression)
        if expression.is_Symbol:
            found = meaning(expression)
            if isinstance(found, str):
                return Piece(self._parameter(found), ATOM, scalar)
            if is_along_rows(expression):
                return Piece(self._down_rows(*found), ATOM, scalar)
            group = self.groups.get(found)
            return self._side(group) if group is not None else Piece(self._read(*found), ATOM, scalar)
        if expression.is_Number or expression.is_NumberSymbol:
            return self._number(expression)
        if expression.is_Add:
            return self._side(Side((), expression))
        if expression.is_Mul:
            return self._product(expression, scalar)
        if expression.is_Pow:
            return self._power(expression, scalar)
        if self.indices is not None and expression.func == SOFTMAX:
            indices, self.indices = self.indices, None
            whole, self.indices = self._pointwise(expression).text, indices
            return Piece(f"{whole}[{indices.unit}]", ATOM, True)
        name = getattr(expression.func, "name", None) or expression.func.__name__
        arguments = [self._pointwise(argument).text for argument in expression.args]
        return Piece(self.call(str(name), arguments), ATOM, scalar)

    def _power(self, expression: Expression, scalar: bool) -> Piece:
        base, exponent = expression.args
        if exponent.is_number and exponent.could_extract_minus_sign():
            bottom = self._pointwise(sympy.Pow(base, -exponent))
            return Piece(self.divide(Piece("1", ATOM, True), bottom), PRODUCT, scalar)
        written = self._hold(self._pointwise(exponent), ATOM)
        return Piece(self.power(self._hold(self._pointwise(base), ATOM).text, written.text), POWER, scalar)

    def _product(self, expression: Expression, scalar: bool) -> Piece:
        coefficient, rest = expression.as_coeff_Mul()
        negative = bool(coefficient < 0)
        top: list[Expression] = []
        bottom: list[Expression] = []
        for factor in sympy.Mul.make_args(rest):
            inverse = factor.is_Pow and factor.exp.is_number and factor.exp.could_extract_minus_sign()
            (bottom if inverse else top).append(1 / factor if inverse else factor)
        top.sort(key=lambda factor: factor_key(factor, self.system, self.index, self.groups))
        bottom.sort(key=lambda factor: factor_key(factor, self.system, self.index, self.groups))
        pieces = [self._pointwise(factor) for factor in top]
        if abs(coefficient) != 1 or not pieces:
            pieces.insert(0, self._number(abs(coefficient)))
        written = self._multiplied(pieces)
        if bottom:
            written = Piece(self.divide(written, self._multiplied([self._pointwise(each) for each in bottom])), PRODUCT)
        if not negative:
            return Piece(written.text, PRODUCT, scalar)
        return Piece("-" + self._hold(written, PRODUCT).text, PRODUCT, scalar)
