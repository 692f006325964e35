"""A time-delay network as a stack of 1-D convolutions over time, and back.

A layer that reads the one before at several delays, with a weight for each, shares these weights over time: that is a
convolution (Waibel et al. 1989). Weights are handed over in the convention of ``scipy`` and ``torch.nn.Conv1d``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from rnngraph.data import as_array
from rnngraph.derive import derive_model
from rnngraph.errors import DataError, GraphError, OptionError
from rnngraph.evaluate import matrices_of, numpy_functions
from rnngraph.model import Edge, Model, Node
from rnngraph.transform.arrays import read_parameters
from rnngraph.validate import validate
from rnngraph.words import clip

Array = NDArray[Any]
UNSTACKED = "pass only networks in which each layer reads the layer before it and nothing else"


@dataclass(frozen=True)
class ConvolutionLayer:
    """One layer of a time-delay network as a convolution with stride 1 over time.

    a_o(t) = f(b_o + sum_i sum_j K[o, i, j] a_i(t - ``lag`` - (kernel - 1 - j) ``dilation``)), a_i(t) = 0 for t <= 0.

    ``weight``: K, (units of ``node``, units of ``source``, kernel), or None where no parameters were given; the kernel
    is not reversed (a cross-correlation), so its last entry reads the newest value. ``bias``: b, (units of ``node``,)
    or None. ``activation``: f, the name of a function or an expression in s. The layer equals ``torch.nn.Conv1d`` on a
    sequence with ``padding`` zeros put before it, of whose result the first T steps count. Each layer pads what it
    reads: zeros put before the whole stack once are something else, since f(b) need not be 0.

    ``source``, ``node``, ``parameters`` (one a tap, in the order of the kernel; "" for a tap that is no parameter, but
    zeros or weights computed from parameters) and ``bias_name`` (None without a bias) are the names in the graph.
    """

    source: str
    node: str
    shape: tuple[int, int, int]
    weight: Array | None
    bias: Array | None
    dilation: int
    lag: int
    activation: str
    parameters: tuple[str, ...]
    bias_name: str | None

    @property
    def padding(self) -> int:
        """How many zeros stand before the sequence: the layer's longest delay."""
        return self.lag + (self.shape[2] - 1) * self.dilation

    @property
    def delays(self) -> tuple[int, ...]:
        """The delay of each entry of the kernel: the last one is the shortest."""
        return tuple(self.lag + (self.shape[2] - 1 - j) * self.dilation for j in range(self.shape[2]))


def as_convolution(
    graph: nx.MultiDiGraph, params: Mapping[str, Any] | None = None, *, zero_taps: bool = False
) -> list[ConvolutionLayer]:
    """The layers of a time-delay network as 1-D convolutions over time, from the input to the output.

    ``params`` has the parameters by name, as a kernel does; without them ``weight`` and ``bias`` are None.
    Delays must be equally spaced (their distance is the dilation). Others are refused, unless ``zero_taps``: then the
    kernel has a tap for every multiple of their greatest common distance, with zeros where the network has no weight.
    Weights that are computed from parameters (masked, expressions, learned delays, a delay for each pair of units) are
    computed from ``params``, and refused without them. ``from_convolution`` makes learned weights of all of these.

    Raises GraphError for a network that is not a stack of convolutions (more than one input or output, a loop, a layer
    that reads two others, ports, weights that are not dense, values other than 0 before t = 1), DataError for
    parameters that are missing or have the wrong shape.
    """
    model = validate(graph)
    values = _values(model, params)
    texts = {str(node): _activation(attributes) for node, attributes in graph.nodes(data=True)}
    layers = []
    for source, node, edges in _stack(model):
        delays = sorted((edge.delay for edge in edges), reverse=True)
        dilation = _dilation(node.name, delays, zero_taps)
        by_delay = {edge.delay: edge.parameter or "" for edge in edges}
        read = [by_delay.get(delay, "") for delay in range(delays[0], delays[-1] - 1, -dilation)]
        names = tuple(name if name in model.parameters else "" for name in read)
        weight = bias = None
        if values is not None:
            weight = _kernel(read, values, (source.size, node.size))
            bias = None if node.bias is None else values[node.bias]
        shape = (node.size, source.size, len(names))
        layers.append(
            ConvolutionLayer(
                source.name, node.name, shape, weight, bias, dilation, delays[-1], texts[node.name], names, node.bias
            )
        )
    return layers


