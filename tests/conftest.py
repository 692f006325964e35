"""Options and fixtures shared by all tests."""

from __future__ import annotations

import functools
import importlib

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew instead of comparing")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """True when the golden files are to be written, not compared."""
    return bool(request.config.getoption("--update-golden"))


@functools.cache
def cupy_missing() -> str | None:
    """Why CuPy cannot be used here, or None if it can."""
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as error:
        return f"CuPy is not installed ({error})"
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"no CUDA device ({error})"
    return None if count else "no CUDA device"


@pytest.fixture(params=["numpy", pytest.param("cupy", marks=pytest.mark.gpu)])
def backend(request: pytest.FixtureRequest) -> str:
    """Name of a backend; a test that takes it states the contract and runs on each."""
    name = str(request.param)
    if name == "cupy" and (reason := cupy_missing()):
        pytest.skip(reason)
    return name
