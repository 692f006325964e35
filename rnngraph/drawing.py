"""A picture of a network, drawn by matplotlib (an optional extra)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import networkx as nx

from rnngraph.drawing_labels import FONT_SIZE, Bend, Box, Label, Position, label_lines, placed, short
from rnngraph.figures import checked_suffix, new_figure, write_figure
from rnngraph.listing import as_text_drawing
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
LONGEST_DETAIL = 24  # characters under a node's name
REACH, FURTHER, FURTHEST = 0.5, 0.25, 1.3  # how far an arrow within a layer leaves it: by rows, at most
SAG = 0.34  # of an arrow that reads another time step, beside its twin of the present


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

    Signals flow from left to right; what is read from another time step is drawn red and dashed, with its time.
    Raises BackendError without matplotlib, GraphError or a subclass when the graph breaks the contract, OptionError for
    a path of another format, DataError where the folder cannot be written to.
    """
    figure = new_figure("draw")
    suffix = checked_suffix(path)
    model = validate(graph)
    places = layout(model)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    for node in model.nodes.values():
        _draw_node(axes, node, places.position(node.name))
    nodes = [_node_box(places.position(name)) for name in model.nodes]
    bundles = _bundles(model)
    labels = []
    bounds = [places.position(place) for place in places.heights]
    for (source, destination, delayed), edges in bundles.items():
        double = (source, destination, not delayed) in bundles and source != destination
        bends = _loop(places.position(source)) if source == destination else _bends(places, source, destination)
        if double and delayed:
            bends = [_sagging(bend) for bend in bends]
        color = DELAYED if delayed else NOW
        _draw_arrow(axes, bends, color, dashed=delayed)
        share = (0.4 if delayed else 0.7) if double else 0.5 if source == destination or not delayed else 0.65
        side = -1 if double and delayed else 1 if source == destination else 0
        labels.append(Label(label_lines(edges, model), color, bends[-1], share, side))
        bounds += [bend.at(share) for bend in bends for share in (0.25, 0.5, 0.75)]
    boxes = placed(labels, nodes)
    for label, box in zip(labels, boxes, strict=True):
        _write(axes, label, box)
    bounds += [corner for box in boxes for corner in ((box.left, box.low), (box.right, box.high))]
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


def _draw_node(axes: Any, node: Node, position: Position) -> None:
    x, y = position
    axes.add_patch(
        FancyBboxPatch(
            (x - WIDTH / 2, y - HEIGHT / 2), WIDTH, HEIGHT, boxstyle="round,pad=0,rounding_size=0.1",
            facecolor=COLORS[node.kind], edgecolor="#333333", linewidth=1, zorder=3,
        )
    )  # fmt: skip
    detail = (
        f"{node.kind}, {node.size}"
        if node.equation is None
        else f"{node.size}: {short(str(node.equation), LONGEST_DETAIL)}"
    )
    axes.text(x, y + 0.1, short(node.name), ha="center", va="center", fontsize=11, fontweight="bold", zorder=4)
    axes.text(x, y - 0.15, detail, ha="center", va="center", fontsize=7, zorder=4)


def _node_box(position: Position) -> Box:
    x, y = position
    return Box(x - WIDTH / 2, y - HEIGHT / 2, x + WIDTH / 2, y + HEIGHT / 2)


def _bends(places: Layout, source: str, destination: str) -> list[Bend]:
    """The curve of an arrow: it leaves and reaches each node and each lane horizontally."""
    (x0, y0), (x1, y1) = places.position(source), places.position(destination)
    columns = places.columns[destination] - places.columns[source]
    if columns == 0:  # out and back: down on the right side, up on the left
        side, port = (WIDTH / 2, 0.0) if y1 < y0 else (-WIDTH / 2, -PORT)
        reach = min(REACH + FURTHER * (abs(y1 - y0) / ROW - 1), FURTHEST) * (1 if y1 < y0 else -1)
        start, end = (x0 + side, y0 + port), (x1 + side, y1 + port)
        return [Bend(start, (start[0] + reach, start[1]), (end[0] + reach, end[1]), end)]
    side, port = (WIDTH / 2, PORT) if columns > 0 else (-WIDTH / 2, -PORT)
    points = [(x0 + side, y0 + port)]
    for lane in _lanes(places.columns, source, destination):
        x, y = places.position(lane)
        points += [(x - side, y), (x + side, y)]
    points.append((x1 - side, y1 + port))
    bends = []
    for start, end in pairwise(points):
        half = (end[0] - start[0]) / 2
        bends.append(Bend(start, (start[0] + half, start[1]), (end[0] - half, end[1]), end))
    return bends


def _sagging(bend: Bend) -> Bend:
    """The curve a little lower between its ends."""
    (x1, y1), (x2, y2) = bend.first, bend.second
    return bend._replace(first=(x1, y1 - SAG), second=(x2, y2 - SAG))


def _loop(position: Position) -> list[Bend]:
    """An arc over a node that reads itself at another time step."""
    x, y = position[0], position[1] + HEIGHT / 2
    top = y + 0.56
    return [Bend((x + WIDTH / 4, y), (x + WIDTH / 2, top), (x - WIDTH / 2, top), (x - WIDTH / 4, y))]


def _draw_arrow(axes: Any, bends: list[Bend], color: str, dashed: bool) -> None:
    vertices = [bends[0].start, *(point for bend in bends for point in bend[1:])]
    axes.add_patch(
        FancyArrowPatch(
            path=Path(vertices, [Path.MOVETO, *[Path.CURVE4] * (len(vertices) - 1)]), arrowstyle="-|>",
            mutation_scale=11, color=color, linewidth=1.1, linestyle=(0, (4, 2)) if dashed else "solid", zorder=2,
        )
    )  # fmt: skip


def _write(axes: Any, label: Label, box: Box) -> None:
    """The text on a white ground that hides the arrow behind it."""
    axes.text(
        (box.left + box.right) / 2, (box.low + box.high) / 2, "\n".join(label.lines), ha="center", va="center",
        fontsize=FONT_SIZE, color=label.color, zorder=5,
        bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none"},
    )  # fmt: skip


__all__ = ["as_text_drawing", "draw", "layout"]
