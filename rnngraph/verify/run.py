"""``rg.verify``: the derivation and the emitted code of a network, against derivatives found in other ways."""

from __future__ import annotations

from collections.abc import Iterable

import networkx as nx

from rnngraph.errors import OptionError
from rnngraph.validate import validate
from rnngraph.verify.differences import check_differences
from rnngraph.verify.dot_product import check_dot_product
from rnngraph.verify.exact import check_exact
from rnngraph.verify.report import FailedVerificationError, Verification, VerificationRow

CHECKS = ("exact", "differences", "dot_product")


def verify(
    graph: nx.MultiDiGraph,
    loss: object = "mse",
    seed: int = 0,
    checks: Iterable[str] = CHECKS,
    *,
    points: int = 2,
    effort: int = 5000,
) -> Verification:
    """Check a network's gradient in up to three independent ways, at random data drawn from ``seed``.

    - "exact": on a small instance (sizes 1 and 2, short delays, few steps) the gradient that ``rg.gradient`` derives
      equals ``sympy.diff`` of the unrolled loss, in rational arithmetic, with error 0, at ``points`` random points. Up
      to ``effort`` (values times variables) it is compared entry by entry, above that along random directions.
    - "differences": at the true sizes, the gradients of the compiled float64 kernel by parameters, inputs and state
      equal central differences of its loss to 1e-6.
    - "dot_product": at the true sizes, forward mode (``rg.jvp``) and reverse mode (``rg.vjp``) satisfy
      <J v, u> = <v, J^T u> to 1e-11.

    ``loss`` is as for ``rg.compile``. Raises VerificationError, with the whole table in its ``verification``, where a
    row fails; GraphError for a bad graph, OptionError for an unknown loss or check.
    """
    checks = (checks,) if isinstance(checks, str) else tuple(checks)
    for check in checks:
        if check not in CHECKS:
            raise OptionError("checks", repr(check), f"some of {CHECKS}", "check the spelling")
    if not checks:
        raise OptionError("checks", "no check", f"at least one of {CHECKS}", "leave the argument out for all of them")
    _check_number("seed", seed, 0)
    _check_number("points", points, 1)
    _check_number("effort", effort, 0)
    model = validate(graph)
    rows: list[VerificationRow] = []
    if "exact" in checks:
        rows += check_exact(model, loss, seed, points, effort)
    if "differences" in checks:
        rows += check_differences(graph, loss, seed)
    if "dot_product" in checks:
        rows += check_dot_product(model, loss, seed)
    verification = Verification(tuple(rows))
    if not verification.passed:
        raise FailedVerificationError(verification)
    return verification


def _check_number(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise OptionError(name, repr(value), f"an int >= {least}", f"give {name} as a whole number")
