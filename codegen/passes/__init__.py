"""Passes over ir.Function, one per file; each leaves the program valid and its meaning unchanged."""

from codegen.passes.block_gates import block_gates
from codegen.passes.expand_pointwise import expand_pointwise
from codegen.passes.fuse_pointwise import fuse_pointwise
from codegen.passes.keep_in_registers import keep_in_registers
from codegen.passes.merge_neighbours import merge_neighbours
from codegen.passes.pack_products import pack_products
from codegen.passes.share_buffers import share_buffers
from codegen.passes.sink_pointwise import sink_pointwise
from codegen.passes.stack_products import stack_products

__all__ = [
    "block_gates",
    "expand_pointwise",
    "fuse_pointwise",
    "keep_in_registers",
    "merge_neighbours",
    "pack_products",
    "share_buffers",
    "sink_pointwise",
    "stack_products",
]
