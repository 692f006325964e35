"""Which Jacobians and seeds one step has, and which sensitivities are zero, local or full.

A sensitivity of state v by parameter w is *local* where unit k depends on the weights into unit k alone: then it is a
matrix of w's shape, p_ik = dv_k/dw_ik. A diagonal recurrence keeps it so. Behind a weight matrix it is *full*: a row of
all units for each parameter, P_(ij)k = dv_k/dw_ij.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import networkx as nx
import sympy

from rnngraph.equations import Equation, Expression, Read, along_rows, parameter
from rnngraph.errors import UnsupportedError
from rnngraph.rules import Rule
from rnngraph.sensitivity.cut import Cut, parameters_of
from rnngraph.sensitivity.jacobians import Jacobian, Jacobians
from rnngraph.system import System

LOCAL, FULL = "local", "full"


@dataclasses.dataclass(frozen=True)
class Seed:
    """What a parameter does directly to ``signal``: d signal_k / d w_ik, local, as an expression with ``rows``."""

    signal: str
    parameter: str
    expression: Expression
    rows: int


@dataclasses.dataclass(frozen=True)
class Blocks:
    """``past``: by state, the reads of states it follows with their Jacobians; ``seeds``: by state, the seeds with the
    Jacobian that brings each to the state; ``structure``: "local" or "full" by (state, parameter)."""

    past: Mapping[str, tuple[tuple[Read, Jacobian], ...]]
    seeds: Mapping[str, tuple[tuple[Seed, Jacobian], ...]]
    structure: Mapping[tuple[str, str], str]
    dropped: tuple[str, ...] = ()


def find_blocks(system: System, cut: Cut, jacobians: Jacobians, rule: Rule) -> Blocks:
    """The blocks of one step for ``rule``: what an approximate rule drops is left out here and nowhere else."""
    past: dict[str, list[tuple[Read, Jacobian]]] = {name: [] for name in cut.states}
    seeds: dict[str, list[tuple[Seed, Jacobian]]] = {name: [] for name in cut.states}
    for read in jacobians.sources():
        for state, jacobian in jacobians.of(read).items():
            past[state].append((read, jacobian))
    if rule.name == "focused":
        _check_focused(past)
    dropped: list[str] = []
    if rule.name in ("rflo", "eprop"):
        dropped = _drop_weights(past)
    for name in (*cut.region, *cut.states):
        direct = _seeds(system.equation_of(name), system)
        reached = {name: Jacobian(sympy.S.One, None)} if name in cut.states else {}
        if direct and name in cut.region:
            reached = jacobians.of(Read(name, 0))
        for state, jacobian in reached.items():
            seeds[state] += [(seed, jacobian) for seed in direct]
    limit = rule.order if rule.name == "snap" else None
    structure = _structure(system, cut, past, seeds, limit)
    return Blocks(
        {state: tuple(found) for state, found in past.items()},
        {state: tuple(found) for state, found in seeds.items()},
        structure,
        tuple(dropped),
    )


def _seeds(equation: Equation, system: System) -> list[Seed]:
    seeds: list[Seed] = []
    for term in equation.terms:
        if term.parameter in system.parameters:
            assert term.parameter is not None
            rows = system.parameters[term.parameter][0]
            seeds.append(Seed(equation.signal, term.parameter, along_rows(term.source, term.delay), rows))
    for name in parameters_of(equation, system):
        symbol = parameter(name)
        if equation.expression.has(symbol):
            seeds.append(Seed(equation.signal, name, sympy.diff(equation.expression, symbol), 1))
    return seeds


def _structure(
    system: System,
    cut: Cut,
    past: Mapping[str, list[tuple[Read, Jacobian]]],
    seeds: Mapping[str, list[tuple[Seed, Jacobian]]],
    limit: int | None,
) -> dict[tuple[str, str], str]:
    """The least structure that holds every entry which becomes non-zero: within ``limit`` steps, or ever."""
    found: dict[tuple[str, str], str] = {}
    for state in cut.states:
        initial = system.signals[state].initial
        if isinstance(initial, str):
            found[state, initial] = LOCAL
        for seed, jacobian in seeds[state]:
            _widen(found, (state, seed.parameter), FULL if jacobian.full else LOCAL)
    _spread(found, past, within_step=True)
    steps = 1
    while limit is None or steps < limit:
        before = dict(found)
        _spread(found, past, within_step=False)
        _spread(found, past, within_step=True)
        steps += 1
        if found == before:
            break
    return found


def _spread(
    found: dict[tuple[str, str], str], past: Mapping[str, list[tuple[Read, Jacobian]]], within_step: bool
) -> None:
    """One step's worth of growth: by reads of the past from what was there before, or within the step to the end."""
    before = dict(found)
    for state, reads in past.items():
        for read, jacobian in reads:
            if (read.delay == 0) != within_step:
                continue
            known = found if within_step else before
            for (source, name), structure in list(known.items()):
                if source == read.signal:
                    _widen(found, (state, name), FULL if jacobian.full or structure == FULL else LOCAL)


def _widen(found: dict[tuple[str, str], str], key: tuple[str, str], structure: str) -> None:
    if found.get(key) != FULL:
        found[key] = structure


def _drop_weights(past: dict[str, list[tuple[Read, Jacobian]]]) -> list[str]:
    """Leave out every path from an earlier time through a weight matrix; what remains is each unit's own past."""
    dropped = []
    for state, reads in past.items():
        kept = []
        for read, jacobian in reads:
            if read.delay > 0 and jacobian.full is not None:
                dropped.append(f"{read.signal}(t-{read.delay}) -> {state}(t)")
                jacobian = Jacobian(jacobian.diagonal, None)
            if jacobian.diagonal != 0 or jacobian.full is not None:
                kept.append((read, jacobian))
        reads[:] = kept
    return dropped


def _check_focused(past: Mapping[str, list[tuple[Read, Jacobian]]]) -> None:
    """Raise unless every loop is a unit's own."""
    graph = nx.DiGraph()
    for state, reads in past.items():
        graph.add_edges_from((read.signal, state, {"full": jacobian.full}) for read, jacobian in reads)
    loops = []
    for members in nx.strongly_connected_components(graph):
        inside = graph.subgraph(members)
        if len(members) > 1 or any(full for _, _, full in inside.edges(data="full")):
            if len(members) > 1:  # the loop through several nodes is the one to name
                inside = nx.DiGraph(edge for edge in inside.edges() if edge[0] != edge[1])
            cycle = [edge[0] for edge in nx.find_cycle(inside)]
            loops.append(" -> ".join(repr(name) for name in [*cycle, cycle[0]]))
    if loops:
        raise UnsupportedError(
            "method", f"'focused' on a network with the loop {', '.join(sorted(loops))}",
            "loops of units onto themselves only (diagonal or identity edges, ports)", "use method='rtrl'",
        )  # fmt: skip


def starts_as_unit(state: str, of: str, system: System) -> bool:
    """Whether the parameter is the state's learned initial value, which it then equals at t <= 0."""
    return system.signals[state].initial == of
