"""Sequences that share memory: who moves in with whom, and that nothing is overwritten before its last read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sympy
from checking import losses_of
from random_graphs import random_graph, with_long_loops

import rnngraph as rg
from codegen.ir import Assign, Bound, Buffer, Fill, Function, Host, Load, Loop, Span, Statement, Step, Store, View
from codegen.passes import share_buffers
from codegen.printers.c import CPrinter
from codegen.printers.cupy import CuPyPrinter
from codegen.printers.numpy import NumPyPrinter
from codegen.verify import IRError, verify_function
from codegen.walk import map_views
from rnngraph import zoo
from rnngraph.hessian import hessian_program

X = sympy.Symbol("x", real=True)
ALL = ("parameters", "inputs", "state")


def sequence(name: str, columns: int = 2, more: int = 0) -> Buffer:
    return Buffer(name, "sequence", columns, length=Bound(more, 1))


def whole(buffer: Buffer, first: int = 0) -> View:
    return View(buffer, Span(Bound(first), Bound(first, 1)), 0, buffer.columns, label=buffer.name)


def at(buffer: Buffer, offset: int = 0) -> View:
    return View(buffer, Step(offset), 0, buffer.columns, label=buffer.name)


def assign(target: View, source: View) -> Assign:
    return Assign(target, X + 1, ((X, source),))


def load(buffer: Buffer) -> Load:
    return Load(whole(buffer), "input", buffer.name)


def hosts(*body: Statement, threads: bool = False) -> dict[str, Host | None]:
    """Each buffer's host after the pass, whose result is valid."""
    function = Function("loss", body)
    verify_function(function)
    shared = share_buffers(function, threads=threads)
    verify_function(shared)
    return {name: buffer.host for name, buffer in shared.buffers().items()}


A, B, C = sequence("a"), sequence("b"), sequence("c")


def test_later_values_move_in() -> None:
    found = hosts(load(A), assign(whole(B), whole(A)), assign(whole(C), whole(B)), Store(whole(C), "output", "c"))
    assert found == {"a": None, "b": Host("a"), "c": Host("a")}


def test_values_that_are_still_needed_stay() -> None:
    sums = Assign(
        whole(C), X + 2 * sympy.Symbol("y", real=True), ((X, whole(A)), (sympy.Symbol("y", real=True), whole(B)))
    )
    found = hosts(load(A), assign(whole(B), whole(A)), sums, Store(whole(C), "output", "c"))
    assert found == {"a": None, "b": None, "c": Host("a")}


def test_a_backward_loop_keeps_ahead_of_what_it_reads() -> None:
    wide = sequence("wide", 3)
    filled = Load(whole(wide), "input", "wide")
    narrow = Assign(at(A), X + 1, ((X, dataclasses.replace(at(wide), stop=2)),))
    body = (filled, Loop((narrow,), backward=True), Store(whole(A), "output", "a"))
    assert hosts(*body)["a"] == Host("wide", at_end=True)
    lengths = {name: buffer.length for name, buffer in share_buffers(Function("loss", body)).buffers().items()}
    assert lengths == {"wide": Bound(1, 1), "a": Bound(0, 1)}
    assert hosts(*body, threads=True)["a"] is None, "one thread may be steps ahead of another"
    assert hosts(filled, Loop((narrow,)), Store(whole(A), "output", "a"))["a"] is None, "forward it would catch up"


def test_steps_at_once_need_a_row_more_for_each() -> None:
    filled = Load(whole(B), "input", "b")
    three = Step(0, 3)
    turn = Loop((assign(View(A, three, 0, 2), View(B, three, 0, 2)),), backward=True, steps=3)
    body = (filled, turn, Store(whole(A), "output", "a"))
    assert hosts(*body)["a"] == Host("b", at_end=True)
    lengths = {name: buffer.length for name, buffer in share_buffers(Function("loss", body)).buffers().items()}
    assert lengths == {"b": Bound(3, 1), "a": Bound(0, 1)}
    printed_whole = share_buffers(Function("loss", body), whole=lambda statement: isinstance(statement, Loop))
    assert printed_whole.buffers()["a"].host is None


def test_padding_and_what_is_written_once_stay() -> None:
    padded = sequence("padded", 2, 1)
    body = (load(A), assign(whole(B), whole(A)), Store(whole(B), "output", "b"))
    later = (assign(whole(padded), whole(A)), Store(whole(padded, 1), "output", "padded"))
    assert hosts(*body[:1], *later)["padded"] is None
    ones = Fill(whole(C), 1.0, once=True)
    assert hosts(ones, *body, Store(whole(C), "output", "c")) == {"c": None, "a": None, "b": Host("a")}


@pytest.mark.parametrize(
    "change",
    [lambda host: Host(host.name, not host.at_end), lambda host: Host("sources_of_s_o_i_f_z", host.at_end)],
    ids=["the other end", "another host"],
)
def test_values_overwritten_too_early_are_found(change: Callable[[Host], Host]) -> None:
    program = rg.compile(zoo.lstm(2, 3)).program
    printer = NumPyPrinter(program)
    (function,) = (each for each in program.functions if each.name == "loss_and_gradient")
    prepared = printer.prepare(function)
    verify_function(prepared)

    def moved(view: View) -> View:
        host = view.buffer.host
        if host is None or not host.at_end:
            return view
        return dataclasses.replace(view, buffer=dataclasses.replace(view.buffer, host=change(host)))

    broken = tuple(map_views(statement, moved) for statement in prepared.body)
    with pytest.raises(IRError, match=r"overwritten by another buffer|in the memory of"):
        verify_function(dataclasses.replace(prepared, body=broken))


@pytest.mark.parametrize("seed", range(8))
def test_what_the_printers_make_of_random_graphs_is_valid(seed: int) -> None:
    graph = random_graph(seed)
    kernel = rg.compile(graph, loss=losses_of(graph, seed), wrt=ALL)
    programs = [kernel.program, rg.compile(with_long_loops(graph, seed), loss=losses_of(graph, seed), wrt=ALL).program]
    if seed % 4 == 0:
        programs.append(hessian_program(kernel.compilation))
        programs.append(rg.compile(graph, loss=losses_of(graph, seed), method="tbptt", k1=2, k2=3).program)
    for program in programs:
        numpy, c, cupy = NumPyPrinter(program), CPrinter(program), CuPyPrinter(program)
        for function in program.functions:  # of which some take several steps at once
            verify_function(numpy.prepare(function))
            verify_function(share_buffers(c.prepare(function), threads=True))
            verify_function(cupy.prepare(function))


@pytest.mark.parametrize(("backend", "units"), [("numpy", 12), ("c", 8)])
def test_what_a_step_of_an_lstm_keeps(backend: str, units: int) -> None:
    """Numbers per time step and sequence: the inputs, so many for each unit, and few more."""
    inputs, hidden, batch = 16, 32, 8
    kernel = rg.compile(zoo.lstm(inputs, hidden), backend=backend, dtype="float32")

    def held(T: int) -> Any:
        x, target = (np.zeros((T, batch, size), np.float32) for size in (inputs, hidden))
        kernel.release_workspaces()
        kernel.loss_and_gradient(kernel.init(), {"x": x}, {"h": target})
        (work,) = kernel.module._local.held.values()
        views = sum(len(steps[0]) for name, steps in vars(work).items() if name.startswith("steps_"))
        return work.nbytes - 200 * views * T

    step = (held(40) - held(20)) / 20
    assert step / (batch * 4) <= inputs + units * hidden + 3
