"""The text of BPTT with checkpoints in an emitted module: windows forward for their states, then windows backward."""

from __future__ import annotations

from codegen.printers.windows import BEGIN
from codegen.program import Program

LOOP = '''
ENDS = {ends}  # node: the name under which a window is given the adjoint of the state after it


def loss_and_gradient(params, inputs, targets, state=None, weights=None):
    """The loss and its gradients over a whole sequence.

    Only the states between windows of {length} steps are kept; what lies between is computed again on the way back.
    Arguments as for ``loss``.
    """
{given}
    def window(first, stop):
        xs = {name: value[first:stop] for name, value in inputs.items()}
        aims = {name: targets[name][first:stop] for name in LOSSES}
        shares = {xp}.zeros((stop - first, batch), DTYPE)
        shares[...] = (1.0 if weights is None else weights[first:stop]) / total
        return xs, aims, shares

    steps = {steps}
    starts = range(0, T, steps)
    loss, states = 0.0, [state]
    for first in starts[:-1]:
        xs, aims, shares = window(first, first + steps)
        part, following = window_loss(params, xs, aims, states[-1], shares)
        loss += part
        states.append(following)
{begin}
    adjoint = {node: {xp}.zeros((depth, batch, size), DTYPE) for node, (depth, size, _) in STATES.items()}
    for first in reversed(starts):
        stop = min(first + steps, T)
        xs, aims, shares = window(first, stop)
        for node, name in ENDS.items():
            depth, size, _ = STATES[node]
            aims[name] = {xp}.zeros((stop - first, batch, size), DTYPE)
            inside = min(depth, stop - first)  # how many of the last values lie in this window
            aims[name][stop - first - inside :] = adjoint[node][depth - inside :]
        part, gradients = window_gradient(params, xs, aims, states.pop(), shares)
        if stop == T:
            loss += part
        for node, values in gradients.state.items():
            before = adjoint[node][: max(STATES[node][0] - (stop - first), 0)]  # of values before this window, too
            values[stop - first :] += before
{learned}{add}
        adjoint = gradients.state
    return loss, Gradients({result})
'''


LEARNED = """\
            if first == 0 and isinstance(STATES[node][2], str) and node not in (state or {}):
                gradients[STATES[node][2]] += before.sum(axis=(0, 1))
"""


def checkpoint_loop(xp: str, program: Program) -> str:
    """``loss_and_gradient`` by windows: "window_loss" finds the states, "window_gradient" the gradients."""
    checkpoint, wrt = program.checkpoint, program.wrt
    assert checkpoint is not None
    learned = any(isinstance(initial, str) for _, _, initial in program.states.values()) and "parameters" in wrt
    begin, add, result = [], [], "None"
    if "parameters" in wrt:
        begin.append("    gradient = {xp}.zeros(VECTOR_SIZE, DTYPE)")
        add.append("        gradient += gradients.vector")
        result = "gradient"
    if "inputs" in wrt:
        rows = "{name: {xp}.empty((T, batch, size), DTYPE) for name, size in INPUTS.items()}"
        begin.append(f"    input_gradients = {rows}")
        add += [
            "        for name, values in gradients.inputs.items():",
            "            input_gradients[name][first:stop] = values",
        ]
        result += ", input_gradients"
    if "state" in wrt:
        result += ", adjoint" if "inputs" in wrt else ", None, adjoint"
    text = (
        LOOP.replace("{given}", BEGIN)
        .replace("{learned}", LEARNED if learned else "")
        .replace("{begin}", "\n".join(begin))
        .replace("{add}", "\n".join(add))
        .replace("{result}", result)
    )
    text = text.replace("{ends}", repr(dict(checkpoint.ends)))
    steps = str(checkpoint.steps) if checkpoint.steps else "int(np.ceil(np.sqrt(T)))"
    length = str(checkpoint.steps) if checkpoint.steps else "sqrt(T)"
    return text.replace("{steps}", steps).replace("{length}", length).replace("{xp}", xp)
