"""An independent reference: a network evaluated and differentiated straight from its networkx graph.

It shares no code with the packages under test (no rnngraph, codegen or sympy): every value is one node at one time
step, the order of evaluation is a topological sort of those (node, t) pairs, and the gradient is a reverse-mode tape
over float64 arrays. It is slow and plain on purpose.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from graphlib import TopologicalSorter
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Vjp = Callable[[Array], Array]
Loss = str | Mapping[str, str]


# ----------------------------------------------------------------------------------------------------------- the tape


class Variable:
    """One array on the tape with the rules that carry its gradient to its parents."""

    __slots__ = ("gradient", "parents", "value")

    def __init__(self, value: Any, parents: tuple[tuple[Variable, Vjp], ...] = ()) -> None:
        self.value: Array = np.asarray(value, dtype=np.float64)
        self.gradient: Array = np.zeros_like(self.value)
        self.parents = parents


def backward(root: Variable) -> None:
    """Add to every variable behind the scalar ``root`` the derivative of ``root`` with respect to it."""
    order: list[Variable] = []
    seen: set[int] = set()
    stack: list[tuple[Variable, bool]] = [(root, False)]
    while stack:
        variable, expanded = stack.pop()
        if expanded:
            order.append(variable)
        elif id(variable) not in seen:
            seen.add(id(variable))
            stack.append((variable, True))
            stack.extend((parent, False) for parent, _ in variable.parents)
    root.gradient = np.ones_like(root.value)
    for variable in reversed(order):
        for parent, vjp in variable.parents:
            parent.gradient = parent.gradient + _unbroadcast(vjp(variable.gradient), parent.value.shape)


def _unbroadcast(gradient: Array, shape: tuple[int, ...]) -> Array:
    gradient = gradient.sum(axis=tuple(range(gradient.ndim - len(shape))))
    stretched = tuple(axis for axis, size in enumerate(shape) if size == 1 and gradient.shape[axis] != 1)
    return np.asarray(gradient.sum(axis=stretched, keepdims=True))


def add(a: Variable, b: Variable) -> Variable:
    return Variable(a.value + b.value, ((a, lambda g: g), (b, lambda g: g)))


def multiply(a: Variable, b: Variable) -> Variable:
    return Variable(a.value * b.value, ((a, lambda g: g * b.value), (b, lambda g: g * a.value)))


def divide(a: Variable, b: Variable) -> Variable:
    return Variable(a.value / b.value, ((a, lambda g: g / b.value), (b, lambda g: -g * a.value / b.value**2)))


def power(a: Variable, exponent: int) -> Variable:
    slope = exponent * a.value ** (exponent - 1) if exponent else np.zeros_like(a.value)
    return Variable(a.value**exponent, ((a, lambda g: g * slope),))


def scale(a: Variable, factor: Array | float) -> Variable:
    return Variable(a.value * factor, ((a, lambda g: g * factor),))


def matmul(a: Variable, w: Variable) -> Variable:
    return Variable(a.value @ w.value, ((a, lambda g: g @ w.value.T), (w, lambda g: a.value.T @ g)))


def broadcast(a: Variable, shape: tuple[int, ...]) -> Variable:
    return Variable(np.broadcast_to(a.value, shape), ((a, lambda g: g),))


def total(a: Variable) -> Variable:
    return Variable(a.value.sum(), ((a, lambda g: np.broadcast_to(g, a.value.shape)),))


def extremum(a: Variable, b: Variable, largest: bool) -> Variable:
    """maximum or minimum; a tie gives half of the gradient to each side."""
    sign = 1.0 if largest else -1.0
    share = 0.5 * (1.0 + np.sign(sign * (a.value - b.value)))
    value = np.maximum(a.value, b.value) if largest else np.minimum(a.value, b.value)
    return Variable(value, ((a, lambda g: g * share), (b, lambda g: g * (1.0 - share))))


def softmax_entry(a: Variable, temperature: float, index: int) -> Variable:
    """Entry ``index`` of the softmax of a / temperature over the first axis."""
    e = np.exp((a.value - a.value.max(axis=0)) / temperature)
    p = e / e.sum(axis=0)
    one = np.zeros_like(p)
    one[index] = 1.0
    return Variable(p[index], ((a, lambda g: g * p[index] * (one - p) / temperature),))


# -------------------------------------------------------------------------------------- functions (value, slope) of x


def _erf(x: Array) -> Array:
    return np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x))


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


def _normal_density(x: Array) -> Array:
    return np.asarray(np.exp(-0.5 * x**2) / math.sqrt(2.0 * math.pi))


def _normal_distribution(x: Array) -> Array:
    return np.asarray(0.5 * (1.0 + _erf(x / math.sqrt(2.0))))


FUNCTIONS: dict[str, tuple[Callable[[Array], Any], Callable[[Array], Any]]] = {
    "identity": (lambda x: x, lambda x: np.ones_like(x)),
    "tanh": (np.tanh, lambda x: 1.0 - np.tanh(x) ** 2),
    "sigmoid": (_sigmoid, lambda x: _sigmoid(x) * _sigmoid(-x)),
    "relu": (lambda x: np.maximum(x, 0.0), lambda x: 1.0 * (x > 0)),
    "leaky_relu": (lambda x: np.where(x > 0, x, 0.01 * x), lambda x: np.where(x > 0, 1.0, 0.01)),
    "elu": (
        lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0.0))),
        lambda x: np.where(x > 0, 1.0, np.exp(np.minimum(x, 0.0))),
    ),
    "softplus": (lambda x: np.logaddexp(0.0, x), _sigmoid),
    "gelu": (lambda x: x * _normal_distribution(x), lambda x: _normal_distribution(x) + x * _normal_density(x)),
    "silu": (lambda x: x * _sigmoid(x), lambda x: _sigmoid(x) * (1.0 + x * _sigmoid(-x))),
    "softsign": (lambda x: x / (1.0 + np.abs(x)), lambda x: 1.0 / (1.0 + np.abs(x)) ** 2),
    "hard_tanh": (lambda x: np.clip(x, -1.0, 1.0), lambda x: 1.0 * (np.abs(x) < 1.0)),
    "hard_sigmoid": (lambda x: np.clip(x / 6.0 + 0.5, 0.0, 1.0), lambda x: (np.abs(x) < 3.0) / 6.0),
    "saturated_linear": (lambda x: np.clip(x, 0.0, 1.0), lambda x: 1.0 * ((x > 0.0) & (x < 1.0))),
    "exp": (np.exp, np.exp),
    "log": (np.log, lambda x: 1.0 / x),
    "sqrt": (np.sqrt, lambda x: 0.5 / np.sqrt(x)),
    "sin": (np.sin, np.cos),
    "cos": (np.cos, lambda x: -np.sin(x)),
    "arctan": (np.arctan, lambda x: 1.0 / (1.0 + x**2)),
    "abs": (np.abs, np.sign),
    "sign": (np.sign, lambda x: np.zeros_like(x)),
    "step": (lambda x: 1.0 * (x > 0), lambda x: np.zeros_like(x)),
    "square": (np.square, lambda x: 2.0 * x),
    "erf": (_erf, lambda x: 2.0 / math.sqrt(math.pi) * np.exp(-(x**2))),
}


def apply(name: str, a: Variable) -> Variable:
    function, slope = FUNCTIONS[name]
    return Variable(function(a.value), ((a, lambda g: g * slope(a.value)),))


# ---------------------------------------------------------------------------------------------------------- equations


def evaluate(expression: str, names: Mapping[str, Variable]) -> Variable:
    """The value of an equation's text, its names given."""
    return _evaluate(ast.parse(expression.strip(), mode="eval").body, names)


