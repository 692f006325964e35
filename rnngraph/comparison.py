"""What a comparison of learning rules found: one row per rule, as a table or as a picture over training."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

from rnngraph.errors import OptionError

DASHES = ((0, (4, 2)), (0, (1.2, 1.2)), (0, (6, 2, 1, 2)), (0, (2, 3)))


@dataclass(frozen=True)
class RuleComparison:
    """One rule beside backpropagation through time (BPTT), at the same parameters and on the same data.

    ``cosine``: of the angle between its gradient and that of BPTT, after each of the comparison's ``updates``;
    ``norm_ratio``: the norm of its gradient over that of BPTT; NaN where a gradient is 0. ``exact``: whether the
    rule's gradient is that of BPTT by construction. ``flops_per_step`` and ``memory`` (bytes): by ``System.cost``.
    ``seconds``: the shortest call of ``loss_and_gradient``. ``refused``: why the network does not allow the rule, ""
    where it does; then all else is empty.
    """

    rule: str
    exact: bool
    cosine: tuple[float, ...] = ()
    norm_ratio: tuple[float, ...] = ()
    flops_per_step: int = 0
    memory: int = 0
    seconds: float = math.nan
    refused: str = ""


@dataclass(frozen=True)
class Comparison:
    """See ``rnngraph.compare``. ``rows``: a RuleComparison for each rule; ``updates``: after how many updates of the
    parameters by BPTT they were compared; ``loss``: that of the mini-batch at each of these; ``T``, ``batch``: its
    size at the first."""

    rows: tuple[RuleComparison, ...]
    updates: tuple[int, ...]
    loss: tuple[float, ...]
    T: int
    batch: int

    def __getitem__(self, rule: str) -> RuleComparison:
        """The row of a rule by its text, such as "rtrl" or "snap(order=1)"."""
        for row in self.rows:
            if row.rule == rule:
                return row
        raise KeyError(rule)

    def __str__(self) -> str:
        trained = len(self.updates) > 1
        last = f"after {self.updates[-1]}"
        header = [
            "rule",
            "gradient",
            "cosine",
            *([last] if trained else []),
            "norm ratio",
            *([last] if trained else []),
        ]
        header += ["FLOP per step", "bytes kept", "time of a call"]
        table = [header]
        for row in self.rows:
            if row.refused:
                continue
            line = [row.rule, "exact" if row.exact else "approximate"]
            for values in (row.cosine, row.norm_ratio):
                line += [f"{values[0]:.6g}", *([f"{values[-1]:.6g}"] if trained else [])]
            table.append([*line, f"{row.flops_per_step:,}", f"{row.memory:,}", f"{1000 * row.seconds:.3g} ms"])
        widths = [max(len(line[column]) for line in table) for column in range(len(header))]
        lines = [f"Gradients beside that of bptt (T = {self.T}, batch = {self.batch})"]
        for line in table:
            cells = [text.ljust(width) if column < 2 else text.rjust(width)
                     for column, (text, width) in enumerate(zip(line, widths, strict=True))]  # fmt: skip
            lines.append("  " + "  ".join(cells).rstrip())
        lines += [f"  {row.rule} is refused: {row.refused}" for row in self.rows if row.refused]
        return "\n".join(lines)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """The cosine of every rule over training as a matplotlib Figure; written to ``path`` (.png, .pdf, .svg) if one
        is given. Approximate rules are dashed.

        Raises OptionError for a comparison at one point alone and for a path of another format, BackendError without
        matplotlib, DataError where the folder cannot be written to.
        """
        # matplotlib is an extra that takes longer to import than everything else here.
        from rnngraph.figures import checked_suffix, new_figure, write_figure

        if len(self.updates) < 2:
            raise OptionError("plot", "a comparison at one point", "one over training", "give compare steps=100, say")
        figure = new_figure("plot")
        suffix = checked_suffix(path)
        figure.set_size_inches(7, 4)
        axes = figure.add_axes((0.1, 0.13, 0.62, 0.8))
        shown = [row for row in self.rows if not row.refused]
        for number, row in enumerate(shown):  # lines that coincide get thinner, so that each is seen
            dashes = "solid" if row.exact else DASHES[number % len(DASHES)]
            width = 1.2 + 1.8 * (len(shown) - 1 - number) / max(len(shown) - 1, 1)
            label = row.rule.replace("$", r"\$")
            axes.plot(self.updates, row.cosine, label=label, linestyle=dashes, linewidth=width)
        axes.set_xlabel("updates by bptt")
        axes.set_ylabel("cosine with the gradient of bptt")
        axes.grid(alpha=0.3)
        axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=8, frameon=False, handlelength=3.5,
                    title="solid: exact\ndashed: approximate", title_fontsize=8)  # fmt: skip
        if path is not None:
            write_figure(figure, path, suffix)
        return figure
