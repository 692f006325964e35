"""A recurrent network unrolled over k steps: a feedforward network without delays, whose weights are shared over time.

The unit a becomes "a@1" ... "a@k", one copy for each step, and every copy has the parameters of a. What an edge reads
outside of 1..k is the state: an input of its own, or the initial value of its source.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import networkx as nx
import numpy as np
import sympy

from rnngraph.errors import GraphError, OptionError
from rnngraph.evaluate import evaluate_expression, numpy_functions
from rnngraph.model import Expression, Model
from rnngraph.transform.delays import SUM, Connection, build, port_of, single_delays
from rnngraph.validate import validate
from rnngraph.words import clip

STATES = ("initial", "inputs")


def unfold(graph: nx.MultiDiGraph, steps: int, *, state: str = "initial") -> nx.MultiDiGraph:
    """The network unrolled over ``steps`` time steps into one without delays: backpropagation through time as it is.

    Nodes "<node>@<t>", t = 1..steps, of the node's kind; parameters keep their names and are shared over time. Give the
    kernel of the new graph sequences of one step: ``{"x@1": x[:1], "x@2": x[1:2], ...}``. The loss of an output is a
    mean over time, so the sum of the losses of "y@1" ... "y@k" is k times the loss of y. Copies that no output reads
    are left out, and with them parameters that no value in 1..steps depends on.

    ``state="inputs"``: each value read before t = 1 is an input, "a@0", "a@-1" and so on. ``state="initial"``: an input
    reads as 0 there and a unit as its ``initial``; a learned one is the unit "a@0", whose bias is that parameter.
    A number other than 0 is written into the equations that read it; a weight or a matrix applied to it is refused,
    since the contract has no node of a constant value, as is an output that no input reaches.

    Raises GraphError or a subclass for a graph that breaks the contract and for what is refused, OptionError for
    ``steps`` or ``state`` out of range, UnsupportedError for a learned delay (``rg.harden`` makes it plain).
    (Rumelhart, Hinton and Williams 1986 unfold a network in this way.)
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise OptionError("steps", clip(steps), "an int >= 1", "give the number of time steps")
    if state not in STATES:
        raise OptionError("state", clip(state), f"one of {', '.join(STATES)}", "choose where values before t = 1 are")
    unrolled = _Unrolled(validate(graph), single_delays(graph), steps, state)
    unrolled.run()
    return unrolled.reading_nothing_idle()


@dataclass
class _Unrolled:
    """The unrolled network while it is built."""

    model: Model
    single: nx.MultiDiGraph
    steps: int
    state: str
    result: nx.MultiDiGraph = field(default_factory=nx.MultiDiGraph)
    constants: dict[str, Expression] = field(default_factory=dict)  # copies that are a number

    def run(self) -> None:
        order: nx.DiGraph = nx.DiGraph()
        order.add_nodes_from((node, t) for t in range(1, self.steps + 1) for node in self.single)
        for t in range(1, self.steps + 1):
            for source, node, data in self.single.edges(data=True):
                if 1 <= t - data["delay"] <= self.steps:
                    order.add_edge((source, t - data["delay"]), (node, t))
        position = {place: k for k, place in enumerate(order)}
        for node, t in nx.lexicographical_topological_sort(order, key=position.__getitem__):
            self._copy(node, t)

    def reading_nothing_idle(self) -> nx.MultiDiGraph:
        """The copies that reach an output, in the order of time."""
        outputs = [node for node, data in self.result.nodes(data=True) if data.get("kind") == "output"]
        missing = [
            f"{node}@{t}" for t in range(1, self.steps + 1) for node, data in self.single.nodes(data=True)
            if data.get("kind") == "output" and not self._is_reached(f"{node}@{t}")
        ]  # fmt: skip
        if missing:
            raise GraphError(
                f"output {missing[0]!r}",
                "no input of t >= 1 that reaches it",
                "an input that reaches every output, in the unfolded network too",
                "unfold it with state='inputs', so that values before t = 1 are inputs",
            )
        used = set(outputs).union(*(nx.ancestors(self.result, output) for output in outputs))
        kept = [node for node in self.result if node in used]
        edges = [edge for edge in self.result.edges(data=True) if edge[0] in used and edge[1] in used]
        return build(self.result, kept, edges)

    def _is_reached(self, name: str) -> bool:
        sources = {name, *nx.ancestors(self.result, name)} if name in self.result else set()
        return any(self.result.nodes[source].get("kind") == "input" for source in sources)

    def _copy(self, node: Hashable, t: int) -> None:
        """The copy of ``node`` at time t, with what it reads; or its value, where that is a number."""
        name, data = f"{node}@{t}", dict(self.single.nodes[node])
        data.pop("initial", None)
        if data.get("kind") == "input":
            self.result.add_node(name, **data)
            return
        equation: Expression = self.model.nodes[str(node)].equation
        edges: list[Connection] = []
        numbers: dict[Expression, Expression] = {}  # a port -> the number that it reads
        total: Expression = sympy.S.Zero  # the part of the weighted sum that is a number
        for source, _, read in self.single.in_edges(node, data=True):
            earlier = self._value(source, t - read["delay"])
            attributes = {key: value for key, value in read.items() if key != "delay"}
            port = port_of(read)
            if isinstance(earlier, str):
                edges.append((earlier, name, attributes))
            elif port != SUM:
                numbers[port] = earlier
            elif read.get("structure") == "identity":
                total += earlier
            elif earlier != 0:
                raise self._refused(source, node, t, earlier)
        weighted = any(port_of(read) == SUM for _, _, read in edges) or data.get("bias") not in (
            None,
            False,
        )
        numbers[SUM] = SUM + total if weighted else total
        changed = equation.xreplace(numbers)
        if not changed.free_symbols:
            self.constants[name] = self._number(changed, name)
            return
        if changed != equation:
            data.pop("activation", None)
            data["equation"] = changed
        if SUM not in changed.free_symbols:
            data["bias"] = False
        self.result.add_node(name, **data)
        for source, _, read in edges:
            if port_of(read) in changed.free_symbols:
                self.result.add_edge(source, name, **read)

    def _value(self, node: Hashable, t: int) -> Any:
        """The name of the copy that holds ``node`` at time t, or its value where that is a number."""
        name, checked = f"{node}@{t}", self.model.nodes[str(node)]
        if 1 <= t <= self.steps:
            return self.constants.get(name, name)
        if self.state == "inputs":
            self.result.add_node(name, kind="input", size=checked.size)
            return name
        if isinstance(checked.initial, str):
            name = f"{node}@0"
            self.result.add_node(name, size=checked.size, bias=checked.initial)
            return name
        return sympy.Rational(checked.initial)

    def _number(self, expression: Expression, name: str) -> Expression:
        """The value of an equation that is left without any name."""
        with np.errstate(all="ignore"):
            value = float(evaluate_expression(expression, {}, numpy_functions()))
        if not math.isfinite(value):
            raise GraphError(
                f"node {name!r}",
                f"the value {value} of its equation where its state is not given",
                "a finite value",
                "unfold it with state='inputs', or set another initial value",
            )
        return sympy.Rational(value)

    def _refused(self, source: Hashable, node: Hashable, t: int, value: Expression) -> GraphError:
        return GraphError(
            f"edge {str(source)!r} -> {str(node)!r} at t = {t}",
            f"a weight on a value of {float(value):g} that does not depend on the data",
            "such values at t <= 0 that are 0, learned, or read without a weight",
            f"unfold it with state='inputs', or set initial='parameter' on node {str(source)!r}",
        )
