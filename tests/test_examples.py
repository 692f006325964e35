"""README, ARCHITECTURE, docs and examples: what they show is what happens.

``--update-golden`` writes the printed blocks of README and docs anew, and ARCHITECTURE.md's rows for files that came
or went.
"""

from __future__ import annotations

import ast
import hashlib
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pages
import pytest
from click.testing import CliRunner

import rnngraph as rg
from examples import embedded, equations, gradient_flow, graph_algebra, own_cell
from examples.sunspots.__main__ import main as sunspots
from examples.sunspots.networks import KINDS
from examples.sunspots.record import DATA, Record
from examples.sunspots.report import errors, plot
from rnngraph.cli import main as command_line
from rnngraph.zoo import NETWORKS

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
MATLAB_PAGE = ROOT / "docs" / "coming-from-matlab.md"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder to run in, from which Python imports."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("elman_numpy", "narx_numpy"):
        monkeypatch.setitem(sys.modules, name, None)  # so that it is gone afterwards
        del sys.modules[name]
    return tmp_path


def test_readme_python_blocks_run_and_print_what_is_shown(folder: Path, update_golden: bool) -> None:
    names = pages.run(README, update_golden)
    inputs = {"x": names["series"][:3]}
    expected, _ = names["kernel"].forward(names["params"], inputs)
    np.testing.assert_allclose(names["forecast"], expected["y"][-1], rtol=1e-12)


def test_matlab_page_runs_and_prints_what_is_shown(folder: Path, update_golden: bool) -> None:
    names = pages.run(MATLAB_PAGE, update_golden)
    # The saved module streams what the closed kernel computes.
    expected, _ = names["free"].forward(names["closed_params"], {"x": names["u"][400:403]}, names["closed_state"])
    np.testing.assert_allclose(names["streamed"], expected["y"], rtol=1e-12)


def test_matlab_page_names_what_there_is() -> None:
    text = MATLAB_PAGE.read_text("utf-8")
    for name in ("narxnet", "narnet", "timedelaynet", "distdelaynet", "layrecnet", "elmannet", "closeloop", "openloop",
                 "adddelay", "removedelay", "preparets", "trainlm", "trainbr", "trainscg", "genFunction", "getwb",
                 "setwb", "view", "plotresponse", "ploterrcorr", "con2seq", "sim", "perform", "mapminmax", "mapstd",
                 "netprod"):  # fmt: skip
        assert f"`{name}" in text, name
    for call in re.findall(r"`(?:rg\.)?zoo\.(\w+)\(", text):
        assert call in NETWORKS, call
    unknown = {name for name in re.findall(r"`rg\.(\w+)", text) if not hasattr(rg, name)}
    assert not unknown, unknown


def test_readme_commands(folder: Path, update_golden: bool) -> None:
    time = np.arange(60.0)
    table = np.column_stack([np.sin(time), np.cos(time)])
    np.savetxt("series.csv", table, delimiter=",", header="u,v", comments="")
    count = 0
    for _, language, text in pages.blocks(README):
        commands = [
            line.removeprefix("$ ") for line in text.splitlines() if line.removeprefix("$ ").startswith("rnngraph ")
        ]
        for command in commands:
            result = CliRunner().invoke(command_line, shlex.split(command)[1:])
            assert result.exit_code == 0, f"{command}: {result.output}"
            count += 1
            if language == "console":
                pages.compare(README, text, language, f"$ {command}\n{result.stdout}", update_golden)
    assert count >= 7
    assert {"gru_numpy.py", "gru_cupy.py", "params.npz"} <= {path.name for path in folder.iterdir()}


def test_readme_names_the_zoo_and_existing_files() -> None:
    text = README.read_text("utf-8")
    for name in NETWORKS:
        assert f"`{name}`" in text
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in link:
            assert (ROOT / link).exists(), link


def test_data_file_is_intact() -> None:
    digest = hashlib.sha256(DATA.read_bytes()).hexdigest()
    assert digest == "f67889b1d9002cd5227f0e0ef54e35b419cdd85a31279adef6f73fb41e5c0a9b"
    record = Record()
    assert record.years.tolist() == list(range(1700, 2009))
    assert (record.numbers[0], record.numbers.max()) == (5.0, 190.2)
    assert "public domain" in (DATA.parent / "SOURCE.md").read_text("utf-8")


