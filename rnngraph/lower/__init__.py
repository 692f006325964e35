"""Schedule -> ir.Function: where every signal lies in memory, and the statements that compute it."""

from rnngraph.lower.function import lower
from rnngraph.lower.layout import ParameterLayout, lay_out_parameters, parameter_roles
from rnngraph.lower.step import lower_step

__all__ = ["ParameterLayout", "lay_out_parameters", "lower", "lower_step", "parameter_roles"]
