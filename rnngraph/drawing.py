"""A picture of a network, drawn by matplotlib (an optional extra)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import networkx as nx

from rnngraph.figures import checked_suffix, new_figure, write_figure
from rnngraph.listing import as_text_drawing, time_text
from rnngraph.model import Edge, Model, Node
from rnngraph.validate import validate

try:
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
    from matplotlib.path import Path
except ImportError:  # the extra `plot` is not installed: ``new_figure`` says so
    pass

COLUMN, ROW = 2.7, 1.15  # distance of layers and of nodes within one, in inches
WIDTH, HEIGHT = 1.3, 0.62
PORT = 0.13  # arrows to the right join a node's side above the middle, arrows to the left below
COLORS = {"input": "#dcebf7", "unit": "#f3f3f3", "output": "#e2f1dc"}
NOW, DELAYED = "#444444", "#b5442b"
MOST_LINES = 3
LONGEST = 18

Position = tuple[float, float]


class Lane(NamedTuple):
    """Where the arrows from ``source`` that pass over ``column`` run, in one direction."""

    source: str
    column: int
    backward: bool


@dataclass(frozen=True)
class Layout:
    """Layer and height of every node, and the heights of the lanes between the nodes of a layer."""

    columns: Mapping[str, int]
    heights: Mapping[str | Lane, float]

    def position(self, place: str | Lane) -> Position:
        """The middle of a node or of a lane's passage."""
        column = place.column if isinstance(place, Lane) else self.columns[place]
        return column * COLUMN, self.heights[place]


def draw(graph: nx.MultiDiGraph, path: str | os.PathLike[str] | None = None) -> Any:
    """Draw ``graph`` and return the matplotlib Figure; write it to ``path`` (.png, .pdf, .svg) if one is given.

    Signals flow from left to right; what is read from an earlier time step is drawn red and dashed, with its time.
    Raises BackendError without matplotlib, GraphError and its kin when the graph breaks the contract, OptionError for a
    path of another format, DataError where the folder cannot be written to.
    """
    figure = new_figure("draw")
    suffix = checked_suffix(path)
    model = validate(graph)
    places = layout(model)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    for node in model.nodes.values():
        _draw_node(axes, node, places.position(node.name))
    bounds = [places.position(place) for place in places.heights]
    bundles = _bundles(model)
    for (source, destination, delayed), edges in bundles.items():
        double = (source, destination, not delayed) in bundles
        labels = [_label(edge) for edge in edges]
        if source == destination:
            bounds.append(_draw_loop(axes, places.position(source), labels))
        else:
            bounds.append(_draw_arrow(axes, _route(places, source, destination), delayed, double, labels))
    left, right = min(x for x, _ in bounds) - WIDTH, max(x for x, _ in bounds) + WIDTH
    low, high = min(y for _, y in bounds) - HEIGHT, max(y for _, y in bounds) + HEIGHT
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)
    figure.set_size_inches(right - left, high - low)
    if path is not None:
        write_figure(figure, path, suffix)
    return figure


def layout(model: Model) -> Layout:
    """A node's layer is the longest way to it over edges without delay; arrows over a layer get a lane there."""
    now: nx.DiGraph = nx.DiGraph()
    now.add_nodes_from(model.nodes)
    now.add_edges_from((edge.source, edge.destination) for edge in model.edges if edge.delay == 0)
    order = {name: position for position, name in enumerate(model.nodes)}
    columns: dict[str, int] = {}
    for name in nx.lexicographical_topological_sort(now, key=order.__getitem__):
        # what reads only the past stands right of the inputs
        first = 0 if model.nodes[name].kind == "input" else 1
        columns[name] = max((columns[source] + 1 for source in now.predecessors(name)), default=first)
    places: dict[int, dict[str | Lane, list[str | Lane]]] = {}  # layer -> place -> its neighbours to the left
    for name, column in columns.items():
        places.setdefault(column, {})[name] = []
    for edge in model.edges:
        way: list[str | Lane] = [edge.source, *_lanes(columns, edge.source, edge.destination), edge.destination]
        if columns[edge.source] > columns[edge.destination]:
            way.reverse()
        for left, right in pairwise(way):
            column = right.column if isinstance(right, Lane) else columns[right]
            places.setdefault(column, {}).setdefault(right, []).append(left)
    heights: dict[str | Lane, float] = {}
    for _, column_places in sorted(places.items()):
        _stack(column_places, heights, order)
    return Layout(columns, heights)


def _stack(places: dict[str | Lane, list[str | Lane]], heights: dict[str | Lane, float], order: dict[str, int]) -> None:
    """Heights of one layer: sorted by the mean height of the left neighbours, lanes that run back below all else."""

    def key(place: str | Lane) -> tuple[bool, float, int]:
        known = [heights[left] for left in places[place] if left in heights]
        mean = sum(known) / len(known) if known else 0.0
        if isinstance(place, Lane):
            return place.backward, -mean, order[place.source]
        return False, -mean, order[place]

    ranked = sorted(places, key=key)
    for rank, place in enumerate(ranked):
        heights[place] = ((len(ranked) - 1) / 2 - rank) * ROW


def _lanes(columns: Mapping[str, int], source: str, destination: str) -> list[Lane]:
    """The lanes on the way from source to destination."""
    first, last = columns[source], columns[destination]
    backward = first > last
    between = range(first - 1, last, -1) if backward else range(first + 1, last)
    return [Lane(source, column, backward) for column in between]


