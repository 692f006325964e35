"""Graph -> Kernel."""

from __future__ import annotations

import time
from collections.abc import Iterable

import networkx as nx

from rnngraph.backends import PRINTERS, check_backend
from rnngraph.gradient import check_method, check_wrt
from rnngraph.kernel import Kernel
from rnngraph.program import build_program


def compile(
    graph: nx.MultiDiGraph,
    loss: object = "mse",
    method: str = "bptt",
    backend: str = "numpy",
    dtype: object = "float32",
    wrt: Iterable[str] = ("parameters",),
    *,
    k1: int | None = None,
    k2: int | None = None,
) -> Kernel:
    """Derive, schedule and emit the network's code, and load it.

    ``loss``: "mse", "cross_entropy", "binary_cross_entropy", an expression in y and target, or {output: any of these}.
    ``method``: "bptt"; ``k1`` and ``k2`` belong to "tbptt", which comes in a later version. ``backend``: "numpy" or
    "cupy". ``dtype``: "float32" or "float64". ``wrt``: a subset of "parameters", "inputs", "state": what
    ``loss_and_gradient`` differentiates by. The time it takes does not depend on T.
    Raises GraphError for a bad graph, OptionError or UnsupportedError for a bad option.
    """
    backend, dtype_name = check_backend(backend, dtype)
    check_method(method, k1, k2)
    compilation = build_program(graph, loss, method, dtype_name, check_wrt(wrt))  # graph -> ir.Program
    started = time.perf_counter()
    source = PRINTERS[backend](compilation.program)  # ir.Program -> source text
    compilation.seconds["print"] = time.perf_counter() - started
    return Kernel(source, backend, compilation)
