"""Metamorphic checks: changes of a network, or of how it is called, that must change no number.

``metamorphic_case(seed)`` makes a random network with its kernel and data; each check of ``CHECKS`` takes such a case
and raises AssertionError. Nothing here knows what a network computes: parameters, inputs and states are made from the
shapes that the kernel states. So a further feature of graphs is one function in ``FEATURES``, which changes a valid
random graph into another valid one; all checks then run on it, too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
from checking import assert_all_close, assert_close, losses_of
from random_graphs import random_graph

import rnngraph as rg

Array = npt.NDArray[Any]
Arrays = dict[str, Array]

TOLERANCE = 1e-12
STEPS, BATCH = 7, 3


@dataclass(frozen=True)
class Data:
    """What a kernel is called with: float64, time-major; ``weights`` (T, batch), some of them 0."""

    parameters: Arrays
    inputs: Arrays
    targets: Arrays
    state: Arrays
    weights: Array


@dataclass(frozen=True)
class Result:
    """What a kernel computes from it."""

    outputs: Arrays
    state: Arrays
    loss: Array
    gradients: Arrays
    input_gradients: Arrays


@dataclass(frozen=True)
class Case:
    """A network, compiled, with data; ``rng`` is for the random choices of a check."""

    seed: int
    graph: nx.MultiDiGraph
    losses: Mapping[str, str]
    kernel: rg.Kernel
    data: Data
    rng: np.random.Generator = field(compare=False)

    @cached_property
    def result(self) -> Result:
        return run(self.kernel, self.data)


# Features beyond those of random_graphs, each added to some of the graphs.


def name_initial_values(graph: nx.MultiDiGraph, rng: np.random.Generator) -> None:
    """Learned initial values under names of their own, one name for all nodes of a size."""
    for data in graph.nodes.values():
        if data.get("initial") == "parameter":
            data["initial"] = f"start{data['size']}_0"


def _some_weights(
    graph: nx.MultiDiGraph, rng: np.random.Generator, structures: tuple[str, ...], share: float = 0.5
) -> list[tuple[str, str, dict[str, Any]]]:
    """Some of the weighted edges with one delay and no shared weight; all of them have a name of their own then."""
    found = []
    for k, (source, destination, data) in enumerate(graph.edges(data=True)):
        weighted = data.get("port", "s") == "s" and data.get("structure", "dense") in structures
        alone = isinstance(data.get("delay", 0), int) and data.get("parameter") != "shared_weight"
        if weighted and alone and rng.random() < share:
            data.setdefault("parameter", f"weight{k}")
            found.append((source, destination, data))
    return found


def mask_weights(graph: nx.MultiDiGraph, rng: np.random.Generator) -> None:
    """Dense edges with some of their weights left out."""
    for source, destination, data in _some_weights(graph, rng, ("dense",)):
        mask = rng.random((graph.nodes[source]["size"], graph.nodes[destination]["size"])) < 0.6
        mask[0, 0] = True
        data |= {"structure": "masked", "mask": mask}


def delay_each_pair(graph: nx.MultiDiGraph, rng: np.random.Generator) -> None:
    """Dense edges with a delay for each pair of units."""
    for source, destination, data in _some_weights(graph, rng, ("dense", "masked")):
        size = graph.nodes[source]["size"], graph.nodes[destination]["size"]
        data["delay"] = (data.get("delay", 0) + rng.integers(0, 3, size=size)).tolist()


def write_expressions(graph: nx.MultiDiGraph, rng: np.random.Generator) -> None:
    """Weights that are expressions of parameters."""
    for _, _, data in _some_weights(graph, rng, ("dense", "diagonal", "masked")):
        name = data.pop("parameter")
        data["expression"] = str(rng.choice([f"tanh({name})", f"{name}*{name}_scale", f"square({name}) - 0.3"]))


def learn_delays(graph: nx.MultiDiGraph, rng: np.random.Generator) -> None:
    """Learned delays on dense and diagonal edges."""
    for _, _, data in _some_weights(graph, rng, ("dense", "diagonal"), share=0.3):
        first = max(1, data.get("delay", 0))
        data["delay"] = {"min": first, "max": first + 2, "learned": True, "shared": bool(rng.random() < 0.5)}


def lengthen_delays(graph: nx.MultiDiGraph, rng: np.random.Generator) -> None:
    """Every delay from 1 on is longer by one number of steps, so that loops take several steps at once."""
    extra = int(rng.integers(1, 4))
    for _, _, data in graph.edges(data=True):
        delay = data.get("delay", 0)
        if isinstance(delay, dict):
            data["delay"] = delay | {"min": delay["min"] + extra, "max": delay["max"] + extra}
        elif np.ndim(delay) == 0:
            data["delay"] = delay + extra if delay > 0 else delay
        else:
            longer = np.array(delay)
            data["delay"] = np.where(longer > 0, longer + extra, longer).tolist()


Feature = Callable[[nx.MultiDiGraph, np.random.Generator], None]
FEATURES: tuple[Feature, ...] = (
    name_initial_values,
    mask_weights,
    delay_each_pair,
    learn_delays,
    write_expressions,
    lengthen_delays,
)


def metamorphic_graph(seed: int) -> nx.MultiDiGraph:
    """A random graph, with each further feature in a quarter of them."""
    graph = random_graph(seed)
    rng = np.random.default_rng([seed, 4])
    for feature in FEATURES:
        if rng.random() < 1 / 4:
            feature(graph, rng)
    return graph


def metamorphic_case(seed: int) -> Case:
    """The same case for the same seed."""
    graph = metamorphic_graph(seed)
    losses = losses_of(graph, seed)
    kernel = compile_case(graph, losses)
    rng = np.random.default_rng([seed, 5])
    return Case(seed, graph, losses, kernel, random_data(kernel, rng), rng)


def compile_case(graph: nx.MultiDiGraph, losses: Mapping[str, str]) -> rg.Kernel:
    return rg.compile(graph, loss=losses, dtype="float64", wrt=("parameters", "inputs"))


def random_data(kernel: rg.Kernel, rng: np.random.Generator, steps: int = STEPS) -> Data:
    """Data of the shapes that the kernel states; a state for some of the nodes that have one."""
    parameters = {
        name: rng.normal(scale=0.6 / np.sqrt(shape[0]) if len(shape) > 1 else 0.4, size=shape)
        for name, shape in kernel.parameter_shapes.items()
    }
    inputs = {name: rng.normal(size=(steps, BATCH, size)) for name, size in kernel.program.inputs.items()}
    targets = random_targets(kernel, steps, rng)
    full = kernel.initial_state(BATCH, parameters)
    state = {name: rng.normal(scale=0.5, size=array.shape) for name, array in full.items() if rng.random() < 0.5}
    weights = np.where(rng.random((steps, BATCH)) < 0.25, 0.0, rng.uniform(0.5, 2.0, size=(steps, BATCH)))
    weights[0] = 1.0  # no sequence without weight
    return Data(parameters, inputs, targets, state, weights)


def random_targets(kernel: rg.Kernel, steps: int, rng: np.random.Generator) -> Arrays:
    """Targets that suit each output's loss."""
    targets: Arrays = {}
    for name, loss in kernel.losses.items():
        shape = (steps, BATCH, kernel.program.outputs[name])
        if loss == "cross_entropy":
            targets[name] = rng.integers(0, shape[2], size=shape[:2])
        else:
            targets[name] = rng.random(shape) if loss == "binary_cross_entropy" else rng.normal(size=shape)
    return targets