def _evaluate(node: ast.expr, names: Mapping[str, Variable]) -> Variable:
    match node:
        case ast.Constant(value=int() | float() as number):
            return Variable(number)
        case ast.Name(id=name):
            return names[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return scale(_evaluate(operand, names), -1.0)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _evaluate(operand, names)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            exponent = _evaluate(right, {}).value
            return power(_evaluate(left, names), int(exponent))
        case ast.BinOp(left=left, op=operator, right=right):
            a, b = _evaluate(left, names), _evaluate(right, names)
            match operator:
                case ast.Add():
                    return add(a, b)
                case ast.Sub():
                    return add(a, scale(b, -1.0))
                case ast.Mult():
                    return multiply(a, b)
                case ast.Div():
                    return divide(a, b)
        case ast.Call(func=ast.Name(id=("maximum" | "minimum") as name), args=[left, right], keywords=[]):
            return extremum(_evaluate(left, names), _evaluate(right, names), name == "maximum")
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in FUNCTIONS:
            return apply(name, _evaluate(argument, names))
    raise ValueError(f"the reference cannot read {ast.dump(node)}")


# -------------------------------------------------------------------------------------------- the contract of a graph


@dataclass(frozen=True)
class Term:
    """One edge at one of its delays. Its weight is ``base`` (parameters, by an expression) entry by entry times
    ``mask`` times entry ``index`` of the softmax over the delays."""

    source: str
    target: str
    delay: int
    structure: str  # dense, diagonal or identity: how the source is weighed
    port: str
    base: str | None = None  # the expression; None where the weight has no parameter
    names: tuple[tuple[str, str], ...] = ()  # each name of the expression, and the parameter that it stands for
    mask: Any = None  # the value of a fixed edge, the mask of a masked one, the pairs of units that have this delay
    logits: str | None = None
    logits_shape: tuple[int, ...] = ()
    temperature: float = 1.0
    index: int = 0


def _terms(graph: nx.MultiDiGraph) -> Iterator[Term]:
    for source, target, edge in graph.edges(data=True):
        delay, port = edge.get("delay", 0), edge.get("port", "s")
        if port != "s":
            yield Term(source, target, int(delay), "identity", port)
        elif isinstance(delay, Mapping):
            yield from _learned_terms(graph, source, target, edge, delay)
        elif np.ndim(delay) == 2:
            delay = np.asarray(delay)
            for k in np.unique(delay).tolist():
                pairs = 1.0 * (delay == k)
                pairs = pairs[0] if edge.get("structure") in ("diagonal", "identity") else pairs
                term = _term(graph, source, target, edge, k, 0, "", pairs)
                if edge.get("structure") != "masked" or np.any(term.mask):
                    yield term
        else:
            several = np.ndim(delay) == 1
            for index, k in enumerate(delay if several else [delay]):
                yield _term(graph, source, target, edge, int(k), index, f"_d{k}" if several else "", None)


def _learned_terms(
    graph: nx.MultiDiGraph, source: str, target: str, edge: Mapping[str, Any], delay: Mapping[str, Any]
) -> Iterator[Term]:
    first, last = delay.get("min", 1), delay["max"]
    stem = edge.get("parameter", f"{source}_{target}")
    size = {node: int(data["size"]) for node, data in graph.nodes(data=True)}
    units = edge.get("structure") in ("diagonal", "identity")
    shape = (size[target],) if units else (size[source], size[target])
    if delay.get("shared", False):
        shape = (1,) * len(shape)
    for index, k in enumerate(range(first, last + 1)):
        term = _term(graph, source, target, edge, k, index, "", None)
        yield replace(
            term,
            structure="diagonal" if units else "dense",
            logits=delay.get("parameter") or f"alpha_{stem}",
            logits_shape=(last - first + 1, *shape),
            temperature=delay.get("temperature", 1.0),
            index=index,
        )


def _term(
    graph: nx.MultiDiGraph, source: str, target: str, edge: Mapping[str, Any], k: int, index: int, suffix: str,
    pairs: Any,
) -> Term:  # fmt: skip
    structure = edge.get("structure", "dense")
    names: tuple[tuple[str, str], ...] = ()
    base = None
    if structure in ("dense", "diagonal", "masked"):
        if "expression" in edge:
            base = str(edge["expression"])
            tree = ast.parse(base, mode="eval")
            functions = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
            found = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node not in functions}
            names = tuple((name, name + suffix) for name in sorted(found))
        else:
            base, names = "W", (("W", edge.get("parameter", f"W_{source}_{target}") + suffix),)
    mask: Any = {"fixed": edge.get("value"), "masked": edge.get("mask")}.get(structure)
    if structure == "fixed" and np.ndim(mask) != 2:  # one matrix per delay, or a number between single units
        mask = mask[index] if np.ndim(mask) == 3 else np.reshape(mask, (1, 1))
    if pairs is not None:
        mask = pairs if mask is None else np.asarray(mask) * pairs
    if structure == "identity" and mask is not None:
        structure = "diagonal"
    structure = structure if structure in ("diagonal", "identity") else "dense"
    return Term(source, target, k, structure, "s", base, names, mask)


