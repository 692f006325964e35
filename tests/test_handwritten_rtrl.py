"""The yardstick of the RTRL benchmark computes what it claims to: against central differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.handwritten_rtrl import BlocksRTRL, SlidingRTRL


def loss_of(weights: Any, x: Any, target: Any) -> float:
    a, losses = np.zeros(target.shape[1:]), []
    for t in range(len(x)):
        a = np.tanh(np.concatenate([x[t], a, np.ones((len(a), 1))], axis=1) @ weights)
        losses.append(np.mean((a - target[t]) ** 2))
    return float(np.mean(losses))


@pytest.mark.parametrize("layout", [BlocksRTRL, SlidingRTRL])
def test_gradient_is_that_of_central_differences(layout: type) -> None:
    random = np.random.default_rng(0)
    inputs, units, batch, steps = 2, 5, 3, 4
    weights = random.uniform(-1, 1, (inputs + units + 1, units))
    kernel = layout(inputs, units, batch, np.float64)
    for _ in range(2):  # the buffers are used again
        x, target = random.standard_normal((steps, batch, inputs)), random.standard_normal((steps, batch, units))
        loss, gradient = kernel.loss_and_gradient(weights, x, target)
        assert loss == pytest.approx(loss_of(weights, x, target))
        for place in np.ndindex(weights.shape):
            step = np.zeros_like(weights)
            step[place] = 1e-6
            slope = (loss_of(weights + step, x, target) - loss_of(weights - step, x, target)) / 2e-6
            assert gradient[place] == pytest.approx(slope, abs=1e-8)


def test_both_layouts_agree_with_several_blocks_and_chunks() -> None:
    random = np.random.default_rng(1)
    inputs, units, batch, steps = 8, 64, 2, 3
    weights = random.uniform(-1, 1, (inputs + units + 1, units)) / 8.0
    x, target = random.standard_normal((steps, batch, inputs)), random.standard_normal((steps, batch, units))
    first, second = (
        layout(inputs, units, batch, np.float64).loss_and_gradient(weights, x, target)
        for layout in (BlocksRTRL, SlidingRTRL)
    )
    assert first[0] == pytest.approx(second[0])
    np.testing.assert_allclose(first[1], second[1], rtol=1e-10, atol=1e-12)
