"""``rg.compare``: the gradients of several learning rules at the same parameters, on the same data, beside that of
BPTT."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import networkx as nx
import numpy as np

from rnngraph.comparison import Comparison, RuleComparison
from rnngraph.compile import compile
from rnngraph.errors import OptionError, RNNGraphError, TrainingError
from rnngraph.kernel import Kernel
from rnngraph.rules import RULES, Rule, check_rule
from rnngraph.train import Adam, Optimizer, checks
from rnngraph.train.batches import Batch, Batches
from rnngraph.train.clipping import global_norm

ADAM = Adam(1e-2)
ALL = ("bptt", "rtrl", "focused", "bptt-rtrl", "snap", "rflo", "eprop", "uoro")
REPEATS = 3  # calls, of which the shortest counts


@dataclass
class _Run:
    """One rule on its way through the points of comparison."""

    rule: Rule
    kernel: Kernel | None = None
    refused: str = ""
    cosine: list[float] = field(default_factory=list)
    norm_ratio: list[float] = field(default_factory=list)
    seconds: float = math.inf


def compare(
    graph: nx.MultiDiGraph,
    data: object,
    methods: Iterable[str | tuple[str, Mapping[str, int]]] = ALL,
    loss: object = "mse",
    *,
    steps: int = 0,
    every: int | None = None,
    optimizer: Optimizer = ADAM,
    batch_size: int | None = None,
    seed: int = 0,
    dtype: str = "float64",
) -> Comparison:
    """The gradient of each rule beside that of BPTT: cosine and ratio of norms, cost, time of a call.

    ``data``: as ``fit`` takes it. ``methods``: names of rules, or (name, options) such as ("tbptt", {"k1": 5, "k2":
    10}). ``steps``: over so many updates of the parameters by BPTT and ``optimizer``, so that all rules see the same
    parameters; 0: at the initial ones alone, those of ``kernel.init(seed)``. The rules are compared before the first
    update and then after each ``every`` (a tenth of ``steps`` unless given), on the mini-batch that comes next.
    A rule that the network does not allow gets a row that says why. Raises OptionError for an unknown rule or option,
    DataError for bad data, GraphError for a bad graph, TrainingError where the loss is not finite.
    """
    rules = _rules(methods)
    checks.count("steps", steps, least=0)
    checks.count("seed", seed, least=0)
    spacing = max(1, steps // 10) if every is None else checks.count("every", every)
    batches = Batches(data, batch_size, True, seed)
    reference = compile(graph, loss, dtype=dtype)
    runs = [_start(rule, graph, loss, dtype, reference) for rule in rules]
    params = reference.init(seed)
    update = optimizer.start(params.vector)
    updates: list[int] = []
    losses: list[float] = []
    first: Batch | None = None
    for number, batch in enumerate(_endless(batches)):
        found, gradient = _gradient(reference, params, batch, number)
        if number % spacing == 0 or number == steps:
            first = first or batch
            updates.append(number)
            losses.append(found)
            for run in runs:
                _measure(run, params, batch, gradient)
        if number == steps:
            break
        update(params.vector, gradient.copy())
    assert first is not None
    rows = tuple(_row(run, first, dtype) for run in runs)
    return Comparison(rows, tuple(updates), tuple(losses), first.length, first.size)


def _rules(methods: Iterable[str | tuple[str, Mapping[str, int]]]) -> list[Rule]:
    expected = f"names among {', '.join(RULES)}, or (name, options)"
    if isinstance(methods, str) or not isinstance(methods, Iterable):
        raise OptionError("methods", repr(methods), f"a list of {expected}", "write methods=['rtrl', 'rflo']")
    rules = []
    for entry in methods:
        pair = entry if isinstance(entry, tuple) else (entry, {})
        if len(pair) != 2 or not isinstance(pair[1], Mapping):
            raise OptionError("methods", repr(entry), expected, "write ('tbptt', {'k1': 5, 'k2': 10}), for example")
        options: dict[str, int | None] = dict.fromkeys(("k1", "k2", "block", "order", "seed"))
        unknown = sorted(str(name) for name in pair[1].keys() - options.keys())
        if unknown:
            raise OptionError("methods", f"the option {unknown[0]!r}", f"one of {list(options)}", "check the spelling")
        rules.append(check_rule(pair[0], ("parameters",), **{**options, **pair[1]}))
    if not rules:
        raise OptionError("methods", "an empty list", f"a list of {expected}", "name one rule at least")
    return rules


def _start(rule: Rule, graph: nx.MultiDiGraph, loss: object, dtype: str, reference: Kernel) -> _Run:
    if rule.name == "bptt":
        return _Run(rule, reference)
    options: dict[str, Any] = {name: getattr(rule, name) for name, _ in rule.info.options}
    try:
        return _Run(rule, compile(graph, loss, method=rule.name, dtype=dtype, **options))
    except RNNGraphError as error:  # bad graphs and losses were refused by the reference
        return _Run(rule, refused=str(error))


def _endless(batches: Batches) -> Iterator[Batch]:
    while True:
        yield from batches.epoch()


def _gradient(kernel: Kernel, params: Any, batch: Batch, number: int) -> tuple[float, Any]:
    loss, gradients = _at(kernel, params, batch)
    if not (math.isfinite(loss) and math.isfinite(global_norm(gradients.vector))):
        raise TrainingError(
            f"update {number + 1}", f"a loss of {loss} or its gradient not finite", "finite values",
            "give an optimizer with a lower rate",
        )  # fmt: skip
    return loss, gradients.vector


def _at(kernel: Kernel, params: Any, batch: Batch) -> tuple[float, Any]:
    return kernel.loss_and_gradient(params, batch.inputs, batch.targets, batch.state, batch.weights)


def _measure(run: _Run, params: Any, batch: Batch, expected: Any) -> None:
    if run.kernel is None:
        return
    try:
        for _ in range(REPEATS):
            started = time.perf_counter()
            _, gradients = _at(run.kernel, params, batch)
            run.seconds = min(run.seconds, time.perf_counter() - started)
    except OptionError as error:  # the memory limit, for so many sequences
        run.refused, run.kernel = str(error), None
        return
    given, wanted = np.asarray(gradients.vector, float), np.asarray(expected, float)
    norms = global_norm(given), global_norm(wanted)
    known = norms[0] > 0.0 and norms[1] > 0.0
    run.cosine.append(float((given / norms[0]) @ (wanted / norms[1])) if known else math.nan)
    run.norm_ratio.append(norms[0] / norms[1] if norms[1] > 0.0 else math.nan)


def _row(run: _Run, batch: Batch, dtype: str) -> RuleComparison:
    if run.kernel is None:
        return RuleComparison(str(run.rule), run.rule.info.exact, refused=run.refused)
    cost = run.kernel.equations.cost().numbers(batch.length, batch.size, dtype)
    return RuleComparison(
        str(run.rule),
        run.rule.info.exact,
        tuple(run.cosine),
        tuple(run.norm_ratio),
        cost.flops_per_step,
        cost.bytes,
        run.seconds,
    )
