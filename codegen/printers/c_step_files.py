"""The files of a step in portable C99: header, source, and a main that compares it with recorded steps."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from codegen.names import Namer
from codegen.printers.c_literals import array_lines, block_comment, number_text, wrapped
from codegen.printers.c_step import StepText

Array = NDArray[np.float64]

HEADER = """\
/* {title}

   One time step in portable C99. It allocates nothing and needs nothing of C's library but math.h:

       cc -std=c99 -O2 -c {name}.c

   Call {name}_reset once, then {name}_step for each sample.
   What belongs to a sequence lies in a {name}_state: several may run side by side.
   The arrays that a step is given and fills must not overlap.

   Memory: {state_bytes} bytes for each {name}_state, {constant_bytes} bytes of constants.

{equations}
*/
#ifndef {guard}
#define {guard}

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

{sizes}

typedef struct {{
{members}
}} {name}_state;

/* Begin anew, before t = 1. */
void {name}_reset({name}_state *state);

/* One step: {given} given, {returned} returned. */
{signature};

#ifdef __cplusplus
}}
#endif

#endif
"""

SOURCE = """\
/* {title} What it computes and how it is used stands in the header. */

#include "{name}.h"

#include <math.h>

typedef {real} real;

{parts}void {name}_reset({name}_state *state)
{{
{reset}
}}

{signature}
{{
{step}
}}
"""

TEST = """\
/* Compares {name}_step with {steps} recorded steps, twice, each time after a reset:

       cc -std=c99 -O2 {name}.c {name}_test.c -lm && ./a.out

   It returns 0 where all is as recorded. On a device without printf, leave the line with it out. */

#include <stdio.h>

#include "{name}.h"

#define STEPS {steps}L
#define TOLERANCE {tolerance}

{recorded}
static {name}_state state;

/* The largest difference so far; NaN once there was one. */
static double larger(double largest, const {real} *found, const {real} *expected, long size)
{{
    for (long k = 0; k < size; ++k) {{
        double difference = (double)found[k] - (double)expected[k];
        if (difference < 0) {{
            difference = -difference;
        }}
        if (difference > largest || difference != difference) {{
            largest = difference;
        }}
    }}
    return largest;
}}

