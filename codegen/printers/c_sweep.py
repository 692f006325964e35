"""A Sweep -> C: each thread takes its sequences one after the other, and of each all steps.

So the sensitivities of one sequence stay in the cache from step to step, and what one step alone needs is held once for
each thread, not for each sequence. What is carried from call to call is the caller's: its addresses, and the number of
steps before this call, stand at the end of the function's table.
"""

from __future__ import annotations

from codegen.blocks import BlockSweep
from codegen.ir import Statement, View
from codegen.names import words_of
from codegen.passes.fuse_pointwise import memory_of
from codegen.printers.c_places import VECTORS, Places
from codegen.printers.c_products import padded
from codegen.printers.c_support import SPELLED
from codegen.printers.c_text import CExpression, comment_lines, index_text
from codegen.sweep import (
    Contract,
    Expand,
    Lifted,
    Operand,
    Record,
    RowAssign,
    RowBuffer,
    RowProduct,
    RowStatement,
    RowSum,
    RowView,
    Sweep,
)

EARLIER, SUMS = "earlier", "all_sums"  # how many steps were before this call; what the threads add up
ALIGNED = 16  # numbers


def is_swept(statement: Statement) -> bool:
    """Whether a statement is a Sweep that C has a text for: one that goes from block to block is left to NumPy."""
    return isinstance(statement, Sweep) and not isinstance(statement, BlockSweep)


