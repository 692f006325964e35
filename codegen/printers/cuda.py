"""Fused statements and row reductions -> CUDA C: one ``__global__`` function each.

The text needs no header. Buffers are dense, so element (row, column) of a view lies at stride * row + start + column
with numbers that are known here; a kernel gets pointers and its number of elements alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from codegen.ir import Fused, Reduce, SparseGradient, SparseMatMul, View
from codegen.passes.fuse_pointwise import memory_of
from codegen.printers.c_fused import FusedText
from codegen.printers.c_text import c_namer, comment_lines, index_text, suffix_of

ABOUT = """\
// A thread computes one element of each result. A row is one sequence of the batch at one time; kernels outside of the
// loop over t have a row for each time, too. Pointers (.._data) are to whole rows, of lengths known here: 6 * row + 2.
"""


@dataclass(frozen=True)
class Kernel:
    """``text`` is a ``__global__`` function; a call passes ``arguments`` and then the number of elements."""

    text: str
    arguments: tuple[View, ...]


def module_text(dtype: str, kernels: list[str]) -> str:
    """The whole CUDA source."""
    real = "float" if dtype == "float32" else "double"
    bodies = "\n".join(kernels)
    return f'{ABOUT}\ntypedef {real} real;\n\nextern "C" {{\n\n{bodies}\n}}  // extern "C"\n'


def fused_kernel(name: str, fused: Fused, dtype: str) -> Kernel:
    """A kernel with one thread per element."""
    return _KernelText(fused, dtype, c_namer(dtype)).kernel(name)


class _KernelText(FusedText):
    def kernel(self, name: str) -> Kernel:
        """One thread per element."""
        pointers = [self.pointer(view) for view in self.fused.arguments]
        targets = {memory_of(part.target) for part in self.fused.parts}
        self.write()
        parameters = [
            f"{'' if view in targets else 'const '}real* {pointer}"
            for view, pointer in zip(self.fused.arguments, pointers, strict=True)
        ]
        head = [
            *comment_lines(self.fused.note.split("; ")),
            *_signature(name, parameters),
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

    def pointer(self, view: View) -> str:
        """A parameter of the kernel."""
        return self.names.name(("pointer", memory_of(view)), f"{view.label}_data".lower())


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
        *comment_lines(reduce.note.split("; ")),
        *_signature(name, ["real* target_data", "const real* source_data"]),
        "{",
        "    const long long row = (long long)blockIdx.x * blockDim.x + threadIdx.x;",
        "    if (row >= elements) return;",
        f"    const real* source = source_data + {index_text((source.buffer.columns, 'row'), start=source.start)};",
        *before,
        *loops,
        f"    target_data[{index_text((target.buffer.columns, 'row'), start=target.start)}] = {result};",
        "}",
        "",
    ]
    return Kernel("\n".join(lines), (memory_of(target), memory_of(source)))


def sparse_sums(name: str, statement: SparseMatMul, dtype: str) -> Kernel:
    """A kernel with one thread per step, unit and sequence. It gets the target and the history, and behind them the
    ordered weights, the table and the size of the batch."""
    pattern, target = statement.pattern, statement.target
    units = pattern.rows if statement.transposed else pattern.columns
    place = index_text((target.buffer.columns, "(step * batch + sequence)"), start=target.start)
    parameters = ["real* target_data", "const real* history_data", "const real* weights_data", "const int* table"]
    lines = [
        *comment_lines(statement.note.split("; ")),
        *_signature(name, [*parameters, "const long long batch"]),
        "{",
        "    const long long element = (long long)blockIdx.x * blockDim.x + threadIdx.x;",
        "    if (element >= elements) return;",
        "    const long long sequence = element % batch;",
        f"    const long long unit = element / batch % {units};",
        f"    const long long step = element / batch / {units};",
        f"    const real* history = history_data + step * batch * {statement.source.buffer.columns} + sequence;",
        f"    const int* rows = table + {units + 1};",
        f"    real sum = 0.0{suffix_of(dtype)};",
        "    for (int entry = table[unit]; entry < table[unit + 1]; ++entry) {",
        "        sum += weights_data[entry] * history[rows[entry] * batch];",
        "    }",
        f"    target_data[{place} + unit] {'+=' if statement.accumulate else '='} sum;",
        "}",
        "",
    ]
    return Kernel("\n".join(lines), (memory_of(target),))


def sparse_gradient(name: str, statement: SparseGradient, left: View, dtype: str) -> Kernel:
    """A kernel with one thread per entry, which sums over time and batch. It gets the target and the two sequences, and
    behind them the places of the entries, the number of rows and the size of the batch."""
    count = len(statement.pattern)
    right, target = statement.right, statement.target
    sides = [
        (f"{side}_data", index_text((view.buffer.columns, row), start=view.start), place)
        for side, view, row, place in (
            ("left", left, "(row + after * batch)", "places[element]"),
            ("right", right, "row", f"places[{count} + element]"),
        )
    ]
    factors = " * ".join(f"{data}[{row} + {place}]" for data, row, place in sides)
    assert target.rows is not None
    start = target.rows[0] * target.buffer.columns + target.start
    parameters = ["real* target_data", "const real* left_data", "const real* right_data", "const int* places"]
    lines = [
        *comment_lines(statement.note.split("; ")),
        *_signature(name, [*parameters, "const long long rows", "const long long batch"]),
        "{",
        "    const long long element = (long long)blockIdx.x * blockDim.x + threadIdx.x;",
        "    if (element >= elements) return;",
        f"    const long long after = places[{2 * count} + element];",
        f"    real sum = 0.0{suffix_of(dtype)};",
        "    for (long long row = 0; row < rows; ++row) {",
        f"        sum += {factors};",
        "    }",
        f"    target_data[{start} + places[{3 * count} + element]] = sum;",
        "}",
        "",
    ]
    return Kernel("\n".join(lines), (memory_of(target), memory_of(left), memory_of(right)))


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
