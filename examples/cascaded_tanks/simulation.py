"""Two tanks simulated from their equations, for a run without the benchmark's data and for the tests.

    dh/dt = (-k1 sqrt(h) + k4 u),        dy/dt = (k2 sqrt(h) - k3 sqrt(y) + part of what overflows from the upper tank)

Bernoulli's law for the outlets, as in the benchmark's description (Schoukens and Noel 2017); both levels stop at 10.
"""

from __future__ import annotations

import numpy as np

from examples.cascaded_tanks.record import INTERVAL, TOP, Array, Record

PARTS = 8  # Euler steps in an interval
OUTLETS = (0.05, 0.05, 0.045)  # k1, k2, k3
PUMP = 0.045  # k4
TO_LOWER = 0.3  # of what overflows
NOISE = 0.02  # V


def voltage(samples: int, rng: np.random.Generator) -> Array:
    """A sum of slow sines with random phases, as the benchmark's pump is driven, between 0.5 and 6.5 V."""
    time = np.arange(samples) * INTERVAL
    frequencies = np.arange(1, 25) / (1024 * INTERVAL)
    phases = rng.uniform(0.0, 2.0 * np.pi, len(frequencies))
    wave = np.cos(2.0 * np.pi * time[:, None] * frequencies + phases).sum(axis=1)
    return np.clip(2.8 + 1.0 * wave / np.sqrt(len(frequencies) / 2.0), 0.5, 6.5)


def levels(u: Array) -> Array:
    """The level of the lower tank before each sample of the input, (T,), without noise; both tanks start at 5."""
    k1, k2, k3 = OUTLETS
    upper = lower = 5.0
    measured = np.empty(len(u))
    for t, pump in enumerate(u):
        measured[t] = lower
        for _ in range(PARTS):
            part = INTERVAL / PARTS
            flow = np.sqrt(upper)
            upper += part * (PUMP * pump - k1 * flow)
            over = max(upper - TOP, 0.0)
            upper = max(upper - over, 0.0)
            lower += part * (k2 * flow - k3 * np.sqrt(lower)) + TO_LOWER * over
            lower = min(max(lower, 0.0), TOP)
    return measured


def simulated(samples: int = 1024, seed: int = 0) -> Record:
    """Two records of ``samples`` each, with noise."""
    rng = np.random.default_rng(seed)
    records = []
    for _ in range(2):
        u = voltage(samples, rng)
        y = np.minimum(levels(u) + NOISE * rng.normal(size=samples), TOP)
        records.append({"u": u, "y": y})
    return Record(*records)
