"""Where the buffers of a C function lie: its table of addresses, and the pointers that its blocks declare.

A function runs on several threads. Each has a part of the rows of a step (``from``, ``rows``), or of all rows of a
sequence; pointers to what has rows are to the thread's own.
"""

from __future__ import annotations

from codegen.ir import Bound, Buffer, Span, Step, View
from codegen.passes.fuse_pointwise import memory_of
from codegen.pattern import Pattern
from codegen.printers.c_text import c_namer
from codegen.printers.loops import shifted
from codegen.printers.views import bound_text

VECTORS = {"parameter": "parameters", "direction": "direction", "gradient": "gradient"}
OWN = {  # names that the C text itself declares
    "memory", "parameters", "direction", "gradient", "T", "t", "batch", "step", "vector", "thread", "team", "first",
    "last", "chunk", "source", "sum", "largest", "from", "rows", "together", "all", "turn", "turn_rows", "sequence",
    "now", "i", "j", "k", "factor", "earlier", "all_sums", "columns", "height", "stacked", "turned", "packed", "ones",
}  # fmt: skip


class Places:
    """``memory``: the buffers of the table; ``scratch``: what lies in the table behind them, with its number of
    elements, which "one" has, "each" thread, or the "others" but the first. ``shared``: whether threads share rows."""

    ring = False  # whether the rows of sequences are used by turns

    def __init__(self, dtype: str, shared: bool) -> None:
        self.names = c_namer(dtype)
        self.names.taken |= OWN
        self.shared = shared
        self.memory: dict[str, Buffer] = {}
        self.scratch: dict[str, tuple[int, str]] = {}
        self.steps = 1  # how many the loop that is being written takes at once
        self.tables: dict[str, tuple[Pattern, bool]] = {}  # of sparse products, behind these; whether it is transposed
        self.carried: dict[str, str] = {}  # behind these, what each call sets: name -> what it is in Python
        self.origin = "from"  # the first of the rows of a step that the lines being written are about
        # buffers that hold the steps of a chunk -> how many rows of a chunk at least, the steps that the loop takes
        self.chunked: dict[str, tuple[int, int]] = {}
        self.pointers: dict[str, str] = {}  # name -> its declaration, for the block that is being written

    def base(self, buffer: Buffer) -> str:
        """The name of a buffer's address in the table."""
        return self.names.name(("buffer", buffer.name), f"{buffer.name[:50]}_data")

    def hold(self, buffer: Buffer) -> str:
        """The same, for a buffer that may lie in a vector, whose address is then declared here."""
        if buffer.storage not in VECTORS:
            self.memory.setdefault(buffer.name, buffer)
            return self.base(buffer)
        name = self.base(buffer)
        constant = "" if buffer.storage == "gradient" else "const "
        offset = f" + {buffer.offset}" if buffer.offset else ""
        self.pointers[name] = f"{constant}real *const {name} = {VECTORS[buffer.storage]}{offset};"
        return name

    def reserve(self, name: str, size: int, whose: str) -> str:
        """Room for so many numbers beside the buffers; returns its name, which ``name`` may be."""
        found = self.names.name(("scratch", len(self.scratch)), name)
        self.scratch[found] = (size, whose)
        return found

    def pointer(self, view: View) -> str:
        """The name of the pointer to the thread's rows of the step, or to the buffer, that ``view`` lies in."""
        buffer = view.buffer
        if not has_rows(buffer):
            return self.hold(buffer)
        base, start = self.hold(buffer), self.start(view)
        if start == "0":
            return base
        moment = view.time if isinstance(view.time, Step) else start
        name = self.names.name(("rows", buffer.name, moment), f"{buffer.name[:40]}{_moment(view)}_data")
        self.pointers[name] = f"real *const {name} = {base} + {start} * {buffer.columns};"
        return name

    def start(self, view: View, t: str = "t") -> str:
        """In which row of its buffer the thread's first row of a view is, as a factor."""
        if view.buffer.name in self.chunked:
            rows = self.rows
            steps = f"({t} - first) * {rows}" if t != "first" else ""
            terms = [*([f"chunk * {self.origin}"] if self.shared else []), *([steps] if steps else [])]
        else:
            steps = self._steps(view, t)
            terms = [*([f"{steps} * batch"] if steps != "0" else []), *([self.origin] if self.shared else [])]
        text = " + ".join(terms) or "0"
        return f"({text})" if len(terms) > 1 else text

    def _steps(self, view: View, t: str) -> str:
        """How many steps of its sequence lie before a view."""
        if view.buffer.shape == "step":
            return "0"
        if isinstance(view.time, Step):
            return self.row(view, view.time, t)
        assert isinstance(view.time, Span), "a sequence without a time"
        return bracketed(bound_text(view.time.start))

    def row(self, view: View, time: Step, t: str) -> str:
        """Which row of its sequence a step is."""
        return bracketed(shifted(t, time.offset - 1))

    def place(self, view: View) -> str:
        """The address of the first element of a view."""
        start = view.start + (view.rows[0] * view.buffer.columns if view.rows is not None else 0)
        pointer = self.pointer(memory_of(view))
        return f"{pointer} + {start}" if start else pointer

    def first(self, view: View) -> str:
        """The address of the first element of a loop's view at the first step of a chunk."""
        base, start = self.hold(view.buffer), self.start(view, "first")
        rows = [] if start == "0" else [f"{start} * {view.buffer.columns}"]
        return " + ".join([base, *rows, *([str(view.start)] if view.start else [])])

    def count(self, view: View) -> str:
        """How many rows of a view a thread has."""
        if not has_rows(view.buffer):
            return "1" if view.rows is None or view.vector else str(view.rows[1] - view.rows[0])
        return self.rows if self.steps == 1 else "turn_rows"

    @property
    def rows(self) -> str:
        """How many rows of a step a thread has."""
        return "rows" if self.shared else "batch"


class RingPlaces(Places):
    """Those of one step of a stream: sequences are rings, T is the number of steps before it."""

    ring = True

    def __init__(self, dtype: str) -> None:
        super().__init__(dtype, shared=False)

    def row(self, view: View, time: Step, t: str) -> str:
        """Its rows are used by turns."""
        rows = view.buffer.length.constant // (2 if view.buffer.shape == "history" else 1)  # which stand there twice
        return f"({bracketed(shifted('T', time.offset))} % {rows})"


def has_rows(buffer: Buffer) -> bool:
    """Whether it has a row for each sequence of the batch."""
    return buffer.shape in ("sequence", "step", "history")


def rows_of(view: View) -> Bound:
    """How many steps a view outside of loops has: of each, the batch's rows."""
    if not isinstance(view.time, Span):
        return Bound(1)
    start, stop = view.time.start, view.time.stop
    return Bound(stop.constant - start.constant, stop.times - start.times)


def bracketed(text: str) -> str:
    """A sum in brackets, so that it may be a factor."""
    return f"({text})" if " " in text else text


def _moment(view: View) -> str:
    """When a view is, for a name."""
    if view.buffer.shape == "step":
        return "_rows"
    if isinstance(view.time, Step):
        offset = view.time.offset
        return "_t" + ("" if offset == 0 else f"_{'plus' if offset > 0 else 'minus'}_{abs(offset)}")
    assert isinstance(view.time, Span)
    start = view.time.start
    return f"_from_{bound_text(start).replace(' + ', '_plus_')}" if start != Bound(0) else "_rows"
