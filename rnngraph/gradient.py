"""Graph and loss -> System with the gradient, by the chosen learning rule."""

from __future__ import annotations

from collections.abc import Iterable

import networkx as nx

from rnngraph.derive import derive
from rnngraph.errors import OptionError, UnsupportedError
from rnngraph.losses import with_loss
from rnngraph.system import System
from rnngraph.vjp import vjp

METHODS = ("bptt",)
LATER_METHODS = ("tbptt", "rtrl", "focused")


def gradient(
    graph: nx.MultiDiGraph, loss: object = "mse", method: str = "bptt", wrt: Iterable[str] = ("parameters",)
) -> System:
    """The forward equations, the loss and its gradient by ``method`` as one System.

    ``loss``: a name, an expression in y and target, or {output: name or expression}. ``method``: "bptt"
    (backpropagation
    through time: Werbos 1990, the vjp of the whole sequence). ``wrt``: a subset of "parameters", "inputs", "state".
    Raises GraphError for a bad graph, OptionError for an unknown loss or word, UnsupportedError for a rule to come.
    """
    check_method(method)
    return vjp(with_loss(derive(graph), loss), wrt=wrt)


def check_method(method: str) -> None:
    """Raise unless ``method`` names a learning rule that this version has."""
    if method in LATER_METHODS:
        raise UnsupportedError(
            "method", repr(method), f"one of {METHODS}", "use 'bptt'; the other rules come in a later version"
        )
    if method not in METHODS:
        raise OptionError("method", repr(method), f"one of {METHODS}", "check the spelling")
