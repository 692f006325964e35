"""In which order the terms of a sum and the factors of a product are written: sort keys."""

from __future__ import annotations

from collections.abc import Container, Mapping

from codegen.functions import PrimeFunction
from rnngraph.equations import Expression, Read, Term, reads_of
from rnngraph.system_like import SystemLike


def term_key(term: Term, system: SystemLike) -> tuple[int, ...]:
    """What a sensitivity carries on first; near times before far ones."""
    carried = system.signals[term.source].kind == "sensitivity"
    return (-1 if carried else 0, abs(term.delay), 0, 0)


def summand_key(expression: Expression, system: SystemLike, index: Mapping[str, int]) -> tuple[int, ...]:
    """Numbers and lone parameters last; negative summands after positive ones; near times before far ones."""
    reads = reads_of(expression)
    negative = int(bool(expression.could_extract_minus_sign()))
    if not reads:
        return (2 if expression.is_number else 1, negative, 0, 0)
    far = max(abs(read.delay) for read in reads)
    if any(system.signals[read.signal].kind == "sensitivity" for read in reads):
        return (-1, far, 1, min(index[read.signal] for read in reads))
    # a number leads where all else is subtracted (1 - z)
    return (3 if negative else 0, far, 1, min(index[read.signal] for read in reads))


def factor_key(
    factor: Expression, system: SystemLike, index: Mapping[str, int], groups: Container[Read]
) -> tuple[int, ...]:
    """Numbers, weights, parameters, derivatives, signals, brackets; errors and what stands for a group last."""
    reads = reads_of(factor)
    kinds = {system.signals[read.signal].kind for read in reads}
    far = max((abs(read.delay) for read in reads), default=0)
    first = min((index[read.signal] for read in reads), default=-1)
    if factor.is_number:
        group = 0
    elif kinds & {"adjoint", "sensitivity"} or any(read in groups for read in reads):
        group = 9
    elif kinds & {"auxiliary", "tangent", "jacobian"}:
        group = 8
    elif kinds == {"weight"}:
        group = 1
    elif not reads:
        group = 2
    elif isinstance(factor, PrimeFunction):
        group = 3
    elif factor.is_Symbol:
        group = 4
    else:
        group = 6 if factor.is_Add else 5
    return (group, far, first)
