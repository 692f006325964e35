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
from rnngraph.convolution import ConvolutionLayer, as_convolution, from_convolution
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
from rnngraph.feedback import add_delay, close_loop, mix_feedback, open_loop, predict_ahead, remove_delay
from rnngraph.files import load_graph, load_state, load_table, save_graph, save_state
from rnngraph.flow import GradientFlow, GradientPaths, gradient_flow, gradient_paths, plot_gradient_flow
from rnngraph.gradient import gradient
from rnngraph.harden import Hardened, harden, set_temperature
from rnngraph.jvp import jvp
from rnngraph.kernel import Kernel
from rnngraph.kernel_stream import Stream
from rnngraph.listing import as_text_drawing
from rnngraph.model import Model
from rnngraph.series import Prepared, Scaling, buckets, pad, prepare, split, windows
from rnngraph.system import System
from rnngraph.train import (
    EKF,
    LBFGS,
    SGD,
    Adam,
    ForcingSchedule,
    History,
    LevenbergMarquardt,
    Momentum,
    fit,
    forcing_every,
)
from rnngraph.transform.delays import expand_delays, merge_delays
from rnngraph.transform.merge_layers import merge_layers
from rnngraph.transform.parameters import explicit_parameters
from rnngraph.transform.split_layers import split_layer
from rnngraph.transform.transpose import transpose
from rnngraph.transform.unfold import unfold
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
    "ConvolutionLayer",
    "Cost",
    "CycleError",
    "DataError",
    "EquationError",
    "ForcingSchedule",
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
    "Prepared",
    "RNNGraphError",
    "RuleComparison",
    "Scaling",
    "Stream",
    "System",
    "TrainingError",
    "UnsupportedError",
    "Verification",
    "VerificationError",
    "__version__",
    "add_delay",
    "as_convolution",
    "as_text_drawing",
    "buckets",
    "close_loop",
    "compare",
    "compile",
    "derive",
    "draw",
    "expand_delays",
    "explicit_parameters",
    "fit",
    "forcing_every",
    "from_convolution",
    "gradient",
    "gradient_flow",
    "gradient_paths",
    "harden",
    "jvp",
    "load_graph",
    "load_state",
    "load_table",
    "merge_delays",
    "merge_layers",
    "mix_feedback",
    "open_loop",
    "pad",
    "plot_gradient_flow",
    "predict_ahead",
    "prepare",
    "remove_delay",
    "save_graph",
    "save_state",
    "set_temperature",
    "split",
    "split_layer",
    "transpose",
    "unfold",
    "validate",
    "verify",
    "vjp",
    "windows",
    "zoo",
]


def __getattr__(name: str) -> Any:
    # The picture needs matplotlib, an extra that takes longer to import than everything else here.
    if name == "draw":
        from rnngraph.drawing import draw

        return draw
    raise AttributeError(f"module 'rnngraph' has no attribute {name!r}")
