"""A network as a short listing for the terminal: each node with what it reads."""

from __future__ import annotations

import networkx as nx

from rnngraph.display.text import quoted, shape_text
from rnngraph.model import Edge, EffectiveWeight, Model, Node
from rnngraph.validate import validate


def as_text_drawing(graph: nx.MultiDiGraph) -> str:
    """Each node of ``graph`` with its size, its equation and, indented, what it reads at which time and weight.

    Raises GraphError or a subclass when the graph breaks the contract.
    """
    model = validate(graph)
    titles = [quoted(name) for name in model.nodes]
    width = max((len(title) for title in titles), default=0)
    lines: list[str] = []
    for title, node in zip(titles, model.nodes.values(), strict=True):
        lines.append(f"{title:<{width}}  {describe(node)}")
        edges = [edge for edge in model.edges if edge.destination == node.name]
        incoming = [(read_text(edge), weight_text(edge, model)) for edge in edges]
        reads = max((len(read) for read, _ in incoming), default=0)
        lines += [f"{'':<{width}}    <- {read:<{reads}}  {weight}".rstrip() for read, weight in incoming]
        if node.bias is not None:
            lines.append(f"{'':<{width}}    + {quoted(node.bias)} ({shape_text(model.parameters[node.bias])})")
    return "\n".join(lines)


def describe(node: Node) -> str:
    """Kind, size, equation and initial value of a node."""
    units = f"{node.size} unit{'' if node.size == 1 else 's'}"
    parts = [units] if node.kind == "unit" else [node.kind, units]
    if node.equation is not None:
        parts.append("weighted sum" if str(node.equation) == "s" else str(node.equation))
    if isinstance(node.initial, str):
        parts.append(f"starts at {quoted(node.initial)} (learned)")
    elif node.initial:
        parts.append(f"starts at {node.initial:g}")
    return ", ".join(parts)


def read_text(edge: Edge) -> str:
    """What an edge reads: its source at t, t-1, ..."""
    return f"{quoted(edge.source)}({time_text(edge.delay)})"


def time_text(delay: int) -> str:
    """The time that a delay reads."""
    return "t" if delay == 0 else f"t-{delay}" if delay > 0 else f"t+{-delay}"


def weight_text(edge: Edge, model: Model) -> str:
    """How an edge enters its destination: structure, weight and shape, or the port."""
    if edge.port != "s":
        return f"as {edge.port}"
    if edge.parameter is None:
        return edge.structure
    shapes = {**{name: value.shape for name, value in model.constants.items()}, **model.parameters}
    for weight in model.weights:
        for name in weight.slices or (weight.name,):
            if name == edge.parameter:
                return f"{edge.structure} {quoted(name)} ({shape_text(weight.shape)}) = {_made_of(weight, edge.delay)}"
    return f"{edge.structure} {quoted(edge.parameter)} ({shape_text(shapes[edge.parameter])})"


def _made_of(weight: EffectiveWeight, delay: int) -> str:
    """What the effective weight of a delay is made of: parameters, a mask, the softmax over delays."""
    parts = [] if weight.expression == 1 else [str(weight.expression)]
    if weight.mask is not None:
        parts += ["mask"] if not weight.slices or weight.logits is not None else []
    if weight.logits is not None:
        parts.append(f"softmax({quoted(weight.logits)})[{delay}]")
    where = f" where the delay is {delay}" if weight.mask is not None and weight.slices and not weight.logits else ""
    return " * ".join(parts) + where
