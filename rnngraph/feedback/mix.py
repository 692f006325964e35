"""Measured and own outputs mixed by a gate: one graph for teacher forcing, free running, and what lies between."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import networkx as nx

from rnngraph.equations import fresh_name
from rnngraph.feedback.edges import chosen_nodes, rewired
from rnngraph.feedback.loops import converted, opened_edges, without_clock
from rnngraph.notes import MIXED
from rnngraph.validate import validate

MIXTURE = "forcing*measured + (1 - forcing)*own"


def mix_feedback(
    graph: nx.MultiDiGraph,
    params: Mapping[str, Any] | None = None,
    state: Mapping[str, Any] | None = None,
    *,
    outputs: Iterable[Hashable] | None = None,
) -> Any:
    """The network with its feedback through a gate: a new unit ``<output>_feedback`` takes the output's place.

    y_feedback(t) = forcing(t) y_measured(t) + (1 - forcing(t)) y(t), read where y(t) was fed back.

    The new inputs are ``<output>_measured``, of the output's size, and ``<output>_forcing`` of size 1: 1 is teacher
    forcing, that is ``open_loop(graph)``; 0 is the closed loop, that is ``graph``; from one past, values and gradients
    are the same.
    0 or 1 drawn for each step is scheduled sampling (Bengio et al. 2015); its schedule: ``rg.ForcingSchedule``. A 1
    at every n-th step trains forecasts up to n steps ahead: ``rg.forcing_every``. Parameters keep their names, so
    what is trained here runs in the open and in the closed network.

    ``outputs``, the edges that are taken, what is returned and what is raised are as in ``open_loop``. Before t = 1 the
    unit reads the output's ``initial``, or from the state the past of the output. ``graph.graph["mixed"]`` of the new
    graph, {unit: {"measured": input, "forcing": input, "own": output}}, tells ``rg.prepare`` of it.
    """
    before = validate(graph)
    edges = opened_edges(graph, chosen_nodes(graph, "outputs", "output", outputs), explicit=outputs is not None)
    added: dict[Hashable, dict[str, Any]] = {}
    units: dict[Hashable, str] = {}
    joins: list[tuple[Hashable, str, str]] = []
    for output in dict.fromkeys(edges.values()):
        data = graph.nodes[output]
        measured, forcing, unit = (
            fresh_name(f"{output}_{role}", {*before.nodes, *map(str, added)})
            for role in ("measured", "forcing", "feedback")
        )
        added[measured] = {"kind": "input", "size": data["size"]}
        added[forcing] = {"kind": "input", "size": 1}
        added[unit] = {"size": data["size"], "equation": MIXTURE}
        if data.get("initial") is not None:
            added[unit]["initial"] = data["initial"]
        units[output] = unit
        joins += [(measured, unit, "measured"), (forcing, unit, "forcing"), (output, unit, "own")]
    result = rewired(graph, {edge: units[output] for edge, output in edges.items()}, added)
    for source, unit, port in joins:
        result.add_edge(source, unit, port=port)
    noted: dict[str, dict[str, str]] = {}
    for source, unit, port in joins:
        noted.setdefault(unit, {})[port] = str(source)
    result.graph[MIXED] = {**result.graph.get(MIXED, {}), **noted}
    result = without_clock(result)
    after = validate(result)
    return converted(result, params, state, before, after, {unit: (str(output),) for output, unit in units.items()})
