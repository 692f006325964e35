"""What is batched, what is stepped, what is packed: asserted on the program, not on its text."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import pytest
from checking import assert_equals_reference, problem_for

import rnngraph as rg
from codegen.functions import FUNCTIONS
from codegen.ir import Function, Loop, MatMul, Program, Statement, View
from codegen.verify import verify_function
from rnngraph import zoo
from rnngraph.derive import derive
from rnngraph.equations import at
from rnngraph.losses import with_loss
from rnngraph.schedule import Pointwise, Product, build_schedule
from rnngraph.schedule.share import share_function_values
from rnngraph.vjp import vjp


def program_of(graph: nx.MultiDiGraph, **options: Any) -> Program:
    return rg.compile(graph, **options).program


def function_of(program: Program, name: str) -> Function:
    (function,) = (function for function in program.functions if function.name == name)
    return function


def loops_of(function: Function) -> list[Loop]:
    return [statement for statement in function.body if isinstance(statement, Loop)]


def products_of(body: tuple[Statement, ...]) -> list[MatMul]:
    return [statement for statement in body if isinstance(statement, MatMul)]


WITHOUT_LOOPS: dict[str, Callable[[], nx.MultiDiGraph]] = {
    "feedforward": lambda: zoo.feedforward((3, 5, 4, 2)),
    "tdnn": lambda: zoo.tdnn((3, 5, 4, 2), ([0, 2], 3, [1])),
    "fixed convolution": lambda: fixed_convolution(),
}


def fixed_convolution() -> nx.MultiDiGraph:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    graph.add_node("y", kind="output", size=2, activation="tanh")
    graph.add_edge("x", "y", structure="fixed", value=[np.eye(2), np.ones((2, 2))], delay=[0, 3])
    graph.add_edge("x", "y", structure="diagonal", delay=1)
    return graph


@pytest.mark.parametrize("name", WITHOUT_LOOPS)
@pytest.mark.parametrize("wrt", [("parameters",), ("parameters", "inputs", "state")])
def test_no_recurrence_no_loop(name: str, wrt: tuple[str, ...]) -> None:
    for function in program_of(WITHOUT_LOOPS[name](), wrt=wrt).functions:
        if function.name != "stream":  # which goes step by step for its user's sake
            assert loops_of(function) == [], f"{function.name} of {name}"


def lstm_with_deep_output() -> nx.MultiDiGraph:
    return zoo.stack(zoo.tdnn((2, 3), ([0, 1],)), zoo.lstm(3, 4), zoo.feedforward((4, 6, 5, 2)))


@pytest.mark.parametrize("build", [lambda: zoo.lstm(2, 3, 2), lambda: zoo.gru(2, 3), lstm_with_deep_output])
def test_one_recurrent_layer_one_loop_each_way(build: Callable[[], nx.MultiDiGraph]) -> None:
    program = program_of(build(), wrt=("parameters", "inputs"))
    assert [loop.backward for loop in loops_of(function_of(program, "forward"))] == [False]
    assert [loop.backward for loop in loops_of(function_of(program, "loss"))] == [False]
    assert [loop.backward for loop in loops_of(function_of(program, "loss_and_gradient"))] == [False, True]


def test_only_the_recurrence_is_stepped() -> None:
    """The loop holds the cell alone: what lies below and above it runs for all t at once."""
    kernel = rg.compile(lstm_with_deep_output())
    stages = [stage for stage in kernel.explain().stages if stage.function == "loss_and_gradient"]
    stepped = {name for stage in stages if stage.how != "batched" for name in stage.computes}
    forward = {name for name in stepped if not name.startswith(("delta", "factor"))}
    assert {name.rstrip("2") for name in forward if not name.endswith("part")} <= {
        "i", "f", "o", "z", "c", "h", "s_i", "s_f", "s_o", "s_z", "tanh_c"
    }  # fmt: skip
    assert not any("a1" in name or "y" in name for name in stepped)


def test_two_independent_recurrences_are_two_loops() -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("x", kind="input", size=2)
    graph.add_node("y", kind="output", size=2)
    for name in ("a", "b"):
        graph.add_node(name, size=3, activation="tanh")
        graph.add_edge("x", name)
        graph.add_edge(name, name, delay=1)
        graph.add_edge(name, "y")
    program = program_of(graph)
    assert [loop.backward for loop in loops_of(function_of(program, "forward"))] == [False, False]
    assert [loop.backward for loop in loops_of(function_of(program, "loss_and_gradient"))] == [False, False, True, True]
    problem = problem_for(graph, 0, {"y": "mse"})
    assert_equals_reference(rg.compile(graph, dtype="float64"), graph, problem, "mse")


def test_stacked_recurrences_run_one_after_the_other() -> None:
    program = program_of(zoo.stacked("elman", 2, 3, 2, depth=3))
    backward = [loop.backward for loop in loops_of(function_of(program, "loss_and_gradient"))]
    assert backward == [False] * 3 + [True] * 3


# Packing.


def test_the_four_sums_of_an_lstm_are_one_product() -> None:
    program = program_of(zoo.lstm(3, 4))
    forward = function_of(program, "forward")
    assert [product.target.columns for product in products_of(forward.body)] == []
    (loop,) = loops_of(forward)
    (product,) = products_of(loop.body)
    assert product.target.columns == 16
    assert product.left.columns == 3 + 4 + 1  # x, h and the ones of the biases, side by side
    assert not product.accumulate


def test_the_errors_of_an_lstm_go_back_in_one_product() -> None:
    program = program_of(zoo.lstm(3, 4))
    _, backward = loops_of(function_of(program, "loss_and_gradient"))
    (product,) = products_of(backward.body)
    assert product.left.columns == 16 and product.target.columns == 4


NATIVE = {
    "feedforward": (lambda: zoo.feedforward((3, 5, 2)), 2),
    "elman": (lambda: zoo.elman(3, 4, 2, recurrence="dense"), 2),
    "lstm": (lambda: zoo.lstm(3, 4, 2), 2),
    "tdnn": (lambda: zoo.tdnn((3, 5, 2), ([0, 2], 1)), 2),
    "narx": (lambda: zoo.narx(2, 4, 1, 2, 3), 2),
    "stacked lstm": (lambda: zoo.stacked("lstm", 3, 4, depth=2), 2),
}


@pytest.mark.parametrize("name", NATIVE)
def test_the_gradient_of_packed_weights_is_one_product_into_the_gradient_vector(name: str) -> None:
    build, count = NATIVE[name]
    program = program_of(build())
    function = function_of(program, "loss_and_gradient")
    into = [product for product in products_of(function.body) if product.target.buffer.storage == "gradient"]
    assert len(into) == count
    covered = sum(product.target.columns * (product.target.rows[1] - product.target.rows[0]) for product in into)  # type: ignore[index]
    assert covered == program.vector_size  # every weight and bias
    for product in into:
        assert product.target.whole and product.left.transposed


@pytest.mark.parametrize("name", NATIVE)
def test_products_outside_loops_read_the_parameters_in_place(name: str) -> None:
    """No copy of a weight, unless it is halved for a sigmoid."""
    build, _ = NATIVE[name]
    function = function_of(program_of(build()), "forward")
    for product in products_of(function.body):
        assert product.right.buffer.storage == "parameter"


def gradient_cells(program: Program) -> Counter[int]:
    """How often each entry of the gradient vector lies in a view that is written."""
    cells: Counter[int] = Counter()
    for statement in function_of(program, "loss_and_gradient").statements():
        target = getattr(statement, "target", None)
        if isinstance(target, View) and target.buffer.storage == "gradient":
            assert target.rows is not None
            for row in range(*target.rows):
                start = target.buffer.offset + row * target.buffer.columns
                cells.update(range(start + target.start, start + target.stop))
    return cells


@pytest.mark.parametrize("name", [*NATIVE, "gru", "peepholes", "shared"])
def test_every_entry_of_the_gradient_vector_is_written(name: str) -> None:
    others = {"gru": zoo.gru(3, 4, 2), "peepholes": zoo.lstm(3, 4, peepholes=True), "shared": shared_weight()}
    program = program_of(NATIVE[name][0]() if name in NATIVE else others[name])
    assert set(gradient_cells(program)) == set(range(program.vector_size))


def shared_weight() -> nx.MultiDiGraph:
    graph = zoo.elman(3, 3, 3, recurrence="dense")
    graph.edges["a", "a", 0]["parameter"] = "W"
    return graph


def test_named_parameters_are_views_of_one_vector() -> None:
    kernel = rg.compile(zoo.lstm(3, 4, 2, peepholes=True))
    params = kernel.init()
    assert params.vector.ndim == 1 and params.vector.flags["C_CONTIGUOUS"]
    assert sum(value.size for value in params.values()) == params.vector.size == kernel.program.vector_size
    for name, value in params.items():
        assert np.shares_memory(value, params.vector), name
        assert value.shape == kernel.parameter_shapes[name]
    pairs = [(a, b) for a in params for b in params if a < b]
    assert not any(np.shares_memory(params[a], params[b]) for a, b in pairs)
    params.vector[...] = np.arange(params.vector.size)
    assert sorted(float(v) for value in params.values() for v in value.ravel()) == list(range(params.vector.size))


# Rewritings that keep values.


def gradient_schedule(graph: nx.MultiDiGraph, loss: str = "mse") -> Any:
    return build_schedule(vjp(with_loss(derive(graph), loss)))


def test_tanh_of_the_cell_is_computed_once() -> None:
    system = share_function_values(vjp(with_loss(derive(zoo.lstm(2, 3)), "mse")))
    applications = [str(atom) for e in system.equations for atom in e.expression.atoms(*function_classes())]
    of_cell = [text for text in applications if text.startswith("tanh(c")]
    assert len(of_cell) == 1
    assert len(set(applications)) == len(applications)


def function_classes() -> list[Any]:
    return [rule.symbol for rule in FUNCTIONS.values()]


def test_derivatives_stand_outside_the_backward_loop() -> None:
    schedule = gradient_schedule(zoo.lstm(2, 3))
    (backward,) = (component for component in schedule.components if component.backward)
    for item in backward.items:
        assert not isinstance(item, Pointwise) or not item.expression.atoms(*function_classes())
    factors = [signal for signal in schedule.signals if schedule.signals[signal].kind == "factor"]
    inside = {name for item in backward.items for name in item.defines}
    assert len(factors) >= 5 and not inside & set(factors)


def test_what_the_loss_sends_back_is_computed_before_the_loop() -> None:
    schedule = gradient_schedule(zoo.lstm(2, 3, 2))
    numbers = {name: schedule.component_of[name] for name in ("delta_y", "delta_h")}
    assert numbers["delta_y"] < numbers["delta_h"]
    assert not schedule.components[numbers["delta_y"]].loop and schedule.components[numbers["delta_h"]].backward


def test_each_result_is_defined_once_and_before_its_use() -> None:
    for graph in (zoo.lstm(2, 3, 2, peepholes=True), zoo.narx(1, 3, 1, 2, 3), zoo.gru(2, 3), shared_weight()):
        schedule = gradient_schedule(graph)
        defined = [name for item in schedule.items() for name in item.defines]
        assert len(set(defined)) == len(defined)
        seen: set[str] = set()
        for component in schedule.components:
            own = {name for item in component.items for name in item.defines}
            for item in component.items:
                for read in item.reads():
                    assert read.signal not in schedule.component_of or read.signal in seen | own
            seen |= own


def test_products_have_as_many_blocks_as_sources_and_results() -> None:
    schedule = gradient_schedule(zoo.stacked("gru", 2, 3, 2))
    products = [item for item in schedule.items() if isinstance(item, Product)]
    assert products
    for product in products:
        assert len(product.blocks) == len(product.sources)
        assert all(len(row) == len(product.results) for row in product.blocks)


def test_a_loop_through_past_and_future_is_refused() -> None:
    """Only a System can have one: a graph's look-ahead is refused before."""
    system = derive(zoo.elman(2, 3, 2, recurrence="dense"))
    equation = system.equation_of("a")
    changed = dataclasses.replace(equation, expression=equation.expression + at("a", -1))
    equations = tuple(changed if each is equation else each for each in system.equations)
    with pytest.raises(rg.UnsupportedError, match="reads both the past and the future"):
        build_schedule(dataclasses.replace(system, equations=equations))


