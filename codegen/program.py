"""A program: the functions over one parameter layout, and all that a printer needs beside them."""

from __future__ import annotations

from dataclasses import dataclass

from codegen.ir import Function, Opaque


@dataclass(frozen=True)
class NamedParameter:
    """Where a named parameter lies in the vector: a (part of a) block of ``stride`` columns that starts at
    ``offset``."""

    name: str
    shape: tuple[int, ...]
    offset: int
    stride: int
    rule: str  # the initialisation's name


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

    @property
    def online(self) -> bool:
        """Whether its gradient goes forward in time."""
        return any(isinstance(statement, Opaque) for function in self.functions for statement in function.body)
