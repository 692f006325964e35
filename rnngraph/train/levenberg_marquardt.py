"""Levenberg-Marquardt over the whole data; its linear algebra by scipy (an optional extra, imported on first use).

With all residuals e of the data in one vector and J the derivatives of the outputs, scaled alike (see ``residuals``),
the sum of squares is V = e^T e, and each trial step solves (Hagan and Menhaj 1994, equation 20)

    (J^T J + mu I) delta = J^T e,   theta <- theta + delta.

A step that lowers V is taken and mu divided by ``decrease``; any other is taken back and mu multiplied by ``increase``.
For mu -> 0 this is Gauss-Newton, for a large mu a short step of gradient descent. With a weight decay d, the mean loss
plus (d/2) theta^T theta is minimised instead: with n steps in the data, the residuals -sqrt(n d/2) theta join e.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnngraph.errors import BackendError
from rnngraph.train import checks
from rnngraph.train.batches import Batches
from rnngraph.train.history import History
from rnngraph.train.residuals import DifferentiableKernel, Linearised, Real, check_session, linearise
from rnngraph.train.session import REPORTED, Session


@dataclass(frozen=True)
class LevenbergMarquardt:
    """Damped Gauss-Newton steps on the whole data at once (Levenberg 1944, Marquardt 1963; for networks: Hagan and
    Menhaj 1994). Needs scipy, and a kernel whose loss is "mse" alone.

    One accepted step is one epoch of ``fit``. ``damping`` is the first mu; a step that lowers the loss divides mu by
    ``decrease``, one that does not multiplies it by ``increase``. The run ends when mu exceeds ``largest_damping``: no
    step lowers the loss any more; or when a step's relative decrease of the loss is at most ``loss_tolerance``, or the
    gradient's largest entry at most ``gradient_tolerance``. With ``weight_decay`` d > 0 all this is said of the loss
    plus d/2 times the sum of squares of all parameters, biases too; the history's loss is without it.
    A step costs a Jacobian of all outputs, (T batch units, P) numbers, and a P x P system: for networks of up to some
    hundred parameters. Best with dtype="float64". Raises ``OptionError`` for values out of range.
    """

    damping: float = 1e-2
    increase: float = 10.0
    decrease: float = 10.0
    largest_damping: float = 1e10
    loss_tolerance: float = 0.0
    gradient_tolerance: float = 1e-10
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        checks.positive("damping", self.damping)
        checks.above_one("increase", self.increase)
        checks.above_one("decrease", self.decrease)
        checks.positive("largest_damping", self.largest_damping)
        checks.not_negative("loss_tolerance", self.loss_tolerance)
        checks.not_negative("gradient_tolerance", self.gradient_tolerance)
        checks.not_negative("weight_decay", self.weight_decay)


class _Solver:
    """Solves (J^T J + mu I) delta = J^T e for several mu."""

    def __init__(self, parts: list[Linearised]) -> None:
        try:
            from scipy import linalg
        except ImportError:
            raise BackendError(
                "optimizer LevenbergMarquardt",
                "no usable scipy",
                "scipy",
                "pip install 'rnngraph[scipy]', or train with Adam",
            ) from None
        self._linalg: Any = linalg
        self._parts = parts
        self.right = sum((part.derivatives.T @ part.residuals for part in parts), np.float64(0.0))
        self._normal = sum((part.derivatives.T @ part.derivatives for part in parts), np.float64(0.0))

    def step(self, damping: float) -> Real:
        """By Cholesky; by the singular values of (J; sqrt(mu) I), whose condition is the square root, where rounding
        would leave Cholesky's solution without a digit."""
        size = self.right.size
        matrix = self._normal + damping * np.eye(size)
        try:
            factor = self._linalg.cho_factor(matrix, lower=True, check_finite=False)
        except self._linalg.LinAlgError:
            return self._least_squares(damping, size)
        pivots = np.diag(factor[0])
        if (pivots.min() / pivots.max()) ** 2 < size * np.finfo(np.float64).eps * 1e2:
            return self._least_squares(damping, size)
        solution: Real = self._linalg.cho_solve(factor, self.right, check_finite=False)
        return solution

    def _least_squares(self, damping: float, size: int) -> Real:
        rows = np.concatenate([*(part.derivatives for part in self._parts), math.sqrt(damping) * np.eye(size)])
        errors = np.concatenate([*(part.residuals for part in self._parts), np.zeros(size)])
        solution: Real = self._linalg.lstsq(rows, errors, check_finite=False)[0]
        return solution