def run(kernel: Any, data: Data) -> Result:
    outputs, state = kernel.forward(data.parameters, data.inputs, data.state)
    loss, gradients = kernel.loss_and_gradient(data.parameters, data.inputs, data.targets, data.state, data.weights)
    return Result(dict(outputs), dict(state), np.asarray(loss), dict(gradients), dict(gradients.inputs))


def assert_same(found: Result, expected: Result, what: str) -> None:
    """All numbers but the state, whose form a check may change."""
    assert_all_close(found.outputs, expected.outputs, TOLERANCE, f"{what}: output")
    assert_close(found.loss, expected.loss, TOLERANCE, f"{what}: loss")
    assert_all_close(found.gradients, expected.gradients, TOLERANCE, f"{what}: gradient")
    assert_all_close(found.input_gradients, expected.input_gradients, TOLERANCE, f"{what}: input gradient")


# Changes of the network.


@dataclass(frozen=True)
class Variant:
    """A changed network, with its state, and what each node of the first one is called in it."""

    graph: nx.MultiDiGraph
    state: Arrays
    names: Mapping[str, str]


Change = Callable[[Variant, Case], Variant]


def renamed(variant: Variant, case: Case) -> Variant:
    """Other names of nodes, which are not even strings; parameters keep theirs."""
    written = rg.explicit_parameters(variant.graph)
    numbers = case.rng.permutation(len(written))
    labels: dict[Hashable, Hashable] = {node: (int(k), "node") for node, k in zip(written, numbers, strict=True)}
    texts = {str(node): str(label) for node, label in labels.items()}
    return Variant(
        nx.relabel_nodes(written, labels),
        {texts[name]: array for name, array in variant.state.items()},
        {first: texts[name] for first, name in variant.names.items()},
    )


