"""Which units make a layer: nodes of one unit that have the same equation and the same place in the network.

The place of a unit is its strongly connected component's rank (so that what runs for all t at once is not drawn into a
loop) and, within that, how many units its value passes through within one time step. Where its ports lead is part of it
as well: the input gates of an LSTM's units are one layer, its output gates another. Weighted sums ask for nothing, as a
sparse product can join any units of two layers.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from itertools import chain

from rnngraph.model import Edge, Model, Node
from rnngraph.paths import components

FEWEST_UNITS = 8  # of the largest layer: smaller networks are computed as they are declared
MOST_LAYERS = 64  # a finer division into layers than this is given up for a coarser one
ROUNDS = 8  # of telling units apart by where their ports lead

Colors = dict[str, Hashable]


def layers_of(model: Model, losses: Mapping[str, object]) -> list[tuple[str, ...]]:
    """The layers of two units or more, each with its units in the order of its columns; none where units stay apart.

    ``losses`` has the loss of each output: those of one layer are alike.
    """
    if any(edge.delay < 0 for edge in model.edges):
        return []
    free = _mergeable(model, losses)
    if len(free) < FEWEST_UNITS:
        return []
    ports = [edge for edge in model.edges if edge.port != "s"]
    signatures = {name: _signature(model.nodes[name], losses.get(name)) for name in free}
    ranks = _ranks(model)
    fine = {name: (signatures[name], ranks[name], level) for name, level in _levels(model, free, ranks).items()}
    if len(set(fine.values())) > MOST_LAYERS:
        everywhere = dict.fromkeys(model.nodes, 0)
        fine = {name: (signatures[name], 0, level) for name, level in _levels(model, free, everywhere).items()}
    classes = _told_apart(fine, ports)
    layers = _with_matching_ports(classes, ports)
    return layers if max(map(len, layers), default=0) >= FEWEST_UNITS else []


def _mergeable(model: Model, losses: Mapping[str, object]) -> list[str]:
    """The units that may be a part of a layer: those of one unit whose parameters are plain and their own."""
    uses: Counter[str] = Counter(edge.parameter for edge in model.edges if edge.parameter is not None)
    for node in model.nodes.values():
        uses.update(name for name in (node.bias, node.initial) if isinstance(name, str))
    effective = set(chain.from_iterable((weight.name, *weight.slices) for weight in model.weights))
    read_by_weights = {str(s) for weight in model.weights for s in weight.expression.free_symbols}
    read_by_weights.update(weight.logits for weight in model.weights if weight.logits is not None)
    bound: set[str] = set()
    for edge in model.edges:
        name = edge.parameter
        alone = name is None or (uses[name] == 1 and name not in effective and name not in read_by_weights)
        if not alone or (edge.port != "s" and model.nodes[edge.destination].size > 1):
            bound.update((edge.source, edge.destination))
    return [
        name
        for name, node in model.nodes.items()
        if node.size == 1
        and name not in bound
        and not isinstance(node.initial, str)
        and losses.get(name) != "cross_entropy"  # which wants two units: it is refused where losses are
        and (node.bias is None or (uses[node.bias] == 1 and node.bias not in read_by_weights))
    ]


def _signature(node: Node, loss: object) -> Hashable:
    """What units of one layer have in common."""
    written = loss if isinstance(loss, str) or loss is None else str(loss)
    return node.kind, node.equation, node.bias is None, node.initial, node.forget_gate, written


def _ranks(model: Model) -> dict[str, int]:
    """For each node how many strongly connected components its value has come through, inputs not counted."""
    found = components(model.nodes, ((edge.source, edge.destination) for edge in model.edges))
    place = {name: number for number, component in enumerate(found) for name in component}
    reads = {
        (place[edge.destination], place[edge.source])
        for edge in model.edges
        if model.nodes[edge.source].kind != "input"
    }
    ranks = [0] * len(found)
    for reader, source in sorted(reads):
        if reader != source:
            ranks[reader] = max(ranks[reader], ranks[source] + 1)
    return {name: ranks[number] for name, number in place.items()}


def _levels(model: Model, free: Collection[str], ranks: Mapping[str, int]) -> dict[str, int]:
    """For each of the ``free`` units how many of its rank its value at t passes through within one time step."""
    following: dict[str, list[str]] = defaultdict(list)
    waiting: Counter[str] = Counter()
    for edge in model.edges:
        source, destination = edge.source, edge.destination
        if edge.delay == 0 and model.nodes[source].kind != "input" and ranks[source] == ranks[destination]:
            following[source].append(destination)
            waiting[destination] += 1
    levels = dict.fromkeys(model.nodes, 0)
    ready = [name for name in model.nodes if not waiting[name]]
    while ready:
        name = ready.pop()
        for other in following[name]:
            levels[other] = max(levels[other], levels[name] + 1)
            waiting[other] -= 1
            if not waiting[other]:
                ready.append(other)
    return {name: levels[name] for name in free}


def _told_apart(colors: Mapping[str, Hashable], ports: Sequence[Edge]) -> list[list[str]]:
    """The classes of units, divided until units of one class have ports from and to the same classes."""
    numbers = _numbered(colors)
    for _ in range(ROUNDS if ports else 0):
        places: dict[str, set[Hashable]] = defaultdict(set)
        for edge in ports:
            source, destination = numbers.get(edge.source, edge.source), numbers.get(edge.destination, edge.destination)
            places[edge.source].add((edge.port, edge.delay, destination, "out"))
            places[edge.destination].add((edge.port, edge.delay, source, "in"))
        finer = _numbered({name: (number, frozenset(places[name])) for name, number in numbers.items()})
        count = len(set(finer.values()))
        if count == len(set(numbers.values())) or count > MOST_LAYERS:
            break
        numbers = finer
    classes: dict[int, list[str]] = defaultdict(list)
    for name, number in numbers.items():
        classes[number].append(name)
    return list(classes.values())


def _numbered(colors: Mapping[str, Hashable]) -> dict[str, int]:
    known: dict[Hashable, int] = {}
    return {name: known.setdefault(color, len(known)) for name, color in colors.items()}


def _with_matching_ports(classes: Sequence[list[str]], ports: Sequence[Edge]) -> list[tuple[str, ...]]:
    """The classes whose ports each come from one class, unit by unit, or from one node for all; their units in an order
    in which they match. The units of the others stay apart."""
    members = {number: list(names) for number, names in enumerate(classes) if len(names) > 1}
    incoming: dict[str, list[Edge]] = defaultdict(list)
    outgoing: set[str] = set()
    for edge in ports:
        incoming[edge.destination].append(edge)
        outgoing.add(edge.source)
    while True:
        home = {name: number for number, names in members.items() for name in names}
        orders: dict[int, list[str]] = {}
        broken = {
            home[edge.source] for edge in ports if edge.source in home and edge.destination not in home
        }  # fmt: skip
        for number, names in members.items():
            links = _links(names, incoming, home)
            if links is None:
                broken.add(number)
                continue
            for other, pairs in links:
                if not _fit(number, other, pairs, names, members[other], orders):
                    broken.add(number)
        if not broken:
            return [tuple(orders.get(number, names)) for number, names in members.items()]
        members = {number: names for number, names in members.items() if number not in broken}


def _links(
    names: Sequence[str], incoming: Mapping[str, list[Edge]], home: Mapping[str, int]
) -> list[tuple[int, dict[str, str]]] | None:
    """For each port of a class that reads another class: its number and the source of each unit; None where units of
    one class read by one port what does not make one signal."""
    by_port: dict[str, dict[str, Edge]] = defaultdict(dict)
    for name in names:
        for edge in incoming[name]:
            by_port[edge.port][name] = edge
    links: list[tuple[int, dict[str, str]]] = []
    for edges in by_port.values():
        sources = {name: edge.source for name, edge in edges.items()}
        homes = {home.get(source, -1) for source in sources.values()}
        if len(edges) < len(names) or len({edge.delay for edge in edges.values()}) > 1 or len(homes) > 1:
            return None
        (other,) = homes
        if other == -1:
            if len(set(sources.values())) > 1:
                return None
        elif len(set(sources.values())) < len(names):
            return None
        else:
            links.append((other, sources))
    return links


def _fit(
    number: int,
    other: int,
    pairs: Mapping[str, str],
    names: list[str],
    sources: list[str],
    orders: dict[int, list[str]],
) -> bool:
    """Put one class in the order of the other, whichever has one; False where both have, and differ."""
    if len(names) != len(sources):
        return False
    if number in orders or other not in orders:
        wanted = [pairs[name] for name in orders.setdefault(number, list(names))]
        return orders.setdefault(other, wanted) == wanted
    of_source = {source: name for name, source in pairs.items()}
    orders[number] = [of_source[source] for source in orders[other]]
    return True
