"""Learned delays made plain: a network whose learned edges have the delays that they selected, and its parameters.

The softmax over the delays of an edge, p_d = softmax over d of alpha_d / temperature, sharpens as the temperature falls
(``set_temperature``), until it is 1 at the largest logit and 0 elsewhere. ``harden`` takes that limit: the selected
delay is that of the largest logit, and the weight W stays as it is. Of the weights that could be given to the selected
delay d*, W keeps the answer to a constant input and is near the best one for a slow input; for white noise W p_d* would
be best, and W has at most twice its mean squared change. Both are the same where the softmax is near 1; ``certainty``
says whether it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from rnngraph.attributes import EdgeRecord, read_edge, read_mask
from rnngraph.compile import compile
from rnngraph.data import check_parameters
from rnngraph.delays import TEMPERATURE, as_temperature
from rnngraph.errors import OptionError
from rnngraph.validate import validate
from rnngraph.words import clip

Array = NDArray[Any]
EdgeKey = tuple[Any, Any, Any]  # (source, destination, key), as networkx has them


@dataclass(frozen=True)
class Hardened:
    """What ``harden`` returns. ``graph``, ``params``: the network with plain delays and its parameters by name.

    By edge, (source, destination, key): ``delays`` has the selected delays, (source size, destination size) or (1,
    size) for a diagonal or identity edge, and (1, 1) where the edge has one for all; ``certainty`` the softmax at them,
    NaN for a pair that the mask leaves out. ``change``: by output, the norm of the difference that hardening makes over
    the norm of the output, on the inputs that were given; None without inputs. ``removed``: what is no longer a
    parameter, the logits and learned initial values that no delay reads any more.
    """

    graph: nx.MultiDiGraph = field(repr=False)
    params: Mapping[str, Array] = field(repr=False)
    delays: Mapping[EdgeKey, NDArray[np.int64]]
    certainty: Mapping[EdgeKey, NDArray[np.float64]]
    change: Mapping[str, float] | None
    removed: tuple[str, ...]

    def __iter__(self) -> Iterator[Any]:
        """Graph and parameters, for ``graph, params = rg.harden(...)``."""
        return iter((self.graph, self.params))

    def __str__(self) -> str:
        count = len(self.delays)
        lines = [f"learned delays of {count} edge{'' if count == 1 else 's'} made plain"]
        for key, delays in self.delays.items():
            parallel = f" (key {key[2]!r})" if self.graph.number_of_edges(*key[:2]) > 1 else ""
            certainty = self.certainty[key]
            exists = ~np.isnan(certainty)
            chosen = np.unique(delays[exists])
            pairs = int(exists.sum())
            what = f"delay {chosen[0]}" if len(chosen) == 1 else f"delays {chosen[0]} to {chosen[-1]}"
            whose = f"{pairs} {'units' if len(delays) == 1 else 'pairs of units'}"
            what += f" {'for all' if len(chosen) == 1 else 'of'} {whose}" if pairs > 1 else ""
            sure = certainty[exists]
            softmax = f"softmax at the selected delay: smallest {sure.min():.3g}, median {np.median(sure):.3g}"
            lines.append(f"  {key[0]} -> {key[1]}{parallel}: {what}; {softmax}")
        if self.removed:
            lines.append(f"  no longer parameters: {', '.join(self.removed)}")
        for output, change in (self.change or {}).items():
            lines.append(f"  output {output}: changed by {100 * change:.3g} %, norm of the change / norm of the output")
        return "\n".join(lines)


def harden(
    graph: nx.MultiDiGraph,
    params: Mapping[str, Any],
    inputs: Mapping[str, Any] | None = None,
    edges: Iterable[tuple[Any, ...]] | None = None,
) -> Hardened:
    """The network with the selected delays in place of the learned ones, and its parameters; see ``Hardened``.

    W_d = W softmax(alpha / temperature)_d becomes W at the delay d of the largest logit, and 0 at the others.

    The selected delay is that of the largest logit, the first of equal ones. Where all pairs of units of an edge
    selected one delay, it becomes a plain int, else an integer matrix. Parameters keep names, shapes and values; logits
    that nothing else reads are gone, and so is the learned initial value of a node whose delays are all 0 now.
    ``inputs``, (T, batch, size) by input: the change of the outputs is measured on them, from the initial state.
    ``edges``: (source, destination) or (source, destination, key) of those to harden; every learned edge unless given.
    Graph and parameters of the caller stay as they are.

    Raises OptionError where ``edges`` names what is no learned edge, DataError for bad parameters or inputs, GraphError
    for a bad graph.
    """
    model = validate(graph)
    values = check_parameters(params, model.parameters, _dtype(params))
    hard = graph.copy()
    delays: dict[EdgeKey, NDArray[np.int64]] = {}
    certainty: dict[EdgeKey, NDArray[np.float64]] = {}
    for key, record in _learned_edges(graph, edges):
        sizes = model.nodes[record.source].size, model.nodes[record.destination].size
        chosen, sure = _select(record, values[record.logits], read_mask(record, *sizes))
        delays[key], certainty[key] = chosen, sure
        hard.edges[key]["delay"] = int(chosen.flat[0]) if (chosen == chosen.flat[0]).all() else chosen.copy()
    _drop_unread_initial(hard, {key[0] for key in delays})
    kept = {name: values[name].copy() for name in validate(hard).parameters}
    change = None if inputs is None else _change(graph, values, hard, kept, inputs)
    return Hardened(hard, kept, delays, certainty, change, tuple(name for name in values if name not in kept))


def set_temperature(
    graph: nx.MultiDiGraph, temperature: float, edges: Iterable[tuple[Any, ...]] | None = None
) -> nx.MultiDiGraph:
    """A copy of ``graph`` whose learned delays have this temperature, for annealing: compile it anew and train on with
    the same parameters.

    W_d = W softmax(alpha / temperature)_d, entry by entry.

    ``edges``: as ``harden`` takes them. Raises OptionError for a temperature below 1e-9 and where ``edges`` names what
    is no learned edge, GraphError for a bad graph.
    """
    validate(graph)
    number = as_temperature(temperature)
    if number is None:
        remedy = "lower it step by step to sharpen the softmax; rg.harden takes its limit"
        raise OptionError("temperature", clip(temperature), TEMPERATURE, remedy)
    copy = graph.copy()
    for key, _ in _learned_edges(graph, edges):
        copy.edges[key]["delay"] = {**graph.edges[key]["delay"], "temperature": number}
    return copy


def _drop_unread_initial(graph: nx.MultiDiGraph, nodes: Iterable[Any]) -> None:
    """Take the learned initial value from each of ``nodes`` that no edge of ``graph`` reads with a delay any more."""
    learned = {
        node: graph.nodes[node]["initial"] for node in nodes if isinstance(graph.nodes[node].get("initial"), str)
    }
    if not learned:
        return
    for node in learned:
        del graph.nodes[node]["initial"]
    model = validate(graph)
    for node, initial in learned.items():
        if model.depth(str(node)) or model.ahead(str(node)):
            graph.nodes[node]["initial"] = initial


def _learned_edges(
    graph: nx.MultiDiGraph, edges: Iterable[tuple[Any, ...]] | None
) -> Iterator[tuple[EdgeKey, EdgeRecord]]:
    """The learned edges of a valid graph, or those of them that ``edges`` names."""
    learned: dict[EdgeKey, EdgeRecord] = {}
    for source, destination, key, attributes in graph.edges(keys=True, data=True):
        record = read_edge(str(source), str(destination), f"edge {source!r} -> {destination!r}", attributes)
        if record.delays.learned is not None:
            learned[source, destination, key] = record
    listed = ", ".join(f"{key[:2]}" for key in learned) or "there is none"
    if edges is None:
        if not learned:
            raise OptionError(
                "graph", "no learned delay", "an edge with delay={'max': D, 'learned': True}", "give one such a delay"
            )
        yield from learned.items()
        return
    if isinstance(edges, str) or not isinstance(edges, Iterable):
        expected = f"a list of tuples that name learned edges: {listed}"
        raise OptionError("edges", clip(edges), expected, "leave it out for all of them")
    named: set[EdgeKey] = set()
    for edge in edges:
        length = len(edge) if isinstance(edge, tuple) else 0
        found = [key for key in learned if length in (2, 3) and key[:length] == edge]
        if not found:
            raise OptionError("edges", clip(edge), f"tuples that name learned edges: {listed}", "check the names")
        named.update(found)
    yield from ((key, record) for key, record in learned.items() if key in named)


def _dtype(params: object) -> np.dtype[Any]:
    """The float type of the parameters: float32 where all of them are, else float64."""
    values = list(params.values()) if isinstance(params, Mapping) else []
    types = {getattr(value, "dtype", None) for value in values}
    return np.dtype(np.float32 if types == {np.dtype(np.float32)} else np.float64)


def _select(record: EdgeRecord, logits: Array, mask: Array | None) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The delay of the largest logit, and the softmax at it, of each pair of units; (rows, columns) both."""
    learned = record.delays.learned
    assert learned is not None
    alpha = np.asarray(logits, dtype=np.float64).reshape(len(logits), -1, logits.shape[-1]) / learned.temperature
    chosen = learned.first + alpha.argmax(axis=0)
    certainty = 1.0 / np.exp(alpha - alpha.max(axis=0)).sum(axis=0)
    if mask is not None and not learned.shared:
        exists = mask != 0
        certainty = np.where(exists, certainty, np.nan)
        chosen = np.where(exists, chosen, chosen[exists].min())  # a pair without a weight has no delay: any will do
    return chosen.astype(np.int64), certainty


def _change(
    graph: nx.MultiDiGraph, params: Mapping[str, Array], hard: nx.MultiDiGraph, kept: Mapping[str, Array],
    inputs: Mapping[str, Any],
) -> Mapping[str, float]:  # fmt: skip
    """The norm of the difference of each output over the norm of the output before; 0 where nothing changed."""
    before, _ = compile(graph, dtype="float64").forward(params, inputs)
    after, _ = compile(hard, dtype="float64").forward(kept, inputs)
    changes = {}
    for name, value in before.items():
        difference, norm = float(np.linalg.norm(after[name] - value)), float(np.linalg.norm(value))
        changes[name] = difference / norm if norm else (math.inf if difference else 0.0)
    return changes
