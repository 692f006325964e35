"""The Jacobians of the outputs by the parameters, by RTRL, as a program of their own."""

from __future__ import annotations

import dataclasses

from codegen.program import Program
from rnngraph.display import as_text
from rnngraph.effective import as_parameters
from rnngraph.lower import lower
from rnngraph.program import Compilation
from rnngraph.schedule import build_schedule
from rnngraph.sensitivity import output_sensitivities


def jacobian_program(compilation: Compilation) -> Program:
    """The program of the Jacobians of the outputs by the parameters, by RTRL (its function is "jacobian").

    Its columns beyond those of the parameters belong to effective weights: ``jacobian_weights`` takes them back to the
    parameters. Raises UnsupportedError for a network that looks ahead.
    """
    own = compilation.forward
    system = output_sensitivities(as_parameters(own))
    system = dataclasses.replace(system, parameters=own.parameters, weights=own.weights)
    forward = compilation.program.functions[0]
    function = lower(build_schedule(system), compilation.layout, "jacobian")
    title = compilation.program.title.partition(". ")[0]
    return dataclasses.replace(
        compilation.program,
        functions=(forward, function),
        title=f"{title}. Jacobians of the outputs by the parameters (rtrl).",
        header=tuple(as_text(system).splitlines()),
        losses={},
        checkpoint=None,
    )
