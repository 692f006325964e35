"""Networks declared unit by unit compute what they compute with each unit apart, and what they compute by layers."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from unit_graphs import random_units, with_rarities

import rnngraph as rg
from benchmarks.unit_networks import by_unit, elman, lstm, sparse_network, spread
from codegen.interpret import Interpreter
from codegen.passes import expand_pointwise, fuse_pointwise, keep_in_registers, sink_pointwise
from codegen.verify import verify_function
from rnngraph.evaluate import Evaluation
from rnngraph.kernel import Kernel
from rnngraph.paths import components
from rnngraph.units import partition
from rnngraph.verify.exact import check_exact

ALL = ("parameters", "inputs", "state")
CLOSE = {"rtol": 1e-9, "atol": 1e-12}


@pytest.fixture
def small_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers of three units are made, too, so that small networks have several."""
    monkeypatch.setattr(partition, "FEWEST_UNITS", 3)


def apart(monkeypatch: pytest.MonkeyPatch, graph: nx.MultiDiGraph, **options: Any) -> Kernel:
    """The kernel of a network whose units stay apart: the reference."""
    with monkeypatch.context() as patched:
        patched.setattr(partition, "FEWEST_UNITS", 10**9)
        kernel = rg.compile(graph, **options)
    assert not kernel.program.layers
    return kernel


def host(array: Any) -> Any:
    return array.get() if hasattr(array, "get") else np.asarray(array)


def assert_equal(found: Any, expected: Any, where: str) -> None:
    assert set(found) == set(expected), where
    for name in expected:
        np.testing.assert_allclose(host(found[name]), host(expected[name]), **CLOSE, err_msg=f"{where}, {name}")


class Data:
    """Parameters, sequences, targets and a part of a state for a kernel."""

    def __init__(self, kernel: Kernel, seed: int, T: int, batch: int) -> None:
        rng = np.random.default_rng(seed)
        program = kernel.program
        self.params = {name: rng.normal(size=shape) * 0.5 for name, shape in kernel.parameter_shapes.items()}
        self.inputs = {name: rng.normal(size=(T, batch, size)) for name, size in program.inputs.items()}
        self.targets = {name: rng.normal(size=(T, batch, size)) for name, size in program.outputs.items()}
        self.state = {
            name: rng.normal(size=(depth, batch, size))
            for name, (depth, size, _) in program.states.items()
            if rng.random() < 0.6
        }


