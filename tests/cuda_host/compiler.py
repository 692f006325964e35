"""CUDA C -> a shared library for the host: g++ with the few words of CUDA that emitted kernels use.

A launch runs its threads one after the other, in both directions by turns, so that a kernel in which one thread reads
what another writes gives different results.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

# No header: they would take most of the compile time.
PRELUDE = """
struct Index { unsigned x, y, z; };
static Index blockIdx, blockDim, threadIdx, gridDim;
#define __global__ static
extern "C" {
float tanhf(float); float expf(float); float logf(float); float sqrtf(float); float sinf(float); float cosf(float);
float atanf(float); float fabsf(float); float fmaxf(float, float); float fminf(float, float); float log1pf(float);
float erff(float);
double tanh(double); double exp(double); double log(double); double sqrt(double); double sin(double);
double cos(double); double log1p(double);
double atan(double); double fabs(double); double fmax(double, double); double fmin(double, double);
double erf(double);
}
"""
LAUNCHER = """
extern "C" void launch_{name}(unsigned blocks, unsigned threads, void** arguments, int backwards)
{{
    blockDim.x = threads;
    gridDim.x = blocks;
    const long long count = (long long)blocks * threads;
    for (long long k = 0; k < count; ++k) {{
        const long long thread = backwards ? count - 1 - k : k;
        blockIdx.x = thread / threads;
        threadIdx.x = thread % threads;
        {name}({arguments});
    }}
}}
"""
HEAD = re.compile(r"__global__ void (\w+)\(([^)]*)\)")


def missing_compiler() -> str | None:
    """Why nothing can be compiled here, or None."""
    return None if shutil.which("g++") else "g++ is not installed"


def signatures(cuda: str) -> dict[str, list[str]]:
    """The types of each kernel's parameters, by kernel."""
    return {
        name: [" ".join(parameter.split()[:-1]).removeprefix("const ") for parameter in parameters.split(",")]
        for name, parameters in HEAD.findall(cuda)
    }


@functools.cache
def compile_for_host(cuda: str) -> ctypes.CDLL:
    """The library with a function ``launch_<kernel>`` per kernel; compiled once per text and kept between runs."""
    parts = [PRELUDE, cuda]
    for name, types in signatures(cuda).items():
        values = ", ".join(f"*({kind}*)arguments[{k}]" for k, kind in enumerate(types))
        parts.append(LAUNCHER.format(name=name, arguments=values))
    text = "\n".join(parts)
    folder = Path(tempfile.gettempdir()) / "rnngraph_cuda_host"
    folder.mkdir(exist_ok=True)
    library = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=folder) as work:
            source, built = Path(work) / "kernels.cpp", Path(work) / "kernels.so"
            source.write_text(text, encoding="utf-8")
            command = [
                "g++",
                "-std=c++14",
                "-O0",
                "-shared",
                "-fPIC",
                "-Wall",
                "-Werror",
                "-o",
                str(built),
                str(source),
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"g++ rejects the kernels:\n{done.stderr}\n{cuda}"
            built.replace(library)
    return ctypes.CDLL(str(library))
