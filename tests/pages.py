"""Pages whose code is run: README and those in docs. A block after ``<!-- printed -->`` is what the code above prints.

Blocks marked ``python`` run in one namespace, top to bottom; other languages are shown alone.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import re
from pathlib import Path
from typing import Any

FENCE = re.compile(r"(<!-- printed -->\n)?```(\w+)\n(.*?)```", re.DOTALL)
SMALL = re.compile(r"(0|[\d.]+e-(1\d|2\d)) +(?=│)")  # a table's cell: 0 or about 1e-16


def blocks(page: Path) -> list[tuple[bool, str, str]]:
    """Whether the block is what the code before it prints, its language and its text, in order."""
    return [(bool(mark), language, text) for mark, language, text in FENCE.findall(page.read_text("utf-8"))]


def run(page: Path, update: bool) -> dict[str, Any]:
    """Run the page's Python and compare what it prints (or write it anew, if ``update``); the names it leaves."""
    names: dict[str, Any] = {}
    printed = ""
    for is_printed, language, text in blocks(page):
        if is_printed:
            compare(page, text, language, printed, update)
        elif language == "python":
            importlib.invalidate_caches()
            with contextlib.redirect_stdout(io.StringIO()) as stream:
                exec(compile(text, page.name, "exec"), names)
            printed = stream.getvalue()
    return names


def compare(page: Path, old: str, language: str, printed: str, update: bool) -> None:
    """What the page shows is what is printed; rounding errors, which differ between machines, left out."""
    printed = "\n".join(line.rstrip() for line in printed.strip("\n").splitlines()) + "\n"
    if update and printed != old:
        text = page.read_text("utf-8")
        before = f"```{language}\n{old}```"
        assert text.count(before) >= 1
        page.write_text(text.replace(before, f"```{language}\n{printed}```", 1), "utf-8")
        return
    assert SMALL.sub("#", printed) == SMALL.sub("#", old), (
        f"{page.name} shows another text: run this test with --update-golden and read the difference"
    )
