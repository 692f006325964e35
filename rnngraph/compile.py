"""Graph -> Kernel."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable

import networkx as nx

from rnngraph.backends import PRINTERS, check_backend
from rnngraph.checkpoint import check_checkpoint
from rnngraph.gradient import check_wrt
from rnngraph.jacobian import LINEAR_LOSS
from rnngraph.kernel import Kernel
from rnngraph.memory import LIMIT, check_memory_limit, sensitivity_memory
from rnngraph.model import Model
from rnngraph.program import build_program
from rnngraph.rules import Rule, check_rule

PARAMETERS = ("parameters",)


def compile(
    graph: nx.MultiDiGraph,
    loss: object = "mse",
    method: str = "bptt",
    backend: str = "numpy",
    dtype: object = "float32",
    wrt: Iterable[str] = PARAMETERS,
    *,
    k1: int | None = None,
    k2: int | None = None,
    block: int | None = None,
    order: int | None = None,
    seed: int | None = None,
    checkpoint: str | int | None = None,
    memory_limit: float = LIMIT,
) -> Kernel:
    """Derive, schedule and emit the network's code, and load it.

    ``loss``: "mse", "cross_entropy", "binary_cross_entropy", an expression in y and target, or {output: any of these}.
    ``method``: "bptt" or another learning rule of ``rnngraph.rules``, with its options: ``k1`` and ``k2`` of "tbptt",
    ``block`` of "bptt-rtrl", ``order`` of "snap", ``seed`` of "uoro". ``backend``: "numpy", "c" or "cupy".
    ``dtype``: "float32" or "float64". ``wrt``: a subset of "parameters", "inputs", "state": what ``loss_and_gradient``
    differentiates by (all but "parameters" with "bptt" alone). The time it takes does not depend on T.
    ``checkpoint``: with "bptt", keep only the states between windows of so many steps ("sqrt": of sqrt(T)) and compute
    the rest again on the way back: the same gradient, in less memory and about a third more time.
    ``memory_limit``: how many bytes the sensitivities of a rule may take, 8 GiB unless given; it is checked for one
    sequence here, for the batch at each call.
    Raises GraphError for a bad graph, OptionError or UnsupportedError for a bad option.
    """
    backend, dtype_name = check_backend(backend, dtype)
    words = check_wrt(wrt)
    rule = check_rule(method, words, k1=k1, k2=k2, block=block, order=order, seed=seed)
    limit = check_memory_limit(memory_limit)
    steps = check_checkpoint(checkpoint, rule)
    return _compile(graph, loss, rule, backend, dtype_name, words, limit, steps)


def _compile(
    graph: nx.MultiDiGraph | Model,
    loss: object,
    rule: Rule,
    backend: str,
    dtype: str,
    wrt: tuple[str, ...],
    limit: float = LIMIT,
    checkpoint: int | None = None,
) -> Kernel:
    """What ``compile`` does with options that are checked."""
    compilation = build_program(graph, loss, rule, dtype, wrt, checkpoint)  # graph -> ir.Program
    sensitivity_memory(compilation.gradient, compilation.program, limit).check()
    started = time.perf_counter()
    source = PRINTERS[backend](compilation.program)  # ir.Program -> source text
    compilation.seconds["print"] = time.perf_counter() - started
    # For Kernel.jacobian, if ever asked for; of the Model, since the caller's graph may change.
    options = LINEAR_LOSS, check_rule("bptt", PARAMETERS), backend, dtype, PARAMETERS
    linear = functools.partial(_compile, compilation.grouping.given, *options)
    return Kernel(source, backend, compilation, linear, limit)
