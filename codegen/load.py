"""Source text -> module, with the text in linecache so that tracebacks show the generated lines."""

from __future__ import annotations

import hashlib
import linecache
from types import ModuleType


def load_source(source: str, name: str = "kernel") -> ModuleType:
    """Execute generated source as a module of its own (it is not put into ``sys.modules``)."""
    digest = hashlib.sha256(source.encode("utf-8")).hexdigest()[:16]
    filename = f"<rnngraph {name} {digest}>"
    module = ModuleType(f"rnngraph_{name}_{digest}")
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    exec(compile(source, filename, "exec"), module.__dict__)
    return module