def places_of(sweep: Sweep) -> tuple[list[tuple[RowBuffer, int]], int]:
    """Where the buffers with a past lie, one after the other, in numbers of each sequence, and how many there are."""
    places, size = [], 0
    for buffer in sweep.buffers().values():
        if buffer.slots > 1:
            places.append((buffer, size))
            size += -(-buffer.slots * buffer.rows * buffer.columns // ALIGNED) * ALIGNED
    return places, size


class SweepCode:
    """The lines of a sweep. ``vector_size``: how many numbers the gradient has."""

    def __init__(self, sweep: Sweep, dtype: str, places: Places, vector_size: int) -> None:
        self.sweep = sweep
        self.dtype = dtype
        self.places = places
        self.vector_size = vector_size
        self.operations = 0  # of one step of one sequence
        self.own: dict[str, str] = {}  # lines about what a thread has for itself, by name
        self.slots: dict[str, str] = {}  # lines about the values at t and before, by name
        self.before: list[str] = []  # what is done once
        self.packed: set[str] = set()  # the matrices that are packed as they are now
        self.sums = ""  # what a thread adds up
        self.carried = places.names.name("sensitivities", "sensitivities")
        self.starts = {buffer.name: start for buffer, start in places_of(sweep)[0]}
        if self.starts:
            places.carried |= {self.carried: "sensitivities.values", EARLIER: "sensitivities.time"}

    def lines(self) -> list[str]:
        """The loops over sequences and steps."""
        self.places.pointers, self.places.origin = {}, "sequence"
        body = [line for statement in self.sweep.body for line in self._statement(statement)]
        self.places.origin = "from"
        now = [f"const long now = {EARLIER} + t;"] if "now" in words_of(self.slots.values()) else []
        step = [*now, *self.slots.values(), *self.places.pointers.values(), *body]
        return [
            *self.own.values(),
            *self.before,
            "for (long sequence = from; sequence < from + rows; ++sequence) {",
            "    for (long t = 1; t <= T; ++t) {",
            *("        " + line for line in step),
            "    }",
            "}",
        ]

    def together(self) -> list[str]:
        """After the loops: the threads' sums become one."""
        if not self.sums:
            return []
        size = self.vector_size
        call = f"add_partial_sums({size}, 1, {SUMS}, 1, {SUMS} + {size}, thread, team);"
        return ["if (team->threads > 1) {", f"    {call}", "}"]

    # Where things lie.

    def _base(self, buffer: RowBuffer) -> str:
        """The pointer to a buffer with a past, of all sequences."""
        name = self.places.names.name(("carried", buffer.name), f"{buffer.name[:50]}_data")
        start = self.starts[buffer.name]
        self.own[name] = f"real *const {name} = {self.carried}{f' + {start} * batch' if start else ''};"
        return name

    def _row(self, view: RowView) -> str:
        """The pointer to the matrix of the sequence at hand."""
        buffer = view.buffer
        size = buffer.rows * buffer.columns
        if buffer.slots == 1:
            return self._of_thread(("matrix", buffer.name), buffer.name, size)
        moment = "t" if view.delay == 0 else f"t_minus_{view.delay}"
        name = self.places.names.name(("slot", buffer.name, view.delay), f"{buffer.name[:40]}_{moment}")
        back = buffer.slots - view.delay
        time = "now" if view.delay == 0 else f"(now + {back})" if back else "now"
        row = f"({time} % {buffer.slots} * batch + sequence)"
        self.slots[name] = f"real *const {name} = {self._base(buffer)} + {row} * {size};"
        return name

    def _of_thread(self, key: object, wanted: str, size: int) -> str:
        """The pointer to numbers of which each thread has its own."""
        name = self.places.names.name(key, wanted[:50])
        if name not in self.own:
            all_threads = self.places.reserve(f"all_{name}", size, "each")
            self.own[name] = f"real *const {name} = {all_threads} + thread{f' * {size}' if size > 1 else ''};"
        return name

    def _sums(self) -> str:
        """The pointer to the gradient that a thread adds up."""
        if not self.sums:
            self.places.scratch[SUMS] = (self.vector_size, "each")
            self.sums = self.places.names.name("sums of a sweep", "sums")
            self.own[self.sums] = f"real *const {self.sums} = {SUMS} + thread * {self.vector_size};"
            self.before.append(f"memset({self.sums}, 0, {self.vector_size} * sizeof(real));")
        return self.sums

    # Statements.

    def _statement(self, statement: RowStatement) -> list[str]:
        lines = comment_lines(statement.note.split("; "))
        if isinstance(statement, RowAssign):
            lines += self._assign(statement)
        elif isinstance(statement, RowProduct):
            lines += self._product(statement)
        elif isinstance(statement, Expand):
            lines += self._expand(statement)
        elif isinstance(statement, RowSum):
            lines += self._sum(statement)
        elif isinstance(statement, Contract):
            lines += self._contract(statement)
        else:
            assert isinstance(statement, Record), "a statement that C has no text for"
            lines += self._record(statement)
        if isinstance(statement, RowAssign | RowProduct | Expand | RowSum):
            written = self._row(statement.target)
            self.packed = {each for each in self.packed if each not in (f"{written}_packed", f"{written}_turned")}
        return lines

    def _product(self, statement: RowProduct) -> list[str]:
        left, target = statement.left.buffer, statement.target.buffer
        packed, lines = self._packed(statement.right, left.columns, target.columns)
        self.operations += 2 * left.rows * left.columns * target.columns
        call = (
            f"product({left.rows}, 0, {left.columns}, {left.columns}, {target.columns}, {self._row(statement.left)},"
            f" {left.columns}, {packed}, {self._row(statement.target)}, {target.columns},"
            f" {int(statement.accumulate)}, 0);"
        )
        return [*lines, call]

    def _packed(self, right: RowView | View, depth: int, columns: int) -> tuple[str, list[str]]:
        """The packed right side of a product, and the lines that pack it where this is not done yet."""
        size = depth * padded(columns)
        if isinstance(right, View):
            name = self._of_thread(("packed", right), f"packed_{right.label or right.buffer.name}", size)
            place, stride = self._matrix(right)
            steps = (1, stride) if right.transposed else (stride, 1)
            line = f"pack({name}, {place}, {depth}, {columns}, {steps[0]}, {steps[1]});"
            self.before += [] if line in self.before else [line]
            return name, []
        matrix, stride = self._row(right), right.buffer.columns
        key = f"{matrix}_{'turned' if right.transposed else 'packed'}"
        name = self._of_thread(("packed", key), f"packed_{key.removesuffix('_packed')}", size)
        if key in self.packed:
            return name, []
        self.packed.add(key)
        steps = (1, stride) if right.transposed else (stride, 1)
        return name, [f"pack({name}, {matrix}, {depth}, {columns}, {steps[0]}, {steps[1]});"]

    def _matrix(self, view: View) -> tuple[str, int]:
        """The address of a matrix's first element outside of all blocks, and its stride."""
        assert view.rows is not None, "a matrix without rows"
        buffer, start = view.buffer, view.rows[0] * view.buffer.columns + view.start
        if buffer.storage in VECTORS:
            base, start = VECTORS[buffer.storage], start + buffer.offset
        else:
            base = self.places.hold(buffer)
        return (f"{base} + {start}" if start else base), buffer.columns

    def _expand(self, statement: Expand) -> list[str]:
        target, local = self._row(statement.target), self._row(statement.local)
        buffer, units = statement.target.buffer, statement.local.buffer.columns
        rows, columns = statement.local.buffer.rows, buffer.columns
        self.operations += rows * units * (1 if statement.jacobian is None else 2 * columns)
        lines = []
        if not statement.accumulate:
            lines.append(f"memset({target}, 0, {buffer.rows * columns} * sizeof(real));")
        place = index_text((units * units, "i"), (units + 1, "j"), start=0)
        if statement.jacobian is None:
            added = [f"{target}[{place}] += {local}[{index_text((units, 'i'), (1, 'j'), start=0)}];"]
        else:
            factor = f"const real factor = {local}[{index_text((units, 'i'), (1, 'j'), start=0)}];"
            row = index_text((units * columns, "i"), (columns, "j"), (1, "column"), start=0)
            from_row = index_text((columns, "j"), (1, "column"), start=0)
            jacobian = self._row(statement.jacobian)
            added = [factor, *_loop("column", columns, [f"{target}[{row}] += factor * {jacobian}[{from_row}];"])]
        return [*lines, *_loop("i", rows, _loop("j", units, added), False)]

    def _sum(self, statement: RowSum) -> list[str]:
        buffer, sign = statement.source.buffer, "+=" if statement.accumulate else "="
        target, source = self._row(statement.target), self._row(statement.source)
        self.operations += buffer.rows * buffer.columns
        if statement.over_rows or buffer.rows == 1:
            return [f"{target}[0] {sign} sum_of({buffer.rows * buffer.columns}, {source});"]
        row = index_text((buffer.columns, "row"), start=0)
        return _loop("row", buffer.rows, [f"{target}[row] {sign} sum_of({buffer.columns}, {source} + {row});"], False)

    def _contract(self, statement: Contract) -> list[str]:
        buffer, sensitivity = statement.sensitivity.buffer, self._row(statement.sensitivity)
        self.operations += 2 * buffer.rows * buffer.columns
        gradient = statement.gradient
        assert gradient.rows is not None
        stride, columns = gradient.buffer.columns, gradient.columns
        start = gradient.buffer.offset + gradient.rows[0] * stride + gradient.start
        height = 1 if gradient.vector else gradient.rows[1] - gradient.rows[0]
        sums = self._sums()
        at_start = f"{sums} + {start}" if start else sums
        if statement.error is None or statement.local:
            factor = ""
            if statement.error is not None:
                factor = f" * {self._vector(statement.error, 'column')}"
            if height == 1 or (stride == columns and not factor):
                count = height * columns
                place = index_text((1, "column"), start=start)
                return _loop("column", count, [f"{sums}[{place}] += {sensitivity}[column]{factor};"])
            place = index_text((stride, "row"), (1, "column"), start=start)
            source = index_text((columns, "row"), (1, "column"), start=0)
            inner = _loop("column", columns, [f"{sums}[{place}] += {sensitivity}[{source}]{factor};"])
            return _loop("row", height, inner, False)
        error = self.places.place(statement.error)
        if height == 1 or stride == columns:
            return [f"add_row_sums({buffer.rows}, {buffer.columns}, {sensitivity}, {error}, {at_start});"]
        source = f"{sensitivity} + row * {columns * buffer.columns}"
        call = f"add_row_sums({columns}, {buffer.columns}, {source}, {error}, {at_start} + row * {stride});"
        return _loop("row", height, [call], False)

    def _record(self, statement: Record) -> list[str]:
        """Row r of the sensitivity is column r of the Jacobian, among those of the parameter."""
        view, buffer = statement.parameter, statement.sensitivity.buffer
        sensitivity = self._row(statement.sensitivity)
        assert view.rows is not None
        stride, units, size = view.buffer.columns, buffer.columns, self.vector_size
        start = view.buffer.offset + view.rows[0] * stride + view.start
        base = self.places.names.name(("jacobian", statement.output), f"jacobian_of_{statement.output}"[:50])
        self.places.carried[base] = f"jacobians[{statement.output!r}]"
        name = self.places.names.name(("jacobian now", statement.output), f"{base}_t")
        self.slots[name] = f"real *const {name} = {base} + ((t - 1) * batch + sequence) * {units * size};"
        if statement.local:
            place = index_text((stride, "i"), (size + 1, "k"), start=start)
            source = index_text((units, "i"), (1, "k"), start=0)
            inner = _loop("k", units, [f"{name}[{place}] = {sensitivity}[{source}];"])
            return _loop("i", buffer.rows, inner, False)
        place = index_text((size, "k"), (stride, "i"), (1, "j"), start=start)
        source = index_text((view.columns * units, "i"), (units, "j"), (1, "k"), start=0)
        inner = _loop("j", view.columns, [f"{name}[{place}] = {sensitivity}[{source}];"])
        rows = 1 if view.vector else view.rows[1] - view.rows[0]
        return _loop("k", units, _loop("i", rows, inner, False), False)

    # Pointwise expressions.

    def _assign(self, statement: RowAssign) -> list[str]:
        buffer, target = statement.target.buffer, self._row(statement.target)
        rows, columns = buffer.rows, buffer.columns
        values: dict[object, str] = {}
        before: list[str] = []
        of_row: list[str] = []
        lines: list[str] = []
        flat = rows == 1 or all(self._is_flat(operand, rows, columns) for _, operand in statement.operands)
        column = "column" if rows == 1 else "element"
        for symbol, operand in statement.operands:
            if flat and rows > 1:
                values[symbol] = f"{self._row_of(operand)}[element]"
                continue
            text = self._element(operand)
            if isinstance(operand, RowView) and operand.diagonal and rows > 1:  # its numbers lie apart
                diagonal = self._of_thread(("diagonal", text), f"diagonal_of_{self._row(operand)}", columns)
                before += _loop("column", columns, [f"{diagonal}[column] = {text};"])
                text = f"{diagonal}[column]"
            if columns > 1 and "column" not in text:  # the columns share it
                name = f"value_{len(of_row) + 1}"
                of_row.append(f"const real {name} = {text};")
                text = name
            values[symbol] = text

        def hold(text: str, label: str) -> str:
            lines.append(f"const real {label}_{len(lines) + 1} = {text};")
            return f"{label}_{len(lines)}"

        value = CExpression(values, self.dtype, hold, SPELLED).text(statement.expression)
        sign = "+=" if statement.accumulate else "="
        self.operations += 4 * rows * columns
        if rows * columns == 1:
            written = [*lines, f"{target}[0] {sign} {value};"]
            return ["{", *_indented(written), "}"] if lines else written
        if flat:
            result = _loop(column, rows * columns, [*lines, f"{target}[{column}] {sign} {value};"])
            return ["{", *_indented([*of_row, *result]), "}"] if of_row else result
        place = index_text((columns, "row"), (1, "column" if columns > 1 else ""), start=0)
        written = [*lines, f"{target}[{place}] {sign} {value};"]
        if columns == 1:
            return [*before, *_loop("row", rows, written)]
        return [*before, *_loop("row", rows, [*of_row, *_loop("column", columns, written)], False)]

    def _is_flat(self, operand: Operand, rows: int, columns: int) -> bool:
        """Whether it is a matrix that lies as the target does."""
        if not isinstance(operand, RowView) or operand.diagonal or operand.transposed:
            return False
        return (operand.buffer.rows, operand.buffer.columns) == (rows, columns)

    def _row_of(self, operand: Operand) -> str:
        assert isinstance(operand, RowView)
        return self._row(operand)

    def _element(self, operand: Operand) -> str:
        """The element (row, column) of an operand; what has one row or column is the same for all."""
        if isinstance(operand, RowView):
            buffer, pointer = operand.buffer, self._row(operand)
            if operand.diagonal:
                return f"{pointer}[{index_text((buffer.columns + 1, 'column'), start=0)}]"
            row, column = ("column", "row") if operand.transposed else ("row", "column")
            terms = (buffer.columns, row if buffer.rows > 1 else ""), (1, column if buffer.columns > 1 else "")
            return f"{pointer}[{index_text(*terms, start=0)}]"
        assert isinstance(operand, Lifted)
        if operand.along == "matrix":
            return self._entry(operand.view)
        return self._vector(operand.view, "column" if operand.along == "units" else "row")

    def _vector(self, view: View, variable: str) -> str:
        """The element of a vector."""
        pointer = self.places.pointer(memory_of(view))
        start = view.start + (view.rows[0] * view.buffer.columns if view.rows is not None else 0)
        return f"{pointer}[{index_text((1, variable if view.columns > 1 else ''), start=start)}]"

    def _entry(self, view: View) -> str:
        """The element of a matrix without time."""
        assert view.rows is not None, "a matrix without rows"
        stride, start = view.buffer.columns, view.rows[0] * view.buffer.columns + view.start
        height, width = view.rows[1] - view.rows[0], view.columns
        row, column = ("column", "row") if view.transposed else ("row", "column")
        pointer = self.places.hold(view.buffer)
        terms = (stride, row if height > 1 else ""), (1, column if width > 1 else "")
        return f"{pointer}[{index_text(*terms, start=start)}]"


def _loop(variable: str, count: int, body: list[str], independent: bool = True) -> list[str]:
    """A loop; ``independent``: its turns do not read what others write, and it is worth a vector."""
    if count == 1:
        return ["{", *_indented([f"const long {variable} = 0;", *body]), "}"]
    head = f"for (long {variable} = 0; {variable} < {count}; ++{variable}) {{"
    return [*(["INDEPENDENT"] if independent else []), head, *_indented(body), "}"]


def _indented(lines: list[str]) -> list[str]:
    return ["    " + line for line in lines]
