"""The picture and the listing of a network."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import networkx as nx
import pytest

from rnngraph import zoo
from rnngraph.drawing import as_text_drawing, draw, layout
from rnngraph.drawing_labels import label_lines, short
from rnngraph.errors import DataError, GraphError, OptionError
from rnngraph.validate import validate

LISTING = """\
x  input, 3 units
a  16 units, tanh(s)
     <- x(t)    dense W (3x16)
     <- a(t-1)  dense R (16x16)
     + b_a (16)
y  output, 1 unit, weighted sum, starts at y_0 (learned)
     <- a(t)    dense V (16x1)
     <- y(t-2)  diagonal W_y_y (1)
     <- x(t-1)  fixed C_x_y (3x1)
     + b_y (1)"""


def network() -> nx.MultiDiGraph:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=3)
    graph.add_node("a", size=16, activation="tanh")
    graph.add_node("y", kind="output", size=1, initial="parameter")
    graph.add_edge("x", "a", parameter="W")
    graph.add_edge("a", "a", parameter="R", delay=1)
    graph.add_edge("a", "y", parameter="V")
    graph.add_edge("y", "y", structure="diagonal", delay=2)
    graph.add_edge("x", "y", structure="fixed", value=[[1], [0], [0]], delay=1)
    return graph


def test_listing() -> None:
    lines = as_text_drawing(network()).split("\n")
    assert sorted(lines) == sorted(LISTING.split("\n"))  # the order of a node's edges is the graph's


@pytest.mark.parametrize("name", sorted(zoo.NETWORKS))
def test_zero_delay_edges_run_to_the_right_and_nothing_overlaps(name: str) -> None:
    model = validate(zoo.example(name))
    places = layout(model)
    for edge in model.edges:
        if edge.delay == 0:
            assert places.columns[edge.source] < places.columns[edge.destination]
    positions = [places.position(place) for place in places.heights]
    assert len({(round(x, 6), round(y, 6)) for x, y in positions}) == len(positions)


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_picture_is_written(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    graph = nx.relabel_nodes(network(), {"x": "$a^b$ \n and a very long name", "a": "été"})
    graph.add_edge("été", "été", delay=[3, 4, 5, 6])
    path = tmp_path / f"net.{suffix}"
    figure = draw(graph, path)
    assert path.stat().st_size > 1000
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert "été" in texts
    assert any("R, t-1" in text and "5 in all" in text for text in texts)


@pytest.mark.parametrize(
    ("path", "error", "match"),
    [
        (
            "net.xyz",
            OptionError,
            r"path: found the ending '\.xyz'; expected one of \.png, \.pdf, \.svg; remedy: .*savefig",
        ),
        ("net", OptionError, "path: found no ending"),
        ("none/net.png", DataError, "none/net.png': found No such file"),
        (5, OptionError, "path: found 5 of type int"),
    ],
)
def test_bad_path_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Any, error: type[Exception], match: str
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=match):
        draw(network(), path)
    assert not list(tmp_path.iterdir())


def test_bad_graph_is_refused() -> None:
    graph = network()
    graph.nodes["a"]["size"] = 0
    with pytest.raises(GraphError, match="node 'a'"):
        as_text_drawing(graph)


def test_two_directions_within_a_layer_are_two_curves() -> None:
    patches = pytest.importorskip("matplotlib.patches")
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=1)
    graph.add_node("a", size=2)
    graph.add_node("b", kind="output", size=2)
    graph.add_edge("x", "a")
    graph.add_edge("a", "b", delay=3)
    graph.add_edge("b", "a", delay=-1)
    figure = draw(graph)
    arrows = [
        patch.get_path().vertices for patch in figure.axes[0].patches if isinstance(patch, patches.FancyArrowPatch)
    ]
    sides = [max(curve[:, 0].max() for curve in arrows), min(curve[:, 0].min() for curve in arrows[1:])]
    middle = layout(validate(graph)).position("a")[0]
    assert sides[1] < middle < sides[0]


def test_delays_that_share_parameters_have_one_line() -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    graph.add_node("y", kind="output", size=2)
    graph.add_edge("x", "y", delay={"max": 3, "learned": True}, parameter="W")
    graph.add_edge("x", "y", delay=[[1, 2], [5, 1]], parameter="V")
    model = validate(graph)
    assert label_lines(model.edges, model) == ("W, t-1…t-3 learned", "V, a delay per pair: 1, 2, 5")


def test_a_long_name_keeps_its_beginning_and_its_end() -> None:
    assert short("W_h_backward_i_backward") == "W_h_backwa…_backward"


@pytest.mark.parametrize("name", ["lstm", "gru", "tdnn", "narx", "bidirectional"])
def test_labels_cover_neither_nodes_nor_labels(name: str) -> None:
    pytest.importorskip("matplotlib")
    figure = draw(zoo.example(name))
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    for first, second in combinations(boxes, 2):
        assert not first.overlaps(second)


def test_listing_says_what_effective_weights_are_made_of() -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    graph.add_node("y", kind="output", size=2, bias=False)
    graph.add_edge("x", "y", delay={"max": 2, "learned": True}, parameter="W")
    graph.add_edge("x", "y", delay=[[1, 3], [3, 1]], parameter="V")
    listing = as_text_drawing(graph)
    assert "W_d2 (2x2) = W * softmax(alpha_W)[2]" in listing
    assert "V_d3 (2x2) = V where the delay is 3" in listing
