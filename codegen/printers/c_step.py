"""ir.Function "step" -> portable C99 for a device: constant weights, one structure of fixed size, no library but math.

The text of one network: its weights, the structure that holds its state, ``reset`` and ``step``. Signals that are read
back over several steps lie in rings, whose rows serve in turns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from codegen.interpret import Interpreter
from codegen.ir import Assign, Buffer, Function, Fused, Load, Loop, MatMul, Statement, Step, Store, View
from codegen.names import Namer, mangle
from codegen.passes import fuse_pointwise, keep_in_registers
from codegen.passes.fuse_pointwise import as_fused
from codegen.printers.c_fused import FusedText
from codegen.printers.c_literals import comment_lines, number_text
from codegen.printers.c_text import c_namer, index_text

Array = NDArray[np.float64]
FEWEST_TAPS = 4  # so many products that differ in their delays alone become a loop
INT16, UINT16 = 2**15, 2**16
INTEGER = "{int}"  # stands for the type that counts elements until their number is known

PRODUCT = """\
/* results += weights^T sources; weights has a row of results for each source. */
static void add_product(real *results, const real *sources, const real *weights, {int} rows, {int} columns)
{
    const {int} whole = columns - columns % 4;
    for ({int} column = 0; column < whole; column += 4) {
        const real *weight = weights + column;
        real sum_0 = results[column], sum_1 = results[column + 1];
        real sum_2 = results[column + 2], sum_3 = results[column + 3];
        for ({int} row = 0; row < rows; ++row) {
            const real source = sources[row];
            sum_0 += source * weight[0];
            sum_1 += source * weight[1];
            sum_2 += source * weight[2];
            sum_3 += source * weight[3];
            weight += columns;
        }
        results[column] = sum_0;
        results[column + 1] = sum_1;
        results[column + 2] = sum_2;
        results[column + 3] = sum_3;
    }
    for ({int} column = whole; column < columns; ++column) {
        real sum = results[column];
        for ({int} row = 0; row < rows; ++row) {
            sum += sources[row] * weights[row * columns + column];
        }
        results[column] = sum;
    }
}
"""
BACK = """\
/* The row of a ring that was written so many steps before the present one. */
static {int} back({int} row, {int} steps, {int} rows)
{
    return row >= steps ? row - steps : row - steps + rows;
}
"""
REPEAT = """\
/* Fill an array with copies of a row. */
static void repeat(real *target, {int} rows, const real *row, {int} columns)
{
    for ({int} number = 0; number < rows; ++number) {
        for ({int} column = 0; column < columns; ++column) {
            *target++ = row[column];
        }
    }
}
"""
HELPERS = {"add_product": PRODUCT, "back": BACK, "repeat": REPEAT}
OWN_WORDS = {"state", "unit", "tap", "uint16_t", "uint32_t", *HELPERS}
# Of C and not of C++, a macro of math.h in small letters, and keywords that compilers for devices add.
KEYWORDS = {
    "restrict", "typeof", "typeof_unqual", "math_errhandling", "cregister", "far", "huge", "interrupt", "ioport",
    "near",
}  # fmt: skip


@dataclass
class Constant:
    """An array of the program's text: its C name, the name of what it holds, its values (rows, columns)."""

    name: str
    holds: str
    values: Array


@dataclass(frozen=True)
class Member:
    """A member of the state: its declaration without the semicolon, and what it holds."""

    declaration: str
    holds: str


@dataclass
class StepText:
    """The parts of a step's C text. ``given`` and ``returned``: the C name of each argument by node, and its size;
    ``state_bytes`` is the size of the structure, ``constants`` what lies in read-only memory."""

    name: str
    real: str
    members: list[Member] = field(default_factory=list)
    state_bytes: int = 0
    given: dict[str, tuple[str, int]] = field(default_factory=dict)
    returned: dict[str, tuple[str, int]] = field(default_factory=dict)
    constants: list[Constant] = field(default_factory=list)
    helpers: list[str] = field(default_factory=list)
    reset: list[str] = field(default_factory=list)
    step: list[str] = field(default_factory=list)


def print_step(function: Function, name: str, dtype: str, vector: Array, initial: Mapping[str, Array]) -> StepText:
    """The text of ``function`` for the parameters ``vector``; ``initial`` has the values (depth, size) before t = 1 of
    each state, oldest first. ``name`` begins every name that is seen outside."""
    return _Printer(function, name, dtype, vector, initial).run()