# explain.


def test_explain_names_stages_buffers_and_costs() -> None:
    kernel = rg.compile(zoo.lstm(3, 4, 2))
    explanation = kernel.explain(T=10, batch=2)
    by_function = {name: [s for s in explanation.stages if s.function == name] for name in explanation.flops}
    assert set(by_function) == {"forward", "loss", "loss_and_gradient", "stream"}
    assert [stage.how for stage in by_function["stream"]] == ["stepped forward"]
    assert [stage.how for stage in by_function["forward"]] == ["stepped forward", "batched"]
    hows = [stage.how for stage in by_function["loss_and_gradient"]]
    assert hows == ["stepped forward", "batched", "stepped backward"]
    assert all(buffer.bytes == 4 * np.prod(buffer.shape) for buffer in explanation.buffers)
    # One product of (8 -> 16) a step and one of (5 -> 2), and a few pointwise operations.
    products = 2 * 10 * 2 * (8 * 16 + 5 * 2)
    assert products < explanation.flops["forward"] < 1.5 * products
    text = str(explanation)
    assert "Schedule (T = 10, batch = 2)" in text and "stepped backward:" in text and "milliseconds" in text
    assert "lower" in explanation.seconds and all(value >= 0 for value in explanation.seconds.values())
    twice = kernel.explain(T=20, batch=2)
    assert 1.9 < twice.flops["loss_and_gradient"] / explanation.flops["loss_and_gradient"] <= 2.0


def test_programs_of_this_file_are_valid() -> None:
    for build in (
        *WITHOUT_LOOPS.values(),
        *(build for build, _ in NATIVE.values()),
        lstm_with_deep_output,
        shared_weight,
    ):
        for function in program_of(build(), wrt=("parameters", "inputs", "state")).functions:
            verify_function(function)
