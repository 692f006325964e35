"""Where a System is cut for a rule that goes forward in time: its states, and what follows them within one step.

A state is a signal that depends on the parameters and that something on the way to the loss reads at an earlier time.
Its sensitivity dv(t)/dw carries all that the past has to do with the parameters; from the states to the loss of step t
there is no delay, so that an ordinary vjp of one step gives dL(t)/dv(t-d).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

import networkx as nx

from rnngraph.equations import (
    Contribution,
    Equation,
    Expression,
    Outer,
    PointwiseSum,
    Read,
    Signal,
    Term,
    Total,
    at,
    fresh_name,
    meaning,
    reads_of,
)
from rnngraph.errors import UnsupportedError
from rnngraph.system import System
from rnngraph.vjp import vjp


@dataclasses.dataclass(frozen=True)
class Cut:
    """``states`` in an order in which one step computes them; ``region``: the signals without state between the states
    of one step and those of the next, in that order too; ``parametric``: the signals that depend on a parameter."""

    states: tuple[str, ...]
    region: tuple[str, ...]
    parametric: frozenset[str]


def cut(system: System, wanted: Collection[str] = ()) -> Cut:
    """The states of ``system``, which has the total "loss" or else ``wanted`` signals, themselves counted as states.

    Raises UnsupportedError for a network that looks ahead.
    """
    graph = nx.MultiDiGraph()
    for equation in system.equations:
        graph.add_node(equation.signal)
        for read in equation.reads():
            graph.add_edge(read.signal, equation.signal, delay=read.delay)
            if read.delay < 0:
                raise UnsupportedError(
                    "method", f"{equation.signal!r} reads {read.signal!r} at t+{-read.delay}",
                    "delays >= 0 for a rule that goes forward in time", "use method='bptt'",
                )  # fmt: skip
    roots = set(wanted) or {read.signal for total in system.totals for read in total_reads(total)}
    relevant = set(roots).union(*(nx.ancestors(graph, root) for root in roots if root in graph))
    entries = [equation.signal for equation in system.equations if parameters_of(equation, system)]
    entries += [name for name, signal in system.signals.items() if isinstance(signal.initial, str)]
    parametric = set(entries).union(*(nx.descendants(graph, entry) for entry in entries if entry in graph))
    states = set(wanted) | {
        source
        for source, destination, delay in graph.edges(data="delay")
        if delay > 0 and source in parametric and destination in relevant
    }
    states |= {read.signal for total in system.totals for read in total_reads(total) if read.delay > 0} & parametric
    now = nx.DiGraph()
    now.add_nodes_from(graph)
    now.add_edges_from((source, to) for source, to, delay in graph.edges(data="delay") if delay == 0)
    position = {name: number for number, name in enumerate(system.signals)}
    order = list(nx.lexicographical_topological_sort(now, key=lambda name: position[name]))
    region: set[str] = set()
    waiting = list(states)
    while waiting:
        for source in now.predecessors(waiting.pop()):
            if source not in states and source not in region:
                region.add(source)
                waiting.append(source)
    defined = {equation.signal for equation in system.equations}
    return Cut(
        tuple(name for name in order if name in states),
        tuple(name for name in order if name in region & defined),
        frozenset(parametric),
    )


def parameters_of(equation: Equation, system: System) -> list[str]:
    """The parameters in an equation, constants left out."""
    names = [term.parameter for term in equation.terms if term.parameter is not None]
    names += [found for symbol in equation.expression.free_symbols if isinstance(found := meaning(symbol), str)]
    return [name for name in dict.fromkeys(names) if name in system.parameters]


def total_reads(total: Total) -> list[Read]:
    """What the contributions of a loss read."""
    return [
        read for piece in total.contributions if isinstance(piece, PointwiseSum) for read in reads_of(piece.expression)
    ]


@dataclasses.dataclass(frozen=True)
class StepGradient:
    """The vjp of the loss of one step, the states held fixed: ``errors`` maps each read of a state to the signal
    dL(t)/dv(t-d), ``gradients`` each parameter to what it adds to the gradient without any state."""

    signals: Mapping[str, Signal]
    equations: tuple[Equation, ...]
    errors: Mapping[Read, str]
    gradients: Mapping[str, tuple[Contribution, ...]]


def step_gradient(system: System, states: Collection[str]) -> StepGradient:
    """Backpropagation within one step, from the loss to the states and to the parameters after them."""
    after = _after(system, states)
    signals = {
        name: dataclasses.replace(signal, kind="target") if signal.kind == "input" else signal
        for name, signal in system.signals.items()
    }
    alias: dict[Read, str] = {}

    def stand_in(read: Read) -> Read:
        if read.signal not in states:
            return read
        if read not in alias:
            wanted = read.signal if read.delay == 0 else f"{read.signal}_before_{read.delay}"
            alias[read] = wanted if read.delay == 0 else fresh_name(wanted, signals)
            signals[alias[read]] = Signal(alias[read], system.signals[read.signal].size, "input", read.signal)
        return Read(alias[read], 0)

    equations = tuple(renamed(equation, stand_in) for equation in system.equations if equation.signal in after)
    totals = tuple(
        dataclasses.replace(
            total, contributions=tuple(renamed_contribution(piece, stand_in) for piece in total.contributions)
        )
        for total in system.totals
    )
    part = dataclasses.replace(system, signals=signals, equations=equations, totals=totals, state_depths={})
    reverse = vjp(part, wrt=("parameters", "inputs"))
    original = {name: read for read, name in alias.items()}

    def back(read: Read) -> Read:
        if read.signal not in original:
            return read
        return Read(original[read.signal].signal, original[read.signal].delay + read.delay)

    states_of = {name: read.signal for name, read in original.items()}
    new = {
        name: dataclasses.replace(signal, origin=states_of.get(signal.origin or "", signal.origin))
        for name, signal in reverse.signals.items()
        if name not in signals
    }
    return StepGradient(
        new,
        tuple(renamed(equation, back) for equation in reverse.equations if equation.signal in new),
        {read: reverse.input_adjoints[name] for read, name in alias.items() if reverse.input_adjoints.get(name)},
        {
            total.of: tuple(renamed_contribution(piece, back) for piece in total.contributions)
            for total in reverse.totals
            if total.of is not None
        },
    )


def _after(system: System, states: Collection[str]) -> set[str]:
    """The signals without state on a way of no delay to the loss."""
    found: set[str] = set()
    waiting = [read.signal for total in system.totals for read in total_reads(total)]
    sources = {equation.signal: equation for equation in system.equations}
    while waiting:
        name = waiting.pop()
        if name not in found and name not in states and name in sources:
            found.add(name)
            waiting += [read.signal for read in sources[name].reads()]
    return found


def renamed(equation: Equation, change: object) -> Equation:
    """The equation with every Read on its right-hand side as ``change`` gives it."""
    return Equation(
        equation.signal,
        tuple(_renamed_term(term, change) for term in equation.terms),
        _renamed_expression(equation.expression, change),
    )


def _renamed_term(term: Term, change: object) -> Term:
    assert callable(change)
    read = change(Read(term.source, term.delay))
    return dataclasses.replace(term, source=read.signal, delay=read.delay)


def _renamed_expression(expression: Expression, change: object) -> Expression:
    assert callable(change)
    return expression.xreplace({at(*read): at(*change(read)) for read in reads_of(expression)})


def renamed_contribution(piece: Contribution, change: object) -> Contribution:
    """The contribution with every Read as ``change`` gives it."""
    assert callable(change)
    if isinstance(piece, PointwiseSum):
        return dataclasses.replace(piece, expression=_renamed_expression(piece.expression, change))
    assert isinstance(piece, Outer)
    left, right = change(Read(piece.left, piece.left_delay)), change(Read(piece.right, piece.right_delay))
    return Outer(left.signal, right.signal, left.delay, right.delay)
