"""``rg.prepare``: series of inputs and targets -> data with the delays' first values filled from the first samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from rnngraph.data import as_array, check_weights
from rnngraph.errors import DataError
from rnngraph.notes import read_notes
from rnngraph.series.columns import Columns, Wanted, as_table, read_series
from rnngraph.series.depths import steps_from_initial_values
from rnngraph.series.missing import reading_delays
from rnngraph.series.padding import join
from rnngraph.series.plan import OF_LOGITS, Plan, make_plan
from rnngraph.series.prepared import Prepared
from rnngraph.validate import validate

Array: TypeAlias = NDArray[Any]


def prepare(
    series: object,
    graph: nx.MultiDiGraph,
    *,
    loss: object = "mse",
    columns: Columns = None,
    horizon: int | Mapping[Any, int] = 0,
    fill: str = "samples",
    warmup: int | None = None,
    tail: int | None = None,
    weights: object = None,
    missing: str = "error",
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
    warmup, tail
        how many of the first and of the last steps get the weight 0. Unless given: with "samples", those that still
        depend on the initial value of a hidden layer that is read with a delay (``tail``: that is read ahead) outside
        of any loop, as in a time-delay network of several layers; else none.
    weights
        (samples,) or (samples, batch): what each step counts, at the time of its inputs; a list for several sequences.
    missing
        "error": a NaN is refused. "mask": it is a gap, in which its unit holds its last known value. A step gets the
        weight 0 where the target of some output is a gap, and where an output reads one on a path through the
        network, delays and state included. A loop carries what it made of a gap on into steps that count, as an LSTM
        does: such a path goes round no loop.

    An input that holds a measured output, as ``open_loop`` and ``mix_feedback`` note in the graph, takes the series of
    that output, unless it has its own. The gate of ``mix_feedback`` is 1, teacher forcing, unless it has a series; past
    values of its unit are measured ones, and with a horizon all three are shifted as the target is. Units that
    ``Scaling.fold`` put beside inputs and outputs get their state from scaled samples, by the scaling as it was folded.
    A clock, as ``close_loop`` adds it, needs no series. Arrays of the result may be views of those given.

    Raises GraphError for a bad graph, DataError for series that are missing, too short, of wrong shape or not finite,
    OptionError for options out of range.
    """
    model = validate(graph)
    plan = make_plan(model, loss, read_notes(graph), horizon, fill, (warmup, tail), missing)
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


def _prepared(series: object, weights: object, plan: Plan, columns: Columns, where: str) -> Prepared:
    """One entry of the series."""
    arrays, gaps = _arrays(series, plan, columns, where)
    samples, batch = next(iter(arrays.values())).shape[:2]
    depths = {name: plan.depth(name) for name in arrays}
    after = {name: plan.reach(name) for name in arrays}
    dropped = max(depths.values())
    ahead = max(*plan.horizons.values(), *(reach + plan.shift(name) for name, reach in after.items()))
    stop = samples - ahead
    if stop <= dropped:
        needs = f"{dropped} for the state" + (f" and {ahead} for the horizon or the look-ahead" if ahead else "")
        remedy = "give a longer series, or fill='initial'" if dropped else "give a longer series"
        raise DataError(where, f"{samples} samples", f"at least {dropped + ahead + 1}: {needs}, and one step", remedy)

    def cut(name: str, first: int, last: int) -> Array:
        later = plan.shift(name)
        return np.ascontiguousarray(arrays[name][first + later : last + later])

    inputs = {node.name: cut(node.name, dropped, stop) for node in plan.model.inputs}
    targets = {name: cut(name, dropped, stop) for name in plan.losses}
    state = {name: cut(name, dropped - depth, dropped) for name, depth in depths.items() if depth > 0}
    beyond = {key: name for name, key in plan.model.ahead_names().items() if after.get(name)}
    for key, name in beyond.items():
        state[key] = cut(name, stop, stop + after[name])
    steps = stop - dropped
    first, last = _masked_steps(plan, {name for name in state if name not in beyond}, set(beyond.values()))
    if first + last >= steps:
        ends = f"the first {first}" + (f" and the last {last}" if last else "")
        raise DataError(
            where, f"{steps} steps, of which {ends} do not count", f"at least {first + last + 1} steps",
            "give a longer series, or warmup=0" + (" and tail=0" if last else ""),
        )  # fmt: skip
    counted = None if weights is None else _weights(weights, samples, batch, where)[dropped:stop]
    if first or last or gaps:
        counted = np.ones((steps, batch)) if counted is None else counted.copy()
        counted[:first] = 0.0
        counted[steps - last :] = 0.0
    fed_back: dict[int, Array] = {}
    if gaps and counted is not None:
        read, fed_back = _gaps_read(plan, gaps, depths, after, stop)
        counted[read] = 0.0
        if not counted.any():
            raise DataError(
                where, "a gap in what each step reads, or in its target", "a step without any",
                "give a longer series, or fill the gaps",
            )  # fmt: skip
    in_state = {*state, *beyond.values()}
    origins = {name: origin for name, origin in plan.notes.origins.items() if name in in_state}
    return Prepared(
        inputs, targets, counted, state, (steps,) * batch, dropped, first, beyond, tail=last, origins=origins,
        fed_back_gaps=fed_back,
    )  # fmt: skip


