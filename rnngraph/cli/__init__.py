"""The command line: ``rnngraph show | derive | emit | verify | train GRAPH``."""

from __future__ import annotations

from rnngraph.cli.commands import main

__all__ = ["main"]
