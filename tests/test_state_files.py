"""States in files: what is saved is loaded, in the midst of a stream too; what is none is refused."""

from __future__ import annotations

from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from test_stream import many_delays

import rnngraph as rg


def test_a_state_goes_through_a_file(tmp_path: Path) -> None:
    """In the midst of a turn of the rings; names of nodes may be any text."""
    graph = nx.relabel_nodes(many_delays(), {"h": "h.npy", "c": "c/\u00fc '\n"})
    for node in graph:
        graph.nodes[node].setdefault("kind", "unit")
    kernel = rg.compile(graph, dtype="float32")
    params = kernel.init()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 1, 2)).astype(np.float32)
    stream = kernel.stream(params)
    for x_t in x[:33]:
        stream.step({"x": x_t})
    path = tmp_path / "state.npz"
    rg.save_state(stream.state, path)
    loaded = rg.load_state(path)
    assert list(loaded) == list(stream.state) and {value.dtype.name for value in loaded.values()} == {"float32"}
    other = kernel.stream(params, state=loaded)
    for x_t in x[33:]:
        np.testing.assert_array_equal(stream.step({"x": x_t})["h.npy"], other.step({"x": x_t})["h.npy"])
    assert list(tmp_path.iterdir()) == [path]


def test_names_beside_their_npy_twin(tmp_path: Path) -> None:
    state = {"a": np.zeros((1, 1, 2)), "a.npy": np.ones((1, 1, 2))}
    rg.save_state(state, tmp_path / "state.npz")
    loaded = rg.load_state(tmp_path / "state.npz")
    for node, value in state.items():
        np.testing.assert_array_equal(loaded[node], value)


def test_states_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    for state, match in (
        ([1.0], "an object of type list"),
        ({"h": np.zeros(3)}, r"node 'h': found an array of shape \(3,\)"),
        ({"h": np.full((1, 1, 1), np.nan)}, "NaN"),
        ({"h": np.full((1, 1, 1), "text")}, "dtype <U4"),
        ({"h\0": np.zeros((1, 1, 1))}, "a name that no npz file holds"),
        ({"h\ud800": np.zeros((1, 1, 1))}, "a name that no npz file holds"),
    ):
        with pytest.raises(rg.DataError, match=match):
            rg.save_state(state, path)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
    with pytest.raises(rg.DataError, match="No such file"):
        rg.load_state(path)
    np.savez(path, h=np.zeros(3))
    with pytest.raises(rg.DataError, match=r"node 'h': found an array of shape \(3,\)"):
        rg.load_state(path)
    np.savez(path, h=np.array([None]))
    with pytest.raises(rg.DataError, match="no valid npz"):
        rg.load_state(path)
    path.write_bytes(b"rubbish")
    with pytest.raises(rg.DataError, match="no valid npz"):
        rg.load_state(path)