def _bias(graph: nx.MultiDiGraph, node: str) -> str | None:
    """The name of the node's bias, or None."""
    has_sum = any(edge.get("port", "s") == "s" for _, _, edge in graph.in_edges(node, data=True))
    bias = graph.nodes[node].get("bias")
    if isinstance(bias, str):
        return bias
    return f"b_{node}" if (has_sum if bias is None else bias) else None


def _learned_initial(graph: nx.MultiDiGraph, node: str) -> str | None:
    """The name of the node's learned initial value, or None."""
    initial = graph.nodes[node].get("initial")
    return f"{node}_0" if initial == "parameter" else initial if isinstance(initial, str) else None


def _is_input(graph: nx.MultiDiGraph, node: str) -> bool:
    return bool(graph.nodes[node].get("kind", "unit") == "input")


def parameter_shapes(graph: nx.MultiDiGraph) -> dict[str, tuple[int, ...]]:
    """Name and shape of each parameter: weights, biases, learned initial values."""
    shapes: dict[str, tuple[int, ...]] = {}
    size = {node: int(data["size"]) for node, data in graph.nodes(data=True)}

    def declare(name: str, shape: tuple[int, ...]) -> None:
        if shapes.setdefault(name, shape) != shape:
            raise ValueError(f"parameter {name} has shapes {shapes[name]} and {shape}")

    for term in _terms(graph):
        for _, name in term.names:
            diagonal = term.structure == "diagonal"
            declare(name, (size[term.target],) if diagonal else (size[term.source], size[term.target]))
        if term.logits is not None:
            declare(term.logits, term.logits_shape)
    for node in graph:
        bias = _bias(graph, node)
        if bias is not None:
            declare(bias, (size[node],))
        if learned := _learned_initial(graph, node):
            declare(learned, (size[node],))
    return shapes