def reordered(variant: Variant, case: Case) -> Variant:
    """Nodes and edges inserted in another order."""
    nodes, edges = list(variant.graph.nodes(data=True)), list(variant.graph.edges(data=True))
    graph = nx.MultiDiGraph()
    graph.add_nodes_from(nodes[int(k)] for k in case.rng.permutation(len(nodes)))
    for k in case.rng.permutation(len(edges)):
        source, destination, data = edges[int(k)]
        graph.add_edge(source, destination, **data)
    return dataclasses.replace(variant, graph=graph)


def in_unit_delays(variant: Variant, case: Case) -> Variant:
    """An edge of delay n as n unit delays."""
    graph, _, state = rg.expand_delays(variant.graph, None, variant.state)
    assert all(data.get("delay", 0) in (0, 1) for _, _, data in graph.edges(data=True))
    return dataclasses.replace(variant, graph=graph, state=state)


def check_changes(case: Case, changes: tuple[Change, ...] = (renamed, reordered, in_unit_delays)) -> None:
    """All changes of the network one after the other, compiled once; on failure each alone, to see which it is."""
    if has_learned_delays(case.graph):
        changes = tuple(change for change in changes if change is not in_unit_delays)
    try:
        _check_variant(case, changes)
    except AssertionError:
        if len(changes) > 1:
            for change in changes:
                _check_variant(case, (change,))
        raise


def has_learned_delays(graph: nx.MultiDiGraph) -> bool:
    """Whether the graph has edges that no graph of unit delays equals."""
    return any(isinstance(data.get("delay"), dict) for _, _, data in graph.edges(data=True))


def _check_variant(case: Case, changes: tuple[Change, ...]) -> None:
    names = {str(node): str(node) for node in case.graph}
    variant = Variant(case.graph, case.data.state, names)
    for change in changes:
        variant = change(variant, case)
    back = {name: first for first, name in variant.names.items()}
    kernel = compile_case(variant.graph, {variant.names[output]: loss for output, loss in case.losses.items()})
    data = Data(
        {name: case.data.parameters[name] for name in kernel.parameter_shapes},
        {variant.names[name]: array for name, array in case.data.inputs.items()},
        {variant.names[name]: array for name, array in case.data.targets.items()},
        variant.state,
        case.data.weights,
    )
    found = run(kernel, data)
    found = dataclasses.replace(
        found,
        outputs={back[name]: array for name, array in found.outputs.items()},
        input_gradients={back[name]: array for name, array in found.input_gradients.items()},
    )
    assert_same(found, case.result, ", ".join(change.__name__ for change in changes))
    if has_learned_delays(case.graph):
        found_state, expected_state = found.state, case.result.state
    else:  # a graph may have copies of its own
        found_state = rg.merge_delays(variant.graph, data.parameters, found.state)[2]
        expected_state = rg.merge_delays(case.graph, case.data.parameters, case.result.state)[2]
    found_state = {back[name]: array for name, array in found_state.items()}
    assert_all_close(found_state, expected_state, TOLERANCE, "state")


# Changes of the call.


