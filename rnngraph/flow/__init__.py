"""How gradients flow through time: paths with their Jacobian products, and the norms of the state's Jacobians on data.

``gradient_paths`` writes dv(t)/du(t-k) as a sum over the paths from u(t-k) to v(t); ``gradient_flow`` measures its norm
along a sequence (Hochreiter 1991; Bengio, Simard and Frasconi 1994; Pascanu, Mikolov and Bengio 2013).
"""

from __future__ import annotations

from rnngraph.flow.curves import Curve
from rnngraph.flow.measure import GradientFlow, gradient_flow, plot_gradient_flow
from rnngraph.flow.written import GradientPaths, gradient_paths

__all__ = ["Curve", "GradientFlow", "GradientPaths", "gradient_flow", "gradient_paths", "plot_gradient_flow"]
