"""The links of a forward System: who reads whom at which delay, and the Jacobian of each read.

The equation v(t) = W^T u(t-d) + g(w(t-e)) has the links u -> v with the Jacobian W^T, and w -> v with diag(dg/dw). A
weighted sum and the value made of it are two signals of one node.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import networkx as nx
import sympy

from rnngraph.derive import derive
from rnngraph.equations import Equation, Expression, Read, meaning, symbols_of
from rnngraph.errors import OptionError, UnsupportedError
from rnngraph.system import System
from rnngraph.words import clip, nearest


@dataclass(frozen=True)
class Link:
    """``destination``(t) reads ``source``(t - ``delay``).

    Its Jacobian, (destination size, source size), is the transpose of the matrix ``parameter`` (a parameter or a
    constant), or, where that is None, diag(``derivative``), a pointwise expression at t. A source of one unit that is
    read by several has the column ``derivative`` instead.
    """

    destination: str
    source: str
    delay: int
    parameter: str | None
    derivative: Expression


@dataclass(frozen=True)
class Network:
    """The links of ``system``, and its signals in an order in which each comes after those it reads at the same t."""

    system: System
    links: tuple[Link, ...]
    order: tuple[str, ...]

    @cached_property
    def into(self) -> Mapping[str, tuple[Link, ...]]:
        """The links into each signal that has an equation."""
        return {
            name: tuple(link for link in self.links if link.destination == name)
            for name in (equation.signal for equation in self.system.equations)
        }

    @cached_property
    def units(self) -> tuple[str, ...]:
        """The nodes that are not inputs."""
        return tuple(name for name, signal in self.system.signals.items() if signal.kind == "unit")

    @cached_property
    def delayed(self) -> Mapping[str, int]:
        """The nodes that are not inputs and are read with a delay, with the longest one: together they are the state
        from which the network runs on."""
        depths = self.system.state_depths
        return {name: depths[name] for name in self.units if name in depths}

    def node(self, signal: str) -> str:
        """The node that a signal belongs to."""
        return self.system.signals[signal].origin or signal

    def size(self, signal: str) -> int:
        """Number of units."""
        return self.system.signals[signal].size

    def check_unit(self, where: str, name: object) -> str:
        """``name`` where it is a node with an equation; raises OptionError else."""
        if isinstance(name, str) and name in self.units:
            return name
        close = nearest(str(name), self.units)
        raise OptionError(
            where, clip(name), f"a node that is no input: {', '.join(map(repr, self.units))}",
            f"did you mean {close!r}?" if close else "name one of these nodes",
        )  # fmt: skip


def network_of(graph: nx.MultiDiGraph) -> Network:
    """The links of ``graph``'s forward equations. Raises GraphError or a subclass for a bad graph."""
    system = derive(graph)
    links = tuple(link for equation in system.equations for link in _links(equation))
    now: nx.DiGraph = nx.DiGraph()
    now.add_nodes_from(system.signals)
    now.add_edges_from((link.source, link.destination) for link in links if link.delay == 0)
    place = {name: position for position, name in enumerate(system.signals)}
    order = nx.lexicographical_topological_sort(now, key=place.__getitem__)
    return Network(system, links, tuple(order))


def _links(equation: Equation) -> list[Link]:
    links: list[Link] = []
    for read in equation.reads():
        if read.delay < 0:
            raise UnsupportedError(
                f"equation of {equation.signal!r}", f"{read.signal!r} at t+{-read.delay}, a look-ahead",
                "delays >= 0, as the flow of gradients is followed into the past", "remove the look-ahead",
            )  # fmt: skip
    for term in equation.terms:
        if term.operator != "dense" or term.transposed:
            raise UnsupportedError(
                f"equation of {equation.signal!r}", f"a term of kind {term.operator!r}", "weighted sums of other nodes",
                "look at the flow of a network whose edges are of the structures that the README lists",
            )  # fmt: skip
        links.append(Link(equation.signal, term.source, term.delay, term.parameter, sympy.S.One))
    for symbol in symbols_of(equation.expression):
        found = meaning(symbol)
        if isinstance(found, Read):
            derivative = sympy.factor_terms(sympy.diff(equation.expression, symbol))
            if derivative != 0:
                links.append(Link(equation.signal, found.signal, found.delay, None, derivative))
    return links
