"""Optimisers: frozen hyper-parameters, and an ``Update`` that owns the state of one training run.

An update changes the parameter vector in place and allocates nothing. It uses in-place operators and numpy's
ufuncs with ``out=`` only; both reach an array of another module (cupy) through ``__array_ufunc__``, so one text
serves CPU and GPU. In the equations theta is the parameter vector, g the gradient, t = 1, 2, ... the update's number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rnngraph.train import checks
from rnngraph.train.protocols import Array


class Update(Protocol):
    """Applies one optimiser step to ``vector`` in place; ``gradient`` has the same shape and is left as it is."""

    def __call__(self, vector: Array, gradient: Array) -> None: ...


class Optimizer(Protocol):
    """Hyper-parameters of a first-order optimiser."""

    def start(self, vector: Array) -> Update:
        """Fresh state for a parameter vector of this size, dtype and device."""
        ...


@dataclass(frozen=True)
class SGD:
    """Gradient descent: theta <- theta - learning_rate g. Raises ``OptionError`` unless learning_rate > 0."""

    learning_rate: float = 1e-2

    def __post_init__(self) -> None:
        checks.positive("learning_rate", self.learning_rate)

    def start(self, vector: Array) -> Update:
        """Fresh state: none but a work array."""
        return _SGDUpdate(self, vector)


class _SGDUpdate:
    def __init__(self, options: SGD, vector: Array) -> None:
        self._rate = float(options.learning_rate)
        self._work = np.zeros_like(vector)

    def __call__(self, vector: Array, gradient: Array) -> None:
        np.multiply(gradient, self._rate, out=self._work)
        vector -= self._work


@dataclass(frozen=True)
class Momentum:
    """Gradient descent with momentum: Polyak (1964), in the form of Sutskever, Martens, Dahl and Hinton (2013).

    v <- momentum v - learning_rate g, theta <- theta + v; with ``nesterov``, theta <- theta + momentum v -
    learning_rate g (theta is the look-ahead point: Bengio, Boulanger-Lewandowski and Pascanu 2013, equation 7).
    Raises ``OptionError`` unless learning_rate > 0 and 0 <= momentum < 1.
    """

    learning_rate: float = 1e-2
    momentum: float = 0.9
    nesterov: bool = False

    def __post_init__(self) -> None:
        checks.positive("learning_rate", self.learning_rate)
        checks.fraction("momentum", self.momentum)

    def start(self, vector: Array) -> Update:
        """Fresh state: the velocity v = 0."""
        return _MomentumUpdate(self, vector)


class _MomentumUpdate:
    def __init__(self, options: Momentum, vector: Array) -> None:
        self._rate = float(options.learning_rate)
        self._momentum = float(options.momentum)
        self._nesterov = options.nesterov
        self._velocity = np.zeros_like(vector)
        self._work = np.zeros_like(vector)

    def __call__(self, vector: Array, gradient: Array) -> None:
        velocity, work = self._velocity, self._work
        np.multiply(gradient, self._rate, out=work)
        velocity *= self._momentum
        velocity -= work
        if self._nesterov:
            vector -= work
            np.multiply(velocity, self._momentum, out=work)
            vector += work
        else:
            vector += velocity


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015, algorithm 1); with ``weight_decay`` > 0 AdamW (Loshchilov and Hutter 2019).

    m <- beta1 m + (1 - beta1) g, v <- beta2 v + (1 - beta2) g^2,
    theta <- theta - learning_rate (m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon) + weight_decay theta).
    The decay reaches every parameter, biases too.
    Raises ``OptionError`` unless learning_rate > 0, 0 <= beta1, beta2 < 1, epsilon > 0 and weight_decay >= 0.
    """

    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        checks.positive("learning_rate", self.learning_rate)
        checks.fraction("beta1", self.beta1)
        checks.fraction("beta2", self.beta2)
        checks.positive("epsilon", self.epsilon)
        checks.not_negative("weight_decay", self.weight_decay)

    def start(self, vector: Array) -> Update:
        """Fresh state: the moments m = v = 0 and t = 0."""
        return _AdamUpdate(self, vector)


class _AdamUpdate:
    def __init__(self, options: Adam, vector: Array) -> None:
        self._rate = float(options.learning_rate)
        self._beta1, self._beta2 = float(options.beta1), float(options.beta2)
        self._epsilon = float(options.epsilon)
        self._decay = float(options.weight_decay)
        self._t = 0
        self._mean = np.zeros_like(vector)
        self._square = np.zeros_like(vector)
        self._work = np.zeros_like(vector)

    def __call__(self, vector: Array, gradient: Array) -> None:
        mean, square, work = self._mean, self._square, self._work
        self._t += 1
        np.multiply(gradient, 1.0 - self._beta1, out=work)
        mean *= self._beta1
        mean += work
        np.multiply(gradient, gradient, out=work)
        work *= 1.0 - self._beta2
        square *= self._beta2
        square += work
        np.divide(square, 1.0 - self._beta2**self._t, out=work)
        np.sqrt(work, out=work)
        work += self._epsilon
        np.divide(mean, work, out=work)
        work *= self._rate / (1.0 - self._beta1**self._t)
        if self._decay:
            vector *= 1.0 - self._rate * self._decay
        vector -= work


@dataclass(frozen=True)
class LBFGS:
    """Limited-memory BFGS on the whole data at once: Byrd, Lu, Nocedal and Zhu (1995), as scipy runs it (needs scipy).

    ``fit``'s ``epochs`` is the largest number of iterations. ``memory`` is the number of past steps that
    approximate the curvature; the run ends when the loss's relative decrease falls below ``loss_tolerance`` or the
    gradient's largest entry below ``gradient_tolerance``; ``line_search_steps`` bounds the evaluations of one
    iteration. Best with dtype="float64". Raises ``OptionError`` for values out of range.
    """

    memory: int = 10
    loss_tolerance: float = 1e-9
    gradient_tolerance: float = 1e-6
    line_search_steps: int = 20

    def __post_init__(self) -> None:
        checks.count("memory", self.memory)
        checks.not_negative("loss_tolerance", self.loss_tolerance)
        checks.not_negative("gradient_tolerance", self.gradient_tolerance)
        checks.count("line_search_steps", self.line_search_steps)
