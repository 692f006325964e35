"""The text that every emitted module begins with: its parameters as views of one vector, its checks, its workspaces.

The names that emitted text takes for itself stand here, too.

``{xp}`` stands for the array module (np or cp).
"""

from __future__ import annotations

from codegen.printers import units
from codegen.ufuncs import UFUNCS

# The names that the text of emitted modules uses.
RESERVED = {
    "BLOCK_STEPS", "Block", "COLUMNS", "Carried", "DEPTHS", "DTYPE", "GATHERED", "Gradients", "HELD_BYTES",
    "INITIALISATION", "INPUTS", "INPUT_SIZES", "K1", "K2", "LAYERS", "LOSSES", "MOST_ENTRIES", "Mapping", "OUTPUTS",
    "PARAMETERS", "Parameters", "RULES", "STACK_BYTES", "STACK_ROWS", "STATES", "STRETCH_BYTES", "STRETCH_ROWS",
    "Sensitivities", "State", "T", "TARGETS", "TARGET_SIZES", "UnitStates", "VECTOR_SIZE", "advance", "base64",
    "batch", "cp", "deepcopy", "direction", "dot", "earliest", "error", "first", "forward", "fresh", "given",
    "gradient", "hessian_vector_product", "init", "initial_state", "input_gradients", "inputs", "jacobian",
    "jacobians", "json", "last", "loss", "loss_and_gradient", "matmul", "nbytes", "np", "outputs", "pack", "params",
    "part", "product", "release_workspaces", "results", "row", "rows", "self", "sensitivities", "shares", "stack",
    "start", "state", "state_gradients", "step", "step_and_gradient", "steps", "stop", "stream", "summed", "sums",
    "swept", "t", "targets", "threading", "vector", "weights", "window_gradient", "window_loss", "work", "zlib",
    *(call.text.removeprefix("np.") for call in UFUNCS.values()),
}  # fmt: skip

PART = {
    "np": '''
def _part(vector, shape, offset, stride):
    """A parameter as a view of the vector."""
    item = vector.itemsize
    strides = (*(shape[1] * stride * item for _ in shape[2:]), stride * item, item)[-len(shape) :]
    return np.ndarray(shape, vector.dtype, vector, offset * item, strides)
''',
    "cp": '''
def _part(vector, shape, offset, stride):
    """A parameter as a view of the vector."""
    item = vector.itemsize
    strides = (*(shape[1] * stride * item for _ in shape[2:]), stride * item, item)[-len(shape) :]
    return cp.lib.stride_tricks.as_strided(vector[offset:], shape, strides)
''',
}

PARAMETERS = '''
class Parameters(Mapping):
    """Named parameters: views of one contiguous vector, ``.vector``. Assigning to a name copies into the view."""

    def __init__(self, vector):
        self._vector = vector
        self._views = {}  # those that were asked for

    @property
    def vector(self):
        """All parameters, (VECTOR_SIZE,); change it in place."""
        return self._vector

    def __getitem__(self, name):
        if name not in self._views:
            if self._vector is None:
                raise KeyError(name)
            self._views[name] = _part(self._vector, *PARAMETERS[name])
        return self._views[name]

    def __iter__(self):
        return iter(() if self._vector is None else PARAMETERS)

    def __len__(self):
        return 0 if self._vector is None else len(PARAMETERS)

    def __setitem__(self, name, value):
        if name not in self:
            raise KeyError(f"{name!r} is not a parameter of this network; its parameters: {list(self)}")
        value = {xp}.asarray(value)
        if value.shape not in ((), self[name].shape):
            raise ValueError(f"parameter {name!r}: found shape {value.shape}; expected {self[name].shape}")
        self[name][...] = value

    def update(self, values):
        """Copy each of ``values`` into the parameter of its name."""
        for name in values:
            self[name] = values[name]

    def copy(self):
        """The same values in a vector of their own."""
        return Parameters(None if self.vector is None else self.vector.copy())

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, memo):
        return self.copy()

    def __reduce__(self):
        return dict, ({name: value.copy() for name, value in self.items()},)

    def __repr__(self):
        return f"{type(self).__name__}({ {name: value.shape for name, value in self.items()} })"


class Gradients(Parameters):
    """Gradients by parameter, laid out as the parameters are; ``.inputs`` and ``.state`` when they were asked for.

    Without the parameters in what was differentiated by, ``.vector`` is None and there are no names.
    """

    def __init__(self, vector, inputs=None, state=None):
        super().__init__(vector)
        self.inputs = inputs
        self.state = state


def pack(params):
    """``params`` as Parameters: as they are, or copied from any mapping of names to arrays."""
    if isinstance(params, Parameters) and params.vector.dtype == DTYPE:
        return params
    missing = [name for name in PARAMETERS if name not in params]
    unknown = [name for name in params if name not in PARAMETERS]
    if missing or unknown:
        raise ValueError(f"parameters: missing {missing}, unknown {unknown}; expected {list(PARAMETERS)}")
    packed = Parameters({xp}.empty(VECTOR_SIZE, DTYPE))
    for name, (shape, _, _) in PARAMETERS.items():
        value = {xp}.asarray(params[name])
        if value.shape != shape:
            raise ValueError(f"parameter {name!r}: found shape {value.shape}; expected {shape}")
        packed[name] = value
    return packed
'''

