"""The command line's GRAPH argument: a network of the zoo, a graph in a Python file, or a node-link JSON file."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import networkx as nx

from rnngraph import zoo
from rnngraph.errors import GraphError, OptionError, RNNGraphError
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
    with _user_code(where, path):
        module = _run_file(path)
    if not hasattr(module, name):
        raise OptionError(where, f"no {name!r} in the file", "a graph or a function", "check the name after the colon")
    found: Any = getattr(module, name)
    if callable(found) and not isinstance(found, nx.Graph):
        found = _call(found, where, path)
    if not isinstance(found, nx.MultiDiGraph):
        raise GraphError(
            where, f"a {type(found).__name__}", "a networkx.MultiDiGraph or a function that returns one",
            "build the network as a MultiDiGraph",
        )  # fmt: skip
    return found


def _call(function: Callable[[], Any], where: str, path: Path) -> Any:
    """What a function of the user's returns; raises OptionError if it needs arguments."""
    code = getattr(function, "__code__", None)
    if code is not None:
        needed = [
            parameter.name
            for parameter in inspect.signature(function).parameters.values()
            if parameter.default is parameter.empty
            and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        ]
        if needed:
            raise OptionError(
                where, f"a function that needs {', '.join(needed)} ({code.co_filename}:{code.co_firstlineno})",
                "a function without arguments", "give its arguments defaults, or write a function that calls it",
            )  # fmt: skip
    with _user_code(where, path):
        return function()


@contextmanager
def _user_code(where: str, path: Path) -> Iterator[None]:
    """Whatever goes wrong in the user's code becomes an OptionError that names the exception, the file and the line.

    Errors of rnngraph pass: they name what is wrong with the graph.
    """
    try:
        yield
    except RNNGraphError:
        raise
    except (Exception, SystemExit) as error:  # the file may raise anything, and leave by sys.exit
        if isinstance(error, SyntaxError):
            place, message = f"{error.filename or path}:{error.lineno}", error.msg
        else:
            frames = traceback.extract_tb(error.__traceback__)
            own = [frame for frame in frames if _same_file(frame.filename, path)]
            place, message = f"{path}:{own[-1].lineno}" if own else str(path), str(error)
        raise OptionError(
            where, f"{type(error).__name__} at {place}" + f": {message}" * bool(message),
            "Python code that runs", "mend the file",
        ) from error  # fmt: skip


def _same_file(name: str, path: Path) -> bool:
    return os.path.abspath(name) == os.path.abspath(path)


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
    finally:
        sys.path.remove(folder)
    return module
