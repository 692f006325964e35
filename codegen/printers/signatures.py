"""The signatures and docstrings of an emitted module's functions over whole sequences."""

from __future__ import annotations

from codegen.names import comment_text
from codegen.printers import windows
from codegen.program import Program


def signature(program: Program, name: str, swept: bool) -> list[str]:
    """The first lines of the function ``name``; ``swept``: whether it carries sensitivities."""
    if name == "jacobian":
        return [
            "def _advance_jacobian(params, inputs, given, sensitivities):",
            '    """The outputs, their Jacobians and the last state; the sensitivities go T steps on."""',
        ]
    if name in ("window_loss", "window_gradient"):
        return windows.signature(name, program.checkpoint is not None)
    if name == "forward":
        return [
            "def forward(params, inputs, state=None):",
            '    """The outputs for a whole sequence, and the state after it.',
            "",
            "    ``inputs``: (T, batch, size) by name. ``state``: (depth, batch, size) by node, or a part of it.",
            *_returned_state(program),
            '    """',
        ]
    if swept:
        return [
            "def _advance(params, inputs, targets, given, weights, sensitivities):",
            '    """The loss, its gradients and the last state; the sensitivities go T steps on."""',
        ]
    second = name == "hessian_vector_product"
    result = {
        "loss": "The loss",
        "loss_and_gradient": "The loss and its gradients",
        "hessian_vector_product": "The matrix of the loss's second derivatives times ``direction``,",
    }[name]
    return [
        f"def {name}(params, {'direction, ' if second else ''}inputs, targets, state=None, weights=None):",
        f'    """{result} over a whole sequence.',
        "",
        "    ``inputs``: (T, batch, size) by name. ``targets`` by output: " + targets_text(program) + ".",
        "    ``state``: (depth, batch, size) by node, or a part of it. ``weights``: (T, batch); the loss is the",
        "    weighted mean.",
        '    """',
    ]


def _returned_state(program: Program) -> list[str]:
    if not program.ahead:
        return ["    Returns outputs (T, batch, size) by name, and the state as a dictionary."]
    return [
        "    Returns outputs (T, batch, size) by name, and the state that goes on as a dictionary: of delayed nodes",
        "    the last values, of look-ahead nodes the first, for the sequence before.",
    ]


def targets_text(program: Program) -> str:
    """The shape of each output's target."""
    shapes = {
        name: "integer classes (T, batch)" if kind == "classes" else f"(T, batch, {program.outputs[name]})"
        for name, kind in program.losses.items()
    }
    return comment_text(", ".join(f"{name!r} {shape}" for name, shape in shapes.items()))
