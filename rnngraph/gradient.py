"""Graph and loss -> System with the gradient, by the chosen learning rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import networkx as nx

from rnngraph.derive import derive
from rnngraph.effective import as_parameters, pull_back
from rnngraph.errors import OptionError, UnsupportedError
from rnngraph.losses import with_loss
from rnngraph.rules import Rule, check_rule
from rnngraph.sensitivity import with_blocks, with_random_sensitivity, with_sensitivities
from rnngraph.system import System
from rnngraph.vjp import WRT, vjp


def gradient(
    graph: nx.MultiDiGraph,
    loss: object = "mse",
    method: str = "bptt",
    wrt: Iterable[str] = ("parameters",),
    **options: int | None,
) -> System:
    """The forward equations, the loss and its gradient by ``method`` as one System.

    ``loss``: a name, an expression in y and target, or {output: name or expression}. ``method``: "bptt"
    (backpropagation through time: Werbos 1990, the vjp of the whole sequence), "tbptt" (truncated: Williams and Peng
    1990, the vjp of windows; every ``k1`` steps the loss of those k1 steps goes back ``k2`` steps) or another rule of
    ``rnngraph.rules``, with its ``options``. ``wrt``: a subset of "parameters", "inputs", "state".
    Raises GraphError for a bad graph, OptionError for an unknown loss, word or option, UnsupportedError for a rule that
    the graph does not allow.
    """
    words = check_wrt(wrt)
    rule = check_rule(method, words, **options)
    return differentiate(with_loss(derive(graph), loss), rule, words)


def differentiate(system: System, rule: Rule, wrt: tuple[str, ...] = ("parameters",)) -> System:
    """A System with a loss, extended by the equations of its gradient by ``rule``."""
    return pull_back(_by_rule(as_parameters(system), rule, wrt), system)


def _by_rule(system: System, rule: Rule, wrt: tuple[str, ...]) -> System:
    """The gradient by every matrix that the equations read."""
    if rule.info.family == "bptt":
        return vjp(system, wrt=wrt)
    if rule.info.family == "windows":
        for name, steps in system.ahead_depths.items():
            raise UnsupportedError(
                "method", f"'tbptt' on a network that reads node {name!r} at t+{steps}",
                "delays >= 0, as a window ends where the future begins", "use method='bptt'",
            )  # fmt: skip
        title = f"gradient, truncated: k1 = {rule.k1}, k2 = {rule.k2}"
        return dataclasses.replace(vjp(system, wrt=wrt), title=title, windows=(rule.k1, rule.k2))
    if rule.name == "uoro":
        return with_random_sensitivity(system, rule)
    if rule.info.family == "sensitivities":
        return with_sensitivities(system, rule)
    assert rule.info.family == "blocks", f"{rule.info.family}: a family of rules without a derivation"
    return with_blocks(system, rule)


def check_wrt(wrt: object) -> tuple[str, ...]:
    """What is differentiated by, as a tuple; raises OptionError for anything but a collection of the known words."""
    words = (wrt,) if isinstance(wrt, str) else tuple(wrt) if isinstance(wrt, Iterable) else (wrt,)
    for word in words or (None,):
        if word not in WRT:
            raise OptionError("wrt", repr(word), f"a subset of {WRT}, one at least", "check the spelling")
    return tuple(str(word) for word in words)
