"""Metamorphic checks over random networks, and planted errors that they must find."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import metamorphic
import networkx as nx
import numpy as np
import pytest
from metamorphic import CHECKS, Case, Variant, check_changes, failures, in_unit_delays, metamorphic_case, reordered

import rnngraph as rg

GRAPHS, AT_ONCE = 200, 10
PLANTED = range(8)  # seeds among which an error must be found


@pytest.mark.parametrize("first", range(0, GRAPHS, AT_ONCE))
def test_what_must_not_matter_does_not(first: int) -> None:
    """Names, order of insertion, unit delays; batches split, padded, cut in pieces, stepped."""
    found = failures(range(first, first + AT_ONCE))
    assert not found, f"{len(found)} failures:\n" + "\n".join(found)


@pytest.mark.parametrize("feature", metamorphic.FEATURES)
def test_features_keep_graphs_valid_and_change_some(feature: metamorphic.Feature) -> None:
    changed = 0
    for seed in range(20):
        graph = metamorphic.random_graph(seed)
        before = str(list(graph.nodes(data=True)) + list(graph.edges(data=True)))
        feature(graph, np.random.default_rng(seed))
        rg.validate(graph)
        changed += before != str(list(graph.nodes(data=True)) + list(graph.edges(data=True)))
    assert changed > 0


def without_a_bias(graph: nx.MultiDiGraph) -> None:
    next(data for data in graph.nodes.values() if isinstance(data.get("bias"), str))["bias"] = False


def with_swapped_biases(graph: nx.MultiDiGraph) -> None:
    biases = [data for data in graph.nodes.values() if isinstance(data.get("bias"), str)]
    for first, second in itertools.combinations(biases, 2):
        if first["size"] == second["size"]:
            first["bias"], second["bias"] = second["bias"], first["bias"]
            return


def without_initial_numbers(graph: nx.MultiDiGraph) -> None:
    for data in graph.nodes.values():
        if isinstance(data.get("initial"), float):
            del data["initial"]


def with_a_shorter_delay(graph: nx.MultiDiGraph) -> None:
    for _, _, data in graph.edges(data=True):
        if isinstance(data.get("delay"), int) and data["delay"] > 1:
            data["delay"] -= 1
            return


def with_a_swapped_pair_of_ports(graph: nx.MultiDiGraph) -> None:
    for _, _, data in graph.edges(data=True):
        data["port"] = {"p": "q", "q": "p"}.get(data.get("port"), data.get("port"))


@pytest.mark.parametrize(
    "spoil",
    [without_a_bias, with_swapped_biases, without_initial_numbers, with_a_shorter_delay, with_a_swapped_pair_of_ports],
)
@pytest.mark.parametrize("change", [reordered, in_unit_delays])
def test_a_wrong_change_of_the_network_is_found(
    spoil: Callable[[nx.MultiDiGraph], None], change: metamorphic.Change
) -> None:
    def wrong(variant: Variant, case: Case) -> Variant:
        graph = rg.explicit_parameters(variant.graph)
        spoil(graph)
        state = {name: array[-rg.validate(graph).depth(name) :] for name, array in variant.state.items()}
        return change(dataclasses.replace(variant, graph=graph, state=state), case)

    found = any(failures(range(seed, seed + 1), (lambda case: check_changes(case, (wrong,)),)) for seed in PLANTED)
    assert found, f"{spoil.__name__}, then {change.__name__}, is not found among the seeds {list(PLANTED)}"


class Wrong:
    """A kernel with an error in it."""

    def __init__(self, kernel: rg.Kernel) -> None:
        self.kernel = kernel

    def __getattr__(self, name: str) -> Any:
        return getattr(self.kernel, name)


class MixingSequences(Wrong):
    def forward(self, parameters: Any, inputs: Any, state: Any = None) -> Any:
        outputs, state = self.kernel.forward(parameters, inputs, state)
        return {name: array + array.mean(axis=1, keepdims=True) for name, array in outputs.items()}, state


class IgnoringWeights(Wrong):
    def loss_and_gradient(self, parameters: Any, inputs: Any, targets: Any, state: Any, weights: Any) -> Any:
        return self.kernel.loss_and_gradient(parameters, inputs, targets, state)


class ForgettingTheState(Wrong):
    def forward(self, parameters: Any, inputs: Any, state: Any = None) -> Any:
        return self.kernel.forward(parameters, inputs)


class SteppingTwice(Wrong):
    def step(self, parameters: Any, state: Any, inputs: Any) -> Any:
        return self.kernel.step(parameters, self.kernel.step(parameters, state, inputs)[1], inputs)


@pytest.mark.parametrize(
    ("wrong", "check"),
    [
        (MixingSequences, "check_batch_split"),
        (IgnoringWeights, "check_batch_split"),
        (IgnoringWeights, "check_padding"),
        (ForgettingTheState, "check_chunks"),
        (SteppingTwice, "check_steps"),
    ],
)
def test_a_wrong_kernel_is_found(wrong: type[Wrong], check: str) -> None:
    chosen = next(one for one in CHECKS if one.__name__ == check)
    found = 0
    for seed in range(3):
        case = metamorphic_case(seed)
        chosen(case)
        case = dataclasses.replace(case, kernel=wrong(case.kernel))  # type: ignore[arg-type]
        try:
            chosen(case)
        except AssertionError:
            found += 1
    assert found, f"{wrong.__name__} passes {check}"
