"""Source text -> module, with the text in linecache so that tracebacks show the generated lines."""

from __future__ import annotations

import hashlib
import itertools
import linecache
import weakref
from types import ModuleType

_NUMBERS = itertools.count(1)


def load_source(source: str, name: str = "kernel") -> ModuleType:
    """Execute generated source as a module of its own (it is not put into ``sys.modules``)."""
    digest = hashlib.sha256(source.encode("utf-8")).hexdigest()[:16]
    filename = f"<rnngraph {name} {digest} {next(_NUMBERS)}>"
    module = ModuleType(f"rnngraph_{name}_{digest}")
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    weakref.finalize(module, linecache.cache.pop, filename, None)
    exec(compile(source, filename, "exec"), module.__dict__)
    return module
