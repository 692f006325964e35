"""What a kernel computes Jacobians of its outputs with: modules that are made when they are first needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from rnngraph.backends import PRINTERS, load_module
from rnngraph.errors import UnsupportedError
from rnngraph.jacobian import jacobian_by_bptt
from rnngraph.jacobian_weights import WeightChain
from rnngraph.memory import SensitivityMemory, sensitivity_memory
from rnngraph.output_jacobian import jacobian_program
from rnngraph.program import Compilation
from rnngraph.streaming import carried_state

Array = NDArray[Any]


class Jacobians:
    """d y(t)/d w of one network, forward in time by RTRL or by sweeps backward. Arguments are checked by the kernel."""

    def __init__(
        self, compilation: Compilation, backend: str, memory_limit: float, compile_linear: Callable[[], Any] | None
    ) -> None:
        """``compile_linear`` gives a kernel of the same network with the loss that ``rnngraph.jacobian`` asks for."""
        self._compilation = compilation
        self._backend = backend
        self._limit = memory_limit
        self._compile_linear = compile_linear
        self._module: Any = None
        self._memory: SensitivityMemory | None = None
        self._weight_chain: WeightChain | None = None
        self._linear: Any = None
        self._loading = threading.RLock()

    @property
    def module(self) -> Any:
        """The emitted module of RTRL. Raises UnsupportedError where units run as layers, and on a device for a network
        with effective weights."""
        with self._loading:
            if self._module is None:
                forward = self._compilation.forward
                if self._compilation.grouping.layers:
                    raise UnsupportedError("method", "'rtrl', where units run as layers", "'bptt'", "use method='bptt'")
                if forward.weights and self._backend == "cupy":
                    raise UnsupportedError(
                        "jacobian", "effective weights on a device", "backend='numpy'", "compile for NumPy"
                    )
                self._weight_chain = WeightChain(forward, self._compilation.layout) if forward.weights else None
                program = jacobian_program(self._compilation)
                self._memory = sensitivity_memory(forward, program, self._limit)
                self._module = load_module(PRINTERS[self._backend](program), self._backend)
            return self._module

    def forward_in_time(
        self, params: Any, inputs: Mapping[str, Any], batch: int, state: Any, checked_state: Any
    ) -> tuple[dict[str, Array], dict[str, Array], Any]:
        """Outputs, Jacobians and the state that carries the sensitivities on; ``state`` as the caller gave it."""
        module = self.module
        nodes = carried_state(state, checked_state, batch, module)
        assert self._memory is not None  # made with the module
        self._memory.check(batch)
        outputs, jacobians, last = module.jacobian(module.Parameters(params.vector), inputs, nodes)
        if self._weight_chain is not None:
            jacobians = {name: self._weight_chain(value, params) for name, value in jacobians.items()}
        return outputs, jacobians, last

    def check_sweeps(self) -> None:
        """Raise UnsupportedError where ``by_sweeps`` cannot be had: on a device."""
        if self._backend == "cupy" or self._compile_linear is None:
            raise UnsupportedError("method", "'bptt' on a device", "method='rtrl'", "leave the argument out")

    def by_sweeps(self, params: Any, inputs: Mapping[str, Any], state: Mapping[str, Any] | None) -> dict[str, Array]:
        """The Jacobians, by one sweep backward for each output, step and sequence."""
        with self._loading:
            if self._linear is None:
                assert self._compile_linear is not None, "check_sweeps comes first"
                self._linear = self._compile_linear()
            linear = self._linear
        causal = self._compilation.gradient.look_ahead is None
        program, module = self._compilation.program, linear.module
        found = jacobian_by_bptt(module, module.pack(params), inputs, state or {}, program.outputs, causal)
        order = linear.program.order_for(program)  # layers depend on the losses
        return found if order is None else {name: value[..., order] for name, value in found.items()}

    def release_workspaces(self) -> None:
        """Free the buffers that the calling thread keeps between calls."""
        if self._module is not None:
            self._module.release_workspaces()
        if self._linear is not None:
            self._linear.release_workspaces()