class _Printer:
    def __init__(self, function: Function, name: str, dtype: str, vector: Array, initial: Mapping[str, Array]) -> None:
        self.name = name
        self.dtype = dtype
        self.initial = initial
        self.function = _prepared(function)
        weights = tuple(each for each in function.body if not isinstance(each, Load | Loop | Store))
        self.interpreter = Interpreter(1, 1, vector, np.zeros(0), {"state": {}})
        self.interpreter.run(replace(function, body=weights))
        (self.loop,) = (statement for statement in self.function.body if isinstance(statement, Loop))
        self.loads = [statement for statement in self.function.body if isinstance(statement, Load)]
        stores = [statement for statement in self.function.body if isinstance(statement, Store)]
        self.rings = sorted({_rows(buffer) for buffer in self.function.buffers().values() if _is_ring(buffer)})
        rows = {f"row_{each}" for each in self.rings}
        self.names = c_namer(dtype)
        self.names.taken |= OWN_WORDS | KEYWORDS | rows | {f"{name}_{word}" for word in ("reset", "state", "step")}
        self.member_names = c_namer(dtype)
        self.member_names.taken |= OWN_WORDS | KEYWORDS | rows
        self.text = StepText(name, "float" if dtype == "float32" else "double")
        self.arguments: dict[str, str] = {}
        for load in self.loads:
            if load.what == "input":
                self.text.given[load.name] = self._argument(load.target.buffer, load.name)
        for store in stores:
            if store.what == "output":
                self.text.returned[store.name] = self._argument(store.source.buffer, store.name)
        self.constants: dict[object, Constant] = {}
        self.pointers: dict[str, str] = {}
        self.used: set[str] = set()  # of the helpers

    def _argument(self, buffer: Buffer, node: str) -> tuple[str, int]:
        self.arguments[buffer.name] = self.names.name(("argument", node), _word(node))
        return self.arguments[buffer.name], buffer.columns

    def run(self) -> StepText:
        """All parts."""
        kept = {load.target.buffer.name for load in self.loads if load.what == "state"}
        buffers = [each for each in self.function.buffers().values() if each.shape in ("sequence", "step")]
        buffers = [each for each in buffers if each.name not in self.arguments]
        buffers.sort(key=lambda buffer: buffer.name not in kept)
        body = [line for statements in _taps(self.loop.body) for line in self._statements(statements)]
        rings = self.rings
        reset = [line for load in self.loads if load.what == "state" for line in self._start(load)]
        reset += [f"state->row_{rows} = 0;" for rows in rings]
        step = [f"const {INTEGER} row_{rows} = state->row_{rows};" for rows in rings]
        step += [*self.pointers.values(), *body, ""]
        step += [
            f"state->row_{rows} = ({_unsigned(rows)})(row_{rows} + 1 < {rows} ? row_{rows} + 1 : 0);" for rows in rings
        ]
        self.text.reset = self._with_integers(reset or ["(void)state;"], buffers)
        unused = [] if any("state->" in line for line in step) else ["(void)state;"]
        self.text.step = self._with_integers([*unused, *step], buffers)
        self._members(buffers, kept)
        self.text.constants = list(self.constants.values())
        helpers = [text for word, text in HELPERS.items() if word in self.used]
        self.text.helpers = self._with_integers(helpers, buffers)
        return self.text

    def _with_integers(self, lines: Sequence[str], buffers: Sequence[Buffer]) -> list[str]:
        """The lines with the type that counts elements: an int has 16 bits on the smallest devices."""
        sizes = [buffer.columns * _rows(buffer) for buffer in buffers]
        sizes += [constant.values.size for constant in self.constants.values()]
        sizes += [size for _, size in (*self.text.given.values(), *self.text.returned.values())]
        kind = "int" if max(sizes) < INT16 else "long"
        return [line.replace(INTEGER, kind) for line in lines]

    # The state.

    def _member(self, buffer: Buffer) -> str:
        return self.member_names.name(buffer.name, _word(buffer.name))

    def _members(self, buffers: Sequence[Buffer], kept: set[str]) -> None:
        count = 0
        for buffer in buffers:
            rows = _rows(buffer)
            length = buffer.columns * rows
            holds = f"{buffer.note}: used within a step"
            if buffer.name in kept:
                holds = f"{buffer.note} of the last step"
                if rows > 1:
                    holds = f"{buffer.note}, {rows} steps in turns"
            self.text.members.append(Member(f"{self.text.real} {self._member(buffer)}[{length}]", holds))
            count += length
        item = 4 if self.dtype == "float32" else 8
        total = count * item
        for rows in reversed(self.rings):
            kind = _unsigned(rows)
            self.text.members.append(Member(f"{kind} row_{rows}", f"the present row of {rows}"))
            total += 2 if kind == "uint16_t" else 4
        if not self.text.members:
            self.text.members.append(Member("char unused", "a structure has a member"))
        self.text.state_bytes = -(-total // item) * item if count else 1  # a ring's row never stands alone

    def _start(self, load: Load) -> list[str]:
        """What ``reset`` does for a state. The first step's row is 0, so that the row before it is the last."""
        buffer = load.target.buffer
        values = self.initial[load.name]
        member = f"state->{self._member(buffer)}"
        rows = _rows(buffer)
        if np.all(values == values.flat[0]):
            value = number_text(float(values.flat[0]), self.dtype)
            count = rows * buffer.columns
            return [f"for ({INTEGER} unit = 0; unit < {count}; ++unit) {{", f"    {member}[unit] = {value};", "}"]
        self.used.add("repeat")
        if np.all(values == values[0]):
            name = self._constant(("initial", load.name), f"{load.name}_initial", f"{load.name} at first", values[:1])
            return [f"repeat({member}, {rows}, {name}, {buffer.columns});"]
        whole = np.concatenate([np.zeros((rows - len(values), buffer.columns)), values])
        name = self._constant(("initial", load.name), f"{load.name}_initial", f"{load.name} at first", whole)
        return [f"repeat({member}, 1, {name}, {rows * buffer.columns});"]

    # Places.

    def _constant(self, key: object, wanted: str, holds: str, values: Array) -> str:
        if key not in self.constants:
            name = self.names.name(key, _word(f"{self.name}_{mangle(wanted)}"))
            self.constants[key] = Constant(name, holds, np.atleast_2d(values))
        return self.constants[key].name

    def place(self, view: View) -> str:
        """A pointer to the first element of a signal at one time, or of a weight."""
        buffer = view.buffer
        if buffer.shape == "matrix":
            key = buffer.name, view.start, view.stop, view.rows
            return self._constant(key, view.label, view.label, self.interpreter.value(view))
        if buffer.name in self.arguments:
            return self.arguments[buffer.name]
        member = f"state->{self._member(buffer)}"
        if not _is_ring(buffer):
            return member
        assert isinstance(view.time, Step)
        name = self.names.name(("ring", buffer.name, view.time), f"{_word(view.label)}_row")
        rows, delay = _rows(buffer), buffer.length.constant - view.time.offset
        if delay:
            self.used.add("back")
        row = f"back(row_{rows}, {delay}, {rows})" if delay else f"row_{rows}"
        offset = index_text((buffer.columns, row), start=0)
        constant = "const " if delay else ""
        self.pointers.setdefault(name, f"{constant}real *const {name} = {member} + {offset};")
        return name

    # Statements.

    def _statements(self, statements: Sequence[Statement]) -> Iterator[str]:
        """A statement, or several products that become one loop."""
        first = statements[0]
        if isinstance(first, MatMul):
            self.used.add("add_product")
            products = [each for each in statements if isinstance(each, MatMul)]
            yield from self._loop_over_taps(products) if len(products) > 1 else self._product(first)
            return
        fused = first if isinstance(first, Fused) else as_fused(first)
        yield ""
        for note in fused.note.split("; "):
            if note:
                yield from comment_lines(note)
        yield from _FusedText(fused, self.dtype, self).loop()

    def _product(self, product: MatMul) -> Iterator[str]:
        assert product.accumulate and not product.right.transposed, "a product that C has no text for"
        arguments = [self.place(product.target), self.place(product.left), self.place(product.right)]
        yield f"add_product({', '.join(arguments)}, {product.left.columns}, {product.target.columns});"

    def _loop_over_taps(self, products: Sequence[MatMul]) -> Iterator[str]:
        """Products of one signal at several delays, with one weight or with weights one after the other."""
        self.used.add("back")
        first = products[0]
        source, target = first.left.buffer, first.target
        rights = [product.right for product in products]
        shared = rights[0] == rights[1]  # by all taps
        if shared:
            weights = self.place(rights[0])
        else:
            wanted = re.sub(r"_d\d+$", "", rights[0].label)
            holds = f"{rights[0].label} to {rights[-1].label}"
            stacked = np.concatenate([self.interpreter.value(right) for right in rights])
            key = tuple((right.buffer.name, right.start, right.stop, right.rows) for right in rights)
            weights = self._constant(key, wanted, holds, stacked)
        delay, spacing = _delay(first), _delay(products[1]) - _delay(first)
        rows = _rows(source)
        steps = index_text((spacing, "tap"), start=delay)
        if spacing < 0:
            steps = f"{delay} - {index_text((-spacing, 'tap'), start=0)}"
        size = source.columns * target.columns
        tap = f"{size} * tap" if size > 1 else "tap"
        row = index_text((source.columns, f"back(row_{rows}, {steps}, {rows})"), start=0)
        right = weights if shared else f"{weights} + {tap}"
        sides = [self.place(target), f"state->{self._member(source)} + {row}", right]
        yield f"for ({INTEGER} tap = 0; tap < {len(products)}; ++tap) {{"
        yield f"    add_product({', '.join(sides)}, {source.columns}, {target.columns});"
        yield "}"


class _FusedText(FusedText):
    """A Fused statement as a loop over the units."""

    def __init__(self, fused: Fused, dtype: str, printer: _Printer) -> None:
        super().__init__(fused, dtype, Namer(set(), outer=printer.names))
        self.printer = printer

    def pointer(self, view: View) -> str:
        """The printer's."""
        return self.printer.place(view)

    def _place(self, view: View) -> str:
        return f"{self.printer.place(view)}[{'unit' if view.columns > 1 else '0'}]"

    def loop(self) -> list[str]:
        """The loop; a single unit needs none."""
        (part, *others) = self.fused.parts
        if not others and (part.expression.is_Symbol or part.expression.is_number):
            value = (
                self._place(part.operands[0][1]) if part.operands else number_text(float(part.expression), self.dtype)
            )
            self.lines = [f"    {self._place(part.target)} = {value};"]
        else:
            self.write()
        if self.columns == 1:
            lines = [line.removeprefix("    ") for line in self.lines]
            return lines if len(lines) == 1 else ["{", *self.lines, "}"]
        head = f"for ({INTEGER} unit = 0; unit < {self.columns}; ++unit) {{"
        return [head, *self.lines, "}"]


def _prepared(function: Function) -> Function:
    """Pointwise statements of one shape become one loop, but for those that a product follows."""
    (loop,) = (statement for statement in function.body if isinstance(statement, Loop))
    summed = {statement.target.buffer.name for statement in loop.body if isinstance(statement, MatMul)}
    body = [
        as_fused(each) if isinstance(each, Assign) and each.target.buffer.name in summed else each for each in loop.body
    ]
    whole = tuple(replace(each, body=tuple(body)) if each is loop else each for each in function.body)
    return keep_in_registers(fuse_pointwise(replace(function, body=whole)))


def _taps(body: Iterable[Statement]) -> Iterator[list[Statement]]:
    """The statements, products of one signal at delays that are evenly spaced together."""
    run: list[Statement] = []
    for statement in body:
        if run and _continues(run, statement):
            run.append(statement)
            continue
        yield from [run] if len(run) >= FEWEST_TAPS else [[each] for each in run]
        run = [statement]
    yield from [run] if len(run) >= FEWEST_TAPS else [[each] for each in run]


def _continues(run: Sequence[Statement], statement: Statement) -> bool:
    first, last = run[0], run[-1]
    if not (isinstance(first, MatMul) and isinstance(last, MatMul) and isinstance(statement, MatMul)):
        return False
    same = first.target == statement.target and first.left.buffer == statement.left.buffer
    if not same or not _is_ring(first.left.buffer):
        return False
    spacing = _delay(statement) - _delay(last)
    second = run[1] if len(run) > 1 else statement
    assert isinstance(second, MatMul)
    if (statement.right == last.right) != (second.right == first.right):
        return False  # weights that are shared are not stacked
    return spacing != 0 and spacing == _delay(second) - _delay(first)


def _delay(product: MatMul) -> int:
    """How many steps back a product's source lies."""
    assert isinstance(product.left.time, Step)
    return product.left.buffer.length.constant - product.left.time.offset


def _is_ring(buffer: Buffer) -> bool:
    return buffer.shape == "sequence" and buffer.length.constant > 0


def _rows(buffer: Buffer) -> int:
    """How many steps a buffer holds."""
    return buffer.length.constant + 1 if buffer.shape == "sequence" else 1


def _unsigned(rows: int) -> str:
    return "uint16_t" if rows <= UINT16 else "uint32_t"


def _word(text: str) -> str:
    """A wanted name that is no macro of a header: those are in capitals."""
    word = mangle(text)
    return word.lower() if word.isupper() and len(word) > 1 else word
