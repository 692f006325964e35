"""Training by the extended Kalman filter: the parameters are a state, observed through the outputs.

The system is theta(t) = theta(t-1) + noise of variance q, target(t) = y(t; theta) + noise of variance r. With H the
derivatives dy(t)/dtheta, (M, P), and the innovation xi = target(t) - y(t), each time step does (Singhal and Wu 1989;
Puskorius and Feldkamp 1994, the global form)

    S = H C H^T + R,   K = C H^T S^-1,   theta <- theta + K xi,   C <- C - K H C + q I.

Sequences side by side in a batch are observed together: M counts their outputs (multi-stream training, Feldkamp and
Puskorius 1994). A step of weight w has the noise r / w; one of weight 0 is not observed.

Where the derivatives come from. The kernel's Jacobian over a window that ends with the present block of ``block`` steps
and begins ``reach`` steps before it, from the network's state there, held fixed: derivatives truncated as in Puskorius
and Feldkamp, for every learning rule. Within a block the network is linearised once: the innovation of a later step is
target - y - H (theta - theta at the block's beginning).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnngraph.train import checks
from rnngraph.train.batches import Batch, Batches
from rnngraph.train.history import History
from rnngraph.train.residuals import DifferentiableKernel, Real, check_session, step_weights
from rnngraph.train.session import REPORTED, Session


@dataclass(frozen=True)
class EKF:
    """Extended Kalman filter training, time step by time step (Singhal and Wu 1989; Puskorius and Feldkamp 1994).
    Needs a kernel whose loss is "mse" alone.

    ``process_noise`` is q, the variance that each update adds to every parameter, which keeps the filter awake;
    ``measurement_noise`` is r, the variance of the targets about the outputs; ``covariance`` the variance of the first
    parameters, the diagonal of the first C. ``reach``: how many steps back the derivatives go beyond the block;
    ``block``: steps for one linearisation: 1 is the filter itself, more is faster and less exact. One epoch of ``fit``
    is one pass over the data; C is carried on from sequence to sequence and from epoch to epoch.
    An update costs O(P^2). A linear network without feedback is fitted by recursive least squares exactly.
    Raises ``OptionError`` for values out of range.
    """

    process_noise: float = 1e-6
    measurement_noise: float = 1e-2
    covariance: float = 1.0
    reach: int = 20
    block: int = 1

    def __post_init__(self) -> None:
        checks.not_negative("process_noise", self.process_noise)
        checks.positive("measurement_noise", self.measurement_noise)
        checks.positive("covariance", self.covariance)
        checks.count("reach", self.reach, least=0)
        checks.count("block", self.block)


class KalmanFilter:
    """Estimate and covariance of the parameters, in float64."""

    def __init__(self, vector: Any, options: EKF) -> None:
        self.estimate: Real = vector.astype(np.float64)
        self.covariance: Real = options.covariance * np.eye(vector.size)
        self._process_noise = options.process_noise

    def update(self, innovation: Real, derivatives: Real, noise: Real) -> None:
        """One observation: ``innovation`` (M,), ``derivatives`` (M, P), ``noise`` (M,), the variances."""
        seen = derivatives @ self.covariance  # H C
        # S = L L^T, and with Z = L^-1 H C both updates are products of Z: C stays symmetric.
        factor = np.linalg.cholesky(seen @ derivatives.T + np.diag(noise))
        reduced = np.linalg.solve(factor, np.column_stack((seen, innovation)))
        self.estimate += reduced[:, :-1].T @ reduced[:, -1]
        self.covariance -= reduced[:, :-1].T @ reduced[:, :-1]
        self.covariance.flat[:: len(self.covariance) + 1] += self._process_noise


def fit_ekf(session: Session, options: EKF, data: Batches, epochs: int) -> History:
    """Pass over ``data`` once per epoch; the parameters change at every block.

    ``history.loss`` is the mean over the pass of the squared innovations, each taken before its update, weighted as the
    kernel's loss; ``gradient_norm`` the norm of that mean's gradient. An error or interrupt leaves the parameters of
    the last complete block. Raises ``OptionError`` as ``check_session`` does, ``DivergenceError`` for an output,
    derivative or covariance that is not finite.
    """
    kernel, outputs = check_session(session, "EKF")
    state = KalmanFilter(session.vector, options)
    try:
        for epoch in range(1, epochs + 1):
            session.start_epoch()
            squares, gradient = 0.0, np.zeros(session.vector.size)
            for number, batch in enumerate(data.epoch(), start=1):
                where = f"epoch {epoch}, batch {number} of {data.count}"
                squares += _Stream(kernel, outputs, session, options, state, batch).run(where, gradient)
            norm = float(np.linalg.norm(gradient)) * 2.0 / data.steps
            if session.end_epoch(squares / data.steps, norm):
                return session.finish("")
    except BaseException:
        session.restore()
        raise
    return session.finish(f"all {epochs} epochs done")


class _Stream:
    """One pass over the sequences of one batch, side by side."""

    def __init__(
        self,
        kernel: DifferentiableKernel,
        outputs: list[str],
        session: Session,
        options: EKF,
        state: KalmanFilter,
        batch: Batch,
    ) -> None:
        self._kernel = kernel
        self._outputs = outputs
        self._session = session
        self._options = options
        self._filter = state
        self._batch = batch
        self._weights = step_weights(batch)

    def run(self, where: str, gradient: Real) -> float:
        """The weighted sum of squares over the pass; adds half its negative gradient to ``gradient``."""
        options, length = self._options, self._batch.length
        # The states at the beginnings of the last blocks, oldest first: the window starts at the oldest.
        starts: deque[tuple[int, Any]] = deque(maxlen=1 + -(-options.reach // options.block))
        state: Any = self._batch.state
        squares = 0.0
        for first in range(0, length, options.block):
            last = min(first + options.block, length)
            starts.append((first, state))
            began, began_state = starts[0]
            with np.errstate(**REPORTED):
                squares += self._block(began, first, last, began_state, f"{where}, step {first + 1}", gradient)
                if last < length:
                    _, state = self._kernel.forward(self._session.params, self._inputs(first, last), state)
        return squares

    def _block(self, began: int, first: int, last: int, state: Any, where: str, gradient: Real) -> float:
        session, window = self._session, self._inputs(began, last)
        # The weights that the kernel computes with; the filter's estimate has more digits than a float32 vector.
        origin = session.vector.astype(np.float64)
        found, _ = self._kernel.forward(session.params, window, state)
        derivatives = self._kernel.jacobian(session.params, window, state)
        squares = 0.0
        for t in range(first, last):
            counted = self._weights[t] > 0.0
            if not counted.any():
                continue
            innovation, rows, share, noise = self._observed(t, t - began, found, derivatives, counted)
            innovation = innovation - rows @ (self._filter.estimate - origin)
            squares += float(share @ innovation**2)
            gradient += rows.T @ (share * innovation)
            if not (math.isfinite(squares) and np.isfinite(rows).all()):
                raise session.diverged(where, "an output or derivative that is not finite")
            try:
                self._filter.update(innovation, rows, noise)
            except np.linalg.LinAlgError:
                raise session.diverged(where, "a covariance that is no longer positive") from None
        if not np.isfinite(self._filter.estimate).all():
            raise session.diverged(where, "a parameter that is not finite")
        session.vector[...] = self._filter.estimate
        session.keep()
        return squares

    def _observed(
        self, t: int, row: int, found: Mapping[str, Any], derivatives: Mapping[str, Any], counted: Any
    ) -> tuple[Real, Real, Real, Real]:
        """Innovations (M,), derivatives (M, P), weights in the loss (M,), noise (M,) of step ``t``, ``row`` of the
        window."""
        innovations, rows, shares, noises = [], [], [], []
        for name in self._outputs:
            target = np.asarray(self._batch.targets[name][t], dtype=np.float64)[counted]
            size = target.shape[-1]
            weights = np.repeat(self._weights[t][counted], size)
            innovations.append((target - found[name][row][counted]).ravel())
            part = np.asarray(derivatives[name][row], dtype=np.float64)[counted]
            rows.append(part.reshape(-1, part.shape[-1]))
            shares.append(weights / size)
            noises.append(self._options.measurement_noise / weights)
        return np.concatenate(innovations), np.concatenate(rows), np.concatenate(shares), np.concatenate(noises)

    def _inputs(self, first: int, last: int) -> dict[str, Any]:
        return {name: array[first:last] for name, array in self._batch.inputs.items()}
