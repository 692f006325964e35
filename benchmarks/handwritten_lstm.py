"""The yardstick: an LSTM for NumPy written by hand, as fast as NumPy's calls allow.

Gates o, i, f (sigmoid) and z (tanh), no peepholes, one bias a gate, zero initial state; loss = mean over time, batch
and units of (h - target)^2. The cell is that of Gers, Schmidhuber and Cummins, "Learning to Forget" (2000):

    c(t) = f(t) c(t-1) + i(t) z(t),    h(t) = o(t) tanh(c(t))

How it is laid out, with what each choice gained at (T, B, I, H) = (100, 1, 8, 16), (200, 1, 64, 64), (100, 32, 64,
128), (128, 64, 256, 512) and (784, 64, 1, 128), float32, one pinned thread (x86-64 with AVX-512, NumPy 2.4, OpenBLAS):

- ``rows`` (T+1, B, I+H+1) holds x(t), h(t-1) and 1 side by side, so a step's weighted sums are one product.
- ``blocks`` (T+1, 6, B, H) holds tanh(c), o, i, f, z and c(t-1) of a step. What one call reads or writes together is
  one contiguous stretch: the four gates (one tanh), the three sigmoids, and the pairs (i, f) and (z, c(t-1)). Sums and
  products on columns of a wider row take 3 to 6 times as long once B > 1 (NumPy enters its inner loop once a row), tanh
  1.5 times: against gates as columns the forward pass gained 1.15 to 1.5 at B > 1. The product of a step is then one
  batched matmul over the gates, no slower than the one wide product, and about 1.3 times as fast at B = 32.
- sigmoid(s) = 0.5 tanh(s / 2) + 0.5; the inner 0.5 is folded into a copy of the weights, made once a call.
- The backward step multiplies dh and dc by factors, the local derivatives, that depend on neither. They are computed
  for as many steps at once as fit the cache: against two steps at a time the backward loop gains 2.3 at
  (200, 1, 64, 64), against all steps at once 1.15 at the two largest shapes. One multiply carries dc over i, f and z:
  as fast as one a gate at B = 1 (a broadcast call costs about three plain ones), up to 1.3 times as fast at larger B.
- ``deltas`` (T+1, B, 4, H) keeps a step's gates side by side in a row: one product a step for dh, and one product after
  the loop for the gradient of all weights. Two more columns (what goes through c) would save two calls a step, which
  their broadcasting takes back, and the last product would take up to 1.3 times as long on rows with gaps.
- dh needs the recurrent weights transposed: a contiguous copy once a call makes that product 1.2 to 1.5 times as fast
  as a transposed view (B > 1).
- At B = 1 the time is NumPy's own per call: np.dot takes 0.6 (H = 16) to 0.8 (H = 64) of np.matmul's time
  there, and 0.5 as an array of no axes half that of 0.5 as a Python number.
- All buffers, and the views of them that a step uses, are made once for each (T, B) and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]

GATES = ("o", "i", "f", "z")  # order of the H-wide column blocks of the packed weights

# How much of the backward factors is computed at once: a part of the second-level cache.
CHUNK_BYTES = 1 << 18


def named_parameters(packed: Any, inputs: int, units: int) -> dict[str, Any]:
    """Views of packed weights (inputs + units + 1, 4 * units) under the names of the graph: W_x_i, W_h_i, b_i, ..."""
    named: dict[str, Any] = {}
    for k, gate in enumerate(GATES):
        columns = packed[:, k * units : (k + 1) * units]
        named |= {f"W_x_{gate}": columns[:inputs], f"W_h_{gate}": columns[inputs:-1], f"b_{gate}": columns[-1]}
    return named


def pack(named: Mapping[str, Any], inputs: int, units: int) -> Any:
    """The inverse of ``named_parameters``."""
    packed = np.empty((inputs + units + 1, 4 * units), np.float32)
    for name, view in named_parameters(packed, inputs, units).items():
        view[...] = named[name]
    return packed


class HandwrittenLSTM:
    """An LSTM layer of ``units`` cells.

    ``weights`` is one array (inputs + units + 1, 4 * units): W, R and the bias above each other, columns by ``GATES``.
    Not safe for use from two threads: calls share the buffers.
    """

    def __init__(self, inputs: int, units: int, dtype: DTypeLike = np.float32) -> None:
        self.inputs = inputs
        self.units = units
        self.dtype = np.dtype(dtype)
        rows = inputs + units + 1
        self._scale = np.array([0.5, 0.5, 0.5, 1.0], self.dtype).reshape(4, 1, 1)
        self._scaled = np.empty((4, rows, units), self.dtype)
        self._scaled_flat = np.empty((rows, 4 * units), self.dtype)
        self._recurrent = np.empty((4 * units, units), self.dtype)
        self._workspaces: dict[tuple[int, int, bool], _Workspace] = {}

    def forward(self, weights: Array, x: Array) -> Array:
        """h (T, B, units) for x (T, B, inputs); a copy that later calls leave alone."""
        workspace = self._workspace(x, training=False)
        self._forward(workspace, weights, x)
        h: Array = workspace.h.copy()
        return h

    def loss_and_gradient(self, weights: Array, x: Array, target: Array) -> tuple[float, Array]:
        """Mean squared error of h against target (T, B, units), and its gradient, shaped as ``weights``."""
        workspace = self._workspace(x, training=True)
        self._forward(workspace, weights, x)
        np.subtract(workspace.h, target, workspace.error)
        error = workspace.error.ravel()
        loss = float(np.dot(error, error)) / error.size
        self._backward(workspace, weights)
        gradient: Array = np.dot(workspace.rows_flat.T, workspace.deltas_flat)
        gradient *= 2 / error.size  # the loss's own factor, left out of the loop
        return loss, gradient

    def _workspace(self, x: Array, training: bool) -> _Workspace:
        T, B, _ = x.shape
        key = (T, B, training)
        if key not in self._workspaces:
            self._workspaces[key] = _Workspace(T, B, training, self.inputs, self.units, self.dtype)
        return self._workspaces[key]

    def _forward(self, workspace: _Workspace, weights: Array, x: Array) -> None:
        by_gate = weights.reshape(-1, 4, self.units).transpose(1, 0, 2)
        workspace.x[...] = x
        workspace.first_cell.fill(0)
        # One row: the step's four gates are one row too, and np.dot has less overhead. More rows: one product per gate
        # leaves each gate contiguous, which the elementwise calls need.
        if workspace.single_row:
            w = self._scaled_flat
            np.multiply(by_gate, self._scale, w.reshape(-1, 4, self.units).transpose(1, 0, 2))
        else:
            w = self._scaled
            np.multiply(by_gate, self._scale, w)
        product: Callable[..., Any] = np.dot if workspace.single_row else np.matmul
        tanh, add, multiply = np.tanh, np.add, np.multiply
        half, pair, pair_i, pair_f = workspace.half, workspace.pair, workspace.pair[0], workspace.pair[1]
        for row, sums, gates, sigmoids, i_f, z_c, o, c, tanh_c, h in workspace.forward_steps:
            product(row, w, sums)
            tanh(gates, gates)
            multiply(sigmoids, half, sigmoids)
            add(sigmoids, half, sigmoids)
            multiply(i_f, z_c, pair)
            add(pair_i, pair_f, c)
            tanh(c, tanh_c)
            multiply(o, tanh_c, h)

    def _backward(self, workspace: _Workspace, weights: Array) -> None:
        np.copyto(self._recurrent, weights[self.inputs : self.inputs + self.units].T)
        dot, add, multiply = np.dot, np.add, np.multiply
        recurrent, dh, dc = self._recurrent, workspace.dh, workspace.dc
        through_cell, carry = workspace.through_cell, workspace.carry
        carry.fill(0)
        for chunk in workspace.chunks:
            chunk.compute_factors()
            for delta_after, error, d_c, d_o, delta_o, d_ifz, delta_ifz, forget in chunk.steps:
                dot(delta_after, recurrent, dh)
                add(dh, error, dh)
                multiply(dh, d_c, through_cell)
                multiply(dh, d_o, delta_o)
                add(through_cell, carry, dc)
                multiply(dc, d_ifz, delta_ifz)
                multiply(dc, forget, carry)


class _Workspace:
    """Buffers for one (T, B), with the views that each step uses; a forward pass alone needs one block."""

    def __init__(self, T: int, B: int, training: bool, inputs: int, units: int, dtype: np.dtype[Any]) -> None:
        self.single_row = B == 1
        rows = np.zeros((T + 1, B, inputs + units + 1), dtype)
        rows[:, :, -1] = 1
        self.x = rows[:T, :, :inputs]
        self.h = rows[1:, :, inputs : inputs + units]
        blocks = np.zeros((T + 1 if training else 1, 6, B, units), dtype)
        self.first_cell = blocks[0, 5]
        self.half = np.asarray(0.5, dtype)  # an array: a Python float costs a call twice the time
        self.pair = np.empty((2, B, units), dtype)
        self.forward_steps = []
        for t in range(T):
            block, after = (blocks[t], blocks[t + 1]) if training else (blocks[0], blocks[0])
            gates = block[1:5]
            sums = gates.reshape(1, 4 * units) if self.single_row else gates
            step = (rows[t], sums, gates, block[1:4], block[2:4], block[4:], block[1], after[5], block[0], self.h[t])
            self.forward_steps.append(step)
        if training:
            self._cut_backward(rows, blocks)

    def _cut_backward(self, rows: Array, blocks: Array) -> None:
        T, (_, B, units), dtype = len(blocks) - 1, blocks.shape[1:], blocks.dtype
        self.error = np.empty((T, B, units), dtype)
        self.dh = np.empty((B, units), dtype)
        self.dc = np.empty((B, units), dtype)
        self.through_cell = np.empty((B, units), dtype)
        self.carry = np.empty((B, units), dtype)
        length = min(T, max(1, CHUNK_BYTES // blocks[0].nbytes))
        factors = np.empty((length, 5, B, units), dtype)
        deltas = np.zeros((T + 1, B, 4, units), dtype)
        delta_rows = deltas.reshape(T + 1, B, 4 * units)
        self.rows_flat = rows[:T].reshape(T * B, -1)
        self.deltas_flat = deltas[:T].reshape(T * B, 4 * units)
        by_gate = deltas.transpose(0, 2, 1, 3)
        self.chunks = []
        for stop in range(T, 0, -length):
            start = max(0, stop - length)
            chunk = _Chunk(blocks[start:stop], factors[: stop - start])
            for t in reversed(range(start, stop)):
                f, delta = factors[t - start], by_gate[t]
                step = (delta_rows[t + 1], self.error[t], f[0], f[1], delta[0], f[2:], delta[1:], blocks[t, 3])
                chunk.steps.append(step)
            self.chunks.append(chunk)


class _Chunk:
    """A run of time steps whose backward factors are computed together."""

    def __init__(self, blocks: Array, factors: Array) -> None:
        self.steps: list[tuple[Array, ...]] = []
        self._one = np.asarray(1, blocks.dtype)
        self._tanh_c, self._o, self._i, _, self._z, _ = blocks.swapaxes(0, 1)
        self._sigmoids, self._z_c = blocks[:, 1:4], blocks[:, 4:]
        self._d_c, self._d_o, _, _, self._d_z = factors.swapaxes(0, 1)
        self._d_sigmoids, self._d_if = factors[:, 1:4], factors[:, 2:4]

    def compute_factors(self) -> None:
        """What dh is multiplied by (tanh(c) and o) and what dc is multiplied by (i, f and z)."""
        multiply, subtract = np.multiply, np.subtract
        multiply(self._sigmoids, self._sigmoids, self._d_sigmoids)
        subtract(self._sigmoids, self._d_sigmoids, self._d_sigmoids)
        multiply(self._d_o, self._tanh_c, self._d_o)
        multiply(self._d_if, self._z_c, self._d_if)
        multiply(self._z, self._z, self._d_z)
        subtract(self._one, self._d_z, self._d_z)
        multiply(self._d_z, self._i, self._d_z)
        multiply(self._tanh_c, self._tanh_c, self._d_c)
        subtract(self._one, self._d_c, self._d_c)
        multiply(self._d_c, self._o, self._d_c)
