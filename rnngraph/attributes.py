"""Reading the attributes of one node or one edge: types, ranges and defaults, each checked where it stands.

What concerns several nodes or edges together (names, ports, cycles) is checked in :mod:`rnngraph.validate`.
An attribute whose value is None counts as not given. Drawing attributes of networkx and Graphviz are let pass.
"""

from __future__ import annotations

import keyword
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from codegen.functions import FUNCTIONS
from rnngraph.delays import Delays, read_delays
from rnngraph.errors import GraphError
from rnngraph.words import clip, nearest, normalize_name

NODE_ATTRIBUTES = ("kind", "size", "activation", "equation", "bias", "initial")
EDGE_ATTRIBUTES = ("delay", "structure", "parameter", "expression", "port", "value", "mask")
# Attributes for drawing only, which mean nothing to the network and are let pass on nodes and edges.
DRAWING_ATTRIBUTES = ("label", "pos", "color", "style", "comment")

KINDS = ("input", "unit", "output")
STRUCTURES = ("dense", "diagonal", "identity", "fixed", "masked")
MAX_SIZE = 2**24
ACTIVATIONS = ("identity", *(name for name, rule in FUNCTIONS.items() if rule.arity == 1))


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """One node as written: ``equation`` a string or sympy expression, None where nothing is written (or an input)."""

    name: str
    kind: str
    size: int
    equation: object | None
    bias: bool | str | None
    initial: float | str

    @property
    def where(self) -> str:
        """The place for error messages."""
        return f"node {self.name!r}"


@dataclass(frozen=True, slots=True)
class EdgeRecord:
    """One edge as written, before its delays are taken apart. ``expression`` is the weight in terms of parameters, a
    string or a sympy expression; ``mask`` has a 1 for each weight that exists."""

    source: str
    destination: str
    where: str
    delays: Delays
    structure: str
    parameter: str | None
    port: str
    value: object | None
    mask: object | None = None
    expression: object | None = None

    @property
    def stem(self) -> str:
        """The weight's name; each delay of a list adds ``_d<delay>`` to it."""
        return f"W_{self.source}_{self.destination}" if self.parameter is None else self.parameter

    @property
    def logits(self) -> str:
        """The name of the logits, where the delay is learned."""
        written = self.delays.learned.parameter if self.delays.learned is not None else None
        weight = f"{self.source}_{self.destination}" if self.parameter is None else self.parameter
        return f"alpha_{weight}" if written is None else written


def check_text(where: str, what: str, text: str) -> str:
    """A name that can be written into a file: not empty, encodable as UTF-8."""
    if not text.strip():
        raise GraphError(where, f"an empty {what}", f"a {what} of at least one visible character", "give it a name")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise GraphError(
            where, f"a {what} with a lone surrogate", f"a {what} that UTF-8 can encode", "remove that character"
        ) from None
    return text


def read_node(name: str, attributes: Mapping[Any, Any]) -> NodeRecord:
    """Check one node's attributes by themselves. Raises GraphError."""
    where = f"node {name!r}"
    given = _given(where, attributes, NODE_ATTRIBUTES)
    kind = _one_of(where, "kind", given.get("kind", "unit"), KINDS)
    size = _size(where, given)
    if kind == "input":
        for attribute in ("activation", "equation", "bias", "initial"):
            if attribute in given:
                raise GraphError(
                    where,
                    f"attribute {attribute!r} on an input",
                    "an input with kind and size alone, as its values come from the data",
                    f"remove {attribute!r}, or make the node a unit fed by an input",
                )
        return NodeRecord(name, kind, size, None, None, 0.0)
    if "activation" in given and "equation" in given:
        raise GraphError(
            where,
            "both an activation and an equation",
            "one of them, as activation='f' is short for equation='f(s)'",
            "remove one, for example write the function into the equation",
        )
    equation: object | None = given.get("equation")
    if "activation" in given:
        equation = f"{_one_of(where, 'activation', given['activation'], ACTIVATIONS)}(s)"
    return NodeRecord(name, kind, size, equation, _bias(where, given), _initial(where, name, given))


