"""codegen by itself: the function table, expand_pointwise, merge_neighbours, names, loading, and the verifier."""

from __future__ import annotations

import dataclasses
import keyword
import linecache
import math
import re
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import sympy
from checking import losses_of, problem_for
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph, with_long_loops

import rnngraph as rg
from codegen import functions
from codegen.functions import FUNCTIONS, expand_primes, rewrite_in_primitives
from codegen.interpret import Interpreter, evaluate
from codegen.ir import (
    Apply,
    Assign,
    Bound,
    Buffer,
    Copy,
    Fill,
    Function,
    Fused,
    Load,
    Loop,
    MatMul,
    Reduce,
    Span,
    Statement,
    Step,
    Store,
    View,
)
from codegen.load import load_source
from codegen.names import Namer, comment_text, mangle
from codegen.passes import (
    block_gates,
    expand_pointwise,
    fuse_pointwise,
    keep_in_registers,
    merge_neighbours,
    pack_products,
    share_buffers,
    sink_pointwise,
    stack_products,
)
from codegen.program import Program
from codegen.ufuncs import UFUNCS
from codegen.verify import IRError, verify_function
from rnngraph import zoo

X, Y, Z = sympy.symbols("x y z", real=True)
ALL = ("parameters", "inputs", "state")


# The function table.


def numpy_value(expression: Any, **values: Any) -> Any:
    """The expression in primitives on numbers or arrays."""
    return evaluate(rewrite_in_primitives(expression), {sympy.Symbol(k, real=True): v for k, v in values.items()})


# Away from kinks, inside every function's domain.
POINTS = np.array([0.11, 0.4, 0.73, 1.3, 2.6, 3.7])
BOTH_SIGNS = np.concatenate([-POINTS, POINTS])
UNARY = [name for name, rule in FUNCTIONS.items() if rule.arity == 1]


def points_of(name: str) -> Any:
    return POINTS if name in ("log", "sqrt") else BOTH_SIGNS


@pytest.mark.parametrize("name", UNARY)
def test_derivatives_equal_central_differences(name: str) -> None:
    function, x, h = FUNCTIONS[name].symbol, points_of(name), 1e-6
    value, slope = function(X), function(X).diff(X)
    for order in (1, 2):
        differences = (numpy_value(value, x=x + h) - numpy_value(value, x=x - h)) / (2 * h)
        found = np.broadcast_to(numpy_value(slope, x=x), x.shape)
        np.testing.assert_allclose(found, differences, rtol=1e-6, atol=1e-8, err_msg=f"derivative {order}")
        value, slope = slope, expand_primes(slope).diff(X)


@pytest.mark.parametrize("name", ["maximum", "minimum"])
@pytest.mark.parametrize("argument", ["x", "y"])
def test_derivatives_of_maximum_and_minimum(name: str, argument: str) -> None:
    expression = FUNCTIONS[name].symbol(X, Y)
    x, y = np.array([0.3, -1.2, 2.0]), np.array([0.5, -2.0, 1.0])
    point = {"x": x, "y": y}
    up, down = ({**point, argument: point[argument] + s} for s in (1e-6, -1e-6))
    differences = (numpy_value(expression, **up) - numpy_value(expression, **down)) / 2e-6
    found = numpy_value(expression.diff(sympy.Symbol(argument, real=True)), **point)
    np.testing.assert_allclose(found, differences, rtol=1e-6, atol=1e-9)
    tie = numpy_value(expression.diff(sympy.Symbol(argument, real=True)), x=np.ones(1), y=np.ones(1))
    assert tie == 0.5  # each side gets one half


SYMPY_TWINS: dict[str, Callable[[Any], Any]] = {
    "tanh": sympy.tanh,
    "exp": sympy.exp,
    "log": sympy.log,
    "sqrt": sympy.sqrt,
    "sin": sympy.sin,
    "cos": sympy.cos,
    "arctan": sympy.atan,
    "erf": sympy.erf,
    "sigmoid": lambda x: 1 / (1 + sympy.exp(-x)),
    "softplus": lambda x: sympy.log(1 + sympy.exp(x)),
    "silu": lambda x: x / (1 + sympy.exp(-x)),
    "gelu": lambda x: x * (1 + sympy.erf(x / sympy.sqrt(2))) / 2,
    "square": lambda x: x**2,
}


