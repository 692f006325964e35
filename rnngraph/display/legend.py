"""The legend under the equations: sizes, shapes, values outside of 1..T, and what the signs mean."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from codegen.pattern import Pattern
from rnngraph.display.carried import block_lines
from rnngraph.display.indexed import MATRIX
from rnngraph.display.inline import goes_forward, rule_name
from rnngraph.display.writer import Writer
from rnngraph.equations import BoundarySum
from rnngraph.rules import RULES
from rnngraph.system_like import SystemLike

MATRIX_PARAMETERS = 2
MOST_UNITS = 8  # of a layer that are named
LEFT_OUT = {
    "snap": "entries of a sensitivity that become non-zero only after as many steps as the order are left out, and what"
    " passes through them; so is what goes from a sensitivity with all entries into one that keeps only some",
    "uoro": "the sensitivity of v[k] by W[i,j] stands as S_v[k](t) * theta_W[i,j](t), right on average alone: nu are"
    " random signs, a_S is S after one step of the network, g the direct effect of the parameters with the signs, rho"
    " the ratios of norms that keep the two vectors of one size, and S_error the step's error along S",
    "tbptt": "an error goes back through a limited number of steps",
}  # by the approximate rules that do not list the paths they drop


def heading(system: SystemLike) -> str:
    """The first line: the learning rule and whether it is exact; empty for bptt."""
    name = rule_name(system)
    if name == "bptt":
        return ""
    info = RULES[name]
    what = "Gradient" if any(total.kind == "gradient" for total in system.totals) else system.title.capitalize()
    if info.exact:
        return f"{what} by {system.rule}, {info.source}"
    return f"Approximate {what[:1].lower()}{what[1:]} by {system.rule}, {info.source}"


def legend(system: SystemLike, writer: Writer, shown: Collection[str]) -> list[str]:
    """One line for each thing to know, in the notation of ``writer``; ``shown`` are the names on left-hand sides."""
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
    lines += _units(system, writer)
    lines.append(f"outputs: {', '.join(math(writer.name(name)) for name in system.outputs)}")
    parameters = dict(system.parameters)
    constants = {name: value.shape for name, value in system.constants.items()}
    for what, shapes in (("parameters", parameters), ("constants", constants)):
        if shapes:
            written = [f"{math(writer.name(name))} {_shape(shape, writer)}" for name, shape in shapes.items()]
            lines.append(f"{what}: {', '.join(written)}")
    lines += writer.weights.legend(writer)
    if any(len(shape) == MATRIX_PARAMETERS for shape in system.shapes.values()):
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
                + (f" ({math('T')} and the sum are here those of the whole sequence)" if system.carry else "")
            )
    lines += _windows(system, writer) + block_lines(system, writer)
    forward = goes_forward(system)
    if forward:
        lines += _one_step(system, writer, shown)
    elif system.windows is None and system.carry is None and any(signal.kind == "adjoint" for signal in signals):
        delta = f"{writer.name('delta_v')}(t)"
        prime = math("f'")
        times = [math(signs.before)] if system.ahead_depths else []
        times += [math(signs.after)] if system.state_depths or not times else []
        lines.append(
            f"{math(delta + ' = ' + writer.derivative('v') + '(t)')}: it, and each product with it, is 0 for"
            f" {' and for '.join(times)}; {prime} is the derivative of {math('f')}"
        )
    if any(signal.kind == "tangent" for signal in signals):
        lines.append(
            f"{math(writer.tangent('v'))} is the tangent of {math('v')}: its derivative along the direction"
            f" {math(writer.tangent('W'))} of each parameter {math('W')}"
        )
    sides = {part.ahead for total in system.totals for part in total.contributions if isinstance(part, BoundarySum)}
    if sides:
        if system.windows is not None:
            lines.append("an initial value has a gradient from the windows that begin at the first step alone")
        times = [math(signs.after if ahead else signs.before) for ahead in sorted(sides)]
        lines.append(f"at {' and '.join(times)} a delta holds what reaches back from {math(signs.steps)} alone")
    if not RULES[rule_name(system)].exact:
        lines.append(_left_out(system, writer))
    return lines


def _units(system: SystemLike, writer: Writer) -> list[str]:
    """Which units the layers are that were declared unit by unit, and what their sparse weights are."""
    lines = []
    for name, units in system.layers.items():
        shown = units if len(units) <= MOST_UNITS else (*units[: MOST_UNITS - 2], "...", units[-1])
        listed = ", ".join(unit if unit == "..." else writer.note(unit) for unit in shown)
        lines.append(f"the units of {writer.math(writer.name(name))}, declared one by one: {listed}")
    sparse: dict[str, Pattern] = {}
    for equation in system.equations:
        for term in equation.terms:
            if term.pattern is not None and term.parameter is not None:
                sparse.setdefault(term.parameter, term.pattern)
    for name, pattern in sparse.items():
        steps = pattern.steps
        delays = f"delays {steps[0]} to {steps[-1]}" if len(steps) > 1 else f"delay {steps[0]}"
        lines.append(
            f"{writer.math(writer.name(name))} is a sparse matrix of {len(pattern)} weights, each with a delay"
            f" {writer.math('d')} of its own ({delays}), which {writer.math('t-d')} and {writer.math('t+d')} stand for"
        )
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


def _one_step(system: SystemLike, writer: Writer, shown: Collection[str]) -> list[str]:
    """What the errors, Jacobians and sensitivities of a rule that goes forward in time are."""
    math = writer.math
    kinds = {signal.kind for signal in system.signals.values()}
    lines = []
    prime = math("f'")
    if "adjoint" in kinds:
        delta = f"{writer.name('delta_v')}(t)"
        lines.append(
            f"{math(delta)}: derivative of the term {math('t')} of {math('L')} by {math('v(t)')}, with the states of"
            f" earlier steps held fixed; {prime} is the derivative of {math('f')}"
        )
        before = [
            math(f"{writer.name(signal.name)}(t)")
            for signal in system.signals.values()
            if signal.kind == "adjoint" and "_before_" in signal.name
        ]
        if before:
            lines.append(f"{', '.join(before)}: the same by the state so many steps before {math('t')}")
    else:
        lines.append(f"{prime} is the derivative of {math('f')}")
    if not kinds & {"jacobian", "sensitivity"}:
        return lines
    lines.append(
        f"{math('v[k](t)')} is unit {math('k')} of {math('v(t)')}; an index that can only be 1 is left out;"
        f" {math(writer.sum_index('l', 'x[l]'))} is the sum over all {math('l')}"
    )
    jacobians = [signal for name, signal in system.signals.items() if signal.kind == "jacobian" and name in shown]
    full, vector = _capital("J", "v", "u", writer), _capital("j", "v", "u", writer)
    fixed = f"as one step reads {math('u')}, all other states held fixed"
    if any(signal.rows for signal in jacobians):
        lines.append(f"{math(full + '[l,k](t)')}: derivative of {math('v[k](t)')} by {math('u[l]')}, {fixed}")
    if any(not signal.rows for signal in jacobians):
        unit = math("k")
        lines.append(
            f"{math(vector + '[k](t)')}: derivative of {math('v[k](t)')} by {math('u[k]')} through what joins unit"
            f" {unit} with unit {unit} alone; other units are not reached that way"
        )
    return lines + _sensitivities(system, writer)


def _capital(letter: str, first: str, second: str, writer: Writer) -> str:
    return writer.name(f"{letter}_{first}_{second}")


def _sensitivities(system: SystemLike, writer: Writer) -> list[str]:
    math = writer.math
    kinds: dict[tuple[bool, bool], None] = {}
    starts: list[str] = []
    for name, signal in system.signals.items():
        if signal.kind == "sensitivity" and signal.of is not None:
            full = name in writer.full
            kinds[full, len(system.shapes[signal.of]) == MATRIX] = None
            if signal.starts_as_unit:
                unit = writer.chosen if full and signal.size > 1 else "1"
                index = "" if signal.size == 1 else "[j,k]" if full else "[k]"
                starts.append(math(f"{writer.name(name)}{index}(t) = {unit}"))
    meanings = {
        (True, True): ("P", "W", "[ij,k]", "W[i,j]", ""),
        (True, False): ("P", "b", "[j,k]", "b[j]", ""),
        (False, True): ("P", "W", "[i,k]", "W[i,k]", "only the weights into itself"),
        (False, False): ("P", "b", "[k]", "b[k]", "only its own entry"),
    }
    lines = []
    for key, (letter, name, entry, by, follows) in meanings.items():
        if key in kinds:
            sensitivity = math(f"{_capital(letter, 'v', name, writer)}{entry}(t)")
            line = f"{sensitivity}: derivative of {math('v[k](t)')} by {math(by)} through all steps up to {math('t')}"
            lines.append(line + (f", where unit {math('k')} follows {follows}" if follows else ""))
    if kinds:
        lines.append(
            f"all of these are 0 for {math(writer.signs.before)}" + (", but for those named next" if starts else "")
        )
    if starts:
        lines.append(f"{', '.join(starts)} for {math(writer.signs.before)}, 0 where a state is given")
    if any(full for full, _ in kinds):
        lines.append(f"{math(writer.chosen)} is 1 where {math('j = k')}, else 0")
    return lines


def _left_out(system: SystemLike, writer: Writer) -> str:
    name = rule_name(system)
    if name in LEFT_OUT:
        return f"approximate: {LEFT_OUT[name]}"
    if not system.dropped:
        return f"approximate by rule, but {system.rule} leaves out nothing in this network"
    paths = ", ".join(writer.note(path) for path in system.dropped)
    return f"approximate: what goes from an earlier step through a weight matrix is left out: {paths}"


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
        for names, when in ((past, writer.signs.before), (future, writer.signs.after)):
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
