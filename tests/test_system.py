"""Systems before any scheduling: vjp against the reference tape, and the identities that jvp and vjp must obey."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
import pytest
import reference
import sympy
from checking import EXPRESSION, assert_close, losses_of, problem_for
from random_graphs import Problem, random_graph

import rnngraph as rg
from codegen.functions import FUNCTIONS
from rnngraph import zoo
from rnngraph.evaluate import Evaluation
from rnngraph.losses import with_loss
from rnngraph.system import System

Array = npt.NDArray[Any]
ALL = ("parameters", "inputs", "state")
NETWORKS = {
    "elman": zoo.elman(2, 3, 2, recurrence="dense"),
    "lstm": zoo.lstm(2, 2, peepholes=True),
    "gru": zoo.gru(2, 2, 2),
    "narx": zoo.narx(1, 3, 2, 2, 3),
    "tdnn": zoo.tdnn((2, 3, 2), ([0, 2], 1)),
    "jordan": zoo.jordan(2, 3, 2, decay=0.4),
}


def evaluation(system: System, problem: Problem, parameters: Mapping[str, Array] | None = None) -> Evaluation:
    """The reference interpreter of a System on a problem's data."""
    T, batch = next(iter(problem.inputs.values())).shape[:2]
    weights = np.ones((T, batch)) if problem.weights is None else problem.weights
    values: dict[str, Array] = {}
    for name, signal in system.signals.items():
        if signal.kind == "input":
            values[name] = problem.inputs[name]
        elif signal.kind == "weight":
            values[name] = (weights / weights.sum())[..., None]
        elif signal.kind == "target" and signal.origin is not None:
            target = problem.targets[signal.origin]
            classes = system.losses[signal.origin] == "cross_entropy"
            values[name] = np.eye(signal.size)[target] if classes else target
    chosen = problem.parameters if parameters is None else parameters
    return Evaluation(system, T, batch, values, chosen, state=problem.state or {})


def graphs() -> list[tuple[str, nx.MultiDiGraph]]:
    return [*NETWORKS.items(), *((f"random graph {seed}", random_graph(seed)) for seed in range(0, 30, 2))]


@pytest.mark.parametrize(("name", "graph"), graphs(), ids=[name for name, _ in graphs()])
def test_vjp_equals_reference(name: str, graph: nx.MultiDiGraph) -> None:
    """Every gradient of the derived System, before scheduling and code generation."""
    losses = losses_of(graph, len(name))
    problem = problem_for(graph, 4, losses, T=4, batch=2)
    system = rg.gradient(graph, loss=losses, wrt=ALL)
    found = evaluation(system, problem)
    expected = reference.loss_and_gradient(
        graph, problem.parameters, problem.inputs, problem.targets,
        loss=losses, state=problem.state, weights=problem.weights,
    )  # fmt: skip
    assert_close(found.total(system.total("loss")), np.asarray(expected.loss), 1e-12, "loss")
    for parameter, gradient in expected.gradients.items():
        assert_close(found.total(system.total(f"dloss/d{parameter}")), gradient, 1e-10, f"gradient of {parameter}")
    for node, adjoint in system.input_adjoints.items():
        value = found.sequence(adjoint) if adjoint else np.zeros_like(expected.input_gradients[node])
        assert_close(value, expected.input_gradients[node], 1e-10, f"gradient of the input {node}")
    for node, adjoint in system.state_adjoints.items():
        gradient = expected.state_gradients[node]
        value = found.boundary(adjoint, len(gradient)) if adjoint else np.zeros_like(gradient)
        assert_close(value, gradient, 1e-10, f"gradient of the state of {node}")


def directions(system: System, problem: Problem, seed: int) -> tuple[dict[str, Array], dict[str, Array]]:
    """A random direction in parameter space, and the parameters of ``jvp(system)`` with it."""
    rng = np.random.default_rng(seed)
    direction = {name: rng.normal(size=shape) for name, shape in system.parameters.items()}
    return direction, {**problem.parameters, **{f"dot_{name}": value for name, value in direction.items()}}


