"""Forward System -> the ir.Function "step": one time step, equation by equation, in as little memory as it takes.

What "stream" computes, for machines where memory counts and not the number of calls: nothing is packed, so that each
weight keeps its name, no source is copied to lie beside another, and a signal is kept for as many steps as it is read
back. Where nothing reads v(t-1) after v(t) is computed, both lie in one place.
"""

from __future__ import annotations

from collections.abc import Mapping

import networkx as nx

from codegen.functions import rewrite_in_primitives
from codegen.ir import Assign, Bound, Buffer, Copy, Function, Load, Loop, MatMul, Span, Statement, Step, Store, View
from rnngraph.equations import Equation, Expression, fresh_name, meaning, symbols_of
from rnngraph.lower.layout import ParameterLayout
from rnngraph.lower.matrices import Matrices
from rnngraph.lower.weights import WeightsLowering
from rnngraph.schedule.share import share_function_values
from rnngraph.system import System


def lower_step(system: System, layout: ParameterLayout, notes: Mapping[str, str]) -> Function:
    """The function for the forward ``system``, which must not read ahead. ``notes`` has the comment on each signal."""
    assert system.look_ahead is None, "a step that reads later steps"
    return _Lowering(share_function_values(system), layout, notes).run()


class _Lowering:
    def __init__(self, system: System, layout: ParameterLayout, notes: Mapping[str, str]) -> None:
        self.system = system
        self.notes = notes
        widths = {name: signal.size for name, signal in system.signals.items()}
        self.matrices = Matrices(layout, system.constants, widths, [])
        self.layout = layout
        self.depths = system.state_depths
        self.inputs = [name for name, signal in system.signals.items() if signal.kind == "input"]
        self.order, self.in_place = _order(system)
        self.present = {name: self._present(name) for name in system.signals}
        self.past = {name: self._past(name) for name in self.depths}

    def run(self) -> Function:
        """The weights that are computed, what is given, the loop, what is returned."""
        weights = WeightsLowering(self.system, self.layout, lambda name: self.matrices.block(name, False), self.notes)
        given: list[Statement] = [Load(self._all_steps(self.present[name]), "input", name) for name in self.inputs]
        for name, depth in self.depths.items():
            given.append(Load(self._before(name, depth, 0), "state", name, self._initial(name)))
        body: list[Statement] = []
        for equation in self.order:
            body += self._equation(equation)
        results: list[Statement] = []
        for name in self.system.outputs:
            if name in self.past:
                returned = self._sequence(fresh_name(f"{name} returned", self.system.signals), name)
                body.append(Copy(self._step(returned, 0, f"{name}_t"), self._read(name, 0), f"{name}(t) is returned"))
                results.append(Store(self._all_steps(returned), "output", name))
            else:
                results.append(Store(self._all_steps(self.present[name]), "output", name))
        for name in self.inputs:
            if name in self.past:
                past = self.past[name]
                kept = self._step(past, past.length.constant, f"{name}_t")
                body.append(Copy(kept, self._read(name, 0), note=f"{name}(t) is kept for later steps"))
        results += [Store(self._before(name, depth, 1), "state", name) for name, depth in self.depths.items()]
        return Function("step", (*weights.forward(), *given, Loop(tuple(body), note="for t = 1..T"), *results))

    # Where signals lie.

    def _present(self, name: str) -> Buffer:
        """Where v(t) is computed, or given."""
        if name in self.inputs or (name in self.system.outputs and name not in self.depths):
            return self._sequence(name, name)
        if name in self.depths:
            return self._kept(name, name)
        return Buffer(name, "step", self.system.signals[name].size, note=name)

    def _past(self, name: str) -> Buffer:
        """Where v(t-1), v(t-2), ... lie."""
        if name not in self.inputs:
            return self.present[name]
        return self._kept(fresh_name(f"{name} past", self.system.signals), name)

    def _kept(self, buffer: str, name: str) -> Buffer:
        depth = self.depths[name]
        if depth == 1 and (name in self.in_place or name in self.inputs):
            return Buffer(buffer, "step", self.system.signals[name].size, note=name)
        return self._sequence(buffer, name, depth)

    def _sequence(self, buffer: str, name: str, depth: int = 0) -> Buffer:
        return Buffer(buffer, "sequence", self.system.signals[name].size, length=Bound(depth, 1), note=name)

    def _read(self, name: str, delay: int) -> View:
        label = f"{name}_t_minus_{delay}" if delay else f"{name}_t"
        buffer = self.past[name] if delay else self.present[name]
        return self._step(buffer, buffer.length.constant - delay, label)

    def _step(self, buffer: Buffer, offset: int, label: str) -> View:
        return View(buffer, Step(offset) if buffer.shape == "sequence" else None, 0, buffer.columns, label=label)

    def _all_steps(self, buffer: Buffer) -> View:
        return View(buffer, Span(Bound(0), Bound(0, 1)), 0, buffer.columns, label=buffer.name)

    def _before(self, name: str, depth: int, times: int) -> View:
        """The last values before t = 1, or with ``times`` 1 those after T steps."""
        buffer = self.past[name]
        time = Span(Bound(0, times), Bound(depth, times)) if buffer.shape == "sequence" else None
        return View(buffer, time, 0, buffer.columns, label=name)

    def _initial(self, name: str) -> float | View:
        initial = self.system.signals[name].initial
        return self.layout.view(initial) if isinstance(initial, str) else float(initial)

    # Equations.

    def _equation(self, equation: Equation) -> list[Statement]:
        """What stands beside the products first, then the products one after the other, added to it."""
        target = self._read(equation.signal, 0)
        expression = rewrite_in_primitives(equation.expression)
        operands = tuple((symbol, self._operand(symbol)) for symbol in symbols_of(expression))
        note = self.notes.get(equation.signal, "")
        found: list[Statement] = [Assign(target, expression, operands, note)]
        for term in equation.terms:
            assert term.operator == "dense" and term.parameter is not None and not term.transposed
            matrix = self.matrices.block(term.parameter, False)
            found.append(MatMul(target, self._read(term.source, term.delay), matrix, accumulate=True))
        return found

    def _operand(self, symbol: Expression) -> View:
        found = meaning(symbol)
        return self.layout.view(found) if isinstance(found, str) else self._read(found.signal, found.delay)


def _order(system: System) -> tuple[list[Equation], set[str]]:
    """The equations in an order that can run, and the nodes whose value may take the place of the one before."""
    graph: nx.DiGraph = nx.DiGraph()
    graph.add_nodes_from(equation.signal for equation in system.equations)
    late: dict[str, list[Equation]] = {}
    for equation in system.equations:
        for read in equation.reads():
            if read.delay == 0 and read.signal in graph:
                graph.add_edge(read.signal, equation.signal)
            elif system.state_depths.get(read.signal) == 1:
                late.setdefault(read.signal, []).append(equation)
    in_place: set[str] = set()
    for name, equations in late.items():
        readers = {equation.signal for equation in equations} - {name}
        own = system.equation_of(name) if name in graph else None
        multiplied = own is None or any(term.source == name for term in own.terms)
        if not multiplied and not any(nx.has_path(graph, name, reader) for reader in readers):
            graph.add_edges_from((reader, name) for reader in readers)
            in_place.add(name)
    # Weighted sums as early as they can be, so that what is pointwise comes together, in loops with all its values.
    place = {equation.signal: (not equation.terms, k) for k, equation in enumerate(system.equations)}
    order = nx.lexicographical_topological_sort(graph, key=place.__getitem__)
    return [system.equation_of(name) for name in order], in_place
