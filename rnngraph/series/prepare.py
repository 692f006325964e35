"""``rg.prepare``: series of inputs and targets -> data with the delays' first values filled from the first samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from rnngraph.data import as_array, check_weights
from rnngraph.errors import DataError, OptionError
from rnngraph.losses import resolve_losses
from rnngraph.model import Model
from rnngraph.series.columns import Columns, Wanted, as_table, read_series
from rnngraph.series.depths import steps_from_initial_values
from rnngraph.series.padding import join
from rnngraph.series.prepared import Prepared
from rnngraph.train import checks
from rnngraph.validate import validate
from rnngraph.words import nearest

Array: TypeAlias = NDArray[Any]
FILLS = ("samples", "initial")
# Losses whose outputs are logits: a measured class or probability is no value of theirs.
OF_LOGITS = ("cross_entropy", "binary_cross_entropy")


def prepare(
    series: object,
    graph: nx.MultiDiGraph,
    *,
    loss: object = "mse",
    columns: Columns = None,
    horizon: int | Mapping[str, int] = 0,
    fill: str = "samples",
    warmup: int | None = None,
    weights: object = None,
) -> Prepared:
    """Inputs, targets, weights and state of a network out of plain series, as MATLAB's ``preparets`` makes them.

    series
        a mapping from the names of the inputs and outputs to arrays (samples,), (samples, units) or (samples, batch,
        units), the outputs' being the targets; for classes (samples,) or (samples, batch) of their numbers. Or a table:
        what ``load_table`` returns, a structured array, a data frame, a 2-D array. Or a list of these, one entry per
        sequence: shorter ones are padded at their end and masked by weights of 0.
    loss
        as ``compile`` takes it: only an output with a loss has targets, those of "cross_entropy" are classes.
    columns
        ``{node: column or [columns]}``: which columns of a table make up a node's series, side by side. A node left
        out takes the column of its own name, an output ``target_<name>`` first. "in order": the nodes without a column
        of their name take the columns left over, inputs before outputs; so it is for a 2-D array.
    horizon
        the target of step t is the sample of t + horizon; one number, or one for each output.
    fill
        "samples": the first D samples, D the longest delay out of an input or out of an output with a series, go into
        the state; the rest is the sequence, so that no step reads zeros in place of samples. Where an input is read
        ahead, the last samples go into the state likewise. "initial": all samples are
        steps; inputs are 0 and nodes at their initial value before the first.
    warmup
        how many of the first steps get the weight 0. Unless given: with "samples", those that still depend on the
        initial value of a hidden layer that is read with a delay outside of any loop, as in a time-delay network of
        several layers; else none.
    weights
        (samples,) or (samples, batch): what each step counts, at the time of its inputs; a list for several sequences.

    An input that ``graph.graph["feedback"]`` maps to an output (the measured output of a network with open loop) takes
    the series of that output, unless it has its own. One that ``graph.graph["clock"]`` names only tells the number of
    steps: its values are not used, and it needs no series. Arrays of the result may be views of those given.

    Raises GraphError for a bad graph, DataError for series that are missing, too short, of wrong shape or not finite,
    OptionError for options out of range.
    """
    model = validate(graph)
    plan = _plan(model, loss, graph.graph, horizon, fill, warmup)
    if not isinstance(series, list | tuple):
        return _prepared(series, weights, plan, columns, "series")
    if not series:
        raise DataError("series", "an empty list", "at least one sequence", "give a list of mappings")
    every = [None] * len(series) if weights is None else weights
    if not isinstance(every, list | tuple) or len(every) != len(series):
        found = f"{len(every)} arrays" if isinstance(every, list | tuple) else f"a {type(every).__name__}"
        raise DataError("weights", found, f"a list of {len(series)}, one for each sequence", "give one per sequence")
    parts = [
        _prepared(entry, weight, plan, columns, f"series[{number}]")
        for number, (entry, weight) in enumerate(zip(series, every, strict=True))
    ]
    lengths = sorted({part.lengths[0] for part in parts})
    if len(lengths) > 1 and model.ahead_depths:
        raise DataError(
            "series", f"sequences of {lengths[0]} to {lengths[-1]} steps for a network that looks ahead",
            "one length, as the network would read the padding of the shorter ones",
            "prepare each length by itself, and give fit the list",
        )  # fmt: skip
    return join(parts, "series")


@dataclass(frozen=True)
class _Plan:
    """What is done to each sequence: ``losses`` by output, ``horizons`` by learned output."""

    model: Model
    losses: Mapping[str, object]
    feedback: Mapping[str, str]
    clock: str | None
    horizons: Mapping[str, int]
    fill: str
    warmup: int | None

    @property
    def inputs(self) -> list[str]:
        """The names of the inputs."""
        return [node.name for node in self.model.inputs]

    def depth(self, name: str, arrays: Mapping[str, Array]) -> int:
        """How many samples of a node's series go into its state."""
        if self.fill == "initial" or name not in arrays or self.losses.get(name) in OF_LOGITS:
            return 0
        return self.model.depth(name)


