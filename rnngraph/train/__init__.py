"""Training: optimisers, gradient clipping, mini-batches, validation, early stopping."""

from __future__ import annotations

from rnngraph.train.history import History
from rnngraph.train.loop import fit
from rnngraph.train.optimizers import LBFGS, SGD, Adam, Momentum, Optimizer
from rnngraph.train.protocols import FlatParameters, TrainableKernel
from rnngraph.train.session import DivergenceError

__all__ = [
    "LBFGS",
    "SGD",
    "Adam",
    "DivergenceError",
    "FlatParameters",
    "History",
    "Momentum",
    "Optimizer",
    "TrainableKernel",
    "fit",
]
