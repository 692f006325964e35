"""rnngraph: a graph with loops and delays becomes equations that a person can check and code that runs fast.

import rnngraph as rg

system = rg.derive(graph)            # forward equations
grad = rg.gradient(graph)            # derived gradient: print(grad), grad.latex()
kernel = rg.compile(graph)           # standalone NumPy or CuPy source, loaded
history = rg.fit(kernel, params, data)
"""

from __future__ import annotations

from typing import Any

from rnngraph import zoo
from rnngraph.compare import compare
from rnngraph.comparison import Comparison, RuleComparison
from rnngraph.compile import compile
from rnngraph.cost import Cost
from rnngraph.derive import derive
from rnngraph.errors import (
    BackendError,
    CycleError,
    DataError,
    EquationError,
    GraphError,
    OptionError,
    RNNGraphError,
    TrainingError,
    UnsupportedError,
    VerificationError,
)
from rnngraph.files import load_graph, load_table, save_graph
from rnngraph.flow import GradientFlow, GradientPaths, gradient_flow, gradient_paths, plot_gradient_flow
from rnngraph.gradient import gradient
from rnngraph.harden import Hardened, harden, set_temperature
from rnngraph.jvp import jvp
from rnngraph.kernel import Kernel
from rnngraph.listing import as_text_drawing
from rnngraph.model import Model
from rnngraph.system import System
from rnngraph.train import EKF, LBFGS, SGD, Adam, History, LevenbergMarquardt, Momentum, fit
from rnngraph.validate import validate
from rnngraph.verify import Verification, verify
from rnngraph.vjp import vjp

__version__ = "0.1.0"

__all__ = [
    "EKF",
    "LBFGS",
    "SGD",
    "Adam",
    "BackendError",
    "Comparison",
    "Cost",
    "CycleError",
    "DataError",
    "EquationError",
    "GradientFlow",
    "GradientPaths",
    "GraphError",
    "Hardened",
    "History",
    "Kernel",
    "LevenbergMarquardt",
    "Model",
    "Momentum",
    "OptionError",
    "RNNGraphError",
    "RuleComparison",
    "System",
    "TrainingError",
    "UnsupportedError",
    "Verification",
    "VerificationError",
    "__version__",
    "as_text_drawing",
    "compare",
    "compile",
    "derive",
    "draw",
    "fit",
    "gradient",
    "gradient_flow",
    "gradient_paths",
    "harden",
    "jvp",
    "load_graph",
    "load_table",
    "plot_gradient_flow",
    "save_graph",
    "set_temperature",
    "validate",
    "verify",
    "vjp",
    "zoo",
]


def __getattr__(name: str) -> Any:
    # The picture needs matplotlib, an extra that takes longer to import than everything else here.
    if name == "draw":
        from rnngraph.drawing import draw

        return draw
    raise AttributeError(f"module 'rnngraph' has no attribute {name!r}")
