"""The legend under the equations: sizes, shapes, values outside of 1..T, and what the signs mean."""

from __future__ import annotations

from collections.abc import Iterable

from rnngraph.display.inline import SystemLike
from rnngraph.display.writer import Writer
from rnngraph.equations import BoundarySum

MATRIX_PARAMETERS = 2


def legend(system: SystemLike, writer: Writer) -> list[str]:
    """One line for each thing to know, in the notation of ``writer``."""
    math, signs = writer.math, writer.signs
    signals = system.signals.values()
    lines = [
        f"{math(signs.steps)}; a sum over {math('t')} is over the sequences of the batch, too;"
        f" {math(signs.elementwise)} multiplies unit by unit"
    ]
    for kind in ("input", "unit"):
        named = [f"{math(writer.name(each.name) + '(t)')} {each.size}" for each in signals if each.kind == kind]
        if named:
            lines.append(f"units of each {'input' if kind == 'input' else 'layer'}: {', '.join(named)}")
    lines.append(f"outputs: {', '.join(math(writer.name(name)) for name in system.outputs)}")
    parameters = dict(system.parameters)
    constants = {name: value.shape for name, value in system.constants.items()}
    for what, shapes in (("parameters", parameters), ("constants", constants)):
        if shapes:
            written = [f"{math(writer.name(name))} {_shape(shape, writer)}" for name, shape in shapes.items()]
            lines.append(f"{what}: {', '.join(written)}")
    if any(len(shape) == MATRIX_PARAMETERS for shape in system.parameters.values()):
        lines.append(
            f"{math(writer.transpose('W'))} is the transpose of {math('W')};"
            f" the shape of {math('W')} is (units of the source, units of the destination)"
        )
    lines += _outside(system, writer)
    for signal in signals:
        named_signal = math(f"{writer.name(signal.name)}(t)")
        if signal.kind == "target" and system.losses.get(signal.origin or "") == "cross_entropy":
            lines.append(f"{named_signal} is one-hot: 1 at the unit of the class given for step {math('t')}, else 0")
        if signal.kind == "weight":
            lines.append(
                f"{named_signal}: weight of step {math('t')} of a sequence, {math(signs.share)};"
                " weights that are given are divided by their sum"
            )
    lines += _windows(system, writer)
    if system.windows is None and any(signal.kind == "adjoint" for signal in signals):
        delta = f"{writer.name('delta_v')}(t) = {writer.derivative('v')}(t)"
        prime = math("f'")
        lines.append(
            f"{math(delta)}, 0 for {math('t > T')} as each product with it; {prime} is the derivative of {math('f')}"
        )
    if any(signal.kind == "tangent" for signal in signals):
        lines.append(
            f"{math(writer.tangent('v'))} is the tangent of {math('v')}: its derivative along the direction"
            f" {math(writer.tangent('W'))} of each parameter {math('W')}"
        )
    if any(isinstance(part, BoundarySum) for total in system.totals for part in total.contributions):
        if system.windows is not None:
            lines.append("an initial value has a gradient from the windows that begin at the first step alone")
        lines.append(f"at {math(signs.before)} a delta holds what reaches back from {math(signs.steps)} alone")
    return lines


def _windows(system: SystemLike, writer: Writer) -> list[str]:
    """What truncated backpropagation cuts and sums."""
    if system.windows is None:
        return []
    math, (k1, k2) = writer.math, system.windows
    earlier = math(writer.signs.before.replace("0", f"n - {k1}"))
    delta, prime = f"{writer.name('delta_v')}(t)", math("f'")
    return [
        f"the gradient is truncated: every {k1} steps, at {math(f'n = {k1}, {2 * k1}')} and so on (the last time at or"
        f" after {math('T')}), the losses of the steps {math(f'n - {k1} < t')} up to {math('n')} go back over a window,"
        f" the steps {math(f'n - {k2} < t')} up to {math('n')} within {math(writer.signs.steps)}",
        "backward and gradient equations hold in each window by itself; there a sum over"
        f" {math('t')} is over the window, and a step weight is 0 for {earlier}",
        "what lies before a window is a constant; each gradient is the sum of those of all windows",
        f"{math(delta)} is the derivative of the window's losses by {math('v(t)')}, 0 after the window as each product"
        f" with it; {prime} is the derivative of {math('f')}",
    ]


def _outside(system: SystemLike, writer: Writer) -> list[str]:
    """What the signals that are read across time are outside 1..T."""
    past: set[str] = set()
    future: set[str] = set()
    for equation in system.equations:
        for read in equation.reads():
            if read.delay and system.signals[read.signal].kind in ("input", "unit"):
                (past if read.delay > 0 else future).add(read.signal)
    by_value: dict[tuple[str, str], list[str]] = {}
    for signal in system.signals.values():
        initial = writer.name(signal.initial) if isinstance(signal.initial, str) else f"{signal.initial:g}"
        for names, when in ((past, writer.signs.before), (future, "t > T")):
            if signal.name in names:
                by_value.setdefault((initial, when), []).append(f"{writer.name(signal.name)}(t)")
    return [
        f"{writer.math(' = '.join([*names, value]))} for {writer.math(when)}, unless a state is given"
        for (value, when), names in by_value.items()
    ]


def _shape(shape: Iterable[int], writer: Writer) -> str:
    """(3, 16) as 3x16."""
    lengths = [str(length) for length in shape]
    return writer.math(writer.signs.by.join(lengths)) if lengths else "number"