@pytest.mark.parametrize("name", SYMPY_TWINS)
def test_values_and_derivatives_equal_those_of_sympy(name: str) -> None:
    own, twin = FUNCTIONS[name].symbol(X), SYMPY_TWINS[name](X)
    for _ in range(2):
        for point in points_of(name):
            expected = float(twin.subs(X, sympy.Float(point, 30)))
            assert numpy_value(own, x=np.array(point)) == pytest.approx(expected, rel=1e-12, abs=1e-14)
        own, twin = own.diff(X), twin.diff(X)


@pytest.mark.parametrize("name", [name for name in UNARY if name not in ("exp", "log", "sqrt", "square")])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_far_from_zero_values_and_derivatives_stay_finite(name: str, dtype: Any) -> None:
    """sympy's own derivatives are NaN here: of 1/(1 + exp(-x)) at -100 in float32, of softplus at 745 in float64."""
    x = np.array([-1e4, -745.0, -100.0, -30.0, 30.0, 100.0, 745.0, 1e4], dtype=dtype)
    with np.errstate(under="ignore"):
        for expression in (FUNCTIONS[name].symbol(X), FUNCTIONS[name].symbol(X).diff(X)):
            assert np.isfinite(numpy_value(expression, x=x)).all()


def test_erf_is_accurate() -> None:
    x = np.linspace(-6.5, 6.5, 1301)
    found = FUNCTIONS["erf"].implementation(x)  # type: ignore[misc]
    np.testing.assert_allclose(found, [math.erf(value) for value in x], rtol=4e-16, atol=0.0)


# expand_pointwise against direct evaluation.

NAMES = "xyzvw"  # x, y: full width; z: one column; v: a vector over the columns; w: lies in the target's memory
SMOOTH = ["tanh", "exp", "sin", "cos", "arctan", "erf", "softplus", "sigmoid", "relu", "abs", "step", "elu", "gelu"]


def expressions() -> Any:
    """Random expressions of the five operands; every value stays of moderate size."""
    leaves = st.sampled_from([sympy.Symbol(name, real=True) for name in NAMES]) | st.sampled_from(
        [sympy.Integer(1), sympy.Integer(-2), sympy.Rational(1, 2), sympy.Rational(-3, 4)]
    )

    def larger(inner: Any) -> Any:
        pairs = st.tuples(inner, inner)
        return st.one_of(
            pairs.map(lambda p: p[0] + p[1]),
            pairs.map(lambda p: p[0] - p[1]),
            pairs.map(lambda p: p[0] * p[1]),
            pairs.map(lambda p: p[0] / (2 + p[1] ** 2)),
            pairs.map(lambda p: functions.maximum(p[0], p[1])),
            st.tuples(st.sampled_from(SMOOTH), inner).map(lambda p: FUNCTIONS[p[0]].symbol(functions.sin(p[1]))),
            st.tuples(inner, st.sampled_from([2, 3, 4, 5])).map(lambda p: functions.tanh(p[0]) ** p[1]),
        )

    return st.recursive(leaves, larger, max_leaves=12)


def sequence(name: str, columns: int, padding: int = 0) -> Buffer:
    return Buffer(name, "sequence", columns, length=Bound(padding, 1))


def all_steps(buffer: Buffer, start: int = 0, stop: int | None = None, first: int = 0) -> View:
    return View(buffer, Span(Bound(first), Bound(first, 1)), start, buffer.columns if stop is None else stop)


def at_step(buffer: Buffer, offset: int = 0, start: int = 0, stop: int | None = None) -> View:
    return View(buffer, Step(offset), start, buffer.columns if stop is None else stop)


def row_vector(buffer: Buffer, row: int = 0) -> View:
    return View(buffer, None, 0, buffer.columns, rows=(row, row + 1), vector=True)


T, BATCH, SIZE = 3, 2, 4