def _arrays(series: object, plan: Plan, columns: Columns, where: str) -> tuple[dict[str, Array], dict[str, Array]]:
    """The series of all inputs, of the outputs with a loss and others where there are any, and of noted units.

    Beside them the gaps that were filled: (samples, batch) by name, of those that have some.
    """
    table = as_table(series, where)
    named = columns if isinstance(columns, Mapping) else {}
    # An input that stands for an output has its own series only where this is named.
    shared = {name: output for name, output in plan.notes.measured.items() if name not in table and name not in named}
    needless = {plan.notes.clock, *plan.notes.gates}
    wanted = [
        Wanted(node.name, node.size, (node.name,), required=node.name not in needless)
        for node in plan.model.inputs
        if node.name not in shared
    ]
    for node in plan.model.outputs:
        required = node.name in plan.losses or node.name in shared.values()
        classes = plan.losses.get(node.name) == "cross_entropy"
        wanted.append(Wanted(node.name, node.size, (f"target_{node.name}", node.name), classes, required))
    arrays, gaps = read_series(series, wanted, columns, where, plan.missing == "mask")
    for name, output in shared.items():
        if plan.losses.get(output) in OF_LOGITS:
            raise DataError(
                f"{where}, node {name!r}", f"no series of its own, and {plan.losses[output]} on {output!r}",
                f"a series of {name!r}: the targets of {output!r} are no values of its units", f"add {name!r}",
            )  # fmt: skip
        arrays[name] = arrays[output]
        gaps |= {name: gaps[output]} if output in gaps else {}
    samples, batch = next(iter(arrays.values())).shape[:2]
    for node in plan.model.inputs:
        if node.name not in arrays:  # a gate is open for measured values, a clock says nothing
            value = 1.0 if node.name in plan.notes.gates else 0.0
            arrays[node.name] = np.full((samples, batch, node.size), value)
    for unit, origin in plan.notes.origins.items():
        if origin.series in arrays and plan.losses.get(origin.series) not in OF_LOGITS:
            arrays[unit] = origin.values(arrays[origin.series])
            gaps |= {unit: gaps[origin.series]} if origin.series in gaps else {}
    return arrays, gaps


def _weights(weights: object, samples: int, batch: int, where: str) -> Array:
    array = as_array(f"{where}: weights", weights)
    if array.ndim == 1:
        array = np.repeat(array[:, None], batch, axis=1)
    checked = check_weights(array, samples, batch, np.float64)
    assert checked is not None
    return checked


def _masked_steps(plan: Plan, before: set[str], after: set[str]) -> tuple[int, int]:
    """How many of the first and of the last steps do not count, the values of these nodes being known there."""
    found = []
    for given, known, ahead in zip(plan.ends, (before, after), (False, True), strict=True):
        if given is None and plan.fill == "samples":
            given = steps_from_initial_values(plan.model, known, list(plan.losses), ahead)
        found.append(given or 0)
    return found[0], found[1]


def _gaps_read(
    plan: Plan, gaps: Mapping[str, Array], depths: Mapping[str, int], after: Mapping[str, int], stop: int
) -> tuple[Array, dict[int, Array]]:
    """Which steps have a gap as their target, or read one, (steps, batch).

    Beside them, by delay, those that would read one if the sequence began less than that many steps before.
    """
    dropped = max(depths.values())
    shape = stop - dropped, next(iter(gaps.values())).shape[1]
    found = np.zeros(shape, dtype=bool)
    fed_back: dict[int, Array] = {}
    delays = reading_delays(plan.model, gaps, list(plan.losses), plan.notes.gates.values())
    for name, gap in gaps.items():
        later = plan.shift(name)
        if name in plan.losses:
            found |= gap[dropped + later : stop + later]
        first, last = dropped - depths[name], stop + after[name]
        for delay in delays[name]:
            start, end = max(first, dropped - delay), min(last, stop - delay)
            if start >= end:
                continue
            read = np.zeros(shape, dtype=bool)
            read[start + delay - dropped : end + delay - dropped] = gap[start + later : end + later]
            # An output is read as measured before the first step alone, from there on as the network's own.
            if plan.is_read(name):
                found |= read
            elif depths[name] and delay > 0:
                found[:delay] |= read[:delay]
                fed_back[delay] = fed_back.get(delay, False) | read
    return found, fed_back
