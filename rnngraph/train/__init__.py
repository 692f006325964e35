"""Training: optimisers, gradient clipping, mini-batches, validation, early stopping."""

from __future__ import annotations

from rnngraph.train.ekf import EKF
from rnngraph.train.forcing import ForcingSchedule, forcing_every
from rnngraph.train.history import History
from rnngraph.train.levenberg_marquardt import LevenbergMarquardt
from rnngraph.train.loop import fit
from rnngraph.train.optimizers import LBFGS, SGD, Adam, Momentum, Optimizer
from rnngraph.train.protocols import FlatParameters, TrainableKernel
from rnngraph.train.session import DivergenceError

__all__ = [
    "EKF",
    "LBFGS",
    "SGD",
    "Adam",
    "DivergenceError",
    "FlatParameters",
    "ForcingSchedule",
    "History",
    "LevenbergMarquardt",
    "Momentum",
    "Optimizer",
    "TrainableKernel",
    "fit",
    "forcing_every",
]
