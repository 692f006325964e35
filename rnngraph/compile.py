"""Graph -> Kernel."""

from __future__ import annotations

from collections.abc import Iterable

import networkx as nx

from rnngraph.backends import PRINTERS, check_backend
from rnngraph.kernel import Kernel
from rnngraph.program import build_program


def compile(
    graph: nx.MultiDiGraph,
    loss: object = "mse",
    method: str = "bptt",
    backend: str = "numpy",
    dtype: object = "float32",
    wrt: Iterable[str] = ("parameters",),
) -> Kernel:
    """Derive, schedule and emit the network's code, and load it.

    ``loss``: "mse", "cross_entropy", "binary_cross_entropy", an expression in y and target, or {output: any of these}.
    ``method``: "bptt". ``backend``: "numpy" or "cupy". ``dtype``: "float32" or "float64". ``wrt``: a subset of
    "parameters", "inputs",
    "state": what ``loss_and_gradient`` differentiates by. The time it takes does not depend on T.
    Raises GraphError for a bad graph, OptionError or UnsupportedError for a bad option.
    """
    backend, dtype_name = check_backend(backend, dtype)
    wrt = (wrt,) if isinstance(wrt, str) else tuple(wrt)
    compilation = build_program(graph, loss, method, dtype_name, wrt)  # graph -> ir.Program
    source = PRINTERS[backend](compilation.program)  # ir.Program -> source text
    return Kernel(source, backend, compilation)
