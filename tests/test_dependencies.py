"""The order that passes must keep: the same as by comparing each statement with all before it, in near-linear work."""

from __future__ import annotations

import random

import pytest

from codegen.ir import (
    Apply,
    Bound,
    Buffer,
    Copy,
    Fill,
    Function,
    MatMul,
    Span,
    Statement,
    Step,
    Store,
    View,
    views_of,
    written,
)
from codegen.overlap import overlap
from codegen.passes.dependencies import dependencies
from codegen.passes.merge_neighbours import merge_neighbours

COLUMNS = 6
SEQUENCES = [Buffer(name, "sequence", COLUMNS, length=Bound(2, 1)) for name in "ab"]
MATRIX = Buffer("m", "matrix", COLUMNS, 4)
TIMES = [
    Step(0), Step(1), Span(Bound(0), Bound(1)), Span(Bound(1), Bound(1, 1)), Span(Bound(1), Bound(1)), None,
]  # fmt: skip


def every_pair(segment: list[Statement]) -> list[set[int]]:
    """The definition: each statement against all before it."""
    waits_for = []
    for index, statement in enumerate(segment):
        found = set()
        for earlier in range(index):
            for view in views_of(statement):
                for other in views_of(segment[earlier]):
                    writes = view is written(statement) or other is written(segment[earlier])
                    empty = not overlap(view, view) or not overlap(other, other)
                    if writes and not empty and overlap(view, other):
                        found.add(earlier)
        waits_for.append(found)
    return waits_for


def closure(waits_for: list[set[int]]) -> list[set[int]]:
    """With all that those wait for."""
    closed: list[set[int]] = []
    for direct in waits_for:
        closed.append(direct.union(*(closed[earlier] for earlier in direct)))
    return closed


def random_segment(rng: random.Random) -> list[Statement]:
    times = rng.sample(TIMES, rng.randint(1, 3))

    def view() -> View:
        start = rng.randint(0, COLUMNS - 1)
        stop = rng.randint(start, COLUMNS)  # an empty view, too
        if rng.random() < 0.2:
            row = rng.randint(0, 3)
            return View(MATRIX, None, start, stop, (row, rng.randint(row, 4)))
        return View(rng.choice(SEQUENCES), rng.choice(times), start, stop)

    def statement() -> Statement:
        target, same = view(), rng.random() < 0.2
        kind = rng.choice(("apply", "apply", "apply", "copy", "fill", "product", "store"))
        if kind == "apply":
            return Apply(target, "add", (target if same else view(), view()))
        if kind == "copy":
            return Copy(target, view())
        if kind == "fill":
            return Fill(target, 1.0)
        return MatMul(target, view(), view(), accumulate=same) if kind == "product" else Store(target, "output", "a")

    return [statement() for _ in range(rng.randint(2, 25))]


@pytest.mark.parametrize("seed", range(200))
def test_the_order_is_that_of_comparing_every_pair(seed: int) -> None:
    segment = random_segment(random.Random(seed))
    found, expected = dependencies(segment), every_pair(segment)
    assert all(listed <= wanted for listed, wanted in zip(found, expected, strict=True))
    assert closure(found) == closure(expected)


def row(buffer: Buffer, start: int, stop: int) -> View:
    return View(buffer, Step(0), start, stop)


def test_one_scratch_buffer_used_many_times_costs_little() -> None:
    """A long equation: each part is computed in the same scratch buffer and added to the target."""
    scratch, target, operand = (Buffer(name, "step", 4) for name in ("scratch_1", "t", "x"))
    part = Apply(row(scratch, 0, 4), "tanh", (row(operand, 0, 4),))
    total = Apply(row(target, 0, 4), "add", (row(target, 0, 4), row(scratch, 0, 4)))
    segment: list[Statement] = [part, total] * 10_000
    found = dependencies(segment)
    assert found[:3] == [set(), {0}, {0, 1}] and max(map(len, found)) <= 2


def test_merging_finds_the_partner_of_each_round() -> None:
    """The two halves of a buffer are written again and again: each round is one call, in the order of the rounds."""
    first, second = (Buffer(name, "step", COLUMNS) for name in "ab")
    halves = [
        Apply(row(target, start, start + 3), "tanh", (row(source, start, start + 3),))
        for target, source in ((first, second), (second, first)) * 1000
        for start in (0, 3)
    ]
    assert merge_neighbours(Function("forward", tuple(halves))).body == tuple(
        Apply(row(target, 0, COLUMNS), "tanh", (row(source, 0, COLUMNS),))
        for target, source in ((first, second), (second, first)) * 1000
    )