@settings(max_examples=150, deadline=None)
@given(expression=expressions(), in_loop=st.booleans(), seed=st.integers(0, 9))
def test_expand_pointwise_equals_direct_evaluation(expression: Any, in_loop: bool, seed: int) -> None:
    """Also where an operand is the target itself (w), a single column (z) or a vector (v)."""
    rng = np.random.default_rng(seed)
    expression = rewrite_in_primitives(expression)
    weights = Buffer("weights", "matrix", SIZE, 1, storage="parameter")
    buffers = {"x": sequence("x", SIZE), "y": sequence("y", SIZE), "z": sequence("z", 1), "w": sequence("target", SIZE)}
    view = at_step if in_loop else all_steps
    views = {name: view(buffer) for name, buffer in buffers.items()} | {"v": row_vector(weights)}
    symbols = sorted(expression.free_symbols, key=str)
    assign = Assign(views["w"], expression, tuple((symbol, views[symbol.name]) for symbol in symbols))
    loads = [Load(all_steps(buffer), "input", name) for name, buffer in buffers.items()]
    body: tuple[Statement, ...] = (*loads, Loop((assign,)) if in_loop else assign)
    function = Function("loss", (*body, Store(all_steps(buffers["w"]), "output", "w")))
    inputs = {name: rng.normal(size=(T, BATCH, buffer.columns)) for name, buffer in buffers.items()}
    vector = rng.normal(size=SIZE)
    results = []
    verify_function(function)
    expanded = expand_pointwise(function)
    verify_function(expanded)
    assert not any(isinstance(statement, Assign) for statement in expanded.statements())
    for candidate in (function, expanded, merge_neighbours(expanded)):
        run = Interpreter(T, BATCH, vector, np.zeros(0), {"inputs": inputs, "state": {}})
        results.append(run.run(candidate)["output"]["w"])
    direct = evaluate(expression, {symbol: {**inputs, "v": vector}[symbol.name] for symbol in symbols})
    direct = np.broadcast_to(direct, results[0].shape)
    for found in results:
        np.testing.assert_allclose(found, direct, rtol=1e-10, atol=1e-10)


def test_functions_of_numbers_are_numbers() -> None:
    expression = rewrite_in_primitives(
        functions.sigmoid(sympy.Rational(1, 3)) * X + functions.maximum(1, functions.exp(1))
    )
    assert not expression.atoms(sympy.Function)
    assert numpy_value(expression, x=np.array(2.0)) == pytest.approx(2 / (1 + math.exp(-1 / 3)) + math.e, rel=1e-15)


def test_scratch_buffers_are_used_again() -> None:
    x, y, z = sequence("x", SIZE), sequence("y", SIZE), sequence("z", SIZE)
    expression = (X + 1) * (Y + 2) + (X - 1) * (Y - 2)
    operands = ((X, all_steps(x)), (Y, all_steps(y)))
    loads = tuple(Load(all_steps(buffer), "input", buffer.name) for buffer in (x, y, z))
    assigns = tuple(Assign(all_steps(target), expression, operands) for target in (z, x))
    expanded = expand_pointwise(Function("loss", (*loads, *assigns)))
    one = expand_pointwise(Function("loss", (*loads, assigns[0])))
    count = len([name for name in expanded.buffers() if name.startswith("scratch")])
    assert 1 <= len([name for name in one.buffers() if name.startswith("scratch")]) <= count <= 3


# merge_neighbours on hand-made bodies.


def run_apply(body: tuple[Statement, ...], **given: Any) -> dict[str, Any]:
    run = Interpreter(T, BATCH, np.zeros(0), np.zeros(0), {"inputs": given, "state": {}})
    run.run(Function("forward", body))
    return run.buffers


def merged(*body: Statement) -> tuple[Statement, ...]:
    function = merge_neighbours(Function("forward", body))
    return function.body


A, B = sequence("a", 6), sequence("b", 6)


def test_neighbours_become_one_call() -> None:
    body = tuple(Apply(all_steps(B, k, k + 2), "tanh", (all_steps(A, k, k + 2),)) for k in (0, 2, 4))
    assert merged(*body) == (Apply(all_steps(B), "tanh", (all_steps(A),)),)


def test_neighbours_in_a_loop_become_one_call() -> None:
    body = tuple(Apply(at_step(B, 0, k, k + 3), "add", (at_step(A, 0, k, k + 3), 1.0)) for k in (0, 3))
    (loop,) = merged(Loop(body, note="for t"))
    assert loop == Loop((Apply(at_step(B), "add", (at_step(A), 1.0)),), note="for t")


DIFFERENT = [
    ("another function", Apply(all_steps(B, 3, 6), "sin", (all_steps(A, 3, 6),))),
    ("a gap", Apply(all_steps(B, 4, 6), "tanh", (all_steps(A, 4, 6),))),
    ("crossed operands", Apply(all_steps(B, 3, 6), "tanh", (all_steps(A, 0, 3),))),
    ("another buffer", Apply(all_steps(sequence("c", 6), 3, 6), "tanh", (all_steps(A, 3, 6),))),
    ("a number", Apply(all_steps(B, 3, 6), "tanh", (2.0,))),
]