def state_depths(graph: nx.MultiDiGraph) -> dict[str, int]:
    """Name in the state to the number of values; negative for those after the sequence, of a node that is read ahead of
    time, which are called "<node>:ahead" where there are values before it, too."""
    delays: dict[str, set[int]] = {}
    for term in _terms(graph):
        delays.setdefault(term.source, {0}).add(term.delay)
    depths = {}
    for node, found in delays.items():
        if max(found):
            depths[node] = max(found)
        if min(found):
            depths[f"{node}:ahead" if max(found) else node] = min(found)
    return depths


def state_node(graph: nx.MultiDiGraph, name: str) -> str:
    """The node whose values stand under ``name`` in a state."""
    return name if name in graph else name.removesuffix(":ahead")


@dataclass(frozen=True)
class Result:
    """What a network computes and the derivatives of its loss; arrays are time-major."""

    outputs: dict[str, Array]
    state: dict[str, Array]
    loss: float
    gradients: dict[str, Array]
    input_gradients: dict[str, Array]
    state_gradients: dict[str, Array]  # for each node of a full state, whether it was given or filled from ``initial``


class _Run:
    """One evaluation of a graph over times 1..T, kept on the tape."""

    def __init__(
        self,
        graph: nx.MultiDiGraph,
        parameters: Mapping[str, Any],
        inputs: Mapping[str, Any],
        state: Mapping[str, Any] | None,
    ) -> None:
        self.graph = graph
        self.steps, self.batch = np.shape(next(iter(inputs.values())))[:2]
        self.parameters = {name: Variable(parameters[name]) for name in parameter_shapes(graph)}
        for name, shape in parameter_shapes(graph).items():
            if self.parameters[name].value.shape != shape:
                raise ValueError(f"{name} has shape {self.parameters[name].value.shape}, not {shape}")
        self.depths = state_depths(graph)
        self.weights: dict[int, Variable] = {}  # by the id of the term, which self.incoming keeps
        self.incoming: dict[str, list[Term]] = {node: [] for node in graph}
        for term in _terms(graph):
            self.incoming[term.target].append(term)
        self.values: dict[tuple[str, int], Variable] = {}
        for node in graph:
            if _is_input(graph, node):
                sequence = np.asarray(inputs[node], dtype=np.float64)
                self.values.update({(node, t): Variable(sequence[t - 1]) for t in range(1, self.steps + 1)})
        self.boundary = {name: self._outside(name, depth) for name, depth in self.depths.items()}
        for name, places in self.boundary.items():
            for k, (node, t) in enumerate(places):
                given = None if state is None else state.get(name)
                self.values[node, t] = self._initial(node) if given is None else Variable(np.asarray(given)[k])
        order: TopologicalSorter[tuple[str, int]] = TopologicalSorter()
        for t in range(1, self.steps + 1):
            for node in graph:
                order.add((node, t), *((term.source, t - term.delay) for term in self.incoming[node]))
        for node, t in order.static_order():
            if (node, t) not in self.values:
                self.values[node, t] = self._node(node, t)

    def _outside(self, name: str, depth: int) -> list[tuple[str, int]]:
        times = range(1 - depth, 1) if depth > 0 else range(self.steps + 1, self.steps + 1 - depth)
        return [(state_node(self.graph, name), t) for t in times]

    def _shape(self, node: str) -> tuple[int, int]:
        return self.batch, int(self.graph.nodes[node]["size"])

    def _initial(self, node: str) -> Variable:
        initial = 0.0 if _is_input(self.graph, node) else self.graph.nodes[node].get("initial", 0.0)
        learned = _learned_initial(self.graph, node)
        return broadcast(self.parameters[learned] if learned else Variable(initial), self._shape(node))

    def _node(self, node: str, t: int) -> Variable:
        data = self.graph.nodes[node]
        names: dict[str, Variable] = {}
        weighted = Variable(np.zeros(self._shape(node)))
        for term in self.incoming[node]:
            source = self.values[term.source, t - term.delay]
            if term.port == "s":
                weighted = add(weighted, self._weigh(term, source))
            elif term.port in names:
                raise ValueError(f"two sources feed port {term.port} of {node}")
            else:
                names[term.port] = source
        bias = _bias(self.graph, node)
        names["s"] = weighted if bias is None else add(weighted, self.parameters[bias])
        equation = data.get("equation")
        if equation is None:
            equation = f"{data.get('activation', 'identity')}(s)"
        return broadcast(evaluate(str(equation), names), self._shape(node))

    def _weigh(self, term: Term, source: Variable) -> Variable:
        if term.structure == "identity":
            return source
        if id(term) not in self.weights:
            self.weights[id(term)] = self._weight(term)
        weight = self.weights[id(term)]
        return multiply(source, weight) if term.structure == "diagonal" else matmul(source, weight)

    def _weight(self, term: Term) -> Variable:
        weight = Variable(1.0)
        if term.base is not None:
            weight = evaluate(term.base, {name: self.parameters[parameter] for name, parameter in term.names})
        if term.mask is not None:
            weight = scale(weight, np.asarray(term.mask, dtype=np.float64))
        if term.logits is not None:
            weight = multiply(weight, softmax_entry(self.parameters[term.logits], term.temperature, term.index))
        size = self.graph.nodes[term.target]["size"]
        return broadcast(weight, (size,) if term.structure == "diagonal" else (self._shape(term.source)[1], size))

    def sequence(self, node: str) -> Array:
        return np.stack([self.values[node, t].value for t in range(1, self.steps + 1)])

    def outputs(self) -> dict[str, Array]:
        return {node: self.sequence(node) for node, kind in self.graph.nodes(data="kind") if kind == "output"}

    def state(self) -> dict[str, Array]:
        """The last values of each delayed node, and the first ones of a node that is read ahead, oldest first."""
        shift = {name: self.steps if depth > 0 else -self.steps for name, depth in self.depths.items()}
        return {
            name: np.stack([self.values[node, t + shift[name]].value for node, t in places])
            for name, places in self.boundary.items()
        }

    def loss(self, targets: Mapping[str, Any], loss: Loss, weights: Any) -> Variable:
        """The sum over the outputs of each one's (weighted) mean over time and batch."""
        weight = np.ones((self.steps, self.batch)) if weights is None else np.asarray(weights, dtype=np.float64)
        names = dict(loss) if isinstance(loss, Mapping) else dict.fromkeys(self.outputs(), loss)
        result = Variable(0.0)
        for node, name in names.items():
            target = np.asarray(targets[node])
            for t in range(1, self.steps + 1):
                rows = _loss_rows(name, self.values[node, t], target[t - 1])
                result = add(result, total(scale(rows, weight[t - 1] / weight.sum())))
        return result