def _plan(
    model: Model, loss: object, notes: Mapping[str, Any], horizon: object, fill: object, warmup: int | None
) -> _Plan:
    losses = resolve_losses(tuple(node.name for node in model.outputs), loss)
    if fill not in FILLS:
        close = nearest(str(fill), FILLS)
        remedy = f"did you mean {close!r}?" if close else "use 'samples' to fill the state, 'initial' to keep all"
        raise OptionError("fill", repr(fill), " or ".join(map(repr, FILLS)), remedy)
    if isinstance(horizon, Mapping):
        for name in horizon:
            if name not in losses:
                raise OptionError("horizon", f"the name {name!r}", f"one of {list(losses)}", "name outputs with a loss")
        horizons = {name: checks.count("horizon", horizon.get(name, 0), least=0) for name in losses}
    else:
        horizons = dict.fromkeys(losses, checks.count("horizon", horizon, least=0))
    for edge in model.edges:
        ahead = horizons.get(edge.source, 0)
        if fill == "samples" and 0 < edge.delay < ahead and losses[edge.source] not in OF_LOGITS:
            raise OptionError(
                "horizon", f"{ahead} with the output {edge.source!r}, which {edge.destination!r} reads with delay "
                f"{edge.delay}", f"a horizon of at most {edge.delay}: the state would hold samples that lie ahead",
                "use fill='initial'",
            )  # fmt: skip
    if warmup is not None:
        checks.count("warmup", warmup, least=0)
    clock = str(notes["clock"]) if "clock" in notes else None
    return _Plan(model, losses, _feedback(model, notes.get("feedback", {})), clock, horizons, str(fill), warmup)


def _feedback(model: Model, noted: object) -> dict[str, str]:
    """The inputs that stand for a measured output, as the graph's note says."""
    if not isinstance(noted, Mapping):
        return {}
    inputs, outputs = ([node.name for node in nodes] for nodes in (model.inputs, model.outputs))
    pairs = {str(name): str(output) for name, output in noted.items()}
    return {name: output for name, output in pairs.items() if name in inputs and output in outputs}


def _prepared(series: object, weights: object, plan: _Plan, columns: Columns, where: str) -> Prepared:
    """One entry of the series."""
    arrays = _arrays(series, plan, columns, where)
    samples, batch = next(iter(arrays.values())).shape[:2]
    depths = {name: plan.depth(name, arrays) for name in arrays}
    after = {name: plan.model.ahead(name) for name in plan.inputs} if plan.fill == "samples" else {}
    dropped, ahead = max(depths.values()), max([*plan.horizons.values(), *after.values()])
    stop = samples - ahead
    if stop <= dropped:
        needs = f"{dropped} for the state" + (f" and {ahead} for the horizon or the look-ahead" if ahead else "")
        remedy = "give a longer series, or fill='initial'" if dropped else "give a longer series"
        raise DataError(where, f"{samples} samples", f"at least {dropped + ahead + 1}: {needs}, and one step", remedy)

    def cut(name: str, first: int, last: int) -> Array:
        later = plan.horizons.get(name, 0)
        return np.ascontiguousarray(arrays[name][first + later : last + later])

    inputs = {node.name: cut(node.name, dropped, stop) for node in plan.model.inputs}
    targets = {name: cut(name, dropped, stop) for name in plan.losses}
    state = {name: cut(name, dropped - depth, dropped) for name, depth in depths.items() if depth > 0}
    beyond = {key: name for name, key in plan.model.ahead_names().items() if name in after}
    for key, name in beyond.items():
        state[key] = cut(name, stop, stop + after[name])
    counted = None if weights is None else _weights(weights, samples, batch, where)[dropped:stop]
    masked = _masked_steps(plan, set(state))
    steps = stop - dropped
    if masked >= steps:
        raise DataError(
            where, f"{steps} steps, of which the first {masked} do not count", f"at least {masked + 1} steps",
            "give a longer series, or warmup=0",
        )  # fmt: skip
    if masked:
        counted = np.ones((steps, batch)) if counted is None else counted.copy()
        counted[:masked] = 0.0
    return Prepared(inputs, targets, counted, state, (steps,) * batch, dropped, masked, beyond)


def _arrays(series: object, plan: _Plan, columns: Columns, where: str) -> dict[str, Array]:
    """The series of all inputs, of the outputs with a loss, and of other outputs where there are any."""
    table = as_table(series, where)
    named = columns if isinstance(columns, Mapping) else {}
    # An input that stands for an output has its own series only where this is named.
    shared = {name: output for name, output in plan.feedback.items() if name not in table and name not in named}
    wanted = [
        Wanted(node.name, node.size, (node.name,), required=node.name != plan.clock)
        for node in plan.model.inputs
        if node.name not in shared
    ]
    for node in plan.model.outputs:
        required = node.name in plan.losses or node.name in shared.values()
        classes = plan.losses.get(node.name) == "cross_entropy"
        wanted.append(Wanted(node.name, node.size, (f"target_{node.name}", node.name), classes, required))
    arrays = read_series(series, wanted, columns, where)
    for name, output in shared.items():
        if plan.losses.get(output) in OF_LOGITS:
            raise DataError(
                f"{where}, node {name!r}", f"no series of its own, and {plan.losses[output]} on {output!r}",
                f"a series of {name!r}: the targets of {output!r} are no values of its units", f"add {name!r}",
            )  # fmt: skip
        arrays[name] = arrays[output]
    if plan.clock in [node.name for node in plan.model.inputs] and plan.clock not in arrays:
        samples, batch = next(iter(arrays.values())).shape[:2]
        arrays[plan.clock] = np.zeros((samples, batch, plan.model.nodes[plan.clock].size))
    return arrays


def _weights(weights: object, samples: int, batch: int, where: str) -> Array:
    array = as_array(f"{where}: weights", weights)
    if array.ndim == 1:
        array = np.repeat(array[:, None], batch, axis=1)
    checked = check_weights(array, samples, batch, np.float64)
    assert checked is not None
    return checked


def _masked_steps(plan: _Plan, filled: set[str]) -> int:
    """How many of the first steps do not count."""
    if plan.warmup is not None or plan.fill == "initial":
        return plan.warmup or 0
    return steps_from_initial_values(plan.model, filled, list(plan.losses))
