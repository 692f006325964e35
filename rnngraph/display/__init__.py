"""Systems to read: numbered equations as text and LaTeX, in the notation of the chapter."""

from __future__ import annotations

from rnngraph.display.inline import DisplayEquation, inline
from rnngraph.display.latex import as_latex
from rnngraph.display.text import as_text, equation_lines, equation_numbers

__all__ = ["DisplayEquation", "as_latex", "as_text", "equation_lines", "equation_numbers", "inline"]
