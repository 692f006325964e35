"""Parameters and state of one graph, for a graph made from it: by name, and the past of one node as that of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnngraph.data import as_array, check_state
from rnngraph.errors import DataError, UnsupportedError
from rnngraph.model import Model
from rnngraph.transform.arrays import common_dtype, read_parameters

Array = NDArray[Any]


def carried_parameters(params: Mapping[str, Any] | None, before: Model, after: Model) -> dict[str, Array] | None:
    """Copies of the parameters by name, in the order of the new graph. Raises DataError as a kernel does."""
    checked = read_parameters(before, params)
    return None if checked is None else {name: checked[name] for name in after.parameters}


def carried_state(
    state: Mapping[str, Any] | None,
    before: Model,
    after: Model,
    origins: Mapping[str, Sequence[str]],
    params: Mapping[str, Array] | None = None,
) -> dict[str, Array] | None:
    """The state of the new graph: (depth, batch, size) by node, oldest first.

    ``origins`` names the nodes of the old graph whose past becomes that of a node of the new one, those of the newest
    values first; a node that it lacks keeps its own. A node that ``state`` leaves out counts as a kernel takes it: an
    input as 0, a unit as its ``initial`` (a learned one is looked up in ``params``). Steps that the old graph did not
    keep are 0. Raises DataError, and UnsupportedError for a network that looks ahead.
    """
    if state is None:
        return None
    if any(edge.delay < 0 for edge in before.edges):
        raise UnsupportedError(
            "state", "a network that looks ahead", "a network without negative delays",
            "leave the state out and run the new network from its start",
        )  # fmt: skip
    depths = {name: depth for name in before.nodes if (depth := before.depth(name)) > 0}
    sizes = {name: before.nodes[name].size for name in depths}
    arrays = (
        [as_array(f"state of {name!r}", value) for name, value in state.items()] if isinstance(state, Mapping) else []
    )
    batch = next((array.shape[1] for array in arrays if array.ndim == 3), 1)
    given = check_state(state, depths, sizes, batch, common_dtype(state))
    result: dict[str, Array] = {}
    for name in after.nodes:
        depth = after.depth(name)
        if depth < 1:
            continue
        own = [origin for origin in origins.get(name, (name,)) if origin in depths]
        if not given:
            _check_same_start(name, own, before, after)
            continue
        pasts = [_past(origin, given, depths[origin], batch, before, params) for origin in own]
        if any(past is None for past in pasts):  # a learned start that the kernel itself fills in
            _check_same_start(name, own, before, after)
            continue
        result[name] = _joined([past for past in pasts if past is not None], depth, batch, after.nodes[name].size)
    return result


def _past(
    name: str,
    given: Mapping[str, Array],
    depth: int,
    batch: int,
    model: Model,
    params: Mapping[str, Array] | None,
) -> Array | None:
    """The past of one node of the old graph; None for a learned one whose parameter is not given."""
    if name in given:
        return given[name]
    initial: Any = model.nodes[name].initial
    if isinstance(initial, str):
        if params is None:
            return None
        initial = params[initial]
    past = np.empty((depth, batch, model.nodes[name].size), next(iter(given.values())).dtype)
    past[...] = initial
    return past


def _joined(pasts: Sequence[Array], depth: int, batch: int, size: int) -> Array:
    """The newest values of the first past, older ones from the next, 0 where none reaches; cut to ``depth`` steps."""
    kept = np.zeros((0, batch, size), pasts[0].dtype if pasts else np.float64)
    for past in pasts:
        kept = np.concatenate([past[: max(0, len(past) - len(kept))], kept])
    missing = np.zeros((max(0, depth - len(kept)), batch, size), kept.dtype)
    return np.concatenate([missing, kept[max(0, len(kept) - depth) :]])


def _check_same_start(name: str, origins: Sequence[str], before: Model, after: Model) -> None:
    """Without values in the state, both networks must read the same before t = 1."""
    new = after.nodes[name].initial
    for origin in origins[:1]:
        old = before.nodes[origin].initial
        if old != new:
            raise DataError(
                f"state of {origin!r}", "no values", f"those before t = 1, as {origin!r} starts from {old!r} "
                f"and {name!r}, which takes its place, from {new!r}",
                "give the whole state, such as kernel.initial_state(batch, params)",
            )  # fmt: skip


def answer(graph: Any, params: Any, state: Any) -> Any:
    """The graph alone, with the parameters, or with parameters and state: as much as was asked for."""
    if state is not None:
        return graph, params, state
    return graph if params is None else (graph, params)
