"""How often training reads measured outputs in place of the network's own: a schedule over epochs, or every n-th step.

Both make the array of the input ``<output>_forcing`` that ``mix_feedback`` adds to a network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from numbers import Real

import numpy as np

from rnngraph.errors import OptionError
from rnngraph.train import checks
from rnngraph.train.history import History
from rnngraph.train.protocols import Array


class ForcingSchedule:
    """Scheduled sampling (Bengio et al. 2015): from measured outputs to own outputs, epoch by epoch.

    ``forcing``, (T, batch, 1), is the array to train with; as a callback of ``fit`` the schedule writes it anew after
    each epoch, for the next one:

        schedule = rg.ForcingSchedule(T, batch, lambda epoch: max(0.0, 1.0 - epoch / 50))
        data = {"x": x, "y_measured": y, "y_forcing": schedule.forcing}, {"y": y}
        rg.fit(kernel, params, data, epochs=100, callbacks=[schedule])

    ``probability`` gives for epoch 0, 1, ... the probability of a measured value: a function of the epoch or a
    sequence, whose last entry holds on. The paper's decays for epoch i: linear max(e, k - c i), exponential k^i,
    inverse sigmoid k/(k + exp(i/k)). With ``sample`` each step of each sequence is drawn, 1 (measured) or 0 (own);
    without it the gate is the probability itself. One schedule serves one run of ``fit``, with an optimiser that
    takes each epoch's data as they are (SGD, Momentum, Adam): L-BFGS and Levenberg-Marquardt compare losses across
    epochs, so call ``fit`` with them once for each stage. Raises OptionError for what is no probability.
    """

    def __init__(
        self,
        T: int,
        batch: int,
        probability: Callable[[int], float] | Iterable[float],
        *,
        sample: bool = True,
        seed: int = 0,
    ) -> None:
        checks.count("T", T)
        checks.count("batch", batch)
        checks.count("seed", seed, least=0)
        listed = list(probability) if isinstance(probability, Iterable) and not isinstance(probability, str) else []
        if not callable(probability) and not listed:
            raise OptionError(
                "probability", repr(probability), "a function of the epoch, or a sequence of numbers from 0 to 1",
                "give for example [1.0, 0.5, 0.0]",
            )  # fmt: skip
        self.forcing: Array = np.ones((T, batch, 1))
        self._probability = probability if callable(probability) else listed
        self._sample = sample
        self._rng = np.random.default_rng(seed)
        self._write(0)

    def __call__(self, history: History) -> None:
        """Write the array for the epoch that follows."""
        self._write(history.epochs)

    def probability(self, epoch: int) -> float:
        """The probability of a measured value in epoch 0, 1, ..."""
        given = self._probability
        value = given(epoch) if callable(given) else given[min(epoch, len(given) - 1)]
        if isinstance(value, bool) or not isinstance(value, Real) or not 0.0 <= float(value) <= 1.0:
            remedy = "keep it within bounds, for example by max(0.0, ...)"
            raise OptionError(f"probability of epoch {epoch}", repr(value), "a number from 0 to 1", remedy)
        return float(value)

    def _write(self, epoch: int) -> None:
        probability = self.probability(epoch)
        self.forcing[...] = self._rng.random(self.forcing.shape) < probability if self._sample else probability


def forcing_every(steps: int, T: int, batch: int = 1) -> Array:
    """A gate (T, batch, 1) that takes the measured value at t = n, 2n, 3n, ... for n = ``steps``, else the own one.

    Behind a feedback delay of 1, y(n+1) is then a forecast one step ahead, ..., y(2n) one of n steps ahead. Where
    longer delays feed back too, they reach own values between. ``steps`` = 1 is the open loop. ``steps``, ``T`` and
    ``batch`` are ints >= 1; raises OptionError for others.
    """
    for name, value in (("steps", steps), ("T", T), ("batch", batch)):
        checks.count(name, value)
    gate = np.zeros((T, batch, 1))
    gate[steps - 1 :: steps] = 1.0
    return gate