def check_batch_split(case: Case) -> None:
    """The sequences of a batch do not know each other; losses and gradients add up as the weights do."""
    cut = int(case.rng.integers(1, BATCH))
    parts = [run(case.kernel, _sequences(case.data, part)) for part in (slice(0, cut), slice(cut, BATCH))]
    weights = [case.data.weights[:, :cut].sum(), case.data.weights[:, cut:].sum()]
    shares = [weight / sum(weights) for weight in weights]
    whole = case.result

    def joined(which: str, axis: int) -> Arrays:
        first, second = (getattr(part, which) for part in parts)
        return {name: np.concatenate([first[name], second[name]], axis=axis) for name in getattr(whole, which)}

    assert_all_close(joined("outputs", 1), whole.outputs, TOLERANCE, "batch split: output")
    assert_all_close(joined("state", 1), whole.state, TOLERANCE, "batch split: state")
    loss = sum(share * part.loss for share, part in zip(shares, parts, strict=True))
    assert_close(loss, whole.loss, TOLERANCE, "batch split: loss")
    gradients = {
        name: sum(share * part.gradients[name] for share, part in zip(shares, parts, strict=True))
        for name in whole.gradients
    }
    assert_all_close(gradients, whole.gradients, TOLERANCE, "batch split: gradient")


def _sequences(data: Data, part: slice) -> Data:
    def cut(arrays: Arrays) -> Arrays:
        return {name: array[:, part] for name, array in arrays.items()}

    return Data(data.parameters, cut(data.inputs), cut(data.targets), cut(data.state), data.weights[:, part])


def check_padding(case: Case) -> None:
    """Steps of weight 0 at the end, of any inputs and targets, change neither loss nor gradient."""
    data, more = case.data, int(case.rng.integers(1, 4))
    inputs = {name: case.rng.normal(size=(more, *array.shape[1:])) for name, array in data.inputs.items()}
    targets = random_targets(case.kernel, more, case.rng)
    padded = dataclasses.replace(
        data,
        inputs={name: np.concatenate([array, inputs[name]]) for name, array in data.inputs.items()},
        targets={name: np.concatenate([array, targets[name]]) for name, array in data.targets.items()},
        weights=np.concatenate([data.weights, np.zeros((more, BATCH))]),
    )
    found = run(case.kernel, padded)
    outside = {name: array[STEPS:] for name, array in found.input_gradients.items()}
    assert_all_close(
        outside, {name: 0.0 * array for name, array in outside.items()}, 0.0, "padding: gradient beyond it"
    )
    found = dataclasses.replace(
        found,
        outputs={name: array[:STEPS] for name, array in found.outputs.items()},
        input_gradients={name: array[:STEPS] for name, array in found.input_gradients.items()},
    )
    assert_same(found, case.result, "padding")


def check_chunks(case: Case) -> None:
    """A sequence in pieces, the state carried on, gives what the whole gives."""
    cuts = [int(cut) for cut in np.sort(case.rng.choice(np.arange(1, STEPS), size=2, replace=False))]
    state: Mapping[str, Array] = case.data.state
    pieces: list[Arrays] = []
    for start, stop in zip([0, *cuts], [*cuts, STEPS], strict=True):
        chunk = {name: array[start:stop] for name, array in case.data.inputs.items()}
        outputs, state = case.kernel.forward(case.data.parameters, chunk, state)
        pieces.append(dict(outputs))
    _assert_joined(pieces, state, case.result, f"chunks cut at {cuts}")


def check_steps(case: Case) -> None:
    """Step by step is forward."""
    state: Mapping[str, Array] = case.data.state
    pieces: list[Arrays] = []
    for t in range(STEPS):
        outputs, state = case.kernel.step(
            case.data.parameters, state, {name: array[t] for name, array in case.data.inputs.items()}
        )
        pieces.append({name: array[None] for name, array in outputs.items()})
    _assert_joined(pieces, state, case.result, "steps")


def _assert_joined(pieces: list[Arrays], state: Mapping[str, Array], whole: Result, what: str) -> None:
    joined = {name: np.concatenate([piece[name] for piece in pieces]) for name in whole.outputs}
    assert_all_close(joined, whole.outputs, TOLERANCE, f"{what}: output")
    assert_all_close(state, whole.state, TOLERANCE, f"{what}: state")


Check = Callable[[Case], None]
CHECKS: tuple[Check, ...] = (check_changes, check_batch_split, check_padding, check_chunks, check_steps)


def failures(seeds: range, checks: tuple[Check, ...] = CHECKS) -> list[str]:
    """One line or more for each check that fails, with its seed."""
    found = []
    for seed in seeds:
        case = metamorphic_case(seed)
        for check in checks:
            try:
                check(case)
            except AssertionError as error:
                found.append(f"metamorphic_case({seed}), {check.__name__}: {error}")
    return found
