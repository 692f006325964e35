"""Parameters and states that go with a graph through a transformation: checked, copied, returned as asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from rnngraph.data import check_parameters, check_state
from rnngraph.errors import OptionError
from rnngraph.model import Model
from rnngraph.notes import drop_stale_notes

Array = NDArray[Any]
Arrays = Mapping[str, Any]


def read_parameters(model: Model, params: Arrays | None) -> dict[str, Array] | None:
    """Copies of all parameters of ``model``, or None for None. Raises DataError for wrong names, shapes or values."""
    if params is None:
        return None
    return {
        name: array.copy() for name, array in check_parameters(params, model.parameters, common_dtype(params)).items()
    }


def read_state(model: Model, state: Arrays | None) -> dict[str, Array]:
    """Copies of the states that are given, none for None. Raises DataError for wrong names, shapes or values."""
    if state is None:
        return {}
    depths = {name: depth for name in model.nodes if (depth := model.depth(name) or model.ahead(name))}
    sizes = {name: node.size for name, node in model.nodes.items()}
    batches = (
        [np.shape(array)[1] for array in state.values() if np.ndim(array) == 3] if isinstance(state, Mapping) else []
    )
    checked = check_state(state, depths, sizes, batches[0] if batches else 1, common_dtype(state))
    return {name: array.copy() for name, array in checked.items()}


def returned(
    graph: nx.MultiDiGraph, params: Arrays | None, state: Arrays | None, asked: tuple[Arrays | None, Arrays | None]
) -> Any:
    """The graph; (graph, params) where ``asked`` has parameters; (graph, params, state) where it has a state."""
    drop_stale_notes(graph)
    if asked[1] is not None:
        return graph, params, state
    return graph if asked[0] is None else (graph, params)


def learned_value(name: str, params: Mapping[str, Array] | None, where: str) -> Array:
    """The value of a learned initial value; OptionError where the parameters that hold it are not given."""
    if params is None:
        raise OptionError(
            where, f"a state that depends on the learned initial value {name!r}, and no params", "params beside state",
            "give params=... too",
        )  # fmt: skip
    return params[name]


def common_dtype(arrays: object) -> np.dtype[Any]:
    """The floating dtype that holds all given arrays, at least float32; float64 where they are none (their check says
    so)."""
    if not isinstance(arrays, Mapping):
        return np.dtype(np.float64)
    kinds = [np.asarray(array).dtype for array in arrays.values() if isinstance(array, np.ndarray | list | float)]
    kinds = [kind for kind in kinds if kind.kind in "biuf"]
    return np.result_type(np.float32, *kinds) if kinds else np.dtype(np.float64)
