"""The backends by name: how each prints a program."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from codegen.ir import Program
from codegen.printers import print_numpy

from rnngraph.errors import OptionError, UnsupportedError

PRINTERS: Mapping[str, Callable[[Program], str]] = {"numpy": print_numpy}
LATER_BACKENDS = ("c",)
DTYPES = ("float32", "float64")


def check_backend(backend: object, dtype: object) -> tuple[str, str]:
    """The names of the backend and the dtype; raises OptionError, or UnsupportedError for a backend to come."""
    if backend in LATER_BACKENDS:
        raise UnsupportedError(
            "backend", repr(backend), f"one of {list(PRINTERS)}", "use 'numpy'; this backend comes in a later version"
        )
    if not isinstance(backend, str) or backend not in PRINTERS:
        raise OptionError("backend", repr(backend), f"one of {list(PRINTERS)}", "check the spelling")
    name = getattr(dtype, "__name__", None) or getattr(dtype, "name", None) or str(dtype)
    if name not in DTYPES:
        raise OptionError("dtype", repr(dtype), f"one of {list(DTYPES)}", "train in one of these")
    return backend, name
