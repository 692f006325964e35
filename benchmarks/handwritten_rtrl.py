"""A layer that feeds itself, learned by RTRL, written by hand in NumPy: the yardstick of the emitted kernels.

    a(t) = tanh(W^T x(t) + R^T a(t-1) + b),  loss = mean over t, batch and units of (a(t) - target(t))^2

R. J. Williams and D. Zipser (1989), "A learning algorithm for continually running fully recurrent neural networks".
The weights are packed as in ``benchmarks.handwritten_lstm``: the rows of W, of R, and b; row i belongs to the source
s_i of the vector s(t) = (x(t), a(t-1), 1). With P(t)[(i, j), k] = da_k(t) / dw_ij for each sequence of the batch,

    P(t) = P(t-1) J(t) + seed(t),  J(t) = R diag(1 - a(t)^2),  seed(t)[(i, j), k] = s_i(t) (1 - a_j(t)^2) if j = k

The derivative is folded into J, so that no pass over P is needed but the product. P holds batch * sources * units^2
numbers, and nearly all the time goes into that product. The two classes differ in how it walks through memory; which is
the faster one depends on the number of units.
"""

from __future__ import annotations

import abc
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

SMALL_PRODUCT = 10**6  # OpenBLAS does not pack the operands of products of fewer multiplications; that saves up to 20 %
FEWEST_ROWS = 100  # with blocks of fewer rows the calls cost more than that
CHUNK_BYTES = 2**20  # a chunk, read and written, stays in the second cache


class _HandwrittenRTRL(abc.ABC):
    """What both have in common: the forward step, J, the factors of the seed, and the sums of loss and gradient."""

    def __init__(self, inputs: int, units: int, batch: int, dtype: Any = np.float32) -> None:
        self.inputs, self.units, self.batch, self.dtype = inputs, units, batch, dtype
        self.sources = inputs + units + 1
        self.rows = self.sources * units
        self.s = np.ones((batch, self.sources), dtype)
        self.derivative = np.empty((batch, units), dtype)
        self.error = np.empty((batch, units), dtype)
        self.seed = np.empty((batch, self.sources, units), dtype)
        self.jacobian = np.empty((batch, units, units), dtype)

    def loss_and_gradient(self, weights: Any, x: Any, target: Any) -> tuple[float, Any]:
        """The loss (a number) and its gradient, packed like ``weights`` (inputs + units + 1, units).

        ``x`` (T, batch, inputs) and ``target`` (T, batch, units) are time-major.
        """
        inputs, s, d, e = self.inputs, self.s, self.derivative, self.error
        recurrent = weights[inputs:-1]
        a = s[:, inputs:-1]
        a[...] = 0.0
        self.start()
        loss, scale = 0.0, 2.0 / target.size
        for t in range(len(x)):
            s[:, :inputs] = x[t]
            new = np.tanh(s @ weights)
            np.subtract(1.0, new * new, out=d)
            np.subtract(new, target[t], out=e)
            loss += float(np.vdot(e, e))
            np.multiply(e, self.dtype(scale), out=e)
            np.multiply(recurrent, d[:, None, :], out=self.jacobian)
            np.multiply(s[:, :, None], d[:, None, :], out=self.seed)
            self.advance(first=t == 0)
            a[...] = new
        return loss / target.size, self.gradient().reshape(self.sources, self.units).copy()

    @abc.abstractmethod
    def start(self) -> None:
        """Sensitivities and gradient are zero."""

    @abc.abstractmethod
    def advance(self, first: bool) -> None:
        """One step of the sensitivities; adds the step's part of the gradient. At the first step P(t-1) = 0."""

    @abc.abstractmethod
    def gradient(self) -> Any:
        """The sum so far, (rows,)."""

    def _diagonal(self, flat: Any) -> Any:
        """View (batch, sources, units) of the places P[(i, j), j] of ``flat`` (batch, at least rows, units)."""
        sequence, row, unit = flat.strides
        return as_strided(flat, (self.batch, self.sources, self.units), (sequence, self.units * row, row + unit))


