"""Files: graphs as node-link JSON, tables of numbers as CSV or npz. Writes are atomic; nothing is executed."""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import numbers
import os
import secrets
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import sympy
from numpy.typing import NDArray

from rnngraph.errors import DataError, EquationError, GraphError, OptionError
from rnngraph.parsing import parse_equation, written_names
from rnngraph.words import clip

_NODE_KEYS = ("id",)
_EDGE_KEYS = ("source", "target", "key")


def write_atomic(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write ``content`` to ``path`` whole or not at all: a new file beside it takes its place at the end.

    Text is written as UTF-8. Raises DataError where the folder cannot be written to, OptionError where ``path`` is no
    path.
    """
    target = as_path(path)
    data = content.encode("utf-8") if isinstance(content, str) else content
    with _replacement(target) as temporary:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise what ``write_atomic`` would raise for ``path``, before the work whose result goes there.

    A file is made in the folder and removed, as permissions alone tell little. What stands at ``path`` is left alone.
    """
    target = as_path(path)
    with _replacement(target) as temporary:
        temporary.open("xb").close()
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))


def as_path(path: object, what: str = "file") -> Path:
    """``path`` as a Path; raises OptionError for anything that names no file, or with ``what="folder"`` no folder."""
    expected, remedy = f"text or a pathlib.Path that names a {what}", f"give the {what}'s path"
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise OptionError("path", f"{clip(path)} of type {type(path).__name__}", expected, remedy)
    try:
        named = Path(path).name if what == "file" else os.fspath(path)
        usable = b"\0" not in os.fsencode(path) and named != ""
    except UnicodeEncodeError:  # a lone surrogate
        usable = False
    if not usable:
        raise OptionError("path", clip(os.fspath(path)), expected, remedy)
    return Path(path)


@contextmanager
def _replacement(target: Path) -> Iterator[Path]:
    """The path of a new file beside ``target``, removed at the end if it is still there; OSError becomes DataError."""
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    try:
        try:
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"file {str(target)!r}", f"{error.strerror or error}", "a file that can be written",
            "choose another path or create the folder",
        ) from error  # fmt: skip