@pytest.mark.parametrize("second", [call for _, call in DIFFERENT], ids=[name for name, _ in DIFFERENT])
def test_what_does_not_fit_stays_apart(second: Apply) -> None:
    first = Apply(all_steps(B, 0, 3), "tanh", (all_steps(A, 0, 3),))
    assert merged(first, second) == (first, second)


def test_different_numbers_and_different_steps_stay_apart() -> None:
    first = Apply(all_steps(B, 0, 3), "add", (all_steps(A, 0, 3), 1.0))
    second = Apply(all_steps(B, 3, 6), "add", (all_steps(A, 3, 6), 2.0))
    assert merged(first, second) == (first, second)
    before, later = (
        Apply(at_step(B, 0, 0, 3), "tanh", (at_step(A, 0, 0, 3),)),
        Apply(at_step(B, 0, 3, 6), "tanh", (at_step(A, 1, 3, 6),)),
    )
    assert merged(Loop((before, later))) == (Loop((before, later)),)


def test_dependencies_are_respected() -> None:
    """The second call needs what the copy in between writes; the third one would destroy what the copy reads."""
    first = Apply(all_steps(B, 0, 3), "tanh", (all_steps(A, 0, 3),))
    between = Copy(all_steps(A, 3, 6), all_steps(B, 0, 3))
    second = Apply(all_steps(B, 3, 6), "tanh", (all_steps(A, 3, 6),))
    assert merged(first, between, second) == (first, between, second)
    saved = Copy(all_steps(sequence("c", 3)), all_steps(B, 3, 6))
    assert merged(first, saved, second) == (first, saved, second)


def test_an_unrelated_statement_does_not_hinder() -> None:
    other = Fill(all_steps(sequence("c", 1)), 3.0)
    calls = [Apply(all_steps(B, k, k + 3), "tanh", (all_steps(A, k, k + 3),)) for k in (0, 3)]
    assert merged(calls[0], other, calls[1]) == (Apply(all_steps(B), "tanh", (all_steps(A),)), other)


def test_a_loop_is_a_barrier() -> None:
    calls = [Apply(all_steps(B, k, k + 3), "tanh", (all_steps(A, k, k + 3),)) for k in (0, 3)]
    loop = Loop((Apply(at_step(A), "negative", (at_step(A),)),))
    assert merged(calls[0], loop, calls[1]) == (calls[0], loop, calls[1])


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_random_bodies_keep_their_meaning(data: Any) -> None:
    """Calls of random parts of two buffers, in random order, on each other's results."""

    def part() -> View:
        start = data.draw(st.integers(0, 2)) * 2
        return all_steps(data.draw(st.sampled_from([A, B])), start, start + 2)

    body: list[Statement] = []
    for _ in range(data.draw(st.integers(2, 9))):
        if data.draw(st.integers(0, 4)):
            body.append(Apply(part(), data.draw(st.sampled_from(["tanh", "add"])), ()))
            call = body[-1]
            assert isinstance(call, Apply)
            count = 1 if call.function == "tanh" else 2
            body[-1] = dataclasses.replace(call, arguments=tuple(part() for _ in range(count)))
        else:
            body.append(Copy(part(), part()))
    rng = np.random.default_rng(0)
    given_ = {"a": rng.normal(size=(T, BATCH, 6)), "b": rng.normal(size=(T, BATCH, 6))}
    loads = (Load(all_steps(A), "input", "a"), Load(all_steps(B), "input", "b"))
    before = run_apply((*loads, *body), **given_)
    after = run_apply(merged(*loads, *body), **given_)
    for name in "ab":
        np.testing.assert_array_equal(after[name], before[name])


# Passes and printers on real programs.


def cases() -> Iterator[tuple[str, Any, Any]]:
    """(name, kernel, problem)"""
    graphs = {"lstm": zoo.lstm(2, 3, 2, peepholes=True), "gru": zoo.gru(2, 3), "narx": zoo.narx(2, 3, 2, 2, 3)}
    graphs |= {"tdnn": zoo.tdnn((2, 3, 2), ([0, 2], 1)), "jordan": zoo.jordan(2, 3, 2, decay=0.5)}
    graphs |= {f"random graph {seed}": random_graph(seed) for seed in range(15)}
    graphs |= {f"long loops {seed}": with_long_loops(random_graph(seed), seed) for seed in range(6)}
    for number, (name, graph) in enumerate(graphs.items()):
        losses = losses_of(graph, number)
        problem = problem_for(graph, number, losses, T=4, batch=2)
        yield name, rg.compile(graph, loss=losses, dtype="float64", wrt=ALL), problem


