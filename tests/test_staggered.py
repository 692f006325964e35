"""Loops that take turns: the order of their steps, their grammar, and what the passes leave of them."""

from __future__ import annotations

import re

import numpy as np
import pytest
import sympy

from codegen.interpret import Interpreter
from codegen.ir import Assign, Bound, Buffer, Function, Load, Loop, Span, Staggered, Statement, Step, Store, View
from codegen.passes import expand_pointwise, fuse_pointwise, keep_in_registers, merge_neighbours
from codegen.printers.loops import LoopText, staggered_lines
from codegen.verify import IRError, verify_function
from codegen.walk import map_bodies, turns
from rnngraph.paths import shifts

X = sympy.Symbol("x", real=True)
A = Buffer("a", "sequence", 2, length=Bound(2, 1))  # row t + 1
B = Buffer("b", "sequence", 2, length=Bound(1, 1))  # row t - 1
INPUT = Buffer("in", "sequence", 2, length=Bound(0, 1))


def assign(target: Buffer, offset: int, source: Buffer, source_offset: int) -> Assign:
    views = [
        View(buffer, Step(k), 0, 2, label=buffer.name) for buffer, k in ((target, offset), (source, source_offset))
    ]
    return Assign(views[0], X + 1, ((X, views[1]),))


def function(shift_b: int, shift_a: int) -> Function:
    """a(t) = b(t+1) + 1, b(t) = a(t-2) + 1, but b(t) = in(t) + 1 first of all: the loop runs b one step before a."""
    parts = (Loop((assign(B, 0, A, 0),)), Loop((assign(A, 2, B, 1),)))
    body: tuple[Statement, ...] = (
        Load(View(INPUT, Span(Bound(0), Bound(0, 1)), 0, 2), "input", "in"),
        Load(View(A, Span(Bound(0), Bound(2)), 0, 2), "state", "a"),
        Staggered(parts, (shift_b, shift_a)),
        Store(View(A, Span(Bound(2), Bound(2, 1)), 0, 2), "output", "a"),
    )
    return Function("forward", body)


def test_turns() -> None:
    parts = (Loop(()), Loop(()))
    assert list(turns(Staggered(parts, (0, -2)), 2)) == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert list(turns(Staggered(parts, (0, -1)), 3)) == [(0, 1), (0, 2), (1, 1), (0, 3), (1, 2), (1, 3)]
    back = tuple(Loop((), backward=True) for _ in parts)
    assert list(turns(Staggered(back, (0, 1)), 2)) == [(0, 2), (0, 1), (1, 2), (1, 1)]
    assert list(turns(Loop(()), 2)) == [(0, 1), (0, 2)]


def test_passes_keep_the_values() -> None:
    T, batch = 5, 3
    given = {
        "inputs": {"in": np.zeros((T, batch, 2))},
        "state": {"a": np.random.default_rng(0).normal(size=(2, batch, 2))},
    }
    results = []
    expanded = expand_pointwise(function(0, -1))
    for candidate in (
        function(0, -1),
        expanded,
        merge_neighbours(expanded),
        keep_in_registers(fuse_pointwise(function(0, -1))),
    ):
        verify_function(candidate)
        results.append(Interpreter(T, batch, np.zeros(0), np.zeros(0), given).run(candidate)["output"]["a"])
    a = np.concatenate([given["state"]["a"], np.zeros((T, batch, 2))])
    for t in range(1, T + 1):  # b(T+1) is 0
        a[t + 1] = 1 + (a[t] + 1 if t < T else 0)
    for found in results:
        np.testing.assert_allclose(found, a[2:], rtol=1e-12)


@pytest.mark.parametrize("wrong", [(0, 0), (-1, 0), (0, 1)])
def test_shifts_that_read_too_early_are_found(wrong: tuple[int, int]) -> None:
    with pytest.raises(IRError, match="written only after it was read"):
        verify_function(function(*wrong))


def test_grammar() -> None:
    good = function(0, -1)
    whole = good.body[2]
    assert isinstance(whole, Staggered)
    first, second = whole.parts
    for statement, message in (
        (Staggered((first,), (0,)), "1 parts with 1 shifts"),
        (Staggered((first, second), (0,)), "2 parts with 1 shifts"),
        (Staggered((first, Loop(second.body, backward=True)), (0, -1)), "parts that go forward and parts that go back"),
        (Loop((whole,)), "a Staggered inside a loop"),
        (Staggered((first, Loop((second,))), (0, -1)), "a Loop inside a loop"),
    ):
        with pytest.raises(IRError, match=message):
            verify_function(Function("forward", (*good.body[:2], statement)))
    changed = map_bodies(whole, lambda body: [*body, *body])
    assert isinstance(changed, Staggered) and [len(part.body) for part in changed.parts] == [2, 2]
    with pytest.raises(IRError, match=r"statement 3\.2\.1"):
        broken = Loop((assign(A, 2, INPUT, 5),))
        verify_function(Function("forward", (*good.body[:2], Staggered((first, broken), (0, -1)), good.body[3])))


def test_text() -> None:
    parts = (Loop((), backward=True), Loop((), backward=True))
    many = [f"a_rather_long_name_{k}_t" for k in range(6)]
    texts = [
        LoopText(["    bound = work"], ["one_t"], "steps_1", ["work_on(one_t)"]),
        LoopText([], many, "steps_2", []),
    ]
    lines = staggered_lines(Staggered(parts, (0, 2)), texts)
    assert lines[:5] == [
        "    bound = work",
        "    for step in range(T, -2, -1):",
        "        if 1 <= step <= T:",
        "            one_t, = work.steps_1[step - 1]",
        "            work_on(one_t)",
    ]
    assert lines[5:7] == ["        if 1 <= step + 2 <= T:", "            ("]
    assert lines[-1] == "            ) = work.steps_2[step + 1]"
    assert re.findall(r"\w+_t\b", " ".join(lines[7:-1])) == many


def test_shifts() -> None:
    assert shifts("ab", [("a", "b", 2), ("b", "a", -1)]) == {"a": -1, "b": 0}
    assert shifts("ab", [("a", "b", -2), ("b", "a", 1)]) == {"a": 1, "b": 0}
    assert shifts("ab", [("a", "b", 2), ("b", "a", -1), ("a", "a", -1)]) is None
