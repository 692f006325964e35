"""``rg.Scaling``: series scaled unit by unit, outputs scaled back, and the scaling folded into the network itself."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from rnngraph.data import as_array, check_finite
from rnngraph.errors import DataError, OptionError
from rnngraph.files import as_path, write_atomic
from rnngraph.notes import Notes, read_notes
from rnngraph.series.columns import as_table
from rnngraph.series.fold import fold
from rnngraph.series.missing import MISSING
from rnngraph.train import checks
from rnngraph.words import clip, nearest

Array: TypeAlias = NDArray[Any]
KINDS = ("standard", "minmax")
FORMAT = "rnngraph scaling 1"


@dataclass(frozen=True, eq=False)
class Scaling:
    """scaled = (value - offset) / factor, unit by unit; ``offset`` and ``factor`` map names to arrays (size,).

    ``constant`` maps names to the units that did not change in the data that it was fitted on: their factor is 1, so
    that they become 0 and nothing is divided by 0. ``left`` are the names that pass as they are.
    """

    kind: str
    offset: Mapping[str, Array]
    factor: Mapping[str, Array]
    constant: Mapping[str, tuple[int, ...]]
    left: tuple[str, ...] = ()

    @classmethod
    def fit(
        cls,
        series: object,
        kind: str = "standard",
        *,
        limits: tuple[float, float] = (-1.0, 1.0),
        leave: Iterable[str] = (),
        missing: str = "error",
    ) -> Scaling:
        """The scaling of the training part of the data.

        ``series``: a mapping from names to arrays, a table, or a list of such sequences, as ``rnngraph.prepare`` takes
        them: (samples,), (samples, units) or (samples, batch, units), each unit with a scale of its own over all
        samples and sequences. Two axes are samples and units: several sequences of one unit are (samples, batch, 1).
        ``kind``: "standard", to mean 0 and standard deviation 1, or "minmax", to ``limits``. ``leave``: names that are
        not scaled, such as numbers of classes. ``missing``: "error", or "mask", which leaves NaN out of the moments.

        Raises DataError for NaN, infinity and what is no series of numbers, OptionError for an unknown kind or name.
        """
        checks.choice("kind", kind, KINDS, "choose one of them")
        gaps = checks.choice("missing", missing, MISSING, "use 'mask' for series with gaps") == "mask"
        low, high = _limits(limits)
        entries = series if isinstance(series, list | tuple) else [series]
        tables = [as_table(entry, "series") for entry in entries]
        if not tables:
            raise DataError("series", "an empty list", "at least one sequence", "give a list of mappings")
        left = tuple(str(name) for name in leave)
        for name in left:
            if name not in tables[0]:
                raise OptionError("leave", repr(name), f"names among {list(tables[0])}", "check the spelling")
        offset, factor, constant = {}, {}, {}
        for name in tables[0]:
            if name in left:
                continue
            rows = np.concatenate([_rows(table, name, number, gaps) for number, table in enumerate(tables)])
            offset[name], factor[name], same = _fitted(rows, kind, low, high)
            if same:
                constant[name] = same
        return cls(kind, offset, factor, constant, left)

    def scale(self, series: Any, *, graph: nx.MultiDiGraph | None = None, missing: str = "error") -> Any:
        """The series by name, scaled: arrays of any axes, the last one the units; names left alone pass as they are.

        ``series``: what ``fit`` takes. A mapping, a structured array and a data frame become a dict, a 2-D array stays
        one, a list a list. With ``graph``, an input that holds a measured output, as ``open_loop`` and ``mix_feedback``
        note, is scaled as that output, and a gate is left as it is. ``missing``: "error", or "mask", which lets NaN
        pass. Raises DataError for a name that the scaling does not know, another number of units, NaN and infinity.
        """
        gaps = checks.choice("missing", missing, MISSING, "use 'mask' for series with gaps") == "mask"
        return self._changed(series, graph, gaps, lambda values, offset, factor: (values - offset) / factor)

    def unscale(self, outputs: Any, *, graph: nx.MultiDiGraph | None = None, missing: str = "error") -> Any:
        """What ``scale`` undoes: a network's outputs in the units of the data. Forms and errors are as of ``scale``."""
        gaps = checks.choice("missing", missing, MISSING, "use 'mask' for series with gaps") == "mask"
        return self._changed(outputs, graph, gaps, lambda values, offset, factor: values * factor + offset)

    def fold(self, graph: nx.MultiDiGraph, params: Mapping[str, Any]) -> tuple[nx.MultiDiGraph, dict[str, Array]]:
        """A network that takes inputs and gives outputs in the units of the data, and its parameters.

        With kernels of both, ``folded.forward(new_params, inputs)`` is ``scaling.unscale`` of
        ``kernel.forward(params, scaling.scale(inputs))``, at the first steps too: one file to ship. Each input and
        output gets a node beside it, ``<name>_scaled``, in whose place the rest of the network stays as it was: the
        input reaches it, and it reaches the output, through a fixed diagonal edge and a bias. Parameters keep their
        names; added are the biases ``offset_<name>``. The state of the new network holds scaled values, under the names
        of the new nodes; ``graph.graph["scaled"]`` tells ``rnngraph.prepare`` how to make them of samples. Outputs keep
        their loss's meaning only where it is one of values: train before, fold to ship.

        Raises DataError where an input or output is unknown to the scaling or has another size, GraphError for a bad
        graph.
        """
        return fold(graph, params, self.offset, self.factor, self.left)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the scaling as JSON, whole or not at all. Raises DataError where the folder cannot be written to."""
        content = {
            "format": FORMAT,
            "kind": self.kind,
            "offset": {name: values.tolist() for name, values in self.offset.items()},
            "factor": {name: values.tolist() for name, values in self.factor.items()},
            "constant": {name: list(units) for name, units in self.constant.items()},
            "left": list(self.left),
        }
        write_atomic(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Scaling:
        """Read what ``save`` wrote. Raises DataError where the file cannot be read or holds something else."""
        file = as_path(path)
        where, remedy = f"file {str(file)!r}", "write the file with Scaling.save"
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(where, f"{error.strerror or error}", "a readable file", "check the path") from error
        except (ValueError, RecursionError) as error:
            raise DataError(where, f"no valid JSON ({error})", "a scaling", remedy) from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise DataError(where, "JSON of something else", f'"format": "{FORMAT}"', remedy)
        try:
            offset, factor = (
                {str(name): np.array(values, dtype=np.float64) for name, values in content[key].items()}
                for key in ("offset", "factor")
            )
            constant = {str(name): tuple(int(unit) for unit in units) for name, units in content["constant"].items()}
            left = tuple(str(name) for name in content["left"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(where, f"a scaling that cannot be read ({error!r})", "what save wrote", remedy) from error
        for name, values in offset.items():
            fits = name in factor and values.ndim == 1 and factor[name].shape == values.shape
            if not (fits and np.isfinite(values).all() and np.isfinite(factor[name]).all() and factor[name].all()):
                expected = "finite offsets and as many finite factors other than 0"
                raise DataError(where, f"numbers of {name!r} that are no scaling", expected, remedy)
        return cls(str(content.get("kind")), offset, factor, constant, left)

    def __str__(self) -> str:
        lines = [f"Scaling ({self.kind}): scaled = (value - offset) / factor"]
        width = max((len(name) for name in self.offset), default=0)
        for name, values in self.offset.items():
            text = f"  {name:{width}}  offset {_shown(values)}, factor {_shown(self.factor[name])}"
            units = self.constant.get(name, ())
            text += f"; constant, factor 1: {'unit' if len(units) == 1 else 'units'} {_listed(units)}" if units else ""
            lines.append(text)
        lines += [f"  {name:{width}}  as it is" for name in self.left]
        return "\n".join(lines)

    def _changed(self, series: Any, graph: nx.MultiDiGraph | None, gaps: bool, change: Any) -> Any:
        if isinstance(series, list | tuple):
            return [self._changed(entry, graph, gaps, change) for entry in series]
        notes = Notes() if graph is None else read_notes(graph)
        changed: dict[str, Any] = {}
        for name, value in (series if isinstance(series, Mapping) else as_table(series, "series")).items():
            known = str(name)
            if known not in {*self.offset, *self.left}:
                known = notes.measured.get(known, known)
            if known in self.left or known in {*notes.gates, notes.clock}:
                changed[name] = value
                continue
            if known not in self.offset:
                names = [*self.offset, *self.left]
                close = nearest(known, names)
                remedy = f"did you mean {close!r}?" if close else "fit the scaling with it, or with leave=(name,)"
                if any(known.startswith(f"{each}_") for each in names):
                    remedy += "; for an input that open_loop or mix_feedback added, pass graph=graph"
                raise DataError("series", f"the unknown name {clip(name)}", f"names among {names}", remedy)
            offset, factor = self.offset[known], self.factor[known]
            array = _numbers(value, f"series {name!r}", gaps)
            if offset.size != 1 and array.shape[-1:] != offset.shape:
                raise DataError(
                    f"series {name!r}", f"shape {array.shape}", f"{offset.size} units along the last axis",
                    "give the series with the units it was fitted with",
                )  # fmt: skip
            dtype = array.dtype if array.dtype.kind == "f" else np.dtype(np.float64)
            changed[name] = change(array.astype(np.float64), offset, factor).astype(dtype)
        plain = not isinstance(series, Mapping) and not hasattr(series, "columns")
        if plain and np.asarray(series).dtype.names is None:
            return np.stack(list(changed.values()), axis=1)
        return changed


def _fitted(rows: Array, kind: str, low: float, high: float) -> tuple[Array, Array, tuple[int, ...]]:
    """Offset and factor of each column, and the columns that are constant."""
    known = ~np.isnan(rows)
    rows = np.where(known.any(axis=0), rows, 0.0)  # a unit of gaps alone counts as constant
    least, most = np.nanmin(rows, axis=0), np.nanmax(rows, axis=0)
    if kind == "standard":
        offset = np.nanmean(rows, axis=0)
        factor = np.nanstd(rows - offset, axis=0)
    else:
        factor = (most - least) / (high - low)
        offset = least - low * factor
    # Also where the values differ by rounding alone.
    same = most - least <= 8 * np.finfo(np.float64).eps * np.maximum(np.abs(least), np.abs(most))
    return np.where(same, least, offset), np.where(same, 1.0, factor), tuple(int(unit) for unit in np.flatnonzero(same))


def _limits(given: object) -> tuple[float, float]:
    try:
        low, high = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        low = high = np.nan
    if np.shape(low) or np.shape(high) or not (np.isfinite([low, high]).all() and low < high):
        raise OptionError("limits", clip(given), "two finite numbers, low < high", "give (-1, 1), for example")
    return float(low), float(high)


def _rows(table: Mapping[str, Any], name: str, number: int, gaps: bool) -> Array:
    """All samples of all sequences of one name, (samples, units), float64."""
    where = f"series {name!r}" + (f" of sequence {number}" if number else "")
    if name not in table:
        raise DataError(
            where, "no such series", "the names of the first sequence", "give every sequence the same names"
        )
    array = _numbers(table[name], where, gaps)
    if array.ndim not in (1, 2, 3) or not array.size:
        expected = "(samples,), (samples, units) or (samples, batch, units)"
        raise DataError(where, f"shape {array.shape}", expected, "arrange the axes as time, batch, units")
    return array.reshape(-1, 1 if array.ndim == 1 else array.shape[-1]).astype(np.float64)


def _numbers(value: object, where: str, gaps: bool) -> Array:
    array = as_array(where, value)
    if array.dtype.kind not in "biuf":
        raise DataError(where, f"dtype {array.dtype}", "real numbers", "convert it to numbers")
    if array.dtype.kind == "f":
        remedy = "for gaps, pass missing='mask', and the same to prepare"
        check_finite(where, np.where(np.isnan(array), 0.0, array) if gaps else array, array, remedy)
    return array


def _shown(values: Array) -> str:
    shown = ", ".join(f"{value:.4g}" for value in values[:4])
    return f"{shown}, ... ({values.size} units)" if values.size > 4 else shown


def _listed(units: tuple[int, ...]) -> str:
    return ", ".join(map(str, units[:8])) + (", ..." if len(units) > 8 else "")