class BlocksRTRL(_HandwrittenRTRL):
    """Two buffers by turns; one call multiplies blocks of rows so small that BLAS need not pack them."""

    def __init__(self, inputs: int, units: int, batch: int, dtype: Any = np.float32) -> None:
        super().__init__(inputs, units, batch, dtype)
        most = SMALL_PRODUCT // units**2
        blocks = -(-self.rows // most) if most >= FEWEST_ROWS else 1
        height = -(-self.rows // (8 * blocks)) * 8
        padded = blocks * height  # rows of zeros at the end stay zero
        self.blocks = [np.zeros((batch, blocks, height, units), dtype) for _ in range(2)]
        self.flat = [block.reshape(batch, padded, units) for block in self.blocks]
        self.diagonals = [self._diagonal(flat) for flat in self.flat]
        self.products = np.empty((batch, padded, 1), dtype)
        self.total = np.zeros(padded, dtype)
        self.now = 0

    def start(self) -> None:
        self.flat[1 - self.now].fill(0.0)
        self.total.fill(0.0)

    def advance(self, first: bool) -> None:
        self.now = new = 1 - self.now
        if not first:
            np.matmul(self.blocks[1 - new], self.jacobian[:, None], out=self.blocks[new])
        np.add(self.diagonals[new], self.seed, out=self.diagonals[new])
        np.matmul(self.flat[new], self.error[:, :, None], out=self.products)
        self.total += self.products[:, :, 0].sum(axis=0)

    def gradient(self) -> Any:
        return self.total[: self.rows]


class SlidingRTRL(_HandwrittenRTRL):
    """One buffer with a chunk to spare: each chunk of the new P is written where the chunk before it was read.

    The chunks go up at one step and down at the next. Half the memory of two buffers, and a chunk's part of the
    gradient is summed while the chunk is in the cache.
    """

    def __init__(self, inputs: int, units: int, batch: int, dtype: Any = np.float32) -> None:
        super().__init__(inputs, units, batch, dtype)
        size = units * units
        most = max(1, CHUNK_BYTES // (size * np.dtype(dtype).itemsize))  # sources a chunk
        each = -(-self.sources // -(-self.sources // most))
        self.spare, self.used = each * size, batch * self.rows * units
        self.buffer = np.zeros(self.used + self.spare, dtype)
        self.total = np.zeros(self.rows, dtype)
        bounds = [(low, min(low + each, self.sources)) for low in range(0, self.sources, each)]
        places = [(k, low, high) for k in range(batch) for low, high in bounds]
        down = [self._chunk(k, low, high, self.spare, 0) for k, low, high in places]
        up = [self._chunk(k, low, high, 0, self.spare) for k, low, high in reversed(places)]
        self.passes = (down, up)
        self.side = 0

    def _chunk(self, sequence: int, low: int, high: int, old: int, new: int) -> tuple[Any, ...]:
        """Views of the sources low..high-1: old and new P, new diagonals, their seed, Jacobian, error and gradient."""
        units = self.units
        start = (sequence * self.sources + low) * units * units
        stop = start + (high - low) * units * units
        source, result = self.buffer[old + start : old + stop], self.buffer[new + start : new + stop]
        return (
            source.reshape(-1, units),
            result.reshape(-1, units),
            result.reshape(high - low, units * units)[:, :: units + 1],
            self.seed[sequence, low:high],
            self.jacobian[sequence],
            self.error[sequence],
            self.total[low * units : high * units],
        )

    def start(self) -> None:
        self.buffer.fill(0.0)
        self.total.fill(0.0)

    def advance(self, first: bool) -> None:
        for old, new, diagonal, seed, jacobian, error, total in self.passes[self.side]:
            if not first:
                np.dot(old, jacobian, out=new)
            np.add(diagonal, seed, out=diagonal)
            total += np.dot(new, error)
        self.side = 1 - self.side

    def gradient(self) -> Any:
        return self.total
