"""The backends by name: how each prints a program, and how its module is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType

import numpy as np

from codegen.load import load_source
from codegen.printers import print_cupy, print_numpy
from codegen.program import Program
from rnngraph.errors import BackendError, OptionError, UnsupportedError

PRINTERS: Mapping[str, Callable[[Program], str]] = {"numpy": print_numpy, "cupy": print_cupy}
INSTALL_CUPY = 'pip install "rnngraph[cuda12]" or "rnngraph[cuda13]" (cupy-cuda12x or cupy-cuda13x), as the driver is'
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
    try:
        name = np.dtype(dtype).name  # type: ignore[call-overload]
    except TypeError:
        name = ""
    if name not in DTYPES:
        raise OptionError("dtype", repr(dtype), f"one of {list(DTYPES)}", "train in one of these")
    return backend, name


def load_module(source: str, backend: str) -> ModuleType:
    """The emitted module, executed. Raises BackendError when CuPy is not installed or finds no device."""
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