def packed(program: Program, parameters: Any) -> Any:
    """The parameter vector, by the offsets and strides that the program states."""
    vector = np.zeros(program.vector_size)
    for parameter in program.parameters:
        rows = parameter.shape[0] if len(parameter.shape) == 2 else 1
        for row, values in enumerate(np.reshape(parameters[parameter.name], (rows, -1))):
            start = parameter.offset + row * parameter.stride
            vector[start : start + len(values)] = values
    return vector


def interpreted(function: Function, program: Program, problem: Any) -> dict[str, Any]:
    """Every result of the interpreter by name."""
    given_ = {
        "inputs": problem.inputs, "targets": problem.targets, "state": problem.state or {}, "weights": problem.weights,
    }  # fmt: skip
    gradient = np.full(program.vector_size, np.nan)
    results = Interpreter(4, 2, packed(program, problem.parameters), gradient, given_).run(function)
    flat = {"gradient": gradient} if function.name == "loss_and_gradient" else {}
    for kind, value in results.items():
        flat |= {f"{kind} {name}": array for name, array in value.items()} if isinstance(value, dict) else {kind: value}
    return flat


def called(name: str, kernel: Any, problem: Any) -> dict[str, Any]:
    """The same from the emitted module."""
    if name == "forward":
        outputs, state = kernel.forward(problem.parameters, problem.inputs, problem.state)
        return {f"output {key}": value for key, value in outputs.items()} | {
            f"state {key}": value for key, value in state.items()
        }
    if name == "stream":
        stream, steps = kernel.stream(problem.parameters, 2, problem.state), []
        for t in range(4):
            outputs = stream.step({key: value[t] for key, value in problem.inputs.items()})
            steps.append({key: value.copy() for key, value in outputs.items()})
        return {f"output {key}": np.stack([step[key] for step in steps]) for key in steps[0]} | {
            f"state {key}": value for key, value in stream.state.items()
        }
    arguments = problem.parameters, problem.inputs, problem.targets, problem.state, problem.weights
    if name == "loss":
        return {"loss": kernel.loss(*arguments)}
    loss, gradients = kernel.loss_and_gradient(*arguments)
    return (
        {"loss": loss, "gradient": gradients.vector}
        | {f"input_gradient {key}": value for key, value in gradients.inputs.items()}
        | {f"state_gradient {key}": value for key, value in gradients.state.items()}
    )


# What the targets do, and the passes by themselves.
PIPELINES = (
    (expand_pointwise, block_gates, merge_neighbours, stack_products, share_buffers),
    (expand_pointwise, merge_neighbours),
    (pack_products, fuse_pointwise, keep_in_registers, share_buffers),
    (stack_products, sink_pointwise, fuse_pointwise, keep_in_registers, share_buffers),
)


def test_interpreter_passes_and_printer_agree() -> None:
    """Each pass leaves a valid function with the same results; the emitted module has them too."""
    for name, kernel, problem in cases():
        for function in kernel.program.functions:
            stages = {"lowered": function}
            for passes in PIPELINES:
                candidate = function
                for a_pass in passes:
                    candidate = a_pass(candidate)
                    stages[f"after {a_pass.__name__} of {[each.__name__ for each in passes]}"] = candidate
            results = {}
            for stage, candidate in stages.items():
                verify_function(candidate)
                results[stage] = interpreted(candidate, kernel.program, problem)
            results["emitted"] = called(function.name, kernel, problem)
            for stage, found in results.items():
                # An input or state that the loss does not depend on has no statement: the module gives zeros.
                rest = {key: value for key, value in found.items() if key not in results["lowered"]}
                assert all(not np.any(value) for value in rest.values()), f"{name}, {stage}: {list(rest)}"
                for key, value in results["lowered"].items():
                    what = f"{name}, {function.name}, {stage}: {key}"
                    np.testing.assert_allclose(found[key], value, rtol=1e-10, atol=1e-12, err_msg=what)


