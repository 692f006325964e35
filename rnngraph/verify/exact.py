"""Check "exact": the derived gradient equals ``sympy.diff`` of the unrolled loss, in rational arithmetic, with error 0.

On a small instance of the network (``shrink``) the loss over T steps becomes one scalar sympy expression (``unroll``),
which sympy differentiates. The System that ``vjp`` derives is evaluated on the same rational numbers by the reference
interpreter (``rnngraph.evaluate``). Functions are opaque on both sides (``opaque``), so that equality is exact and
shows, up to a tiny probability, that the derivation is right for these sizes and this T, whatever the functions are.

Small networks are compared entry by entry; where that would take too long, one directional derivative per quantity,
along a random rational direction, stands for all its entries: it differs if any entry does, with the same certainty.
"""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from rnngraph.derive import derive_model
from rnngraph.errors import OptionError
from rnngraph.evaluate import Evaluation
from rnngraph.losses import resolve_losses, with_loss
from rnngraph.model import Model
from rnngraph.system import System
from rnngraph.units import group_units
from rnngraph.verify.opaque import Number, OpaqueFunctions
from rnngraph.verify.report import VerificationRow, row
from rnngraph.verify.shrink import shrink
from rnngraph.verify.unroll import Unrolling
from rnngraph.vjp import vjp

MOST_STEPS = 12
ATTEMPTS = 10
LONGEST = 4096  # bits of a denominator; beyond, rationals are taken modulo a prime
KINDS = ("parameter", "input", "state")

Quantity = tuple[str, str]  # kind and name


def check_exact(model: Model, loss: object, seed: int, points: int, effort: int) -> list[VerificationRow]:
    """Rows for the loss and the derivative by each parameter, input and given state.

    ``effort`` bounds the number of values times the number of variables that are differentiated entry by entry.
    """
    small = _small(model, loss, seed)
    T = min(max([0, *small.state_depths.values(), *small.ahead_depths.values()]) + 2, MOST_STEPS)
    detail = f"T={T}, sizes <= 2, {points} rational points"
    systems = {"parameter": vjp(small), "input": vjp(small, wrt=("inputs",)), "state": vjp(small, wrt=("state",))}
    for system in systems.values():
        if not _can_be_ordered(system, T):
            return [row("exact", "order of evaluation", float("inf"), 0, "a derived value needs itself")]
    unrolling = _unroll(small, T, effort)
    derivatives = {
        quantity: [unrolling.differentiate(variable) for variable in variables]
        for quantity, variables in unrolling.variables.items()
    }
    errors: dict[Quantity, Fraction] = {}
    for point in range(points):
        found = _Point.draw(unrolling, systems, f"{seed} {point}").errors(derivatives)
        errors = {quantity: max(error, errors.get(quantity, Fraction(0))) for quantity, error in found.items()}
    rows = []
    for (kind, name), error in errors.items():
        if kind == "loss":
            compared = detail
        elif unrolling.along == "entries":
            compared = f"all {len(unrolling.quantities[kind, name])} entries, {detail}"
        else:
            compared = f"all entries along one random direction, {detail}"
        rows.append(row("exact", _title(kind, name, small), _as_number(error), 0, compared))
    return rows


def _small(model: Model, loss: object, seed: int) -> System:
    """The forward equations and the loss of a small instance, its units put together as when it is compiled."""
    given = shrink(model, seed)
    losses = resolve_losses(tuple(node.name for node in given.outputs), loss)
    grouping = group_units(given, losses)
    forward = derive_model(grouping.model, grouping.layers)
    return with_loss(forward, grouping.losses(losses) if grouping.layers else loss)


def _title(kind: str, name: str, system: System) -> str:
    ahead = {given: node for node, given in system.ahead_names.items()}
    state = f"dL/d{ahead[name]}(t>T)" if name in ahead else f"dL/d{name}(t<=0)"
    return {"loss": "L", "state": state}.get(kind, f"dL/d{name}")


def _as_number(error: Fraction) -> float | int:
    """0 only for 0: what a float cannot hold stays above it."""
    return max(float(error), 1e-300) if error else 0


def _unroll(system: System, T: int, effort: int) -> Unrolling:
    """Entry by entry if the effort allows it, else along one direction per quantity, else along one per kind."""
    for along in ("entries", "directions"):
        unrolling = Unrolling(system, T, along)
        if len(unrolling.parts) * sum(map(len, unrolling.variables.values())) <= effort:
            return unrolling
    return Unrolling(system, T, "together")


def _can_be_ordered(system: System, T: int) -> bool:
    """Whether no value within 1..T needs itself: a wrong time shift can make a circle of reads."""
    graph = nx.DiGraph()
    for equation in system.equations:
        for read in equation.reads():
            for t in range(1, T + 1):
                if 1 <= t - read.delay <= T:
                    graph.add_edge((read.signal, t - read.delay), (equation.signal, t))
    return bool(nx.is_directed_acyclic_graph(graph))