def _bundles(model: Model) -> dict[tuple[str, str, bool], list[Edge]]:
    """Edges between the same two nodes are one arrow for the present and one for the past."""
    bundles: dict[tuple[str, str, bool], list[Edge]] = {}
    for edge in model.edges:
        bundles.setdefault((edge.source, edge.destination, edge.delay != 0), []).append(edge)
    return bundles


def _label(edge: Edge) -> str:
    name = edge.parameter if edge.port == "s" else edge.port
    name = _short(name or edge.structure)
    return f"{name}, {time_text(edge.delay)}" if edge.delay else name


def _short(text: str) -> str:
    """Text on one line that matplotlib does not read as a formula."""
    printable = "".join(character if character.isprintable() else "?" for character in text)
    shown = printable if len(printable) <= LONGEST else printable[: LONGEST - 1] + "…"
    return shown.replace("$", r"\$")


def _draw_node(axes: Any, node: Node, position: Position) -> None:
    x, y = position
    axes.add_patch(
        FancyBboxPatch(
            (x - WIDTH / 2, y - HEIGHT / 2), WIDTH, HEIGHT, boxstyle="round,pad=0,rounding_size=0.1",
            facecolor=COLORS[node.kind], edgecolor="#333333", linewidth=1, zorder=3,
        )
    )  # fmt: skip
    detail = f"{node.kind}, {node.size}" if node.equation is None else f"{node.size}: {_short(str(node.equation))}"
    axes.text(x, y + 0.1, _short(node.name), ha="center", va="center", fontsize=11, fontweight="bold", zorder=4)
    axes.text(x, y - 0.15, detail, ha="center", va="center", fontsize=7, zorder=4)


def _route(places: Layout, source: str, destination: str) -> list[Position]:
    """The points an arrow passes, each left and reached horizontally."""
    (x0, y0), (x1, y1) = places.position(source), places.position(destination)
    columns = places.columns[destination] - places.columns[source]
    if columns == 0:  # out and back on the right side
        return [(x0 + WIDTH / 2, y0), (x1 + WIDTH / 2, y1)]
    side, port = (WIDTH / 2, PORT) if columns > 0 else (-WIDTH / 2, -PORT)
    points = [(x0 + side, y0 + port)]
    for lane in _lanes(places.columns, source, destination):
        x, y = places.position(lane)
        points += [(x - side, y), (x + side, y)]
    return [*points, (x1 - side, y1 + port)]


def _draw_arrow(axes: Any, points: list[Position], delayed: bool, double: bool, labels: list[str]) -> Position:
    """A smooth arrow through the points, its label on the last bend; returns its outermost point."""
    outwards = points[0][0] == points[-1][0]
    vertices, codes = [points[0]], [Path.MOVETO]
    bend = points[-2:]
    for position, (start, end) in enumerate(pairwise(points)):
        reach = WIDTH / 2 if outwards else (end[0] - start[0]) / 2
        sag = -0.3 if delayed and double else 0.0  # beside its twin of the present
        controls = [(start[0] + reach, start[1] + sag), (end[0] + (reach if outwards else -reach), end[1] + sag)]
        vertices += [*controls, end]
        codes += [Path.CURVE4] * 3
        if position == len(points) - 2:
            bend = [start, *controls, end]
    color = DELAYED if delayed else NOW
    axes.add_patch(
        FancyArrowPatch(
            path=Path(vertices, codes), arrowstyle="-|>", mutation_scale=11, color=color, linewidth=1.1,
            linestyle=(0, (4, 2)) if delayed else "solid", zorder=2,
        )
    )  # fmt: skip
    at = (0.3 if delayed else 0.7) if double else 0.65 if delayed else 0.5
    weights = ((1 - at) ** 3, 3 * at * (1 - at) ** 2, 3 * at**2 * (1 - at), at**3)
    x, y = (sum(weight * point[axis] for weight, point in zip(weights, bend, strict=True)) for axis in (0, 1))
    _write(axes, (x, y), labels, color)
    return x, y


def _draw_loop(axes: Any, position: Position, labels: list[str]) -> Position:
    """An arc over a node that reads its own past; returns its outermost point."""
    x, y = position[0], position[1] + HEIGHT / 2
    top = y + 0.56
    ends = [(x + WIDTH / 4, y), (x + WIDTH / 2, top), (x - WIDTH / 2, top), (x - WIDTH / 4, y)]
    axes.add_patch(
        FancyArrowPatch(
            path=Path(ends, [Path.MOVETO, *[Path.CURVE4] * 3]), arrowstyle="-|>", mutation_scale=11, color=DELAYED,
            linewidth=1.1, linestyle=(0, (4, 2)), zorder=2,
        )
    )  # fmt: skip
    _write(axes, (x, y + 0.42), labels, DELAYED)
    return x, y + 0.6


def _write(axes: Any, position: Position, labels: list[str], color: str) -> None:
    if len(labels) > MOST_LINES:
        labels = [*labels[: MOST_LINES - 1], f"… {len(labels)} in all"]
    axes.text(
        *position, "\n".join(labels), ha="center", va="center", fontsize=7, color=color, zorder=5,
        bbox={"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
    )  # fmt: skip


__all__ = ["as_text_drawing", "draw", "layout"]
