"""The matrix of each product: a view of the parameter vector where it can be, else a copy made once per call.

A weighted sum that is read through a sigmoid alone is computed halved, since sigmoid(s) = tanh(s/2)/2 + 1/2: the 1/2 is
multiplied into a copy of the weights once per call, and one tanh serves all gates.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import sympy
from numpy.typing import NDArray

from codegen.ir import ONCE, Assign, Buffer, Copy, Statement, View
from rnngraph.lower.layout import ParameterLayout
from rnngraph.schedule import Product

VALUE = sympy.Symbol("value", real=True)


@dataclass
class Matrices:
    """Resolves products to matrix views; ``prologue`` collects the statements that make the copies."""

    layout: ParameterLayout
    constants: Mapping[str, NDArray[np.float64]]
    widths: Mapping[str, int]
    prologue: list[Statement]

    def of(self, product: Product, heights: list[int], halved: Collection[str], stepped: bool) -> View:
        """The matrix of ``product``: sources (and ones) by results. ``heights``: the size of each source.

        A loop multiplies by its matrix T times: there a transposed view is copied too, since products with a contiguous
        matrix are faster.
        """
        native = self._native(product)
        if native is not None and not halved and not (stepped and native.transposed):
            return native
        total = sum(heights) + (1 if product.biases else 0)
        width = sum(self.widths[result] for result in product.results)
        buffer = Buffer(f"matrix_for_{product.results[0]}", "matrix", width, total, note=ONCE)
        whole = View(buffer, None, 0, width, rows=(0, total), label=buffer.name)
        if native is not None:
            note = "halved columns: sigmoid(s) = tanh(s/2)/2 + 1/2" if halved else ""
            self.prologue.append(Copy(whole, native, note=note))
        else:
            self._assemble(product, heights, buffer)
        column = 0
        for result in product.results:
            stop = column + self.widths[result]
            if result in halved:
                part = View(buffer, None, column, stop, rows=(0, total), label=buffer.name)
                self.prologue.append(Assign(part, sympy.Rational(1, 2) * VALUE, ((VALUE, part),)))
            column = stop
        return whole

    def _assemble(self, product: Product, heights: list[int], buffer: Buffer) -> None:
        row = 0
        for weights, height in zip(product.blocks, heights, strict=True):
            column = 0
            for result, block in zip(product.results, weights, strict=True):
                stop = column + self.widths[result]
                target = View(buffer, None, column, stop, rows=(row, row + height), label=buffer.name)
                self.prologue.append(Copy(target, self.block(block.parameter, block.transposed)))
                column = stop
            row += height
        column = 0
        for result, bias in zip(product.results, product.biases, strict=bool(product.biases)):
            stop = column + self.widths[result]
            target = View(buffer, None, column, stop, rows=(row, row + 1), vector=True, label=buffer.name)
            self.prologue.append(Copy(target, self.layout.view(bias)))
            column = stop

    def block(self, name: str, transposed: bool) -> View:
        """A parameter or constant as a matrix."""
        if name in self.constants:
            values = self.constants[name]
            values = values.reshape(-1, values.shape[-1])
            rows, columns = values.shape
            buffer = Buffer(name, "matrix", columns, rows, storage="constant", values=values)
            return View(buffer, None, 0, columns, rows=(0, rows), transposed=transposed, label=name)
        view = self.layout.view(name)
        return View(view.buffer, None, view.start, view.stop, view.rows, transposed, label=name)

    def _native(self, product: Product) -> View | None:
        """The matrix as a view of one block of the vector, or None."""
        names = [block.parameter for row in product.blocks for block in row] + list(product.biases)
        if any(name in self.constants for name in names):
            return None
        cells = [self.layout.cells[name] for name in names]
        transposed = product.blocks[0][0].transposed
        if len({cell.block for cell in cells}) > 1 or len(set(names)) < len(names):
            return None
        grid = [[self.layout.cells[block.parameter] for block in row] for row in product.blocks]
        if any(block.transposed != transposed for row in product.blocks for block in row):
            return None
        if transposed:
            grid = [list(column) for column in zip(*grid, strict=True)]
        if product.biases:
            grid.append([self.layout.cells[name] for name in product.biases])
        first, last = grid[0][0], grid[-1][-1]
        row = first.rows[0]
        for line in grid:
            column = first.columns[0]
            for cell in line:
                if cell.rows[0] != row or cell.columns[0] != column or cell.rows != line[0].rows:
                    return None
                column = cell.columns[1]
            row = line[0].rows[1]
        buffer = self.layout.buffer(first.block)
        return View(
            buffer,
            None,
            first.columns[0],
            last.columns[1],
            (first.rows[0], last.rows[1]),
            transposed,
            label=buffer.name,
        )
