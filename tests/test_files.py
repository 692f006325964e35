"""Graph files and tables: what is saved comes back, what is wrong is named, nothing is left behind."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import sympy

from codegen.functions import FUNCTIONS
from rnngraph.errors import DataError, EquationError, GraphError, OptionError
from rnngraph.files import check_writable, load_graph, load_table, save_arrays, save_graph, write_atomic
from rnngraph.model import Model
from rnngraph.validate import validate


def network() -> nx.MultiDiGraph:
    graph = nx.MultiDiGraph(title="net")
    graph.add_node("x", kind="input", size=np.int64(2))
    graph.add_node("a b\n", size=2, equation=sympy.Symbol("s", real=True) ** 2 + 1, initial=0.5)
    graph.add_node(("y", 1), kind="output", size=1)
    graph.add_edge("x", "a b\n", structure="fixed", value=np.eye(2))
    graph.add_edge("a b\n", "a b\n", delay=[1, 2])
    graph.add_edge("a b\n", ("y", 1), key="k")
    graph.add_edge("a b\n", ("y", 1), delay=(3,))
    return graph


def test_graph_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    save_graph(network(), path)
    graph = load_graph(path)
    assert list(graph) == ["x", "a b\n", ("y", 1)]
    assert graph.graph == {"title": "net"}
    assert graph.nodes["x"] == {"kind": "input", "size": 2}
    assert graph.nodes["a b\n"] == {"size": 2, "equation": "s**2 + 1", "initial": 0.5}
    assert graph.edges["x", "a b\n", 0] == {"structure": "fixed", "value": [[1.0, 0.0], [0.0, 1.0]]}
    assert set(graph.edges(keys=True)) == set(network().edges(keys=True))
    assert [path] == list(tmp_path.iterdir())


def test_form_is_networkx_node_link(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    save_graph(network(), path)
    content = json.loads(path.read_text(encoding="utf-8"))
    read = nx.node_link_graph(content, edges="edges")
    assert nx.utils.graphs_equal(read, load_graph(path))


S = sympy.Symbol("s")


def saved_and_loaded(graph: nx.MultiDiGraph, folder: Path) -> nx.MultiDiGraph:
    save_graph(graph, folder / "net.json")
    return load_graph(folder / "net.json")


def assert_equal_models(found: Model, expected: Model) -> None:
    assert list(found.nodes.items()) == list(expected.nodes.items())
    assert found.edges == expected.edges
    assert list(found.parameters.items()) == list(expected.parameters.items())
    assert found.constants.keys() == expected.constants.keys()
    for name, value in expected.constants.items():
        np.testing.assert_array_equal(found.constants[name], value)


@pytest.mark.parametrize(
    ("equation", "text"),
    [
        (sympy.Abs(S), "abs(s)"),
        (sympy.Max(S, 0), "maximum(0, s)"),
        (sympy.Min(S, 1), "minimum(1, s)"),
        (sympy.Max(S, 0, -(S**2)), None),
        (sympy.atan(S), "arctan(s)"),
        (sympy.pi * S, None),
        (sympy.E * S, None),
        (sympy.exp(2 * S), "exp(2*s)"),
        (sympy.sqrt(S**2 + 1), "sqrt(s**2 + 1)"),
        (1 / sympy.sqrt(S**2 + 1), "1/sqrt(s**2 + 1)"),
        (S / 3 - sympy.Rational(2, 7) / S**3, "s/3 - 2/(7*s**3)"),
        (sympy.Float(1e-200) * S, None),
        (sympy.Function("gelu")(S), "gelu(s)"),
        *((rule.symbol(*[S, S**2 / 3][: rule.arity]), None) for rule in FUNCTIONS.values()),
    ],
)
def test_sympy_equation_comes_back_as_the_same_model(tmp_path: Path, equation: object, text: str | None) -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    graph.add_node("y", kind="output", size=2, equation=equation)
    graph.add_edge("x", "y")
    loaded = saved_and_loaded(graph, tmp_path)
    assert isinstance(loaded.nodes["y"]["equation"], str)
    assert text in (None, loaded.nodes["y"]["equation"])
    assert_equal_models(validate(loaded), validate(graph))


V = sympy.Symbol("V")


@pytest.mark.parametrize(
    "expression",
    [
        sympy.Abs(V),
        sympy.Max(V, 0),
        sympy.atan(V) * sympy.Symbol("G", real=True),
        sympy.E * V + sympy.Symbol("E") ** 2,
        1 / (1 + sympy.exp(-V)),
        *(rule.symbol(*[V, V**2 / 3][: rule.arity]) for rule in FUNCTIONS.values()),
        "abs(V)",
    ],
)
def test_sympy_expression_comes_back_as_the_same_weight(tmp_path: Path, expression: object) -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    graph.add_node("y", kind="output", size=2)
    graph.add_edge("x", "y", expression=expression, delay=[0, 1])
    loaded = saved_and_loaded(graph, tmp_path)
    assert isinstance(loaded.edges["x", "y", 0]["expression"], str)
    assert validate(loaded).weights == validate(graph).weights
    assert_equal_models(validate(loaded), validate(graph))


@pytest.mark.parametrize(
    ("expression", "error", "match"),
    [
        (sympy.zeta(V), EquationError, "edge 'x' -> .*unknown function"),
        (sympy.Float(1e-320) * V, GraphError, "edge 'x' -> .*the expression .* does not read back"),
        (sympy.Symbol("a b") * V, GraphError, "edge 'x' -> .*the expression .* does not read back"),
        (sympy.Symbol("tanh") * V, GraphError, "edge 'x' -> .*the expression .* does not read back"),
    ],
)
def test_expression_that_text_cannot_hold_is_refused(
    tmp_path: Path, expression: object, error: type[Exception], match: str
) -> None:
    graph = network()
    graph.add_edge("x", "a b\n", expression=expression)
    with pytest.raises(error, match=match):
        save_graph(graph, tmp_path / "net.json")
    assert not list(tmp_path.iterdir())


def test_other_accepted_types_come_back_as_the_same_model(tmp_path: Path) -> None:
    graph = nx.MultiDiGraph()
    graph.add_node(1, kind="input", size=sympy.Integer(2))
    graph.add_node(Fraction(1, 2), size=np.int64(2), initial=Fraction(1, 3), bias=np.bool_(True))
    graph.add_node(np.float32(0.1), size=2, initial=np.float32(0.1), activation=np.str_("tanh"))
    graph.add_node("y", kind="output", size=2, initial=sympy.Rational(1, 7), equation=S + sympy.Symbol("ſ"))
    graph.add_edge(1, Fraction(1, 2), delay=range(3))
    graph.add_edge(Fraction(1, 2), np.float32(0.1), delay=(0, np.int32(2)))
    graph.add_edge(np.float32(0.1), "y", structure="fixed", value=(range(2), np.ones(2)), delay=sympy.Integer(1))
    graph.add_edge("y", "y", delay=1, port="ſ")  # NFKC: s
    graph.add_edge(Fraction(1, 2), Fraction(1, 2), delay=1, structure="diagonal", parameter=None)
    assert_equal_models(validate(saved_and_loaded(graph, tmp_path)), validate(graph))


@pytest.mark.parametrize(
    ("equation", "error", "match"),
    [
        (sympy.zeta(S), EquationError, "node 'x': .*unknown function"),
        (sympy.Float(1e-320) * S, GraphError, "node 'x': .*does not read back; .* write the equation as text"),
    ],
)
def test_equation_that_text_cannot_hold_is_refused(
    tmp_path: Path, equation: object, error: type[Exception], match: str
) -> None:
    graph = network()
    graph.nodes["x"]["equation"] = equation
    with pytest.raises(error, match=match):
        save_graph(graph, tmp_path / "net.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}, b"x", "\ud800"])
def test_unsavable_attribute_is_named_and_no_file_is_left(tmp_path: Path, value: object) -> None:
    graph = network()
    graph.nodes["x"]["note"] = value
    with pytest.raises(GraphError, match="node 'x', attribute 'note'"):
        save_graph(graph, tmp_path / "net.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("{", DataError, "no valid JSON"),
        ("[" * 100_000, DataError, "no valid JSON"),
        ('{"nodes": [{"id": NaN}], "edges": [], "directed": true}', DataError, "NaN"),
        ("[]", GraphError, "list of nodes"),
        ('{"nodes": []}', GraphError, "list of edges"),
        ('{"nodes": [], "edges": []}', GraphError, "undirected"),
        ('{"nodes": [3], "edges": [], "directed": true}', GraphError, "node number 0"),
        ('{"nodes": [{"size": 3}], "edges": [], "directed": true}', GraphError, "no 'id'"),
        ('{"nodes": [{"id": {}}], "edges": [], "directed": true}', GraphError, "object as a name"),
        ('{"nodes": [{"id": 1}, {"id": 1}], "edges": [], "directed": true}', GraphError, "1 again"),
        ('{"nodes": [], "edges": [{"source": 1, "target": 1}], "directed": true}', GraphError, "edge number 0"),
    ],
)
def test_bad_json_is_refused(tmp_path: Path, text: str, error: type[Exception], match: str) -> None:
    path = tmp_path / "net.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(error, match=match):
        load_graph(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        load_graph(tmp_path / "none.json")
    with pytest.raises(DataError, match="No such file"):
        load_table(tmp_path / "none.csv")


def test_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "old"
    write_atomic(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(path, "\ud800")
    assert path.read_text() == "old"
    with pytest.raises(DataError, match="No such file"):
        write_atomic(tmp_path / "none" / "new", "new")
    assert [path] == list(tmp_path.iterdir())


@pytest.mark.parametrize("path", [5, None, b"net.json", "", "a\0b", "\ud800", "/"])
def test_what_is_no_path_is_refused(path: Any) -> None:
    for use in (load_graph, load_table, check_writable, lambda path: save_graph(network(), path)):
        with pytest.raises(OptionError, match=r"path: found .*; expected text or a pathlib\.Path"):
            use(path)


def test_writability_is_checked_without_a_trace(tmp_path: Path) -> None:
    path = tmp_path / "old"
    path.write_text("old")
    check_writable(path)
    check_writable(tmp_path / "new")
    assert path.read_text() == "old"
    assert [path] == list(tmp_path.iterdir())
    for wrong, match in ((tmp_path / "none" / "new", "No such file"), (path / "new", "Not a dir"), (tmp_path, "Is a")):
        with pytest.raises(DataError, match=match):
            check_writable(wrong)
    assert [path] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "names"),
    [("x,y\n1,2\n3,4\n", ["x", "y"]), ("1;2\n\n3;4", ["1", "2"]), ("\ufeffa\tb\r\n1\t2\r\n3\t4\r\n", ["a", "b"])],
)
def test_csv(tmp_path: Path, text: str, names: list[str]) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8", newline="")
    table = load_table(path)
    assert list(table) == names
    np.testing.assert_array_equal(np.stack(list(table.values()), axis=1), [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "no rows"),
        ("x,y\n", "header without rows"),
        ("x,x\n1,2\n", "different names"),
        ("x,y\n1,2\n3\n", "line 3: found 1 fields"),
        ("x,y\n1,two\n", "line 2, column 'y': found 'two'"),
        ("x,y\n1,nan\n", "line 2, column 'y': found 'nan'"),
        ('x,y\n1,"2\n', "no valid CSV"),
    ],
)
def test_bad_csv_is_located(tmp_path: Path, text: str, match: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=match):
        load_table(path)


def test_npz(tmp_path: Path) -> None:
    path = tmp_path / "table.npz"
    np.savez(path, x=np.arange(6, dtype=np.int32).reshape(3, 2), y=np.ones(3))
    table = load_table(path)
    assert {name: (array.shape, array.dtype) for name, array in table.items()} == {
        "x": ((3, 2), np.dtype(np.float64)),
        "y": ((3,), np.dtype(np.float64)),
    }


def test_arrays_of_any_name_come_back(tmp_path: Path) -> None:
    arrays = {"file": np.eye(2), "a b": np.zeros(0), "ü'": np.array(3.0)}
    save_arrays(arrays, tmp_path / "a.npz")
    table = load_table(tmp_path / "a.npz")
    assert list(table) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(table[name], array)
    with pytest.raises(ValueError, match="allow_pickle"):
        save_arrays({"x": np.array([None])}, tmp_path / "b.npz")
    assert [tmp_path / "a.npz"] == list(tmp_path.iterdir())


def test_npz_with_objects_or_rubbish_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.npz"
    np.savez(path, x=np.array([None, {}], dtype=object))
    with pytest.raises(DataError, match="no valid npz"):
        load_table(path)
    np.savez(path, x=np.array(["text"]))
    with pytest.raises(DataError, match="dtype"):
        load_table(path)
    np.savez(path, x=np.array([np.inf]))
    with pytest.raises(DataError, match="infinity"):
        load_table(path)
    path.write_bytes(b"PK rubbish")
    with pytest.raises(DataError, match="no valid npz"):
        load_table(path)