def test_loaded_source_stands_in_tracebacks() -> None:
    module = load_source("def divide(a, b):\n    # the sum\n    return a / b\n", "example")
    with pytest.raises(ZeroDivisionError) as caught:
        module.divide(1, 0)
    text = "".join(traceback.format_exception(caught.value))
    assert "return a / b" in text and "<rnngraph example" in text and "line 3, in divide" in text
    assert linecache.getline(module.divide.__code__.co_filename, 3) == "    return a / b\n"
    assert load_source("x = 1\n").__name__ != load_source("x = 2\n").__name__


# Names.


@given(st.text(max_size=100))
def test_mangled_names_are_ascii_identifiers(text: str) -> None:
    name = mangle(text)
    assert name.isidentifier() and name.isascii() and len(name) <= 62 and not name.startswith("_")


@given(st.lists(st.text(max_size=8), max_size=20, unique=True))
def test_names_are_distinct_and_stay(texts: list[str]) -> None:
    namer = Namer({"np", "state"})
    names = [namer.name(text, text) for text in texts]
    assert len(set(names)) == len(names)
    assert not set(names) & ({"np", "state", "len", "print", "match"} | set(keyword.kwlist))
    assert [namer.name(text, "something else") for text in texts] == names


def test_names_of_twins() -> None:
    namer = Namer(set())
    found = [namer.name(text, text) for text in ("ﬁ", "fi", "f\u0069", "class", "a b", "a-b", "1", "", "é", "e")]
    assert found == ["fi", "fi_2", "fi_2", "class_2", "a_b", "a_b_2", "v_1", "v", "e", "e_2"]


@given(st.text(max_size=60))
def test_comment_text_stays_on_its_line(text: str) -> None:
    safe = comment_text(text)
    assert len(("# " + safe).splitlines()) == 1
    assert "\\" not in safe and '"""' not in safe
    assert compile(f'"""{safe} """', "docstring", "eval") and compile(f"# {safe}", "comment", "exec")


# The verifier: each planted error is found, and named.