int main(void)
{{
    double largest = 0;
    for (int run = 0; run < 2; ++run) {{
        {name}_reset(&state);
        for (long t = 0; t < STEPS; ++t) {{
{declared}
            {name}_step({arguments});
{compared}
        }}
    }}
    printf("largest error of %ld steps: %g, tolerance %g\\n", STEPS, largest, TOLERANCE);
    return largest <= TOLERANCE ? 0 : 1;
}}
"""


def step_files(
    text: StepText, title: str, equations: Sequence[str], given: Mapping[str, Array], returned: Mapping[str, Array]
) -> dict[str, str]:
    """The three files by name. ``given`` and ``returned``: recorded steps, (T, size) by node."""
    name = text.name
    macros = Namer(set())
    sizes = {
        node: macros.name(node, f"{name}_{argument}_size".upper())
        for node, (argument, _) in {**text.given, **text.returned}.items()
    }
    parameters = [f"{name}_state *state"]
    parameters += [f"const {text.real} {word}[{sizes[node]}]" for node, (word, _) in text.given.items()]
    parameters += [f"{text.real} {word}[{sizes[node]}]" for node, (word, _) in text.returned.items()]
    about = {"title": block_comment(title), "name": name, "real": text.real, "signature": _signature(name, parameters)}
    return {
        f"{name}.h": _header(text, about, equations, sizes),
        f"{name}.c": _source(text, about),
        f"{name}_test.c": _test(text, about, sizes, given, returned),
    }


def _header(text: StepText, about: Mapping[str, str], equations: Sequence[str], sizes: Mapping[str, str]) -> str:
    nodes = {**text.given, **text.returned}
    width = max(len(f"{sizes[node]} {size}") for node, (_, size) in nodes.items())
    lines = [part for line in equations for part in _equation_lines(block_comment(line))]
    item = 4 if text.real == "float" else 8
    declarations = [f"{member.declaration};" for member in text.members]
    pad = min(max(map(len, declarations)), 40)
    return HEADER.format(
        **about,
        state_bytes=text.state_bytes,
        constant_bytes=item * sum(constant.values.size for constant in text.constants),
        equations="\n".join(lines),
        guard=f"{text.name.upper()}_H",
        sizes="\n".join(
            f"#define {f'{sizes[node]} {size}':{width}}  /* units of {block_comment(node)} */"
            for node, (_, size) in nodes.items()
        ),
        members="\n".join(
            f"    {declaration:{pad}}  /* {block_comment(member.holds)} */"
            for declaration, member in zip(declarations, text.members, strict=True)
        ),
        given=_listed(text.given),
        returned=_listed(text.returned),
    )


def _source(text: StepText, about: Mapping[str, str]) -> str:
    dtype = "float32" if text.real == "float" else "float64"
    parts = []
    for constant in text.constants:
        values = constant.values
        shape = f"{values.shape[0]} x {values.shape[1]}" if len(values) > 1 else str(values.size)
        lines = [f"/* {block_comment(constant.holds)}: {shape} */"]
        lines += array_lines(f"static const real {constant.name}[{values.size}]", values, dtype)
        parts.append("\n".join(lines) + "\n")
    return SOURCE.format(
        **about,
        parts="".join(f"{part}\n" for part in (*parts, *text.helpers)),
        reset=_indented(text.reset),
        step=_indented(text.step),
    )


def _test(
    text: StepText,
    about: Mapping[str, str],
    sizes: Mapping[str, str],
    given: Mapping[str, Array],
    returned: Mapping[str, Array],
) -> str:
    dtype = "float32" if text.real == "float" else "float64"
    recorded = []
    for prefix, nodes, arrays in (("input", text.given, given), ("expected", text.returned, returned)):
        for node, (word, _) in nodes.items():
            declaration = f"static const {text.real} {prefix}_{word}[STEPS * {sizes[node]}]"
            recorded.append("\n".join(array_lines(declaration, arrays[node], dtype)) + "\n")
    largest = max(float(np.abs(array).max()) for array in returned.values())
    tolerance = (1e-5 if dtype == "float32" else 1e-12) * max(1.0, largest)
    arguments = [f"input_{word} + t * {sizes[node]}" for node, (word, _) in text.given.items()]
    arguments += [f"found_{word}" for word, _ in text.returned.values()]
    return TEST.format(
        **about,
        steps=len(next(iter(given.values()))),
        tolerance=number_text(float(f"{tolerance:.1e}"), "float64"),
        recorded="\n".join(recorded),
        declared="\n".join(
            f"            static {text.real} found_{word}[{sizes[node]}];" for node, (word, _) in text.returned.items()
        ),
        arguments=", ".join(["&state", *arguments]),
        compared="\n".join(
            f"            largest = larger(largest, found_{word}, expected_{word} + t * {sizes[node]}, {sizes[node]});"
            for node, (word, _) in text.returned.items()
        ),
    )


def _signature(name: str, parameters: Sequence[str]) -> str:
    line = f"void {name}_step({', '.join(parameters)})"
    if len(line) <= 110:
        return line
    return f"void {name}_step(\n" + ",\n".join(f"    {parameter}" for parameter in parameters) + ")"


def _equation_lines(line: str) -> list[str]:
    """A line of the header's comment, continued under its text where it is long."""
    return wrapped(f"   {line}", " " * (len(line) - len(line.lstrip()) + 7)) or [""]


def _listed(nodes: Mapping[str, tuple[str, int]]) -> str:
    """The arguments as a list in words."""
    words = [word for word, _ in nodes.values()]
    return textwrap.shorten(", ".join(words), 60, placeholder=" ...") + (" is" if len(words) == 1 else " are")


def _indented(lines: Sequence[str]) -> str:
    return "\n".join(f"    {line}".rstrip() for line in lines).strip("\n")
