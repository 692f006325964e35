"""Streams beside ONNX Runtime's session calls: the saved file's, and the kernel's own, which looks at each input."""

from __future__ import annotations

from benchmarks import streaming
from benchmarks.processes import Task

KERNEL, SAVED = "kernel.stream", "saved file"


def ours(case: streaming.Case, backend: str) -> dict[str, Task]:
    """Both of our streams."""
    return {
        SAVED: streaming.saved_stream(case, backend)["step"],
        KERNEL: streaming.kernel_stream(case, backend)["step"],
    }


def onnx(case: streaming.Case) -> dict[str, Task]:
    """One session call a step, beside either."""
    task = streaming.onnx_session(case)["step"]
    return {SAVED: task, KERNEL: task}
