"""Loops over t that are linear and go unit by unit, c(t) = a(t)*c(t-1) + u(t), in a NumPy module.

A call of NumPy costs as much as some hundred numbers. Where a step has fewer, time is cut into blocks, and one call
serves the same step of all blocks: see the text of ``_Recurrence``. With more the loop over t is as quick.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from codegen.ir import Apply, Bound, Fill, Function, Loop, Span, Statement, Step, View, views_of
from codegen.overlap import same_place
from codegen.walk import statements_in

MOST_UNITS = 256  # numbers in a step from which a loop over t is as quick; measured in benchmarks/schedule.py
HELPERS = {
    "_Recurrence": '''
class _Recurrence:
    """target(t) = factor(t) * target(t-1) + added(t), for all t in order; the first row of ``target`` is given.

    Where a step has few numbers, time is cut into blocks. All blocks take their steps at once, as if each began with
    0, and multiply up their factors; then each block gets the value it really began with, times these products.
    A factor that is one number serves all t; without one, each call is given a vector that does.
    """

    def __init__(self, target, added, factor=None, longest=1 << 30):
        T, shape = len(added), added.shape[1:]
        self.rows = target, added, factor
        self.factor = np.zeros(shape[-1], DTYPE) if factor is None else factor
        varies = self.factor.ndim == added.ndim  # else one number or vector serves all t
        worth = T >= 64 and added[0].size <= {most}
        length = min(longest, int((0.7 * T) ** 0.5)) if worth else 1
        count = T // length
        whole = count * length
        inside, first = (rows[:whole].reshape(count, length, *shape) for rows in (target[1:], added))
        factors = factor if varies else [self.factor] * T
        self.row = np.empty(shape, DTYPE)
        # (factor, target before, added, target) of what goes step by step: whole blocks, and what is left of time
        self.steps = [(factors[t], target[t], added[t], target[t + 1]) for t in range(whole, T)]
        self.blocks = []
        if length == 1:
            self.steps = list(zip(factors, target, added, target[1:], strict=False))
            self.nbytes = 800 * T  # the Python objects of these views, about
            return
        products = np.empty((count if varies else 1, length, *shape), DTYPE)
        factors = [self.factor] * length
        if varies:
            factors = np.moveaxis(factor[:whole].reshape(products.shape), 1, 0)
        self.last_products = products[:, -1]
        ends = inside[:, -1]
        self.steps[:0] = zip(
            np.broadcast_to(self.last_products, ends.shape), target[0:whole:length], ends, ends, strict=True
        )
        self.first = (inside[:, 0], first[:, 0]), (products[:, 0], factors[0])
        self.products = [(factors[k], products[:, k - 1], products[:, k]) for k in range(1, length)]
        self.blocks = [(factors[k], inside[:, k - 1], first[:, k], inside[:, k]) for k in range(1, length)]
        self.carried = np.empty((count, length - 1, *shape), DTYPE)
        self.nbytes = products.nbytes + self.carried.nbytes
        self.last = products[:, :-1], target[0:whole:length, None], inside[:, :-1]

    def __call__(self, factor=None):
        multiply, add, row = np.multiply, np.add, self.row
        if factor is not None:
            self.factor[...] = factor
        if self.blocks:
            for part, start in self.first:
                part[...] = start
            with np.errstate(over="ignore", invalid="ignore"):
                for now, before, product in self.products:
                    multiply(now, before, product)
            if not np.isfinite(self.last_products).all():  # factors too large to be multiplied up
                target, added, own = self.rows
                _Recurrence(target, added, own, longest=1)(factor)
                return
            for now, before, added, target in self.blocks:
                multiply(now, before, target)
                add(target, added, target)
        for now, before, added, target in self.steps:
            multiply(now, before, row)
            add(row, added, target)
        if self.blocks:
            products, starts, inside = self.last
            multiply(products, starts, self.carried)
            add(inside, self.carried, inside)
'''.replace("{most}", str(MOST_UNITS))
}


@dataclass(frozen=True)
class Recurrence:
    """``target``(t) = ``factor`` * target(before t) + ``added``(t).

    ``carried``: what holds the product with the factor, where this is a value of its own: target(t) = carried +
    added(t) and carried = factor(t) * target(t), of which ``before`` is the one that is read.
    """

    target: View
    before: View
    factor: View | float
    added: View
    carried: View | None = None


def recurrence_of(loop: Loop, function: Function) -> Recurrence | None:
    """What a loop computes, if that is a linear recurrence of few units and nothing else."""
    if loop.steps > 1 or len(loop.body) != 2:
        return None
    first, second = loop.body
    if not (isinstance(first, Apply) and isinstance(second, Apply)):
        return None
    found = _one_value(first, second) if first.function == "multiply" else _two_values(first, second)
    if found is None or found.target.columns > MOST_UNITS or not _fits(found, loop, function):
        return None
    return found


def _one_value(first: Apply, second: Apply) -> Recurrence | None:
    """product = factor * target before; target = product + added."""
    target = second.target
    added = _other(second, first.target)
    before = [view for view in views_of(first)[1:] if view.buffer.name == target.buffer.name]
    if second.function != "add" or not isinstance(added, View) or len(before) != 1:
        return None
    if not same_place(first.target, target) and not first.target.buffer.name.startswith("scratch_"):
        return None  # the product is a value of its own
    factor = _other(first, before[0])
    return None if factor is None else Recurrence(target, before[0], factor, added)


def _two_values(first: Apply, second: Apply) -> Recurrence | None:
    """target = carried + added; carried = factor * target."""
    factor = _other(second, first.target)
    before = [view for view in views_of(first)[1:] if view.buffer.name == second.target.buffer.name]
    if (first.function, second.function) != ("add", "multiply") or factor is None or len(before) != 1:
        return None
    added = _other(first, before[0])
    return Recurrence(first.target, before[0], factor, added, second.target) if isinstance(added, View) else None


def _other(call: Apply, view: View) -> View | float | None:
    """The second one of two arguments, one of which is ``view``."""
    if len(call.arguments) != 2:
        return None
    own = [isinstance(argument, View) and same_place(argument, view) for argument in call.arguments]
    return None if sum(own) != 1 else call.arguments[own.index(False)]


def _fits(found: Recurrence, loop: Loop, function: Function) -> bool:
    """Whether all views are what their names say: one step apart, as wide as each other, in memory of their own."""
    target, before, factor, added = found.target, found.before, found.factor, found.added
    back = 1 if loop.backward else -1
    views = [target, added, *([factor] if isinstance(factor, View) and not _is_vector(factor) else [])]
    if not all(isinstance(view.time, Step) and view.columns == target.columns for view in views):
        return False
    names = [view.buffer.name for view in views]
    if len(set(names)) < len(names) or any(view.buffer.groups > 1 for view in views):
        return False
    value, others = (target, names[1:]) if found.carried is None else (found.carried, names)
    if (value.start, value.stop) != (before.start, before.stop) or value.buffer.name in others:
        return False
    if isinstance(value.time, Step):
        return isinstance(before.time, Step) and before.time.offset == value.time.offset + back
    users = [each for each in function.body if any(_uses(each, value) for each in statements_in(each))]
    return all(each is loop or isinstance(each, Fill) for each in users)


def _uses(statement: Statement, view: View) -> bool:
    return any(other.buffer.name == view.buffer.name for other in views_of(statement))


def _is_vector(view: View) -> bool:
    return view.vector or view.buffer.shape == "vector"


@dataclass(frozen=True)
class RecurrenceText:
    """What a recurrence prints in place of its loop: ``once`` in the workspace, where it is called ``name``, and
    ``lines`` in the function. ``text`` spells a view that goes through all t.

    Where the workspace has room for more steps than T, it goes on to rows beyond T, which are not read."""

    found: Recurrence
    backward: bool
    name: str
    text: Callable[[View], str]

    def once(self) -> list[str]:
        """The object that holds its views."""
        found, back = self.found, self.backward
        if found.carried is None:
            order = "[::-1]" if back else ""
            parts = [self._with_the_row_before(), f"{self._own(found.added)}{order}"]
        else:
            order = "[:0:-1]" if back else "[:-1]"
            parts = [f"{self._own(found.target)}{'[::-1]' if back else ''}"]
            parts.append(f"{self._own(found.added)}{'[-2::-1]' if back else '[1:]'}")
        if not isinstance(found.factor, View):
            parts.append(f"np.array({found.factor!r}, DTYPE)")
        elif not _is_vector(found.factor):
            parts.append(f"{self._own(found.factor)}{order}")
        return [f"{self.name} = _Recurrence({', '.join(parts)})", f"nbytes += self.{self.name}.nbytes"]

    def _own(self, view: View) -> str:
        return f"self.{self.text(_all_steps(view))}"

    def _with_the_row_before(self) -> str:
        target = self.found.target
        assert isinstance(target.time, Step)
        first = target.time.offset if self.backward else target.time.offset - 1
        rows = replace(target, time=Span(Bound(first), Bound(first + 1, 1)))
        return f"self.{self.text(rows)}{'[::-1]' if self.backward else ''}"

    def lines(self) -> list[str]:
        """What is done in each call."""
        found, factor = self.found, self.found.factor
        vector = self.text(factor) if isinstance(factor, View) and _is_vector(factor) else ""
        call = f"work.{self.name}({vector})"
        if found.carried is None:
            return [call]
        first = "[-1]" if self.backward else "[0]"
        target, added = (f"{self.text(_all_steps(view))}{first}" for view in (found.target, found.added))
        stepped = isinstance(found.before.time, Step)
        before = f"{self.text(_all_steps(found.before))}{first}" if stepped else self.text(found.before)
        lines = [f"add({before}, {added}, out={target})", call]
        if stepped:
            by = vector or (self.text(_all_steps(factor)) if isinstance(factor, View) else repr(factor))
            target, carried = (self.text(_all_steps(view)) for view in (found.target, found.carried))
            lines.append(f"multiply({by}, {target}, out={carried})")
        return lines


def _all_steps(view: View) -> View:
    assert isinstance(view.time, Step)
    return replace(view, time=Span(Bound(view.time.offset), Bound(view.time.offset, 1)))
