"""Paths with their Jacobian products as text and LaTeX, in the notation of the equations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import networkx as nx
import numpy as np

from rnngraph.display.inline import shift
from rnngraph.display.latex import LatexWriter
from rnngraph.display.notation import PRODUCT
from rnngraph.display.text import TextWriter
from rnngraph.display.writer import Writer
from rnngraph.errors import OptionError
from rnngraph.flow.links import Link, Network, network_of
from rnngraph.flow.paths import Path, find_paths

LONGEST_LAG = 1000
ONES, ONES_LATEX = "ones", r"\mathbf{1}"


@dataclass(frozen=True)
class GradientPaths:
    """dv(t)/du(t-k) as a sum over paths: ``paths`` are the shortest of ``count``. See ``gradient_paths``."""

    network: Network
    source: str
    destination: str
    lag: int
    paths: tuple[Path, ...]
    count: int

    def __str__(self) -> str:
        writer = TextWriter(self.network.system)
        start, end = writer.read(self.source, self.lag), writer.read(self.destination, 0)
        if self.count == 0:
            return f"d{end}/d{start} = 0: no path leads from {start} to {end}"
        shown = "" if self.left_out == 0 else f", the {len(self.paths)} shortest of them"
        sense = "the product along its only path" if self.count == 1 else f"the sum over {_counted(self.count)}"
        lines = [f"d{end}/d{start} is {sense}{shown}:"]
        width = len(f"({len(self.paths)})")
        for number, (way, product) in enumerate(zip(self._ways(writer), self.products(), strict=True), start=1):
            lines += [f"  {f'({number})':>{width}} {product}", f"  {'':{width}} {way}"]
        if self.left_out:
            lines.append(f"  {'':{width}} {_counted(self.left_out)} left out: raise the limit to see more")
        return "\n".join([*lines, *_legend("\n".join(lines))])

    def latex(self) -> str:
        """The sum as one ``align`` environment, a path per line; needs amsmath alone."""
        writer = LatexWriter(self.network.system)
        start, end = writer.read(self.source, self.lag), writer.read(self.destination, 0)
        left = rf"\frac{{\mathrm{{d}} {end}}}{{\mathrm{{d}} {start}}} &= "
        rows = [_product(self.network, writer, path) for path in self.paths] or ["0"]
        if self.left_out:
            rows.append(rf"\cdots \quad \text{{({_counted(self.left_out)} left out)}}")
        return "\\begin{align}\n" + left + " \\\\\n&\\quad + ".join(rows) + "\n\\end{align}"

    @property
    def left_out(self) -> int:
        """How many paths are not among ``paths``."""
        return self.count - len(self.paths)

    def products(self) -> list[str]:
        """The Jacobian product of each path as text, the latest time first."""
        writer = TextWriter(self.network.system)
        return [_product(self.network, writer, path) for path in self.paths]

    def _ways(self, writer: Writer) -> Iterable[str]:
        """The nodes of each path: c(t) <- h(t-1) <- ..."""
        for path in self.paths:
            nodes = [writer.read(self.destination, 0)]
            for link, time in zip(path.links, path.times, strict=True):
                if link.source in self.network.units:
                    nodes.append(writer.read(link.source, time + link.delay))
            yield " <- ".join(nodes)


def gradient_paths(
    graph: nx.MultiDiGraph,
    source: str,
    destination: str | None = None,
    *,
    lag: int = 1,
    limit: int = 20,
    through: Iterable[str] | None = None,
) -> GradientPaths:
    """Every path from ``source``(t - ``lag``) to ``destination``(t), with its product of Jacobians, shortest first.

    The total derivative of ``destination``(t) by ``source``(t - ``lag``) is the sum of these products; ``destination``
    = None stands for ``source`` itself. At most ``limit`` paths are listed, all are counted. ``through`` names the
    nodes that a path may visit: ``through=["c"]`` leaves the constant error carousel of an LSTM (Hochreiter and
    Schmidhuber 1997, section 3.2). ``print`` shows the result, ``.latex()`` writes it in LaTeX. Raises OptionError for
    an unknown node or a lag or limit out of range, GraphError or a subclass when the graph breaks the contract.
    """
    network = network_of(graph)
    source = network.check_unit("source", source)
    destination = source if destination is None else network.check_unit("destination", destination)
    lag, limit = check_whole("lag", lag, 0, LONGEST_LAG), check_whole("limit", limit, 0, None)
    nodes = None if through is None else [network.check_unit("through", name) for name in _names(through)]
    if nodes is not None and not {source, destination} <= set(nodes):
        raise OptionError(
            "through", repr(nodes), f"the path's own ends {source!r} and {destination!r} among them", "add them"
        )
    found = find_paths(network, source, destination, lag, limit, nodes)
    return GradientPaths(network, source, destination, lag, found.paths, found.count)


def check_whole(where: str, value: object, least: int, most: int | None) -> int:
    """A whole number within the limits; raises OptionError else."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        whole = int(value)
        if whole >= least and (most is None or whole <= most):
            return whole
    limits = f"a whole number >= {least}" if most is None else f"a whole number from {least} to {most}"
    raise OptionError(where, repr(value), limits, f"give {limits}")


def _names(given: Iterable[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _product(network: Network, writer: Writer, path: Path) -> str:
    """The Jacobians from left to right; those that are the identity are not written."""
    factors: list[str] = []
    like_identity = True
    for link, time in zip(path.links, path.times, strict=True):
        written, multiple = _factor(network, writer, link, time)
        factors += written
        like_identity = like_identity and multiple
    one_unit = not path.links or network.size(path.links[0].destination) == 1
    if not factors or (like_identity and not one_unit):
        factors.append("I")
    return reduce(writer.matrix_product, factors)


def _factor(network: Network, writer: Writer, link: Link, time: int) -> tuple[list[str], bool]:
    """The Jacobian of one link ``time`` steps before t, and whether it is a multiple of the identity."""
    if link.parameter is not None:
        return [writer.transpose(writer.name(link.parameter))], False
    piece = writer.pointwise(shift(link.derivative, time))
    spread = network.size(link.source) != network.size(link.destination)
    if link.derivative.is_number:
        written = [] if link.derivative == 1 else [writer.hold(piece, PRODUCT + 1).text]
    elif piece.scalar:
        written = [writer.hold(piece, PRODUCT + 1).text]
    else:
        written = [writer.call("diag", [piece.text])]
    if spread:
        written.append(ONES_LATEX if isinstance(writer, LatexWriter) else ONES)
    return written, piece.scalar and not spread


def _counted(count: int) -> str:
    return f"{count:,} path{'' if count == 1 else 's'}"


def _legend(text: str) -> list[str]:
    """What the signs in ``text`` mean."""
    lines = []
    if text.endswith(" I") or " I\n" in text:
        lines.append("I is the identity matrix")
    if "diag(" in text:
        lines.append("diag(v) is the diagonal matrix with v on its diagonal")
    if "^T" in text:
        lines.append("W^T is the transpose of W; the shape of W is (units of the source, units of the destination)")
    if "'(" in text:
        lines.append("f' is the derivative of f")
    if "ones" in text:
        lines.append("ones is a column of ones: one unit is read by several")
    return ["", "Where", *(f"  {line}" for line in lines)] if lines else []
