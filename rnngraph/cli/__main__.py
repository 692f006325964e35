"""``python -m rnngraph.cli``."""

from __future__ import annotations

from rnngraph.cli.commands import main

main()
