"""The two records of the benchmark in volts, one to estimate from and one to test on, and their scaled form."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import networkx as nx
import numpy as np
from numpy.typing import NDArray

import rnngraph as rg

Array = NDArray[np.float64]
COLUMNS = ("uEst", "uVal", "yEst", "yVal")
INTERVAL = 4.0  # s between samples
TOP = 10.0  # V: the highest level that the measurement can show
BLOCKS = 8
FILE = "dataBenchmark.csv"
WHERE = (
    "download the benchmark 'Cascaded tanks' from nonlinearbenchmark.org, unpack dataBenchmark.csv and give its path: "
    "python -m examples.cascaded_tanks PATH; or try the example on records that it simulates: --simulated"
)


@dataclass(frozen=True)
class Record:
    """``estimation`` and ``test``: {"u": voltage of the pump (T,), "y": level of the lower tank (T,)}, in volts.

    Scaling, training and choices see ``estimation`` alone.
    """

    estimation: dict[str, Array]
    test: dict[str, Array]

    @property
    def scaling(self) -> rg.Scaling:
        """To mean 0 and standard deviation 1 over the estimation record."""
        return rg.Scaling.fit(self.estimation)

    @property
    def top(self) -> float:
        """``TOP`` as a network sees it."""
        return float(self.scaling.scale({"y": np.array([TOP])})["y"][0])

    def volts(self, scaled_loss: float) -> float:
        """The root of a mean squared error of scaled levels, in volts."""
        return float(np.sqrt(scaled_loss) * self.scaling.factor["y"][0])

    def prepared(self, graph: nx.MultiDiGraph, weights: Array | None = None) -> rg.Prepared:
        """The scaled estimation record for a network; the first samples give what its delays reach back to.

        ``weights`` (T,): what each sample counts; a sample of weight 0 is not learned.
        """
        return rg.prepare(self.scaling.scale(self.estimation), graph, weights=weights)

    def block(self, number: int) -> Array:
        """1.0 in one of ``BLOCKS`` equal stretches of the estimation record, else 0.0, (T,)."""
        chosen = np.zeros(len(self.estimation["y"]))
        chosen[np.array_split(np.arange(len(chosen)), BLOCKS)[number]] = 1.0
        return chosen


def error(simulated: Array, measured: Array) -> float:
    """Root of the mean squared error in volts over the samples that were simulated, the last ones of ``measured``."""
    return float(np.sqrt(np.mean((simulated - measured[-len(simulated) :]) ** 2)))


def read(path: str | Path) -> Record:
    """The records in the benchmark's ``dataBenchmark.csv``; ``path`` may be its folder.

    Raises ``DataError`` where there is no such file.
    """
    path = Path(path) / FILE if Path(path).is_dir() else path
    place = f"file {str(path)!r}"
    try:
        with open(path, encoding="utf-8") as file:
            header = [name.strip().strip('"') for name in file.readline().split(",")]
            if not set(COLUMNS) <= set(header):
                raise rg.DataError(place, f"the columns {header}", f"the columns {', '.join(COLUMNS)}", WHERE)
            table = np.loadtxt(file, delimiter=",", usecols=[header.index(name) for name in COLUMNS], unpack=True)
    except OSError as problem:
        raise rg.DataError(place, problem.strerror or str(problem), FILE, WHERE) from None
    except ValueError as problem:
        raise rg.DataError(place, f"a field that is no number ({problem})", "numbers", WHERE) from None
    columns = dict(zip(COLUMNS, table, strict=True))
    return Record(
        {"u": columns["uEst"], "y": columns["yEst"]},
        {"u": columns["uVal"], "y": columns["yVal"]},
    )
