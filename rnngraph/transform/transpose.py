"""The adjoint network: every edge turned round, every weight transposed. It runs in reversed time.

Where a network computes v(t) for each node v, the adjoint network computes delta_v(t) = dL/dv(t) from dL/dy(t) of the
outputs: step 1 of its run is t = T. It is backpropagation through time drawn as a network (Werbos 1990); for linear
networks it is the transposed network of signal processing.
"""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import sympy

from rnngraph.equations import fresh_name
from rnngraph.model import Expression, Model
from rnngraph.transform.arrays import Arrays, read_parameters, returned
from rnngraph.transform.delays import SUM, build, port_of, rename_weight, single_delays
from rnngraph.validate import validate


def transpose(graph: nx.MultiDiGraph, params: Arrays | None = None) -> Any:
    """The adjoint network of ``graph``: edges turned round, weights transposed, delays kept; time runs backward.

    Inputs: "delta_<output>", the derivative of a loss by that output, (T, batch, size), last step first; where the
    output feeds other nodes, too, "dL_d<output>" enters the node "delta_<output>". Outputs: "delta_<input>", the
    derivative by that input, last step first. A weight W of shape (m, n) is the parameter "W_T" of shape (n, m);
    diagonal weights keep their names; biases and initial values have no part in it.

    A node whose equation is linear in s and in its ports, as that of any linear network, runs as it is. What else
    depends on the forward pass, d<node>/ds or d<node>/d<port>, is an input "d<node>_d<port>" of the node's size: the
    factor at each step, last step first. With no such input the adjoint network is that of a linear network, and
    <y, u> = <x, x'> for the outputs y on inputs x (without biases and initial values) and its outputs x' on inputs u.

    Returns the graph; (graph, params) where ``params``, those of ``graph``, are given. Nodes that no input of ``graph``
    reaches are left out. Raises GraphError or a subclass for a graph that breaks the contract, DataError for parameters
    that do not fit it, UnsupportedError for a learned delay (``rg.harden`` makes it plain).
    """
    model = validate(graph)
    adjoint = _Adjoint(model, single_delays(graph))
    adjoint.run()
    values = read_parameters(model, params)
    result = _reaching_outputs(adjoint.result)
    if values is not None:
        left = validate(result).parameters
        values = {name: values[source].T.copy() for name, source in adjoint.parameters.items() if name in left}
    return returned(result, values, None, (params, None))


def _reaching_outputs(graph: nx.MultiDiGraph) -> nx.MultiDiGraph:
    outputs = [node for node, kind in graph.nodes(data="kind") if kind == "output"]
    used = set(outputs).union(*(nx.ancestors(graph, output) for output in outputs))
    edges = [edge for edge in graph.edges(data=True) if edge[0] in used and edge[1] in used]
    return build(graph, [node for node in graph if node in used], edges)


class _Adjoint:
    """The adjoint network while it is built."""

    def __init__(self, model: Model, single: nx.MultiDiGraph) -> None:
        self.model, self.single = model, single
        self.result: nx.MultiDiGraph = nx.MultiDiGraph(**single.graph)
        self.parameters: dict[str, str] = {}  # a parameter of the adjoint network -> that which it is the transpose of
        self.deltas = self._named({name: f"delta_{name}" for name in model.nodes})

    def run(self) -> None:
        for node in self.single:
            self._add_delta(str(node))
        for name, checked in self.model.nodes.items():
            if checked.kind != "input":
                self._add_factors(name)

    def _named(self, wanted: dict[str, str]) -> dict[str, str]:
        taken: set[str] = set()
        names: dict[str, str] = {}
        for key, name in wanted.items():
            names[key] = fresh_name(name, taken)
            taken.add(names[key])
        return names

    def _add(self, wanted: str, **attributes: Any) -> str:
        name = fresh_name(wanted, {*self.result, *self.deltas.values()})
        self.result.add_node(name, **attributes)
        return name

    def _add_delta(self, name: str) -> None:
        """The node delta_<name>: the sum of what its readers send back, and of the loss's own derivative."""
        checked, delta = self.model.nodes[name], self.deltas[name]
        read = any(str(source) == name for source, _ in self.single.out_edges())
        if checked.kind == "output" and not read:
            self.result.add_node(delta, kind="input", size=checked.size)
            return
        self.result.add_node(delta, kind="output" if checked.kind == "input" else "unit", size=checked.size, bias=False)
        if checked.kind == "output":
            loss = self._add(f"dL_d{name}", kind="input", size=checked.size)
            self.result.add_edge(loss, delta, structure="identity")

    def _add_factors(self, name: str) -> None:
        """What delta_<name> sends back through each port of its node's equation, and from there along each edge."""
        checked = self.model.nodes[name]
        equation: Expression = checked.equation
        sent: dict[Expression, str] = {}
        for source, node, data in self.single.edges(data=True):
            if str(node) != name:
                continue
            port = port_of(data)
            if port not in sent:
                sent[port] = self._factor(name, port, sympy.diff(equation, port))
            self._turn_round(str(source), name, data, sent[port])

    def _factor(self, name: str, port: Expression, derivative: Expression) -> str:
        """The node whose value is ``derivative`` times delta_<name>."""
        size, delta = self.model.nodes[name].size, self.deltas[name]
        if derivative == 1:
            return delta
        if not derivative.free_symbols:
            node = self._add(f"delta_{port}_{name}", size=size, bias=False, equation=derivative * SUM)
            self.result.add_edge(delta, node, structure="identity")
            return node
        node = self._add(f"delta_{port}_{name}", size=size, equation="factor * delta")
        factor = self._add(f"d{name}_d{port}", kind="input", size=size)
        self.result.add_edge(delta, node, port="delta")
        self.result.add_edge(factor, node, port="factor")
        return node

    def _turn_round(self, source: str, destination: str, data: dict[str, Any], sender: str) -> None:
        """The edge back to delta_<source>."""
        sizes = self.model.nodes[source].size, self.model.nodes[destination].size
        attributes: dict[str, Any] = {"delay": data["delay"]}
        structure = data.get("structure") or "dense"
        if port_of(data) != SUM and sizes[0] != sizes[1]:  # one unit is read by many: their deltas are added
            attributes |= {"structure": "fixed", "value": np.ones(sizes[::-1])}
        elif port_of(data) != SUM or structure == "identity":
            attributes["structure"] = "identity"
        elif structure == "fixed":
            attributes |= {"structure": "fixed", "value": data["value"].T}
        else:
            rename = self._kept if structure == "diagonal" else self._transposed
            kept = {key: data[key] for key in ("parameter", "expression") if data.get(key) is not None}
            attributes |= {"structure": structure, **rename_weight(kept, rename)}
            if structure == "masked":
                attributes["mask"] = np.asarray(data["mask"]).T
        self.result.add_edge(sender, self.deltas[source], **attributes)

    def _transposed(self, name: str) -> str:
        transposed = fresh_name(name + "_T", self.model.parameters)
        self.parameters[transposed] = name
        return transposed

    def _kept(self, name: str) -> str:
        self.parameters[name] = name
        return name