def from_convolution(
    weight: Any,
    bias: Any = None,
    *,
    dilation: int | Sequence[int] = 1,
    activation: str = "tanh",
    output_activation: str = "identity",
) -> tuple[nx.MultiDiGraph, dict[str, Array]]:
    """A time-delay network that computes a stack of causal 1-D convolutions with stride 1, and its parameters.

    ``weight``: the weight of one layer, (out_channels, in_channels, kernel) as in ``torch.nn.Conv1d``, or a list of
    them; ``bias``: (out_channels,) or None, likewise a list for a list. Entry j of a kernel reads
    t - (kernel - 1 - j) ``dilation`` (an int, or one a layer). Nodes are named "x", "a1", ..., "y" as in
    ``rnngraph.zoo.tdnn``. Or ``weight`` is the list that :func:`as_convolution` gave, with parameters: then the graph
    has the names, activations and delays written there, and the other arguments are not used.

    Raises DataError for weights that are no arrays of three axes or do not follow each other, OptionError for the
    dilation and for an activation that is no text, GraphError for a text that is neither a function nor an expression.
    """
    if isinstance(weight, Sequence) and weight and all(isinstance(layer, ConvolutionLayer) for layer in weight):
        layers = list(weight)
    else:
        several = isinstance(weight, list | tuple) and (not weight or as_array("weight 0", weight[0]).ndim == 3)
        weights = list(weight) if several else [weight]
        biases = _one_a_layer(bias, len(weights)) if several or bias is None else [bias]
        layers = _layers(weights, biases, _one_a_layer(dilation, len(weights)), activation, output_activation)
    graph, params = _network(layers)
    validate(graph)
    return graph, params


# From a network.


def _activation(attributes: Mapping[str, Any]) -> str:
    return str(attributes["equation"] if "equation" in attributes else attributes.get("activation", "identity"))


def _stack(model: Model) -> list[tuple[Node, Node, list[Edge]]]:
    """(layer read, layer, edges between them) from the input to the output; GraphError where there is no such order.

    Each node has a path to the output, so one that lies beside the stack enters it somewhere.
    """
    for nodes, kind in ((model.inputs, "input"), (model.outputs, "output")):
        if len(nodes) != 1:
            names = [node.name for node in nodes]
            raise GraphError("graph", f"the {kind} nodes {names}", f"one {kind}", UNSTACKED)
    follower: dict[str, str] = {}
    edges_into: dict[str, list[Edge]] = {name: [] for name in model.nodes}
    for edge in model.edges:
        edges_into[edge.destination].append(edge)
        _check_edge(edge)
        if follower.setdefault(edge.source, edge.destination) != edge.destination:
            found = f"a layer that both {follower[edge.source]!r} and {edge.destination!r} read"
            raise GraphError(f"node {edge.source!r}", found, "one layer that reads it", UNSTACKED)
    stack, node = [], model.inputs[0]
    while node.name in follower:
        following = model.nodes[follower[node.name]]
        edges = edges_into[following.name]
        sources = list(dict.fromkeys(edge.source for edge in edges))
        if len(sources) > 1:
            expected = f"weights from {node.name!r} alone"
            raise GraphError(f"node {following.name!r}", f"weights from {sources}", expected, UNSTACKED)
        _check_past(node, edges)
        stack.append((node, following, edges))
        node = following
    return stack


def _check_edge(edge: Edge) -> None:
    where = f"edge {edge.source!r} -> {edge.destination!r}"
    if edge.source == edge.destination:
        raise GraphError(where, "a loop", "a layer that reads the one before it", UNSTACKED)
    if edge.port != "s":
        raise GraphError(where, f"port={edge.port!r}", "a weighted connection (port 's')", UNSTACKED)
    if edge.structure != "dense":
        raise GraphError(where, f"structure={edge.structure!r}", "structure='dense'", "use dense weights")
    if edge.delay < 0:
        raise GraphError(where, f"delay={edge.delay}, a look-ahead", "delays >= 0", "delay what it is compared with")


