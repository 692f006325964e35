"""Fused statements and row reductions -> CUDA C: one ``__global__`` function each.

The text needs no header. Buffers are dense, so element (row, column) of a view lies at stride * row + start + column
with numbers that are known here; a kernel gets pointers and its number of elements alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from codegen.functions import FUNCTIONS
from codegen.ir import Expression, Fused, Reduce, View
from codegen.names import Namer, comment_text
from codegen.passes.fuse_pointwise import iteration_space, memory_of

# C++ keywords that are no Python keywords, what the kernels themselves use, and macros that a compiler may predefine.
RESERVED = {
    "alignas", "alignof", "asm", "auto", "bool", "case", "catch", "char", "const", "constexpr", "decltype",
    "default", "delete", "do", "double", "dynamic_cast", "enum", "explicit", "export", "extern", "false",
    "float", "friend", "goto", "inline", "int", "long", "mutable", "namespace", "new", "noexcept", "nullptr",
    "operator", "private", "protected", "public", "register", "reinterpret_cast", "short", "signed", "sizeof",
    "static", "static_assert", "static_cast", "struct", "switch", "template", "this", "thread_local", "throw",
    "true", "typedef", "typeid", "typename", "union", "unsigned", "using", "virtual", "void", "volatile",
    "wchar_t", "and_eq", "bitand", "bitor", "compl", "not_eq", "or_eq", "xor", "xor_eq", "char8_t", "char16_t",
    "char32_t", "concept", "requires", "consteval", "constinit", "co_await", "co_return", "co_yield", "real",
    "element", "elements", "row", "column", "linux", "unix", "i386", "errno", "assert", "stdin", "stdout",
    "stderr", "blockIdx", "blockDim", "threadIdx", "gridDim", "warpSize",
}  # fmt: skip
ABOUT = """\
// A thread computes one element of each result. A row is one sequence of the batch at one time; kernels outside of the
// loop over t have a row for each time, too. Pointers (.._data) are to whole rows, of lengths known here: 6 * row + 2.
"""
SUM, PRODUCT, ATOM = range(3)  # how tightly a text binds


@dataclass(frozen=True)
class Kernel:
    """``text`` is a ``__global__`` function; a call passes ``arguments`` and then the number of elements."""

    text: str
    arguments: tuple[View, ...]


def c_namer(dtype: str) -> Namer:
    """Names that are safe in CUDA C: no keyword, no macro, and no function of the table."""
    suffix = suffix_of(dtype)
    spelled = {rule.c.split("(")[0].strip().format(f=suffix) for rule in FUNCTIONS.values() if rule.c}
    return Namer(RESERVED | spelled | {f"log1p{suffix}", f"exp{suffix}", f"fabs{suffix}", f"fmax{suffix}"})


def suffix_of(dtype: str) -> str:
    """What C appends to a literal and to a function's name for the float type."""
    return "f" if dtype == "float32" else ""


def module_text(dtype: str, kernels: list[str]) -> str:
    """The whole CUDA source."""
    real = "float" if dtype == "float32" else "double"
    bodies = "\n".join(kernels)
    return f'{ABOUT}\ntypedef {real} real;\n\nextern "C" {{\n\n{bodies}\n}}  // extern "C"\n'


def fused_kernel(name: str, fused: Fused, dtype: str) -> Kernel:
    """A kernel with one thread per element."""
    return _FusedText(name, fused, dtype).kernel()


