"""Checks that an ir.Function obeys the grammar of codegen.ir: for tests, which call it between the passes.

The shapes of every statement are checked here with T and batch as symbols; codegen.dataflow then follows what is
written and read, for each T of ``LENGTHS``. Operands that share memory with the target are an error in a MatMul, which
must not read what it writes. In an Assign, Apply or Copy the operand may be the target itself, element by element, but
not a shifted part of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from codegen.dataflow import check_dataflow, numbered_in
from codegen.describe import IRError, axes, describe, length_text, shape_text, view_text
from codegen.functions import FUNCTIONS, PointwiseFunction
from codegen.ir import (
    Apply,
    Assign,
    Bound,
    Buffer,
    Copy,
    Entrywise,
    Expression,
    Fill,
    Function,
    Fused,
    Load,
    Loop,
    MatMul,
    Reduce,
    Span,
    SparseGradient,
    SparseMatMul,
    StackMatMul,
    Staggered,
    Statement,
    Step,
    Store,
    Turn,
    View,
    loops_of,
    views_of,
    written,
)
from codegen.overlap import overlap, same_place
from codegen.pattern import Pattern
from codegen.ufuncs import UFUNCS

__all__ = ["IRError", "verify_function"]

LENGTHS = (1, 2, 7)
SHAPES = ("sequence", "step", "matrix", "vector", "scalar", "history")
STORAGES = ("workspace", "parameter", "direction", "gradient", "constant")
REDUCTIONS = ("rows", "all", "units", "logsumexp")
ENTRYWISE = ("pointwise", "sum", "softmax")
LOADS = ("input", "target", "classes", "weight", "share", "state", "state_tangent")
STORES = ("output", "state", "input_gradient", "state_gradient", "loss")
WHOLE_TIME = Bound(0, 1)


def verify_function(function: Function) -> None:
    """Raise IRError unless every statement of ``function`` is valid; see the module's docstring."""
    _check_buffers(function)
    _check_registers(function)
    for place, statement, loop in _numbered(function):
        _Check(f"{function.name}, statement {place}", statement, loop.steps if loop is not None else 0).run()
    for T in LENGTHS:
        check_dataflow(function, T)


def _numbered(function: Function) -> Iterator[tuple[str, Statement, Loop | None]]:
    for number, statement in enumerate(function.body, start=1):
        yield str(number), statement, None
        for loop, inner in zip(loops_of(statement), numbered_in(statement), strict=True):
            for place, inside in inner:
                yield f"{number}.{place}", inside, loop


def _check_buffers(function: Function) -> None:
    known: dict[str, Buffer] = {}
    for place, statement, _ in _numbered(function):
        where = f"{function.name}, statement {place}"
        for view in views_of(statement):
            buffer = view.buffer
            if buffer.shape not in SHAPES or buffer.storage not in STORAGES:
                found = f"found shape {buffer.shape!r}, storage {buffer.storage!r}"
                raise IRError(f"{where}, buffer {buffer.name!r}: {found}; expected one of {SHAPES}, {STORAGES}")
            if buffer.groups < 1 or buffer.columns % buffer.groups:
                raise IRError(
                    f"{where}, buffer {buffer.name!r}: found {buffer.columns} columns in {buffer.groups} groups"
                )
            if known.setdefault(buffer.name, buffer) != buffer:
                raise IRError(f"{where}: found two buffers called {buffer.name!r}, {known[buffer.name]} and {buffer}")
            if buffer.storage != "workspace" and buffer.shape != "matrix":
                raise IRError(
                    f"{where}, {buffer.storage} buffer {buffer.name!r}: found a {buffer.shape}; expected a matrix"
                )
            values = None if buffer.storage != "constant" else buffer.values
            if buffer.storage == "constant" and (values is None or values.shape != (buffer.rows, buffer.columns)):
                found = "no values" if values is None else f"values of shape {values.shape}"
                raise IRError(f"{where}, {buffer.name!r}: found {found}; expected {(buffer.rows, buffer.columns)}")
    vector = sorted(
        (b.offset, b.offset + b.rows * b.columns, b.name) for b in known.values() if b.storage == "gradient"
    )
    for (_, stop, first), (start, _, second) in pairwise(vector):
        if start < stop:
            raise IRError(
                f"{function.name}: found {second!r} from {start} on; expected it behind {first!r}, from {stop} on"
            )


