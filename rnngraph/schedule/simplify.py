"""Two rewritings of pointwise items that keep every value: inlining, and taking factors out of loops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import sympy

from codegen.functions import PointwiseFunction
from rnngraph.equations import (
    BoundarySum,
    Expression,
    PointwiseSum,
    Signal,
    at,
    fresh_name,
    meaning,
    reads_of,
    symbols_of,
)
from rnngraph.schedule.items import Component, Item, Pointwise, SparseProduct
from rnngraph.system import System

INLINED_KINDS = ("adjoint", "auxiliary", "product", "tangent")


def inline_once_used(
    items: Sequence[Item], system: System, signals: Mapping[str, Signal], kept_for_sweep: Collection[str] = ()
) -> list[Item]:
    """Put a pointwise signal that only one expression reads, at the same t, into that expression.

    Kept: what the sweep, totals, products and callers read, and expressions with functions (their value is worth
    keeping, and the activations of one layer are computed together).
    """
    uses: Counter[str] = Counter()
    elsewhere: set[str] = {
        *system.input_adjoints.values(), *system.state_adjoints.values(), *system.ahead_adjoints.values()
    }  # fmt: skip
    elsewhere.update(kept_for_sweep)
    for total in system.totals:
        for contribution in total.contributions:
            if isinstance(contribution, PointwiseSum):
                elsewhere.update(read.signal for read in reads_of(contribution.expression))
            else:
                elsewhere.update(
                    {getattr(contribution, side) for side in ("left", "right", "signal") if hasattr(contribution, side)}
                )
    for item in items:
        for read in item.reads():
            uses[read.signal] += 1
            if not isinstance(item, Pointwise) or read.delay != 0:
                elsewhere.add(read.signal)
    bodies: dict[Expression, Expression] = {}
    kept: list[Item] = []
    for item in items:
        if (
            isinstance(item, Pointwise)
            and signals[item.signal].kind in INLINED_KINDS
            and uses[item.signal] == 1
            and item.signal not in elsewhere
            and not item.expression.has(PointwiseFunction)
        ):
            bodies[at(item.signal)] = item.expression
        else:
            kept.append(item)

    def expand(expression: Expression) -> Expression:
        while expression.free_symbols & bodies.keys():
            expression = expression.xreplace(bodies)
        return expression

    return [Pointwise(item.signal, expand(item.expression)) if isinstance(item, Pointwise) else item for item in kept]


def hoist_from_loops(components: Sequence[Component], signals: dict[str, Signal]) -> list[Item]:
    """Take out of each loop the factors and summands that do not depend on the loop; they run for all t at once.

    In a backward sweep these are the derivatives f'(s(t)) and the errors that come from outside the loop.
    New signals are added to ``signals``.
    """
    items: list[Item] = []
    for component in components:
        if not component.loop:
            items.extend(component.items)
            continue
        inside = {signal for item in component.items for signal in item.defines}
        for item in component.items:
            if isinstance(item, Pointwise):
                hoisting = _Hoisting(item.signal, inside, signals)
                expression = hoisting.split(item.expression)
                items.extend(hoisting.created)
                item = Pointwise(item.signal, expression)
            items.append(item)
    return items


class _Hoisting:
    def __init__(self, owner: str, inside: Collection[str], signals: dict[str, Signal]) -> None:
        self.owner = owner
        self.inside = inside
        self.signals = signals
        self.created: list[Item] = []

    def split(self, expression: Expression) -> Expression:
        """``expression`` with its largest parts that do not depend on the loop replaced by new signals."""
        if not self._depends(expression):
            return self._hoist(expression)
        if expression.is_Add or expression.is_Mul:
            fixed = [argument for argument in expression.args if not self._depends(argument)]
            moving = [argument for argument in expression.args if self._depends(argument)]
            kind = "summand" if expression.is_Add else "factor"
            parts = [self._hoist(expression.func(*fixed), kind)] if fixed else []
            return expression.func(*parts, *(self.split(argument) for argument in moving))
        return (
            expression.func(*(self.split(argument) for argument in expression.args)) if expression.args else expression
        )

    def _depends(self, expression: Expression) -> bool:
        return any(read.signal in self.inside for read in reads_of(expression))

    def _hoist(self, expression: Expression, kind: str = "factor") -> Expression:
        """A new signal for an expression that is worth it, or the expression itself."""
        reads = reads_of(expression)
        if expression.is_Atom or not reads:
            return expression
        if expression.is_Mul and len(expression.args) == 2 and expression.args[0] == -1 and expression.args[1].is_Atom:
            return expression
        sizes = [self.signals[read.signal].size for read in reads]
        size = self.signals[self.owner].size if self._has_parameter(expression) else max(sizes)
        name = fresh_name(f"{kind}_{self.owner}", self.signals)
        self.signals[name] = Signal(name, size, kind, self.owner)
        self.created.append(Pointwise(name, expression))
        return at(name)

    def _has_parameter(self, expression: Expression) -> bool:
        return any(isinstance(meaning(symbol), str) for symbol in symbols_of(expression))


def boundary_signals(system: System) -> set[tuple[str, bool]]:
    """The adjoints that are wanted at t <= 0 or, where they lie ahead (True), at t > T, too: of states and of learned
    initial values."""
    wanted = {(adjoint, False) for adjoint in system.state_adjoints.values() if adjoint}
    wanted |= {(adjoint, True) for adjoint in system.ahead_adjoints.values() if adjoint}
    for total in system.totals:
        wanted.update((piece.signal, piece.ahead) for piece in total.contributions if isinstance(piece, BoundarySum))
    return wanted


def boundary_parts(items: Sequence[Item], system: System) -> dict[tuple[str, bool], Expression]:
    """For each adjoint that is wanted outside of 1..T (``boundary_signals``): what reaches it from 1..T."""
    bodies = {item.signal: item.expression for item in items if isinstance(item, Pointwise)}
    sparse = {at(item.signal) for item in items if isinstance(item, SparseProduct)}
    parts = {
        (signal, ahead): boundary_part(bodies[signal], ahead, sparse)
        for signal, ahead in sorted(boundary_signals(system))
        if signal in bodies
    }
    return {key: part for key, part in parts.items() if part != 0}


def boundary_part(expression: Expression, ahead: bool = False, sparse: Collection[Expression] = ()) -> Expression:
    """The part of an adjoint's expression that reaches from t <= 0 into the sequence: the summands that read ahead, and
    ``sparse`` products, which have their delays inside.
    With ``ahead`` that which reaches from t > T: those that read the past."""
    return sympy.Add(
        *(
            summand
            for summand in sympy.Add.make_args(expression)
            if summand in sparse
            or ((reads := reads_of(summand)) and all(read.delay > 0 if ahead else read.delay < 0 for read in reads))
        )
    )
