"""Loops over t, products and pointwise statements -> C: one function for a run of statements.

A function gets the addresses of its buffers in one table, and those of the vectors of parameters, directions and
gradients. It runs in phases, between which its threads meet. Matrices that a loop multiplies by are packed before it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

from codegen.ir import (
    Bound,
    Copy,
    Fill,
    Fused,
    Loop,
    MatMul,
    Reduce,
    SparseMatMul,
    StackMatMul,
    Staggered,
    Statement,
    Turn,
    View,
    loops_of,
    views_of,
)
from codegen.names import words_of
from codegen.passes.fuse_pointwise import as_fused
from codegen.printers.c_ahead import ROWS as ROWS_AHEAD
from codegen.printers.c_ahead import Ahead, products_ahead
from codegen.printers.c_behind import ROWS as ROWS_BEHIND
from codegen.printers.c_behind import Behind, is_gradient, products_behind
from codegen.printers.c_matmul import GradientText, MatrixText, has_text, operations
from codegen.printers.c_places import VECTORS, Places, RingPlaces, bracketed, has_rows, rows_of
from codegen.printers.c_pointwise import PointwiseText, reduce_lines
from codegen.printers.c_sparse import sparse_lines, turn_lines
from codegen.printers.c_stacks import StackedGradientText, StackedRowsText, stack_operations
from codegen.printers.c_sweep import EARLIER, SweepCode, is_swept
from codegen.printers.c_text import comment_lines
from codegen.printers.c_turns import chunk_lines, staggered_lines, steps_lines
from codegen.printers.views import bound_text
from codegen.sweep import Sweep
from codegen.walk import statements_in, targets_of

SIGNATURE = """
    real *const *memory, const real *parameters, const real *direction, real *gradient,
    const long T, const long batch"""
POINTWISE_OPERATIONS = 20  # of an element, roughly: to tell what is worth a thread
ONCE, SHARED = "once", "shared"  # phases: of the first thread alone, of all


def is_compiled(statement: Statement) -> bool:
    """Whether a statement outside of loops is a part of a C function. Loops always are: NumPy has no text for them."""
    if isinstance(statement, Fill):
        return not statement.once
    if isinstance(statement, MatMul):
        return has_text(statement)
    kinds = Loop | Staggered | Fused | Copy | StackMatMul | SparseMatMul | Turn
    return isinstance(statement, kinds) or is_swept(statement)


class RegionText:
    """The C function ``name`` for a run of statements. ``users``: how many statements of the function touch a
    buffer, those in loops not counted one by one. Where ``apart`` is given, a function of its own, ``<name>_pack``,
    computes these statements, which are about matrices, and packs what the others multiply by. ``vector_size``:
    how many numbers a gradient has, for a sweep."""

    backwards = "t & 1"  # when a product of a loop goes from its last columns to the first

    def __init__(
        self,
        name: str,
        dtype: str,
        statements: Sequence[Statement],
        users: Mapping[str, int],
        apart: Sequence[Statement] | None = None,
        vector_size: int = 0,
    ) -> None:
        self.name = name
        self.vector_size = vector_size
        self.apart = apart is not None
        self.packing: list[str] = []  # the lines of that function
        self.dtype = dtype
        self.users = users
        self.places = self._places()
        self.operations = 0  # of one step of one sequence
        self.sweeps = False  # whether each sequence has matrices of its own
        self.by_sequence = False  # whether threads share the sequences of the batch, not the rows of all steps
        self.phases: list[tuple[str, list[str]]] = []
        for statement in apart or ():
            self._prepare(self._block([], partial(self._inner, statement)))
        body, self.behind = products_behind(statements)
        for statement in body:
            self._statement(statement)

    def _places(self) -> Places:
        return Places(self.dtype, shared=True)

    def text(self) -> str:
        """The whole function: its phases, and what starts the threads."""
        body: list[str] = []
        for number, (kind, lines) in enumerate(self.phases):
            first = ["if (thread == 0) {", *("    " + line for line in lines), "}"]
            body += [*(["meet(team);"] if number else []), *(first if kind == ONCE else lines)]
        part = f"{self.name}_part"
        threads = "const long thread, struct team *team"
        passed = "memory, parameters, direction, gradient, T, batch"
        most = "batch" if self.sweeps else "batch / LEAST_ROWS" if self.by_sequence else "T * batch / LEAST_ROWS"
        start = f"run_team({part}, {passed}, {float(self.operations)}, {most});"
        functions = [
            self._function(f"static void {part}({SIGNATURE}, {threads})", body, ["thread", "team"]),
            self._function(f"void {self.name}({SIGNATURE})", [start], []),
        ]
        if self.packing:
            functions.append(self._function(f"void {self.name}_pack({SIGNATURE})", self.packing, []))
        return "\n".join(functions)

    @property
    def lines(self) -> list[str]:
        """The lines of all phases."""
        return [line for _, lines in self.phases for line in lines]

    @property
    def functions(self) -> list[str]:
        """The names of the functions in ``text`` that Python calls."""
        return [self.name, f"{self.name}_pack"] if self.packing else [self.name]

    @property
    def chunked(self) -> dict[str, tuple[int, int]]:
        """The buffers that hold the steps of a chunk: how many rows at least, and the steps the loop takes at once."""
        return self.places.chunked

    def _function(self, head: str, body: Sequence[str], more: Sequence[str]) -> str:
        held = [*map(self.places.base, self.places.memory.values()), *self.places.scratch]
        used = words_of(body)
        table = [f"real *const {each} = memory[{k}];" for k, each in enumerate(held) if each in used]
        tables = enumerate(self.places.tables, start=len(held))
        table += [f"const int *const {each} = (const int *)memory[{k}];" for k, each in tables if each in used]
        carried = enumerate(self.places.carried, start=len(held) + len(self.places.tables))
        table += [_carried(each, k) for k, each in carried if each in used]
        words = (*(() if table else ("memory",)), *VECTORS.values(), "T", "batch", *more)
        unused = [word for word in words if word not in used]
        lines = [*(f"(void){word};" for word in unused), *table, *body]
        return "\n".join([head, "{", *("    " + line for line in lines), "}", ""])

    # Phases.

    def _phase(self, kind: str, lines: Sequence[str]) -> None:
        if kind == ONCE and self.phases and self.phases[-1][0] == ONCE:
            self.phases[-1][1].extend(lines)
        else:
            self.phases.append((kind, list(lines)))

    def _prepare(self, lines: Sequence[str]) -> None:
        """What comes before the statements that multiply by a matrix: once a call, or in a function of its own."""
        if self.apart:
            self.packing += lines
        else:
            self._phase(ONCE, lines)

    def _block(self, head: Sequence[str], write: Callable[[], list[str]]) -> list[str]:
        """Lines in a block of their own, with the pointers that they need, where there are any."""
        self.places.pointers = {}
        lines = write()
        inner = [*head, *self.places.pointers.values(), *lines]
        return ["{", *("    " + line for line in inner), "}"] if len(inner) > len(lines) else lines

    def _statement(self, statement: Statement) -> None:
        """A statement outside of loops."""
        if isinstance(statement, Loop | Staggered):
            self._loops(statement)
            return
        if isinstance(statement, Sweep):
            self._sweep(statement)
            return
        target = views_of(statement)[0]
        if isinstance(statement, MatMul):
            self.operations += operations(statement)
            if is_gradient(statement):
                text = GradientText(statement, self.places)
                self.places.shared = False
                self._phase(SHARED, self._block([_all_rows(statement.right)], text.whole))
                self.places.shared = True
                return
            matrix = MatrixText(statement, self.places)
            self._prepare(self._block([], lambda: [matrix.packing()]))
            note = comment_lines(statement.note.split("; "))
            self._phase(SHARED, self._block(_shares(rows_of(target)), lambda: [*note, matrix.call()]))
            return
        if isinstance(statement, StackMatMul):
            self._stacked(statement)
            return
        if isinstance(statement, SparseMatMul | Turn):
            self.by_sequence = True
            before: list[str] = []
            lines = self._block(_shares(Bound(1)), lambda: self._turned(statement, before))
            self.operations += _operations(statement)
            if before:
                self._phase(ONCE, before)
            self._phase(SHARED, lines)
            return
        if not has_rows(target.buffer):
            self._phase(ONCE, self._block([], lambda: self._inner(statement)))
            return
        self.operations += POINTWISE_OPERATIONS * target.columns
        self._phase(SHARED, self._block(_shares(rows_of(target)), lambda: self._inner(statement)))

    def _stacked(self, statement: StackMatMul) -> None:
        self.operations += stack_operations(statement)
        if statement.transposed:
            self.places.shared = False
            gradient = StackedGradientText(statement, self.places)
            self._phase(SHARED, self._block([_all_rows(statement.right)], gradient.lines))
            self.places.shared = True
            return
        text = StackedRowsText(statement, self.places)
        self._prepare(self._block([], lambda: [text.matrix.packing()]))
        self._phase(SHARED, self._block(_shares(rows_of(statement.target)), text.lines))

    def _loops(self, statement: Loop | Staggered) -> None:
        self.by_sequence = True
        parts = loops_of(statement)
        inner = statements_in(statement)
        alone = any(not has_rows(target.buffer) for target in targets_of(inner))
        behind = self.behind.get(id(statement), [])
        ahead = products_ahead(statement, self._private()) if isinstance(statement, Loop) and not alone else []
        self._mark_chunked(statement, ahead, behind)
        changed = {target.buffer.name for target in targets_of(inner)}
        before: list[str] = []
        sums: list[str] = []
        bodies = []
        for part in parts:
            self.places.pointers, self.places.steps = {}, part.steps
            lines: list[str] = []
            for each in part.body:
                lines += self._in_loop(each, ahead, before, sums, changed)
            bodies.append([*self.places.pointers.values(), *lines])
        self.places.steps = 1
        self.operations += sum(map(_operations, inner))
        if before:
            self._prepare(before)
        self.places.pointers = {}
        gradients = [GradientText(each.product, self.places) for each in behind]
        partial = [line for each in gradients for line in each.partial()]
        started = "last < T" if statement.backward else "first > 1"
        summed = [line for text, each in zip(gradients, behind, strict=True) for line in text.chunk(each, started)]
        self.operations += sum(operations(each.product) for each in behind)
        pointers = list(self.places.pointers.values())
        if ahead or behind:
            assert isinstance(statement, Loop)
            rows = ROWS_BEHIND if behind else ROWS_AHEAD
            lines = [*pointers, *partial, *chunk_lines(statement, rows, sums, bodies[0], summed)]
        elif isinstance(statement, Loop):
            lines = steps_lines(statement, "1", "T", bodies[0])
        else:
            lines = staggered_lines(statement, bodies)
        head = ["const long from = 0, rows = batch;"] if alone else _shares(Bound(1))
        if (steps := parts[0].steps) > 1:
            head.append(
                f"const long turn = rows == batch ? {steps} : 1; // steps at once: one thread has all their rows"
            )
        text = [*comment_lines([statement.note]), "{", *("    " + line for line in (*head, *lines)), "}"]
        self._phase(ONCE if alone else SHARED, text)
        if gradients and not alone:
            self._phase(SHARED, self._block([], lambda: [each.together() for each in gradients]))

    def _sweep(self, statement: Sweep) -> None:
        code = SweepCode(statement, self.dtype, self.places, self.vector_size)
        lines = [*_shares(Bound(1)), *code.lines()]
        self._phase(SHARED, [*comment_lines([statement.note]), "{", *("    " + line for line in lines), "}"])
        self.operations += code.operations
        self.sweeps = self.by_sequence = True
        if together := code.together():
            self._phase(SHARED, together)

    def _private(self) -> set[str]:
        return {name for name, count in self.users.items() if count == 1}

    def _mark_chunked(self, statement: Loop | Staggered, ahead: Sequence[Ahead], behind: Sequence[Behind]) -> None:
        """Which buffers need hold the steps of one chunk only."""
        rows = ROWS_BEHIND if behind else ROWS_AHEAD, loops_of(statement)[0].steps
        self.places.chunked |= {each.product.target.buffer.name: rows for each in ahead}
        for name in {view.buffer.name for each in behind for view in (each.left, each.right)}:
            inside = [view for each in statements_in(statement) for view in views_of(each) if view.buffer.name == name]
            sides = [[view for view in (each.left, each.right) if view.buffer.name == name] for each in behind]
            mine = bool(inside) + sum(map(bool, sides))
            times = {view.time for views in (inside, *sides) for view in views}
            if self.users[name] == mine and len(times) == 1:
                self.places.chunked[name] = rows

    # Statements within loops.

    def _turned(self, statement: SparseMatMul | Turn, before: list[str]) -> list[str]:
        """A sparse product, or what it reads; ``before`` takes what is done once."""
        if isinstance(statement, Turn):
            return turn_lines(statement, self.places)
        once, lines = sparse_lines(statement, self.places)
        before.append(once)
        return lines

    def _inner(self, statement: Statement) -> list[str]:
        """A statement without a product."""
        if isinstance(statement, Reduce):
            return reduce_lines(statement, self.dtype, self.places)
        fused = statement if isinstance(statement, Fused) else as_fused(statement)
        return [*comment_lines(fused.note.split("; ")), *PointwiseText(fused, self.dtype, self.places).loops()]

    def _in_loop(
        self,
        statement: Statement,
        ahead: Sequence[Ahead],
        before: list[str],
        sums: list[str],
        changed: Collection[str],
    ) -> list[str]:
        """``before`` takes what is done once before the loop, ``sums`` what is summed up ahead of a chunk; ``changed``:
        the buffers that the loop writes."""
        if isinstance(statement, SparseMatMul | Turn):
            return self._turned(statement, before)
        if not isinstance(statement, MatMul):
            return self._inner(statement)
        text = MatrixText(statement, self.places)
        lines = comment_lines(statement.note.split("; "))
        if statement.right.buffer.name in changed:
            lines.append(text.packing())
        else:  # the pointers of the loop's block are not declared yet
            before.append(text.packing())
        split = next((each for each in ahead if each.product is statement), None)
        if split is None:
            return [*lines, text.call(backwards=self.backwards)]
        sums += text.ahead(split)
        inside = [text.call(part, True, self.backwards) for part in split.inside]
        whole = text.call(backwards=self.backwards)
        alternatives = ["if (together) {", *("    " + line for line in inside), "} else {", f"    {whole}", "}"]
        return [*lines, *alternatives]


class StepText(RegionText):
    """One step of a loop over ring buffers, in which T stands for the number of steps before it, modulo the rows of a
    ring; and the function ``<name>_pack``, which packs the matrices that the steps multiply by."""

    backwards = "T & 1"

    def __init__(self, name: str, dtype: str, loop: Loop) -> None:
        super().__init__(name, dtype, (), {})
        changed = {view.buffer.name for view in targets_of(loop.body)}
        lines = [line for inner in loop.body for line in self._in_loop(inner, (), self.packing, [], changed)]
        self._phase(ONCE, [*self.places.pointers.values(), *lines])

    def _places(self) -> Places:
        return RingPlaces(self.dtype)

    def text(self) -> str:
        """All functions. What Python calls at each step has one argument: more cost as much as a small step."""
        part, pack = f"{self.name}_part", f"{self.name}_pack"
        passed = ", ".join(f"given->{each}" for each in ("memory", *VECTORS.values()))
        lines = [
            self._function(f"static void {part}({SIGNATURE})", self.lines, []),
            f"void {self.name}(const struct call *call)\n{{\n    const struct given *const given = call->given;\n"
            f"    {part}({passed}, call->row, given->batch);\n}}\n",
            self._function(f"void {pack}({SIGNATURE})", self.packing, []),
        ]
        return "\n".join(lines)

    @property
    def functions(self) -> list[str]:
        """The names of those that have the arguments of a region's function, unlike the step."""
        return [f"{self.name}_pack"]


def _carried(name: str, number: int) -> str:
    """What a call has put into its table: an address, or how many steps were before."""
    if name == EARLIER:
        return f"const long {name} = (long)(intptr_t)memory[{number}];"
    return f"real *const {name} = memory[{number}];"


def _operations(statement: Statement) -> int:
    """How many operations one row of a statement is, roughly."""
    if isinstance(statement, MatMul):
        return operations(statement)
    if isinstance(statement, SparseMatMul):
        return 2 * len(statement.pattern)
    return POINTWISE_OPERATIONS * views_of(statement)[0].columns


def _shares(steps: Bound) -> list[str]:
    """The part of a thread in the rows of so many steps."""
    rows = _steps_text(steps)
    begin = f"share({rows}, thread, team)"
    return [f"const long from = {begin}, rows = share({rows}, thread + 1, team) - from;"]


def _all_rows(view: View) -> str:
    """How many rows all steps of a view have."""
    return f"const long all = {_steps_text(rows_of(view))};"


def _steps_text(steps: Bound) -> str:
    return "batch" if steps == Bound(1) else f"{bracketed(bound_text(steps))} * batch"
