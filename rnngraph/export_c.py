"""A network with its parameters as C for a device: a step function in constant memory, and a test of it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codegen.printers.c_step import StepText, print_step
from codegen.printers.c_step_files import step_files
from codegen.program import Program
from rnngraph.backends import PRINTERS, load_module
from rnngraph.data import check_inputs, check_parameters, check_state
from rnngraph.derive import derive_model
from rnngraph.display import as_text, inline
from rnngraph.errors import DataError, OptionError
from rnngraph.files import as_path, check_writable, write_atomic
from rnngraph.kernel_stream import check_streams
from rnngraph.lower import ParameterLayout, lay_out_parameters, lower_step
from rnngraph.program import Compilation, equation_notes
from rnngraph.schedule import build_schedule
from rnngraph.system import System
from rnngraph.words import clip

Array = NDArray[Any]
LONGEST_NAME = 25  # C compares 31 characters of a name, and _reset is 6 of them
# Headers of C: a file of such a name would stand before it where its folder is searched for headers.
HEADERS = {
    "assert", "complex", "ctype", "errno", "fenv", "float", "inttypes", "iso646", "limits", "locale", "math", "setjmp",
    "signal", "stdalign", "stdarg", "stdatomic", "stdbit", "stdbool", "stddef", "stdint", "stdio", "stdlib",
    "stdnoreturn", "string", "tgmath", "threads", "time", "uchar", "wchar", "wctype",
}  # fmt: skip
MORE_STEPS = 20  # recorded beyond the longest delay


def export_c(
    compilation: Compilation,
    module: Any,
    directory: str | os.PathLike[str],
    params: Mapping[str, Any] | None,
    name: str,
    state: Mapping[str, Any] | None,
    inputs: Mapping[str, Any] | None,
) -> tuple[Path, Path, Path]:
    """Write the files; see ``Kernel.save_c``. ``module`` is the emitted NumPy module, or None where it is not at
    hand: its stream makes the recorded steps."""
    program = compilation.program
    forward, layout = _node_by_node(compilation)
    check_streams(forward)
    _check_name(name)
    if params is None:
        remedy = "pass trained parameters, or those of kernel.init()"
        raise OptionError("params", "None", "the parameters, which become constants", remedy)
    module = module or load_module(PRINTERS["numpy"](program), "numpy")
    shapes = {parameter.name: parameter.shape for parameter in program.parameters}
    checked = check_parameters(_on_host(params), shapes, program.dtype)
    packed = module.pack(checked)
    depths = {node: depth for node, (depth, _, _) in program.states.items()}
    sizes = {node: size for node, (_, size, _) in program.states.items()}
    given_state = check_state(None if state is None else _on_host(state), depths, sizes, 1, program.dtype)
    recorded = _checked_inputs(inputs, program)
    outputs = _outputs(module.Stream(packed, 1, given_state), recorded, program.outputs)

    start = {**module.initial_state(1, packed), **given_state}
    before = {node: array[:, 0].astype(np.float64) for node, array in start.items()}
    shown = inline(forward)
    function = lower_step(forward, layout, equation_notes(forward, shown))
    vector = np.zeros(layout.size)
    for place in layout.named():
        vector[place.places()] = np.asarray(checked[place.name]).reshape(-1)
    text = print_step(function, name, program.dtype, vector, before)
    _check_finite(text, program.dtype)
    steps = {node: array[:, 0] for node, array in recorded.items()}
    equations = as_text(forward, shown).splitlines()
    files = step_files(text, f"{program.title.partition('. ')[0]}.", equations, steps, outputs)
    folder = _folder(directory)
    for file in files:
        check_writable(folder / file)  # all three, before one is written
    for file, content in files.items():
        write_atomic(folder / file, content)
    header, source, test = (folder / file for file in files)
    return header, source, test


def _node_by_node(compilation: Compilation) -> tuple[System, ParameterLayout]:
    """The forward equations, where units that run as layers are nodes again."""
    if not compilation.grouping.layers:
        return compilation.forward, compilation.layout
    forward = derive_model(compilation.grouping.given)
    return forward, lay_out_parameters(forward, build_schedule(forward))


def _on_host(arrays: Any) -> Any:
    """Arrays of a device as NumPy's."""
    if not isinstance(arrays, Mapping):
        return arrays  # refused later
    return {
        name: array.get() if hasattr(array, "__cuda_array_interface__") else array for name, array in arrays.items()
    }


def _check_name(name: object) -> None:
    """Raise OptionError unless names of files, and names in C, may begin with ``name``."""
    if not isinstance(name, str) or not re.fullmatch(rf"[A-Za-z][A-Za-z0-9_]{{0,{LONGEST_NAME - 1}}}", name):
        expected = f"at most {LONGEST_NAME} ASCII letters, digits and underscores, a letter first"
        raise OptionError("name", clip(name), expected, "names in C begin with it: give it as 'pump' or 'lstm_1'")
    if name.lower() in HEADERS:
        remedy = f"choose another, such as '{name}_net'"
        raise OptionError("name", clip(name), "a name that is no header of C's library", remedy)
    if name.lower().endswith("_test"):
        remedy = f"choose another, such as {name[:-5]!r}"
        raise OptionError("name", clip(name), "a name that does not end as the test's file does", remedy)


def _checked_inputs(inputs: Mapping[str, Any] | None, program: Program) -> dict[str, Array]:
    """The inputs (T, 1, size) that are recorded: random ones, beyond every delay, unless they are given."""
    if inputs is not None:
        checked, _, batch = check_inputs(_on_host(inputs), program.inputs, program.dtype)
        if batch != 1:
            raise DataError("inputs", f"batch {batch}", "batch 1, as a device has", "give one sequence, (T, 1, size)")
        return checked
    steps = MORE_STEPS + max((depth for depth, _, _ in program.states.values()), default=0)
    rng = np.random.default_rng(0)
    return {node: rng.normal(size=(steps, 1, size)).astype(program.dtype) for node, size in program.inputs.items()}


def _outputs(stream: Any, given: Mapping[str, Array], sizes: Mapping[str, int]) -> dict[str, Array]:
    """What a stream returns for the given steps: (T, size) by output."""
    steps = len(next(iter(given.values())))
    outputs = {name: np.zeros((steps, size)) for name, size in sizes.items()}
    for t in range(steps):
        for name, value in stream.step({node: array[t] for node, array in given.items()}).items():
            outputs[name][t] = value[0]
    for name, array in outputs.items():
        if not np.isfinite(array).all():
            t = int(np.argmin(np.isfinite(array).all(axis=1)))
            raise DataError(
                f"output {name!r}", f"a value that is not finite at t = {t + 1} of the recorded steps",
                "finite outputs, to compare with", "give inputs= as the network is made for, (T, 1, size)",
            )  # fmt: skip
    return outputs


def _check_finite(text: StepText, dtype: str) -> None:
    """Weights that are computed from parameters may be too large for the dtype."""
    for constant in text.constants:
        with np.errstate(over="ignore"):
            if not np.isfinite(constant.values.astype(dtype)).all():
                remedy = "look at the parameters that it is computed from"
                raise DataError(f"weight {constant.holds!r}", "a value that is not finite", f"finite {dtype}", remedy)


def _folder(directory: str | os.PathLike[str]) -> Path:
    folder = as_path(directory, "folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"folder {str(folder)!r}", f"{error.strerror or error}", "a folder that can be written to",
            "choose another path",
        ) from error  # fmt: skip
    return folder
