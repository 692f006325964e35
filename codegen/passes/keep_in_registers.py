"""Fused -> Fused: values that only their own kernel needs stay in registers.

A workspace buffer that one kernel alone touches, and never reads before it writes, is no argument of it any more: after
this pass a view outside of the arguments is a value of the thread. Parts whose values nothing needs are dropped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from codegen.ir import Assign, Function, Fused, Loop, Staggered, Statement, View, views_of
from codegen.passes.fuse_pointwise import fused, same_element
from codegen.walk import map_bodies


def keep_in_registers(function: Function) -> Function:
    """See the module's docstring."""
    users: dict[str, int] = {}
    for statement in function.statements():
        for name in {view.buffer.name for view in views_of(statement)}:
            users[name] = users.get(name, 0) + 1

    def dropped(statement: Statement) -> list[Statement]:
        if isinstance(statement, Loop | Staggered):
            return [map_bodies(statement, lambda body: [part for inner in body for part in dropped(inner)])]
        if not isinstance(statement, Fused):
            return [statement]
        private = {name for name in _written_first(statement) if users[name] == 1}
        parts = _needed_parts(statement.parts, private)
        return [fused(parts, private)] if parts else []

    return dataclasses.replace(function, body=tuple(part for statement in function.body for part in dropped(statement)))


def _needed_parts(parts: Sequence[Assign], private: set[str]) -> list[Assign]:
    """The parts that write memory, or what a later part reads."""
    needed: list[Assign] = []
    reads: list[View] = []
    for part in reversed(parts):
        if part.target.buffer.name in private and not any(same_element(part.target, view) for view in reads):
            continue
        reads = [view for view in reads if not same_element(part.target, view)] + [view for _, view in part.operands]
        needed.append(part)
    return needed[::-1]


def _written_first(fused: Fused) -> set[str]:
    """The workspace buffers of which the kernel reads only what it wrote before."""
    written: list[View] = []
    names: set[str] = set()
    read_first: set[str] = set()
    for part in fused.parts:
        for _, view in part.operands:
            if not any(same_element(view, target) for target in written):
                read_first.add(view.buffer.name)
        written.append(part.target)
        if part.target.buffer.storage == "workspace":
            names.add(part.target.buffer.name)
    return names - read_first
