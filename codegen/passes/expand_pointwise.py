"""Assign -> Apply: a pointwise expression becomes calls of ufuncs that write into the target and into scratch buffers.

Before: Assigns of primitives. After: none; every Apply has views and numbers as arguments. Nothing is allocated at run
time: the scratch buffers are part of the program and are used again by later statements.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import sympy

from codegen.functions import PointwiseFunction
from codegen.ir import Apply, Assign, Bound, Buffer, Expression, Function, Loop, Span, Staggered, Statement, View
from codegen.overlap import neighbours, overlap
from codegen.walk import map_bodies

Argument = View | float


def expand_pointwise(function: Function) -> Function:
    """See the module's docstring."""
    return dataclasses.replace(function, body=tuple(_expand(function.body, _Scratch())))


def _expand(body: Iterable[Statement], scratch: _Scratch) -> list[Statement]:
    result: list[Statement] = []
    for statement in body:
        if isinstance(statement, Loop | Staggered):
            result.append(map_bodies(statement, lambda inside: _expand(inside, scratch)))
        elif isinstance(statement, Assign):
            result.extend(_Expansion(statement, scratch).run())
        else:
            result.append(statement)
    return result


class _Scratch:
    """Scratch buffers by shape; those not in use are handed out again."""

    def __init__(self) -> None:
        self.free: dict[tuple[object, ...], list[Buffer]] = {}
        self.count = 0

    def take(self, like: View, columns: int) -> View:
        """A scratch view with the rows of ``like``."""
        length = Bound(0)
        if like.buffer.shape == "sequence" and isinstance(like.time, Span):
            start, stop = like.time.start, like.time.stop
            length = Bound(stop.constant - start.constant, stop.times - start.times)
        if like.steps > 1:
            length = Bound(like.steps)
        shape = "sequence" if isinstance(like.time, Span) else "step"
        if like.buffer.shape == "matrix":
            assert like.rows is not None
            shape = "vector" if like.vector else "matrix"
        rows = like.rows[1] - like.rows[0] if like.rows is not None else 0
        key = (shape, columns, length, rows)
        waiting = self.free.setdefault(key, [])
        if waiting:
            buffer = waiting.pop()
        else:
            self.count += 1
            buffer = Buffer(f"scratch_{self.count}", shape, columns, rows, length)
        time = Span(Bound(0), length) if shape == "sequence" else None
        return View(buffer, time, 0, columns, rows=(0, rows) if shape == "matrix" else None, label=buffer.name)

    def give_back(self, view: View) -> None:
        """The buffer may be used again."""
        buffer = view.buffer
        self.free[(buffer.shape, buffer.columns, buffer.length, buffer.rows)].append(buffer)