@dataclasses.dataclass
class _Point:
    """One choice of rational data, with the values of all parts of the unrolled loss."""

    unrolling: Unrolling
    systems: dict[str, System]
    functions: OpaqueFunctions
    values: dict[Any, Number]

    @classmethod
    def draw(cls, unrolling: Unrolling, systems: dict[str, System], seed: str) -> _Point:
        """Random data; drawn anew where an equation divides by a value that happens to be 0."""
        modular = False
        for attempt in range(ATTEMPTS):
            point = cls(unrolling, systems, OpaqueFunctions(f"{seed} {attempt}", modular), {})
            try:
                point._fill()
                return point
            except ZeroDivisionError:
                continue
            except OverflowError:
                modular = True
        raise OptionError(
            "checks",
            f"equations that divide by zero at {ATTEMPTS} random points",
            "equations defined at random rational values",
            "correct the equation that divides by a constant 0, or leave the check 'exact' out",
        )

    def _fill(self) -> None:
        unrolling, values = self.unrolling, self.values
        for (kind, name, index), leaf in unrolling.leaves.items():
            values[leaf] = self.functions.draw()
            origin = unrolling.system.signals[name].origin if kind == "given" else None
            if origin is not None and unrolling.system.losses.get(origin) == "cross_entropy":
                values[leaf] = self.functions.number(int(index[1] == index[0] % unrolling.system.signals[name].size))
        if unrolling.along != "entries":
            for variables in unrolling.variables.values():
                values.update(dict.fromkeys(variables, self.functions.number(0)))
        for part in unrolling.tape:  # in order: each after what it reads
            values[part] = value = self.functions.value(part.body, values)
            if isinstance(value, Fraction) and value.denominator.bit_length() > LONGEST:
                raise OverflowError("a rational number too long to compute with")
        for sources, value in unrolling.logsumexps:
            known = [self.functions.value(source, values) for source in sources]
            self.functions.relate(known, self.functions.value(value, values))

    def errors(self, derivatives: dict[Quantity, list[Any]]) -> dict[Quantity, Fraction]:
        """The largest deviation of each quantity."""
        evaluations = {kind: self._evaluation(system) for kind, system in self.systems.items()}
        zero = self.functions.number(0)
        loss = np.asarray(evaluations["parameter"].total(self.systems["parameter"].total("loss"))).item()
        result: dict[Quantity, Fraction] = {("loss", "loss"): abs(loss - self._value(self.unrolling.loss))}
        pooled: dict[str, Number] = dict.fromkeys(KINDS, zero)
        for (kind, name), found in derivatives.items():
            derived = self._derived(evaluations[kind], kind, name)
            expected = [self._value(expression) for expression in found]
            if self.unrolling.along == "entries":
                pairs = zip(derived, expected, strict=True)
                result[kind, name] = max((abs(one - other) for one, other in pairs), default=Fraction(0))
                continue
            indices = self.unrolling.quantities[kind, name]
            directions = [self.values[self.unrolling.leaves[f"{kind} direction", name, index]] for index in indices]
            along = sum((a * b for a, b in zip(derived, directions, strict=True)), zero)
            if self.unrolling.along == "directions":
                result[kind, name] = abs(along - expected[0])
            else:
                pooled[kind] += along
        if self.unrolling.along == "together":
            for kind in KINDS:
                names = [name for other, name in derivatives if other == kind]
                if names:
                    title = f"({len(names)} {kind}s)"
                    result[kind, title] = abs(pooled[kind] - self._value(derivatives[kind, names[0]][0]))
        return result

    def _value(self, expression: Any) -> Number:
        return self.functions.value(expression, self.values)

    def _derived(self, evaluation: Evaluation, kind: str, name: str) -> list[Number]:
        """The entries of a derived gradient, in the order of the unrolling's indices."""
        system = evaluation.system
        if kind == "parameter":
            total = next(total for total in system.totals if total.kind == "gradient" and total.of == name)
            return list(np.asarray(evaluation.total(total)).ravel())
        ahead = {system.ahead_names[node]: adjoint for node, adjoint in system.ahead_adjoints.items()}
        adjoint = (system.input_adjoints if kind == "input" else {**system.state_adjoints, **ahead}).get(name, "")
        indices = self.unrolling.quantities[kind, name]
        if not adjoint:
            return [self.functions.number(0)] * len(indices)
        return [evaluation.value(adjoint, t)[0, unit] for t, unit in indices]

    def _evaluation(self, system: System) -> Evaluation:
        T, forward = self.unrolling.T, self.unrolling.system
        parameters = {name: self._array("parameter", name, shape) for name, shape in forward.parameters.items()}
        given = {
            name: self._array("input" if signal.kind == "input" else "given", name, (T, signal.size), first=1)[:, None]
            for name, signal in forward.signals.items()
            if signal.kind in ("input", "target", "weight")
        }
        state = {
            name: self._array("state", name, (depth, forward.signals[name].size), first=1 - depth)[:, None]
            for name, depth in forward.state_depths.items()
            if not isinstance(forward.signals[name].initial, str)
        }
        for name, depth in forward.ahead_depths.items():
            if not isinstance(forward.signals[name].initial, str):
                shape, key = (depth, forward.signals[name].size), forward.ahead_names[name]
                state[key] = self._array("state", key, shape, first=T + 1)[:, None]
        functions = self.functions.on_arrays()
        return Evaluation(system, T, 1, given, parameters, state, functions, self.functions.number)

    def _array(self, kind: str, name: str, shape: tuple[int, ...], first: int = 0) -> NDArray[Any]:
        """The data of one name as an object array; ``first`` is the number of its first row."""
        array = np.empty(shape, dtype=object)
        for index in np.ndindex(*shape):
            leaf = self.unrolling.leaves.get((kind, name, (index[0] + first, *index[1:])))
            array[index] = self.functions.number(0) if leaf is None else self.values[leaf]  # None: nothing reads it
        return array
