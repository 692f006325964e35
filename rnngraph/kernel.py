"""The compiled network: emitted source, loaded, behind checks that speak the user's language."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnngraph.backends import PRINTERS, load_module
from rnngraph.boundary import Boundary
from rnngraph.data import as_array, batch_of, check_parameters, check_state, check_weights
from rnngraph.errors import DataError, OptionError, UnsupportedError
from rnngraph.explain import Explanation, explain
from rnngraph.export_c import export_c
from rnngraph.files import write_atomic
from rnngraph.hessian import hessian_program
from rnngraph.initialise import ParameterSpec, initialise
from rnngraph.kernel_jacobian import Jacobians
from rnngraph.kernel_stream import Stream, check_streams, checked_batch
from rnngraph.memory import LIMIT, sensitivity_memory
from rnngraph.program import Compilation
from rnngraph.streaming import WindowStream, advance, array_module, carried_state, start_stream
from rnngraph.system import System

Array = NDArray[Any]
Arrays = Mapping[str, Any]


class Kernel:
    """What ``rg.compile`` returns. Arrays are time-major: (T, batch, size).

    ``source`` is the emitted module's text; ``equations`` the System it computes; ``module`` the loaded module, whose
    functions are the same behind plainer checks: it is loaded when it is first needed, so that source can be emitted
    for a backend that this machine lacks. ``seconds`` has the time that each stage of the compilation took.
    Two threads may call one kernel at the same time.
    """

    def __init__(
        self,
        source: str,
        backend: str,
        compilation: Compilation,
        linear: Callable[[], Kernel] | None = None,
        memory_limit: float = LIMIT,
    ) -> None:
        """``linear`` compiles the same network with the loss that ``rnngraph.jacobian`` asks for."""
        self.source = source
        self.backend = backend
        self.compilation = compilation
        self.program = compilation.program
        self.equations: System = compilation.gradient
        self.seconds = dict(compilation.seconds)
        self._memory = sensitivity_memory(self.equations, self.program, memory_limit)
        self._module: Any = None
        self._jacobians = Jacobians(compilation, backend, memory_limit, linear)
        self._hessian_source: str | None = None
        self._hessian_module: Any = None
        self._loading = threading.RLock()
        self._dtype = np.dtype(self.program.dtype)
        self._depths = {name: depth for name, (depth, _, _) in self.program.states.items()}
        self._sizes = {name: size for name, (_, size, _) in self.program.states.items()}
        self._losses = compilation.grouping.by_unit(self.equations.losses)
        self._boundary = Boundary(self.program)
        self._shapes = {parameter.name: parameter.shape for parameter in self.program.parameters}

    def __repr__(self) -> str:
        inputs, outputs = list(self.program.inputs), list(self.program.outputs)
        return (
            f"Kernel({inputs} -> {outputs}, {self.program.vector_size} parameters, loss={self._losses}, "
            f"backend={self.backend!r}, dtype={self.program.dtype!r})"
        )

    @property
    def module(self) -> Any:
        """The emitted module. Raises BackendError when this machine cannot run it."""
        if self._module is not None:
            return self._module
        with self._loading:
            if self._module is None:
                self._module = load_module(self.source, self.backend)
            return self._module

    @property
    def losses(self) -> dict[str, str]:
        """The loss of each output that has one: "mse", "cross_entropy", "binary_cross_entropy" or "expression"."""
        return dict(self._losses)

    @property
    def hessian_source(self) -> str:
        """The text of the module that ``hessian_vector_product`` runs: derived and printed when it is first needed."""
        with self._loading:
            if self._hessian_source is None:
                self._hessian_source = PRINTERS[self.backend](hessian_program(self.compilation))
            return self._hessian_source

    @property
    def _hessian(self) -> Any:
        with self._loading:
            if self._hessian_module is None:
                self._hessian_module = load_module(self.hessian_source, self.backend)
            return self._hessian_module

    @property
    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each parameter by name: (source size, destination size) for a dense weight, (size,) for a vector."""
        return dict(self._shapes)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the emitted module to ``path``, whole or not at all. It needs its array module alone.

        Raises DataError where the folder cannot be written to.
        """
        write_atomic(path, self.source)
        return Path(path)

    def save_c(
        self,
        directory: str | os.PathLike[str],
        params: Arrays | None = None,
        *,
        name: str = "network",
        state: Arrays | None = None,
        inputs: Arrays | None = None,
    ) -> tuple[Path, Path, Path]:
        """Write one step of the network, with these parameters, as portable C99 for a device: ``<name>.h``,
        ``<name>.c`` and ``<name>_test.c``, a main that compares it with recorded steps.

        Weights are constants; a sequence's state is a structure of fixed size; nothing is allocated. ``state`` (batch
        1) is what a sequence starts from; ``inputs`` (T, 1, size) are recorded for the test, random unless given.
        Raises UnsupportedError for a network that looks ahead, OptionError without parameters and for a name that C
        does not take, that a header of C has or that ends in _test, DataError for arrays as ``forward`` does and a
        folder that cannot be written to.
        """
        module = self.module if self.backend == "numpy" else None
        return export_c(self.compilation, module, directory, params, name, state, inputs)

    def init(self, seed: int = 0, rules: Mapping[str, str] | None = None) -> Any:
        """Fresh parameters: a mapping name -> array whose arrays are views of one vector, ``.vector``.

        Glorot for dense weights, orthogonal for square recurrent ones, 0 for biases, 1 for a forget gate's bias;
        ``rules`` maps a parameter's name or a role to another rule (``rnngraph.initialise``). Raises OptionError for an
        unknown rule.
        """
        roles = self.compilation.roles
        if not rules:
            initialise([], seed)  # checks the seed
            return self.module.init(seed)
        specs = [ParameterSpec(name, shape, roles[name]) for name, shape in self._shapes.items()]
        values = initialise(specs, seed, rules, only_given=bool(self.program.layers))  # the rest is drawn by layers
        params = self.module.init(seed)
        params.update(values)
        return params

    def initial_state(self, batch: int = 1, params: Arrays | None = None) -> dict[str, Array]:
        """The state that a sequence starts from: arrays (depth, batch, size). For each node read with a delay its last
        values before t = 1, oldest first; for each node read ahead (``x:ahead`` where it is both) its first values
        after T, earliest first.

        A node that starts from a learned value is in it only when ``params`` is given; without it, the functions
        start it from the parameters that they get.
        """
        checked = None if params is None else self._parameters(params)
        state: dict[str, Array] = self.module.initial_state(checked_batch(batch), checked)
        return state

    def forward(
        self, params: Arrays, inputs: Arrays, state: Arrays | None = None
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Outputs (T, batch, size) by name, and the state after the last step; ``state`` carries a sequence on.

        Raises DataError for inputs, parameters or a state of wrong names, shapes, dtypes or values. The kernel's own
        parameters, as ``init`` makes them, are taken as they are.
        """
        checked, _, batch = self._inputs(inputs)
        result: tuple[dict[str, Array], dict[str, Array]] = self.module.forward(
            self._parameters(params), checked, self._state(state, batch)
        )
        return result

    @property
    def causal(self) -> bool:
        """Whether the network reads the present and the past alone: no edge looks ahead."""
        return not self.program.ahead

    def stream(self, params: Arrays, batch: int = 1, state: Arrays | None = None) -> Stream:
        """A stream of ``batch`` sequences that starts from ``state``, or from a part of it, and then goes one step at a
        time, in place: ``outputs = stream.step({"x": x_t})``. It is several times as fast as ``step``.

        Raises UnsupportedError for a network that looks ahead, OptionError for a batch that is no integer >= 1,
        DataError for parameters or a state as ``forward`` does.
        """
        check_streams(self.compilation.forward)
        batch = checked_batch(batch)
        own = self.module.Stream(self._parameters(params), batch, self._state(state, batch))
        return Stream(own, self.program.inputs, self._dtype, self._parameters, self._step_inputs, self._state)

    def step(self, params: Arrays, state: Any, inputs: Arrays) -> tuple[dict[str, Array], Any]:
        """One time step: inputs and outputs (batch, size) by name; returns the next state too.

        ``state`` as ``forward`` takes it is left as it is. A stream in its place is changed and returned; it goes on
        with the values that ``params`` has now. Raises DataError as ``forward`` and ``Stream.step`` do,
        UnsupportedError for a network that looks ahead.
        """
        check_streams(self.compilation.forward)
        if isinstance(state, Stream):
            if not state._belongs_to(self.module):
                raise DataError("state", "a stream of another kernel", "one of this kernel", "use kernel.stream")
            state.params = params
            return state.step(inputs), state
        outputs, state = self.forward(params, self._one_step("input", inputs), state)
        return {name: value[0] for name, value in outputs.items()}, state

    def loss(
        self, params: Arrays, inputs: Arrays, targets: Arrays, state: Arrays | None = None, weights: Any = None
    ) -> float:
        """The loss over whole sequences, without its gradient."""
        value: float = self.module.loss(self._parameters(params), *self._data(inputs, targets, state, weights))
        return value

    def loss_and_gradient(
        self, params: Arrays, inputs: Arrays, targets: Arrays, state: Arrays | None = None, weights: Any = None
    ) -> tuple[float, Any]:
        """The loss and its gradients: a mapping like the parameters, with ``.vector``, and ``.inputs`` and
        ``.state`` when the kernel was compiled with them in ``wrt``.

        ``targets``: (T, batch, size) by output; integers (T, batch) for cross_entropy. ``weights`` (T, batch) makes
        the loss a weighted mean; 0 masks a step. Raises DataError for data of wrong names, shapes, dtypes or values,
        OptionError where the sensitivities of so many sequences need more than the memory limit.
        """
        data = self._data(inputs, targets, state, weights)
        self._memory.check(batch_of(data[0]))
        result: tuple[float, Any] = self.module.loss_and_gradient(self._parameters(params), *data)
        return result

    def step_and_gradient(self, params: Arrays, state: Any, inputs: Arrays, targets: Arrays) -> tuple[float, Any, Any]:
        """One time step of online learning: its loss, a gradient or None, and the state for the next step.

        ``inputs`` (batch, size) and ``targets`` (batch, size), or integers (batch,) for cross_entropy. ``state`` is
        None at first (or a state as ``forward`` takes it), then what was returned, which the next step changes in
        place. The loss is the mean over batch and units of this step.

        A rule with sensitivities ("rtrl", "focused", "snap", "rflo", "eprop", "uoro") gives the gradient of this step's
        loss at every step; their mean over t is the gradient of ``loss_and_gradient``. Memory does not grow with time.

        With method="tbptt" the gradient comes at every k1-th step, t = k1, 2 k1, ..., and is that of the sum of the
        last k1 steps' losses, back over k2 steps; else it is None. For constant parameters and T a multiple of k1, the
        sum of the gradients divided by T is that of ``loss_and_gradient``. Memory is fixed: the inputs and targets of
        k2 steps, and the states where the windows to come begin. Where parameters change on the way, the window is
        run again with the present ones, from the state that the stream had at its start.

        With method="bptt-rtrl" the gradient comes with the last step of each block, and is that of the sum of the
        block's losses, through all earlier blocks too; else it is None. For constant parameters and T a multiple of
        the block, the sum of the gradients divided by T is that of ``loss_and_gradient``. Memory is fixed: the inputs
        and targets of a block, and the derivative of the state by the parameters at its start.

        Raises UnsupportedError for a rule that needs the whole sequence, DataError for data of wrong names, shapes,
        dtypes or values, or for another batch than that of the stream.
        """
        if not self.program.online and self.program.windows is None:
            raise UnsupportedError(
                "step_and_gradient", f"method={str(self.compilation.rule)!r}, a rule that needs the whole sequence",
                "a rule that learns online", "compile with method='rtrl', 'focused', 'snap', 'bptt-rtrl' or 'tbptt'",
            )  # fmt: skip
        steps = [self._one_step(what, given) for what, given in (("input", inputs), ("target", targets))]
        stream = state if isinstance(state, WindowStream) else None
        if self.program.windows is not None and (stream is None or stream.owner is not self.module):
            stream = None
            carried_state(state, state, 0, None)  # refuses what another kernel carries on
        xs, ys, given, _ = self._data(steps[0], steps[1], None if isinstance(state, WindowStream) else state, None)
        batch = batch_of(xs)
        if self.program.windows is None:
            self._memory.check(batch)
            nodes = carried_state(state, given, batch, self.module)
            result: tuple[float, Any, Any] = self.module.advance(self._parameters(params), nodes, xs, ys)
            return result
        xp = array_module(self.module, self.backend)
        if stream is None:
            stream = start_stream(
                self.module, self.program.windows, xp, xs, self._boundary.with_loss(ys, self._losses), given
            )
        if batch != stream.batch:
            remedy = "start a new stream: state=None"
            raise DataError("inputs", f"batch {batch}", f"batch {stream.batch}, as the stream began", remedy)
        loss, grads = advance(self.module, self._parameters(params), stream, xp, self._dtype, xs, ys)
        return loss, grads, stream

    def _one_step(self, what: str, given: Arrays) -> Arrays:
        """Arrays of one step with a time axis; DataError for those that have one already, or lack the batch."""
        if not isinstance(given, Mapping):
            return given  # refused later
        sizes = self.program.inputs if what == "input" else self.program.outputs
        steps = {}
        for name, value in given.items():
            array = value if hasattr(value, "ndim") else as_array(f"{what} {name!r}", value)
            classes = what == "target" and self._losses.get(name) == "cross_entropy"
            expected = "(batch,)" if classes else f"(batch, {sizes.get(name, 'size')})"
            if array.ndim != (1 if classes else 2):
                remedy = "give one time step: no time axis, but one for the sequences"
                raise DataError(f"{what} {name!r}", f"shape {array.shape}", expected, remedy)
            steps[name] = array[None]
        return steps

    def jacobian(
        self, params: Arrays, inputs: Arrays, state: Any = None, method: str | None = None
    ) -> dict[str, Array]:
        """d y(t)/d w for every output, sequence and step: (T, batch, size, P) by output.

        P is the length of ``params.vector``; the columns are in its order. A given state is held fixed. ``method``:
        "rtrl", one pass forward in time, or "bptt", one backward sweep for each output unit, step and sequence (NumPy
        alone); unless it is given, "rtrl" where that goes. It does not depend on the kernel's own rule; its code is
        made at the first call. Raises UnsupportedError with "rtrl" for a network that looks ahead or whose units run as
        layers, and on a device for one with effective weights, DataError for bad data.
        """
        forward = self.compilation.forward
        method = method or ("rtrl" if forward.look_ahead is None and not self.program.layers else "bptt")
        if method == "rtrl":
            nodes = dict(state) if isinstance(state, Mapping) else state  # a given state is held fixed
            return self.outputs_and_jacobian(params, inputs, nodes)[1]
        if method != "bptt":
            raise OptionError("method", repr(method), "'rtrl' or 'bptt'", "check the spelling")
        self._jacobians.check_sweeps()
        checked, _, batch = self._inputs(inputs)
        return self._jacobians.by_sweeps(self._parameters(params), checked, self._state(state, batch))

    def outputs_and_jacobian(
        self, params: Arrays, inputs: Arrays, state: Any = None
    ) -> tuple[dict[str, Array], dict[str, Array], Any]:
        """The outputs, their Jacobians as ``jacobian`` has them, and the state, which carries the sensitivities on to
        the next call: chunk by chunk or step by step, with memory independent of time.

        Raises OptionError where the sensitivities of so many sequences need more than the kernel's memory limit."""
        checked, _, batch = self._inputs(inputs)
        given = self._state(state, batch)
        return self._jacobians.forward_in_time(self._parameters(params), checked, batch, state, given)

    def hessian_vector_product(
        self,
        params: Arrays,
        direction: Arrays,
        inputs: Arrays,
        targets: Arrays,
        state: Arrays | None = None,
        weights: Any = None,
    ) -> Any:
        """The matrix of the loss's second derivatives by the parameters, times ``direction``: exact, by one forward and
        one backward sweep (Pearlmutter 1994). A mapping like the parameters, with ``.vector``.

        ``direction``: a mapping like the parameters, such as gradients. The first call derives, prints and loads the
        code, which ``hessian_source`` has. It does not depend on the learning rule. Raises DataError as
        ``loss_and_gradient`` does.
        """
        module = self._hessian
        own, along = self._parameters(params), self._parameters(direction, "direction")
        data = self._data(inputs, targets, state, weights)
        packed = module.Parameters(own.vector), module.Parameters(along.vector)
        return self.module.Gradients(module.hessian_vector_product(*packed, *data).vector)

    def explain(self, T: int = 100, batch: int = 1) -> Explanation:
        """What is batched over time and what is stepped, the buffers and the FLOPs for ``T`` and ``batch``, the time of
        each stage. Printing it gives a table. The buffers are those of the program before the backend's own passes."""
        return explain(self.compilation, T, batch)

    def release_workspaces(self) -> None:
        """Free the buffers that the calling thread keeps between calls."""
        self.module.release_workspaces()
        if self._hessian_module is not None:
            self._hessian_module.release_workspaces()
        self._jacobians.release_workspaces()

    # Checks. Arrays that live on a device are checked by shape alone, by the module itself.

    def _data(self, inputs: Arrays, targets: Arrays, state: Arrays | None, weights: Any) -> tuple[Any, ...]:
        checked, T, batch = self._inputs(inputs)
        if not self._on_device(targets):
            targets = self._boundary.targets(targets, self._losses, T, batch, self._dtype)
        if not hasattr(weights, "__cuda_array_interface__"):
            weights = check_weights(weights, T, batch, self._dtype)
        return checked, targets, self._state(state, batch), weights

    def _inputs(self, inputs: Arrays) -> tuple[Any, int, int]:
        if self._on_device(inputs):
            if self.program.layers:
                inputs = self.module._joined(inputs, self.module.INPUT_SIZES)
            T, batch = self.module._lengths(inputs)
            return inputs, T, batch
        return self._boundary.inputs(inputs, self._dtype)

    def _step_inputs(self, inputs: Arrays, batch: int) -> Arrays:
        checked, _, found = self._inputs(self._one_step("input", inputs))
        if found != batch:
            raise DataError("inputs", f"batch {found}", f"batch {batch}, as the stream has", "make another stream")
        return {name: array[0] for name, array in checked.items()}

    def _state(self, state: Arrays | None, batch: int) -> Any:
        if state is None or isinstance(state, getattr(self.module, "UnitStates", ())) or self._on_device(state):
            return state
        return check_state(state, self._depths, self._sizes, batch, self._dtype)

    def _parameters(self, params: Arrays, what: str = "parameter") -> Any:
        own = self.module.Parameters
        if isinstance(params, own) and params.vector.dtype == self._dtype:
            return params
        if self._on_device(params):
            return self.module.pack(params)
        return self.module.pack(check_parameters(params, self._shapes, self._dtype, what))

    def _on_device(self, arrays: object) -> bool:
        if self.backend != "cupy" or not isinstance(arrays, Mapping):
            return False
        return any(hasattr(array, "__cuda_array_interface__") for array in arrays.values())
