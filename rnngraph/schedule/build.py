"""The driver of scheduling: every stage by name, in order."""

from __future__ import annotations

import dataclasses

from rnngraph.schedule.components import in_one_loop, order_components
from rnngraph.schedule.items import Schedule
from rnngraph.schedule.packing import pack
from rnngraph.schedule.share import share_function_values
from rnngraph.schedule.simplify import boundary_parts, hoist_from_loops, inline_once_used
from rnngraph.schedule.sweep import split_sweep, sweep_reads, without_contractions
from rnngraph.system import System


def build_schedule(system: System) -> Schedule:
    """System -> Schedule. Raises UnsupportedError for a loop that reads both the past and the future."""
    shared = share_function_values(system)  # System -> System
    whole, swept = split_sweep(shared)  # System -> System without rows, and the equations with rows
    shared = dataclasses.replace(whole, totals=without_contractions(whole.totals))
    items, signals = pack(shared)  # System -> items: products and pointwise equations
    boundaries = boundary_parts(items, shared)  # before what reads ahead is mixed with what does not
    needed = sweep_reads(whole, swept)
    items = inline_once_used(items, shared, signals, {read.signal for read in needed})  # items -> items
    components = order_components(items)  # items -> components: which are loops
    items = hoist_from_loops(components, signals)  # components -> items
    components = order_components(items)  # items -> components in running order
    component_of = {
        signal: number
        for number, component in enumerate(components)
        for item in component.items
        for signal in item.defines
    }
    return Schedule(whole, signals, components, component_of, boundaries, swept)


def build_stream_schedule(system: System) -> Schedule:
    """The forward ``system`` -> a Schedule of one loop, which goes through all that one time step computes.

    The inputs belong to the loop as well: what a step is given is read in that step. No equation may read ahead.
    """
    shared = share_function_values(system)
    items, signals = pack(shared)
    inputs = [name for name, signal in signals.items() if signal.kind == "input"]
    component = in_one_loop(inline_once_used(items, shared, signals), inputs)
    inside = [signal for item in component.items for signal in item.defines]
    return Schedule(shared, signals, (component,), dict.fromkeys([*inputs, *inside], 0))
