"""Checks of a derived gradient: exact, by central differences, and by the dot-product identity."""

from rnngraph.verify.report import FailedVerificationError, Verification, VerificationRow
from rnngraph.verify.run import CHECKS, verify

__all__ = ["CHECKS", "FailedVerificationError", "Verification", "VerificationRow", "verify"]
