"""How often training reads measured outputs in place of the network's own: a schedule over epochs, or every n-th step.

Both make the values of the input ``<output>_forcing`` that ``mix_feedback`` adds to a network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from numbers import Real

import numpy as np

from rnngraph.errors import DataError, OptionError
from rnngraph.train import checks
from rnngraph.train.batches import Batch, read_parts
from rnngraph.train.history import History
from rnngraph.train.protocols import Array
from rnngraph.words import nearest


class ForcingSchedule:
    """Scheduled sampling (Bengio et al. 2015): from measured outputs to own outputs, epoch by epoch.

    As a callback of ``fit`` the schedule writes the gate of the data anew after each epoch, for the next one:

        data = rg.prepare({"x": x, "y": y}, rg.mix_feedback(graph))
        schedule = rg.ForcingSchedule.for_data(data, "y_forcing", lambda epoch: max(0.0, 1.0 - epoch / 50))
        rg.fit(kernel, params, data, epochs=100, callbacks=[schedule])

    Without ``for_data``, ``forcing``, (T, batch, 1), is the array to put into the data as it is: ``rnngraph.prepare``
    of a list, ``windows`` and ``pad`` copy what they are given, and a schedule does nothing to a copy. ``fit`` raises
    OptionError for a schedule whose array the training data do not hold.

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
        self.arrays: tuple[Array, ...] = (np.ones((T, batch, 1)),)
        self._lengths: tuple[Array, ...] = (np.full(batch, T),)
        self._probability = probability if callable(probability) else listed
        self._sample = sample
        self._rng = np.random.default_rng(seed)
        self._write(0)

    @classmethod
    def for_data(
        cls,
        data: object,
        name: str,
        probability: Callable[[int], float] | Iterable[float],
        *,
        sample: bool = True,
        seed: int = 0,
    ) -> ForcingSchedule:
        """The schedule of the input ``name`` of training data of any form that ``fit`` takes.

        It writes into the arrays of the data themselves, and into what they are views of, for epoch 0 at once; padding,
        as ``prepare`` and ``windows`` know it, stays 0. Each run of ``fit`` wants a schedule of its own. Raises
        DataError for data without this input and for an array that cannot be written, OptionError as the class does.
        """
        parts = read_parts(data)
        entries = data if isinstance(data, list) else [data]
        # Before the first array is written: the options of the schedule.
        schedule = cls(parts[0].length, parts[0].size, probability, sample=sample, seed=seed)
        lengths = []
        for number, (part, entry) in enumerate(zip(parts, entries, strict=True)):
            where = "data" if not isinstance(data, list) else f"data[{number}]"
            _check_gate(part, name, where)
            # Only what rnngraph.prepare, windows and pad return knows where its padding begins.
            lengths.append(np.array(getattr(entry, "lengths", (part.length,) * part.size)))
        schedule.arrays, schedule._lengths = tuple(part.inputs[name] for part in parts), tuple(lengths)
        schedule._rng = np.random.default_rng(seed)
        schedule._write(0)
        return schedule

    @property
    def forcing(self) -> Array:
        """The array that is written, (T, batch, 1); of a list of data, the first: all are ``arrays``."""
        return self.arrays[0]

    def check(self, inputs: Iterable[Array]) -> None:
        """OptionError where one of the schedule's arrays is not among the inputs of the training data."""
        held = [array for array in inputs if isinstance(array, np.ndarray)]
        for array in self.arrays:
            if not any(np.may_share_memory(array, each) for each in held):
                raise OptionError(
                    "callbacks", "a ForcingSchedule whose array the training data do not hold, as one that was copied",
                    "data with the very array that the schedule writes",
                    "make it for these data: ForcingSchedule.for_data(data, 'y_forcing', probability)",
                )  # fmt: skip

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
        for array, lengths in zip(self.arrays, self._lengths, strict=True):
            array[...] = self._rng.random(array.shape) < probability if self._sample else probability
            array[np.arange(len(array))[:, None] >= lengths] = 0.0


def _check_gate(part: Batch, name: str, where: str) -> None:
    """Raise DataError unless the input is an array of its own that can be written."""
    place = f"{where}: input {name!r}"
    if name not in part.inputs:
        close = nearest(name, part.inputs)
        remedy = f"did you mean {close!r}?" if close else "give the input that mix_feedback added for the gate"
        raise DataError(place, "no such input", f"one of {list(part.inputs)}", remedy)
    array = part.inputs[name]
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f" or not array.flags.writeable or array.shape[2] != 1:
        what = f"a {type(array).__name__} of {array.dtype}, shape {array.shape}"
        what += ", read-only" if isinstance(array, np.ndarray) and not array.flags.writeable else ""
        raise DataError(
            place, what, "a floating array (T, batch, 1) that can be written", "give np.ones((T, batch, 1))"
        )
    for other, each in part.inputs.items():
        if other != name and isinstance(each, np.ndarray) and np.may_share_memory(array, each):
            raise DataError(place, f"the memory of input {other!r}", "an array of its own", "copy one of them")


def forcing_every(steps: int, T: int, batch: int = 1) -> Array:
    """A gate (T, batch, 1) that takes the measured value at t = n, 2n, 3n, ... for n = ``steps``, else the own one.

    Behind a feedback delay of 1, y(n+1) is then a forecast one step ahead, ..., y(2n) one of n steps ahead. Where
    longer delays feed back too, they reach own values between. ``steps`` = 1 is the open loop.
    """
    for name, value in (("steps", steps), ("T", T), ("batch", batch)):
        checks.count(name, value)
    gate = np.zeros((T, batch, 1))
    gate[steps - 1 :: steps] = 1.0
    return gate