def _check_past(node: Node, edges: Sequence[Edge]) -> None:
    if node.initial != 0 and any(edge.delay > 0 for edge in edges):
        raise GraphError(
            f"node {node.name!r}", f"initial={node.initial!r} for t <= 0", "0, with which a convolution pads",
            "set initial=0",
        )  # fmt: skip
    delays = [edge.delay for edge in edges]
    if len(set(delays)) < len(delays):
        twice = next(delay for delay in delays if delays.count(delay) > 1)
        where = f"edges {node.name!r} -> {edges[0].destination!r}"
        raise GraphError(where, f"two weights at delay {twice}", "one weight a delay", "add the two weights up")


def _dilation(name: str, delays: Sequence[int], zero_taps: bool) -> int:
    """The distance of the taps; ``delays`` fall."""
    distances = [older - newer for older, newer in pairwise(delays)]
    if len(set(distances)) <= 1:
        return distances[0] if distances else 1
    if zero_taps:
        return math.gcd(*distances)
    raise GraphError(
        f"node {name!r}", f"delays {delays[::-1]} that are not equally spaced", "one distance, the dilation",
        "pass zero_taps=True for a kernel with zeros where there is no weight",
    )  # fmt: skip


def _values(model: Model, params: Mapping[str, Any] | None) -> dict[str, Array] | None:
    """Copies of the parameters, and the weights that are computed from them; GraphError for such without parameters."""
    given = read_parameters(model, params)
    if not model.weights:
        return given
    if given is None:
        edge = next(edge for edge in model.edges if edge.parameter and edge.parameter not in model.parameters)
        raise GraphError(
            f"edge {edge.source!r} -> {edge.destination!r}",
            "weights that are computed from parameters, and no params",
            "weights that are parameters themselves, or the values of all parameters",
            "give params=...",
        )
    dtype = next(iter(given.values())).dtype
    computed = matrices_of(derive_model(model), given, numpy_functions())
    return {name: value.astype(dtype, copy=False) for name, value in computed.items()}


def _kernel(names: Sequence[str], values: Mapping[str, Array], shape: tuple[int, int]) -> Array:
    """The weights of a layer as (out, in, kernel)."""
    dtype = next(values[name] for name in names if name).dtype
    kernel = np.zeros((shape[1], shape[0], len(names)), dtype)
    for tap, name in enumerate(names):
        if name:
            kernel[:, :, tap] = values[name].T
    return kernel


# To a network.


def _one_a_layer(given: Any, count: int) -> list[Any]:
    """The entries of a sequence, or one value for all layers."""
    several = given.ndim > 0 if isinstance(given, np.ndarray) else isinstance(given, Sequence)
    return list(given) if several and not isinstance(given, str) else [given] * count


def _numbers(where: str, given: Any) -> Array:
    array = as_array(where, given)
    if array.dtype.kind not in "biuf":
        raise DataError(where, f"dtype {array.dtype}", "real numbers", "give an array of numbers")
    return array