def read_edge(source: str, destination: str, where: str, attributes: Mapping[Any, Any]) -> EdgeRecord:
    """Check one edge's attributes by themselves. Raises GraphError."""
    given = _given(where, attributes, EDGE_ATTRIBUTES)
    delays = read_delays(where, given.get("delay", 0))
    port = _port(where, given.get("port", "s"))
    if port != "s":
        _refuse_weight(where, port, given, delays)
        return EdgeRecord(source, destination, where, delays, "identity", None, port, None)
    structure = _one_of(where, "structure", given.get("structure", "dense"), STRUCTURES)
    if ("mask" in given) != (structure == "masked"):
        raise GraphError(
            where,
            "structure='masked' without a mask" if structure == "masked" else f"a mask with structure={structure!r}",
            "a mask on edges with structure='masked', and on no other",
            "give mask=... of shape (source size, destination size)" if structure == "masked"
            else "set structure='masked'",
        )  # fmt: skip
    expression = given.get("expression")
    if expression is not None and (structure in ("identity", "fixed") or "parameter" in given):
        raise GraphError(
            where,
            f"expression={clip(expression)} with "
            + ("a parameter" if "parameter" in given else f"structure={structure!r}"),
            "an expression of parameters on dense, masked and diagonal edges, in place of one parameter",
            "remove 'parameter': the names in the expression are the parameters"
            if "parameter" in given else "remove 'expression', or choose structure='dense'",
        )  # fmt: skip
    if delays.learned is not None and structure == "fixed":
        raise GraphError(
            where, "a learned delay with structure='fixed'", "structure 'dense', 'masked', 'diagonal' or 'identity'",
            "choose one of these, or a fixed delay",
        )  # fmt: skip
    parameter = given.get("parameter")
    if parameter is not None:
        if structure in ("identity", "fixed"):
            raise GraphError(
                where,
                f"parameter={clip(parameter)} with structure={structure!r}",
                "a parameter on dense, masked and diagonal edges only, as no weight is learned on this one",
                "remove 'parameter', or choose structure='dense' or 'diagonal'",
            )
        if not isinstance(parameter, str):
            _wrong_type(where, "parameter", parameter, "a string")
        parameter = check_text(where, "parameter name", str(parameter))
    value = given.get("value")
    if (value is None) == (structure == "fixed"):
        raise GraphError(
            where,
            "structure='fixed' without a value" if value is None else f"a value with structure={structure!r}",
            "a value on edges with structure='fixed', and on no other",
            "give value=... of shape (source size, destination size)" if value is None else "set structure='fixed'",
        )
    mask = given.get("mask")
    return EdgeRecord(source, destination, where, delays, structure, parameter, port, value, mask, expression)


def read_constant(edge: EdgeRecord, source_size: int, destination_size: int) -> NDArray[np.float64]:
    """The value of a fixed edge, one matrix per delay: shape (number of delays, source size, destination size).

    A single matrix serves every delay of a list; a number is taken only where both sizes are 1.
    """
    count = len(edge.delays.steps)
    shape = (source_size, destination_size)
    by_delay = edge.delays.listed and edge.delays.matrix is None
    expected = f"finite real numbers of shape {shape}" + (f" or {(count, *shape)}, one per delay" if by_delay else "")
    value = _array(edge.where, "value", edge.value, shape, (count, *shape) if by_delay else shape, expected)
    constant = np.array(np.broadcast_to(value, (count, *shape)), dtype=np.float64)
    if not np.isfinite(constant).all():
        raise GraphError(edge.where, "a value with NaN or infinity", expected, "replace those entries")
    selected = read_selection(edge, source_size, destination_size)
    if selected is not None:
        constant *= selected
    constant.setflags(write=False)
    return constant


def read_mask(edge: EdgeRecord, source_size: int, destination_size: int) -> NDArray[np.float64] | None:
    """The mask of an edge as 0 and 1, (source size, destination size); None for an edge without one."""
    if edge.mask is None:
        return None
    shape = (source_size, destination_size)
    expected = f"zeros and ones (or booleans) of shape {shape}, one at least"
    mask = _array(edge.where, "mask", edge.mask, shape, shape, expected).astype(np.float64)
    if not np.isin(mask, (0.0, 1.0)).all():
        raise GraphError(edge.where, "a mask with other numbers than 0 and 1", expected, "write mask != 0")
    if not mask.any():
        raise GraphError(edge.where, "a mask of zeros alone", expected, "remove the edge, or set an entry")
    return mask


def read_selection(edge: EdgeRecord, source_size: int, destination_size: int) -> NDArray[np.float64] | None:
    """For an edge with a delay per pair of units, 1 where a pair has the delay: (number of delays, source size,
    destination size), or (number of delays, size) for a diagonal or identity edge; None for another edge."""
    matrix = edge.delays.matrix
    if matrix is None:
        return None
    units = edge.structure in ("diagonal", "identity")
    shape = (1, destination_size) if units else (source_size, destination_size)
    if matrix.shape != shape:
        raise GraphError(
            edge.where, f"delays of shape {matrix.shape}",
            f"one per {'unit' if units else 'pair of units'}, shape {shape}, or a plain list",
            "give one row, with a delay for each unit" if units
            else "give rows for the source's units and columns for the destination's",
        )  # fmt: skip
    selection: NDArray[np.float64] = (matrix == np.array(edge.delays.steps)[:, None, None]).astype(np.float64)
    return selection[:, 0] if units else selection


def _array(
    where: str, what: str, given: object, shape: tuple[int, ...], other: tuple[int, ...], expected: str
) -> NDArray[Any]:
    """Real numbers of one of two shapes."""
    remedy = f"give {what}=... as rows of the source's units and columns of the destination's"
    try:
        value = np.asarray(given)
    except ValueError:
        raise GraphError(where, f"a ragged {what}", expected, remedy) from None
    if value.dtype.kind not in "biuf":
        raise GraphError(where, f"a {what} of dtype {value.dtype}", expected, remedy)
    if value.shape == () and shape == (1, 1):
        value = value.reshape(shape)
    if value.shape not in (shape, other):
        raise GraphError(where, f"a {what} of shape {value.shape}", expected, remedy)
    return value


