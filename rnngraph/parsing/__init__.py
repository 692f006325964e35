"""Reading pointwise equations, from text or from sympy, without ever executing them."""

from rnngraph.parsing.equation import parse_equation, written_names

__all__ = ["parse_equation", "written_names"]
