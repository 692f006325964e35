"""Delays out of inputs raised or lowered together: a network that predicts steps ahead, and the way back."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from numbers import Integral
from typing import Any

import networkx as nx
import numpy as np

from rnngraph.errors import GraphError, OptionError, UnsupportedError
from rnngraph.feedback.edges import WITHOUT_PARAMETER, EdgeKey, chosen_nodes, edge_record, with_parameter
from rnngraph.feedback.values import answer, carried_parameters, carried_state
from rnngraph.validate import validate
from rnngraph.words import clip


def add_delay(
    graph: nx.MultiDiGraph,
    steps: int = 1,
    params: Mapping[str, Any] | None = None,
    state: Mapping[str, Any] | None = None,
    *,
    inputs: Iterable[Hashable] | None = None,
) -> Any:
    """The network with every delay out of its inputs raised by ``steps``: it answers that much later.

    y_new(t) = y(t - steps), the inverse of ``remove_delay``. ``steps`` >= 1; ``inputs``, what is returned and what is
    raised are as there. Older values of an input than the state holds are
    taken as 0. Raises OptionError for ``steps`` out of range.
    """
    return _shift(graph, _checked(steps), params, state, inputs)


def remove_delay(
    graph: nx.MultiDiGraph,
    steps: int = 1,
    params: Mapping[str, Any] | None = None,
    state: Mapping[str, Any] | None = None,
    *,
    inputs: Iterable[Hashable] | None = None,
) -> Any:
    """The network with every delay out of its inputs lowered by ``steps``: it predicts that many steps ahead.

    y_new(t) = y(t + steps): a NARX network in open loop whose delays begin at 1 gives y(t+1) as soon as x(t) and y(t)
    are measured. ``inputs`` chooses some inputs; by default all are shifted, and only then this equation holds.

    Parameters keep their names and values. An edge with a list of delays becomes parallel edges of one delay each, in
    which the names are written down: the delays [1, 2] of "W" become 0 for "W_d1" and 1 for "W_d2".

    Returns the graph; with ``params`` (graph, params), copies by name; with ``state`` (graph, params, state): the past
    of each input, cut at its old end. Raises GraphError, naming the edge, where a delay would become negative, and
    UnsupportedError for a state that holds the past of a unit: that past is another one in the shifted network, which
    must be run anew from earlier inputs. DataError for bad parameters or a bad state.
    """
    return _shift(graph, -_checked(steps), params, state, inputs)


def _checked(steps: object) -> int:
    if isinstance(steps, bool) or not isinstance(steps, Integral) or int(steps) < 1:
        raise OptionError("argument steps", clip(steps), "an int >= 1", "give the number of time steps")
    return int(steps)


def _shift(
    graph: nx.MultiDiGraph,
    steps: int,
    params: Mapping[str, Any] | None,
    state: Mapping[str, Any] | None,
    inputs: Iterable[Hashable] | None,
) -> Any:
    before = validate(graph)
    shifted = set(chosen_nodes(graph, "inputs", "input", inputs))
    result = nx.MultiDiGraph()
    result.graph.update(graph.graph)
    result.add_nodes_from(graph.nodes(data=True))
    for edge in graph.edges(keys=True):
        source, destination, key = edge
        if source not in shifted:
            result.add_edge(source, destination, key=key, **graph.edges[edge])
            continue
        for number, attributes in enumerate(_shifted(graph, edge, steps)):
            result.add_edge(source, destination, key=_key(graph, result, edge, number), **attributes)
    after = validate(result)
    if state is not None:
        _refuse_units(state, before.inputs)
    kept = carried_parameters(params, before, after)
    return answer(result, kept, carried_state(state, before, after, {}, kept))


def _shifted(graph: nx.MultiDiGraph, edge: EdgeKey, steps: int) -> list[dict[str, Any]]:
    """The attributes of the edge, or of the edges that a list of delays becomes, with delays ``steps`` longer."""
    record = edge_record(graph, edge)
    attributes = with_parameter(graph, edge)
    own = record.delays
    steps_read = own.steps
    if own.matrix is not None and record.mask is not None:  # a weight that is masked out has a delay that nothing reads
        exists = np.broadcast_to(np.asarray(record.mask) != 0, own.matrix.shape)
        steps_read = tuple(own.matrix[exists].tolist())
    for delay in steps_read:
        if steps < 0 and delay + steps < 0:
            raise GraphError(
                record.where, f"a delay of {delay}, from which {-steps} cannot be taken",
                f"delays of {-steps} or more on the edges out of every input that is shifted",
                "raise this delay, or choose inputs=[...]",
            )  # fmt: skip
    delays = [delay + steps for delay in own.steps]
    if own.learned is not None:
        learned = {**attributes["delay"], "min": own.learned.first + steps, "max": own.learned.last + steps}
        return [{**attributes, "delay": learned}]
    if own.matrix is not None:
        shifted = own.matrix + steps
        return [{**attributes, "delay": shifted if steps > 0 else np.maximum(shifted, 0)}]
    if not own.listed:
        return [{**attributes, "delay": delays[0]}]
    if record.structure in WITHOUT_PARAMETER:
        return [{**attributes, "delay": delays}]
    if "expression" in attributes:
        raise UnsupportedError(
            record.where, "a list of delays with an expression of parameters", "one delay, or one parameter",
            "write one edge for each delay",
        )  # fmt: skip
    stem = attributes["parameter"]
    return [
        {**attributes, "delay": new, "parameter": f"{stem}_d{old}"} for old, new in zip(own.steps, delays, strict=True)
    ]


def _key(graph: nx.MultiDiGraph, result: nx.MultiDiGraph, edge: EdgeKey, number: int) -> Hashable:
    """The edge's own key for the first of its parts, one that neither graph has for the others."""
    source, destination, key = edge
    if number == 0:
        return key
    fresh = number
    while graph.has_edge(source, destination, fresh) or result.has_edge(source, destination, fresh):
        fresh += 1
    return fresh


def _refuse_units(state: Mapping[str, Any], inputs: Iterable[Any]) -> None:
    names = {node.name for node in inputs}
    for name in state if isinstance(state, Mapping) else ():  # what is no mapping is refused later
        if name not in names:
            raise UnsupportedError(
                f"state of {clip(name)}", "the past of a unit, which the shifted network has at other times",
                f"the past of inputs: {', '.join(sorted(names))}",
                "leave the state out, and run the new network on the inputs of earlier steps",
            )  # fmt: skip
