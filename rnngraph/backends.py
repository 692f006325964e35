"""The backends by name: how each prints a program, and how its module is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType

import numpy as np

from codegen.load import load_source
from codegen.printers import print_c, print_cupy, print_numpy
from codegen.program import Program
from rnngraph.errors import BackendError, OptionError

PRINTERS: Mapping[str, Callable[[Program], str]] = {
    "numpy": print_numpy,
    "cupy": print_cupy,
    "c": print_c,
}
INSTALL_CUPY = 'pip install "rnngraph[cuda12]" or "rnngraph[cuda13]" (cupy-cuda12x or cupy-cuda13x), as the driver is'
INSTALL_COMPILER = (
    'install gcc or clang, or pip install "rnngraph[c]", which brings a C compiler; or use backend="numpy"'
)
DTYPES = ("float32", "float64")


def check_backend(backend: object, dtype: object) -> tuple[str, str]:
    """The names of the backend and the dtype; raises OptionError."""
    if not isinstance(backend, str) or backend not in PRINTERS:
        raise OptionError("backend", repr(backend), f"one of {list(PRINTERS)}", "check the spelling")
    try:
        name = np.dtype(dtype).name  # type: ignore[call-overload]
    except TypeError:
        name = ""
    if name not in DTYPES:
        raise OptionError("dtype", repr(dtype), f"one of {list(DTYPES)}", "train in one of these")
    return backend, name


def load_module(source: str, backend: str) -> ModuleType:
    """The emitted module, executed. Raises BackendError when CuPy is not installed or finds no device, or when no C
    compiler is found or one fails."""
    if backend == "c":
        try:
            return load_source(source, backend)
        except (RuntimeError, OSError) as error:
            raise BackendError("backend 'c'", str(error), "a C compiler that works", INSTALL_COMPILER) from error
    where, expected = f"backend {backend!r}", "CuPy and a CUDA device, to run what was emitted"
    try:
        module = load_source(source, backend)
    except ImportError as error:
        raise BackendError(where, str(error), expected, INSTALL_CUPY) from error
    if backend == "cupy":
        runtime = module.__dict__["cp"].cuda.runtime
        try:
            runtime.getDeviceCount()
        except runtime.CUDARuntimeError as error:
            remedy = "use backend='numpy' on this machine"
            raise BackendError(where, f"no CUDA device ({error})", expected, remedy) from error
    return module
