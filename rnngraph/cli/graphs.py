"""The command line's GRAPH argument: a network of the zoo, a graph in a Python file, or a node-link JSON file."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from typing import Any

import networkx as nx

from rnngraph import zoo
from rnngraph.errors import GraphError, OptionError
from rnngraph.files import load_graph

FORMS = "zoo:NAME, zoo:NAME(arguments), FILE.py:NAME or FILE.json"


def read_graph(argument: str) -> nx.MultiDiGraph:
    """The graph that ``argument`` names; raises OptionError, GraphError or DataError."""
    if argument.startswith("zoo:"):
        return _from_zoo(argument.removeprefix("zoo:"))
    file, separator, name = argument.rpartition(":")
    if separator and file.endswith(".py"):
        return _from_python(Path(file), name)
    if argument.endswith(".json"):
        return load_graph(argument)
    if argument.endswith(".py"):
        raise OptionError("GRAPH", repr(argument), "FILE.py:NAME", "add a colon and the name of the graph")
    raise OptionError("GRAPH", repr(argument), FORMS, "try rnngraph show zoo:elman")


def _from_zoo(text: str) -> nx.MultiDiGraph:
    """zoo.example(name), or the zoo's function with literal arguments: lstm(3, 16, peepholes=True)."""
    if "(" not in text:
        return zoo.example(text)
    where = f"GRAPH zoo:{text}"
    try:
        call = ast.parse(text, mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise ValueError("not a call")
        arguments = [ast.literal_eval(argument) for argument in call.args]
        named = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords if keyword.arg}
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise OptionError(where, "no call with literals", "zoo:lstm(3, 16)", "mend the arguments") from error
    name = call.func.id
    if name not in zoo.NETWORKS:
        return zoo.example(name)  # raises the error that lists the names
    try:
        return zoo.NETWORKS[name](*arguments, **named)
    except TypeError as error:
        raise OptionError(where, str(error), f"the arguments of rnngraph.zoo.{name}", "mend the arguments") from error


def _from_python(path: Path, name: str) -> nx.MultiDiGraph:
    """The graph called ``name`` in a Python file, or what a function of that name without arguments returns."""
    where = f"GRAPH {path}:{name}"
    if not path.is_file():
        raise OptionError(where, "no such file", "a Python file", "check the path")
    module = _run_file(path)
    if not hasattr(module, name):
        raise OptionError(where, f"no {name!r} in the file", "a graph or a function", "check the name after the colon")
    found: Any = getattr(module, name)
    if callable(found) and not isinstance(found, nx.Graph):
        found = found()
    if not isinstance(found, nx.MultiDiGraph):
        raise GraphError(
            where, f"a {type(found).__name__}", "a networkx.MultiDiGraph or a function that returns one",
            "build the network as a MultiDiGraph",
        )  # fmt: skip
    return found


def _run_file(path: Path) -> Any:
    """Run a file of the user's as a module; imports from its own folder work as with ``python FILE``."""
    spec = importlib.util.spec_from_file_location(f"_graph_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise OptionError(f"GRAPH {path}", "a file that Python cannot import", "a Python file", "check the path")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise OptionError(f"GRAPH {path}, line {error.lineno}", error.msg, "valid Python", "mend the file") from error
    finally:
        sys.path.remove(folder)
    return module
