"""One printer per target: ir.Program -> source text."""

from codegen.printers.numpy import NumPyPrinter, print_numpy

__all__ = ["NumPyPrinter", "print_numpy"]
