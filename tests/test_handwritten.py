"""The yardstick of the benchmarks computes what it claims to: against central differences, and against torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.handwritten_lstm import CHUNK_BYTES, GATES, HandwrittenLSTM


def make_problem(T: int, B: int, inputs: int, units: int, dtype: Any = np.float64) -> tuple[Any, Any, Any]:
    """Packed weights, x and target, drawn with a fixed seed."""
    random = np.random.default_rng(0)
    weights = random.standard_normal((inputs + units + 1, 4 * units)) / np.sqrt(units)
    x, target = random.standard_normal((T, B, inputs)), random.standard_normal((T, B, units))
    return weights.astype(dtype), x.astype(dtype), target.astype(dtype)


# One row and several rows take different paths; the third computes its backward factors in several chunks.
@pytest.mark.parametrize(("T", "B", "units"), [(6, 1, 3), (5, 3, 4), (3, 40, 96)])
def test_gradient_equals_central_differences(T: int, B: int, units: int) -> None:
    weights, x, target = make_problem(T, B, 2, units)
    kernel = HandwrittenLSTM(2, units, np.float64)
    loss, gradient = kernel.loss_and_gradient(weights, x, target)
    assert loss == pytest.approx(np.mean((kernel.forward(weights, x) - target) ** 2), rel=1e-13)

    def loss_at(moved: Any) -> float:
        return float(np.mean((kernel.forward(moved, x) - target) ** 2))

    random = np.random.default_rng(1)
    for _ in range(8):
        direction = random.standard_normal(weights.shape)
        step = 1e-6 * direction
        slope = (loss_at(weights + step) - loss_at(weights - step)) / 2e-6
        assert np.vdot(gradient, direction) == pytest.approx(slope, rel=1e-6, abs=1e-9)


def test_third_case_has_several_chunks() -> None:
    assert CHUNK_BYTES < 3 * 6 * 40 * 96 * 8


def test_calls_do_not_disturb_each_other() -> None:
    kernel = HandwrittenLSTM(2, 4, np.float64)
    weights, x, target = make_problem(5, 3, 2, 4)
    _, x_other, target_other = make_problem(7, 1, 2, 4)
    h, (loss, gradient) = kernel.forward(weights, x), kernel.loss_and_gradient(weights, x, target)
    h_kept, gradient_kept = h.copy(), gradient.copy()
    kernel.loss_and_gradient(2 * weights, x_other, target_other)
    kernel.loss_and_gradient(2 * weights, -x, target)
    kernel.forward(2 * weights, -x)
    np.testing.assert_array_equal(h, h_kept)
    np.testing.assert_array_equal(gradient, gradient_kept)
    again = kernel.loss_and_gradient(weights, x, target)
    assert again[0] == loss
    np.testing.assert_array_equal(again[1], gradient)


@pytest.mark.peers
@pytest.mark.parametrize("B", [1, 5])
def test_equals_torch(B: int) -> None:
    torch = pytest.importorskip("torch")
    T, inputs, units = 9, 3, 6
    weights, x, target = make_problem(T, B, inputs, units)
    loss, gradient = HandwrittenLSTM(inputs, units, np.float64).loss_and_gradient(weights, x, target)
    blocks = weights.reshape(-1, 4, units)
    order = [GATES.index(gate) for gate in "ifzo"]  # torch's order of the gates
    packed = np.concatenate([blocks[:, k].T for k in order])
    layer = torch.nn.LSTM(inputs, units).double()
    with torch.no_grad():
        layer.weight_ih_l0.copy_(torch.from_numpy(packed[:, :inputs]))
        layer.weight_hh_l0.copy_(torch.from_numpy(packed[:, inputs:-1]))
        layer.bias_ih_l0.copy_(torch.from_numpy(packed[:, -1]))
        layer.bias_hh_l0.zero_()
    h, _ = layer(torch.from_numpy(x))
    torch_loss = torch.nn.functional.mse_loss(h, torch.from_numpy(target))
    torch_loss.backward()
    parts = [layer.weight_ih_l0.grad, layer.weight_hh_l0.grad, layer.bias_ih_l0.grad[:, None]]
    torch_packed = torch.cat(parts, dim=1).numpy().reshape(4, units, -1)
    expected = np.empty_like(blocks)
    for place, k in enumerate(order):
        expected[:, k] = torch_packed[place].T
    assert loss == pytest.approx(torch_loss.item(), rel=1e-12)
    np.testing.assert_allclose(gradient, expected.reshape(gradient.shape), rtol=1e-9, atol=1e-12)