INIT = '''
def init(seed=0):
    """Fresh parameters. Every parameter draws from a stream of its own, made of the seed and its name."""
    params = Parameters({xp}.empty(VECTOR_SIZE, DTYPE))
    for name, rule in INITIALISATION.items():
        stream = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(name.encode("utf-8"))))
        params[name] = RULES[rule](PARAMETERS[name][0], stream)
    return params
'''

INITIAL_STATE = '''
def initial_state(batch=1, params=None):
    """The state that a sequence starts from, arrays (depth, batch, size): for each node read with a delay its last
    values before t = 1, oldest first{ahead}.

    A node that starts from learned values is in it when ``params`` is given, and else left out: ``forward`` and
    ``loss_and_gradient`` then start it from the parameters they get.
    """
    state = {}
    for node, (depth, size, initial) in STATES.items():
        if isinstance(initial, str):
            if params is None:
                continue
            initial = {xp}.asarray(params[initial])
        state[node] = {xp}.zeros((depth, batch, size), DTYPE)
        state[node][...] = initial
    return state
'''

CHECKS = '''
def _lengths(inputs):
    """T and batch of the inputs; ValueError when a name is missing or a shape does not fit."""
    T = batch = None
    if len(inputs) != len(INPUTS):
        raise ValueError(f"inputs: found {list(inputs)}; expected {list(INPUTS)}")
    for name, size in INPUTS.items():
        if name not in inputs:
            raise ValueError(f"inputs: {name!r} is missing; expected {list(INPUTS)}")
        shape = inputs[name].shape
        if len(shape) != 3 or shape[2] != size or 0 in shape or (T is not None and shape[:2] != (T, batch)):
            expected = f"(T, batch, {size}), T and batch the same for all inputs"
            raise ValueError(f"input {name!r}: found shape {shape}; expected {expected}")
        T, batch = shape[:2]
    return T, batch


def _shape(value):
    """The shape of an array, or of what can be made one."""
    return value.shape if hasattr(value, "shape") else np.shape(value)


def _checked_state(state, batch):
    """The given part of the state; ValueError for an unknown node or a shape that does not fit."""
    if state is None:
        return {}
    for node, value in state.items():
        if node not in STATES:
            raise ValueError(f"state: {node!r} keeps none; expected some of {list(STATES)}")
        expected = (STATES[node][0], batch, STATES[node][1])
        if _shape(value) != expected:
            raise ValueError(f"state of {node!r}: found shape {_shape(value)}; expected {expected}")
    return state


def _check_targets(targets, weights, T, batch):
    """ValueError for a target or for weights that are missing or do not fit."""
    for name, kind in LOSSES.items():
        if name not in targets:
            raise ValueError(f"targets: {name!r} is missing; expected {list(LOSSES)}")
        expected = (T, batch) if kind == "classes" else (T, batch, OUTPUTS[name])
        if _shape(targets[name]) != expected:
            raise ValueError(f"target {name!r}: found shape {_shape(targets[name])}; expected {expected}")
        if kind == "classes":
            classes = {xp}.asarray(targets[name])
            if classes.min() < 0 or classes.max() >= OUTPUTS[name]:
                found = f"{int(classes.min())} to {int(classes.max())}"
                raise ValueError(f"target {name!r}: found classes {found}; expected 0 to {OUTPUTS[name] - 1}")
    if weights is not None and (_shape(weights) != (T, batch) or not 0 < {xp}.asarray(weights).sum() < np.inf):
        raise ValueError(f"weights: found shape {_shape(weights)}; expected {(T, batch)} with a sum above 0")


HELD_BYTES = {held_bytes}
_local = threading.local()


def _workspace(kind, T, batch):
    """The buffers of one function for one T and batch. Each thread keeps those used last, up to HELD_BYTES of them."""
    held = _local.__dict__.setdefault("held", {})
    key = (kind, T, batch)
    workspace = held.pop(key, None)
    if workspace is None:
        workspace = kind(T, batch)
        free = HELD_BYTES - workspace.nbytes - sum(kept.nbytes for kept in held.values())
        while held and free < 0:
            free += held.pop(next(iter(held))).nbytes
    held[key] = workspace
    return workspace


def release_workspaces():
    """Free the buffers that this thread keeps between calls."""
    _local.__dict__.clear()
'''

