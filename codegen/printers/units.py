"""The text with which an emitted module takes and gives single units of what runs as layers."""

from __future__ import annotations

from codegen.ir import Load, Store

UNITS = '''
def _joined(arrays, sizes):
    """What is given of single units, (T, batch, 1), side by side by layer. A layer may also be given as it is."""
    joined = {name: arrays[name] for name in sizes if name in arrays}
    for name in sizes:
        units = () if name in joined else LAYERS.get(name, ())
        if units and not [unit for unit in units if unit not in arrays]:
            joined[name] = {xp}.concatenate([{xp}.asarray(arrays[unit]) for unit in units], axis=2)
    return joined


def _parts(array, units):
    """The units of an array (T, batch, units) by name: views of it."""
    return {unit: array[:, :, k : k + 1] for k, unit in enumerate(units)}


def _rows_of(rows, units):
    """The rows of a ring buffer by unit: columns of them."""
    return {unit: [row[:, k : k + 1] for row in rows] for k, unit in enumerate(units)}


class UnitStates(Mapping):
    """A state by node. Units that run as a layer keep one array together, ``layers[layer]`` (depth, batch, units); that
    of a single unit is a view of it, cut when it is asked for."""

    def __init__(self, layers=None, nodes=None):
        self.layers = {} if layers is None else layers
        self.nodes = {} if nodes is None else nodes

    def __getitem__(self, node):
        if node in self.nodes:
            return self.nodes[node]
        layer, column = COLUMNS[node]
        array, depth = self.layers[layer], STATES[node][0]
        return array[len(array) - depth :, :, column : column + 1]

    def __setitem__(self, node, value):
        if node in COLUMNS:
            self[node][...] = value
        else:
            self.nodes[node] = value

    def __contains__(self, node):
        return node in self.nodes or (node in STATES and node in COLUMNS and COLUMNS[node][0] in self.layers)

    def __iter__(self):
        return (node for node in STATES if node in self)

    def __len__(self):
        return sum(1 for _ in self)

    def copy(self):
        """The same values in arrays of their own."""
        copies = ({name: array.copy() for name, array in part.items()} for part in (self.layers, self.nodes))
        return UnitStates(*copies)

    def __reduce__(self):
        return dict, ({node: array.copy() for node, array in self.items()},)


def _set_state(rows, given, layer, initial):
    """Fill a layer's rows before t = 1: with what is given of its units, and else with their initial value."""
    rows = rows if rows.ndim == 3 else rows[None]
    if isinstance(given, UnitStates) and layer in given.layers:
        rows[...] = given.layers[layer]
        return
    rows[...] = initial
    for column, unit in enumerate(LAYERS[layer] if given else ()):
        if unit in given:
            value = {xp}.asarray(given[unit])
            rows[len(rows) - len(value) :, :, column] = value[:, :, 0]
'''

STATE = '''
def initial_state(batch=1, params=None):
    """The state that a sequence starts from, arrays (depth, batch, size): for each node read with a delay its last
    values before t = 1, oldest first.

    A node that starts from learned values is in it when ``params`` is given, and else left out: ``forward`` and
    ``loss_and_gradient`` then start it from the parameters they get.
    """
    layers = {}
    for name, depths in DEPTHS.items():
        initial = next(STATES[unit][2] for unit in LAYERS[name] if unit in STATES)
        layers[name] = {xp}.zeros((max(depths), batch, len(depths)), DTYPE)
        layers[name][...] = initial
    nodes = {}
    for node, (depth, size, initial) in STATES.items():
        if node in COLUMNS or (isinstance(initial, str) and params is None):
            continue
        initial = {xp}.asarray(params[initial]) if isinstance(initial, str) else initial
        nodes[node] = {xp}.zeros((depth, batch, size), DTYPE)
        nodes[node][...] = initial
    return UnitStates(layers, nodes)
'''

INIT = '''
def init(seed=0):
    """Fresh parameters. What is drawn as one draws from a stream of its own, made of the seed and its name."""
    params = Parameters({xp}.empty(VECTOR_SIZE, DTYPE))
    for name, (rule, scale, *place) in INITIALISATION.items():
        stream = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(name.encode("utf-8"))))
        _part(params.vector, *place)[...] = {xp}.asarray(scale * RULES[rule](place[0], stream))
    return params

'''

CHECKED = '''
def _checked_state(state, batch):
    """The given part of the state; ValueError for an unknown node or a shape that does not fit."""
    if state is None:
        return {}
    if isinstance(state, UnitStates):
        for layer, array in state.layers.items():
            expected = (max(DEPTHS[layer]), batch, len(DEPTHS[layer]))
            if array.shape != expected:
                raise ValueError(f"state of the layer {layer!r}: found shape {array.shape}; expected {expected}")
        _checked_state(state.nodes, batch)
        return state
'''


def checks(text: str) -> str:
    """The checks of what is given, layer by layer."""
    start, stop = text.index("def _checked_state"), text.index("    for node, value in state.items()")
    text = text[:start] + CHECKED.lstrip("\n") + text[stop:]
    first, lengths, rest = text.partition("def _shape(value)")
    first = first.replace("INPUTS", "INPUT_SIZES")
    checked, targets, rest = (lengths + rest).partition("def _check_targets")
    return first + checked + targets + rest.replace("LOSSES", "TARGETS").replace("OUTPUTS", "TARGET_SIZES")


def load_line(statement: Load, target: str) -> str:
    """The rows of a layer before t = 1."""
    return f"_set_state({target}, given, {statement.name!r}, {statement.default!r})"


def store_line(statement: Store, value: str) -> str:
    """What the caller gets of the units of a layer."""
    name = statement.name
    if statement.what == "state":
        return f"last.layers[{name!r}] = {value}.copy()"
    if statement.what == "state_gradient":
        return f"state_gradients.update(UnitStates({{{name!r}: {value}.copy()}}))"
    result = {"output": "outputs", "input_gradient": "input_gradients"}[statement.what]
    return f"{result}.update(_parts({value}.copy(), LAYERS[{name!r}]))"
