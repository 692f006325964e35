"""One printer per target: ir.Program -> source text."""

from codegen.printers.c import print_c
from codegen.printers.cupy import CuPyPrinter, print_cupy
from codegen.printers.numpy import NumPyPrinter, print_numpy

__all__ = ["CuPyPrinter", "NumPyPrinter", "print_c", "print_cupy", "print_numpy"]
