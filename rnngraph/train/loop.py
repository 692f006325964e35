"""``fit``: the loop over epochs and mini-batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rnngraph.errors import OptionError
from rnngraph.train import checks
from rnngraph.train.batches import Batches
from rnngraph.train.clipping import clip
from rnngraph.train.ekf import EKF, fit_ekf
from rnngraph.train.forcing import ForcingSchedule
from rnngraph.train.history import History
from rnngraph.train.lbfgs import fit_lbfgs
from rnngraph.train.levenberg_marquardt import LevenbergMarquardt, fit_levenberg_marquardt
from rnngraph.train.optimizers import LBFGS, Adam, Optimizer
from rnngraph.train.progress import EpochBar
from rnngraph.train.protocols import TrainableKernel
from rnngraph.train.session import Callback, Session

ADAM = Adam(1e-3)
# Those that run the epochs themselves, and what ``fit`` cannot combine with them.
WHOLE_DATA = ("batch_size", "clip_norm", "clip_value")
REFUSED: dict[type, tuple[str, ...]] = {
    LBFGS: WHOLE_DATA,
    LevenbergMarquardt: WHOLE_DATA,
    EKF: ("clip_norm", "clip_value"),
}


def fit(
    kernel: TrainableKernel,
    params: Any,
    data: object,
    optimizer: Optimizer | LBFGS | LevenbergMarquardt | EKF = ADAM,
    epochs: int = 20,
    *,
    batch_size: int | None = None,
    validation: object | None = None,
    patience: int | None = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    shuffle: bool = True,
    seed: int = 0,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
) -> History:
    """Train ``params`` in place (``params.vector`` and every named view of it) and return what was measured.

    data, validation
        ``(inputs, targets)``, ``(inputs, targets, weights)`` or ``(inputs, targets, weights, state)`` with dicts of
        time-major arrays, inputs (T, batch, size), targets (T, batch, size) or integers (T, batch), weights (T,
        batch) or None, state (depth, batch, size) by node; what ``rnngraph.prepare`` returns; or a list of such
        entries, of any lengths, each one mini-batch. Every sequence starts from its state, each node that this does
        not name from its initial value.
    optimizer
        ``Adam``, ``SGD``, ``Momentum``; ``LBFGS`` and ``LevenbergMarquardt`` take the whole data at each iteration
        (no batch_size, no clipping); ``EKF`` updates at every time step (no clipping). Its state starts afresh at
        every call.
    batch_size
        sequences in a mini-batch, drawn over the batch axis; None: all of them.
    patience
        early stopping: end after so many epochs in a row without a lower validation loss; the parameters of the
        best epoch are restored at the end, early or not. Without ``patience`` the last parameters stay.
    clip_norm, clip_value
        bounds of the gradient's global norm (Pascanu, Mikolov and Bengio 2013) and of its entries; value first,
        then norm.
    shuffle, seed
        draw the mini-batches in a new order every epoch, the same orders for the same seed.
    progress
        a bar on standard error, if that is a terminal.
    callbacks
        each is called with the ``History`` after every epoch; a true answer ends the run.

    Raises ``OptionError`` and ``DataError`` before the first step, and ``DivergenceError`` (a ``TrainingError``, with
    ``.history``) when a loss, gradient or parameter is not finite; ``params`` then hold the last values at which
    loss and gradient were finite. ``KeyboardInterrupt`` and a kernel's or callback's own errors pass through;
    ``params`` then hold the last complete update.
    """
    checks.count("epochs", epochs)
    checks.count("seed", seed, least=0)
    for name, size in (("batch_size", batch_size), ("patience", patience)):
        if size is not None:
            checks.count(name, size)
    for name, bound in (("clip_norm", clip_norm), ("clip_value", clip_value)):
        if bound is not None:
            checks.positive(name, bound)
    if patience is not None and validation is None:
        raise OptionError(
            "patience", f"{patience} without validation data", "validation data", "give validation=(inputs, targets)"
        )
    checks.kernel(kernel)
    if isinstance(optimizer, type):
        name = optimizer.__name__
        raise OptionError("optimizer", f"the class {name}", "an optimiser made from it", f"write {name}()")
    if type(optimizer) not in REFUSED and not callable(getattr(optimizer, "start", None)):
        raise OptionError("optimizer", repr(optimizer), "an optimiser", "give one such as Adam(1e-3)")
    given = {"batch_size": batch_size, "clip_norm": clip_norm, "clip_value": clip_value}
    for name in REFUSED.get(type(optimizer), ()):
        if given[name] is not None:
            found = f"{given[name]} with {type(optimizer).__name__}"
            raise OptionError(name, found, "None", f"leave {name} out, or use Adam")
    called = checks.functions("callbacks", callbacks)
    training = Batches(data, batch_size, shuffle, seed)
    for callback in called:
        if isinstance(callback, ForcingSchedule):
            callback.check(training.inputs())
    checking = None
    if validation is not None:
        one = None if isinstance(validation, list) else batch_size
        checking = Batches(validation, one, shuffle=False, seed=seed, where="validation")

    with EpochBar(epochs, progress) as bar:
        session = Session(kernel, params, checking, patience, called, bar)
        if isinstance(optimizer, LBFGS):
            return fit_lbfgs(session, optimizer, training, epochs)
        if isinstance(optimizer, LevenbergMarquardt):
            return fit_levenberg_marquardt(session, optimizer, training, epochs)
        if isinstance(optimizer, EKF):
            return fit_ekf(session, optimizer, training, epochs)
        update = optimizer.start(session.vector)
        for epoch in range(1, epochs + 1):
            session.start_epoch()
            loss_sum = norm_sum = 0.0
            taken = 0
            for number, batch in enumerate(training.epoch(), start=1):
                loss, gradient, norm = session.evaluate(batch, f"epoch {epoch}, batch {number} of {training.count}")
                clip(gradient, norm, clip_norm, clip_value)
                session.step(update, gradient)
                loss_sum += loss * batch.steps
                norm_sum += norm
                taken += 1
                if number < training.count:
                    bar.show(epoch - 1 + number / training.count, loss)
            if session.end_epoch(loss_sum / training.steps, norm_sum / taken):
                break
        return session.finish(f"all {epochs} epochs done")