@dataclass
class _FusedText:
    name: str
    fused: Fused
    dtype: str
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.names = c_namer(self.dtype)
        self.columns = iteration_space(self.fused.parts[0])[1]
        self.values: dict[object, str] = {}  # element -> the constant that holds it
        self.written = [_element(part.target) for part in self.fused.parts]

    def kernel(self) -> Kernel:
        pointers = [self._pointer(view) for view in self.fused.arguments]
        targets = {memory_of(part.target) for part in self.fused.parts}
        for number in range(len(self.fused.parts)):
            self._part(number)
        parameters = [
            f"{'' if view in targets else 'const '}real* {pointer}"
            for view, pointer in zip(self.fused.arguments, pointers, strict=True)
        ]
        head = [
            *_comments(self.fused.note.split("; ")),
            *_signature(self.name, parameters),
            "{",
            "    const long long element = (long long)blockIdx.x * blockDim.x + threadIdx.x;",
            "    if (element >= elements) return;",
        ]
        body = "\n".join(self.lines)
        if re.search(r"\brow\b", body):
            head.append(f"    const long long row = {_divided('element', '/', self.columns)};")
        if re.search(r"\bcolumn\b", body):
            head.append(f"    const long long column = {_divided('element', '%', self.columns)};")
        return Kernel("\n".join([*head, body, "}", ""]), self.fused.arguments)

    def _part(self, number: int) -> None:
        part = self.fused.parts[number]
        values = {symbol: self._load(view) for symbol, view in part.operands}
        text = CExpression(values, self.dtype, self._hold).text(part.expression)
        key = _element(part.target)
        if text in self.values.values():  # a copy of what is in a register
            self.values[key] = text
        else:
            self.values[key] = self._hold(text, part.target.label)
        if key not in self.written[number + 1 :] and memory_of(part.target) in self.fused.arguments:
            self.lines.append(f"    {self._place(part.target)} = {self.values[key]};")

    def _load(self, view: View) -> str:
        key = _element(view)
        if key not in self.values:
            self.values[key] = self._hold(self._place(view), view.label)
        return self.values[key]

    def _hold(self, text: str, label: str) -> str:
        """A new constant of that value."""
        wanted = label.lower() if label.isupper() and len(label) > 1 else label  # no macro: NAN, NULL
        name = self.names.name(("value", len(self.names.names)), wanted)
        self.lines.append(f"    const real {name} = {text};")
        return name

    def _pointer(self, view: View) -> str:
        return self.names.name(("pointer", memory_of(view)), f"{view.label}_data".lower())

    def _place(self, view: View) -> str:
        """The element of this thread in memory."""
        pointer = self._pointer(memory_of(view))
        stride, start = view.buffer.columns, view.start
        if view.rows is not None:
            start += view.rows[0] * stride
        shared = view.columns == 1 and not view.transposed  # one column, read by all
        column = "" if shared or self.columns == 1 else "column"
        if view.vector or view.buffer.shape == "vector":
            return f"{pointer}[{_index((1, column), start=start)}]"
        if view.transposed:
            return f"{pointer}[{_index((stride, column), (1, 'row'), start=start)}]"
        if view.whole and view.columns == self.columns:
            return f"{pointer}[{_index((1, 'element'), start=start)}]"
        return f"{pointer}[{_index((stride, 'row'), (1, column), start=start)}]"


def row_reduction(name: str, reduce: Reduce, dtype: str) -> Kernel:
    """A kernel with one thread per row: the sum, or the log-sum-exp, of its columns. For reductions inside loops."""
    f = suffix_of(dtype)
    source, target = reduce.source, reduce.target
    if reduce.kind == "units":
        before = [f"    real sum = 0.0{f};"]
        steps, result = ["sum += source[column]"], "sum"
    else:
        before = ["    real largest = source[0];", f"    real sum = 0.0{f};"]
        steps = [f"largest = fmax{f}(largest, source[column])", f"sum += exp{f}(source[column] - largest)"]
        result = f"largest + log{f}(sum)"
    loops = [f"    for (int column = 0; column < {source.columns}; ++column) {step};" for step in steps]
    lines = [
        *_comments(reduce.note.split("; ")),
        *_signature(name, ["real* target_data", "const real* source_data"]),
        "{",
        "    const long long row = (long long)blockIdx.x * blockDim.x + threadIdx.x;",
        "    if (row >= elements) return;",
        f"    const real* source = source_data + {_index((source.buffer.columns, 'row'), start=source.start)};",
        *before,
        *loops,
        f"    target_data[{_index((target.buffer.columns, 'row'), start=target.start)}] = {result};",
        "}",
        "",
    ]
    return Kernel("\n".join(lines), (memory_of(target), memory_of(source)))