STEP = '''
def step(params, state, inputs):
    """One time step, (batch, size) by name: returns the outputs and the next state, and leaves ``state`` as it is."""
    outputs, state = forward(params, {name: value[None] for name, value in inputs.items()}, state)
    return {name: value[0] for name, value in outputs.items()}, state
'''

AHEAD_STATES = """; for each node read ahead (``x:ahead`` where it is both) its first values after T,
    earliest first"""


def templates(xp: str, layers: bool) -> tuple[str, ...]:
    """The parts that every module has; ``layers``: where units run as layers."""
    if not layers:
        return PART[xp], PARAMETERS, INIT, INITIAL_STATE, CHECKS
    return PART[xp], PARAMETERS, units.UNITS, units.INIT, units.STATE, units.checks(CHECKS)


HELPERS = {
    "_in_turns": '''
def _in_turns(rows, steps, T=None):
    """The rows of a loop that takes several steps at once, turn by turn, the last with what is left; time and batch as
    one axis. With T, the same rows serve every turn."""
    if T is None:
        parts = [rows[t : t + steps] for t in range(0, len(rows), steps)]
    else:
        parts = [rows[: T - t] for t in range(0, T, steps)]
    return [part.reshape(-1, part.shape[-1]) for part in parts]
''',
    "_step": '''
def _step(x, out):
    """1 where x > 0, else 0."""
    return {xp}.heaviside(x, 0.0, out=out)
''',
    "_softplus": '''
def _softplus(x, out):
    """log(1 + exp(x)), for any x."""
    return {xp}.logaddexp(x, 0.0, out=out)
''',
    "_erf": '''
def _polynomial(x, *coefficients):
    """That of the coefficients at x, by Horner's rule; the highest power comes first."""
    value = coefficients[0]
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value


def _erf(x, out):
    """The error function to about 1 ulp of float64 (rational approximations of Cephes, S. Moshier)."""
    x = x.astype(np.float64)
    z = x * x
    small = x * _polynomial(z, 9.60497373987051638749, 90.0260197203842689217, 2232.00534594684319226,
        7003.32514112805075473, 55592.3013010394962768) / _polynomial(z, 1.0, 33.5617141647503099647,
        521.357949780152679795, 4594.32382970980127987, 22629.0000613890934246, 49267.3942608635921086)
    a = {xp}.minimum({xp}.abs(x), 8.0)
    tail = _polynomial(a, 2.46196981473530512524e-10, 0.564189564831068821977, 7.46321056442269912687,
        48.6371970985681366614, 196.520832956077098242, 526.445194995477358631, 934.528527171957607540,
        1027.55188689515710272, 557.535335369399327526) / _polynomial(a, 1.0, 13.2281951154744992508,
        86.7072140885989742329, 354.937778887819891062, 975.708501743205489753, 1823.90916687909736289,
        2246.33760818710981792, 1656.66309194161350182, 557.535340817727675546) * {xp}.exp(-a * a)
    out[...] = {xp}.where({xp}.abs(x) < 1.0, small, {xp}.sign(x) * (1.0 - tail))
    return out
''',
    "_softmax": '''
def _softmax(x):
    """exp(x) divided by its sum over the first axis, for any x."""
    x = {xp}.exp(x - x.max(axis=0))
    return x / x.sum(axis=0)
''',
    "_of": '''
def _of(function, x):
    """The values of a function that writes to an array."""
    out = {xp}.empty_like(x)
    function(x, out=out)
    return out
''',
    "_logsumexp": '''
def _logsumexp(x, out):
    """log of the sum of exp(x) over the units, for any x."""
    largest = x.max(axis=-1, keepdims=True)
    out[...] = largest + {xp}.log({xp}.exp(x - largest).sum(axis=-1, keepdims=True))
''',
}
