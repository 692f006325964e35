"""Model -> System: the forward equations of a network, in the chapter's notation.

A node a with a weighted sum gives two equations, s_a(t) = W^T x(t) + R^T a(t-1) + b_a and a(t) = f(s_a(t));
a node whose equation is the weighted sum itself (identity) gives one.
"""

from __future__ import annotations

from collections.abc import Mapping

import networkx as nx
import sympy

from rnngraph.equations import (
    Equation,
    Signal,
    Term,
    Weight,
    at,
    fresh_name,
    parameter,
)
from rnngraph.model import Edge, EffectiveWeight, Expression, Model, Node
from rnngraph.system import System
from rnngraph.validate import validate

WEIGHTED_SUM = sympy.Symbol("s", real=True)


def derive(graph: nx.MultiDiGraph) -> System:
    """The forward equations of ``graph`` as a System. Raises GraphError or a subclass when the graph breaks the
    contract."""
    return derive_model(validate(graph))


def derive_model(model: Model, layers: Mapping[str, tuple[str, ...]] | None = None) -> System:
    """The forward equations of a checked network; ``layers`` has the units of nodes that were declared one by one."""
    signals: dict[str, Signal] = {}
    equations: list[Equation] = []
    incoming: dict[str, list[Edge]] = {name: [] for name in model.nodes}
    for edge in model.edges:
        incoming[edge.destination].append(edge)
    for node in model.nodes.values():
        kind = "input" if node.kind == "input" else "unit"
        signals[node.name] = Signal(node.name, node.size, kind, node.name, node.initial)
    for node in model.nodes.values():
        if node.equation is None:
            continue
        terms, pointwise = _weighted_sum(node, incoming[node.name])
        ports = {
            sympy.Symbol(edge.port, real=True): at(edge.source, edge.delay)
            for edge in incoming[node.name]
            if edge.port != "s"
        }
        has_sum = bool(terms) or pointwise != 0
        if node.equation == WEIGHTED_SUM:
            equations.append(Equation(node.name, terms, pointwise))
        elif not has_sum:
            equations.append(Equation(node.name, (), node.equation.xreplace(ports)))
        else:
            name = fresh_name(f"s_{node.name}", {**signals, **model.nodes})
            signals[name] = Signal(name, node.size, "sum", node.name)
            equations.append(Equation(name, terms, pointwise))
            equations.append(Equation(node.name, (), node.equation.xreplace({**ports, WEIGHTED_SUM: at(name)})))
    return System(
        title="forward",
        signals=signals,
        parameters=dict(model.parameters),
        constants=dict(model.constants),
        weights=tuple(weight for effective in model.weights for weight in effective_weight(effective, model)),
        equations=tuple(equations),
        outputs=tuple(node.name for node in model.outputs),
        state_depths=dict(model.depths),
        ahead_depths=dict(model.ahead_depths),
        ahead_names=model.ahead_names(),
        layers=dict(layers or {}),
        forget_biases=frozenset(node.bias for node in model.nodes.values() if node.forget_gate and node.bias),
    )


def effective_weight(effective: EffectiveWeight, model: Model) -> list[Weight]:
    """The weights of one edge as equations without time: the softmax over its delays, then expression, mask and
    softmax multiplied."""
    count = len(effective.slices)
    shape = (count, *effective.shape) if count else effective.shape
    factors = [effective.expression.xreplace({s: parameter(s.name) for s in effective.expression.free_symbols})]
    weights = []
    if effective.logits is not None:
        name = f"p_{effective.name.removesuffix('_by_delay')}"
        taken = {*model.parameters, *model.constants}.union(*((each.name, *each.slices) for each in model.weights))
        name = fresh_name(name, taken)
        logits = parameter(effective.logits) / sympy.Rational(repr(effective.temperature))
        weights.append(Weight(name, tuple(model.parameters[effective.logits]), logits, "softmax"))
        factors.append(parameter(name))
    if effective.mask is not None:
        factors.append(parameter(effective.mask))
    return [*weights, Weight(effective.name, shape, sympy.Mul(*factors), slices=effective.slices)]


def _weighted_sum(node: Node, incoming: list[Edge]) -> tuple[tuple[Term, ...], Expression]:
    """The node's weighted sum: dense, sparse and fixed edges as terms; diagonal, identity and bias as summands."""
    terms: list[Term] = []
    pointwise: Expression = sympy.S.Zero
    for edge in incoming:
        if edge.port != "s":
            continue
        if edge.structure == "identity":
            pointwise += at(edge.source, edge.delay)
        elif edge.structure == "diagonal":
            assert edge.parameter is not None
            pointwise += parameter(edge.parameter) * at(edge.source, edge.delay)
        elif edge.pattern is not None:
            terms.append(Term("sparse", edge.source, 0, edge.parameter, pattern=edge.pattern))
        else:
            terms.append(Term("dense", edge.source, edge.delay, edge.parameter))
    if node.bias is not None:
        pointwise += parameter(node.bias)
    return tuple(terms), pointwise
