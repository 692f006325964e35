"""Passes over ir.Function, one per file; each leaves the program valid and its meaning unchanged."""

from codegen.passes.expand_pointwise import expand_pointwise
from codegen.passes.merge_neighbours import merge_neighbours

__all__ = ["expand_pointwise", "merge_neighbours"]
