"""A program: the functions over one parameter layout, and all that a printer needs beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

from codegen.ir import Function, Opaque


@dataclass(frozen=True, slots=True)
class NamedParameter:
    """Where a named parameter lies in the vector: a (part of a) block of ``stride`` columns that starts at
    ``offset``."""

    name: str
    shape: tuple[int, ...]
    offset: int
    stride: int
    rule: str  # the initialisation's name
    scale: float = 1.0  # of what the rule gives

    def places(self) -> NDArray[np.intp]:
        """Where each of its numbers lies in the vector."""
        rows = np.arange(prod(self.shape[:-1])) * self.stride
        return self.offset + (rows[:, None] + np.arange(self.shape[-1])).reshape(-1)


@dataclass(frozen=True)
class Layer:
    """Units that the caller names one by one and that lie side by side: their names, and how many past values each
    keeps."""

    units: tuple[str, ...]
    depths: tuple[int, ...]


@dataclass(frozen=True)
class Checkpoint:
    """Windows of ``steps`` steps, or of the square root of T where that is 0. ``ends``: node -> the name under which
    "window_gradient" is given, among the targets, the adjoint of the state after the window."""

    steps: int
    ends: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Program:
    """All that a printer needs: the functions over one parameter layout, and what the caller gives and gets.

    ``inputs``, ``outputs``: name -> size. ``states``: name -> (depth, size, initial number or parameter name).
    ``losses``: output -> "classes" when its target is integer classes, else "values". ``header``: lines of text (the
    equations).
    ``ahead``: the states that lie after the sequence. ``inner_size``: how many numbers the gradient has behind those of
    the parameters, by effective weights.
    ``layers``: what the caller names as single units; ``drawn`` are then the matrices and vectors that are initialised
    as one, of which ``parameters`` are parts.
    ``rules``: the source text of each initialisation rule that a parameter uses. ``wrt``: what ``loss_and_gradient``
    differentiates by. ``windows``: k1 and k2, where the gradient is that of truncated windows; the functions are then
    "window_loss" and "window_gradient", and "loss_and_gradient" is made of them. So they are where it has
    ``checkpoint``s; "window_gradient" then gives the gradient by the state, too.
    """

    functions: tuple[Function, ...]
    parameters: tuple[NamedParameter, ...]
    vector_size: int
    inputs: dict[str, int]
    outputs: dict[str, int]
    states: dict[str, tuple[int, int, float | str]]
    losses: dict[str, str]
    dtype: str
    title: str
    header: tuple[str, ...]
    rules: dict[str, str]
    wrt: tuple[str, ...] = ("parameters",)
    windows: tuple[int, int] | None = None
    noise_seed: int = 0
    inner_size: int = 0
    ahead: tuple[str, ...] = ()
    checkpoint: Checkpoint | None = None
    layers: Mapping[str, Layer] = field(default_factory=dict)
    drawn: tuple[NamedParameter, ...] = ()

    def order_for(self, other: Program) -> NDArray[np.intp] | None:
        """For each number of the other program's vector, where it lies in this one's; None where both lie alike. Both
        have the same parameters."""
        if self.parameters == other.parameters:
            return None
        order = np.empty(self.vector_size, dtype=np.intp)
        places = {parameter.name: parameter for parameter in self.parameters}
        for parameter in other.parameters:
            order[parameter.places()] = places[parameter.name].places()
        return order

    @cached_property
    def online(self) -> bool:
        """Whether its gradient goes forward in time."""
        return any(isinstance(statement, Opaque) for function in self.functions for statement in function.body)
