"""The benchmark harness: unequal results stop it, a missing package is noted, the table says what was timed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.handwritten_lstm import named_parameters, pack
from benchmarks.harness import UnequalError, compare, write
from benchmarks.processes import Competitor, Task, UnavailableError, available_cores


def double(case: int) -> dict[str, Task]:
    x = np.arange(case, dtype=np.float32)
    return {"double": Task(lambda: 2 * x, lambda y: [y])}


def add_to_itself(case: int) -> dict[str, Task]:
    x = np.arange(case, dtype=np.float32)
    return {"double": Task(lambda: x + x, lambda y: [y])}


def wrong(case: int) -> dict[str, Task]:
    x = np.arange(case, dtype=np.float32)
    return {"double": Task(lambda: 2 * x + 1, lambda y: [y])}


def not_a_number(case: int) -> dict[str, Task]:
    return {"double": Task(lambda: np.full(case, np.nan), lambda y: [y])}


def absent(case: int) -> dict[str, Task]:
    raise UnavailableError("nothing is installed")


def test_table_of_equal_competitors(tmp_path: Path) -> None:
    before, cores = dict(os.environ), available_cores()
    competitors = [Competitor("double", double), Competitor("sum", add_to_itself), Competitor("absent", absent)]
    timings = compare("ten numbers", 10, competitors, rounds=2, seconds=0.001)
    assert (dict(os.environ), available_cores()) == (before, cores)
    text = write("table", "Doubling", timings, results=tmp_path)
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == text
    assert "case | threads | task | double | sum" in text
    assert "absent left out: nothing is installed" in text
    stored: dict[str, Any] = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))
    assert stored["machine"]["numpy"] == np.__version__
    assert [row["competitor"] for row in stored["timings"] if row["ratio"] == 1] == ["double"]


@pytest.mark.parametrize("other", [wrong, not_a_number])
def test_unequal_results_stop_the_comparison(other: Any) -> None:
    with pytest.raises(UnequalError, match="ten numbers, double: right and other"):
        compare("ten numbers", 10, [Competitor("right", double), Competitor("other", other)], rounds=1, seconds=0.001)


def test_named_parameters_and_packed_weights_convert_both_ways() -> None:
    packed = np.arange(6 * 12, dtype=np.float32).reshape(6, 12)
    named = named_parameters(packed, 2, 3)
    assert {name: value.shape for name, value in named.items() if name.endswith("_f")} == {
        "W_x_f": (2, 3),
        "W_h_f": (3, 3),
        "b_f": (3,),
    }
    np.testing.assert_array_equal(pack(named, 2, 3), packed)
