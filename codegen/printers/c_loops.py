"""Loops over t and pointwise statements -> C: one function for a run of statements.

A function gets the addresses of its buffers in one table, and those of the vectors of parameters, directions and
gradients. Matrices that a loop multiplies by are packed before it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from codegen.ir import (
    Bound,
    Buffer,
    Copy,
    Fill,
    Fused,
    Loop,
    MatMul,
    Reduce,
    Span,
    Staggered,
    Statement,
    Step,
    View,
    loops_of,
)
from codegen.names import Namer
from codegen.overlap import overlap
from codegen.passes.fuse_pointwise import as_fused, iteration_space, memory_of
from codegen.printers.c_ahead import ROWS, Ahead, products_ahead
from codegen.printers.c_fused import FusedText
from codegen.printers.c_support import SPELLED
from codegen.printers.c_text import c_namer, comment_lines, index_text, suffix_of
from codegen.printers.loops import shifted
from codegen.printers.views import bound_text
from codegen.walk import targets_of

SIGNATURE = """
    real *const *memory, const real *parameters, const real *direction, real *gradient,
    const long T, const long batch"""
VECTORS = {"parameter": "parameters", "direction": "direction", "gradient": "gradient"}
WIDEST_PANEL = 32  # columns of a panel of the widest vectors that c_support knows


def is_compiled(statement: Statement) -> bool:
    """Whether a statement outside of loops is a part of a C function. Loops always are: NumPy has no text for them."""
    if isinstance(statement, Fill):
        return not statement.once
    return isinstance(statement, Loop | Staggered | Fused | Copy)


class RegionText:
    """The C function ``name`` for a run of statements. ``memory``: the buffers of its table; ``packed``: the name and
    the number of elements of each packed matrix, which lie in the table behind them."""

    def __init__(self, name: str, dtype: str, statements: Sequence[Statement], private: Collection[str] = ()) -> None:
        self.name = name
        self.dtype = dtype
        self.private = private
        self.names = c_namer(dtype)
        self.names.taken |= {"memory", "parameters", "direction", "gradient", "T", "t", "batch", "step", "vector"}
        self.names.taken |= {"first", "last", "chunk", "source", "sum", "largest"}
        self.chunked: set[str] = set()  # buffers of one step that hold those of a chunk
        self.ahead: dict[int, Ahead] = {}  # of the loop that is being written, by the product's identity
        self.summed: list[str] = []  # what is done ahead of each chunk
        self.memory: dict[str, Buffer] = {}
        self.vectors: set[str] = set()
        self.packed: list[tuple[str, int]] = []
        self.pointers: dict[str, str] = {}  # name -> its declaration, for the block that is being written
        self.lines = [line for statement in statements for line in self._statement(statement)]

    def text(self) -> str:
        """The whole function."""
        return self._function(self.name, self.lines)

    @property
    def functions(self) -> list[str]:
        """The names of the functions in ``text``."""
        return [self.name]

    def _function(self, name: str, body: Sequence[str]) -> str:
        def uses(word: str) -> bool:
            return any(re.search(rf"\b{word}\b", line) for line in body)

        held = [*map(self._buffer, self.memory.values()), *(packed for packed, _ in self.packed)]
        table = [f"real *const {each} = memory[{k}];" for k, each in enumerate(held) if uses(each)]
        used = {"memory"} if table else set()
        unused = [word for word in ("memory", *VECTORS.values(), "T", "batch") if not uses(word) and word not in used]
        head = [f"void {name}({SIGNATURE})", "{", *(f"(void){word};" for word in unused), *table, *body]
        return "\n".join([*head[:2], *("    " + line for line in head[2:]), "}", ""])

    # Places.

    def _buffer(self, buffer: Buffer) -> str:
        return self.names.name(("buffer", buffer.name), f"{buffer.name[:50]}_data")

    def pointer(self, view: View) -> str:
        """The name of the pointer to the rows or the buffer that ``view`` lies in, declared in the present block."""
        buffer = view.buffer
        if buffer.storage in VECTORS:
            self.vectors.add(buffer.storage)
            vector = VECTORS[buffer.storage]
            name = self._buffer(buffer)
            constant = "" if buffer.storage == "gradient" else "const "
            offset = f" + {buffer.offset}" if buffer.offset else ""
            self.pointers[name] = f"{constant}real *const {name} = {vector}{offset};"
            return name
        self.memory.setdefault(buffer.name, buffer)
        base = self._buffer(buffer)
        if buffer.name in self.chunked:
            name = self.names.name(("chunk", buffer.name), f"{buffer.name[:50]}_t_data")
            self.pointers[name] = f"real *const {name} = {base} + (t - first) * batch * {buffer.columns};"
            return name
        if buffer.shape != "sequence" or view.time == Span(Bound(0), buffer.length):
            return base
        assert isinstance(view.time, Step | Span), "a sequence without a time"
        if isinstance(view.time, Step):
            row, wanted = self._row(view, view.time), f"{buffer.name[:40]}_t{_signed(view.time.offset)}_data"
        else:
            row = _bracketed(bound_text(view.time.start))
            named = bound_text(view.time.start).replace(" + ", "_plus_")
            wanted = f"{buffer.name[:40]}_from_{named}_data"
        if row == "0":
            return base
        name = self.names.name(("rows", buffer.name, view.time if isinstance(view.time, Step) else row), wanted)
        self.pointers[name] = f"real *const {name} = {base} + {row} * batch * {buffer.columns};"
        return name

    def _row(self, view: View, time: Step) -> str:
        """Which row of its sequence a view is."""
        return _step_row(time)

    # Statements.

    def _statement(self, statement: Statement) -> list[str]:
        """A statement outside of loops."""
        if isinstance(statement, Loop | Staggered):
            return self._loops(statement)
        self.pointers = {}
        lines = self._inner(statement)
        if not self.pointers:
            return lines
        return ["{", *("    " + line for line in (*self.pointers.values(), *lines)), "}"]

    def _loops(self, statement: Loop | Staggered) -> list[str]:
        parts = loops_of(statement)
        written_names = {target.buffer.name for part in parts for target in targets_of(part.body)}
        before: list[str] = []
        bodies = []
        found = products_ahead(statement, self.private) if isinstance(statement, Loop) else []
        self.ahead = {id(each.product): each for each in found}
        self.chunked |= {each.product.target.buffer.name for each in found}
        self.summed = []
        for part in parts:
            self.pointers = {}
            lines = []
            for inner in part.body:
                lines += self._inner(inner, before, written_names)
            bodies.append([*self.pointers.values(), *lines])
        if isinstance(statement, Loop) and found:
            return [*before, *comment_lines([statement.note]), *self._chunks(statement, bodies[0])]
        head = _head(statement)
        if isinstance(statement, Loop):
            return [*before, *comment_lines([statement.note]), head, *("    " + line for line in bodies[0]), "}"]
        result = [*before, *comment_lines([statement.note]), head]
        for shift, body in zip(statement.shifts, bodies, strict=True):
            result.append(f"    if (1 <= {shifted('step', shift)} && {shifted('step', shift)} <= T) {{")
            result.append(f"        const long t = {shifted('step', shift)};")
            result += ["        " + line for line in body]
            result.append("    }")
        return [*result, "}"]

    def _chunks(self, loop: Loop, body: list[str]) -> list[str]:
        """A loop over chunks of steps, each with what is summed up ahead for all its steps."""
        if loop.backward:
            heads = [
                "for (long last = T; last >= 1; last -= chunk) {",
                "    const long first = last > chunk ? last - chunk + 1 : 1;",
                "    for (long t = last; t >= first; --t) {",
            ]
        else:
            heads = [
                "for (long first = 1; first <= T; first += chunk) {",
                "    const long last = first + chunk - 1 < T ? first + chunk - 1 : T;",
                "    for (long t = first; t <= last; ++t) {",
            ]
        return [
            "{",
            f"    const long chunk = batch < {ROWS} ? {ROWS} / batch : 1;",
            *("    " + line for line in heads[:2]),
            "        if (chunk > 1) {",
            *("            " + line for line in self.summed),
            "        }",
            "    " + heads[2],
            *("            " + line for line in body),
            "        }",
            "    }",
            "}",
        ]

    def _inner(
        self, statement: Statement, before: list[str] | None = None, changed: set[str] | None = None
    ) -> list[str]:
        """``before`` takes what is done once before the loop; ``changed``: the buffers that the loop writes."""
        if isinstance(statement, MatMul):
            return self._matmul(statement, before, changed or set())
        if isinstance(statement, Reduce):
            return self._reduce(statement)
        fused = statement if isinstance(statement, Fused) else as_fused(statement)
        return [*comment_lines(fused.note.split("; ")), *_LoopText(fused, self.dtype, self).loops()]

    def _matmul(self, statement: MatMul, before: list[str] | None, changed: set[str]) -> list[str]:
        left, right, target = statement.left, statement.right, statement.target
        assert not left.transposed and not overlap(target, left), "a product that C has no text for"
        depth = left.columns
        name = self.names.name(("packed", len(self.packed)), f"packed_{right.label or right.buffer.name}")
        lines: list[str] = []
        packed = self._pack(name, right, depth, target.columns)
        if before is None or right.buffer.name in changed:
            lines.append(packed)
        else:  # the pointers of the loop's block are not declared yet
            before.append(packed)
        rows = _rows_text(target)
        lines = [*comment_lines(statement.note.split("; ")), *lines]
        sides = [self._place(left), str(left.buffer.columns), name, self._place(target), str(target.buffer.columns)]

        def product(rows: str, start: int, stop: int, sides: Sequence[str], add: bool) -> str:
            return f"product({rows}, {start}, {stop}, {depth}, {target.columns}, {', '.join(sides)}, {int(add)});"

        whole = product(rows, 0, depth, sides, statement.accumulate)
        split = self.ahead.get(id(statement)) if before is not None else None
        if split is None:
            return [*lines, whole]
        assert isinstance(left.time, Step)
        row = _step_row(left.time, "first")
        sources = self._buffer(left.buffer) + (f" + {row} * batch * {left.buffer.columns}" if row != "0" else "")
        together = [sources, sides[1], name, self._buffer(target.buffer), sides[4]]
        self.summed += [
            product("(last - first + 1) * batch", start, stop, together, number > 0)
            for number, (start, stop) in enumerate(split.ahead)
        ]
        inside = [product(rows, start, stop, sides, True) for start, stop in split.inside]
        return [*lines, "if (chunk > 1) {", *("    " + line for line in inside), "} else {", f"    {whole}", "}"]

    def _pack(self, name: str, right: View, depth: int, columns: int) -> str:
        """The call that packs a matrix."""
        self.packed.append((name, depth * -(-columns // WIDEST_PANEL) * WIDEST_PANEL))
        stride = right.buffer.columns
        assert right.rows is not None, "a product by what is no matrix"
        start = right.rows[0] * stride + right.start
        steps = (1, stride) if right.transposed else (stride, 1)
        buffer = right.buffer
        if buffer.storage in VECTORS:
            self.vectors.add(buffer.storage)
            base, start = VECTORS[buffer.storage], start + buffer.offset
        else:
            self.memory.setdefault(buffer.name, buffer)
            base = self._buffer(buffer)
        place = f"{base} + {start}" if start else base
        return f"pack({name}, {place}, {depth}, {columns}, {steps[0]}, {steps[1]});"

    def _place(self, view: View) -> str:
        """The address of the first element of a view."""
        start = view.start + (view.rows[0] * view.buffer.columns if view.rows is not None else 0)
        pointer = self.pointer(memory_of(view))
        return f"{pointer} + {start}" if start else pointer

    def _reduce(self, statement: Reduce) -> list[str]:
        """The sum, or the log-sum-exp, of the columns of each row."""
        assert statement.kind in ("units", "logsumexp") and not statement.accumulate, "a sum that C has no text for"
        f = suffix_of(self.dtype)
        source, target = statement.source, statement.target
        row = index_text((source.buffer.columns, "row"), start=source.start)
        each = f"    for (long column = 0; column < {source.columns}; ++column) "
        if statement.kind == "units":
            steps, result = ["    real sum = 0;", f"{each}sum += source[column];"], "sum"
        else:
            steps = [
                "    real largest = source[0], sum = 0;",
                f"{each}largest = source[column] > largest || source[column] != source[column]"
                " ? source[column] : largest;",
                f"{each}sum += fast_exp(source[column] - largest);",
            ]
            result = f"largest + log{f}(sum)"
        place = index_text((target.buffer.columns, "row"), start=target.start)
        return [
            *comment_lines(statement.note.split("; ")),
            f"for (long row = 0; row < {_rows_text(target)}; ++row) {{",
            f"    const real *const source = {self.pointer(memory_of(source))} + {row};",
            *steps,
            f"    {self.pointer(memory_of(target))}[{place}] = {result};",
            "}",
        ]


class StepText(RegionText):
    """One step of a loop over ring buffers, in which T stands for the number of steps before it; and the function
    ``<name>_pack``, which packs the matrices that the steps multiply by."""

    def __init__(self, name: str, dtype: str, loop: Loop) -> None:
        super().__init__(name, dtype, ())
        self.packing: list[str] = []
        changed = {view.buffer.name for view in targets_of(loop.body)}
        lines = [line for inner in loop.body for line in self._inner(inner, self.packing, changed)]
        self.lines = [*self.pointers.values(), *lines]

    def text(self) -> str:
        """Both functions."""
        return "\n".join(self._function(*each) for each in zip(self.functions, (self.lines, self.packing), strict=True))

    @property
    def functions(self) -> list[str]:
        """The names of both."""
        return [self.name, f"{self.name}_pack"]

    def _row(self, view: View, time: Step) -> str:
        return f"({_bracketed(shifted('T', time.offset))} % {view.buffer.length.constant})"


class _LoopText(FusedText):
    """A Fused statement as loops over its rows and columns."""

    spelled = SPELLED

    def __init__(self, fused: Fused, dtype: str, region: RegionText) -> None:
        super().__init__(fused, dtype, Namer(set(region.names.taken)))
        self.region = region
        self.shared: list[str] = []  # lines about values that all columns of a row share

    def pointer(self, view: View) -> str:
        """The region's."""
        return self.region.pointer(view)

    def _hold(self, text: str, label: str) -> str:
        """Names that end as those of pointers do are left to these."""
        return super()._hold(text, f"{label}_value" if label.endswith("_data") else label)

    def _load(self, view: View) -> str:
        if view.columns != 1 or self.columns == 1 or view.transposed:
            return super()._load(view)
        lines, self.lines = self.lines, self.shared
        name = super()._load(view)
        self.lines = lines
        return name

    def loops(self) -> list[str]:
        """One loop where the elements of all views lie one after the other, else one over rows and one over columns."""
        self.write()
        rows = _rows_text(self.fused.parts[0].target)
        body = "\n".join([*self.shared, *self.lines])
        if self.columns == 1:
            lines = ["    const long element = row;"] if re.search(r"\belement\b", body) else []
            return ["INDEPENDENT", f"for (long row = 0; row < {rows}; ++row) {{", *lines, *self.lines, "}"]
        if not re.search(r"\b(row|column)\b", body):
            count = f"{rows} * {self.columns}" if rows != "1" else str(self.columns)
            return ["INDEPENDENT", f"for (long element = 0; element < {count}; ++element) {{", *self.lines, "}"]
        lines = [f"    const long element = row * {self.columns} + column;"] if re.search(r"\belement\b", body) else []
        inner = [
            "INDEPENDENT",
            f"for (long column = 0; column < {self.columns}; ++column) {{",
            *lines,
            *self.lines,
            "}",
        ]
        shared = [line.removeprefix("    ") for line in self.shared]
        outer = [*shared, *inner]
        if rows == "1" and not re.search(r"\brow\b", "\n".join(outer)):
            return ["{", *("    " + line for line in outer), "}"] if shared else inner
        return [f"for (long row = 0; row < {rows}; ++row) {{", *("    " + line for line in outer), "}"]


