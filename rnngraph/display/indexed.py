"""How equations of matrices are written: entry by entry, each index named, since rows and units would be mixed up else.

An entry of a Jacobian is J[l,k], of a full sensitivity P[ij,k] (P[j,k] by a vector), of a local one P[i,k] (P[k] by a
vector): l, k are units, ij or i the entry of the parameter that the row stands for. An index that can only be 1 is left
out.
"""

from __future__ import annotations

from dataclasses import dataclass

from rnngraph.equations import Equation, Signal, reads_of
from rnngraph.system_like import SystemLike

UNIT, PASSED, SUMMED = "k", "l", "m"  # the unit of the left-hand side, of a Jacobian's source, of a weight's source
ENTRY = ("i", "j")  # of a matrix parameter; a vector has the second alone
WITH_JACOBIAN = ("product", "expand", "diagonal")
MATRIX = 2


@dataclass(frozen=True)
class Indices:
    """The letters of one equation: its ``row`` of entries, each letter with the number of its values, and ``unit``."""

    row: tuple[tuple[str, int], ...]
    unit: str = UNIT

    def along_rows(self) -> str:
        """The letter that a signal has whose units lie down the rows."""
        return self.row[0][0] if self.row else self.unit


def full_sensitivities(system: SystemLike) -> frozenset[str]:
    """The sensitivities with a row for each entry of the parameter, and the signals with rows made of them.

    Where a parameter leads into one unit the shapes alone do not tell: full is what a Jacobian widened, and what
    follows it unit by unit.
    """
    own = {each.signal: each for each in system.equations if system.signals[each.signal].kind == "sensitivity"}
    found = {name for name, each in own.items() if _widened(each)}
    followers: dict[str, list[str]] = {}
    for name, equation in own.items():
        for read in reads_of(equation.expression):
            followers.setdefault(read.signal, []).append(name)
    waiting = list(found)
    while waiting:
        for name in followers.get(waiting.pop(), ()):
            if name not in found:
                found.add(name)
                waiting.append(name)
    return frozenset(found)


def _widened(equation: Equation) -> bool:
    return any(term.operator in ("product", "expand") for term in equation.terms)


def row_of(signal: Signal, system: SystemLike, full: bool) -> tuple[tuple[str, int], ...]:
    """The letters of the row of ``signal``, which has rows: of a parameter's entry, or of the unit of a source."""
    if signal.of is None:
        return ((PASSED, signal.rows),)
    shape = system.shapes[signal.of]
    if full:
        return tuple(zip(ENTRY[-len(shape) :], shape, strict=True))
    return ((ENTRY[0], shape[0]),) if len(shape) == MATRIX else ()


def entry_text(row: tuple[tuple[str, int], ...], unit: str, size: int) -> str:
    """[ij,k], less the indices that can only be 1."""
    letters = "".join(letter for letter, count in row if count > 1)
    parts = [part for part in (letters, unit if size > 1 else "") if part]
    return f"[{','.join(parts)}]" if parts else ""
