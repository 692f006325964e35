"""The measured series, its scaling and splits, and the forecasts that need no network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from examples.sunspots.networks import LAGS

DATA = Path(__file__).resolve().parent.parent / "data" / "sunspots_yearly_1700_2008.csv"
FIRST = 1700
LAST = 1920  # the last year that anything is learned from
PERIODS = ((1921, 1955), (1956, 1979))
BLOCKS = 5


class Record:
    """``years`` and ``numbers`` (T,); ``scaled`` (T, 1, 1); ``blocks``: the indices of each block to leave out."""

    def __init__(self) -> None:
        self.years, self.numbers = np.loadtxt(DATA, delimiter=",", skiprows=1, unpack=True)
        roots = np.sqrt(self.numbers)
        learned = roots[self.years <= LAST]
        self._mean, self._scale = learned.mean(), learned.std()
        self.scaled = ((roots - self._mean) / self._scale)[:, None, None]
        self.variance = self.numbers.var()
        self.variance_to_1979 = self.numbers[self.years <= PERIODS[-1][1]].var()
        self.blocks = np.array_split(np.flatnonzero(self.between(FIRST + LAGS, LAST)), BLOCKS)

    def between(self, first: int, last: int) -> np.ndarray:
        """True for the years first..last, (T,)."""
        return (self.years >= first) & (self.years <= last)

    def unscaled(self, outputs: np.ndarray) -> np.ndarray:
        """A network's outputs (T, 1, 1) as sunspot numbers (T,)."""
        return np.maximum(outputs[:, 0, 0] * self._scale + self._mean, 0.0) ** 2

    def learned_and_left_out(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        """Step weights (T, batch) of the years to learn from and of those left out: a weight of 0 masks a year."""
        left_out = np.zeros((len(self.years), 1))
        left_out[self.blocks[block]] = 1.0
        return self.between(FIRST + LAGS, LAST)[:, None] - left_out, left_out

    def error(self, forecast: np.ndarray, where: np.ndarray) -> float:
        """The average relative variance of a forecast (T,) over the years ``where``."""
        return float(np.mean((forecast - self.numbers)[where] ** 2) / self.variance)


@dataclass
class Result:
    """Forecast (T,), the error on the blocks left out, and the members (networks, T) of which it is the mean."""

    name: str
    forecast: np.ndarray
    left_out: float
    members: np.ndarray | None = None


def autoregression(record: Record, roots: bool) -> Result:
    """AR(12) by least squares on the plain numbers or, as the networks, on their square roots.

    One more fit per block gives the error on the blocks left out.
    """
    series = np.sqrt(record.numbers) if roots else record.numbers
    lags = [np.roll(series, d) for d in range(1, LAGS + 1)]  # the first 12 years wrap around and are never used
    regressors = np.column_stack([np.ones_like(series), *lags])

    def fitted(rows: np.ndarray) -> np.ndarray:
        solution, *_ = np.linalg.lstsq(regressors[rows], series[rows], rcond=None)
        return np.maximum(regressors @ solution, 0.0) ** 2 if roots else regressors @ solution

    errors = []
    for block, left_out in enumerate(record.blocks):
        learned, _ = record.learned_and_left_out(block)
        errors.append((fitted(learned[:, 0] > 0) - record.numbers)[left_out])
    error = float(np.mean(np.concatenate(errors) ** 2) / record.variance)
    name = "AR(12) on square roots" if roots else "AR(12) on plain numbers"
    return Result(name, fitted(record.between(FIRST + LAGS, LAST)), error)


def persistence(record: Record) -> Result:
    """Next year is like this year."""
    forecast = np.roll(record.numbers, 1)
    return Result("persistence, y(t) = x(t-1)", forecast, record.error(forecast, np.concatenate(record.blocks)))
