"""Learning rules that go forward in time: sensitivities of the states by the parameters, from Jacobians of one step."""

from rnngraph.sensitivity.carry import with_blocks
from rnngraph.sensitivity.derive import output_sensitivities, with_sensitivities
from rnngraph.sensitivity.uoro import with_random_sensitivity

__all__ = ["output_sensitivities", "with_blocks", "with_random_sensitivity", "with_sensitivities"]
