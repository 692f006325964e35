"""benchmarks/gpu.py as far as it goes without a device: exit status, checks, tables, the two sides of a case."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu

ROOT = Path(__file__).resolve().parent.parent
SHAPE = gpu.Shape(7, 3, 4, 5)


def test_one_line_and_status_2_without_a_device() -> None:
    if gpu.no_device() is None:
        pytest.skip("there is a device")
    environment = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "gpu.py")],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "CuPy" in done.stderr


def test_package_works_without_click_and_rich() -> None:
    text = (
        "import sys; sys.modules['rich'] = sys.modules['rich.console'] = sys.modules['click'] = None\n"
        "import rnngraph as rg; print(len(rg.compile(rg.zoo.lstm(2, 3), backend='cupy').source) > 1000)"
    )
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}, check=True
    )
    assert done.stdout == "True\n"


@pytest.mark.usefixtures("host_cupy")
def test_checks_and_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "RESULTS", tmp_path / "results")
    monkeypatch.setenv("OUT", str(tmp_path / "out"))
    checks = [(name, gpu.check_graph(gpu.rg.zoo.example(name), 3)) for name in ("elman", "lstm")]
    assert checks == [("elman", None), ("lstm", None)]
    timing = gpu.Timing("LSTM", True, 2.0, 4.0, (1.5, 2.5, 3.0, 5.0), 1e-6)
    text = gpu.write_report(gpu.device_facts(), [*checks, ("broken", "gradient off")], [timing])
    assert "the host" in text
    assert "2 of 3 networks" in text
    assert "LSTM | on | 2 (1.5 to 2.5) | 4 (3 to 5) | 0.50 | 1.0e-06" in text
    for folder in ("results", "out"):
        assert (tmp_path / folder / "gpu.md").read_text(encoding="utf-8") == text
        assert json.loads((tmp_path / folder / "gpu.json").read_text(encoding="utf-8"))["timings"][0]["ours"] == 2.0


@pytest.mark.peers
@pytest.mark.usefixtures("host_cupy")
@pytest.mark.parametrize("build", [gpu.lstm_problem, gpu.cell_problem])
def test_both_sides_of_a_case_agree(build: object) -> None:
    pytest.importorskip("torch")
    timing = gpu.time_case("case", build(SHAPE), tf32=False, device="cpu", rounds=2)  # type: ignore[operator]
    assert timing.error < 1e-5
    assert timing.ours > 0 < timing.torch
