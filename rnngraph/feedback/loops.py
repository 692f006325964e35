"""Open loop and closed loop: the feedback of an output replaced by a measured input, and the way back.

In open loop (series-parallel, in Narendra and Parthasarathy 1990) a network reads the measured values of its output
where in closed loop (parallel) it reads its own. Training in open loop is teacher forcing (Williams and Zipser 1989).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import networkx as nx
import numpy as np

from rnngraph.equations import fresh_name
from rnngraph.errors import CycleError, GraphError, OptionError
from rnngraph.feedback.edges import (
    EdgeKey,
    chosen_nodes,
    edge_place,
    edge_record,
    feedback_edges,
    refuse_learned_initial,
    rewired,
)
from rnngraph.feedback.values import answer, carried_parameters, carried_state
from rnngraph.model import Model
from rnngraph.notes import CLOCK, SCALED
from rnngraph.notes import FEEDBACK as LINK
from rnngraph.validate import validate
from rnngraph.words import clip, nearest


def open_loop(
    graph: nx.MultiDiGraph,
    params: Mapping[str, Any] | None = None,
    state: Mapping[str, Any] | None = None,
    *,
    outputs: Iterable[Hashable] | None = None,
) -> Any:
    """The network in open loop: what an output feeds back is read from a new input ``<output>_measured`` instead.

    y(t) = F(x(t), x(t-1), ..., y(t-1), ...) becomes y(t) = F(x(t), x(t-1), ..., y_measured(t-1), ...).

    Opened are the delayed edges out of each output that lie on a loop; delays, structures and parameter names stay.
    Where the delay of a loop stands on a later edge, the output's edge without delay is opened, and reads the measured
    value of the same step. ``outputs`` chooses some outputs; by default all that are fed back are opened. Loops of
    other units stay. ``graph.graph["feedback"]`` of the new graph, {input: output}, remembers the pairs.

    Returns the graph; with ``params`` (graph, params); with ``state`` (graph, params, state). Parameters are copies, by
    name. The state is a dict {node: (depth, batch, size)}, oldest first: the past of an output becomes that of its
    input. An input reads 0 before t = 1 and an output its ``initial``: where that is not 0, convert a whole state, such
    as ``kernel.initial_state(batch)``. Raises GraphError for a graph without such feedback and for an opened output
    with a learned ``initial``, DataError for bad parameters or a bad state.
    """
    before = validate(graph)
    wanted = chosen_nodes(graph, "outputs", "output", outputs)
    edges = opened_edges(graph, wanted, explicit=outputs is not None)
    inputs: dict[Hashable, str] = {}
    for output in dict.fromkeys(edges.values()):
        inputs[output] = fresh_name(f"{output}_measured", {*before.nodes, *inputs.values()})
    added: dict[Hashable, dict[str, Any]] = {
        name: {"kind": "input", "size": graph.nodes[output]["size"]} for output, name in inputs.items()
    }
    result = rewired(graph, {edge: inputs[output] for edge, output in edges.items()}, added)
    result.graph[LINK] = {**_remembered(graph), **{name: str(output) for output, name in inputs.items()}}
    result = without_clock(result)
    after = validate(result)
    origins = {name: (str(output),) for output, name in inputs.items()}
    return converted(result, params, state, before, after, origins)


def close_loop(
    graph: nx.MultiDiGraph,
    params: Mapping[str, Any] | None = None,
    state: Mapping[str, Any] | None = None,
    *,
    feedback: Mapping[Hashable, Hashable] | None = None,
) -> Any:
    """The network in closed loop: edges out of a measured input come from the output itself instead.

    y(t) = F(x(t), ..., y_measured(t-1), ...) becomes y(t) = F(x(t), ..., y(t-1), ...): the inverse of ``open_loop``.

    ``feedback`` = {input: output} says which input stands for which output; by default what ``open_loop`` has written
    to ``graph.graph["feedback"]``. The input goes; the parameters of its edges keep their names.

    A network that has no other input, such as a NAR network, gets the input "clock" of size 1, joined by a fixed
    weight of 0: its values mean nothing, its shape (T, batch, 1) says how far to run. ``open_loop`` removes it.

    Returns the graph; with ``params`` (graph, params); with ``state`` (graph, params, state), where the past of an
    output is that of its measured input, and older steps its own. Raises CycleError where an edge without delay would
    close a loop without any delay, GraphError where there is nothing to close, OptionError for a bad ``feedback``,
    DataError for bad parameters or a bad state.
    """
    before = validate(graph)
    pairs = _pairs(graph, _remembered(graph) if feedback is None else feedback, given=feedback is not None)
    edges = {edge: pairs[edge[0]] for edge in graph.edges(keys=True) if edge[0] in pairs}
    result = rewired(graph, edges, {}, removed=pairs)
    _refuse_instant_loops(graph, result, edges)
    closed = {str(name) for name in pairs}
    rest = {name: output for name, output in _remembered(graph).items() if name not in closed}
    result.graph.pop(LINK, None)
    if rest:
        result.graph[LINK] = rest
    if isinstance(scaled := graph.graph.get(SCALED), Mapping):  # what was scaled of the input is now the output
        taken = {str(name): str(output) for name, output in pairs.items()}
        result.graph[SCALED] = {
            unit: {**note, "of": taken.get(str(note["of"]), note["of"])} for unit, note in scaled.items()
        }
    result = _with_clock(result, before, edges)
    after = validate(result)
    origins: dict[str, tuple[str, ...]] = {}
    for name, output in pairs.items():
        origins[str(output)] = (str(name), *origins.get(str(output), (str(output),)))
    return converted(result, params, state, before, after, origins)


def converted(
    result: nx.MultiDiGraph,
    params: Mapping[str, Any] | None,
    state: Mapping[str, Any] | None,
    before: Model,
    after: Model,
    origins: Mapping[str, tuple[str, ...]],
) -> Any:
    """The new graph with as much of parameters and state as was given."""
    kept = carried_parameters(params, before, after)
    return answer(result, kept, carried_state(state, before, after, origins, kept))


def opened_edges(graph: nx.MultiDiGraph, wanted: list[Hashable], explicit: bool) -> dict[EdgeKey, Hashable]:
    """The feedback edges of the outputs ``wanted``; GraphError where there is none, or an output starts learned.

    ``explicit``: each of the outputs must have one.
    """
    edges = feedback_edges(graph, wanted)
    fed = set(edges.values())
    idle = [output for output in wanted if output not in fed]
    if not edges or (explicit and idle):
        where = f"output {str(idle[0])!r}" if len(idle) == 1 or explicit else "graph"
        found, remedy = "no edge out of an output lies on a loop", "choose outputs=[...] that are fed back"
        if graph.graph.get(LINK):
            remedy = "it is in open loop already; rg.close_loop(graph) closes it"
        elif (inner := _scaled_in_loop(graph)) is not None:
            found += f"; the scaling is folded in, and the loop leads through {inner!r}"
            remedy = "open the loop before: scaling.fold(*rg.open_loop(graph, params))"
        elif not edges:
            remedy = "it is in open loop as it is; " + remedy
        raise GraphError(where, f"no feedback: {found}", "an output that a loop leads back to itself", remedy)
    refuse_learned_initial(graph, fed)
    return edges


def _scaled_in_loop(graph: nx.MultiDiGraph) -> str | None:
    """A unit of scaled values that lies on a loop, where a scaling is folded in."""
    noted = graph.graph.get(SCALED, {})
    for loop in nx.strongly_connected_components(graph):
        for node in loop if len(loop) > 1 else ():
            if str(node) in noted:
                return str(node)
    return None


def _remembered(graph: nx.MultiDiGraph) -> dict[str, str]:
    """The pairs of input and output in the graph's own data."""
    link = graph.graph.get(LINK, {})
    if not isinstance(link, Mapping):
        raise GraphError("graph data 'feedback'", clip(link), "{input: output}", "correct graph.graph['feedback']")
    return {str(name): str(output) for name, output in link.items()}