def _check_registers(function: Function) -> None:
    """What a Fused computes outside of its arguments is a value of its own: no other statement may want it."""
    users: dict[str, set[str]] = {}
    for place, statement, _ in _numbered(function):
        parts = statement.parts if isinstance(statement, Fused) else ()
        for view in (*views_of(statement), *(view for part in parts for view in views_of(part))):
            users.setdefault(view.buffer.name, set()).add(place)
    for place, statement, _ in _numbered(function):
        if isinstance(statement, Fused):
            arguments = {argument.buffer.name for argument in statement.arguments}
            for name in {part.target.buffer.name for part in statement.parts} - arguments:
                if len(users[name]) > 1:
                    others = sorted(users[name] - {place})
                    where = f"{function.name}, statement {place} ({describe(statement)})"
                    raise IRError(
                        f"{where}: found {name!r}, kept in registers, in statements {others}; expected it here alone"
                    )


@dataclass
class _Check:
    """One statement against the grammar. ``steps``: how many the loop around it takes at once; 0 outside of loops."""

    where: str
    statement: Statement
    steps: int

    @property
    def in_loop(self) -> bool:
        """Whether it stands in a loop."""
        return self.steps > 0

    def run(self) -> None:
        statement = self.statement
        for view in views_of(statement):
            self._view(view)
        target = written(statement)
        if target is not None:
            if target.buffer.storage in ("parameter", "direction", "constant"):
                self._fail(
                    f"a write to the {target.buffer.storage} buffer {target.buffer.name!r}", "a workspace or a gradient"
                )
            if target.transposed:
                self._fail("a transposed target", "a target as it lies in memory")
        if isinstance(statement, MatMul):
            self._matmul(statement)
        elif isinstance(statement, StackMatMul):
            self._stack_matmul(statement)
        elif isinstance(statement, Turn):
            self._turn(statement)
        elif isinstance(statement, SparseMatMul):
            self._sparse_matmul(statement)
        elif isinstance(statement, SparseGradient):
            self._sparse_gradient(statement)
        elif isinstance(statement, Fused):
            self._fused(statement)
        elif isinstance(statement, Assign):
            self._assign(statement)
        elif isinstance(statement, Apply):
            self._apply(statement)
        elif isinstance(statement, Copy):
            self._operand(statement.source, statement.target, one_column=False)
        elif isinstance(statement, Fill):
            if not np.isfinite(statement.value):
                self._fail(f"the value {statement.value}", "a finite number")
        elif isinstance(statement, Reduce):
            self._reduce(statement)
        elif isinstance(statement, Entrywise):
            self._entrywise(statement)
        elif self.in_loop:
            self._fail(f"a {type(statement).__name__} inside a loop", "it outside")
        elif isinstance(statement, Staggered):
            self._staggered(statement)
        elif isinstance(statement, Load):
            self._load(statement)
        elif isinstance(statement, Store):
            self._store(statement)

    def _fail(self, found: str, expected: str) -> None:
        raise IRError(f"{self.where} ({describe(self.statement)}): found {found}; expected {expected}")

    def _view(self, view: View) -> None:
        buffer, name = view.buffer, f"the view {view_text(view)}"
        if not 0 <= view.start < view.stop <= buffer.columns:
            self._fail(f"{name} of columns {view.start}:{view.stop}", f"columns within 0:{buffer.columns}")
        histories = isinstance(self.statement, Turn | SparseMatMul)
        if buffer.shape == "history" and not histories:
            self._fail(f"the history {name}", "one in a Turn or a SparseMatMul")
        if buffer.shape in ("sequence", "history"):
            wanted = Step if self.in_loop else Span
            if not isinstance(view.time, wanted):
                self._fail(
                    f"{name} with time {view.time}",
                    f"a {wanted.__name__} {'inside' if self.in_loop else 'outside'} a loop",
                )
        elif view.time is not None:
            self._fail(f"{name} with time {view.time}", f"no time in a {buffer.shape}")
        if view.steps and view.steps != max(1, self.steps):
            self._fail(f"{name} of {view.steps} steps", f"the steps of the loop around it, {max(1, self.steps)}")
        if view.steps > 1 and buffer.groups > 1:
            self._fail(f"{name} in {buffer.groups} groups", "no groups where a loop takes several steps at once")
        if buffer.shape != "matrix":
            if view.rows is not None or view.vector:
                self._fail(f"{name} with rows {view.rows}", f"rows in a matrix only, this is a {buffer.shape}")
        elif view.rows is None or not 0 <= view.rows[0] < view.rows[1] <= buffer.rows:
            self._fail(f"{name} of rows {view.rows}", f"rows within 0:{buffer.rows}")
        elif view.vector and (view.rows[1] - view.rows[0] != 1 or view.transposed):
            self._fail(f"{name} of rows {view.rows} as a vector", "one row, not transposed")

    def _matmul(self, statement: MatMul) -> None:
        parts = (statement.target, statement.left, statement.right)
        shapes = [axes(part, flat=True) for part in parts]
        text = " = ".join((shape_text(parts[0], True), " @ ".join(shape_text(part, True) for part in parts[1:])))
        if any(len(shape) != 2 for shape in shapes):
            self._fail(f"the shapes {text}", "three matrices")
        target, left, right = shapes
        if left[1] != right[0] or target != (left[0], right[1]):
            self._fail(f"the shapes {text}", "(m, n) = (m, k) @ (k, n)")
        for operand in parts[1:]:
            if overlap(operand, statement.target):
                self._fail(f"the operand {view_text(operand)} in the target's memory", "memory of its own")

    def _stack_matmul(self, statement: StackMatMul) -> None:
        stack, target, right = statement.stack, statement.target, statement.right
        if self.in_loop:
            self._fail("a stack inside a loop", "it outside")
        blocks = views_of(statement)[1:-1]
        for block in blocks:
            if not isinstance(block.time, Span) or axes(block)[0] != ("", 0, 1) or block.transposed:
                self._fail(f"the source {view_text(block)}", "T steps of a sequence")
        columns = sum(block.columns for block in blocks) + stack.ones
        if (stack.buffer.shape, stack.buffer.columns) != ("stack", columns):
            self._fail(f"a {stack.buffer.shape} of {stack.buffer.columns} columns", f"a stack of {columns}")
        left = (("batch", 0, 1), ("", columns, 0))
        left = left[::-1] if statement.transposed else left
        if axes(right, flat=True)[:1] != left[1:] or axes(target, flat=True) != (left[0], axes(right, flat=True)[-1]):
            found = f"{shape_text(target, True)} = stack of {columns} columns @ {shape_text(right, True)}"
            self._fail(f"the shapes {found}", "(m, n) = (m, k) @ (k, n)")
        for operand in (*blocks, right):
            if overlap(operand, target):
                self._fail(f"the operand {view_text(operand)} in the target's memory", "memory of its own")

    def _turn(self, statement: Turn) -> None:
        shapes = statement.target.buffer.shape, statement.source.buffer.shape
        if shapes[0] != "history" or shapes[1] not in ("sequence", "step"):
            self._fail(f"a {shapes[1]} as a {shapes[0]}", "a sequence or a step as a history")
        if axes(statement.target) != axes(statement.source):
            self._fail(f"a source of shape {shape_text(statement.source)}", shape_text(statement.target))

    def _sparse_matmul(self, statement: SparseMatMul) -> None:
        pattern, source, target = statement.pattern, statement.source, statement.target
        if source.buffer.shape != "history":
            self._fail(f"a {source.buffer.shape} as its source", "a history")
        wide, narrow = (pattern.columns, pattern.rows) if statement.transposed else (pattern.rows, pattern.columns)
        if axes(source) != (*axes(target)[:-1], ("", wide, 0)) or target.columns != narrow:
            found = f"{shape_text(target)} of {shape_text(source)}"
            self._fail(f"the shapes {found}", f"{narrow} columns of {wide}, and the same rows")
        self._entries(pattern, statement.values)

    def _sparse_gradient(self, statement: SparseGradient) -> None:
        pattern, left, right = statement.pattern, statement.left, statement.right
        if self.in_loop:
            self._fail("a gradient inside a loop", "it outside")
        if (left.columns, right.columns) != (pattern.rows, pattern.columns) or axes(left)[:-1] != axes(right)[:-1]:
            found = f"{shape_text(left)} with {shape_text(right)}"
            self._fail(f"the shapes {found}", f"{pattern.rows} and {pattern.columns} columns of the same rows")
        self._entries(pattern, statement.target)

    def _entries(self, pattern: Pattern, vector: View) -> None:
        """A vector of the pattern's weights, and entries within their bounds."""
        if axes(vector) != (("", pattern.weights, 0),):
            self._fail(f"weights of shape {shape_text(vector)}", f"a vector of {pattern.weights}")
        bounds = (pattern.rows, pattern.columns, pattern.weights)
        for values, bound in zip((pattern.sources, pattern.destinations, pattern.entries), bounds, strict=True):
            if len(values) and not 0 <= values.min() <= values.max() < bound:
                self._fail(f"entries from {values.min()} to {values.max()}", f"numbers within 0:{bound}")
        if len(np.unique(pattern.entries)) < len(pattern):
            self._fail("a weight of two entries", "a weight for each")
        if len(pattern) == 0 or pattern.delays.min() < 0:
            self._fail(f"{len(pattern)} entries", "one at least, with delays >= 0")

    def _operand(self, operand: View, target: View, one_column: bool = True, width: int = 0) -> None:
        found, wanted = axes(operand), axes(target)
        vector = found == wanted[-1:]
        column = one_column and found == (*wanted[:-1], ("", 1, 0))
        group = found == (*wanted[:-1], ("", width, 0))
        if found != wanted and not vector and not column and not group:
            allowed = f"{shape_text(target)}{', one column' if one_column else ''} or a vector of its columns"
            self._fail(f"the operand {view_text(operand)} of shape {shape_text(operand)}", allowed)
        if overlap(operand, target) and not (
            same_place(operand, target) and found == wanted and not operand.transposed
        ):
            self._fail(
                f"the operand {view_text(operand)}, a shifted part of the target", "the target itself or memory apart"
            )

    def _assign(self, statement: Assign) -> None:
        symbols = [symbol for symbol, _ in statement.operands]
        free = sorted(set(map(str, statement.expression.free_symbols)) - set(map(str, symbols)))
        if free:
            self._fail(f"the free symbols {free}", f"those of the operands, {sorted(map(str, symbols))}")
        if len(set(symbols)) < len(symbols):
            self._fail(f"the operands {symbols}", "each symbol once")
        self._primitive(statement.expression)
        for _, view in statement.operands:
            self._operand(view, statement.target)

    def _fused(self, statement: Fused) -> None:
        # One row of a matrix and a vector have the same elements.
        shapes = {tuple(axis for axis in axes(part.target) if axis != ("", 1, 0)) for part in statement.parts}
        if len(shapes) != 1:
            self._fail(f"targets of {len(shapes)} shapes", "targets of one shape")
        for number, part in enumerate(statement.parts):
            _Check(f"{self.where}, part {number + 1}", part, self.steps).run()
            earlier = [each.target for each in statement.parts[:number]]
            for view in views_of(part):
                if any(overlap(view, target) and not same_place(view, target) for target in earlier):
                    self._fail(f"{view_text(view)} after a write of other elements there", "the same elements")
            for _, view in part.operands:
                held = any(same_place(view, target) for target in earlier)
                if not held and not any(_contains(argument, view) for argument in statement.arguments):
                    self._fail(f"a read of {view_text(view)}", "a part of an argument, or an earlier part's target")

    def _primitive(self, expression: Expression) -> None:
        if expression.is_Symbol or (expression.is_number and not expression.args):
            return
        if expression.is_Pow:
            if not (expression.exp.is_Integer and expression.exp != 0):
                self._fail(f"the power {expression}", "an integer exponent")
        elif isinstance(expression, PointwiseFunction):
            rule = FUNCTIONS.get(expression.func.__name__)
            if rule is None or rule.implementation is None:
                self._fail(f"the function {expression.func.__name__}", "a primitive: run rewrite_in_primitives first")
        elif not (expression.is_Add or expression.is_Mul or expression.is_number):
            self._fail(f"the expression {expression}", "sums, products, integer powers and functions of the table")
        for argument in expression.args:
            self._primitive(argument)

    def _apply(self, statement: Apply) -> None:
        if statement.function not in UFUNCS:
            self._fail(f"the function {statement.function!r}", f"one of {sorted(UFUNCS)}")
        implementation = UFUNCS[statement.function].implementation
        arity = implementation.nin if isinstance(implementation, np.ufunc) else FUNCTIONS[statement.function].arity
        if len(statement.arguments) != arity:
            self._fail(f"{len(statement.arguments)} arguments", f"{arity} of {statement.function}")
        # An operand as wide as one group of a blocked buffer serves each group of the target.
        grouped = {view.width for view in views_of(statement) if view.buffer.groups > 1 and view.columns > view.width}
        if len(grouped) > 1:
            self._fail(f"groups of the widths {sorted(grouped)}", "groups of one width")
        for argument in statement.arguments:
            if isinstance(argument, View):
                self._operand(argument, statement.target, width=max(grouped, default=0))
            elif not np.isfinite(argument):
                self._fail(f"the argument {argument}", "a finite number")

    def _entrywise(self, statement: Entrywise) -> None:
        if self.in_loop:
            self._fail("an Entrywise inside a loop", "it outside")
        if statement.operator not in ENTRYWISE:
            self._fail(f"the operator {statement.operator!r}", f"one of {ENTRYWISE}")
        views = [(statement.target, statement.shape)]
        views += [(view, shape) for (_, view), shape in zip(statement.operands, statement.shapes, strict=True)]
        for view, shape in views:
            rows = 1 if view.rows is None else view.rows[1] - view.rows[0]
            if view.buffer.shape != "matrix" or rows * view.columns != np.prod(shape):
                self._fail(f"{view_text(view)} of shape {shape_text(view)}", f"a matrix that can be read as {shape}")
        self._primitive(statement.expression)

    def _reduce(self, statement: Reduce) -> None:
        source, target = axes(statement.source), axes(statement.target)
        if statement.kind not in REDUCTIONS:
            self._fail(f"the kind {statement.kind!r}", f"one of {REDUCTIONS}")
        if len(source) < 2:
            self._fail(f"a source of shape {shape_text(statement.source)}", "rows and columns")
        wanted = {"rows": source[-1:], "all": ()}.get(statement.kind, (*source[:-1], ("", 1, 0)))
        if target != wanted:
            text = "(" + ", ".join(map(length_text, wanted)) + ")"
            self._fail(f"the target's shape {shape_text(statement.target)}", f"{text}, as {statement.kind!r} gives")
        if overlap(statement.source, statement.target):
            self._fail("a source in the target's memory", "memory of its own")
        if statement.unless_state is not None and not statement.accumulate:
            self._fail("a target that is left unset when a state is given", "accumulate=True with unless_state")

    def _staggered(self, statement: Staggered) -> None:
        if len(statement.parts) < 2 or len(statement.parts) != len(statement.shifts):
            self._fail(
                f"{len(statement.parts)} parts with {len(statement.shifts)} shifts", "a shift for each of 2 or more"
            )
        if len({part.backward for part in statement.parts}) > 1:
            self._fail("parts that go forward and parts that go backward", "one direction")
        if any(part.steps > 1 for part in statement.parts):
            self._fail("parts of several steps at once", "one step")

    def _load(self, statement: Load) -> None:
        if statement.what not in LOADS:
            self._fail(f"{statement.what!r}", f"one of {LOADS}")
        self._lasting(statement.target, statement.what, whole=not statement.what.startswith("state"))
        if statement.what in ("weight", "share") and statement.target.columns != 1:
            self._fail(f"{statement.target.columns} columns of step weights", "1")
        if isinstance(statement.default, View) and axes(statement.default) != axes(statement.target)[-1:]:
            self._fail(f"a default of shape {shape_text(statement.default)}", "a vector over the target's columns")

    def _store(self, statement: Store) -> None:
        if statement.what not in STORES:
            self._fail(f"{statement.what!r}", f"one of {STORES}")
        if statement.what == "loss":
            if statement.source.buffer.shape != "scalar":
                self._fail(f"a {statement.source.buffer.shape}", "a scalar")
            return
        self._lasting(statement.source, statement.what, whole=not statement.what.startswith("state"))

    def _lasting(self, view: View, what: str, whole: bool) -> None:
        """What the caller gives or gets: T steps, or for a state a number of steps that T does not change."""
        if view.buffer.shape == "step" and not whole:
            return
        if not isinstance(view.time, Span):
            self._fail(f"a {view.buffer.shape} for {what}", "a sequence")
            return
        length = Bound(view.time.stop.constant - view.time.start.constant, view.time.stop.times - view.time.start.times)
        if (length != WHOLE_TIME) if whole else (length.times != 0 or length.constant < 1):
            self._fail(
                f"{length_text(('', length.constant, length.times))} steps of {what}", "T" if whole else "the depth"
            )


def _contains(whole: View, part: View) -> bool:
    """Whether ``part`` lies within the rows and columns of ``whole``."""
    if whole.buffer.name != part.buffer.name or whole.time != part.time:
        return False
    rows = whole.rows is None or part.rows is None or (whole.rows[0] <= part.rows[0] and part.rows[1] <= whole.rows[1])
    return rows and whole.start <= part.start and part.stop <= whole.stop