def fit_levenberg_marquardt(session: Session, options: LevenbergMarquardt, data: Batches, epochs: int) -> History:
    """Minimise the mean loss over ``data``; one accepted step is one epoch of the history.

    ``history.loss`` is the loss after the step, so without weight decay it falls from epoch to epoch; ``gradient_norm``
    is that of the point that the step left. An error or interrupt leaves the parameters of the last accepted step.
    Raises ``OptionError`` as ``check_session`` does, ``BackendError`` without scipy, ``DivergenceError`` for a loss or
    Jacobian that is not finite at the parameters given.
    """
    kernel, outputs = check_session(session, "LevenbergMarquardt")
    vector, damping = session.vector, options.damping
    loss = _loss(kernel, session, data)
    if not math.isfinite(loss):
        raise session.diverged("iteration 1", f"a loss of {loss}")
    penalised = loss + _penalty(vector, options)
    reason = ""
    try:
        while not reason and session.history.epochs < epochs:
            session.start_epoch()
            solver = _solver(kernel, outputs, session, data, options)
            gradient = -2.0 / data.steps * solver.right
            norm = float(np.linalg.norm(gradient))
            if not math.isfinite(norm):
                raise session.diverged(f"iteration {session.history.epochs + 1}", f"a gradient norm of {norm}")
            if np.abs(gradient).max(initial=0.0) <= options.gradient_tolerance:
                reason = "the gradient is 0 within gradient_tolerance"
                break
            before = penalised
            while damping <= options.largest_damping:
                vector[...] = session.good + solver.step(damping)
                loss = _loss(kernel, session, data)
                penalised = loss + _penalty(vector, options)
                if penalised < before:
                    break
                damping *= options.increase
            else:
                session.restore()
                reason = "no step lowers the loss: the damping exceeds largest_damping"
                break
            damping = max(damping / options.decrease, np.finfo(np.float64).tiny)
            session.keep()
            if session.end_epoch(loss, norm):
                return session.finish("")
            if before - penalised <= options.loss_tolerance * before:
                reason = "the loss's relative decrease is within loss_tolerance"
    except BaseException:
        session.restore()
        raise
    complete = session.history.epochs >= epochs
    return session.finish(f"all {epochs} epochs done" if complete else f"Levenberg-Marquardt ended: {reason}")


def _solver(
    kernel: DifferentiableKernel, outputs: list[str], session: Session, data: Batches, options: LevenbergMarquardt
) -> _Solver:
    with np.errstate(**REPORTED):
        parts = [linearise(kernel, outputs, session.params, batch) for batch in data.epoch()]
    if options.weight_decay:
        root = math.sqrt(data.steps * options.weight_decay / 2.0)
        parameters = np.asarray(session.vector, dtype=np.float64)
        parts.append(Linearised(-root * parameters, root * np.eye(parameters.size)))
    return _Solver(parts)


def _penalty(vector: Real, options: LevenbergMarquardt) -> float:
    parameters = np.asarray(vector, dtype=np.float64)
    return options.weight_decay / 2.0 * float(parameters @ parameters)


def _loss(kernel: DifferentiableKernel, session: Session, data: Batches) -> float:
    """The mean loss over the data; NaN or infinite where the trial point leads nowhere."""
    total = 0.0
    with np.errstate(**REPORTED):
        for batch in data.epoch():
            found = float(kernel.loss(session.params, batch.inputs, batch.targets, batch.state, batch.weights))
            total += found * (batch.steps / data.steps)
    return total