W = Buffer("W", "matrix", 4, 3, storage="parameter")
G = Buffer("G", "matrix", 4, 3, storage="gradient")
C = Buffer("C", "matrix", 2, 2, storage="constant", values=np.eye(2))
P = sequence("p", 4, padding=2)
Q3 = sequence("q", 3)
STEP = Buffer("now", "step", 4)
SUM = Buffer("sum", "scalar", 1)
WHOLE_W = View(W, None, 0, 4, rows=(0, 3))
WHOLE_G = View(G, None, 0, 4, rows=(0, 3))
LOADED = (Load(all_steps(Q3), "input", "q"), Load(all_steps(P, first=2), "input", "p"))
PLANTED: dict[str, tuple[Statement, str]] = {
    "columns outside": (Fill(all_steps(P, 2, 5), 0.0), r"columns 2:5; expected columns within 0:4"),
    "no columns": (Fill(all_steps(P, 2, 2), 0.0), r"columns 2:2"),
    "rows outside a matrix": (
        Copy(all_steps(P), View(W, None, 0, 4, rows=(3, 4), vector=True)), r"rows \(3, 4\); expected rows within 0:3",
    ),
    "rows outside a sequence": (Fill(all_steps(P, first=3), 0.0), r"T = 1.*rows 3:4 of 'p'; expected rows within 0:3"),
    "rows outside in the last step": (Loop((Fill(at_step(P, 3), 0.0),)), r"1 at t = 1, T = 1.*rows 3:4 of 'p'"),
    "rows before the first step": (Loop((Fill(at_step(P, -1), 0.0),), True), r"at t = 1, .*rows -1:0 of 'p'"),
    "rows that only short sequences miss": (
        Fill(View(P, Span(Bound(0), Bound(4)), 0, 4), 0.0), r"T = 1.*rows 0:4 of 'p'; expected rows within 0:3",
    ),
    "a step outside a loop": (Fill(at_step(P), 0.0), r"time Step\(offset=0, steps=1\); expected a Span outside a loop"),
    "a span inside a loop": (Loop((Fill(all_steps(P), 0.0),)), r"expected a Step inside a loop"),
    "no time": (Fill(View(P, None, 0, 4), 0.0), r"time None; expected a Span"),
    "time in a matrix": (Copy(all_steps(P), View(W, Step(0), 0, 4, rows=(0, 1))), r"expected no time in a matrix"),
    "rows in a sequence": (Fill(dataclasses.replace(all_steps(P), rows=(0, 1)), 0.0), r"rows in a matrix only"),
    "inner sizes of a product": (
        MatMul(all_steps(P), all_steps(P, 0, 2), WHOLE_W),
        r"\(\(T\) batch, 4\) = \(\(T\) batch, 2\) @ \(3, 4\); expected \(m, n\) = \(m, k\) @ \(k, n\)",
    ),
    "length of a product": (
        MatMul(View(P, Span(Bound(0), Bound(1)), 0, 4), all_steps(Q3), WHOLE_W), r"\(batch, 4\) = \(\(T",
    ),
    "width of a product": (MatMul(all_steps(P, 0, 3), all_steps(Q3), WHOLE_W), r"the shapes"),
    "a product of a vector": (MatMul(all_steps(P), all_steps(Q3), row_vector(W)), r"expected three matrices"),
    "a product into its own operand": (
        MatMul(all_steps(P, first=1), all_steps(P), View(sequence("square", 4), None, 0, 4)), r"time None",
    ),
    "a write to a parameter": (Fill(WHOLE_W, 0.0), r"a write to the parameter buffer 'W'"),
    "a write to a constant": (Fill(View(C, None, 0, 2, rows=(0, 2)), 0.0), r"a write to the constant buffer 'C'"),
    "a transposed target": (Fill(dataclasses.replace(WHOLE_G, transposed=True), 0.0), r"a transposed target"),
    "a free symbol": (Assign(all_steps(P), X + Y, ((X, all_steps(P)),)), r"free symbols \['y'\]; expected .*\['x'\]"),
    "a symbol twice": (Assign(all_steps(P), X, ((X, all_steps(P)), (X, all_steps(P)))), r"each symbol once"),
    "an operand too narrow": (Assign(all_steps(P), X, ((X, all_steps(Q3)),)), r"shape \(T, batch, 3\); expected \(T"),
    "an operand too short": (
        Assign(all_steps(P), X, ((X, View(P, Span(Bound(0), Bound(2)), 0, 4)),)), r"shape \(2, batch, 4\)",
    ),
    "a shifted operand": (Assign(all_steps(P, first=1), X, ((X, all_steps(P)),)), r"a shifted part of the target"),
    "no primitive": (Assign(all_steps(P), functions.sigmoid(X), ((X, all_steps(P)),)), r"sigmoid; expected a prim"),
    "a foreign function": (Assign(all_steps(P), sympy.sinh(X), ((X, all_steps(P)),)), r"sinh\(x\); expected sums"),
    "a root": (Assign(all_steps(P), sympy.sqrt(X), ((X, all_steps(P)),)), r"the power sqrt\(x\); expected an integer"),
    "an unknown call": (Apply(all_steps(P), "sinc", (all_steps(P),)), r"the function 'sinc'; expected one of"),
    "too few arguments": (Apply(all_steps(P), "add", (all_steps(P),)), r"1 arguments; expected 2 of add"),
    "too many arguments": (Apply(all_steps(P), "step", (all_steps(P), 1.0)), r"2 arguments; expected 1 of step"),
    "no number": (Apply(all_steps(P), "add", (all_steps(P), math.nan)), r"the argument nan"),
    "an infinite filling": (Fill(all_steps(P), math.inf), r"the value inf"),
    "a matrix for a sequence": (Copy(all_steps(P), WHOLE_W), r"the operand W\[0:3\] of shape \(3, 4\)"),
    "a loop in a loop": (Loop((Loop((Fill(at_step(P), 0.0),)),)), r"a Loop inside a loop"),
    "a load in a loop": (Loop((Load(at_step(P), "input", "p"),)), r"a Load inside a loop"),
    "an unknown load": (Load(all_steps(P), "weather", "p"), r"'weather'; expected one of"),
    "a short input": (Load(View(P, Span(Bound(0), Bound(2)), 0, 4), "input", "p"), r"2 steps of input; expected T"),
    "a long state": (Load(all_steps(P), "state", "p"), r"T steps of state; expected the depth"),
    "wide step weights": (Load(all_steps(P), "weight", "w"), r"4 columns of step weights"),
    "a loss of many numbers": (Store(all_steps(P), "loss", "loss"), r"a sequence; expected a scalar"),
    "an unknown reduction": (Reduce(View(SUM, None, 0, 1), "mean", all_steps(P)), r"'mean'; expected one of"),
    "a sum into too little": (Reduce(all_steps(P), "units", all_steps(P)), r"expected \(T, batch, 1\), as 'units'"),
    "a sum that a state leaves unset": (
        Reduce(row_vector(G), "rows", all_steps(P), unless_state="p"), r"expected accumulate=True",
    ),
    "a gradient that is added to unset": (
        Reduce(row_vector(G), "rows", all_steps(P), accumulate=True), r"a read of G\[0:1\] before it is written",
    ),
    "a gradient that is incomplete": (Reduce(row_vector(G), "rows", all_steps(P)), r"G\[1, 0\] never written"),
    "an earlier call's value": (
        Loop((Assign(at_step(P, 0), X, ((X, at_step(P, 1)),)), Fill(at_step(P, 2), 1.0))),
        r"p\[t\+?-?\d*\] written only after it was read",
    ),
    "another buffer of that name": (Fill(all_steps(sequence("p", 4)), 0.0), r"two buffers called 'p'"),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_planted_error_is_found(name: str) -> None:
    statement, message = PLANTED[name]
    with pytest.raises(IRError, match=re.compile(message)) as caught:
        verify_function(Function("loss", (*LOADED, statement)))
    assert "loss" in str(caught.value) and "found" in str(caught.value)


def test_product_into_its_own_operand_is_found() -> None:
    square = View(Buffer("square", "matrix", 4, 4), None, 0, 4, rows=(0, 4))
    body = (*LOADED, Fill(square, 1.0), MatMul(all_steps(P, first=2), all_steps(P, first=2), square))
    with pytest.raises(IRError, match="in the target's memory; expected memory of its own"):
        verify_function(Function("forward", body))


def test_padding_may_be_read_unwritten() -> None:
    """What no statement writes stays 0; the same read is an error once a later statement writes there."""
    late = Assign(at_step(P, 2), X, ((X, at_step(P, 1)),))
    verify_function(Function("forward", (Loop((late,)),)))
    with pytest.raises(
        IRError, match=r"statement 1\.1 at t = 1.*written only after it was read \(by forward, statement 2"
    ):
        verify_function(Function("forward", (Loop((late,)), Fill(View(P, Span(Bound(1), Bound(2)), 0, 4), 1.0))))


def test_backward_loop_is_followed_backward() -> None:
    def chain(backward: bool, offset: int) -> Function:
        return Function("forward", (Loop((Assign(at_step(P, 1), X, ((X, at_step(P, offset)),)),), backward),))

    verify_function(chain(True, 2))
    verify_function(chain(False, 0))
    for backward, offset in ((True, 0), (False, 2)):
        with pytest.raises(IRError, match="written only after it was read"):
            verify_function(chain(backward, offset))


def test_values_in_registers_are_their_kernels_own() -> None:
    def fused(*arguments: View) -> Fused:
        return Fused(
            (Assign(at_step(B), X + 1, ((X, at_step(A)),)), Assign(at_step(A), 2 * X, ((X, at_step(B)),))), arguments
        )

    load = Load(all_steps(A), "input", "a")
    verify_function(Function("forward", (load, Loop((fused(at_step(A)),)))))
    with pytest.raises(IRError, match=r"'b', kept in registers, in statements \['3'\]"):
        verify_function(Function("forward", (load, Loop((fused(at_step(A)),)), Store(all_steps(B), "output", "b"))))
    with pytest.raises(IRError, match=r"a read of a\[t-1\]; expected a part of an argument"):
        verify_function(Function("forward", (Loop((fused(at_step(B)),)),)))


def test_a_kernel_reads_only_its_own_element_of_what_it_wrote() -> None:
    parts = (Assign(at_step(B, 0, 0, 3), X, ((X, at_step(A, 0, 0, 3)),)),)
    shifted = Assign(at_step(A, 0, 0, 3), X, ((X, at_step(B, 0, 1, 4)),))
    kernel = Fused((*parts, shifted), (at_step(A), at_step(B)))
    with pytest.raises(IRError, match="after a write of other elements there; expected the same elements"):
        verify_function(Function("forward", (Load(all_steps(A), "input", "a"), Loop((kernel,)))))


def test_every_call_has_an_arity() -> None:
    for name, call in UFUNCS.items():
        arguments = (all_steps(P, first=2),) * (
            call.implementation.nin if isinstance(call.implementation, np.ufunc) else 1
        )
        verify_function(Function("forward", (*LOADED, Apply(all_steps(P, first=2), name, arguments))))
