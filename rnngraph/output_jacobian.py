"""The Jacobians of the outputs by the parameters, by RTRL, as a program of their own."""

from __future__ import annotations

import dataclasses

from codegen.ir import Program
from rnngraph.display import as_text
from rnngraph.errors import UnsupportedError
from rnngraph.lower import lower
from rnngraph.program import Compilation
from rnngraph.schedule import build_schedule
from rnngraph.sensitivity import output_sensitivities


def jacobian_program(compilation: Compilation) -> Program:
    """The program of the Jacobians of the outputs by the parameters, by RTRL (its function is "jacobian").

    Raises UnsupportedError for a network that looks ahead or has effective weights.
    """
    if compilation.forward.weights:
        name = compilation.forward.weights[-1].name
        raise UnsupportedError(
            "jacobian", f"the effective weight {name!r} (a mask, a learned delay or an expression of parameters)",
            "weights that are parameters themselves, for method='rtrl'", "use kernel.jacobian(..., method='bptt')",
        )  # fmt: skip
    system = output_sensitivities(compilation.forward)
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
