"""State of one training run: history, the last good parameters, validation, early stopping, callbacks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rnngraph.errors import DataError, OptionError, TrainingError
from rnngraph.train.batches import Batch, Batches
from rnngraph.train.clipping import global_norm
from rnngraph.train.history import History
from rnngraph.train.optimizers import Update
from rnngraph.train.progress import EpochBar
from rnngraph.train.protocols import Array, TrainableKernel

Callback = Callable[[History], Any]
# numpy's warnings of what ``DivergenceError`` reports
REPORTED: dict[str, Any] = {"over": "ignore", "invalid": "ignore"}


class DivergenceError(TrainingError):
    """A loss, gradient or parameter that is not finite. ``history`` holds the complete epochs before it."""

    def __init__(self, where: str, found: str, expected: str, remedy: str, history: History) -> None:
        super().__init__(where, found, expected, remedy)
        self.history = history

    def __reduce__(self) -> tuple[type[DivergenceError], tuple[object, ...]]:
        return type(self), (self.where, self.found, self.expected, self.remedy, self.history)


class Session:
    """What the loop over mini-batches and the full-batch optimiser share.

    ``good`` is a copy of the last parameters at which loss and gradient were finite; ``restore`` writes it back.
    """

    def __init__(
        self,
        kernel: TrainableKernel,
        params: Any,
        validation: Batches | None,
        patience: int | None,
        callbacks: Sequence[Callback],
        bar: EpochBar,
    ) -> None:
        self.kernel = kernel
        self.params = params
        self.vector = parameter_vector(params)
        self.good = self.vector.copy()
        self.history = History()
        self._validation = validation
        self._patience = patience
        self._callbacks = callbacks
        self._bar = bar
        self._best = self.vector.copy() if patience is not None else None
        self._epoch_started = time.perf_counter()

    def evaluate(self, batch: Batch, where: str) -> tuple[float, Array, float]:
        """Loss, gradient vector and its global norm at the present parameters; raises ``DivergenceError``."""
        with np.errstate(**REPORTED):
            found, grads = self.kernel.loss_and_gradient(
                self.params, batch.inputs, batch.targets, batch.state, batch.weights
            )
            loss = float(found)
        gradient = getattr(grads, "vector", None)
        if gradient is None or gradient.shape != self.vector.shape:
            raise OptionError(
                "kernel",
                "no gradient by the parameters" if gradient is None else f"a gradient of shape {gradient.shape}",
                f"a gradient vector of shape {tuple(self.vector.shape)}",
                'compile the kernel with "parameters" in wrt'
                if gradient is None
                else "train the kernel's own parameters, kernel.init()",
            )
        if not math.isfinite(loss):
            raise self.diverged(where, f"a loss of {loss}")
        norm = global_norm(gradient)
        if not math.isfinite(norm):
            raise self.diverged(where, f"a gradient norm of {norm}")
        return loss, gradient, norm

    def keep(self) -> None:
        """Remember the present parameters as good."""
        self.good[...] = self.vector

    def restore(self) -> None:
        """Go back to the last good parameters."""
        self.vector[...] = self.good

    def step(self, update: Update, gradient: Array) -> None:
        """One update, whole or not at all: an interrupt in its midst takes it back."""
        self.keep()
        try:
            with np.errstate(**REPORTED):
                update(self.vector, gradient)
        except BaseException:
            self.restore()
            raise

    def diverged(self, where: str, found: str) -> DivergenceError:
        """The error to raise; the parameters are back at the last good ones."""
        self.restore()
        self.history.stopped = f"diverged: {found} at {where}"
        return DivergenceError(
            where,
            found,
            "finite values",
            "clip the gradient (clip_norm=1.0) or lower the learning rate, and check the scale of data and initial "
            "parameters; params hold the last values whose loss and gradient were finite",
            self.history,
        )

    def start_epoch(self) -> None:
        """Start the epoch's clock."""
        self._epoch_started = time.perf_counter()

    def end_epoch(self, loss: float, norm: float) -> bool:
        """Validate, record, call the callbacks; True if the run should stop (``history.stopped`` says why)."""
        history = self.history
        where = f"epoch {history.epochs + 1}"
        if not bool(np.isfinite(self.vector).all()):
            raise self.diverged(where, "a parameter that is not finite")
        checked = self._validate(where)
        history.loss.append(loss)
        history.gradient_norm.append(norm)
        if checked is not None:
            history.validation_loss.append(checked)
        history.seconds.append(time.perf_counter() - self._epoch_started)
        self._bar.show(history.epochs, loss, checked)
        if self._best is not None and history.best_epoch == history.epochs:
            self._best[...] = self.vector
        # Every callback hears of every epoch, also of the one in which another asks to stop.
        asked = [callback(history) for callback in self._callbacks]
        if any(bool(answer) for answer in asked):
            history.stopped = "a callback asked to stop"
        elif self._patience is not None and history.epochs - (history.best_epoch or 0) >= self._patience:
            history.stopped = f"no lower validation loss for {self._patience} epochs"
        return bool(history.stopped)

    def finish(self, reason: str) -> History:
        """Restore the best parameters if early stopping is on, and close the history."""
        if self._best is not None and self.history.epochs:
            self.vector[...] = self._best
        self.history.stopped = self.history.stopped or reason
        return self.history

    def _validate(self, where: str) -> float | None:
        if self._validation is None:
            return None
        total = 0.0
        for batch in self._validation.epoch():
            with np.errstate(**REPORTED):
                loss = float(self.kernel.loss(self.params, batch.inputs, batch.targets, batch.state, batch.weights))
            total += loss * (batch.steps / self._validation.steps)
        if not math.isfinite(total):
            raise self.diverged(f"{where}, validation", f"a validation loss of {total}")
        return total


def parameter_vector(params: Any) -> Array:
    """``params.vector``, checked: 1-D, floating, finite. Raises ``DataError``."""
    vector = getattr(params, "vector", None)
    remedy = "train the parameters that kernel.init() returns"
    if vector is None:
        raise DataError(
            "params",
            f"a {type(params).__name__} without .vector",
            "parameters that are views of one vector, which training changes in place",
            f"{remedy}; values of your own go into these: params = kernel.init(), then params.update(values)",
        )
    if vector.ndim != 1 or vector.dtype.kind != "f":
        found = f"a vector of shape {tuple(vector.shape)} and dtype {vector.dtype}"
        raise DataError("params", found, "one axis and a floating dtype", remedy)
    if not bool(np.isfinite(vector).all()):
        raise DataError("params", "a parameter that is NaN or infinite", "finite values", "start from kernel.init()")
    return vector
