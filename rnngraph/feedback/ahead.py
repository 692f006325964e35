"""Forecasts over several steps: open loop on what is measured, then closed loop on the network's own outputs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from numbers import Integral
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from rnngraph.compile import compile
from rnngraph.data import as_array
from rnngraph.errors import DataError, OptionError
from rnngraph.feedback.loops import close_loop
from rnngraph.notes import CLOCK


def predict_ahead(
    graph: nx.MultiDiGraph,
    params: Mapping[str, Any],
    inputs: Mapping[str, Any],
    horizon: int,
    future: Mapping[str, Any] | None = None,
    *,
    state: Mapping[str, Any] | None = None,
    feedback: Mapping[Hashable, Hashable] | None = None,
    dtype: str = "float64",
) -> dict[str, NDArray[Any]]:
    """Outputs at t = T+1..T+``horizon``: measured values are read up to T, the network's own from there on.

    ``graph`` is in open loop, with a link to its outputs as ``close_loop`` needs it (or ``feedback``); ``inputs``
    holds all its inputs for t = 1..T, (T, batch, size), ``future`` those that are not measured outputs for
    t = T+1..T+horizon, (horizon, batch, size). Returns {output: (horizon, batch, size)}.

    It compiles the open and the closed network at each call; for many forecasts keep the two kernels and convert the
    state by ``close_loop(graph, params, state)``. Raises what ``close_loop`` and a kernel raise.
    """
    if isinstance(horizon, bool) or not isinstance(horizon, Integral) or int(horizon) < 1:
        raise OptionError("argument horizon", repr(horizon), "an int >= 1", "give the number of steps to predict")
    steps = int(horizon)
    opened = compile(graph, dtype=dtype)
    outputs, end = opened.forward(params, inputs, state)
    closed, kept, end = close_loop(graph, params, end, feedback=feedback)
    if future is not None and not isinstance(future, Mapping):
        expected = "a mapping from inputs to arrays (horizon, batch, size)"
        raise DataError("future", f"a {type(future).__name__}", expected, "give for example {'x': array}")
    given = dict(future or {})
    for name, value in given.items():
        length = as_array(f"future {name!r}", value).shape[:1]
        if length != (steps,):
            raise DataError(f"future {name!r}", f"{length[0] if length else 'no'} time steps", f"{steps}, the horizon",
                            "give one value for each step to predict")  # fmt: skip
    clock = closed.graph.get(CLOCK)
    if clock is not None and clock not in graph:
        batch = next(iter(outputs.values())).shape[1]
        given.setdefault(clock, np.zeros((steps, batch, 1)))
    ahead: dict[str, NDArray[Any]] = compile(closed, dtype=dtype).forward(kept, given, end)[0]
    return ahead
