"""MatMul -> MatMul on contiguous memory, with the copies that this needs as statements of their own.

A GPU's matrix product takes whole rows; CuPy copies a slice of columns in secret, at every call. After this pass each
operand and target of a product is a run of whole rows, and no product adds to its target or writes where it reads.
Copies of parameters and of what a loop does not write are made once, before the loop.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import sympy

from codegen.ir import (
    Assign,
    Bound,
    Buffer,
    Copy,
    Function,
    Loop,
    MatMul,
    Span,
    Staggered,
    Statement,
    Step,
    View,
    loops_of,
    written,
)
from codegen.overlap import overlap, same_place
from codegen.walk import map_bodies

OLD, NEW = sympy.symbols("old new", real=True)


def pack_products(function: Function) -> Function:
    """See the module's docstring."""
    return dataclasses.replace(function, body=_Packing().run(function.body))


class _Packing:
    def __init__(self) -> None:
        self.count = 0

    def run(self, body: Sequence[Statement]) -> tuple[Statement, ...]:
        result: list[Statement] = []
        for statement in body:
            if isinstance(statement, Loop | Staggered):
                result += self._loop(statement)
            else:
                result += self._pack(statement, (), result, [])
        return tuple(result)

    def _loop(self, loop: Loop | Staggered) -> list[Statement]:
        before: list[Statement] = []
        packed: list[tuple[View, View]] = []
        whole = [inner for part in loops_of(loop) for inner in part.body]

        def pack_body(body: Sequence[Statement]) -> list[Statement]:
            return [made for inner in body for made in self._pack(inner, whole, before, packed)]

        changed = map_bodies(loop, pack_body)
        return [*before, changed]

    def _pack(
        self, statement: Statement, loop: Sequence[Statement], before: list[Statement], packed: list[tuple[View, View]]
    ) -> list[Statement]:
        """The statements for one. ``before`` collects what is done once, ``packed`` which views it made copies of."""
        if not isinstance(statement, MatMul):
            return [statement]
        lines: list[Statement] = []

        def contiguous(view: View) -> View:
            if view.whole:
                return view
            once = bool(loop) and not _changes(view, loop)
            return self._copied(view, before if once else lines, packed if once else [])

        target, left, right = statement.target, contiguous(statement.left), contiguous(statement.right)
        apart = not overlap(target, left) and not overlap(target, right)
        direct = target.whole and apart and not statement.accumulate
        product = target if direct else self._scratch(target)
        lines.append(MatMul(product, left, right, note=statement.note))
        if statement.accumulate:
            lines.append(Assign(target, OLD + NEW, ((OLD, target), (NEW, product))))
        elif not direct:
            lines.append(Copy(target, product))
        return lines

    def _copied(self, view: View, lines: list[Statement], packed: list[tuple[View, View]]) -> View:
        straight = dataclasses.replace(view, transposed=False)
        scratch = next((copy for original, copy in packed if same_place(original, straight)), None)
        if scratch is None:
            scratch = self._scratch(straight)
            packed.append((straight, scratch))
            lines.append(Copy(scratch, straight))
        return dataclasses.replace(scratch, transposed=view.transposed)

    def _scratch(self, like: View) -> View:
        self.count += 1
        name, columns = f"packed_{self.count}", like.columns
        if isinstance(like.time, Span):
            start, stop = like.time.start, like.time.stop
            length = Bound(stop.constant - start.constant, stop.times - start.times)
            buffer = Buffer(name, "sequence", columns, length=length)
            return View(buffer, Span(Bound(0), length), 0, columns, label=name)
        if like.rows is not None:
            rows = like.rows[1] - like.rows[0]
            return View(Buffer(name, "matrix", columns, rows), None, 0, columns, (0, rows), label=name)
        length = Bound(like.steps if like.steps > 1 else 0)
        return View(Buffer(name, "step", columns, length=length), None, 0, columns, label=name)


def _changes(view: View, loop: Sequence[Statement]) -> bool:
    """Whether the view differs from step to step, or a statement of the loop writes its buffer."""
    targets = [written(statement) for statement in loop]
    return isinstance(view.time, Step) or any(
        target is not None and target.buffer.name == view.buffer.name for target in targets
    )
