"""The layers, read from the imports: `rnngraph` above `codegen`, files one way, no imports hidden in functions.

Emitted code and its templates (folders named ``templates``) are not part of the layers and are left out.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("rnngraph", "codegen")
MAX_LINES = 450

# The one place for imports inside functions: optional packages that a core install lacks. File -> packages.
DEFERRED = {
    "codegen/load.py": {"cupy"},
    "rnngraph/__init__.py": {"rnngraph"},  # rg.draw: matplotlib is imported when it is first asked for
    "rnngraph/comparison.py": {"rnngraph"},  # its plot: matplotlib again
    "rnngraph/flow/plot.py": {"matplotlib"},
    "rnngraph/train/lbfgs.py": {"scipy"},
    "rnngraph/train/levenberg_marquardt.py": {"scipy"},
}
# The one place where source text becomes code. File -> calls.
EXECUTING = {"codegen/load.py": {"exec"}}

FORBIDDEN_CALLS = {"eval", "exec", "sympify", "parse_expr", "lambdify", "__import__"}
FORBIDDEN_IMPORTS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


@dataclass(frozen=True)
class Import:
    """One imported name: ``target`` as a dotted path, and whether the import stands inside a function."""

    target: str
    line: int
    inside_function: bool


def module_name(path: str) -> str:
    """Dotted name of a file given by its path relative to the root: a/b.py -> a.b, a/__init__.py -> a."""
    parts = path.removesuffix(".py").split("/")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


class Reader(ast.NodeVisitor):
    """Collects imports and forbidden calls of one file."""

    def __init__(self, path: str) -> None:
        self.name = module_name(path)
        self.package = self.name if path.endswith("__init__.py") else self.name.rpartition(".")[0]
        self.imports: list[Import] = []
        self.calls: list[tuple[str, int]] = []
        self.depth = 0

    def add(self, target: str, node: ast.AST) -> None:
        self.imports.append(Import(target, getattr(node, "lineno", 0), self.depth > 0))

    def visit_function(self, node: ast.AST) -> None:
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.visit_function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.visit_function(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.visit_function(node)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.add(alias.name, node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        if node.level:
            package = self.package.split(".")
            base = ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])
        for alias in node.names:
            self.add(f"{base}.{alias.name}", node)
            if alias.name in FORBIDDEN_CALLS:
                self.calls.append((alias.name, node.lineno))

    def visit_Call(self, node: ast.Call) -> None:
        function = node.func
        if isinstance(function, ast.Name):
            name = function.id
        elif isinstance(function, ast.Attribute):
            # obj.eval() and obj.exec() are other people's methods, not the builtins
            owner = function.value.id if isinstance(function.value, ast.Name) else ""
            builtin = function.attr in {"eval", "exec", "__import__"}
            name = "" if builtin and owner != "builtins" else function.attr
            if owner in {"sympy", "sp"} and function.attr == "S":
                name = "sympify"  # sympy.S(x) is sympify(x)
        else:
            name = ""
        if name in FORBIDDEN_CALLS:
            self.calls.append((name, node.lineno))
        if name == "import_module" and node.args:
            argument = node.args[0]
            self.add(str(argument.value) if isinstance(argument, ast.Constant) else "<computed>", node)
        self.generic_visit(node)


def check(sources: dict[str, str]) -> list[str]:
    """Everything wrong with the given files (path relative to the root -> text), one line each."""
    problems = []
    modules = {module_name(path): path for path in sources}
    graph = nx.DiGraph()
    for path, text in sources.items():
        reader = Reader(path)
        reader.visit(ast.parse(text, filename=path))
        lines = len(text.splitlines())
        if lines >= MAX_LINES:
            problems.append(f"{path}: {lines} lines, the limit is {MAX_LINES}")
        for name, line in reader.calls:
            if name not in EXECUTING.get(path, set()):
                problems.append(f"{path}:{line}: uses {name}")
        for item in reader.imports:
            top = item.target.split(".")[0]
            if path.startswith("codegen/") and top in {"rnngraph", "networkx"}:
                problems.append(f"{path}:{item.line}: codegen imports {top}")
            if top in FORBIDDEN_IMPORTS:
                problems.append(f"{path}:{item.line}: imports {top}")
            if item.inside_function and top not in DEFERRED.get(path, set()):
                problems.append(f"{path}:{item.line}: imports {item.target} inside a function")
            # `from a import b` names the file a.b if there is one, else the file a
            target = item.target if item.target in modules else item.target.rpartition(".")[0]
            if target in modules:
                graph.add_edge(path, modules[target])
    problems += [f"{' -> '.join([*circle, circle[0]])}: circular import" for circle in nx.simple_cycles(graph)]
    return problems


def project_sources() -> dict[str, str]:
    files = [f for package in PACKAGES for f in sorted((ROOT / package).rglob("*.py")) if "templates" not in f.parts]
    return {f.relative_to(ROOT).as_posix(): f.read_text(encoding="utf-8") for f in files}


def test_project_keeps_the_layers() -> None:
    sources = project_sources()
    assert sources, "no source files found"
    assert not (problems := check(sources)), "\n".join(problems)


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("codegen/a.py", "import rnngraph.model", "codegen imports rnngraph"),
        ("codegen/a.py", "from networkx import DiGraph", "codegen imports networkx"),
        ("rnngraph/a.py", "import pickle", "imports pickle"),
        ("rnngraph/a.py", "def f():\n    import json", "imports json inside a function"),
        ("rnngraph/a.py", "import importlib\ndef f(n):\n    importlib.import_module(n)", "inside a function"),
        ("rnngraph/a.py", "import sympy\nsympy.sympify('x')", "uses sympify"),
        ("rnngraph/a.py", "import sympy\nsympy.S('x')", "uses sympify"),
        ("rnngraph/a.py", "from sympy import sympify as harmless", "uses sympify"),
        ("rnngraph/a.py", "eval('1')", "uses eval"),
        ("rnngraph/a.py", "exec('1')", "uses exec"),
        ("rnngraph/a.py", "x = 1\n" * MAX_LINES, "the limit is"),
        ("rnngraph/a.py", "from . import b", "circular import"),
        ("rnngraph/a.py", "from rnngraph.b import value", "circular import"),
    ],
)
def test_checker_finds_a_planted_error(path: str, text: str, expected: str) -> None:
    sources = {path: text, "rnngraph/b.py": "import rnngraph.a\nvalue = 1", "rnngraph/__init__.py": ""}
    assert any(expected in problem for problem in check(sources)), check(sources)


def test_checker_accepts_clean_files() -> None:
    sources = {
        "rnngraph/__init__.py": "from rnngraph.a import value",
        "rnngraph/a.py": "import networkx\nfrom codegen import b\nvalue = b.model.eval()",
        "codegen/b.py": "import numpy",
        "codegen/load.py": "def load(text):\n    import cupy\n    exec(text)",
    }
    assert check(sources) == []
