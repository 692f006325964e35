"""Norm and clipping of a gradient vector, in place; for numpy and for arrays that answer its ufuncs (cupy)."""

from __future__ import annotations

import math

import numpy as np

from rnngraph.train.protocols import Array


def global_norm(gradient: Array) -> float:
    """Euclidean norm over all parameters; inf or NaN only if an entry is.

    The plain sum of squares leaves float32 beyond 1.8e19 and below 1e-23; there the vector is scaled by its
    largest entry.
    """
    with np.errstate(over="ignore"):
        squared = float(gradient.dot(gradient))
    if math.isfinite(squared) and squared > 1e-30:
        return math.sqrt(squared)
    largest = float(abs(gradient).max()) if gradient.size else 0.0
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    scaled = gradient / largest
    return largest * math.sqrt(float(scaled.dot(scaled)))


def clip_by_value(gradient: Array, limit: float) -> None:
    """Cut every entry to [-limit, limit]."""
    np.minimum(gradient, limit, out=gradient)
    np.maximum(gradient, -limit, out=gradient)


def clip_by_norm(gradient: Array, limit: float, norm: float) -> None:
    """Scale the gradient of global norm ``norm`` down to ``limit``: Pascanu et al. (2013), algorithm 1."""
    if norm > limit:
        gradient *= limit / norm


def clip(gradient: Array, norm: float, clip_norm: float | None, clip_value: float | None) -> None:
    """Clip by value, then by norm: so both bounds hold. ``norm`` is the gradient's global norm."""
    if clip_value is not None:
        clip_by_value(gradient, clip_value)
        if clip_norm is not None:
            norm = global_norm(gradient)
    if clip_norm is not None:
        clip_by_norm(gradient, clip_norm, norm)