def _head(statement: Loop | Staggered) -> str:
    if isinstance(statement, Loop):
        return "for (long t = T; t >= 1; --t) {" if statement.backward else "for (long t = 1; t <= T; ++t) {"
    first, last = str(1 - max(statement.shifts)), shifted("T", -min(statement.shifts))
    if statement.backward:
        return f"for (long step = {last}; step >= {first}; --step) {{"
    return f"for (long step = {first}; step <= {last}; ++step) {{"


def _rows_text(view: View) -> str:
    """How many rows a view has."""
    if view.vector or view.buffer.shape == "vector":
        return "1"
    rows = iteration_space(Fill(view, 0.0))[0]
    if isinstance(rows, tuple):
        return f"{_bracketed(bound_text(Bound(*rows)))} * batch"
    return str(rows)


def _step_row(time: Step, t: str = "t") -> str:
    """The row of a step in its sequence."""
    return _bracketed(shifted(t, time.offset - 1))


def _bracketed(text: str) -> str:
    """A sum in brackets, so that it may be a factor."""
    return f"({text})" if " " in text else text


def _signed(offset: int) -> str:
    """The time of row t - 1 + offset, for a name: 0 is t."""
    return "" if offset == 0 else f"_{'plus' if offset > 0 else 'minus'}_{abs(offset)}"
