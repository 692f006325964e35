"""What "bptt-rtrl" costs between its blocks, and what it carries: the part of a cost that no equation shows.

At the end of a block of h steps P <- P J + direct, with J = ds(T)/ds(0), and dL/dw += P dL_block/ds(0). So P, with a
row for each of the N units of the state, costs 2 N^2 FLOPs for each number of the parameters: n^4 a block of n fully
connected units, n^3 a step for h = n.
"""

from __future__ import annotations

from collections.abc import Mapping

import sympy

from rnngraph.equations import Carry, Expression, Outer, PointwiseSum
from rnngraph.sizes import BLOCK, B, Sizes

Amount = tuple[str, Expression]


def flops(carry: Carry, sizes: Sizes) -> list[Amount]:
    """FLOPs for each step: those of the direct effects, and those of the end of a block, divided by its steps."""
    found: list[Amount] = []
    units = sizes.joint_state()
    for name, pieces in carry.direct.items():
        for piece in pieces:
            if isinstance(piece, Outer):
                entries = 2 * sizes.of(piece.left) * sizes.of(piece.right)
                found.append((f"P_{name}: {piece.left} with the rows of {piece.right}", B * units * entries))
            elif isinstance(piece, PointwiseSum):
                found.append((f"P_{name}: sum over t of its direct effect", B * units * _entries(name, sizes)))
    for name in carried(carry):
        entries = _entries(name, sizes)
        product = 2 * units**2 * entries
        added = units * entries if name in carry.direct else 0
        found.append((f"P_{name} times the block's ds(T)/ds(0)", B * (product + added) / BLOCK))
        found.append((f"dloss/d{name}: P_{name} times the error at the block's start", 2 * B * units * entries / BLOCK))
    return found


def kept(carry: Carry, sizes: Sizes, depths: Mapping[str, int]) -> list[Amount]:
    """P and, where a block adds to it, what it adds so far; the state at the block's start."""
    units = sizes.joint_state()
    return [
        *(
            (
                f"P_{name}, the last{' and the next' if name in carry.direct else ''}",
                (2 if name in carry.direct else 1) * B * units * _entries(name, sizes),
            )
            for name in carried(carry)
        ),
        *((f"{state} at the start of the block", B * depth * sizes.of(state)) for state, depth in depths.items()),
    ]


def carried(carry: Carry) -> tuple[str, ...]:
    """The parameters that have a P: those that reach the state."""
    return tuple(dict.fromkeys([*carry.direct, *carry.initial.values()]))


def _entries(name: str, sizes: Sizes) -> Expression:
    return sympy.Mul(*sizes.shape(name))