@pytest.mark.usefixtures("small_layers")
@pytest.mark.parametrize("number", range(2))
def test_random_units_compute_what_they_do_apart(number: int, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in {"numpy": range(3), "c": range(100, 101), "cupy": range(200, 201)}[backend]:
        check_random_units(seed + 10 * number, backend, monkeypatch)


def check_random_units(seed: int, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = random_units(seed)
    kernel = rg.compile(graph, dtype="float64", wrt=ALL, backend=backend)
    assert kernel.program.layers, f"seed {seed}"
    reference = apart(monkeypatch, graph, dtype="float64", wrt=ALL)
    assert kernel.parameter_shapes == reference.parameter_shapes
    for batch, T in ((1, 3), (3, 8)):
        data = Data(reference, seed, T, batch)
        for state in (None, data.state):
            where = f"seed {seed}, batch {batch}, {'a' if state else 'no'} state"
            expected, last = reference.forward(data.params, data.inputs, state)
            found = kernel.forward(data.params, data.inputs, state)
            assert_equal(found[0], expected, where)
            assert_equal(found[1], last, where)
            loss, gradients = reference.loss_and_gradient(data.params, data.inputs, data.targets, state)
            ours, derived = kernel.loss_and_gradient(data.params, data.inputs, data.targets, state)
            np.testing.assert_allclose([ours, kernel.loss(data.params, data.inputs, data.targets, state)], loss)
            assert_equal(derived, gradients, where)
            assert_equal(derived.inputs, gradients.inputs, where)
            assert_equal(derived.state, gradients.state, where)
            first = kernel.forward(data.params, {name: x[:2] for name, x in data.inputs.items()}, state)[1]
            rest = kernel.forward(data.params, {name: x[2:] for name, x in data.inputs.items()}, first)
            assert_equal(rest[0], {name: y[2:] for name, y in expected.items()}, where)
            assert_equal(rest[1], last, where)
            stream = kernel.stream(data.params, batch, state)
            for _ in range(2):  # from the same state again, in memory that was used
                for t in range(T):
                    outputs = stream.step({name: x[t] for name, x in data.inputs.items()})
                    assert_equal(outputs, {name: y[t] for name, y in expected.items()}, f"{where}, t = {t}")
                assert_equal(stream.state, last, where)
                stream.restore(state)


@pytest.mark.usefixtures("small_layers")
def test_what_few_networks_have_computes_what_it_does_apart(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parallel edges, shared weights, masks, learned delays, ports, learned initial values, a loss for each output."""
    seed = {"numpy": 50, "c": 23, "cupy": 23}[backend]
    graph, losses = with_rarities(random_units(seed, units=12), seed)
    kernel = rg.compile(graph, loss=losses, dtype="float64", wrt=ALL, backend=backend)
    assert kernel.program.layers, f"seed {seed}"
    reference = apart(monkeypatch, graph, loss=losses, dtype="float64", wrt=ALL)
    data = Data(reference, seed, 7, 3)
    data.targets["y"] = np.random.default_rng(seed).integers(0, 2, (7, 3))
    for state in (None, data.state):
        found, expected = (each.forward(data.params, data.inputs, state) for each in (kernel, reference))
        assert_equal(found[0], expected[0], f"seed {seed}")
        assert_equal(found[1], expected[1], f"seed {seed}")
        arguments = data.params, data.inputs, data.targets, state
        (ours, derived), (loss, gradients) = (each.loss_and_gradient(*arguments) for each in (kernel, reference))
        np.testing.assert_allclose(ours, loss, err_msg=f"seed {seed}")
        assert_equal(derived, gradients, f"seed {seed}")
        assert_equal(derived.inputs, gradients.inputs, f"seed {seed}")
        assert_equal(derived.state, gradients.state, f"seed {seed}")


@pytest.mark.usefixtures("small_layers")
@pytest.mark.parametrize("seed", range(300, 303))
def test_system_of_layers_evaluates_as_its_program_is_interpreted(seed: int) -> None:
    graph = random_units(seed, units=6)
    kernel = rg.compile(graph, dtype="float64", wrt=ALL)
    data = Data(kernel, seed, 3, 2)
    program, system = kernel.program, kernel.equations
    packed = kernel.module.pack(data.params)
    for function in program.functions:
        verify_function(function)
        for passes in ((expand_pointwise,), (sink_pointwise, fuse_pointwise, keep_in_registers)):
            changed = function
            for change in passes:
                changed = change(changed)
                verify_function(changed)
    gradient = np.zeros(program.vector_size)
    given = {"inputs": data.inputs, "targets": data.targets, "state": data.state}
    results = Interpreter(3, 2, packed.vector, gradient, given).run(program.functions[2])
    loss, gradients = kernel.loss_and_gradient(data.params, data.inputs, data.targets, data.state)
    np.testing.assert_allclose(results["loss"], loss, err_msg=f"seed {seed}")
    np.testing.assert_allclose(gradient, gradients.vector, **CLOSE, err_msg=f"seed {seed}")
    assert_equal(results["input_gradient"], gradients.inputs, f"seed {seed}")

    def joined(arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
        return np.concatenate([arrays[unit] for unit in system.layers.get(name, (name,))], axis=2)

    signals = {
        name: joined(data.inputs if signal.kind == "input" else data.targets, signal.origin or name)
        for name, signal in system.signals.items()
        if signal.kind in ("input", "target")
    }
    signals["w"] = np.full((3, 2, 1), 1 / 6)
    places = {place.name: place for place in program.drawn}
    inner = {name: packed.vector[places[name].places()].reshape(shape) for name, shape in system.parameters.items()}
    state = kernel.module.initial_state(2, packed)
    for name, value in data.state.items():
        state[name] = value
    evaluation = Evaluation(system, 3, 2, signals, inner, {**state.layers, **state.nodes})
    np.testing.assert_allclose(evaluation.total(system.total("loss")), loss)
    if "wide" in data.state or not isinstance(system.signals["wide"].initial, str):
        for total in system.totals:
            if total.of is not None:
                derived = gradients.vector[places[total.of].places()].reshape(system.parameters[total.of])
                np.testing.assert_allclose(evaluation.total(total), derived, **CLOSE, err_msg=f"{seed}, {total.name}")


@pytest.mark.usefixtures("small_layers")
def test_gradient_of_layers_is_that_of_the_unrolled_loss() -> None:
    """Exactly: sympy's derivative of the loss, unrolled with each weight a symbol."""
    graph = sparse_network(4, seed=3, edges=2, longest=3)
    rows = check_exact(rg.validate(graph), "mse", seed=0, points=1, effort=2000)
    assert {"dL/dW_u_u", "dL/dW_x0_u", "dL/db_u", "dL/du(t<=0)"} <= {row.quantity for row in rows}
    assert all(row.error == 0 for row in rows)


@pytest.mark.parametrize("make", [lambda apart: elman(3, 12, 2, apart), lambda apart: lstm(3, 9, apart)])
def test_layers_and_units_are_the_same_network(make: Any) -> None:
    """The same loss, gradients, states, steps and Hessian products; the same products, too."""
    layers, units = (rg.compile(make(apart), dtype="float64") for apart in (False, True))
    assert not [edge for edge in units.compilation.grouping.model.edges if edge.structure == "sparse"]
    assert {len(layer.units) for layer in units.program.layers.values()} == {
        size for size in (*layers.program.inputs.values(), *layers.program.outputs.values(), 12, 9) if size > 1
    } - ({9} if "a" in layers.program.states else {12})
    forward = [len(kernel.program.functions[0].body) for kernel in (layers, units)]
    assert forward[0] == forward[1]
    data = Data(layers, 5, 6, 2)
    (output,) = layers.program.outputs
    count = layers.program.outputs[output]
    params, inputs, targets = by_unit(data.params), spread(data.inputs), spread(data.targets)
    state = {name: value for name, value in spread(data.state).items() if name in units.program.states}
    loss, gradients = layers.loss_and_gradient(data.params, data.inputs, data.targets, data.state)
    ours, derived = units.loss_and_gradient(params, inputs, targets, state)
    np.testing.assert_allclose(ours, loss * count, rtol=1e-12)  # a mean over one unit each, summed
    assert_equal(derived, {name: value * count for name, value in by_unit(gradients).items()}, "gradients")
    expected, found = layers.forward(data.params, data.inputs), units.forward(params, inputs)
    assert_equal(found[0], spread(expected[0]), "outputs")
    assert_equal(found[1], spread(expected[1]), "state")
    stream = units.stream(params, 2)
    for t in range(6):
        outputs = stream.step({name: x[t] for name, x in inputs.items()})
        assert_equal(outputs, {name: y[t] for name, y in spread(expected[0]).items()}, f"t = {t}")
    pure, _ = units.step(params, None, {name: x[0] for name, x in inputs.items()})
    assert_equal(pure, {name: y[0] for name, y in spread(expected[0]).items()}, "step")
    product = layers.hessian_vector_product(data.params, data.params, data.inputs, data.targets)
    ours = units.hessian_vector_product(params, params, inputs, targets)
    assert_equal(ours, {name: value * count for name, value in by_unit(product).items()}, "Hessian")
    jacobian = units.jacobian(params, {name: x[:2, :1] for name, x in inputs.items()})
    assert set(jacobian) == set(outputs)


@pytest.mark.usefixtures("small_layers")
def test_hessian_product_and_windows_of_sparse_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = random_units(11)
    kernel, reference = rg.compile(graph, dtype="float64"), apart(monkeypatch, graph, dtype="float64")
    data = Data(reference, 1, 7, 2)
    arguments = data.params, data.params, data.inputs, data.targets, data.state
    found, expected = kernel.hessian_vector_product(*arguments), reference.hessian_vector_product(*arguments)
    assert_equal(found, expected, "Hessian")
    options = {"dtype": "float64", "method": "tbptt", "k1": 2, "k2": 5}
    kernel, reference = rg.compile(graph, **options), apart(monkeypatch, graph, **options)
    loss, gradients = reference.loss_and_gradient(data.params, data.inputs, data.targets, data.state)
    ours, derived = kernel.loss_and_gradient(data.params, data.inputs, data.targets, data.state)
    np.testing.assert_allclose(ours, loss)
    assert_equal(derived, gradients, "windows")
    states: list[Any] = [None, None]
    for t in range(4):
        step = [{name: value[t] for name, value in arrays.items()} for arrays in (data.inputs, data.targets)]
        results = [each.step_and_gradient(data.params, states[k], *step) for k, each in enumerate((kernel, reference))]
        states = [result[2] for result in results]
        np.testing.assert_allclose(results[0][0], results[1][0])
        if results[1][1] is not None:
            assert_equal(results[0][1], results[1][1], f"step {t}")


def test_size_of_the_work_does_not_follow_the_number_of_units() -> None:
    """Equations and statements are those of layers, whatever the number of units; names and patterns are packed."""
    kernels = [rg.compile(sparse_network(units)) for units in (120, 480)]
    equations = [len(kernel.equations.equations) for kernel in kernels]
    statements = [len(list(function.statements())) for kernel in kernels for function in kernel.program.functions]
    assert equations[0] == equations[1] < 20
    assert statements[:4] == statements[4:]
    assert len(kernels[1].source) < len(kernels[0].source) + 40 * 10 * 360
    assert max(map(len, kernels[1].source.splitlines())) < 4000


def test_names_are_those_of_the_units() -> None:
    graph = sparse_network(150, edges=8)
    kernel = rg.compile(graph, dtype="float64")
    params = kernel.init(0)
    edges = {f"W_{source}_{destination}" for source, destination in graph.edges()}
    assert set(params) == edges | {f"b_{name}" for name in graph if name[0] in "uy"}
    assert np.shares_memory(params["b_u3"], params.vector)
    params["b_u3"] = 2.5
    assert (params.vector == 2.5).sum() == 1
    weights = np.array([params[name] for name in edges if "_u" in name[2:]])
    assert 0.2 < weights.std() < 0.6  # 8 weights into a unit: far below those of single edges, 1
    ruled = kernel.init(0, rules={"bias": "ones", "b_u4": "zeros"})
    assert ruled["b_u3"] == 1 and ruled["b_u4"] == 0 and ruled["W_x0_" + next(iter(graph["x0"]))] != 0
    text = str(kernel.equations)
    assert "the units of u, declared one by one: u0, u1" in text and "u149" in text
    assert "sparse matrix of 1200 weights" in text and "t-d" in text
    assert r"\tag" in kernel.equations.latex()
    assert "s_u(t)" in str(kernel.equations.cost()) and "history" in str(kernel.explain())


def test_state_by_unit_is_a_view_of_its_layer() -> None:
    kernel = rg.compile(sparse_network(20, edges=3, longest=4), dtype="float64")
    params, data = kernel.init(1), Data(kernel, 0, 5, 2)
    _, state = kernel.forward(params, data.inputs)
    assert set(state) == set(kernel.program.states) and len(state) == len(kernel.program.states)
    for name, (depth, size, _) in kernel.program.states.items():
        assert state[name].shape == (depth, 2, size)
    assert "x0" not in state and "nobody" not in state
    expected = kernel.forward(params, data.inputs, state)[0]["y0"]
    np.testing.assert_array_equal(kernel.forward(params, data.inputs, dict(state))[0]["y0"], expected)
    kept = state.copy()
    state["u3"] = 9.0
    assert (state["u3"] == 9.0).all() and not (kept["u3"] == 9.0).any()
    np.testing.assert_array_equal(kernel.forward(params, data.inputs, kept)[0]["y0"], expected)
    start = kernel.initial_state(2)
    assert not any(start[name].any() for name in start)
    with pytest.raises(ValueError, match="layer"):
        kernel.forward(params, {name: x[:, :1] for name, x in data.inputs.items()}, kept)


def test_what_is_wrong_is_named_by_unit() -> None:
    kernel = rg.compile(elman(3, 12, 2, apart=True), dtype="float64")
    params, data = kernel.init(0), Data(kernel, 0, 4, 2)
    wrong = {**data.inputs, "x1": data.inputs["x1"].copy()}
    wrong["x1"][2, 1] = np.nan
    with pytest.raises(rg.DataError, match="input 'x1': found nan"):
        kernel.forward(params, wrong)
    with pytest.raises(rg.DataError, match="no array for 'x2'"):
        kernel.forward(params, {name: data.inputs[name] for name in ("x0", "x1")})
    with pytest.raises(rg.DataError, match="unknown name 'x7'"):
        kernel.forward(params, {**data.inputs, "x7": data.inputs["x0"]})
    with pytest.raises(rg.DataError, match="target of 'y1'"):
        kernel.loss(params, data.inputs, {**data.targets, "y1": data.targets["y1"][:2]})
    with pytest.raises(rg.UnsupportedError, match="units run as layers"):
        kernel.jacobian(params, data.inputs, method="rtrl")


def test_layers_are_taken_and_checked_as_one_array() -> None:
    kernel = rg.compile(elman(3, 12, 2, apart=True), dtype="float64")
    params, data = kernel.init(0), Data(kernel, 0, 4, 2)
    whole = {"x": np.concatenate([data.inputs[f"x{k}"] for k in range(3)], axis=2)}
    targets = {"y": np.concatenate([data.targets[f"y{k}"] for k in range(2)], axis=2)}
    assert kernel.loss(params, whole, targets) == kernel.loss(params, data.inputs, data.targets)
    with pytest.raises(rg.DataError, match="input 'x'"):
        kernel.forward(params, {"x": whole["x"][:, :, :2]})
    streams = [kernel.stream(params, 2) for _ in range(2)]
    for t in range(4):
        steps = [{name: x[t] for name, x in given.items()} for given in (whole, data.inputs)]
        results = [stream.step(step) for stream, step in zip(streams, steps, strict=True)]
        assert_equal(results[0], results[1], f"t = {t}")


def test_saved_file_stands_alone(tmp_path: Any) -> None:
    kernel = rg.compile(sparse_network(300), dtype="float64")
    data = Data(kernel, 0, 4, 2)
    path = kernel.save(tmp_path / "units_numpy.py")
    namespace: dict[str, Any] = {"__name__": "units_numpy"}
    exec(compile(path.read_text(), str(path), "exec"), namespace)
    params = namespace["init"](0)
    assert len(params) == len(kernel.parameter_shapes) and list(params) == list(kernel.parameter_shapes)
    outputs, state = namespace["forward"](params, data.inputs)
    assert_equal(outputs, kernel.forward(kernel.init(0), data.inputs)[0], "outputs")
    step, _ = namespace["step"](params, state, {name: x[0] for name, x in data.inputs.items()})
    assert set(step) == set(kernel.program.outputs)
    loss, gradients = namespace["loss_and_gradient"](params, data.inputs, data.targets)
    assert loss > 0 and len(gradients) == len(params)


@pytest.mark.parametrize(
    "change",
    [
        lambda graph: graph.add_edge("x0", "a0", parameter="W_shared", key="other"),
        lambda graph: graph.remove_nodes_from([f"a{k}" for k in range(6, 12)]),
    ],
)
def test_what_is_shared_or_few_stays_apart(change: Any) -> None:
    graph = elman(3, 12, 2, apart=True)
    change(graph)
    graph.add_edge("x1", "a1", parameter="W_shared", key="other")
    kernel = rg.compile(graph)
    within = {unit for layer in kernel.program.layers.values() for unit in layer.units}
    assert not within & {"a0", "a1", "x1"}


def test_look_ahead_and_classes_stay_apart() -> None:
    graph = elman(3, 12, 2, apart=True)
    graph.add_edge("x0", "y0", delay=-1, parameter="W_ahead")
    assert not rg.compile(graph).program.layers
    with pytest.raises(rg.OptionError, match="cross_entropy on output 'y0' of size 1"):
        rg.compile(elman(3, 12, 2, apart=True), loss="cross_entropy")


def test_outputs_of_one_layer_have_one_loss() -> None:
    graph = elman(3, 12, 4, apart=True)
    losses = {"y0": "mse", "y1": "mse", "y2": "abs(y - target)"}
    kernel = rg.compile(graph, loss=losses, dtype="float64")
    assert [layer.units for name, layer in kernel.program.layers.items() if name.startswith("y")] == [("y0", "y1")]
    assert kernel.losses == {"y0": "mse", "y1": "mse", "y2": "expression"}
    data = Data(kernel, 0, 3, 2)
    params = kernel.init(0)
    outputs = kernel.forward(params, data.inputs)[0]
    given = {name: data.targets[name] for name in losses}
    error = {name: outputs[name] - given[name] for name in losses}
    expected = (error["y0"] ** 2).mean() + (error["y1"] ** 2).mean() + abs(error["y2"]).mean()
    assert kernel.loss(params, data.inputs, given) == pytest.approx(expected)
    rows = kernel.jacobian(params, data.inputs)["y0"]  # its own loss divides the outputs otherwise
    step = 1e-6
    index = 17
    moved = params.copy()
    moved.vector[index] += step
    difference = (kernel.forward(moved, data.inputs)[0]["y0"] - outputs["y0"]) / step
    np.testing.assert_allclose(rows[..., index], difference, atol=1e-5)


def test_components_are_those_of_networkx_each_after_what_it_reads() -> None:
    for seed in range(300):
        choose = random.Random(seed)
        names = [str(k) for k in range(choose.randint(1, 12))]
        reads = [(choose.choice(names), choose.choice(names)) for _ in range(choose.randint(0, 25))]
        graph = nx.DiGraph(reads)
        graph.add_nodes_from(names)
        found = components(names, reads)
        expected = {frozenset(each) for each in nx.strongly_connected_components(graph)}
        assert {frozenset(each) for each in found} == expected and sum(map(len, found)) == len(names), f"seed {seed}"
        place = {name: k for k, component in enumerate(found) for name in component}
        assert all(place[source] <= place[destination] for source, destination in reads), f"seed {seed}"


def test_long_chains_and_loops_of_their_own() -> None:
    """A chain of delays, a layer for each unit else, becomes one loop; units with loops of their own one layer."""
    chain = nx.MultiDiGraph()
    chain.add_node("x", kind="input", size=1)
    names = [f"u{k}" for k in range(100)]
    chain.add_nodes_from(names, size=1, activation="tanh")
    chain.add_node("y", kind="output", size=1)
    for source, destination in zip(["x", *names], [*names, "y"], strict=True):
        chain.add_edge(source, destination, delay=1)
    kernel = rg.compile(chain, dtype="float64")
    assert [len(layer.units) for layer in kernel.program.layers.values()] == [100]
    loops = nx.MultiDiGraph()
    loops.add_node("x", kind="input", size=1)
    loops.add_node("y", kind="output", size=1)
    for name in names:
        loops.add_node(name, size=1, activation="tanh")
        loops.add_edge("x", name)
        loops.add_edge(name, name, delay=1)
        loops.add_edge(name, "y")
    kernel = rg.compile(loops, dtype="float64")
    structures = {(edge.source, edge.destination): edge.structure for edge in kernel.compilation.grouping.model.edges}
    assert structures == {("x", "u"): "dense", ("u", "u"): "diagonal", ("u", "y"): "dense"}


def test_what_goes_node_by_node(small_layers: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Checkpoints run the units apart; what is saved as C reads the parameters where the layers have them."""
    graph = random_units(3)
    kernel = rg.compile(graph, dtype="float64")
    reference = apart(monkeypatch, graph, dtype="float64")
    data = Data(reference, 3, 9, 2)
    windows = rg.compile(graph, dtype="float64", checkpoint=4)
    arguments = data.params, data.inputs, data.targets, data.state
    assert_equal(windows.loss_and_gradient(*arguments)[1], reference.loss_and_gradient(*arguments)[1], "checkpoints")
    folders = {"by layer": kernel, "apart": reference}
    for folder, each in folders.items():
        each.save_c(tmp_path / folder, data.params)
    found, expected = ([path.read_text() for path in sorted((tmp_path / folder).glob("*.[ch]"))] for folder in folders)
    assert found[:2] == expected[:2], "network.c and network.h"
