"""The Jacobians of the outputs by the parameters, by RTRL, as a program of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from codegen.program import Program
from rnngraph.display import as_text
from rnngraph.effective import as_parameters, pull_back
from rnngraph.lower import lower
from rnngraph.program import Compilation
from rnngraph.schedule import build_schedule
from rnngraph.sensitivity import output_sensitivities
from rnngraph.weight_jacobian import WeightJacobian

Array = NDArray[Any]


def jacobian_program(compilation: Compilation) -> Program:
    """The program of the Jacobians of the outputs by the parameters, by RTRL (its function is "jacobian").

    Its Jacobians are by the parameters and by effective weights, one after the other, as the gradient vector is laid
    out. Raises UnsupportedError for a network that looks ahead.
    """
    forward_system = compilation.forward
    system = pull_back(output_sensitivities(as_parameters(forward_system)), forward_system)
    forward = compilation.program.functions[0]
    function = lower(build_schedule(system), compilation.layout, "jacobian")
    title = compilation.program.title.partition(". ")[0]
    return dataclasses.replace(
        compilation.program,
        functions=(forward, function),
        title=f"{title}. Jacobians of the outputs by the parameters (rtrl).",
        header=tuple(as_text(system).splitlines()),
        losses={},
    )


def by_parameters(
    compilation: Compilation, params: Mapping[str, Any], jacobians: Mapping[str, Array]
) -> dict[str, Array]:
    """The Jacobians that the program gives, (..., parameters and effective weights) by output, by the parameters."""
    system = compilation.forward
    if not system.weights:
        return dict(jacobians)
    chain = WeightJacobian(system, compilation.layout, {name: params[name] for name in system.parameters})
    return {name: chain.pull_back(jacobian) for name, jacobian in jacobians.items()}
