"""Pack the linear terms of a System into few products, and leave every equation pointwise.

Weighted sums that read the same sources become one product (the forward direction: sources side by side, at their own
delays, with a column of ones for the biases). Transposed terms are packed by what they come from: every error that
goes back from the same deltas is one product, whose result is read with the delay (the backward direction).
In a tangent's equation, the terms along the direction (dot_W^T u) make products of their own: they stay outside of the
tangent's loop, and the direction's vector holds their matrix as the parameters' vector holds that of W.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import networkx as nx
import sympy

from rnngraph.equations import Equation, Expression, Signal, Term, at, fresh_name, meaning, parameter, reads_of
from rnngraph.schedule.items import Block, Item, Pointwise, Product, Slot, SparseProduct, UnitReduction
from rnngraph.schedule.simplify import boundary_signals
from rnngraph.system import System

Key = tuple[object, ...]
WIDEST_STACK = 4  # deltas of up to so many times the result's units are stacked; measured with 16 taps
Member = tuple[str, dict[tuple[Slot, int], Block], str | None]  # result, weight by slot, bias


def pack(system: System) -> tuple[list[Item], dict[str, Signal]]:
    """Every equation of ``system`` as items, and the signals with the products' results among them."""
    return _Packing(system).run()


class _Packing:
    def __init__(self, system: System) -> None:
        self.system = system
        self.signals: dict[str, Signal] = dict(system.signals)
        self.loop_of = _loops(system)
        self.boundaries = {signal for signal, _ in boundary_signals(system)}
        # Per group: the results with, for each, the weights by slot (and the bias).
        self.groups: dict[Key, list[Member]] = {}
        # Where each weight stands in its forward product: the backward product keeps that order, so that its matrix is
        # the transposed view of the same memory.
        self.position: dict[str, tuple[int, int, int]] = {}

    def run(self) -> tuple[list[Item], dict[str, Signal]]:
        place: dict[Key, int] = {}
        items: list[tuple[int, Item]] = []
        for position, equation in enumerate(self.system.equations):
            before = set(self.groups)
            rest = self._collect(equation)
            for key in self.groups:
                if key not in before:
                    place[key] = position
            for product in self._sparse(equation, rest == 0):
                items.append((position, product))
                rest = rest + at(product.signal)
            for term in equation.terms:
                if term.operator not in ("dense", "sparse"):
                    rest = rest + self._reduction(equation, term, items, position)
            if rest is not None and rest != at(equation.signal):
                items.append((position, Pointwise(equation.signal, rest)))
        items.extend((place[key], self._product(key, members)) for key, members in self.groups.items())
        order = sorted(range(len(items)), key=lambda k: (items[k][0], not isinstance(items[k][1], Product)))
        return [items[k][1] for k in order], self.signals

    def _sparse(self, equation: Equation, alone: bool) -> list[SparseProduct]:
        """The sparse terms of an equation: those that its loop steps, and those that run for all t at once."""
        parts: dict[object, list[Term]] = {}
        for term in equation.terms:
            if term.operator == "sparse":
                parts.setdefault(self._inside(equation.signal, [term]), []).append(term)
        alone = alone and equation.signal not in self.boundaries
        whole = alone and len(parts) == 1 and all(term.operator == "sparse" for term in equation.terms)
        return [
            SparseProduct(equation.signal if whole else self._result(equation.signal, "sum"), tuple(terms))
            for terms in parts.values()
        ]

    def _reduction(self, equation: Equation, term: Term, items: list[tuple[int, Item]], position: int) -> Expression:
        alone = len(equation.terms) == 1 and equation.expression == 0 and term.delay == 0
        name = equation.signal if alone else self._result(equation.signal)
        items.append((position, UnitReduction(name, term.operator, term.source)))
        return at(name, term.delay)

    def _result(self, signal: str, suffix: str = "sum") -> str:
        name = fresh_name(f"{signal}_{suffix}", self.signals)
        self.signals[name] = Signal(name, self.signals[signal].size, "product", signal)
        return name

    def _collect(self, equation: Equation) -> Expression:
        """Put the dense terms into groups; the pointwise expression that remains, with the results read into it."""
        rest = equation.expression
        directions = self.system.directions
        forward = [term for term in equation.terms if term.operator == "dense" and not term.transposed]
        backward = [term for term in equation.terms if term.operator == "dense" and term.transposed]
        tangent = self.signals[equation.signal].kind == "tangent"
        along = [term for term in forward if term.parameter in directions]
        plain = [term for term in forward if term.parameter not in directions]
        for terms in filter(None, (along, plain)):
            bias = self._bias(equation, terms is along)
            if bias is not None:
                rest = rest - parameter(bias)
            alone = len(equation.terms) == len(terms) and rest == 0
            name = equation.signal if alone else self._result(equation.signal, "along" if terms is along else "sum")
            slots = _numbered(Slot(term.source, term.delay) for term in terms)
            inside = self._inside(equation.signal, terms)
            direction = "along" if terms is along else "tangent" if tangent else "forward"
            key: Key = (direction, inside, bias is not None, tuple(sorted(slots, key=str)))
            blocks = {slot: _block(term) for slot, term in zip(slots, terms, strict=True)}
            self.groups.setdefault(key, []).append((name, blocks, bias))
            rest = rest + at(name)
        ahead = self._read_ahead(equation, backward)
        if ahead:
            alone = len(equation.terms) == len(ahead) and rest == 0
            name = equation.signal if alone else self._result(equation.signal, "from_all_taps")
            slots = _numbered(Slot(term.source, term.delay) for term in ahead)
            blocks = {slot: _block(term) for slot, term in zip(slots, ahead, strict=True)}
            key = ("ahead", None, ahead[0].parameter in directions, tuple(sorted(slots, key=str)))
            self.groups.setdefault(key, []).append((name, blocks, None))
            rest = rest + at(name)
        parts: dict[tuple[int, object, bool], list[Term]] = {}
        for term in backward:
            if term in ahead:
                continue
            part = term.delay, self._inside(equation.signal, [term]), term.parameter in directions
            parts.setdefault(part, []).append(term)
        for (delay, inside, is_along), terms in parts.items():
            alone = len(equation.terms) == len(terms) and rest == 0 and delay == 0
            senders = "_".join(dict.fromkeys(term.source.removeprefix("delta_") for term in terms[:2]))
            suffix = f"from_{senders}_etc" if len(terms) > 2 else f"from_{senders}"
            suffix += f"_d{-delay}" if delay < -1 else ""
            suffix = f"along_{suffix}" if is_along else suffix
            name = equation.signal if alone else self._result(equation.signal, suffix)
            slots = _numbered(Slot(term.source, 0) for term in terms)
            key = ("backward", inside, is_along, tuple(sorted(slots, key=str)))
            blocks = {slot: _block(term) for slot, term in zip(slots, terms, strict=True)}
            self.groups.setdefault(key, []).append((name, blocks, None))
            rest = rest + at(name, delay)
        return rest

    def _read_ahead(self, equation: Equation, backward: Sequence[Term]) -> list[Term]:
        """The terms that read the same deltas at several times, outside of loops: these are stacked and multiplied by
        all their weights in one product, unless they are much wider than the result.

        What is wanted outside of 1..T too is left out: there only some of the deltas exist.
        """
        if equation.signal in self.boundaries:
            return []
        times: dict[tuple[str, bool], set[int]] = {}
        for term in backward:
            if self._inside(equation.signal, [term]) is None:
                times.setdefault((term.source, term.parameter in self.system.directions), set()).add(term.delay)
        size = self.signals[equation.signal].size
        stacked = {
            source
            for source, delays in times.items()
            if len(delays) > 1 and self.signals[source[0]].size <= WIDEST_STACK * size
        }
        along = {along for _, along in stacked}
        return [
            term
            for term in backward
            if len(along) == 1 and (term.source, term.parameter in self.system.directions) in stacked
        ]

    def _bias(self, equation: Equation, along: bool) -> str | None:
        """The vector parameter that is added as it is, if any; ``along`` asks for one of the direction."""
        for summand in sympy.Add.make_args(equation.expression):
            found = meaning(summand) if summand.is_Symbol else None
            if isinstance(found, str) and (found in self.system.directions) == along:
                return found
        return None

    def _inside(self, signal: str, terms: Iterable[Term]) -> object:
        """The loop that both ends lie in, or None: products of a loop are not mixed with those outside."""
        loop = self.loop_of.get(signal)
        return loop if loop is not None and any(self.loop_of.get(term.source) == loop for term in terms) else None

    def _product(self, key: Key, members: list[Member]) -> Product:
        # Sources from outside the loop first, so that those of the loop lie together; else in the order of appearance.
        loop = key[1]
        slots = sorted(members[0][1], key=lambda slot: self.loop_of.get(slot[0].signal) == loop and loop is not None)
        if key[0] == "forward":
            # Results with the same activation lie together, so that one call computes them.
            members = self._by_activation(members)
            number = len(self.position)
            for row, slot in enumerate(slots):
                for column, (_, blocks, _) in enumerate(members):
                    self.position.setdefault(blocks[slot].parameter, (number, row, column))
        else:
            first = members[0][1]
            slots = sorted(slots, key=lambda slot: self._order(first[slot].parameter))
            members = sorted(members, key=lambda member: self._order(member[1][slots[0]].parameter))
        return Product(
            sources=tuple(slot for slot, _ in slots),
            results=tuple(name for name, _, _ in members),
            blocks=tuple(tuple(blocks[slot] for _, blocks, _ in members) for slot in slots),
            biases=tuple(bias for _, _, bias in members if bias is not None),
        )

    def _order(self, weight: str) -> tuple[int, int, int]:
        return self.position.get(self.system.directions.get(weight, weight), (len(self.position), 0, 0))

    def _by_activation(self, members: list[Member]) -> list[Member]:
        """Equal activations side by side; those that enter the same equation as the last group (c = f*c_prev + i*z)
        next to it, since their deltas come from one error."""
        if len(members) == 1:
            return members
        last = max(self._activation(member[0]) for member in members)
        together = {self._reader(member[0]) for member in members if self._activation(member[0]) == last}
        return sorted(
            members,
            key=lambda member: (
                self._activation(member[0]),
                self._reader(member[0]) in together,
                self._meets_past(member[0]),
            ),
        )

    def _follower(self, result: str) -> str:
        """The activation of a weighted sum, or an empty name."""
        return next((e.signal for e in self._readers.get(result, []) if e.expression.args == (at(result),)), "")

    def _reader(self, result: str) -> str:
        """The first signal that is computed from the activation of a weighted sum."""
        return next((equation.signal for equation in self._readers.get(self._follower(result), [])), "")

    def _meets_past(self, result: str) -> bool:
        """Whether the activation of a weighted sum is multiplied by a delayed signal, as a forget gate is."""
        follower = self._follower(result)
        return any(
            at(follower) in summand.args and any(read.delay > 0 for read in reads_of(summand))
            for equation in self._readers.get(follower, [])
            for summand in sympy.Add.make_args(equation.expression)
            if summand.is_Mul
        )

    def _activation(self, result: str) -> str:
        readers = [equation.expression for equation in self._readers.get(result, [])]
        return readers[0].func.__name__ if len(readers) == 1 and readers[0].args == (at(result),) else "~"

    @cached_property
    def _readers(self) -> Mapping[str, list[Equation]]:
        """The equations that read each signal in their pointwise part."""
        table: dict[str, list[Equation]] = {}
        for equation in self.system.equations:
            for read in reads_of(equation.expression):
                table.setdefault(read.signal, []).append(equation)
        return table


def _block(term: Term) -> Block:
    assert term.parameter is not None
    return Block(term.parameter, term.transposed)


def _numbered(slots: Iterable[Slot]) -> list[tuple[Slot, int]]:
    """Slots with a running number per equal slot: two weights between the same nodes are two slots."""
    seen: dict[Slot, int] = {}
    numbered = []
    for slot in slots:
        seen[slot] = seen.get(slot, -1) + 1
        numbered.append((slot, seen[slot]))
    return numbered


def _loops(system: System) -> dict[str, int]:
    """The loop (a number) in which each signal of a loop lies."""
    graph = nx.DiGraph()
    for equation in system.equations:
        graph.add_node(equation.signal)
        graph.add_edges_from((read.signal, equation.signal) for read in equation.reads())
    loops: dict[str, int] = {}
    for number, members in enumerate(nx.strongly_connected_components(graph)):
        if len(members) > 1 or any(graph.has_edge(member, member) for member in members):
            loops.update(dict.fromkeys(members, number))
    return loops
