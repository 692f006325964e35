"""docs/data.md: its Python blocks run and print what they show; ``--update-golden`` writes the printed blocks anew."""

from __future__ import annotations

from pathlib import Path

import pages
import pytest

PAGE = Path(__file__).resolve().parent.parent / "docs" / "data.md"


def test_page_runs_and_prints_what_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, update_golden: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    pages.run(PAGE, update_golden)
    assert (tmp_path / "level_numpy.py").exists()
