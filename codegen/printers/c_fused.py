"""The parts of a Fused statement as C text, element by element, for CUDA and for C alike.

Buffers are dense, so element (row, column) of a view lies at stride * row + start + column, with numbers that are known
when the text is written.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping

from codegen.ir import Fused, View
from codegen.names import Namer
from codegen.passes.fuse_pointwise import iteration_space, memory_of
from codegen.printers.c_text import CExpression, index_text


class FusedText(abc.ABC):
    """Writes ``lines``, the body of a kernel, in terms of ``row``, ``column`` and ``element``."""

    spelled: Mapping[str, str] = {}

    def __init__(self, fused: Fused, dtype: str, names: Namer) -> None:
        self.fused = fused
        self.dtype = dtype
        self.names = names
        self.lines: list[str] = []
        self.columns = iteration_space(fused.parts[0])[1]
        self.values: dict[object, str] = {}  # element -> the constant that holds it
        self.written = [element_of(part.target) for part in fused.parts]

    @abc.abstractmethod
    def pointer(self, view: View) -> str:
        """The name of the pointer to the rows, or to the buffer, that a view lies in."""

    def write(self) -> None:
        """All parts, in order."""
        for number in range(len(self.fused.parts)):
            self._part(number)

    def _part(self, number: int) -> None:
        part = self.fused.parts[number]
        values = {symbol: self._load(view) for symbol, view in part.operands}
        text = CExpression(values, self.dtype, self._hold, self.spelled).text(part.expression)
        key = element_of(part.target)
        if text in self.values.values():  # a copy of what is in a register
            self.values[key] = text
        else:
            self.values[key] = self._hold(text, part.target.label)
        if key not in self.written[number + 1 :] and memory_of(part.target) in self.fused.arguments:
            self.lines.append(f"    {self._place(part.target)} = {self.values[key]};")

    def _load(self, view: View) -> str:
        key = element_of(view)
        if key not in self.values:
            self.values[key] = self._hold(self._place(view), view.label)
        return self.values[key]

    def _hold(self, text: str, label: str) -> str:
        """A new constant of that value."""
        wanted = label.lower() if label.isupper() and len(label) > 1 else label  # no macro: NAN, NULL
        name = self.names.name(("value", len(self.names.names)), wanted)
        self.lines.append(f"    const real {name} = {text};")
        return name

    def _place(self, view: View) -> str:
        """The element of this thread in memory."""
        pointer = self.pointer(memory_of(view))
        stride, start = view.buffer.columns, view.start
        if view.rows is not None:
            start += view.rows[0] * stride
        shared = view.columns == 1 and not view.transposed  # one column, read by all
        column = "" if shared or self.columns == 1 else "column"
        if view.vector or view.buffer.shape == "vector":
            return f"{pointer}[{index_text((1, column), start=start)}]"
        if view.transposed:
            return f"{pointer}[{index_text((stride, column), (1, 'row'), start=start)}]"
        if view.whole and view.columns == self.columns:
            return f"{pointer}[{index_text((1, 'element'), start=start)}]"
        return f"{pointer}[{index_text((stride, 'row'), (1, column), start=start)}]"


def element_of(view: View) -> tuple[object, ...]:
    """What tells the elements of one thread apart."""
    return view.buffer.name, view.time, view.start, view.stop, view.rows, view.transposed, view.vector
