"""What a verification found: one row per check and quantity, and the error that carries them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rnngraph.errors import VerificationError


@dataclass(frozen=True)
class VerificationRow:
    """One comparison. ``check`` is "exact", "differences" or "dot_product".

    ``quantity`` is the loss or a derivative such as "dL/dW"; ``error`` the largest deviation found, in the sense of the
    check (0 exactly for "exact"); ``passed`` whether it is within ``tolerance``; ``detail`` says what was compared.
    """

    check: str
    quantity: str
    error: float | int
    tolerance: float
    passed: bool
    detail: str = ""


def row(check: str, quantity: str, error: float | int, tolerance: float, detail: str) -> VerificationRow:
    """A row, passed if the error is within the tolerance (NaN is not)."""
    return VerificationRow(check, quantity, error, tolerance, bool(error <= tolerance), detail)


@dataclass(frozen=True)
class Verification:
    """The rows of ``verify``; printing it gives a plain-text table."""

    rows: tuple[VerificationRow, ...]

    @property
    def passed(self) -> bool:
        """Whether every row passed."""
        return all(found.passed for found in self.rows)

    def __str__(self) -> str:
        header = ("check", "quantity", "error", "tolerance", "passed", "compared")
        lines = [
            (
                found.check,
                found.quantity,
                f"{found.error:.3g}",
                f"{found.tolerance:.3g}",
                "yes" if found.passed else "NO",
                found.detail,
            )
            for found in self.rows
        ]
        return "\n".join(_aligned([header, *lines]))


def _aligned(lines: list[tuple[str, ...]]) -> Iterable[str]:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for k, line in enumerate(lines):
        yield "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        if k == 0:
            yield "  ".join("-" * width for width in widths)


class FailedVerificationError(VerificationError):
    """A VerificationError with the whole table in ``verification``."""

    def __init__(self, verification: Verification) -> None:
        failed = [found for found in verification.rows if not found.passed]
        first = failed[0]
        others = f" ({len(failed) - 1} more failed)" if len(failed) > 1 else ""
        super().__init__(
            f"{first.quantity} by check {first.check!r}",
            f"an error of {first.error:.3g}{others}; {first.detail}",
            f"at most {first.tolerance:.3g}",
            "print the error's .verification for all rows; if every equation is defined and differentiable at random "
            "values, this is a bug of rnngraph: please report it with the graph",
        )
        self.verification = verification
