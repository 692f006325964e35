"""Names that the templates of emitted functions take for themselves: each has one meaning, whichever templates meet.

One emitted function is put together from several templates. Where two of them assigned one fixed name, as ``first`` for
the first step of a Jacobian and for the start of a stretch of stacked taps, the later one would change what the earlier
one meant, in the few programs in which both occur.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import networkx as nx
import pytest
from random_graphs import random_graph, with_weights

import rnngraph as rg
from codegen.names import Namer
from codegen.printers.support import RESERVED
from codegen.program import Program
from rnngraph.backends import PRINTERS
from rnngraph.hessian import hessian_program
from rnngraph.output_jacobian import jacobian_program

METHODS: list[dict[str, Any]] = [
    {"method": "bptt", "wrt": ("parameters", "inputs", "state")},
    {"method": "tbptt", "k1": 2, "k2": 4},
    {"method": "bptt-rtrl", "block": 3},
    *({"method": name} for name in ("rtrl", "focused", "snap", "rflo", "eprop", "uoro")),
]
# Names with several forms of one meaning.
SAME = {
    "direction": {"argument", "pack(direction).vector"},
    "given": {"argument", "_checked_state(state, batch)", "_on_device(given)"},
    "inputs": {"argument", "_on_device(inputs)"},
    "loss": {"#.sum()", "float(#.sum())"},
    "state": {"argument", "_on_device(state)"},
    "step": {"in range(0, T + 0)", "in range(T, -0, -0)"},
    "t": {
        "in enumerate(work.#, sensitivities.time + 0)",
        "in range(sensitivities.time + 0, sensitivities.time + 0 + T)",
        "in zip(range(T, 0, -0), work.#, strict=True)",
        "in range(T, 0, -0)",
    },
    "targets": {"argument", "_on_device(targets)"},
    "weights": {"argument", "np.asarray(weights)"},
}


def graphs() -> Iterator[nx.MultiDiGraph]:
    for seed in range(3):
        yield random_graph(seed)
        yield with_weights(random_graph(seed), seed)
    taps = nx.MultiDiGraph()
    taps.add_node("x", kind="input", size=2)
    taps.add_node("a", size=2, activation="tanh", initial="parameter")
    taps.add_node("y", kind="output", size=2)
    taps.add_edge("x", "a", delay=[0, 1, 3])
    taps.add_edge("a", "a", delay=1)
    taps.add_edge("x", "y", delay=[0, 1, 3])
    taps.add_edge("a", "y", delay=[0, 2])
    yield taps
    ahead = taps.copy()
    ahead.add_edge("y", "a", delay=-1, parameter="R")
    ahead.edges["a", "y", 0]["delay"] = [2, 3]
    yield ahead


def programs() -> Iterator[Program]:
    """Every kind of program, each rule's, of several graphs."""
    for graph in graphs():
        for options in METHODS:
            try:
                compilation = rg.compile(graph, dtype="float64", **options).compilation
            except rg.UnsupportedError:
                continue
            yield compilation.program
            if options["method"] == "bptt":
                yield hessian_program(compilation)
        if all(edge.delay >= 0 for edge in rg.validate(graph).edges):
            yield jacobian_program(compilation)


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """All statements of a function; what stands inside a comprehension has a scope of its own."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.expr | ast.ClassDef):
            yield child
            yield from statements(child)


def assigned(target: ast.expr, value: ast.expr | None, form: str) -> Iterator[tuple[str, str]]:
    """(name, form) of what one assignment sets; a tuple of values one by one."""
    if isinstance(target, ast.Name):
        yield target.id, form if value is None else form + ast.unparse(value)
    elif isinstance(target, ast.Tuple):
        values = value.elts if isinstance(value, ast.Tuple) and not form else [value] * len(target.elts)
        for each, part in zip(target.elts, values, strict=True):
            yield from assigned(each, part, form)


def assignments(function: ast.FunctionDef) -> Iterator[tuple[str, str]]:
    """(name, form) of every plain name that a function binds."""
    for node in [function, *statements(function)]:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield from assigned(target, node.value, "")
        elif isinstance(node, ast.For):
            yield from assigned(node.target, node.iter, "in ")
        elif isinstance(node, ast.arg):
            yield node.arg, "argument"


def of_templates(source: str, given: set[str]) -> Iterator[tuple[str, str]]:
    """(name, form) of the names in emitted functions that are not ``given`` by a Namer; numbers and given names do not
    tell forms apart, nor does the array module."""
    for function in ast.parse(source).body:
        if not isinstance(function, ast.FunctionDef):
            continue
        text = ast.unparse(function)
        in_stretches = "= _forward(" in text  # one template alone; what it calls is made of several
        if function.name == "_forward" or ("work = _workspace(" in text and not in_stretches):
            for name, form in assignments(function):
                if name not in given and (form != "argument" or function.name != "_forward"):  # what forward has set
                    form = re.sub(r"\b[A-Za-z_]\w*", lambda word: "#" if word[0] in given else word[0], form)
                    form = re.sub(r"\bcp\b", "np", re.sub(r"\b\d+\b", "0", form)).replace(
                        "VECTOR_SIZE + 0", "VECTOR_SIZE"
                    )
                    yield name, form


def forms_of_names(backend: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """The forms of each fixed name, over all programs."""
    given: set[str] = set()
    name = Namer.name

    def recorded(self: Namer, key: object, wanted: str) -> str:
        identifier = name(self, key, wanted)
        given.add(identifier)
        return identifier

    monkeypatch.setattr(Namer, "name", recorded)
    forms: dict[str, set[str]] = defaultdict(set)
    for program in programs():
        given.clear()
        for name_, form in of_templates(PRINTERS[backend](program), given):
            forms[name_].add(form)
    return forms


@pytest.mark.parametrize("backend", ["numpy", "cupy"])
def test_every_fixed_name_has_one_meaning(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    forms = forms_of_names(backend, monkeypatch)
    assert set(forms) <= RESERVED | {"_"}, "names that a node's name could take"
    several = {name: found for name, found in forms.items() if len(found - SAME.get(name, set())) > (name not in SAME)}
    assert not several
    wanted = {"earliest", "jacobians", "last", "step", "t"} | ({"first", "stack"} if backend == "numpy" else set())
    assert wanted <= set(forms), "a template that no program uses: nothing is checked of it"