@pytest.mark.parametrize(("name", "graph"), graphs(), ids=[name for name, _ in graphs()])
def test_jvp_and_vjp_are_transposes(name: str, graph: nx.MultiDiGraph) -> None:
    """<J d, y> = <d, J' y>: the output's tangents against the gradient of sum over t of y(t) times any vector."""
    losses = dict.fromkeys(losses_of(graph, 0), "y*target")  # its gradient with respect to y is target
    problem = problem_for(graph, 6, losses, T=4, batch=2, with_state=False)
    gradient = rg.gradient(graph, loss=losses)
    forward = rg.derive(graph)
    tangents = rg.jvp(forward)
    direction, parameters = directions(forward, problem, 1)
    run = evaluation(tangents, problem, parameters)
    weights = np.ones((4, 2)) if problem.weights is None else problem.weights
    scale = (weights / weights.sum())[..., None]
    left = sum(
        (run.sequence(f"dot_{output}") * problem.targets[output] * scale / graph.nodes[output]["size"]).sum()
        for output in losses
    )
    back = evaluation(gradient, problem)
    right = sum((back.total(gradient.total(f"dloss/d{p}")) * direction[p]).sum() for p in direction)
    assert left == pytest.approx(right, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_tangent_equals_central_differences(name: str) -> None:
    graph = NETWORKS[name]
    problem = problem_for(graph, 2, losses_of(graph, 3), T=4, batch=2, with_state=True)
    system = with_loss(rg.derive(graph), losses_of(graph, 3))
    tangents = rg.jvp(system)
    direction, parameters = directions(system, problem, 2)
    slope = evaluation(tangents, problem, parameters).total(tangents.total("dot_loss"))

    def loss_at(step: float) -> float:
        moved = {p: value + step * direction[p] for p, value in problem.parameters.items()}
        return float(evaluation(system, problem, moved).total(system.total("loss")))

    assert float(slope) == pytest.approx((loss_at(1e-5) - loss_at(-1e-5)) / 2e-5, rel=1e-7, abs=1e-9)


HESSIANS = {**NETWORKS, **{f"random graph {seed}": random_graph(seed) for seed in (1, 4, 7, 12)}}


def hessian_vector(graph: nx.MultiDiGraph, losses: Any, problem: Problem, seed: int) -> tuple[Any, Any, Any]:
    """(direction, Hessian times it, gradient as a function of the step along it), all by parameter."""
    gradient = rg.gradient(graph, loss=losses)
    second = rg.jvp(gradient)
    direction, parameters = directions(gradient, problem, seed)
    run = evaluation(second, problem, parameters)
    product = {p: run.total(second.total(f"dot_dloss/d{p}")) for p in direction}

    def gradient_at(step: float) -> dict[str, Array]:
        moved = {p: value + step * direction[p] for p, value in problem.parameters.items()}
        found = evaluation(gradient, problem, moved)
        return {p: found.total(gradient.total(f"dloss/d{p}")) for p in direction}

    return direction, product, gradient_at


def without_learned_initial_values(graph: nx.MultiDiGraph) -> nx.MultiDiGraph:
    changed = graph.copy()
    for _, data in changed.nodes(data=True):
        if data.get("initial") == "parameter":
            data["initial"] = 0.25
    return changed


@pytest.mark.parametrize("name", HESSIANS)
def test_hessian_vector_product(name: str) -> None:
    """jvp of vjp: symmetric, and equal to differences of gradients."""
    graph = without_learned_initial_values(HESSIANS[name])
    losses = losses_of(graph, 0)
    problem = problem_for(graph, 3, losses, T=3, batch=2, with_state=False)
    first, along_first, gradient_at = hessian_vector(graph, losses, problem, 1)
    second, along_second, _ = hessian_vector(graph, losses, problem, 2)
    left = sum((along_first[p] * second[p]).sum() for p in second)
    right = sum((along_second[p] * first[p]).sum() for p in first)
    assert left == pytest.approx(right, rel=1e-9, abs=1e-11)
    up, down = gradient_at(1e-5), gradient_at(-1e-5)
    for p, value in along_first.items():
        assert_close(value, (up[p] - down[p]) / 2e-5, 1e-7, f"Hessian product of {p}")


def test_a_wrong_derivative_breaks_the_transposition(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparisons can fail: sine with the derivative 1.5 cosine."""
    graph = zoo.elman(2, 2, 2, recurrence="dense", activation="sin")
    problem = problem_for(graph, 0, {"y": "mse"}, T=3)
    prime = type(FUNCTIONS["sin"].symbol(sympy.Symbol("x", real=True)).fdiff())
    monkeypatch.setattr(prime, "rule", staticmethod(lambda x: 1.5 * FUNCTIONS["cos"].symbol(x)))
    system = rg.gradient(graph)
    found = evaluation(system, problem).total(system.total("dloss/dW"))
    expected = reference.loss_and_gradient(graph, problem.parameters, problem.inputs, problem.targets).gradients["W"]
    with pytest.raises(AssertionError, match="gradient of W: off by"):
        assert_close(found, expected, 1e-6, "gradient of W")


# The shape of the derived equations.


def test_derived_equations_of_elman_are_those_of_the_chapter() -> None:
    text = str(rg.gradient(zoo.elman(2, 3, 2, recurrence="dense")))
    for line in (
        "s_a(t) = W^T x(t) + R^T a(t-1) + b_a",
        "a(t) = tanh(s_a(t))",
        "delta_s_a(t) = tanh'(s_a(t)) * (V delta_y(t) + R delta_s_a(t+1))",
        "dL/dW = sum over t of x(t) delta_s_a(t)^T",
        "dL/dR = sum over t of a(t-1) delta_s_a(t)^T",
        "dL/db_a = sum over t of delta_s_a(t)",
    ):
        assert line in text, f"{line}\nis not in\n{text}"


def test_only_what_is_asked_for_is_derived() -> None:
    graph = zoo.elman(2, 3, 2)
    assert rg.gradient(graph).input_adjoints == {}
    inputs = rg.gradient(graph, wrt=("inputs",))
    assert [total.kind for total in inputs.totals] == ["loss"]
    assert set(inputs.input_adjoints) == {"x"} and inputs.state_adjoints == {}
    assert set(rg.gradient(graph, wrt=("state",)).state_adjoints) == {"a"}


def test_a_parameter_that_the_loss_does_not_reach_has_an_empty_total() -> None:
    graph = zoo.feedforward((2, 3, 2))
    graph.add_node("z", kind="output", size=2)
    graph.add_edge("x", "z")
    system = rg.gradient(graph, loss={"y": "mse"})
    assert system.total("dloss/dW_x_z").contributions == ()
    problem = problem_for(graph, 0, {"y": "mse"}, T=2)
    assert not evaluation(system, problem).total(system.total("dloss/dW_x_z")).any()


def test_totals_and_equations_are_found_by_name() -> None:
    system = rg.gradient(zoo.elman(2, 3, 2))
    assert system.total("loss").kind == "loss" and system.equation_of("a").signal == "a"
    with pytest.raises(KeyError):
        system.total("gain")
    with pytest.raises(KeyError):
        system.equation_of("x")


REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "an unknown word in wrt": (
        {"wrt": ("weights",)},
        rg.OptionError,
        "wrt.*'weights'.*'parameters', 'inputs', 'state'",
    ),
    "an unknown loss": ({"loss": "huber"}, rg.OptionError, "loss.*'huber'.*cross_entropy"),
    "a loss without y": ({"loss": "target**2"}, rg.OptionError, "depends on y"),
    "a loss on no output": ({"loss": {}}, rg.OptionError, "empty mapping"),
    "a loss on an unknown output": ({"loss": {"h": "mse"}}, rg.OptionError, "'h'.*'y'"),
    "a loss with other names": ({"loss": "(y - goal)**2"}, rg.EquationError, "goal"),
    "a loss that is code": ({"loss": "__import__('os').getcwd()"}, rg.EquationError, "loss"),
    "classes of one unit": ({"loss": "cross_entropy"}, rg.OptionError, "size 1.*binary_cross_entropy"),
    "an unknown rule": ({"method": "hebb"}, rg.OptionError, "'hebb'.*bptt"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_options_are_refused(name: str) -> None:
    options, error, message = REFUSED[name]
    for function in (rg.gradient, rg.compile):
        with pytest.raises(error, match=message):
            function(zoo.elman(2, 3, 1), **options)


def test_wrt_accepts_one_word_in_compile_and_gradient() -> None:
    assert set(rg.compile(zoo.elman(2, 3, 2), wrt="inputs").equations.input_adjoints) == {"x"}
    assert set(rg.gradient(zoo.elman(2, 3, 2), wrt="inputs").input_adjoints) == {"x"}


def test_expression_losses_are_ordinary_text_or_sympy() -> None:
    graph = zoo.elman(2, 3, 2)
    y, target = sympy.symbols("y target", real=True)
    problem = problem_for(graph, 0, {"y": EXPRESSION}, T=3)
    for loss, same in (((y - target) ** 2, "mse"), ("(y - target)**2", "mse")):
        first, second = rg.gradient(graph, loss=loss), rg.gradient(graph, loss=same)
        values = [evaluation(system, problem).total(system.total("dloss/dV")) for system in (first, second)]
        np.testing.assert_allclose(*values, rtol=1e-14)
