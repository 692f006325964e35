"""A stand-in for ``cupy``: arrays are NumPy's, but what would fail or hide a cost on a device is an error here.

- NumPy arrays never mix with device arrays, and a device array turns into a NumPy array by ``get()`` alone.
- Fresh memory is NaN, and so is the memory around each array: what is read but not written shows in the results.
- A product must not make CuPy copy in secret: ``out`` is C-contiguous and apart from the operands, which are C- or
  F-contiguous.
- Kernels take arrays of the declared type and NumPy scalars, no Python numbers.

``counts`` has the number of launches, products and allocations.
"""

from __future__ import annotations

import ctypes
import time
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np

from cuda_host.compiler import compile_for_host, signatures

counts: Counter[str] = Counter()
MARGIN = 32  # elements of NaN on either side of an array
COPYING = {"copy", "sum", "max", "astype"}


class ndarray(np.ndarray[Any, Any]):  # noqa: N801 - CuPy's name
    """A device array."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return dict(self.__array_interface__)

    def get(self) -> Any:
        """The values on the host."""
        return np.array(self.view(np.ndarray))

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(value, np.ndarray) and not isinstance(value, ndarray) and value.ndim:
            raise TypeError("a NumPy array is assigned to a device array")
        super().__setitem__(key, value)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = (), **options: Any) -> Any:
        arrays = [array for array in (*inputs, *out) if isinstance(array, np.ndarray) and array.ndim]
        if not all(isinstance(array, ndarray) for array in arrays):
            raise TypeError(f"{ufunc.__name__}: NumPy and device arrays mixed")
        if not out or out[0] is None:
            counts["allocations"] += 1
            out = ()
        plain = [array.view(np.ndarray) if isinstance(array, ndarray) else array for array in inputs]
        if out:
            options["out"] = tuple(array.view(np.ndarray) for array in out)
        result = getattr(ufunc, method)(*plain, **options)
        return out[0] if out else np.asarray(result).view(ndarray)

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        if function not in (np.zeros_like, np.empty_like, np.dot, np.vdot):  # what CuPy answers, as far as it is used
            raise TypeError(f"numpy.{function.__name__} gets a device array")
        counts["allocations"] += 1
        plain = [array.view(np.ndarray) if isinstance(array, ndarray) else array for array in arguments]
        return _fresh(function(*plain, **options))

    def copy(self, order: Any = "C") -> ndarray:
        counts["allocations"] += 1
        return _fresh(self.view(np.ndarray).copy(order))


def _fresh(values: Any) -> ndarray:
    """The values in memory of their own, between margins of NaN where the type has it."""
    array = np.asarray(values)
    memory = np.empty(array.size + 2 * MARGIN, array.dtype)
    memory.fill(np.nan if array.dtype.kind == "f" else 0)
    inner = memory[MARGIN : MARGIN + array.size].reshape(array.shape).view(ndarray)
    np.ndarray.__setitem__(inner, ..., array)
    return inner


def empty(shape: Any, dtype: Any = float) -> ndarray:
    counts["allocations"] += 1
    return _fresh(np.full(shape, np.nan, dtype))


def zeros(shape: Any, dtype: Any = float) -> ndarray:
    counts["allocations"] += 1
    return _fresh(np.zeros(shape, dtype))


def empty_like(values: ndarray) -> ndarray:
    return empty(values.shape, values.dtype)


def array(values: Any, dtype: Any = None) -> ndarray:
    counts["allocations"] += 1
    return _fresh(np.array(values.view(np.ndarray) if isinstance(values, ndarray) else values, dtype))


def asarray(values: Any, dtype: Any = None) -> ndarray:
    if isinstance(values, ndarray) and dtype in (None, values.dtype):
        return values
    return array(values, dtype)


def arange(*bounds: Any) -> ndarray:
    return array(np.arange(*bounds))


def asnumpy(values: ndarray) -> Any:
    return values.get()


def multiply(left: Any, right: Any, out: ndarray) -> ndarray:
    """Element by element, with broadcasting."""
    counts["launches"] += 1
    product: ndarray = np.multiply(left, right, out=out)
    return product


def einsum(subscripts: str, *operands: ndarray) -> ndarray:
    """A sum of products in fresh memory."""
    assert all(isinstance(operand, ndarray) for operand in operands), "einsum takes device arrays"
    return _fresh(np.einsum(subscripts, *(operand.view(np.ndarray) for operand in operands)))


def __getattr__(name: str) -> Any:
    """CuPy's functions of one or two arrays, element by element: NumPy's, as device arrays answer them."""
    function = getattr(np, name, None)
    if not isinstance(function, np.ufunc):
        raise AttributeError(f"no {name!r} here")
    return function


def concatenate(parts: list[ndarray], axis: int = 0) -> ndarray:
    """Device arrays side by side, in fresh memory."""
    assert all(isinstance(part, ndarray) for part in parts), "concatenate takes device arrays"
    return _fresh(np.concatenate([part.view(np.ndarray) for part in parts], axis=axis))


def where(condition: ndarray, yes: ndarray, no: ndarray) -> ndarray:
    """One or the other, element by element, in fresh memory."""
    parts = [part.view(np.ndarray) for part in (condition, yes, no)]
    return _fresh(np.where(*parts))


def eye(size: int, dtype: Any = float) -> ndarray:
    """The unit matrix."""
    return _fresh(np.eye(size, dtype=dtype))


def matmul(left: ndarray, right: ndarray, out: ndarray | None = None) -> ndarray:
    """The product of matrices, or of one per sequence; AssertionError where CuPy would copy two-dimensional ones."""
    if left.ndim > 2:
        assert isinstance(left, ndarray) and isinstance(right, ndarray), "matmul takes device arrays"
        counts["products"] += 1
        product = np.matmul(left.view(np.ndarray), right.view(np.ndarray))
        if out is None:
            return _fresh(product)
        assert out.flags.c_contiguous, "out is not C-contiguous: CuPy would copy"
        assert not any(np.may_share_memory(one.view(np.ndarray), out.view(np.ndarray)) for one in (left, right))
        out.view(np.ndarray)[...] = product
        return out
    assert out is not None
    for operand in (left, right, out):
        assert isinstance(operand, ndarray) and operand.ndim == 2, "matmul takes device matrices"
        assert operand.dtype == out.dtype, f"dtypes {operand.dtype} and {out.dtype}"
    assert out.flags.c_contiguous, "out is not C-contiguous: CuPy would copy"
    for operand in (left, right):
        assert operand.flags.c_contiguous or operand.flags.f_contiguous, "an operand is not contiguous: CuPy would copy"
        assert not np.may_share_memory(operand.view(np.ndarray), out.view(np.ndarray)), "out overlaps an operand"
    counts["products"] += 1
    np.matmul(left.view(np.ndarray), right.view(np.ndarray), out=out.view(np.ndarray))
    return out


class RawModule:
    """Kernels compiled for the host, at the first ``get_function``."""

    def __init__(self, *, code: str, options: tuple[str, ...] = ()) -> None:
        assert code.isascii(), "CUDA text that is not ASCII"
        self.code = code
        self.signatures = signatures(code)

    def get_function(self, name: str) -> Any:
        launch = getattr(compile_for_host(self.code), f"launch_{name}")
        types = self.signatures[name]
        real = np.dtype(np.float32 if "typedef float real" in self.code else np.float64)

        def kernel(grid: tuple[int, ...], block: tuple[int, ...], arguments: tuple[Any, ...]) -> None:
            assert len(arguments) == len(types), f"{name} takes {len(types)} arguments, not {len(arguments)}"
            pointers = (ctypes.c_void_p * len(types))()
            values: list[Any] = []
            for k, (kind, argument) in enumerate(zip(types, arguments, strict=True)):
                if kind in ("real*", "int*"):
                    wanted = real if kind == "real*" else np.dtype(np.int32)
                    assert isinstance(argument, ndarray) and argument.dtype == wanted, (
                        f"{name}, argument {k}: {argument!r}"
                    )
                    assert argument.flags.c_contiguous, f"{name}, argument {k} has gaps"
                    values.append(ctypes.c_void_p(argument.ctypes.data))
                else:
                    assert kind == "long long" and isinstance(argument, np.int64), f"{name}, argument {k}: {argument!r}"
                    values.append(ctypes.c_longlong(int(argument)))
                pointers[k] = ctypes.cast(ctypes.pointer(values[-1]), ctypes.c_void_p)
            counts["launches"] += 1
            launch(ctypes.c_uint(grid[0]), ctypes.c_uint(block[0]), pointers, counts["launches"] % 2)

        return kernel


lib = SimpleNamespace(
    stride_tricks=SimpleNamespace(
        as_strided=lambda x, shape, strides: np.lib.stride_tricks.as_strided(x.view(np.ndarray), shape, strides).view(
            ndarray
        )
    )
)


class Event:
    """A moment on the host."""

    def record(self) -> None:
        self.seconds = time.perf_counter()

    def synchronize(self) -> None:
        pass


cuda = SimpleNamespace(
    Event=Event,
    get_elapsed_time=lambda start, stop: 1e3 * (stop.seconds - start.seconds),
    runtime=SimpleNamespace(
        CUDARuntimeError=RuntimeError,
        getDeviceCount=lambda: 1,
        getDeviceProperties=lambda number: {"name": b"the host"},
        driverGetVersion=lambda: 0,
        runtimeGetVersion=lambda: 0,
    ),
)
__version__ = "0"
