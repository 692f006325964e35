"""Words in error messages: the nearest known name, a value cut short; and the form in which names are compared."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable


def normalize_name(name: str) -> str:
    """The NFKC form of a name: Python's parser reads identifiers so, hence names are compared so."""
    return unicodedata.normalize("NFKC", name)


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate most like ``name``, or None where none is alike."""
    found = difflib.get_close_matches(name, list(candidates), n=1)
    return found[0] if found else None


def clip(value: object, limit: int = 60) -> str:
    """A short repr for an error message."""
    shown = repr(value)
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."
