"""The text of truncated backpropagation through time in an emitted module: its windows, and the loop over them.

Williams and Peng (1990), "An efficient gradient-based algorithm for on-line training of recurrent network
trajectories", Neural Computation 2.
"""

from __future__ import annotations

BEGIN = """\
    T, batch = _lengths(inputs)
    _checked_state(state, batch)
    _check_targets(targets, weights, T, batch)
    params = pack(params)
    if weights is None:
        total = T * batch
    else:
        weights = {xp}.asarray(weights)
        total = weights.sum(dtype=np.float64)
"""  # what the steps weigh together: that of any loop over windows

LOOP = '''
K1, K2 = {k1}, {k2}


def loss_and_gradient(params, inputs, targets, state=None, weights=None):
    """The loss over a whole sequence, and its gradient by truncated backpropagation through time.

    Every K1 steps, at n = K1, 2 K1, ..., the loss of the last K1 steps goes back over the steps after n - K2; what lies
    before is a constant. The gradient is the sum of those of the windows. Arguments as for ``loss``.
    """
{join}{begin}    loss, gradient = 0.0, {xp}.zeros(VECTOR_SIZE, DTYPE)
    # All windows that reach back to the first step are one, of the losses of them all.
    start, counted, stop = 0, 0, min(K2 // K1 * K1, T)
    while True:
        window = {name: value[start:stop] for name, value in inputs.items()}
        aims = {name: targets[name][start:stop] for name in {losses}}
        shares = {xp}.zeros((stop - start, batch), DTYPE)  # the steps whose loss other windows have weigh 0
        shares[counted - start :] = (1.0 if weights is None else weights[counted:stop]) / total
        part, part_gradient, last = window_gradient(params, window, aims, state, shares)
        loss += part
        gradient += part_gradient
        if stop == T:
            return loss, Gradients(gradient)
        following = stop + K1 - K2
{carry}
        start, counted, stop = following, stop, min(stop + K1, T)
'''
# How the state at the next window's first step is found. For K1 = K2 it is the state after this window.
CARRY_LAST = "        state = last"
CARRY_FORWARD = """\
        _, state = forward(params, {name: value[start:following] for name, value in inputs.items()}, state)"""


# Where units run as layers: what is given of them side by side.
JOIN = """\
    inputs, targets = _joined(inputs, INPUT_SIZES), _joined(targets, TARGET_SIZES)
"""


def window_loop(xp: str, k1: int, k2: int, layers: bool) -> str:
    """``loss_and_gradient`` by windows, whose gradients ``window_gradient`` computes; ``layers``: whether units run as
    layers."""
    carry = CARRY_LAST if k1 == k2 else CARRY_FORWARD
    text = (
        LOOP.replace("{join}", JOIN if layers else "")
        .replace("{begin}", BEGIN)
        .replace("{losses}", "TARGETS" if layers else "LOSSES")
    )
    text = text.replace("{carry}", carry).replace("{xp}", xp)
    return text.replace("{k1}", str(k1)).replace("{k2}", str(k2))


def signature(name: str, checkpoints: bool) -> list[str]:
    """The first lines of ``window_loss`` or ``window_gradient``; with ``checkpoints`` the latter takes adjoints of the
    state after the part."""
    gradient = name == "window_gradient"
    if gradient and checkpoints:
        return [
            f"def {name}(params, inputs, targets, state, shares):",
            '    """The gradients of the loss of a part of a sequence, to which the state after it adds its products',
            "    with its adjoint, given among the targets. ``shares`` (T, batch) weigh the steps as they are.",
            '    """',
        ]
    return [
        f"def {name}(params, inputs, targets, state, shares):",
        f'    """The loss{", its gradient" if gradient else ""} and the state after a part of a sequence.',
        "",
        "    Arguments as for ``loss``, but ``shares`` (T, batch) weigh the steps as they are, whatever their sum.",
        *(["    The gradient is a vector. The state before the part is a constant."] if gradient else []),
        '    """',
    ]
