"""L-BFGS over the whole data, run by scipy (an optional extra; imported here and nowhere else)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rnngraph.errors import BackendError, OptionError
from rnngraph.train.batches import Batches
from rnngraph.train.history import History
from rnngraph.train.optimizers import LBFGS
from rnngraph.train.session import Session


class _StopRequest(Exception):  # noqa: N818 - a signal through scipy's loop, not an error
    """An epoch's end asked to stop."""


def fit_lbfgs(session: Session, options: LBFGS, data: Batches, epochs: int) -> History:
    """Minimise the mean loss over ``data``; one iteration is one epoch of the history.

    An error or interrupt leaves the parameters of the last complete iteration. Raises ``OptionError`` for
    parameters that are no numpy array, ``BackendError`` without scipy, ``DivergenceError`` for a loss or gradient
    that is not finite.
    """
    try:
        from scipy.optimize import minimize  # on first use: importing it takes longer than importing all the rest
    except ImportError:
        raise BackendError(
            "optimizer LBFGS", "no usable scipy", "scipy", "pip install 'rnngraph[scipy]', or train with Adam"
        ) from None
    vector = session.vector
    if not isinstance(vector, np.ndarray):
        raise OptionError(
            "optimizer",
            f"LBFGS with parameters as {type(vector).__name__}",
            "a numpy vector",
            "use Adam, or backend='numpy'",
        )
    batches = list(data.epoch())
    # The last evaluation: point, loss, gradient norm. An accepted point is nearly always the last one evaluated.
    last: tuple[NDArray[np.float64], float, float] | None = None

    def objective(point: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        nonlocal last
        vector[...] = point
        total, gradient = 0.0, np.zeros(vector.shape)
        for batch in batches:
            share = batch.steps / data.steps
            loss, part, _ = session.evaluate(batch, f"iteration {session.history.epochs + 1}")
            total += share * loss
            gradient += share * np.asarray(part, dtype=np.float64)
        last = (point.copy(), total, float(np.linalg.norm(gradient)))
        return total, gradient

    def accepted(point: NDArray[np.float64]) -> None:
        if last is None or not np.array_equal(last[0], point):
            objective(point)
        assert last is not None
        vector[...] = point
        session.keep()
        if session.end_epoch(last[1], last[2]):
            raise _StopRequest
        session.start_epoch()

    session.start_epoch()
    try:
        result = minimize(
            objective,
            vector.astype(np.float64),
            jac=True,
            method="L-BFGS-B",
            callback=accepted,
            options={
                "maxiter": epochs,
                "maxcor": options.memory,
                "ftol": options.loss_tolerance,
                "gtol": options.gradient_tolerance,
                "maxls": options.line_search_steps,
                "maxfun": 1 + epochs * (options.line_search_steps + 1),
            },
        )
    except _StopRequest:
        return session.finish("")
    except BaseException:
        session.restore()
        raise
    vector[...] = result.x
    complete = session.history.epochs >= epochs
    return session.finish(f"all {epochs} epochs done" if complete else f"L-BFGS ended: {result.message}")
