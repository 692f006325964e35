"""System -> Schedule: which equations run for all t at once, which are stepped, and which products are packed into
one."""

from rnngraph.schedule.build import build_schedule, build_stream_schedule
from rnngraph.schedule.items import Component, Item, Pointwise, Product, Schedule, Slot, SparseProduct, UnitReduction
from rnngraph.schedule.sweep import sweep_reads

__all__ = [
    "Component",
    "Item",
    "Pointwise",
    "Product",
    "Schedule",
    "Slot",
    "SparseProduct",
    "UnitReduction",
    "build_schedule",
    "build_stream_schedule",
    "sweep_reads",
]
