"""Runs emitted CuPy modules without a GPU: a stand-in for the package ``cupy`` over NumPy and g++."""
