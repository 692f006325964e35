"""docs/learning-rules.md shows what is derived; ``--update-golden`` (or ``make golden``) writes its blocks anew."""

from __future__ import annotations

import re
from pathlib import Path

import rnngraph as rg
from rnngraph import zoo
from rnngraph.errors import UnsupportedError

PAGE = Path(__file__).resolve().parent.parent / "docs" / "learning-rules.md"
BLOCK = re.compile(r"<!-- equations: (\w+) (\w+)((?: \w+=\d+)*) -->\n```text\n(.*?)```", re.DOTALL)
NETWORKS = {"elman": lambda: zoo.elman(3, 4, 2, recurrence="dense"), "lstm": lambda: zoo.lstm(3, 4)}


def equations(network: str, method: str, options: str) -> str:
    """The equations as printed, after those that all rules share."""
    chosen = {key: int(value) for key, value in (each.split("=") for each in options.split())}
    try:
        text = str(rg.gradient(NETWORKS[network](), loss="mse", method=method, **chosen))
    except UnsupportedError as error:
        return f"{error}\n"
    if method == "bptt":
        return f"{text}\n"
    heading, _, rest = text.partition("\n\n")
    start = re.search(r"^(Errors of one step|Backward)$", rest, re.MULTILINE)
    return f"{heading}\n\n{rest[start.start() if start else 0 :]}\n"


def test_page_shows_what_is_derived(update_golden: bool) -> None:
    text = PAGE.read_text("utf-8")
    assert len(BLOCK.findall(text)) >= 6

    def written(match: re.Match[str]) -> str:
        network, method, options, _ = match.groups()
        shown = equations(network, method, options)
        return f"<!-- equations: {network} {method}{options} -->\n```text\n{shown}```"

    new = BLOCK.sub(written, text)
    if update_golden:
        PAGE.write_text(new, "utf-8")
        return
    assert new == text, "docs/learning-rules.md shows other equations: run make golden and read the difference"