@dataclass
class CExpression:
    """Prints an expression of primitives. ``hold`` makes a constant of a text that is needed more than once."""

    values: Mapping[Expression, str]
    dtype: str
    hold: Callable[[str, str], str]
    held: dict[str, str] = field(default_factory=dict)

    def text(self, expression: Expression) -> str:
        """The whole expression."""
        return self._bound(expression)[0]

    def _bound(self, expression: Expression) -> tuple[str, int]:
        """The text and how tightly it binds."""
        if expression.is_Symbol:
            return self.values[expression], ATOM
        if expression.is_number:
            value = float(expression)
            return f"{value!r}{suffix_of(self.dtype)}", ATOM if value >= 0 else SUM
        if expression.is_Add:
            return self._sum(expression), SUM
        if expression.is_Mul:
            return self._product(expression)
        if expression.is_Pow:
            return self._power(expression)
        return self._function(expression), ATOM

    def _at_least(self, level: int, expression: Expression) -> str:
        text, bound = self._bound(expression)
        return text if bound >= level else f"({text})"

    def _atom(self, expression: Expression) -> str:
        """A name or number: what is compound gets a constant of its own, one for equal texts."""
        text = self.text(expression)
        if expression.is_Symbol or (expression.is_number and expression >= 0):
            return text
        if text not in self.held:
            self.held[text] = self.hold(text, "part")
        return self.held[text]

    def _sum(self, expression: Expression) -> str:
        first, *others = sorted(expression.args, key=_is_negative)  # a stable order: the positive terms first
        text = self._at_least(SUM, first)
        for term in others:
            sign, term = ("-", -term) if _is_negative(term) else ("+", term)
            text += f" {sign} {self._at_least(PRODUCT, term)}"
        return text

    def _product(self, expression: Expression) -> tuple[str, int]:
        coefficient, rest = expression.as_coeff_Mul()
        over, under = [], []
        for factor in rest.args if rest.is_Mul else (rest,):
            if factor.is_Pow and factor.exp < 0:
                under.append(factor.base**-factor.exp)
            else:
                over.append(factor)
        parts = [] if abs(coefficient) == 1 and over else [self.text(abs(coefficient))]
        parts += [self._at_least(ATOM, factor) for factor in over]
        text = " * ".join(parts) + "".join(f" / {self._at_least(ATOM, factor)}" for factor in under)
        return (f"-{text}", SUM) if coefficient < 0 else (text, PRODUCT)

    def _power(self, expression: Expression) -> tuple[str, int]:
        exponent = int(expression.exp)
        if exponent < 0:
            one = f"1.0{suffix_of(self.dtype)}"
            return f"{one} / {self._at_least(ATOM, expression.base**-exponent)}", PRODUCT
        base = self._atom(expression.base)
        if exponent <= 3:
            return " * ".join([base] * exponent), PRODUCT
        half = self._atom(expression.base ** (exponent // 2))
        return f"{half} * {half}" + (f" * {base}" if exponent % 2 else ""), PRODUCT

    def _function(self, expression: Expression) -> str:
        spelling = FUNCTIONS[expression.func.__name__].c
        assert spelling is not None, "not a primitive: run rewrite_in_primitives first"
        arguments = [
            self.text(argument) if spelling.count(f"{{{k}}}") == 1 else self._atom(argument)
            for k, argument in enumerate(expression.args)
        ]
        return spelling.format(*arguments, f=suffix_of(self.dtype))


def _element(view: View) -> tuple[object, ...]:
    """What tells the elements of one thread apart."""
    return view.buffer.name, view.time, view.start, view.stop, view.rows, view.transposed, view.vector


def _is_negative(term: Expression) -> bool:
    return bool(term.as_coeff_Mul()[0] < 0)


def _index(*terms: tuple[int, str], start: int) -> str:
    """factor * variable + ... + start; a term without a variable is left out."""
    texts = [variable if factor == 1 else f"{factor} * {variable}" for factor, variable in terms if variable]
    if start or not texts:
        texts.append(str(start))
    return " + ".join(texts)


def _signature(name: str, parameters: list[str]) -> list[str]:
    """The head of a kernel, one parameter a line where it is long."""
    parameters = [*parameters, "const long long elements"]
    line = f"__global__ void {name}({', '.join(parameters)})"
    if len(line) <= 110:
        return [line]
    lines = [f"    {parameter}," for parameter in parameters]
    return [f"__global__ void {name}(", *lines[:-1], f"{lines[-1][:-1]})"]


def _divided(variable: str, operator: str, columns: int) -> str:
    return f"{variable} {operator} {columns}" if columns > 1 else variable


def _comments(notes: list[str]) -> list[str]:
    return [f"// {comment_text(note)}".encode("ascii", "replace").decode() for note in notes if note]