@contextmanager
def _readable(where: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(where, f"{error.strerror or error}", "a readable file", "check the path") from error


# Graphs.


def save_graph(graph: nx.MultiDiGraph, path: str | os.PathLike[str]) -> None:
    """Write ``graph`` as node-link JSON (the form of ``networkx.node_link_data`` with ``edges="edges"``).

    Arrays, tuples and ranges become lists, numbers of other types int or float, and sympy equations their text in the
    functions of the table: ``validate`` makes an equal Model of what ``load_graph`` reads. Raises GraphError for
    anything JSON cannot hold (EquationError for an equation that cannot be read), DataError where the folder cannot be
    written to, OptionError where ``path`` is no path.
    """
    if not isinstance(graph, nx.MultiDiGraph):
        raise GraphError("graph", type(graph).__name__, "a networkx.MultiDiGraph", "build the network as one")
    nodes = []
    for node, attributes in graph.nodes(data=True):
        where = f"node {node!r}"
        nodes.append({"id": _name(node, where), **_attributes(attributes, _NODE_KEYS, where)})
    edges = []
    for source, target, key, attributes in graph.edges(keys=True, data=True):
        where = f"edge {source!r} -> {target!r}"
        ends = {"source": _name(source, where), "target": _name(target, where), "key": _plain(key, where)}
        edges.append({**ends, **_attributes(attributes, _EDGE_KEYS, where)})
    content = {
        "directed": True,
        "multigraph": True,
        "graph": _attributes(graph.graph, (), "graph"),
        "nodes": nodes,
        "edges": edges,
    }
    write_atomic(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def load_graph(path: str | os.PathLike[str]) -> nx.MultiDiGraph:
    """Read a graph from node-link JSON; the graph is not validated yet.

    Raises DataError where the file cannot be read or is no JSON, GraphError where the JSON is no directed multigraph,
    OptionError where ``path`` is no path.
    """
    file = as_path(path)
    where = f"file {str(file)!r}"
    try:
        with _readable(where):
            content = json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DataError(where, f"no valid JSON ({error})", "node-link JSON", "write it with save_graph") from error
    if not isinstance(content, dict) or not isinstance(content.get("nodes"), list):
        raise GraphError(where, "JSON without a list of nodes", "node-link JSON", "write the file with save_graph")
    edges = content.get("edges", content.get("links"))  # networkx before 3.4 wrote "links"
    if not isinstance(edges, list):
        raise GraphError(where, "JSON without a list of edges", "node-link JSON", "write the file with save_graph")
    if content.get("directed") is not True:
        raise GraphError(where, "an undirected graph", '"directed": true', "build the network as a MultiDiGraph")
    graph = nx.MultiDiGraph(**_mapping(content.get("graph", {}), f"{where}, graph"))
    for position, entry in enumerate(content["nodes"]):
        attributes = _mapping(entry, f"{where}, node number {position}")
        name = _taken(attributes, "id", f"{where}, node number {position}")
        if name in graph:
            raise GraphError(f"{where}, node number {position}", f"{name!r} again", "one entry per node", "rename it")
        graph.add_node(name, **attributes)
    for position, entry in enumerate(edges):
        place = f"{where}, edge number {position}"
        attributes = _mapping(entry, place)
        ends = [_taken(attributes, key, place) for key in ("source", "target")]
        for end in ends:
            if end not in graph:
                raise GraphError(place, f"the node {end!r}", "a node of the file", "add the node or mend the name")
        key = _hashable(attributes.pop("key", None), place)
        if key is not None and graph.has_edge(*ends, key=key):
            raise GraphError(place, f"key {key!r} again", "one key per edge between two nodes", "give it another key")
        graph.add_edge(*ends, key=key, **attributes)
    return graph


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _attributes(attributes: Mapping[Any, Any], reserved: tuple[str, ...], where: str) -> dict[str, Any]:
    plain = {}
    for name, value in attributes.items():
        if not isinstance(name, str) or name in reserved:
            raise GraphError(where, f"the attribute {name!r}", f"text other than {list(reserved)}", "rename it")
        if name in ("equation", "expression") and isinstance(value, sympy.Basic):
            plain[name] = _text(value, where, named=name == "equation")
        else:
            plain[name] = _plain(value, f"{where}, attribute {name!r}")
    return plain


def _text(equation: Any, where: str, named: bool) -> str:
    """A sympy expression as text that ``parse_equation`` reads back to the same one. ``named``: its names are ports of
    the node; those of a weight's expression are whatever stands in the text."""
    names = {symbol.name for symbol in equation.atoms(sympy.Symbol)}
    expression, _ = parse_equation(equation, names, where)
    text = str(expression)
    try:
        same = parse_equation(text, names if named else written_names(text), where)[0] == expression
    except EquationError:  # numbers or exponents beyond what text may have
        same = False
    if not same:
        raise GraphError(
            where,
            f"the {'equation' if named else 'expression'} {clip(text)}, whose text does not read back",
            f"an {'equation' if named else 'expression'} that text can hold",
            "write the equation as text, or split it into several nodes"
            if named else "write the expression as text, of names that text can hold",
        )  # fmt: skip
    return text


def _name(node: Any, where: str) -> Any:
    """A node in JSON's own types. ``validate`` calls it by its ``str``, so where that would change it is written."""
    plain = _plain(node, where)
    return plain if str(_hashable(plain, where)) == str(node) else str(node)


def _plain(value: Any, where: str) -> Any:
    """``value`` in JSON's own types."""
    if hasattr(value, "__array__") and not isinstance(value, sympy.Basic):
        value = np.asarray(value).tolist()
    if isinstance(value, str):
        if not _encodable(value):
            raise GraphError(where, f"{clip(value)} with a lone surrogate", "text of UTF-8", "remove that character")
        return value
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        number = float(value)
        if not math.isfinite(number):
            raise GraphError(where, repr(value), "a finite number", "JSON holds finite numbers only")
        return number
    if isinstance(value, sympy.Basic):
        return str(value)
    if isinstance(value, list | tuple | range):
        return [_plain(each, where) for each in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(each, where) for name, each in value.items()}
    raise GraphError(
        where, f"a value of type {type(value).__name__}", "text, numbers, lists, arrays or sympy expressions",
        "give the attribute such a value",
    )  # fmt: skip


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _mapping(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise GraphError(where, f"{type(value).__name__}", "an object with attributes", "write it with save_graph")
    return dict(value)


def _taken(attributes: dict[str, Any], key: str, where: str) -> Any:
    if key not in attributes:
        raise GraphError(where, f"no {key!r}", f"an entry {key!r}", "write the file with save_graph")
    return _hashable(attributes.pop(key), where)


def _hashable(value: Any, where: str) -> Any:
    """A node's name or edge's key: JSON turned tuples into lists."""
    if isinstance(value, list):
        return tuple(_hashable(each, where) for each in value)
    if isinstance(value, dict):
        raise GraphError(where, "an object as a name", "text or a number", "rename the node")
    return value


# Tables.


def load_table(path: str | os.PathLike[str]) -> dict[str, NDArray[np.float64]]:
    """Columns of a CSV file (name -> (rows,)) or arrays of an npz file (name -> array), as float64.

    A CSV's first row is a header unless it holds numbers only; without one the columns are called "1", "2", ...
    Fields are separated by commas, semicolons or tabs. Raises DataError with the line of a field that is no number,
    OptionError where ``path`` is no path.
    """
    file = as_path(path)
    where = f"file {str(file)!r}"
    with _readable(where):
        if file.suffix == ".npz":
            return {name: array.astype(np.float64) for name, array in _load_npz(file, where).items()}
        return _load_csv(file, where)


def save_arrays(arrays: Mapping[str, NDArray[Any]], path: str | os.PathLike[str]) -> None:
    """Write named arrays as an npz file, whole or not at all. Any text will do for a name that has no null character
    and no lone surrogate. Raises DataError."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            if "\0" in name or not _encodable(name):
                expected = "a name without null characters and lone surrogates"
                raise DataError(f"array {clip(name)}", "a name that no npz file holds", expected, "rename the node")
            with archive.open(f"{name}.npy", "w") as entry:
                np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)
    write_atomic(path, buffer.getvalue())


def save_state(state: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a state, arrays (depth, batch, size) by node as ``Kernel.forward``, ``Kernel.step`` and ``Stream.state``
    give it, as an npz file of these arrays, whole or not at all.

    What a learning rule carries on beside it (sensitivities) is left out. Raises DataError where a node has no array of
    finite numbers with these three axes or the folder cannot be written to, OptionError where ``path`` is no path.
    """
    if not isinstance(state, Mapping):
        raise DataError("state", f"an object of type {type(state).__name__}", "arrays by node", "give stream.state")
    arrays = {
        str(node): np.asarray(value.get() if hasattr(value, "__cuda_array_interface__") else value)
        for node, value in state.items()
    }
    save_arrays(_checked_states("state", arrays), path)


def load_state(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """The state that ``save_state`` wrote: arrays (depth, batch, size) by node, each of the dtype that it had.

    Raises DataError where the file cannot be read or holds something else, OptionError where ``path`` is no path.
    """
    file = as_path(path)
    where = f"file {str(file)!r}"
    with _readable(where):
        return _checked_states(where, _load_npz(file, where))


def _checked_states(where: str, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    for node, array in arrays.items():
        place = f"{where}, node {clip(node)}"
        if array.dtype.kind not in "biuf" or array.ndim != 3:
            found = f"an array of shape {array.shape} and dtype {array.dtype}"
            raise DataError(place, found, "numbers (depth, batch, size)", "save what forward or stream.state gives")
        if not np.isfinite(array).all():
            raise DataError(place, "NaN or infinity", "finite numbers", "save the state of an earlier step")
    return arrays


def _load_npz(path: Path, where: str) -> dict[str, NDArray[Any]]:
    """Arrays of finite numbers by name, each of the dtype that it was saved with."""
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            for name in file.files:
                array = file[f"{name}.npy"]  # by its entry: an array may be called "a.npy" beside one called "a"
                if array.dtype.kind not in "biuf":
                    raise DataError(
                        f"{where}, array {name!r}", f"dtype {array.dtype}", "numbers", "save arrays of numbers only"
                    )
                arrays[name] = array
    except (ValueError, EOFError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise DataError(where, f"no valid npz ({error})", "an npz of numbers", "write it with numpy.savez") from error
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise DataError(f"{where}, array {name!r}", "NaN or infinity", "finite numbers", "remove those steps")
    return arrays


def _load_csv(path: Path, where: str) -> dict[str, NDArray[np.float64]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(where, "bytes that are no UTF-8", "a CSV or npz file", "save the table as CSV") from error
    first = text.split("\n", 1)[0]
    delimiter = max((",", ";", "\t"), key=first.count)
    try:
        numbered = [
            (line, [field.strip() for field in row])
            for line, row in enumerate(csv.reader(text.splitlines(), delimiter=delimiter, strict=True), start=1)
            if row
        ]
    except csv.Error as error:
        raise DataError(where, f"no valid CSV ({error})", "rows of numbers", "mend the file") from error
    if not numbered:
        raise DataError(where, "no rows", "rows of numbers", "give a file with data")
    names = [str(position) for position in range(1, len(numbered[0][1]) + 1)]
    if any(_number(field) is None for field in numbered[0][1]):
        names = numbered.pop(0)[1]
        if len(set(names)) < len(names):
            raise DataError(f"{where}, header", f"{names}", "different names", "rename the columns")
    rows = []
    for line, row in numbered:
        if len(row) != len(names):
            raise DataError(f"{where}, line {line}", f"{len(row)} fields", f"{len(names)}", "fill or remove the line")
        values = [_number(field) for field in row]
        for name, field, value in zip(names, row, values, strict=True):
            if value is None or not math.isfinite(value):
                raise DataError(
                    f"{where}, line {line}, column {name!r}", repr(field), "a finite number", "fill or remove the line"
                )
        rows.append(values)
    if not rows:
        raise DataError(where, "a header without rows", "rows of numbers", "give a file with data")
    table = np.array(rows, dtype=np.float64)
    return {name: table[:, position].copy() for position, name in enumerate(names)}


def _number(field: str) -> float | None:
    try:
        return float(field)
    except ValueError:
        return None
