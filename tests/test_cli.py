"""The command line: what each command prints, and that every error is one line and exit code 2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import rnngraph as rg
from rnngraph.cli import main
from rnngraph.cli.data import parse_columns, read_training
from rnngraph.cli.graphs import read_graph
from rnngraph.errors import DataError, GraphError, OptionError, RNNGraphError
from rnngraph.files import load_graph, load_table, save_arrays
from rnngraph.validate import validate

SMALL = "zoo:elman(2, 3, 1)"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def succeed(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("command", ["show", "derive", "emit", "embed", "verify", "train"])
def test_help_shows_an_example(command: str) -> None:
    assert f"Example: rnngraph {command} " in succeed(command, "--help")


def test_version() -> None:
    assert succeed("--version") == f"rnngraph {rg.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "zoo:none"), "lstm"),
        (("show", "zoo:none(3)"), "lstm"),
        (("show", "zoo:lstm(3)"), "hidden"),
        (("show", "zoo:lstm(3, x)"), "no call with literals"),
        (("show", "zoo:lstm(__import__('os').getcwd(), 3)"), "no call with literals"),
        (("show", "zoo:lstm(0, 3)"), "inputs"),
        (("show", "graph.yaml"), "FILE.json"),
        (("show", "none.py:net"), "no such file"),
        (("show", "none.py"), "FILE.py:NAME"),
        (("show", "none.json"), "No such file"),
        (("derive", SMALL, "--loss", "mes"), "loss"),
        (("derive", SMALL, "--loss", "y=mse", "--loss", "mse"), "--loss"),
        (("derive", SMALL, "--loss", "q=mse"), "'q'"),
        (("emit", SMALL, "--backend", "fortran"), "fortran"),
        (("emit", SMALL, "--dtype", "int8"), "int8"),
        (("emit", SMALL, "--output", "none/file.py"), "none/file.py"),
        (("emit", SMALL, "--output", "."), "names a file"),
        (("emit", SMALL, "--output", ".."), "Is a directory"),
        (("show", SMALL, "--save", "none/net.json"), "none/net.json"),
        (("train", SMALL, "empty.csv", "--save", "none/params.npz"), "none/params.npz"),
        (("train", SMALL, "empty.csv", "--save", "empty.csv/params.npz"), "empty.csv/params.npz"),
    ],
)
def test_errors_are_one_line(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.csv").touch()
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("rnngraph: ") and result.stderr.count("\n") == 1
    assert message in result.stderr
    assert result.stdout == ""


def test_show_and_save(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    text = succeed("show", SMALL, "--save", str(path))
    assert "x  input, 2 units" in text and "<- x(t)" in text
    assert "2 x 3" in text
    assert set(load_graph(path)) == {"x", "a", "y"}
    assert succeed("show", str(path)) == text


def test_derive() -> None:
    text = succeed("derive", SMALL)
    assert text == str(rg.gradient(read_graph(SMALL))) + "\n"
    assert "delta_y(t)" in text
    forward = succeed("derive", SMALL, "--forward", "--latex")
    assert forward.startswith(r"\begin{align}") and "delta" not in forward
    assert "softplus" in succeed("derive", SMALL, "--loss", "y=binary_cross_entropy")
    assert "abs(y(t) - target_y(t))" in succeed("derive", SMALL, "--loss", "abs(y - target)")


def test_emit(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    source = succeed("emit", SMALL, "--dtype", "float64")
    assert source == rg.compile(read_graph(SMALL), loss="mse", dtype="float64").source
    assert succeed("emit", SMALL, "--dtype", "float64", "--output", str(path)) == ""
    assert path.read_text(encoding="utf-8") == source
    compile(source, str(path), "exec")
    assert [path] == list(tmp_path.iterdir())


def test_embed(tmp_path: Path) -> None:
    kernel = rg.compile(read_graph(SMALL), dtype="float64")
    params = kernel.init(seed=1)
    save_arrays(params, tmp_path / "params.npz")
    rg.save_state({"a": np.full((1, 1, 3), 0.5)}, tmp_path / "state.npz")
    options = "--name", "net", "--dtype", "float64", "--state", str(tmp_path / "state.npz")
    assert succeed("embed", SMALL, str(tmp_path / "params.npz"), str(tmp_path / "new"), *options) == ""
    expected = kernel.save_c(tmp_path / "other", params, name="net", state={"a": np.full((1, 1, 3), 0.5)})
    for path in expected:
        assert (tmp_path / "new" / path.name).read_text() == path.read_text()
    wrong = run("embed", SMALL, str(tmp_path / "params.npz"), str(tmp_path / "new"), "--name", "3")
    assert wrong.exit_code == 2 and "letter first" in wrong.stderr


def test_verify() -> None:
    text = succeed("verify", SMALL)
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]
    expected = rg.verify(read_graph(SMALL)).rows
    assert [(row[0], row[1], row[4], row[5]) for row in rows] == [
        (row.check, row.quantity, "yes", row.detail) for row in expected
    ]
    assert all(row.detail for row in expected) and "compared" in text


def test_graph_from_a_python_file(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("SIZE = 3\n", encoding="utf-8")
    file = tmp_path / "nets.py"
    file.write_text(
        "import networkx as nx\nfrom helper import SIZE\n\n"
        "def build():\n    g = nx.MultiDiGraph()\n    g.add_node('x', kind='input', size=SIZE)\n"
        "    g.add_node('y', kind='output', size=1)\n    g.add_edge('x', 'y')\n    return g\n\n"
        "net = build()\nnumber = 3\n",
        encoding="utf-8",
    )
    assert succeed("show", f"{file}:net") == succeed("show", f"{file}:build")
    with pytest.raises(OptionError, match="no 'other'"):
        read_graph(f"{file}:other")
    with pytest.raises(GraphError, match="found a int"):
        read_graph(f"{file}:number")
    file.write_text("x = = 1\n", encoding="utf-8")
    with pytest.raises(OptionError, match=r"nets.py:net: found SyntaxError at .*nets.py:1: invalid syntax"):
        read_graph(f"{file}:net")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import nothing_of_this_name\n", "ModuleNotFoundError at nets.py:1: No module named 'nothing_of_this_name'"),
        ("\ndef net():\n    return [][1]\n", "IndexError at nets.py:3: list index out of range"),
        ("\ndef net(size, *more, depth=1):\n    pass\n", "a function that needs size (nets.py:2)"),
        ("class net:\n    def __init__(self, size):\n        pass\n", "TypeError at nets.py: "),
        ("import broken\n", "broken.py:2: "),
        ("import sys\nsys.exit(3)\n", "SystemExit at nets.py:2: 3"),
        ("raise ValueError('a\\nb')\n", "ValueError at nets.py:1: a b"),
        ("raise ValueError\n", "ValueError at nets.py:1; expected"),
        ("def net():\n    return net()\n", "RecursionError at nets.py:2: "),
        ("import rnngraph as rg\nnet = rg.zoo.lstm(0, 3)\n", "inputs"),
        ("x = '\0'\n", "null bytes"),
    ],
)
def test_errors_in_a_python_file_are_one_line(
    text: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.py").write_text("x = 1\ny = = 2\n", encoding="utf-8")
    Path("nets.py").write_text(text, encoding="utf-8")
    result = run("show", "nets.py:net")
    assert result.exit_code == 2
    assert result.stderr.startswith("rnngraph: ") and result.stderr.count("\n") == 1
    assert found in result.stderr.replace(f"{tmp_path}/", "")
    assert result.stdout == ""


def series(path: Path, steps: int = 60) -> Path:
    t = np.arange(steps)
    u, v = np.sin(0.3 * t), np.cos(0.2 * t)
    y = 0.5 * u + 0.3 * np.roll(v, 1)
    np.savetxt(path, np.stack([u, v, y], axis=1), delimiter=",", header="u,v,y", comments="")
    return path


def test_train_on_csv_saves_parameters(tmp_path: Path) -> None:
    data, saved = series(tmp_path / "series.csv"), tmp_path / "params.npz"
    text = succeed(
        "train", SMALL, str(data), "--input", "x=u,v", "--target", "y=y", "--epochs", "30", "--learning-rate", "0.02",
        "--window", "20", "--save", str(saved), "--validation", str(data),
    )  # fmt: skip
    lines = [line.split() for line in text.splitlines()]
    assert lines[0][:2] == ["epoch", "loss"]
    losses = [float(words[1]) for words in lines[1:] if words[0].isdecimal()]
    assert losses[-1] < 0.5 * losses[0]
    table = load_table(saved)
    assert {name: array.shape for name, array in table.items()} == dict(validate(read_graph(SMALL)).parameters)


def test_train_takes_columns_in_order(tmp_path: Path) -> None:
    data = series(tmp_path / "series.csv")
    for optimizer in ("sgd", "momentum"):
        assert "epoch" in succeed("train", SMALL, str(data), "--epochs", "2", "--optimizer", optimizer)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--input", "x=u,w"), "no column 'w'"),
        (("--input", "z=u"), "'z'"),
        (("--input", "x"), "NODE=COLUMN"),
        (("--input", "x=u"), "1 columns"),
        (("--window", "100"), "at most 60"),
        (("--learning-rate", "-1"), "learning_rate"),
        (("--optimizer", "lbfgs", "--learning-rate", "1"), "lbfgs"),
        (("--optimizer", "ekf", "--learning-rate", "1"), "ekf"),
        (("--epochs", "0"), "epochs"),
    ],
)
def test_train_errors(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    result = run("train", SMALL, str(series(tmp_path / "series.csv")), *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("rnngraph: ") and message in result.stderr


@pytest.mark.parametrize("optimizer", ["levenberg-marquardt", "ekf"])
def test_second_order_optimizers(tmp_path: Path, optimizer: str) -> None:
    data = str(series(tmp_path / "series.csv"))
    result = run("train", SMALL, data, "--input", "x=u,v", "--target", "y=y", "--optimizer", optimizer, "--epochs", "2")
    assert result.exit_code == 0 and "2 epochs" in result.stdout


def test_divergence_is_one_line(tmp_path: Path) -> None:
    data = str(series(tmp_path / "series.csv"))
    for optimizer in ("sgd", "adam"):
        result = run("train", SMALL, data, "--learning-rate", "1e30", "--optimizer", optimizer)
        assert result.exit_code == 2
        assert result.stderr.startswith("rnngraph: epoch ") and result.stderr.count("\n") == 1


def read(folder: Path, table: dict[str, Any], graph: str, **options: Any) -> rg.Prepared:
    """The table by way of an npz file."""
    save_arrays(table, folder / "table.npz")
    return read_training(str(folder / "table.npz"), read_graph(graph), {}, {}, **{"fill": "initial", **options})


def test_columns_to_arrays(tmp_path: Path) -> None:
    table = {"x": np.arange(24.0).reshape(6, 2, 2), "target_y": np.arange(12.0).reshape(6, 2)}
    data = read(tmp_path, table, SMALL)
    np.testing.assert_array_equal(data.inputs["x"], table["x"])
    np.testing.assert_array_equal(data.targets["y"][:, :, 0], table["target_y"])
    data = read(tmp_path, table, SMALL, window=3)
    assert data.inputs["x"].shape == (3, 4, 2) and data.targets["y"].shape == (3, 4, 1)
    for sequence, (start, batch) in enumerate([(0, 0), (0, 1), (3, 0), (3, 1)]):
        np.testing.assert_array_equal(data.inputs["x"][:, sequence], table["x"][start : start + 3, batch])
        np.testing.assert_array_equal(data.targets["y"][:, sequence, 0], table["target_y"][start : start + 3, batch])


def test_columns_left_over_are_taken_in_order(tmp_path: Path) -> None:
    table = {name: np.full(2, float(position)) for position, name in enumerate(["y", "u", "v"])}
    data = read(tmp_path, table, SMALL)
    assert data.inputs["x"][0].tolist() == [[1.0, 2.0]] and data.targets["y"][0].tolist() == [[0.0]]


def test_classes_are_integers(tmp_path: Path) -> None:
    table = {"1": np.arange(4.0), "2": np.array([0.0, 2.0, 1.0, 0.0])}
    labels = read(tmp_path, table, "zoo:elman(1, 2, 3)", loss="cross_entropy").targets["y"]
    assert labels.dtype == np.int64 and labels.tolist() == [[0], [2], [1], [0]]
    for wrong in (3.0, -1.0, 0.5):
        table["2"][0] = wrong
        with pytest.raises(DataError, match="class"):
            read(tmp_path, table, "zoo:elman(1, 2, 3)", loss="cross_entropy")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"a": np.zeros(3), "b": np.zeros(3)}, "2 columns"),
        ({"a": np.zeros(3), "y": np.zeros(3)}, r"found 1 columns; expected 2 \(x: 2\)"),
        ({"x": np.zeros((3, 2)), "y": np.zeros(4)}, "of one length"),
        ({"x": np.zeros((3, 1, 2, 1)), "y": np.zeros(3)}, "4 axes"),
        ({"x": np.zeros((3, 2))}, "no column 'y'"),
    ],
)
def test_bad_tables(tmp_path: Path, table: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(RNNGraphError, match=message):
        read(tmp_path, table, SMALL)


def test_train_fills_the_delays_from_the_samples(tmp_path: Path) -> None:
    data = str(series(tmp_path / "series.csv"))
    graph = "zoo:narx(2, 3, 1, 2, 4)"
    found = [
        succeed("train", graph, data, "--epochs", "1", *options).split("\n")[1].split()[1]
        for options in (["--fill", "initial"], [], ["--fill", "samples", "--horizon", "1"], ["--window", "10"])
    ]
    kernel = rg.compile(read_graph(graph))
    table = load_table(data)
    given = {"x": np.stack([table["u"], table["v"]], axis=1), "y": table["y"]}
    prepared = [
        rg.prepare(given, read_graph(graph), **options) for options in ({"fill": "initial"}, {}, {"horizon": 1})
    ]
    for text, data_of in zip(found, [*prepared, rg.windows(prepared[1], 10)], strict=True):
        assert float(text) == pytest.approx(kernel.loss(kernel.init(), **data_of), rel=1e-3)
    result = run("train", graph, data, "--fill", "samples", "--window", "57")
    assert result.exit_code == 2 and "--window: found 57; expected at most 56 steps" in result.stderr


def test_column_ranges() -> None:
    assert parse_columns(["x=1-3,7", "x=a-b", "y=k"], "--input") == {"x": ["1", "2", "3", "7", "a-b"], "y": ["k"]}