def test_sunspots_in_quick_mode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = sunspots(["--quick", "--output", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "delta_s_a(t) = tanh'(s_a(t)) * (V delta_y(t) + R delta_s_a(t+1))" in printed
    written = {path.name for path in tmp_path.iterdir()}
    assert {"elman_numpy.py", "narx_numpy.py", "lstm_numpy.py", "elman_cupy.py"} <= written
    record = Record()
    rows = {result.name: errors(record, result) for result in results}
    # The linear models and persistence do not depend on the mode: README's figures are theirs.
    readme = README.read_text("utf-8")
    for name in ("AR(12) on square roots", "AR(12) on plain numbers", "persistence, y(t) = x(t-1)"):
        assert f"{name} | {' | '.join(f'{error:.3f}' for error in rows[name])}" in readme
    for result in results[:3]:
        assert np.isfinite(result.forecast).all()
        assert rows[result.name][1] < rows["persistence, y(t) = x(t-1)"][1]


def test_a_forecast_sees_no_later_year() -> None:
    """Changing the numbers from 1900 on changes no forecast up to 1900."""
    series = Record().scaled
    changed = series.copy()
    changed[200:] += 1.0
    for kind in KINDS:
        kernel = rg.compile(kind.build(kind.hidden), dtype="float64")
        params = kernel.init(seed=0)
        before, after = (kernel.forward(params, {"x": each})[0]["y"] for each in (series, changed))
        np.testing.assert_array_equal(before[:201], after[:201])
        assert (before[201] != after[201]).all()


def test_sunspot_picture(tmp_path: Path) -> None:
    record = Record()
    results = sunspots(["--quick", "--output", str(tmp_path)])
    plot(record, results, results[3], tmp_path / "forecast.png")
    assert (tmp_path / "forecast.png").stat().st_size > 10_000


def test_equations_example(capsys: pytest.CaptureFixture[str]) -> None:
    equations.main([])
    assert "c(t) = i(t) * z(t) + f(t) * c(t-1)" in capsys.readouterr().out
    equations.main(["--latex"])
    assert r"\begin{align}" in capsys.readouterr().out


def test_own_cell_learns(capsys: pytest.CaptureFixture[str]) -> None:
    assert own_cell.main() > 0.95


def test_gradient_flow_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elman, lstm = gradient_flow.main([str(tmp_path / "flow.png")]).values()
    printed = capsys.readouterr().out
    assert "(1) diag(f(t)) diag(f(t-1))" in printed
    assert "diag(tanh'(s_a(t))) R^T diag(tanh'(s_a(t-1))) R^T" in printed
    assert (tmp_path / "flow.png").stat().st_size > 10_000
    # README's words
    assert elman.curve("a").mean[-1] < 1e-9
    assert lstm.curve("c", alone=True).minimum[-1] > 0.5


def test_graph_algebra_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert max(graph_algebra.main([str(tmp_path)])) < 1e-12
    printed = capsys.readouterr().out
    assert '<- "a@2"(t)  dense R (3x3)' in printed
    assert "delta_a(t) = V_T^T delta_y(t) + R_T^T delta_s_a(t-1)" in printed
    assert all((tmp_path / name).stat().st_size > 10_000 for name in ("unfolded.png", "unfolded_adjoint.png"))


def test_embedded_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = embedded.main([str(tmp_path)])
    assert printed is None or printed.startswith("largest error of 100 steps: ")
    assert (
        "void tank_step(tank_state *state, const float x[TANK_X_SIZE], float y[TANK_Y_SIZE]);"
        in capsys.readouterr().out
    )


def first_sentence(path: Path) -> str:
    """The first paragraph of a file's docstring, as a cell of a table."""
    paragraph = (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split("\n\n")[0]
    return paragraph.replace("\n", " ").replace("``", "`").replace("|", "or").rstrip(".")


def test_architecture_names_every_file(update_golden: bool) -> None:
    architecture = ROOT / "ARCHITECTURE.md"
    lines = architecture.read_text("utf-8").splitlines()
    rows = {match[1]: line for line in lines if (match := re.match(r"`([\w/]+\.py)` \|", line))}
    files = {
        str(path.relative_to(ROOT))
        for package in ("rnngraph", "codegen")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    }
    if update_golden:
        lines = [line for line in lines if line not in {rows[gone] for gone in rows.keys() - files}]
        for missing in sorted(files - rows.keys()):
            folder = f"`{Path(missing).parent}/"
            beside = [k for k, line in enumerate(lines) if re.match(rf"{folder}\w+\.py`", line)]
            lines.insert(beside[-1] + 1, f"`{missing}` | {first_sentence(ROOT / missing)}")
        architecture.write_text("\n".join(lines) + "\n", "utf-8")
        return
    assert rows.keys() == files, (
        f"ARCHITECTURE.md lacks {sorted(files - rows.keys())}, names {sorted(rows.keys() - files)}: "
        "run this test with --update-golden and word the new rows"
    )
