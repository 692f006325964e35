"""Graph and loss -> System with the gradient, by the chosen learning rule."""

from __future__ import annotations

from collections.abc import Iterable

import networkx as nx

from rnngraph.derive import derive
from rnngraph.errors import OptionError, UnsupportedError
from rnngraph.losses import with_loss
from rnngraph.system import System
from rnngraph.vjp import WRT, vjp

METHODS = ("bptt",)
LATER_METHODS = ("tbptt", "rtrl", "focused")


def gradient(
    graph: nx.MultiDiGraph,
    loss: object = "mse",
    method: str = "bptt",
    wrt: Iterable[str] = ("parameters",),
    *,
    k1: int | None = None,
    k2: int | None = None,
) -> System:
    """The forward equations, the loss and its gradient by ``method`` as one System.

    ``loss``: a name, an expression in y and target, or {output: name or expression}. ``method``: "bptt"
    (backpropagation through time: Werbos 1990, the vjp of the whole sequence); ``k1`` and ``k2`` belong to "tbptt",
    which comes in a later version. ``wrt``: a subset of "parameters", "inputs", "state".
    Raises GraphError for a bad graph, OptionError for an unknown loss or word, UnsupportedError for a rule to come.
    """
    check_method(method, k1, k2)
    return vjp(with_loss(derive(graph), loss), wrt=check_wrt(wrt))


def check_wrt(wrt: object) -> tuple[str, ...]:
    """What is differentiated by, as a tuple; raises OptionError for anything but a collection of the known words."""
    words = (wrt,) if isinstance(wrt, str) else tuple(wrt) if isinstance(wrt, Iterable) else (wrt,)
    for word in words or (None,):
        if word not in WRT:
            raise OptionError("wrt", repr(word), f"a subset of {WRT}, one at least", "check the spelling")
    return tuple(str(word) for word in words)


def check_method(method: object, k1: object = None, k2: object = None) -> None:
    """Raise unless ``method`` names a learning rule that this version has, with options that belong to it."""
    if method in LATER_METHODS:
        raise UnsupportedError(
            "method", repr(method), f"one of {METHODS}", "use 'bptt'; the other rules come in a later version"
        )
    if method not in METHODS:
        raise OptionError("method", repr(method), f"one of {METHODS}", "check the spelling")
    if k1 is not None or k2 is not None:
        raise OptionError("k1, k2", f"{k1!r}, {k2!r} with method={method!r}", "none", "they belong to method='tbptt'")