class _Expansion:
    def __init__(self, statement: Assign, scratch: _Scratch) -> None:
        self.statement = statement
        self.views = dict(statement.operands)
        self.scratch = scratch
        self.calls: list[Statement] = []
        # When an operand lies in the target's memory, only the last call may write there.
        self.target_is_read = any(overlap(view, statement.target) for view in self.views.values())

    def run(self) -> list[Statement]:
        target = self.statement.target
        value = self._value(self.statement.expression, target, last=True)
        if value is not target:
            self._call(target, "copy", value)
        if not self.calls:  # the target is assigned to itself
            return []
        first = self.calls[0]
        assert isinstance(first, Apply)
        self.calls[0] = dataclasses.replace(first, note=self.statement.note)
        return self.calls

    def _value(self, expression: Expression, into: View | None, last: bool = False) -> Argument:
        """The value as an argument of a further call. What must be computed is written into ``into`` or into
        scratch."""
        if expression.is_Symbol:
            return self.views[expression]
        if expression.is_number:
            return float(expression)
        if expression.is_Add:
            return self._sum(expression, into, last)
        if expression.is_Mul or expression.is_Pow:
            return self._product(expression, into, last)
        assert isinstance(expression, PointwiseFunction), f"not a primitive: {expression}"
        return self._nary(expression.func.__name__, list(expression.args), into, last)

    def _columns(self, *expressions: Expression) -> int:
        widths = [view.columns for expression in expressions for symbol in expression.free_symbols
                  for view in [self.views[symbol]]]  # fmt: skip
        return max(widths, default=1)

    def _destination(self, into: View | None, last: bool, columns: int) -> View:
        usable = into is not None and columns == into.columns and (last or not self.target_is_read)
        return into if usable and into is not None else self.scratch.take(self.statement.target, columns)

    def _call(self, target: View, function: str, *arguments: Argument) -> View:
        self.calls.append(Apply(target, function, arguments))
        return target

    def _finish(self, used: Iterable[Argument], result: View) -> View:
        for argument in used:
            if isinstance(argument, View) and argument.buffer.name.startswith("scratch_") and argument is not result:
                self.scratch.give_back(argument)
        return result

    def _nary(self, function: str, arguments: list[Expression], into: View | None, last: bool) -> View:
        inner = None if self.target_is_read else into
        values: list[Argument] = []
        for argument in arguments:
            taken = inner is not None and any(value is inner for value in values)
            values.append(self._value(argument, None if taken else inner))
        destination = self._destination(into, last, self._columns(*arguments))
        return self._finish(values, self._call(destination, function, *values))

    def _fold(self, parts: list[tuple[str, Expression]], into: View | None, last: bool) -> Argument:
        """Combine the parts from left to right; the first part's function is not used."""
        inner = None if self.target_is_read else into
        value = self._value(parts[0][1], inner)
        for index, (function, part) in enumerate(parts[1:], start=1):
            free = None if value is inner else inner
            right = self._value(part, free)
            columns = self._columns(*(expression for _, expression in parts[: index + 1]))
            final = last and index == len(parts) - 1
            held = value if isinstance(value, View) and value.buffer.name.startswith("scratch_") else None
            if held is not None and held.columns == columns and not final and self.target_is_read:
                destination = held
            else:
                destination = self._destination(into, final, columns)
            value = self._finish((value, right), self._call(destination, function, value, right))
        return value

    def _sum(self, expression: Expression, into: View | None, last: bool) -> Argument:
        content, primitive = expression.as_content_primitive()
        if content != 1 and primitive.is_Add and _multiples(primitive) < _multiples(expression):
            return self._fold([("", primitive), ("multiply", content)], into, last)
        positive: list[Expression] = []
        negative: list[Expression] = []
        for summand in expression.args:
            coefficient, rest = summand.as_coeff_Mul()
            if summand.is_number:
                (positive if summand > 0 else negative).append(abs(summand))
            elif coefficient < 0:
                negative.append(-coefficient * rest)
            else:
                positive.append(summand)
        positive.sort(key=_compound_first)
        negative.sort(key=_compound_first)
        if not positive:
            return self._fold(
                [("", sympy.Add(*negative, evaluate=len(negative) > 1)), ("multiply", -sympy.S.One)], into, last
            )
        paired = self._paired(positive) if not negative else None
        if paired is not None:
            return self._add_pair(*paired, into, last)
        parts = [
            ("", positive[0]),
            *(("add", part) for part in positive[1:]),
            *(("subtract", part) for part in negative),
        ]
        return self._fold(parts, into, last)

    def _paired(self, summands: list[Expression]) -> tuple[View, View] | None:
        """For a*b + c*d where (a, c) and (b, d) are neighbours: the joined views, so that one call makes both
        products."""
        if len(summands) != 2 or not all(part.is_Mul and len(part.args) == 2 for part in summands):
            return None
        if not all(factor.is_Symbol for part in summands for factor in part.args):
            return None
        (a, b), (c, d) = ([self.views[factor] for factor in part.args] for part in summands)
        if any(view.columns != self.statement.target.columns or view.vector for view in (a, b, c, d)):
            return None
        for first, second in (((a, b), (c, d)), ((b, a), (c, d)), ((c, d), (a, b)), ((d, c), (a, b))):
            left, right = neighbours(first[0], second[0]), neighbours(first[1], second[1])
            if left is not None and right is not None:
                return left, right
        return None

    def _add_pair(self, left: View, right: View, into: View | None, last: bool) -> View:
        both = self._call(self.scratch.take(self.statement.target, left.columns), "multiply", left, right)
        half = left.columns // 2
        first = dataclasses.replace(both, stop=half, label=f"{both.label}_first")
        second = dataclasses.replace(both, start=half, label=f"{both.label}_second")
        destination = self._destination(into, last, half)
        return self._finish((both,), self._call(destination, "add", first, second))

    def _product(self, expression: Expression, into: View | None, last: bool) -> Argument:
        coefficient, rest = expression.as_coeff_Mul()
        over: list[Expression] = []
        under: list[Expression] = []
        for factor in rest.args if rest.is_Mul else [rest]:
            base, exponent = factor.as_base_exp()
            if factor.is_Pow and exponent.is_Integer and exponent < 0:
                under.append(base**-exponent)
            elif factor.is_Add:
                content, primitive = factor.as_content_primitive()
                fewer = _multiples(primitive) <= _multiples(factor)
                coefficient = coefficient * content if fewer else coefficient
                over.append(primitive if fewer else factor)
            else:
                over.append(factor)
        if len(over) == 1 and not under and coefficient == 1:
            return self._power(over[0], into, last)
        over.sort(key=_compound_first)
        narrow = [factor for factor in over if self._columns(factor) == 1]
        if narrow and len(narrow) < len(over) and (coefficient != 1 or len(narrow) > 1):
            # What is one number per row is multiplied first: one pass over the wide operands less.
            over = [factor for factor in over if factor not in narrow] + [sympy.Mul(coefficient, *narrow)]
            coefficient = sympy.S.One
        parts = [("", over[0])] if over else [("", coefficient)]
        parts += [("multiply", factor) for factor in over[1:]] + [("divide", factor) for factor in under]
        if over and coefficient != 1:
            parts.append(("multiply", coefficient))
        return self._fold(parts, into, last)

    def _power(self, expression: Expression, into: View | None, last: bool) -> Argument:
        if not expression.is_Pow:
            return self._value(expression, into, last)
        base, exponent = expression.base, int(expression.exp)
        if exponent == 2:
            return self._nary("square", [base], into, last)
        half = sympy.Pow(base, exponent // 2)
        if exponent % 2 == 0:
            return self._nary("square", [half], into, last)
        return self._fold([("", half**2 if exponent > 3 else base**2), ("multiply", base)], into, last)


def _multiples(expression: Expression) -> int:
    """How many summands have a number as a factor, which costs a call: in 9*x/10 + y one, in (9*x + 10*y)/10 two."""
    return sum(abs(summand.as_coeff_Mul()[0]) != 1 for summand in expression.args)


def _compound_first(expression: Expression) -> tuple[bool, str]:
    return expression.is_Atom, str(expression)
