"""Every error a user can meet, as one family: each names the place, what was found, what was expected and the
remedy."""

from __future__ import annotations


class RNNGraphError(Exception):
    """Base of all errors of rnngraph.

    ``where`` names the node, edge, parameter or argument; ``found`` says what is there; ``expected`` what should be
    there;
    ``remedy`` what to do. The message is one line built from the four, so that a command line can print it as it is.
    """

    def __init__(self, where: str, found: str, expected: str, remedy: str) -> None:
        self.where = where
        self.found = found
        self.expected = expected
        self.remedy = remedy
        super().__init__(f"{where}: found {found}; expected {expected}; remedy: {remedy}")

    def __reduce__(self) -> tuple[type[RNNGraphError], tuple[object, ...]]:
        """An error can cross to another process."""
        return type(self), (self.where, self.found, self.expected, self.remedy)


class GraphError(RNNGraphError):
    """The graph breaks the contract (attributes, sizes, delays, cycles, names)."""


class EquationError(GraphError):
    """A node's equation cannot be read or does not match the ports that feed the node."""


class CycleError(GraphError):
    """A cycle whose delays sum to zero, or a loop that mixes cycles of positive and negative sums: no order of
    evaluation exists."""


class UnsupportedError(RNNGraphError):
    """A part of the contract that this version does not implement yet, or a combination that has no meaning."""


class DataError(RNNGraphError):
    """An array given to a kernel has the wrong name, shape, dtype or values."""


class OptionError(RNNGraphError):
    """An option of compile, fit, verify or the command line is unknown or out of range."""


class VerificationError(RNNGraphError):
    """A derived gradient disagrees with its independent check."""


class BackendError(RNNGraphError):
    """A backend cannot be loaded on this machine."""


class TrainingError(RNNGraphError):
    """Training cannot go on (a loss or gradient that is not finite)."""
