"""Products -> C: by a packed matrix, row by row, or a sum over the rows of both sides, the gradient of a matrix."""

from __future__ import annotations

from codegen.ir import Buffer, MatMul, View
from codegen.overlap import overlap
from codegen.printers.c_ahead import Ahead
from codegen.printers.c_behind import Behind, is_gradient
from codegen.printers.c_places import VECTORS, Places, has_rows
from codegen.printers.c_products import SUMMED_ROWS, padded
from codegen.printers.c_text import comment_lines


def has_text(product: MatMul) -> bool:
    """Whether C does a product outside of loops."""
    left, right, target = product.left, product.right, product.target
    if is_gradient(product):
        return has_rows(left.buffer) and has_rows(right.buffer) and target.rows is not None and not target.transposed
    return has_rows(left.buffer) and has_rows(target.buffer) and right.rows is not None and not overlap(target, left)


def operations(product: MatMul) -> int:
    """How many operations one row of a product is."""
    if is_gradient(product):
        return 2 * product.left.columns * product.right.columns
    return 2 * product.left.columns * product.target.columns


class MatrixText:
    """A matrix that rows are multiplied by: it is packed once, or anew where a loop changes it."""

    def __init__(self, product: MatMul, places: Places) -> None:
        assert not product.left.transposed and not overlap(product.target, product.left), "a product without C text"
        self.product = product
        self.places = places
        right = product.right
        size = product.left.columns * padded(product.target.columns)
        self.name = places.reserve(f"packed_{right.label or right.buffer.name}", size, "one")

    def packing(self) -> str:
        """The call that packs it."""
        right, depth, columns = self.product.right, self.product.left.columns, self.product.target.columns
        assert right.rows is not None, "a product by what is no matrix"
        stride = right.buffer.columns
        start = right.rows[0] * stride + right.start
        steps = (1, stride) if right.transposed else (stride, 1)
        base, start = self._base(right.buffer, start)
        place = f"{base} + {start}" if start else base
        return f"pack({self.name}, {place}, {depth}, {columns}, {steps[0]}, {steps[1]});"

    def _base(self, buffer: Buffer, start: int) -> tuple[str, int]:
        if buffer.storage in VECTORS:
            return VECTORS[buffer.storage], start + buffer.offset
        return self.places.hold(buffer), start

    def call(self, part: tuple[int, int] | None = None, add: bool | None = None, backwards: str = "0") -> str:
        """The product, or that with a part of the sources."""
        left, target = self.product.left, self.product.target
        add = self.product.accumulate if add is None else add
        places = self.places.place(left), self.places.place(target)
        return self._call(self.places.count(target), part or (0, left.columns), *places, add, backwards)

    def ahead(self, split: Ahead) -> list[str]:
        """What is summed up ahead for the steps first..last."""
        left, target = self.product.left, self.product.target
        rows = f"(last - first + 1) * {self.places.rows}"
        places = self.places.first(left), self.places.first(target)
        calls = [self._call(rows, part, *places, number > 0, "0", "\n    ") for number, part in enumerate(split.ahead)]
        return [line for call in calls for line in call.split("\n")]

    def _call(
        self,
        rows: str,
        part: tuple[int, int],
        left: str,
        target: str,
        add: bool,
        backwards: str,
        before_left: str = " ",
    ) -> str:
        depth, columns = self.product.left.columns, self.product.target.columns
        strides = self.product.left.buffer.columns, self.product.target.buffer.columns
        return (
            f"product({rows}, {part[0]}, {part[1]}, {depth}, {columns},{before_left}{left}, {strides[0]},"
            f" {self.name}, {target}, {strides[1]}, {int(add)}, {backwards});"
        )


class GradientText:
    """The sum over the rows of both sides of a product, behind the chunks of a loop or after it."""

    def __init__(self, product: MatMul, places: Places) -> None:
        self.product = product
        self.places = places
        self.depth, self.columns = product.left.columns, product.right.columns
        self.size = SUMMED_ROWS * (self.depth + padded(self.columns))
        self.scratch = places.reserve(f"scratch_of_gradient_{len(places.scratch)}", self.size, "each")

    def _target(self) -> tuple[str, int]:
        """The address of the target's first element, and its stride."""
        target = self.product.target
        return self.places.place(target), target.buffer.columns

    def whole(self) -> list[str]:
        """All rows at once: each thread has a part of the columns."""
        left, right = self.product.left, self.product.right
        target, stride = self._target()
        place, beside = self.places.place(_upright(left)), self.places.place(right)
        columns = f"share({self.columns}, thread + 1, team) - column"
        return [
            *comment_lines(self.product.note.split("; ")),
            f"const long column = share({self.columns}, thread, team);",
            "gradient_product(",
            f"    1, all, {self.depth}, {columns},",
            f"    {place}, 0, {left.buffer.columns},",
            f"    {beside} + column, 0, {right.buffer.columns},",
            f"    {self.scratch} + thread * {self.size}, {target} + column, {stride}, {int(self.product.accumulate)});",
        ]

    def partial(self) -> list[str]:
        """Before a loop that sums it up behind its chunks: where each thread does."""
        size = self.depth * self.columns
        number = len(self.places.scratch)
        self.sums = self.places.names.name(("sums", number), f"sums_of_gradient_{number - 1}")
        self.others = self.places.reserve(f"partial_{self.sums}", size, "others")
        target, _ = self._target()
        return [f"real *const {self.sums} = thread == 0 ? {target} : {self.others} + (thread - 1) * {size};"]

    def chunk(self, behind: Behind, started: str) -> list[str]:
        """The steps first..last of a loop, of which ``started`` says whether others came before."""
        _, stride = self._target()
        sides = []
        for view in (behind.left, behind.right):
            rows = "rows" if view.buffer.name in self.places.chunked else "batch"
            sides.append(f"{self.places.first(view)}, {rows} * {view.buffer.columns}, {view.buffer.columns}")
        add = f"thread == 0 || {started}" if self.product.accumulate else started
        target_stride = f"thread == 0 ? {stride} : {self.columns}" if stride != self.columns else str(stride)
        return [
            *comment_lines(self.product.note.split("; ")),
            "gradient_product(",
            f"    last - first + 1, rows, {self.depth}, {self.columns},",
            *(f"    {side}," for side in sides),
            f"    {self.scratch} + thread * {self.size}, {self.sums}, {target_stride}, {add});",
        ]

    def together(self) -> str:
        """After the loop: the threads' sums become one."""
        target, stride = self._target()
        return f"add_partial_sums({self.depth}, {self.columns}, {target}, {stride}, {self.others}, thread, team);"


def _upright(view: View) -> View:
    return View(view.buffer, view.time, view.start, view.stop, view.rows, label=view.label)
