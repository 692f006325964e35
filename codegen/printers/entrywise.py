"""An Entrywise statement as one line of NumPy-like Python: it runs once per call, so it is written to be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from codegen.functions import PointwiseFunction
from codegen.ir import Entrywise, Expression, View
from codegen.ufuncs import UFUNCS

SUM, PRODUCT, POWER, ATOM = range(4)  # how strongly a piece of text holds together


def entrywise_lines(
    statement: Entrywise, xp: str, view: Callable[[View], str], helpers: set[str], target: Callable[[View], str]
) -> list[str]:
    """The statement's line. ``view`` and ``target`` give a matrix as text; helpers that it calls join ``helpers``."""
    values = {}
    for (symbol, operand), shape in zip(statement.operands, statement.shapes, strict=True):
        text = view(operand)
        plain = (operand.columns,) if operand.vector else _rows_and_columns(operand)
        values[symbol] = text if shape == plain else f"{text}.reshape{shape!r}"
    text = _Text(xp, values, helpers).write(statement.expression)[0]
    if statement.operator == "softmax":
        helpers.add("_softmax")
        text = f"_softmax({text})"
    elif statement.operator == "sum":
        text = _summed(text, statement)
    own = statement.target
    plain = (own.columns,) if own.vector else _rows_and_columns(own)
    left = target(own) if statement.shape == plain else f"{view(own)}.reshape{statement.shape!r}[...]"
    return [f"{left} = {text}"]


def _rows_and_columns(view: View) -> tuple[int, int]:
    assert view.rows is not None
    return view.rows[1] - view.rows[0], view.columns


def _summed(text: str, statement: Entrywise) -> str:
    """The sum over the leading axes that the target lacks, and over those of length 1."""
    axes = max(len(shape) for shape in statement.shapes)
    lacking = tuple(range(axes - len(statement.shape)))
    widths = [
        max(shape[axis - axes] for shape in statement.shapes if len(shape) >= -(axis - axes)) for axis in range(axes)
    ]
    ones = tuple(
        axis for axis in range(len(lacking), axes) if statement.shape[axis - len(lacking)] == 1 and widths[axis] > 1
    )
    text = text if text.isidentifier() else f"({text})"
    if lacking:
        text += f".sum(axis={lacking[0] if len(lacking) == 1 else lacking!r})"
    if ones:
        kept = tuple(axis - len(lacking) for axis in ones)
        text += f".sum(axis={kept!r}, keepdims=True)"
    return text


class _Text:
    """Python text of an expression whose functions are primitives."""

    def __init__(self, xp: str, values: Mapping[Expression, str], helpers: set[str]) -> None:
        self.xp = xp
        self.values = values
        self.helpers = helpers

    def write(self, node: Expression) -> tuple[str, int]:
        """The text, and how strongly it holds together."""
        if node.is_Symbol:
            return self.values[node], ATOM
        if node.is_number:
            return repr(float(node)), ATOM if node >= 0 else SUM
        if node.is_Add:
            parts = [self.write(argument)[0] for argument in sorted(node.args, key=str)]
            return " + ".join(parts).replace("+ -", "- "), SUM
        if node.is_Mul:
            number, rest = node.as_coeff_Mul()
            parts = [self._held(argument, PRODUCT) for argument in sorted(rest.as_ordered_factors(), key=str)]
            sign = "-" if number < 0 else ""
            if abs(number) != 1:
                parts.insert(0, repr(float(abs(number))))
            return sign + " * ".join(parts), SUM if sign else PRODUCT
        if node.is_Pow:
            base, exponent = node.base, int(node.exp)
            if exponent < 0:
                inverse = self._held(base, POWER) if exponent == -1 else f"{self._held(base, ATOM)} ** {-exponent}"
                return f"1.0 / {inverse}", SUM  # bracketed in a product: a * (1 / b)
            return f"{self._held(base, ATOM)} ** {exponent}", POWER
        assert isinstance(node, PointwiseFunction), f"not a primitive: {node}"
        name = UFUNCS[node.func.__name__].text
        if not name.startswith("np."):
            self.helpers.update((name, "_of"))
            return f"_of({name}, {self.write(node.args[0])[0]})", ATOM
        arguments = ", ".join(self.write(argument)[0] for argument in node.args)
        return f"{self.xp}.{name.removeprefix('np.')}({arguments})", ATOM

    def _held(self, node: Expression, strength: int) -> str:
        text, own = self.write(node)
        return text if own >= strength else f"({text})"
