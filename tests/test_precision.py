"""Constants that the dtype cannot hold are refused by name, in every place where a number can stand."""

from __future__ import annotations

import re
from typing import Any

import networkx as nx
import numpy as np
import pytest

import rnngraph as rg
from rnngraph.errors import OptionError
from rnngraph.precision import check_constants


def network(equation: str = "tanh(s)", initial: float = 0.0, value: float = 1.0) -> nx.MultiDiGraph:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    graph.add_node("a", size=3, equation=equation, initial=initial)
    graph.add_node("y", kind="output", size=2)
    graph.add_edge("x", "a", structure="fixed", value=[[1.0, 2.0, 3.0], [0.5, -value, 0.0]])
    graph.add_edge("a", "a", delay=1)
    graph.add_edge("a", "y")
    return graph


CASES: dict[str, tuple[dict[str, Any], Any, str, str]] = {
    "factor": ({"equation": "s*1e300"}, "mse", "node 'a'", "1e+300 in its equation"),
    "summand": ({"equation": "s - 1e39"}, "mse", "node 'a'", "-1e+39 in its equation"),
    "constant function": ({"equation": "s + exp(100)"}, "mse", "node 'a'", "2.68812e+43 in its equation"),
    "initial": ({"initial": -1e300}, "mse", "node 'a'", "-1e+300 as its initial value"),
    "fixed": ({"value": 1e300}, "mse", "edge 'x' -> 'a'", "-1e+300 in its fixed value"),
    "loss": ({}, "1e39*(y - target)**2", "loss", "5e+38 in its expression"),
    "derivative": ({"equation": "1e38*s**4"}, "mse", "node 'a'", "4e+38 in the equation of "),
}


@pytest.mark.parametrize("case", CASES)
def test_what_float32_cannot_hold_is_refused(case: str) -> None:
    changes, loss, where, found = CASES[case]
    system = rg.gradient(network(**changes), loss=loss)
    expected = f"{where}: found {found}"
    with pytest.raises(
        OptionError, match=rf"^{re.escape(expected)}.*expected numbers up to 3\.4e\+38.*dtype='float64'"
    ):
        check_constants(system, "float32")
    check_constants(system, "float64")


def test_what_can_be_held_is_let_pass() -> None:
    limit = float(np.finfo(np.float32).max)
    graph = network(equation=f"tanh({limit!r}*s) + 1e-300", initial=-limit, value=limit)
    check_constants(rg.derive(graph), "float32")
    check_constants(rg.gradient(network(), loss="mse"), "float32")


def test_float64_alone_is_not_offered_itself() -> None:
    system = rg.derive(network(equation="s + exp(700)*exp(700)"))
    with pytest.raises(OptionError, match=r"node 'a': .*float64'; remedy: write a smaller number$"):
        check_constants(system, "float64")
