"""The pages of docs: their Python blocks run and print what they show; ``--update-golden`` writes the printed blocks
anew."""

from __future__ import annotations

from pathlib import Path

import pages
import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"


@pytest.mark.parametrize(("page", "written"), [("data.md", "level_numpy.py"), ("delays.md", None), ("units.md", None)])
def test_page_runs_and_prints_what_is_shown(
    page: str, written: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, update_golden: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    pages.run(DOCS / page, update_golden)
    assert written is None or (tmp_path / written).exists()
