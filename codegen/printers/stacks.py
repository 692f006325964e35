"""The text of a product whose stacked sources are built one stretch of time after the other, in a NumPy module."""

from __future__ import annotations

from dataclasses import replace

from codegen.ir import Bound, Buffer, Span, StackMatMul, Taps, View
from codegen.printers.views import ViewText

HELPERS = {
    "_stretch": '''
STACK_BYTES = 1 << 21  # what a stretch of stacked sources may take, to stay in the cache
STACK_ROWS = 512  # the fewest rows, time and batch as one, that make an efficient product


def _stretch(T, batch, columns):
    """For how many steps sources are stacked at a time; all stretches of T are about equally long."""
    rows = max(STACK_BYTES // (columns * DTYPE.itemsize), STACK_ROWS)
    stretches = -(-T // max(rows // batch, 1))
    return -(-T // stretches)
''',
    "_windows": '''
def _windows(rows, taps, spacing):
    """A view (T, batch, taps, size): for each t its row, that ``spacing`` rows on (back: negative), and so on."""
    reach = (taps - 1) * abs(spacing) + 1
    return np.lib.stride_tricks.sliding_window_view(rows, reach, axis=0)[..., ::spacing].swapaxes(2, 3)
''',
}


def stack_allocation(views: ViewText, buffer: Buffer) -> tuple[str, str]:
    """The attribute of the workspace that holds a stretch of a stack: (name, expression)."""
    steps = f"_stretch(T, batch, {buffer.columns})"
    return views.buffer(buffer), f"np.zeros(({steps}, batch, {buffer.columns}), DTYPE)"


class StackText:
    """The lines of one StackMatMul. Blocks of equally spaced taps are filled by one assignment, from windows on the
    sequence that the workspace cuts once."""

    def __init__(self, views: ViewText, statement: StackMatMul) -> None:
        self.views = views
        self.statement = statement
        self.stack = views.buffer(statement.stack.buffer)
        self.function = "dot" if statement.target.whole else "matmul"
        self.starts = [0]
        for taps in statement.stack.taps:
            self.starts.append(self.starts[-1] + taps.count * taps.source.columns)

    def once(self) -> list[str]:
        """Lines at the end of the workspace's ``__init__``."""
        lines = []
        if self.statement.stack.ones:
            lines.append(f"self.{self.stack}[:, :, {self.starts[-1]}] = 1.0")
        for number, taps in enumerate(self.statement.stack.taps):
            if taps.count > 1:
                blocks, windows = self._names(number)
                columns = f"{self.starts[number] or ''}:{self.starts[number + 1]}"
                shape = f"(-1, batch, {taps.count}, {taps.source.columns})"
                lines.append(f"self.{blocks} = self.{self.stack}[:, :, {columns}].reshape{shape}")
                lines.append(f"self.{windows} = _windows({self._reached(taps)}, {taps.count}, {taps.spacing})")
        return lines

    def _reached(self, taps: Taps) -> str:
        """All rows of a sequence that the taps read."""
        spans = [taps.block(number).time for number in (0, taps.count - 1)]
        starts, stops = zip(*((span.start, span.stop) for span in spans if isinstance(span, Span)), strict=True)
        start, stop = Bound(min(b.constant for b in starts)), Bound(max(b.constant for b in stops), 1)
        return "self." + self.views.text(replace(taps.source, time=Span(start, stop)))

    def lines(self) -> list[str]:
        """The loop over the stretches."""
        statement, stack = self.statement, self.stack
        body = [f"stop = min(first + len({stack}), T)", f"stack = {stack}[: stop - first]"]
        filled = [line for k in range(len(statement.stack.taps)) for line in self._fill(k)]
        if statement.stands:
            body.append(
                f"if T > len({stack}):  # with one stretch the stacked sources of the forward pass are still there"
            )
            filled = [f"    {line}" for line in filled]
        body += filled
        left = f"stack.reshape(-1, {self.statement.stack.buffer.columns})"
        right = self._stretched(statement.right)
        if statement.transposed:
            body += [
                "if first == 0:",
                f"    {self.function}({left}.T, {right}, out={self._stretched(statement.target)})",
                "else:",
                f"    {self._stretched(statement.target)} += {left}.T @ {right}",
            ]
        else:
            body.append(f"{self.function}({left}, {right}, out={self._stretched(statement.target)})")
        return [f"for first in range(0, T, len({stack})):", *(f"    {line}" for line in body)]

    def _fill(self, number: int) -> list[str]:
        """The lines that fill the blocks of one signal."""
        taps = self.statement.stack.taps[number]
        if taps.count > 1:
            blocks, windows = self._names(number)
            return [f"work.{blocks}[: stop - first] = work.{windows}[first:stop]"]
        columns = f"{self.starts[number]}:{self.starts[number + 1]}"
        return [f"stack[:, :, {columns}] = {self._rows(taps.source)}"]

    def _names(self, number: int) -> tuple[str, str]:
        """The workspace's attributes that hold the blocks of one signal in the stack, and the windows on it."""
        key = ("taps", self.stack, number)
        tail = self.stack.removeprefix("sources_of_")
        blocks = self.views.names.name((*key, "blocks"), f"taps_of_{tail}")
        return blocks, self.views.names.name((*key, "windows"), f"windows_for_{tail}")

    def _stretched(self, view: View) -> str:
        """A view as a matrix; a sequence's rows are those of the stretch."""
        if isinstance(view.time, Span):
            return f"{self._rows(view)}.reshape(-1, {view.columns})"
        text = self.views.text(view)
        return f"{text}.T" if view.transposed else text

    def _rows(self, view: View) -> str:
        """The rows of a sequence that belong to the stretch."""
        assert isinstance(view.time, Span)
        offset = view.time.start.constant
        rows = f"first + {offset} : stop + {offset}" if offset else "first:stop"
        columns = "" if view.whole else f", :, {view.start or ''}:{view.stop}"
        return f"{self.views.buffer(view.buffer)}[{rows}{columns}]"