def _loss_rows(name: str, y: Variable, target: Any) -> Variable:
    """The loss of each sequence of the batch at one time step, shape (batch,)."""
    if name == "cross_entropy":
        shifted = y.value - y.value.max(axis=1, keepdims=True)
        log_softmax = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        chosen = np.eye(y.value.shape[1])[target]
        slope = np.exp(log_softmax) - chosen
        return Variable(-(log_softmax * chosen).sum(axis=1), ((y, lambda g: g[:, None] * slope),))
    text = {"mse": "(y - target)**2", "binary_cross_entropy": "softplus(y) - target*y"}.get(name, name)
    units = broadcast(evaluate(text, {"y": y, "target": Variable(target)}), y.value.shape)
    size = y.value.shape[1]
    return Variable(units.value.mean(axis=1), ((units, lambda g: np.repeat(g[:, None], size, axis=1) / size),))


def forward(
    graph: nx.MultiDiGraph,
    parameters: Mapping[str, Any],
    inputs: Mapping[str, Any],
    state: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Outputs, each (T, batch, size), and the state after them, each (depth, batch, size)."""
    run = _Run(graph, parameters, inputs, state)
    return run.outputs(), run.state()


def loss_and_gradient(
    graph: nx.MultiDiGraph,
    parameters: Mapping[str, Any],
    inputs: Mapping[str, Any],
    targets: Mapping[str, Any],
    *,
    loss: Loss = "mse",
    state: Mapping[str, Any] | None = None,
    weights: Any = None,
) -> Result:
    """Everything that a kernel may be asked for, in float64."""
    run = _Run(graph, parameters, inputs, state)
    value = run.loss(targets, loss, weights)
    backward(value)
    times = range(1, run.steps + 1)
    return Result(
        outputs=run.outputs(),
        state=run.state(),
        loss=float(value.value),
        gradients={name: variable.gradient for name, variable in run.parameters.items()},
        input_gradients={
            node: np.stack([run.values[node, t].gradient for t in times]) for node in graph if _is_input(graph, node)
        },
        state_gradients={
            name: np.stack([run.values[place].gradient for place in places]) for name, places in run.boundary.items()
        },
    )
