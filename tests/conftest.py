"""Options and fixtures shared by all tests."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import sys
from pathlib import Path

import pytest
from cuda_host import compiler, standin


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


def cupy_or_standin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Emitted CuPy modules run from here on: on the device if there is one, else on the host by tests/cuda_host."""
    if cupy_missing() is None:
        return
    if reason := compiler.missing_compiler():
        pytest.skip(f"no device for CuPy, and its kernels cannot be compiled for the host: {reason}")
    monkeypatch.setitem(sys.modules, "cupy", standin)


@pytest.fixture(params=["numpy", "cupy", "c"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a backend; a test that takes it states the contract and runs on each."""
    name = str(request.param)
    if name == "cupy":
        cupy_or_standin(monkeypatch)
    if name == "c":
        request.getfixturevalue("c_compiler")
    return name


@pytest.fixture(scope="session")
def c_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tests keep compiled cores."""
    return tmp_path_factory.mktemp("cores")


@pytest.fixture
def c_compiler(c_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cores are compiled quickly, not to be quick: what flags cannot change is tested, and test_c.py has the rest."""
    names = [os.environ.get("CC", "").partition(" ")[0], "cc", "gcc", "clang"]
    if not any(name and shutil.which(name) for name in names) and importlib.util.find_spec("ziglang") is None:
        pytest.skip("no C compiler")
    monkeypatch.setenv("CFLAGS", "-O0")
    monkeypatch.setenv("RNNGRAPH_CACHE", str(c_cache))


@pytest.fixture
def host_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Emitted CuPy modules run on the host, even where there is a device."""
    if reason := compiler.missing_compiler():
        pytest.skip(reason)
    monkeypatch.setitem(sys.modules, "cupy", standin)