def _layers(
    weights: Sequence[Any], biases: Sequence[Any], dilations: Sequence[Any], activation: str, output_activation: str
) -> list[ConvolutionLayer]:
    """Layers with the zoo's names; all arguments checked."""
    count = len(weights)
    if not count:
        raise DataError("argument weight", "an empty list", "one weight a layer", "give one at least")
    for name, text in (("activation", activation), ("output_activation", output_activation)):
        if not isinstance(text, str):
            raise OptionError(
                f"argument {name}", clip(text), "the name of a function or an expression in s", "give text"
            )
    if len(biases) != count:
        raise DataError("argument bias", f"{len(biases)} entries", f"{count}, one a layer", "give None for no bias")
    for k, value in enumerate(dilations):
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise OptionError(f"argument dilation[{k}]", clip(value), "an int >= 1", "give the distance of two taps")
    if len(dilations) != count:
        raise OptionError("argument dilation", f"{len(dilations)} entries", f"{count}, one a layer", "give an int")
    names = ["x", *(f"a{layer}" for layer in range(1, count)), "y"]
    layers: list[ConvolutionLayer] = []
    for k, (given, shift) in enumerate(zip(weights, biases, strict=True)):
        weight = _numbers(f"weight {k}", given)
        if weight.ndim != 3 or 0 in weight.shape:
            raise DataError(
                f"weight {k}", f"shape {weight.shape}", "(out_channels, in_channels, kernel)",
                "add an axis for a kernel of one entry: weight[:, :, None]",
            )  # fmt: skip
        if layers and layers[-1].shape[0] != weight.shape[1]:
            raise DataError(
                f"weight {k}", f"{weight.shape[1]} in_channels", f"{layers[-1].shape[0]}, as the layer before has out",
                "give the layers from the input to the output; grouped convolutions are not read",
            )  # fmt: skip
        bias = None if shift is None else _numbers(f"bias {k}", shift)
        if bias is not None and bias.shape != weight.shape[:1]:
            raise DataError(f"bias {k}", f"shape {bias.shape}", f"shape {weight.shape[:1]}", "give one a channel")
        source, node = names[k], names[k + 1]
        out, into, kernel = weight.shape
        text = output_activation if k == count - 1 else activation
        layer = ConvolutionLayer(
            source, node, (out, into, kernel), weight, bias, int(dilations[k]), 0, text, (),
            None if bias is None else f"b_{node}",
        )  # fmt: skip
        layers.append(layer)
    return layers


def _network(layers: Sequence[ConvolutionLayer]) -> tuple[nx.MultiDiGraph, dict[str, Array]]:
    graph = nx.MultiDiGraph()
    graph.add_node(layers[0].source, kind="input", size=layers[0].shape[1])
    params: dict[str, Array] = {}
    for layer in layers:
        if layer.weight is None or (layer.bias is None) != (layer.bias_name is None):
            raise DataError(
                f"layer {layer.node!r}", "no weights", "the weights as arrays",
                "pass the parameters to as_convolution",
            )  # fmt: skip
        kind = "output" if layer is layers[-1] else "unit"
        function = "activation" if layer.activation.isidentifier() and layer.activation != "s" else "equation"
        graph.add_node(layer.node, kind=kind, size=layer.shape[0], **{function: layer.activation})
        if layer.bias_name is None:
            graph.nodes[layer.node]["bias"] = False
        elif layer.bias_name != f"b_{layer.node}":
            graph.nodes[layer.node]["bias"] = layer.bias_name
        names = _add_edges(graph, layer)
        for tap, name in enumerate(names):
            params[name] = np.ascontiguousarray(layer.weight[:, :, tap].T)
        if layer.bias is not None and layer.bias_name is not None:
            params[layer.bias_name] = np.array(layer.bias)
    return graph, params


def _add_edges(graph: nx.MultiDiGraph, layer: ConvolutionLayer) -> list[str]:
    """The edges of a layer; the names of its weights, in the order of the kernel. One edge with a list of delays where
    the names allow it, else one edge a delay."""
    default = f"W_{layer.source}_{layer.node}"
    known = {
        name.removesuffix(f"_d{delay}") for name, delay in zip(layer.parameters, layer.delays, strict=False) if name
    }
    stem = known.pop() if len(known) == 1 else default
    listed = [f"{stem}_d{delay}" for delay in layer.delays]
    names = [name or filled for name, filled in zip(layer.parameters or listed, listed, strict=True)]
    if names == listed:
        own = {} if stem == default else {"parameter": stem}
        graph.add_edge(layer.source, layer.node, delay=list(layer.delays[::-1]), **own)
        return names
    for name, delay in zip(names[::-1], layer.delays[::-1], strict=True):
        own = {} if name == default and len(names) == 1 else {"parameter": name}
        graph.add_edge(layer.source, layer.node, **({"delay": delay} if delay else {}), **own)
    return names
