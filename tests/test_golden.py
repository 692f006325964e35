"""Emitted kernels as a reader sees them: golden files, compared line by line and run against the reference.

``pytest tests/test_golden.py --update-golden`` writes them anew (or ``make golden``): read the difference first.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from checking import assert_equals_reference, problem_for, to_numpy
from random_graphs import Problem

import rnngraph as rg
from codegen.load import load_source
from rnngraph import zoo
from rnngraph.backends import PRINTERS

FOLDER = Path(__file__).parent / "golden"
DEVICE_FILES = ("h", "c")

CASES: dict[str, tuple[Callable[[], nx.MultiDiGraph], str, tuple[str, ...]]] = {
    "elman": (lambda: zoo.elman(3, 4, 2, recurrence="dense"), "mse", ("parameters",)),
    "lstm": (lambda: zoo.lstm(3, 4), "mse", ("parameters", "inputs", "state")),
    "gru": (lambda: zoo.gru(3, 4, 2), "mse", ("parameters",)),
    "narx": (lambda: zoo.narx(2, 4, 1, 1, 2), "mse", ("parameters", "state")),
    "tdnn": (lambda: zoo.tdnn((3, 4, 2), ([0, 2], 1)), "mse", ("parameters", "inputs")),
    "feedforward": (lambda: zoo.feedforward((3, 4, 3)), "cross_entropy", ("parameters",)),
}


def golden_path(name: str, backend: str) -> Path:
    return FOLDER / f"{name}_{backend}.py.txt"


def read_golden(name: str, backend: str) -> str:
    path = golden_path(name, backend)
    if not path.exists():
        pytest.fail(f"{path.name} is missing: run pytest tests/test_golden.py --update-golden")
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", CASES)
def test_source_is_the_golden_one(name: str, backend: str, update_golden: bool) -> None:
    build, loss, wrt = CASES[name]
    source = rg.compile(build(), loss=loss, backend=backend, dtype="float64", wrt=wrt).source
    if update_golden:
        FOLDER.mkdir(exist_ok=True)
        golden_path(name, backend).write_text(source, encoding="utf-8")
        return
    golden = read_golden(name, backend)
    if source != golden:
        lines = difflib.unified_diff(golden.splitlines(), source.splitlines(), "golden", "emitted", lineterm="", n=1)
        shown = "\n".join(list(lines)[:60])
        pytest.fail(f"{golden_path(name, backend).name} differs; if that is meant, run with --update-golden:\n{shown}")


@pytest.mark.parametrize("name", CASES)
def test_golden_source_equals_reference(name: str, backend: str) -> None:
    build, loss, wrt = CASES[name]
    graph = build()
    output = "h" if "y" not in graph else "y"
    problem = problem_for(graph, 1, {output: loss}, T=5, batch=2, with_state=True, with_weights=True)
    module = load_source(read_golden(name, backend), backend)
    if backend == "cupy":  # the module takes arrays of the device
        problem = on_device(problem, module.cp.asarray)
    assert_equals_reference(module, graph, problem, loss, wrt, read_by_reference=on_device(problem, to_numpy))


def on_device(problem: Problem, move: Callable[[Any], Any]) -> Problem:
    """The same problem with every array moved."""

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: move(array) for name, array in value.items()}
        return None if value is None else move(value)

    return Problem(**{field.name: moved(getattr(problem, field.name)) for field in dataclasses.fields(problem)})


@pytest.mark.parametrize("end", DEVICE_FILES)
def test_text_for_a_device_is_the_golden_one(end: str, tmp_path: Path, update_golden: bool) -> None:
    """The header and the source: what the third file has recorded differs in its last digits between machines."""
    kernel = rg.compile(zoo.narx(2, 4, 1, [0, 1], 5))
    params = kernel.init()
    params.vector[:] = np.linspace(-1, 1, params.vector.size)
    files = kernel.save_c(tmp_path, params, name="narx")
    text = next(path for path in files if path.suffix == f".{end}").read_text("ascii")
    golden = FOLDER / f"narx_device.{end}.txt"
    if update_golden:
        golden.write_text(text, encoding="utf-8")
        return
    assert text == golden.read_text("utf-8"), f"{golden.name} differs; if that is meant, run with --update-golden"
    assert max(map(len, text.splitlines())) <= 120


def test_no_golden_file_is_left_over() -> None:
    expected = {golden_path(name, backend).name for name in CASES for backend in PRINTERS}
    expected |= {f"narx_device.{end}.txt" for end in DEVICE_FILES}
    assert {path.name for path in FOLDER.iterdir()} == expected


@pytest.mark.parametrize("name", CASES)
def test_golden_lines_are_readable(name: str) -> None:
    for backend in PRINTERS:
        for number, line in enumerate(read_golden(name, backend).splitlines(), start=1):
            is_text = line.lstrip().startswith(("#", "(", "//")) or '"""' in line
            assert len(line) <= 200 or is_text, f"{name}, {backend}, line {number} has {len(line)} characters"
            assert line == line.rstrip(), f"{name}, {backend}, line {number} ends in spaces"
