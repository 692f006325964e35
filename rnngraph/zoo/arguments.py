"""Checks of arguments and pieces of graphs that the builders of the zoo share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import networkx as nx

from rnngraph.errors import GraphError


def check_size(where: str, value: Any, least: int = 1, remedy: str = "") -> int:
    """``value`` as a plain int; GraphError names the argument ``where`` if it is none or below ``least``."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or int(value) < least:
        raise GraphError(
            f"argument {where}", repr(value), f"an int >= {least}", remedy or f"give {where} as an int >= {least}"
        )
    return int(value)


def check_sizes(sizes: Any) -> tuple[int, ...]:
    """At least two sizes as plain ints."""
    if not isinstance(sizes, Sequence) or isinstance(sizes, str) or len(sizes) < 2:
        raise GraphError("argument sizes", repr(sizes), "at least two sizes", "give (inputs, hidden..., outputs)")
    return tuple(check_size(f"sizes[{k}]", size) for k, size in enumerate(sizes))


def check_delays(where: str, entry: Any, least: int = 0, remedy: str = "") -> list[int]:
    """A list of distinct delays of at least ``least``; an int N stands for ``least``..N."""
    if isinstance(entry, Iterable) and not isinstance(entry, str):
        delays = list(entry)
    else:
        delays = list(range(least, check_size(where, entry, least, remedy) + 1))
    valid = all(hasattr(d, "__index__") and not isinstance(d, bool) and d >= least for d in delays)
    if not delays or not valid or len(set(delays)) != len(delays):
        raise GraphError(
            f"argument {where}", repr(entry), f"distinct ints >= {least}",
            f"give a list such as {list(range(least, 3))}, or 2 for {least}..2",
        )  # fmt: skip
    return [int(d) for d in delays]


def feedback_source(graph: nx.MultiDiGraph, size: int, loop: Any) -> str:
    """What the output "y" feeds back: itself in a "closed" loop, a new input "y_measured" in an "open" one.

    The graph's own data then say which input stands for which output, as ``rnngraph.close_loop`` reads it.
    """
    if loop not in ("open", "closed"):
        raise GraphError("argument loop", repr(loop), "'open' or 'closed'", "train with 'open', run free with 'closed'")
    if loop == "closed":
        return "y"
    graph.add_node("y_measured", kind="input", size=size)
    graph.graph["feedback"] = {"y_measured": "y"}
    return "y_measured"


def function_attribute(where: str, text: Any) -> dict[str, str]:
    """The node attribute of a function: ``activation`` for a name, ``equation`` for an expression in ``s``."""
    if isinstance(text, str) and text.isidentifier() and text != "s":
        return {"activation": text}
    if isinstance(text, str) and re.search(r"\bs\b", text):
        return {"equation": text}
    raise GraphError(
        f"argument {where}", repr(text), "the name of a function, or an expression in s",
        "write for example 'tanh' or '4*sigmoid(s) - 2'",
    )  # fmt: skip


def with_input(inputs: Any) -> nx.MultiDiGraph:
    """A graph that holds the input node "x"."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=check_size("inputs", inputs))
    return graph


def layers(
    sizes: Sequence[int], hidden_names: Sequence[str], activation: str, output_activation: str
) -> nx.MultiDiGraph:
    """The nodes of a layered network, "x", the hidden ones and "y", in order, without edges."""
    graph = with_input(sizes[0])
    for name, size in zip(hidden_names, sizes[1:-1], strict=True):
        graph.add_node(name, kind="unit", size=size, **function_attribute("activation", activation))
    graph.add_node("y", kind="output", size=sizes[-1], **function_attribute("output_activation", output_activation))
    return graph


def deep_names(sizes: Sequence[int]) -> list[str]:
    """Names "a1", "a2", ... for the hidden layers of a deep network."""
    return [f"a{layer}" for layer in range(1, len(sizes) - 1)]


def one_hidden_layer(
    inputs: Any, hidden: Any, outputs: Any, activation: str, output_activation: str
) -> nx.MultiDiGraph:
    """The nodes "x", "a" and "y" of a network with one hidden layer, without edges."""
    sizes = check_size("inputs", inputs), check_size("hidden", hidden), check_size("outputs", outputs)
    return layers(sizes, ["a"], activation, output_activation)


def add_output(graph: nx.MultiDiGraph, source: str, outputs: Any, activation: str, **edge: str) -> None:
    """A dense output layer "y" behind ``source``, or ``source`` itself as the output if ``outputs`` is None."""
    function = function_attribute("output_activation", activation)
    if outputs is None:
        graph.nodes[source]["kind"] = "output"
        return
    graph.nodes[source]["kind"] = "unit"
    graph.add_node("y", kind="output", size=check_size("outputs", outputs), **function)
    graph.add_edge(source, "y", **edge)
