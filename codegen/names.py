"""Names in emitted source: any text becomes a Python identifier that nothing else in the file uses."""

from __future__ import annotations

import builtins
import keyword
import re
import unicodedata
from collections.abc import Iterable


class Namer:
    """Maps keys to identifiers, one each; the same key always gets the same identifier.

    ``outer``: the namer of the scope around this one; neither takes a name of the other.
    """

    def __init__(self, reserved: set[str], outer: Namer | None = None) -> None:
        self.outer = outer
        self.inside: set[str] = set()
        self.taken = set(reserved) | set(keyword.kwlist) | set(keyword.softkwlist) | set(dir(builtins))
        self.names: dict[object, str] = {}

    def name(self, key: object, wanted: str) -> str:
        """The identifier of ``key``; at first use it is made from ``wanted``."""
        if key not in self.names:
            identifier = mangle(wanted)
            number = 2
            while self._is_taken(identifier):
                identifier = f"{mangle(wanted)}_{number}"
                number += 1
            self.taken.add(identifier)
            if self.outer is not None:
                self.outer.inside.add(identifier)
            self.names[key] = identifier
        return self.names[key]

    def _is_taken(self, identifier: str) -> bool:
        outside = self.outer is not None and identifier in self.outer.taken
        return outside or identifier in self.taken or identifier in self.inside


def mangle(text: str) -> str:
    """ASCII letters, digits and underscores, not starting with a digit or an underscore, at most 60 long."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")
    identifier = re.sub(r"[^0-9A-Za-z_]+", "_", ascii_text)[:60].strip("_")
    if not identifier or identifier[0].isdigit():
        identifier = f"v_{identifier}".rstrip("_")
    return identifier


def comment_text(text: str) -> str:
    """Text that is safe in a comment or docstring: one line, printable, no quotes that end a docstring, no
    backslash."""
    flat = "".join(character if character.isprintable() else " " for character in text)
    return flat.replace("\\", "/").replace('"""', "'''")


def words_of(lines: Iterable[str]) -> set[str]:
    """The words in some lines of source: all that they may name."""
    return set(re.findall(r"\w+", "\n".join(lines)))
