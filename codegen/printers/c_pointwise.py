"""Statements without a product -> C: loops over the rows and columns of a Fused statement, sums over units."""

from __future__ import annotations

import re

from codegen.ir import Fused, Reduce, View
from codegen.names import Namer
from codegen.passes.fuse_pointwise import memory_of
from codegen.printers.c_fused import FusedText
from codegen.printers.c_places import Places
from codegen.printers.c_support import SPELLED
from codegen.printers.c_text import comment_lines, index_text, suffix_of


class PointwiseText(FusedText):
    """A Fused statement as loops over its rows and columns."""

    spelled = SPELLED

    def __init__(self, fused: Fused, dtype: str, places: Places) -> None:
        super().__init__(fused, dtype, Namer(set(places.names.taken)))
        self.places = places
        self.shared: list[str] = []  # lines about values that all columns of a row share

    def pointer(self, view: View) -> str:
        """As all pointers of the block."""
        return self.places.pointer(view)

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
        rows = self.places.count(self.fused.parts[0].target)
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


def reduce_lines(statement: Reduce, dtype: str, places: Places) -> list[str]:
    """The sum, or the log-sum-exp, of the columns of each row."""
    assert statement.kind in ("units", "logsumexp") and not statement.accumulate, "a sum that C has no text for"
    source, target = statement.source, statement.target
    row = index_text((source.buffer.columns, "row"), start=source.start)
    each = f"    for (long column = 0; column < {source.columns}; ++column) "
    if statement.kind == "units":
        steps, result = ["    real sum = 0;", f"{each}sum += source[column];"], "sum"
    else:
        steps = [
            "    real largest = source[0], sum = 0;",
            f"{each}largest = source[column] > largest || source[column] != source[column] ? source[column] : largest;",
            f"{each}sum += fast_exp(source[column] - largest);",
        ]
        result = f"largest + log{suffix_of(dtype)}(sum)"
    place = index_text((target.buffer.columns, "row"), start=target.start)
    return [
        *comment_lines(statement.note.split("; ")),
        f"for (long row = 0; row < {places.count(target)}; ++row) {{",
        f"    const real *const source = {places.pointer(memory_of(source))} + {row};",
        *steps,
        f"    {places.pointer(memory_of(target))}[{place}] = {result};",
        "}",
    ]