def _pairs(graph: nx.MultiDiGraph, feedback: object, given: bool) -> dict[Hashable, Hashable]:
    """Checked pairs of nodes: an input and the output of the same size that takes its place."""
    where, error = ("argument feedback", OptionError) if given else ("graph data 'feedback'", GraphError)
    remedy = "give feedback={input: output}, such as {'y_measured': 'y'}"
    if not isinstance(feedback, Mapping) or not feedback:
        found = clip(feedback) if given else "no pair of a measured input and its output"
        raise error(where, found, "{input: output}", remedy)
    nodes = {str(node): node for node in graph}
    pairs: dict[Hashable, Hashable] = {}
    for name, output in feedback.items():
        for role, node in (("input", name), ("output", output)):
            named = nodes.get(str(node))
            if named is None or graph.nodes[named].get("kind") != role:
                known = [str(each) for each, data in graph.nodes(data=True) if data.get("kind") == role]
                close = nearest(str(node), known)
                raise error(
                    where, f"{clip(str(node))} as the {role} of a pair", f"one of the {role}s {', '.join(known)}",
                    f"did you mean {close!r}?" if close else remedy,
                )  # fmt: skip
        measured, own = nodes[str(name)], nodes[str(output)]
        sizes = graph.nodes[measured]["size"], graph.nodes[own]["size"]
        if sizes[0] != sizes[1]:
            raise error(
                where, f"input {str(name)!r} of size {sizes[0]} for output {str(output)!r} of size {sizes[1]}",
                "equal sizes", "pair the input with the output that it measures",
            )  # fmt: skip
        pairs[measured] = own
    return pairs