def _given(where: str, attributes: Mapping[Any, Any], known: Sequence[str]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for attribute, value in attributes.items():
        if attribute in known:
            if value is not None:
                given[attribute] = value
        elif attribute not in DRAWING_ATTRIBUTES:
            close = nearest(str(attribute), known)
            raise GraphError(
                where,
                f"the unknown attribute {clip(attribute)}",
                f"{', '.join(known)} (or, for drawing, {', '.join(DRAWING_ATTRIBUTES)})",
                f"did you mean {close!r}?" if close else "remove it, or keep it outside of the graph",
            )
    return given


def _wrong_type(where: str, attribute: str, value: object, expected: str) -> NoReturn:
    raise GraphError(
        where, f"{attribute}={clip(value)} of type {type(value).__name__}", expected, f"correct {attribute!r}"
    )


def _one_of(where: str, attribute: str, value: object, choices: Sequence[str]) -> str:
    if isinstance(value, str) and value in choices:
        return str(value)
    close = nearest(value, choices) if isinstance(value, str) else None
    raise GraphError(
        where,
        f"{attribute}={clip(value)}",
        f"one of {', '.join(choices)}",
        f"did you mean {close!r}?" if close else f"choose one of them for {attribute!r}",
    )


def _size(where: str, given: Mapping[str, Any]) -> int:
    if "size" not in given:
        raise GraphError(where, "no size", "size=n, the number of its units", "add the attribute size")
    size = given["size"]
    if isinstance(size, bool) or not isinstance(size, Integral):
        _wrong_type(where, "size", size, "an int >= 1")
    number = int(size)
    if not 1 <= number <= MAX_SIZE:
        raise GraphError(where, f"size={clip(number)}", f"an int from 1 to {MAX_SIZE}", "correct the size")
    return number


def _bias(where: str, given: Mapping[str, Any]) -> bool | str | None:
    bias = given.get("bias")
    if bias is None:
        return None
    if isinstance(bias, (bool, np.bool_)):
        return bool(bias)
    if isinstance(bias, str):
        return check_text(where, "bias name", str(bias))
    _wrong_type(where, "bias", bias, "True, False or the name of a parameter")


def _initial(where: str, name: str, given: Mapping[str, Any]) -> float | str:
    initial = given.get("initial", 0.0)
    expected = "a finite number, 'parameter' for a learned value, or the name of that parameter, which ends in '_0'"
    if isinstance(initial, str):
        if initial == "parameter":
            return f"{name}_0"
        if not initial.endswith("_0"):  # a misspelt 'parameter' is no parameter's name
            raise GraphError(where, f"initial={clip(initial)}", expected, "write initial='parameter' or a number")
        return check_text(where, "name of an initial value", str(initial))
    if isinstance(initial, (bool, np.bool_)) or not isinstance(initial, Real):
        _wrong_type(where, "initial", initial, expected)
    try:
        number = float(initial)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise GraphError(where, f"initial={clip(initial)}", expected, "give a finite number")
    return number


def _port(where: str, port: object) -> str:
    if not isinstance(port, str):
        _wrong_type(where, "port", port, "a string, 's' or a name of the destination's equation")
    name = normalize_name(port)
    if not name.isidentifier() or keyword.iskeyword(name):
        why = "a keyword of Python" if keyword.iskeyword(name) else "not an identifier"
        raise GraphError(
            where,
            f"port={clip(port)}, {why}",
            "an identifier that an equation can name (letters, digits, _)",
            f"rename the port here and in the equation, for example to {_identifier(name)!r}",
        )
    return name


def _identifier(name: str) -> str:
    """A valid port name near the given one, for the remedy."""
    cleaned = "".join(character if ("x" + character).isidentifier() else "_" for character in name[:30])
    cleaned = cleaned if cleaned.isidentifier() else "p" + cleaned
    return cleaned + "_" if keyword.iskeyword(cleaned) else cleaned


def _refuse_weight(where: str, port: str, given: Mapping[str, Any], delays: Delays) -> None:
    """A port other than "s" carries its source as it is: no weight, one delay."""
    for attribute in ("structure", "parameter", "value", "mask", "expression"):
        if attribute in given:
            raise GraphError(
                where,
                f"attribute {attribute!r} on port {port!r}",
                "a port that carries its source unweighted; weights belong to port 's'",
                f"remove {attribute!r}, or feed a node in between whose weighted sum holds the weight",
            )
    if delays.listed:
        kind = "a learned delay" if delays.learned else "a list of delays"
        raise GraphError(
            where,
            f"{kind} on port {port!r}",
            "one delay, as a port stands for one signal",
            "feed a node in between whose weighted sum has the learned delay"
            if delays.learned
            else "use one edge and one port name per delay",
        )
