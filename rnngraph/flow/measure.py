"""The gradient flow of a network on data: norms of the Jacobians of later values by earlier ones, per lag."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np

from rnngraph.data import check_inputs, check_parameters, check_state
from rnngraph.errors import OptionError, UnsupportedError
from rnngraph.flow.curves import Curve, table
from rnngraph.flow.links import Network, network_of
from rnngraph.flow.plot import plot_curves
from rnngraph.flow.products import Chain, spectral_norms, state_layout
from rnngraph.flow.trajectory import Array, Trajectory
from rnngraph.flow.written import check_whole

DEFAULT_LAGS = 100
Pair = tuple[str, str]
Wanted = tuple[str, str, "tuple[str, ...] | None"]  # source, destination, the nodes that paths may visit


@dataclass(frozen=True)
class GradientFlow:
    """What ``gradient_flow`` measured: ``curves`` over ``lags``, the joint state first.

    ``T`` and ``batch`` are those of the inputs.
    """

    lags: tuple[int, ...]
    curves: tuple[Curve, ...]
    T: int
    batch: int

    def curve(self, source: str | None = None, destination: str | None = None, *, alone: bool = False) -> Curve:
        """The curve of one pair (``destination`` = None: of ``source`` to itself; both None: the joint state).

        ``alone`` asks for the paths that visit no third node. Raises OptionError where it was not measured.
        """
        pair = (source, source if destination is None else destination)
        for curve in self.curves:
            if (curve.source, curve.destination) == pair and (curve.through is not None) == alone:
                return curve
        wanted = f"{pair[0]} to {pair[1]}{', alone' if alone else ''}"
        raise OptionError(
            "curve", wanted, f"one of: {'; '.join(curve.label for curve in self.curves)}",
            "name the pair in gradient_flow's nodes; paths through the pair alone are measured where others exist too",
        )  # fmt: skip

    def __str__(self) -> str:
        head = f"Spectral norm of dv(t)/du(t-k) over t and batch (T = {self.T}, batch = {self.batch})"
        return "\n".join([head, *(f"  {line}" for line in table(self.curves))])

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """The norms against the lag on a logarithmic scale, as a matplotlib Figure.

        It is written to ``path`` if one is given. A line is a mean over t and batch, its band reaches from the smallest
        to the largest. Raises BackendError without matplotlib, OptionError for a path that is no .png, .pdf or .svg.
        """
        return plot_curves({"": self.curves}, path)


def plot_gradient_flow(flows: Mapping[str, GradientFlow], path: str | os.PathLike[str] | None = None) -> Any:
    """The norms of several networks side by side on one scale, by title; else as ``GradientFlow.plot``."""
    if not flows:
        raise OptionError("flows", "no gradient flow", "a mapping from title to GradientFlow", "give at least one")
    return plot_curves({title: flow.curves for title, flow in flows.items()}, path)


def gradient_flow(
    graph: nx.MultiDiGraph,
    params: Mapping[str, Any],
    inputs: Mapping[str, Any],
    state: Mapping[str, Any] | None = None,
    lags: Iterable[int] | None = None,
    nodes: Iterable[str | Pair] | None = None,
) -> GradientFlow:
    """How strongly values act on later ones: the spectral norm of ds(t)/ds(t-k) for each lag k, along the data.

    ``params``, ``inputs`` (T, batch, size) and ``state`` are those of ``Kernel.forward``; all is computed in float64.
    ``lags`` are from 1 to T-1, by default 1..100 or as far as T allows. Measured are

    - the joint state s of all nodes that are read with a delay, with their delay lines: s(t) holds u(t), ..., u(t-D+1)
      for the longest delay D out of u, so that for lags below D the norm is at least 1;
    - for each of ``nodes``, a name u (for u to u) or a pair (u, v): the total derivative dv(t)/du(t-k) over all paths;
      by default for every node that is read with a delay;
    - for each of these pairs, where some but not all paths visit no third node, that part alone: for the cell of an
      LSTM its constant error carousel (Hochreiter and Schmidhuber 1997).

    A norm that falls off exponentially with k is the vanishing gradient (Hochreiter 1991; Pascanu et al. 2013). Returns
    a GradientFlow: arrays per curve, a table by ``print``, ``.plot()``. Raises DataError for wrong arrays, OptionError
    for unknown nodes or lags out of range, UnsupportedError for a network without a delayed unit, GraphError or a
    subclass when the graph breaks the contract.
    """
    network = network_of(graph)
    if not network.delayed:
        raise UnsupportedError(
            "graph", "no unit that is read with a delay", "a network with a state, a unit read with a delay >= 1",
            "give an edge out of a unit a delay, or look at gradient_paths",
        )  # fmt: skip
    system = network.system
    sizes = {name: signal.size for name, signal in system.signals.items()}
    input_sizes = {name: sizes[name] for name, signal in system.signals.items() if signal.kind == "input"}
    given, T, batch = check_inputs(inputs, input_sizes, np.float64)
    parameters = check_parameters(params, system.parameters, np.float64)
    checked = check_state(state, system.state_depths, sizes, batch, np.float64)
    steps = _lags(lags, T)
    wanted = _wanted(network, nodes)
    trajectory = Trajectory(network, parameters, given, checked, T, batch)
    joint = Curve(steps, None, None, None, np.full((len(steps), T, batch), np.nan))
    _measure(Chain(trajectory, state_layout(network, network.delayed)), [joint])
    curves = [joint]
    for source, destination, through in wanted:
        curves.append(Curve(steps, source, destination, through, np.full((len(steps), T, batch), np.nan)))
    classes: dict[tuple[str, tuple[str, ...] | None], list[Curve]] = {}
    for curve in curves[1:]:
        classes.setdefault((str(curve.source), curve.through), []).append(curve)
    for (_, through), members in classes.items():
        depths = {name: depth for name, depth in network.delayed.items() if through is None or name in through}
        ends = {str(curve.destination): 1 for curve in members}
        _measure(Chain(trajectory, state_layout(network, {**ends, **depths}), through), members)
    return GradientFlow(steps, tuple(curves), T, batch)


def _measure(chain: Chain, curves: Sequence[Curve]) -> None:
    """Fill the norms of curves that share their source."""
    lags = {lag: index for index, lag in enumerate(curves[0].lags)}
    for sequence in range(chain.trajectory.batch):
        one_step = chain.one_step(sequence)
        for lag, product in chain.by_lag(sequence, curves[0].source, max(lags), one_step):
            if lag in lags:
                for curve in curves:
                    block: Array = product
                    if curve.destination is not None:
                        block = product[:, chain.layout.places[curve.destination, 0]]
                    curve.norms[lags[lag], lag:, sequence] = spectral_norms(block)


def _lags(given: Iterable[int] | None, T: int) -> tuple[int, ...]:
    if T < 2:
        raise OptionError("inputs", "T = 1", "at least two time steps", "give a longer sequence: a lag is 1 or more")
    if given is None:
        return tuple(range(1, min(T - 1, DEFAULT_LAGS) + 1))
    if isinstance(given, int | np.integer):
        given = [int(given)]
    lags = sorted({check_whole("lags", lag, 1, T - 1) for lag in given})
    if not lags:
        raise OptionError("lags", "no lag", f"whole numbers from 1 to T-1 = {T - 1}", "give at least one, or None")
    return tuple(lags)


def _wanted(network: Network, nodes: Iterable[str | Pair] | None) -> list[Wanted]:
    """The pairs asked for, each followed by its paths through no third node where these are some but not all."""
    ways: nx.DiGraph = nx.DiGraph()
    ways.add_nodes_from(network.units)
    ways.add_edges_from((link.source, network.node(link.destination)) for link in network.links)
    ways.remove_nodes_from([name for name in [*ways] if name not in network.units])  # inputs and weighted sums
    if nodes is None:
        entries: Iterable[object] = [name for name in network.delayed if _leads(ways, name, name)]
    else:
        entries = [nodes] if isinstance(nodes, str) else nodes
    wanted: list[Wanted] = []
    for entry in entries:
        pair = entry if isinstance(entry, tuple) else (entry, entry)
        if len(pair) != 2:
            raise OptionError("nodes", repr(entry), "a node's name or a pair (source, destination)", "give one of them")
        source, destination = (network.check_unit("nodes", name) for name in pair)
        if (source, destination, None) in wanted:
            continue
        wanted.append((source, destination, None))
        through = (source,) if source == destination else (source, destination)
        between = (nx.descendants(ways, source) & nx.ancestors(ways, destination)) - set(through)
        if between and _leads(ways.subgraph(through), source, destination):
            wanted.append((source, destination, through))
    return wanted


def _leads(ways: nx.DiGraph, source: str, destination: str) -> bool:
    """Whether a path of at least one edge leads there."""
    return any(nx.has_path(ways, following, destination) for following in ways.successors(source))
