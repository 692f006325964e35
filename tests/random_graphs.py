"""Random networks that obey the graph contract, and random problems for them; the same seed gives the same result.

Every graph is valid: no cycle of zero delay, every node is reached by an input and reaches an output. Functions are
smooth, and every node that lies on a loop is bounded, so that central differences work and nothing overflows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
import reference

Array = npt.NDArray[Any]

# Among them names that sympy or Python give a meaning of their own.
NAMES = ["a", "b", "h", "u1", "S", "N", "E", "I", "beta", "lambda", "gamma", "in", "re", "Q", "np", "exp"]
KEYWORDS = ("lambda", "in")  # of Python: no names in an expression
MAX_DELAY = 5
BOUNDED = ["tanh", "sigmoid", "sin", "cos", "arctan", "softsign", "erf"]
UNBOUNDED = ["identity", "softplus", "silu", "gelu", "square"]
# Equations of a weighted sum s and two ports p, q; each value stays bounded whatever p and q are.
BOUNDED_WITH_PORTS = [
    "tanh(s + p*q)",
    "sigmoid(s + p)*tanh(q)",
    "tanh(s)*sin(p) + cos(q)/2",
    "tanh(s*p - 0.5*q)",
    "sin(s)*exp(-square(p)) + sigmoid(q)",
    "arctan(s + p)/(1 + q**2)",
    "-tanh(p)**3 + erf(s - q)",
]
UNBOUNDED_WITH_PORTS = ["s + p*q", "p*sigmoid(s) + q", "softplus(s - q)*p", "sqrt(1 + square(s) + p**2) - q", "s*p*q"]
# Equations with a loop of the node onto itself, r; the value never outgrows 1 or its own past.
LEAKY = [
    "0.7*r + 0.3*tanh(s)",
    "sigmoid(s)*r + (1 - sigmoid(s))*tanh(p)",
    "tanh(p)*r/2 + 0.5*sin(s)",
    "0.5*r + tanh(s)*tanh(p)",
]
# Nodes without a weighted sum, such as an LSTM's cell; by whether they have the port r.
WITHOUT_SUM = {
    False: ["tanh(p)*q/(1 + square(q))", "tanh(p*q)", "sin(p - q) + 0.5", "sigmoid(p)*cos(q)"],
    True: ["sigmoid(p)*r + (1 - sigmoid(p))*tanh(q)", "0.8*r + 0.2*tanh(p)*sin(q)"],
}


def random_graph(seed: int) -> nx.MultiDiGraph:
    """A network of 2 to 7 nodes of sizes 1 to 4."""
    rng = np.random.default_rng([seed, 1])
    total = int(rng.integers(2, 8))
    input_count = 1 if total < 4 else int(rng.integers(1, 3))
    names = [str(name) for name in rng.choice(NAMES, size=total, replace=False)]
    graph = nx.MultiDiGraph()
    sizes = [int(size) for size in rng.integers(1, 5, size=total)]
    if rng.random() < 0.6:  # equal sizes allow diagonal and identity edges and ports
        sizes = [sizes[0] if rng.random() < 0.7 else size for size in sizes]
    for k, name in enumerate(names):
        graph.add_node(name, kind="input" if k < input_count else "unit", size=sizes[k])
    inputs, units = names[:input_count], names[input_count:]
    order = {name: k for k, name in enumerate(names)}
    ports: dict[str, dict[str, str]] = {}
    for k, unit in enumerate(units):
        # From an input or an earlier unit, so that an input reaches every unit; the first unit has a weighted sum.
        earlier = names[: input_count + k]
        fitting = [name for name in earlier if graph.nodes[name]["size"] in (1, graph.nodes[unit]["size"])]
        if k and fitting and rng.random() < 0.25:
            ports[unit] = _add_ports(graph, rng, unit, order, first=str(rng.choice(fitting)))
        else:
            _add_sum_edge(graph, rng, str(rng.choice(earlier)), unit, least_delay=0)
    summing = [unit for unit in units if unit not in ports]
    for name in inputs:
        if graph.out_degree(name) == 0:
            _add_sum_edge(graph, rng, name, str(rng.choice(summing)), least_delay=0)
    for _ in range(int(rng.integers(0, 2 * len(units) + 2))):
        source, target = str(rng.choice(names)), str(rng.choice(summing))
        _add_sum_edge(graph, rng, source, target, least_delay=0 if order[source] < order[target] else 1)
    ports |= {unit: _add_ports(graph, rng, unit, order) for unit in summing}
    _set_functions(graph, rng, ports)
    _set_outputs(graph, rng, units)
    _share_parameters(graph, rng, summing)
    _set_initial_values(graph, rng, units)
    return _shuffle(graph, rng)


def _add_sum_edge(graph: nx.MultiDiGraph, rng: np.random.Generator, source: str, target: str, least_delay: int) -> None:
    """One more edge into a weighted sum, with any structure that its sizes allow."""
    rows, columns = graph.nodes[source]["size"], graph.nodes[target]["size"]
    structures = ["dense"] * 6 + ["fixed"] + (["diagonal"] * 2 + ["identity"] if rows == columns else [])
    structure = str(rng.choice(structures))
    edge: dict[str, Any] = {} if structure == "dense" and rng.random() < 0.8 else {"structure": structure}
    if structure == "fixed":
        edge["value"] = np.round(rng.normal(scale=0.5, size=(rows, columns)), 2)
    delay = _random_delay(rng, least_delay)
    if structure in ("dense", "diagonal") and rng.random() < 0.25:
        count = int(rng.integers(1, 4))
        edge["delay"] = [int(d) for d in rng.permutation(np.arange(least_delay, MAX_DELAY + 1))[:count]]
    elif delay or rng.random() < 0.5:
        edge["delay"] = delay
    # The default name belongs to the first edge of a pair; another one needs a name of its own.
    if graph.has_edge(source, target):
        edge["parameter"] = f"V{graph.number_of_edges()}"
    if structure in ("identity", "fixed"):
        edge.pop("parameter", None)
    graph.add_edge(source, target, **edge)


def _random_delay(rng: np.random.Generator, least: int) -> int:
    return least if rng.random() < 0.5 else int(rng.integers(least, MAX_DELAY + 1))


def _add_ports(
    graph: nx.MultiDiGraph, rng: np.random.Generator, unit: str, order: dict[str, int], first: str | None = None
) -> dict[str, str]:
    """Sometimes edges into ports p, q and r (r: from the unit itself); p from ``first`` if given; port -> source."""
    size = graph.nodes[unit]["size"]
    candidates = [name for name in graph if graph.nodes[name]["size"] in (1, size)]
    ports: dict[str, str] = {}
    if rng.random() < 0.2:
        graph.add_edge(unit, unit, port="r", delay=_random_delay(rng, 1))
        ports["r"] = unit
    if first is not None or rng.random() < 0.5:
        for port in "pq":
            source = first if first is not None and port == "p" else str(rng.choice(candidates))
            graph.add_edge(source, unit, port=port, delay=_random_delay(rng, 0 if order[source] < order[unit] else 1))
            ports[port] = source
    return ports


def _set_functions(graph: nx.MultiDiGraph, rng: np.random.Generator, ports: dict[str, dict[str, str]]) -> None:
    """An activation or an equation in exactly the ports that feed the node."""
    on_loop = {node for part in nx.strongly_connected_components(graph) if len(part) > 1 for node in part}
    on_loop |= {node for node in graph if graph.has_edge(node, node)}
    for unit, sources in ports.items():
        bounded = unit in on_loop or rng.random() < 0.5
        data = graph.nodes[unit]
        if not sources:
            function = str(rng.choice(BOUNDED if bounded else UNBOUNDED))
            if rng.random() < 0.7:
                data["activation"] = function
            else:
                data["equation"] = f"{function}(s)"
            continue
        if not any(edge.get("port", "s") == "s" for _, _, edge in graph.in_edges(unit, data=True)):
            equation = str(rng.choice(WITHOUT_SUM["r" in sources]))
        elif "r" in sources:
            equation = str(rng.choice([text for text in LEAKY if ("p" in sources) == ("tanh(p)" in text)]))
            if "q" in sources:
                equation += " + 0.25*sin(q)"
        else:
            equation = str(rng.choice(BOUNDED_WITH_PORTS if bounded else UNBOUNDED_WITH_PORTS))
        data["equation"] = equation


def _set_outputs(graph: nx.MultiDiGraph, rng: np.random.Generator, units: list[str]) -> None:
    """One output in every last component, so that each node reaches one, and sometimes more of them."""
    condensed = nx.condensation(nx.DiGraph(graph))
    for component in condensed:
        members = sorted(condensed.nodes[component]["members"] & set(units))
        if members and condensed.out_degree(component) == 0:
            graph.nodes[str(rng.choice(members))]["kind"] = "output"
    for unit in units:
        if rng.random() < 0.15:
            graph.nodes[unit]["kind"] = "output"


def _share_parameters(graph: nx.MultiDiGraph, rng: np.random.Generator, units: list[str]) -> None:
    """Sometimes one weight on two edges of equal shape, sometimes one bias on two nodes; some nodes have no bias."""
    if rng.random() < 0.4:
        alike: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for source, target, edge in graph.edges(data=True):
            structure = edge.get("structure", "dense")
            weighted = edge.get("port", "s") == "s" and structure in ("dense", "diagonal")
            if weighted and not isinstance(edge.get("delay", 0), list):
                shape = structure, graph.nodes[source]["size"], graph.nodes[target]["size"]
                alike.setdefault(shape, []).append(edge)
        pairs = [edges for edges in alike.values() if len(edges) > 1]
        if pairs:
            edges = pairs[int(rng.integers(len(pairs)))]
            for k in rng.permutation(len(edges))[:2]:
                edges[int(k)]["parameter"] = "shared_weight"
    for unit in units:
        if rng.random() < 0.2:
            graph.nodes[unit]["bias"] = bool(rng.random() < 0.5)
    if len(units) > 1 and rng.random() < 0.3:
        first, second = (str(unit) for unit in rng.choice(units, size=2, replace=False))
        if graph.nodes[first]["size"] == graph.nodes[second]["size"]:
            graph.nodes[first]["bias"] = graph.nodes[second]["bias"] = "shared_bias"


def _set_initial_values(graph: nx.MultiDiGraph, rng: np.random.Generator, units: list[str]) -> None:
    depths = reference.state_depths(graph)
    for unit in units:
        if unit in depths:
            chance = rng.random()
            if chance < 0.3:
                graph.nodes[unit]["initial"] = "parameter"
            elif chance < 0.6:
                graph.nodes[unit]["initial"] = round(float(rng.normal(scale=0.5)), 2)


def _shuffle(graph: nx.MultiDiGraph, rng: np.random.Generator) -> nx.MultiDiGraph:
    """The same graph with its nodes in another order: nothing may depend on inputs coming first."""
    nodes = list(graph.nodes(data=True))
    result = nx.MultiDiGraph()
    result.add_nodes_from(nodes[int(k)] for k in rng.permutation(len(nodes)))
    result.add_edges_from(graph.edges(data=True))
    return result


def with_long_loops(graph: nx.MultiDiGraph, seed: int) -> nx.MultiDiGraph:
    """A copy of a random graph with every delay from 1 on made longer by one number of steps, 1 to 4: its loops take
    several steps at once."""
    extra = int(np.random.default_rng([seed, 6]).integers(1, 5))
    graph = graph.copy()
    for _, _, edge in graph.edges(data=True):
        delay = edge.get("delay", 0)
        if isinstance(delay, list):
            edge["delay"] = [one + extra if one > 0 else one for one in delay]
        elif delay > 0:
            edge["delay"] = delay + extra
    return graph


def with_weights(graph: nx.MultiDiGraph, seed: int) -> nx.MultiDiGraph:
    """A copy of a random graph, most of whose weighted edges have masks, learned delays, a delay for each pair of
    units, or expressions of parameters, among them parameters that other edges have too. No delay gets shorter."""
    rng = np.random.default_rng([seed, 3])
    graph = graph.copy()
    known = reference.parameter_shapes(graph)
    logits: set[str] = set()
    for source, target, edge in graph.edges(data=True):
        if edge.get("port", "s") != "s" or rng.random() < 0.2:
            continue
        shape = int(graph.nodes[source]["size"]), int(graph.nodes[target]["size"])
        structure = edge.get("structure", "dense")
        if structure == "dense" and rng.random() < 0.5:
            mask = rng.random(shape) < 0.6
            mask[rng.integers(shape[0]), rng.integers(shape[1])] = True
            edge |= {"structure": "masked", "mask": mask if rng.random() < 0.5 else mask.astype(int).tolist()}
        if structure in ("dense", "diagonal") and rng.random() < 0.3:
            _write_expression(rng, edge, shape if structure == "dense" else shape[1:], known)
        delay = edge.get("delay", 0)
        chance = rng.random()
        if isinstance(delay, list) or chance < 0.3:
            continue
        if chance < 0.55 or structure == "fixed":
            rows = 1 if structure in ("diagonal", "identity") else shape[0]
            matrix = delay + rng.integers(0, 3, size=(rows, shape[1]))
            edge["delay"] = matrix if rng.random() < 0.5 else matrix.tolist()
        else:
            _learn_delay(rng, edge, delay, f"alpha_{edge.get('parameter', f'{source}_{target}')}", logits)
    return graph


def _write_expression(
    rng: np.random.Generator, edge: dict[str, Any], shape: tuple[int, ...],
    known: dict[str, tuple[int, ...]],
) -> None:  # fmt: skip
    """A weight of one or two parameters: new ones, or ones that another edge, a bias or a state may have too."""
    alike = [name for name, other in known.items() if other == shape and name.isidentifier() and name not in KEYWORDS]
    first, second = f"G{len(known)}", f"H{len(known)}"
    if alike and rng.random() < 0.4 and not isinstance(edge.get("delay", 0), list):
        second = str(rng.choice(alike))
    text = str(rng.choice(["G*sigmoid(H)", "H + 0.5*erf(G)", "sin(H)", "G*square(H)/2 - H"]))
    edge["expression"] = text.replace("G", first).replace("H", second)
    edge.pop("parameter", None)
    known |= {first: shape, second: shape}


def _learn_delay(rng: np.random.Generator, edge: dict[str, Any], least: int, logits: str, taken: set[str]) -> None:
    delay: dict[str, Any] = {"max": least + int(rng.integers(1, 4)), "learned": True}
    if least != 1 or rng.random() < 0.5:
        delay["min"] = least
    if rng.random() < 0.4:
        delay["shared"] = bool(rng.random() < 0.7)
    if rng.random() < 0.5:
        delay["temperature"] = float(rng.choice([0.5, 0.8, 2]))
    if logits in taken or rng.random() < 0.3:
        delay["parameter"] = f"beta{len(taken)}"
    taken.add(delay.get("parameter", logits))
    edge["delay"] = delay


@dataclass(frozen=True)
class Problem:
    """What a kernel is called with; arrays are time-major float64 (class targets: integers)."""

    parameters: dict[str, Array]
    inputs: dict[str, Array]
    targets: dict[str, Array]
    weights: Array | None  # (T, batch), some of them 0
    state: dict[str, Array] | None  # for some of the delayed nodes


def random_problem(
    graph: nx.MultiDiGraph,
    seed: int,
    T: int = 7,
    batch: int = 3,
    *,
    loss: str = "mse",
    with_weights: bool | None = None,
    with_state: bool | None = None,
) -> Problem:
    """Parameters, inputs, targets that suit ``loss``; weights and a partial state as asked, or by the seed if None."""
    rng = np.random.default_rng([seed, 2])
    size = dict(graph.nodes(data="size"))
    parameters = {
        name: rng.normal(scale=0.6 / np.sqrt(shape[0]) if len(shape) > 1 else 0.4, size=shape)
        for name, shape in reference.parameter_shapes(graph).items()
    }
    kinds = {node: data.get("kind", "unit") for node, data in graph.nodes(data=True)}
    inputs = {node: rng.normal(size=(T, batch, size[node])) for node in graph if kinds[node] == "input"}
    targets = {node: _random_target(rng, loss, (T, batch, size[node])) for node in graph if kinds[node] == "output"}
    weights = None
    if rng.random() < 0.5 if with_weights is None else with_weights:
        weights = np.where(rng.random((T, batch)) < 0.25, 0.0, rng.uniform(0.5, 2.0, size=(T, batch)))
        weights[0, 0] = 1.0  # not all of them 0
    state = None
    if rng.random() < 0.5 if with_state is None else with_state:
        state = {
            name: rng.normal(scale=0.5, size=(abs(depth), batch, size[reference.state_node(graph, name)]))
            for name, depth in reference.state_depths(graph).items()
            if rng.random() < 0.7
        }
    return Problem(parameters, inputs, targets, weights, state)


def _random_target(rng: np.random.Generator, loss: str, shape: tuple[int, ...]) -> Array:
    if loss == "cross_entropy":
        return rng.integers(0, shape[2], size=shape[:2])
    if loss == "binary_cross_entropy":
        return rng.integers(0, 2, size=shape).astype(np.float64)
    return rng.normal(size=shape)