def _refuse_instant_loops(graph: nx.MultiDiGraph, closed: nx.MultiDiGraph, edges: Mapping[EdgeKey, Hashable]) -> None:
    """CycleError for an edge of the open network that, without delay, would close a loop without any delay."""
    instant = nx.DiGraph()
    instant.add_nodes_from(closed)
    instant.add_edges_from(edge[:2] for edge in closed.edges(keys=True) if 0 in edge_record(closed, edge).delays.steps)
    for edge, output in edges.items():
        if 0 in edge_record(graph, edge).delays.steps and nx.has_path(instant, edge[1], output):
            way = " -> ".join(str(node) for node in [output, *nx.shortest_path(instant, edge[1], output)])
            raise CycleError(
                edge_place(edge), f"a delay of 0, which would close the loop {way} without any delay",
                "a delay of 1 or more on each edge out of a measured output",
                "raise the delays first: rg.add_delay(graph)",
            )  # fmt: skip


def _unreached(graph: nx.MultiDiGraph, inputs: Iterable[Hashable]) -> bool:
    """Whether some output is reached by none of ``inputs``."""
    reached = {node for start in inputs for node in nx.descendants(graph, start)}
    return any(data.get("kind") == "output" and node not in reached for node, data in graph.nodes(data=True))


def _inputs(graph: nx.MultiDiGraph) -> list[Hashable]:
    return [node for node, data in graph.nodes(data=True) if data.get("kind") == "input"]


def _with_clock(graph: nx.MultiDiGraph, model: Model, edges: Iterable[EdgeKey]) -> nx.MultiDiGraph:
    """With an input "clock" where no input reaches an output: the contract asks for one, and it tells T and batch."""
    if not _unreached(graph, _inputs(graph)):
        return graph
    sums = {edge.destination for edge in model.edges if edge.port == "s"}
    sums |= {name for name, node in model.nodes.items() if node.bias is not None}
    summing = [node for node in dict.fromkeys(edge[1] for edge in edges) if str(node) in sums]
    if not summing:
        return graph
    clock = fresh_name("clock", {str(node) for node in graph})
    result = rewired(graph, {}, {clock: {"kind": "input", "size": 1}})
    for node in summing:
        zeros = np.zeros((1, graph.nodes[node]["size"]))
        result.add_edge(clock, node, structure="fixed", value=zeros.tolist())
    result.graph[CLOCK] = clock
    return result


def without_clock(graph: nx.MultiDiGraph) -> nx.MultiDiGraph:
    """Without the clock of a closed loop, where the other inputs reach every output."""
    clock = graph.graph.get(CLOCK)
    if clock not in graph or any(np.any(data.get("value", 1)) for _, _, data in graph.out_edges(clock, data=True)):
        return graph  # none, or an input whose values count
    if _unreached(graph, [node for node in _inputs(graph) if node != clock]):
        return graph
    result = rewired(graph, {}, {}, removed=[clock])
    del result.graph[CLOCK]
    return result
