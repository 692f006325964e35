"""A compiled network that goes one time step at a time, in place: the emitted module's ``Stream`` behind checks that
speak the user's language."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rnngraph.errors import OptionError, UnsupportedError
from rnngraph.system import System

Arrays = Mapping[str, Any]
FEW_NUMBERS = 16  # up to so many, Python's sum is quicker than np.vdot


class Stream:
    """The network one time step at a time, made by ``kernel.stream``: it holds the state and changes it in place.

    Delayed values lie in ring buffers as long as the longest delay, so a step makes no arrays and takes the same time
    whatever the delays are. ``time`` counts the steps since the stream began or was given a state. One thread may use a
    stream at a time; two streams of one kernel are independent.
    """

    def __init__(
        self,
        stream: Any,
        sizes: Mapping[str, int],
        dtype: Any,
        parameters: Callable[[Arrays], Any],
        checked_inputs: Callable[[Arrays, int], Arrays],
        checked_state: Callable[[Any, int], Any],
    ) -> None:
        """``stream``: the emitted module's; the functions check what the user gives, and raise DataError."""
        self._stream = stream
        self._shapes = {name: (stream.batch, size) for name, size in sizes.items()}
        self._dtype = dtype
        self._parameters = parameters
        self._inputs = checked_inputs
        self._state = checked_state

    def _belongs_to(self, module: Any) -> bool:
        """Whether it runs the code of that emitted module."""
        return hasattr(module, "Stream") and isinstance(self._stream, module.Stream)

    def __repr__(self) -> str:
        return f"Stream({list(self._shapes)}, batch={self.batch}, time={self.time})"

    @property
    def batch(self) -> int:
        """How many sequences go side by side."""
        batch: int = self._stream.batch
        return batch

    @property
    def time(self) -> int:
        """Steps since the stream began or was given a state."""
        time: int = self._stream.time
        return time

    def step(self, inputs: Arrays) -> dict[str, Any]:
        """One time step: inputs and outputs (batch, size) by name.

        The outputs are the stream's own arrays, to be read only: the next steps overwrite them, so copy those that are
        to be kept. Raises DataError for inputs of wrong names, shapes, dtypes or values; the stream then stands where
        it stood.
        """
        if not self._taken_as_they_are(inputs):
            inputs = self._inputs(inputs, self.batch)
        outputs: dict[str, Any] = self._stream.step(inputs)
        return outputs

    def _taken_as_they_are(self, inputs: Any) -> bool:
        """Whether the inputs need no conversion and no look at each entry: a short check, made at each step."""
        if type(inputs) is not dict or len(inputs) != len(self._shapes):
            return False
        for name, shape in self._shapes.items():
            value = inputs.get(name)
            if type(value) is not np.ndarray or value.dtype is not self._dtype or value.shape != shape:
                return False
            # NaN, infinity, or finite numbers whose sum is infinite
            total = sum(value.ravel().tolist()) if value.size <= FEW_NUMBERS else np.vdot(value, value)
            if not math.isfinite(total):
                return False
        return True

    @property
    def state(self) -> dict[str, Any]:
        """The state after the last step, in arrays of its own: (depth, batch, size) by node, oldest first, as
        ``Kernel.forward`` takes and returns it and ``rg.save_state`` writes it."""
        state: dict[str, Any] = self._stream.state
        return state

    def restore(self, state: Arrays | None) -> None:
        """Go on from ``state``, or from a part of it: a node that is left out starts from its initial value.

        The arrays are copied; ``time`` is 0 again. Raises DataError for a state of wrong names, shapes or values.
        """
        self._stream.restore(self._state(state, self.batch))

    def reset(self) -> None:
        """Start anew, from the initial values."""
        self._stream.reset()

    @property
    def params(self) -> Any:
        """The parameters as the kernel's own mapping; they may be set, and the stream goes on with them."""
        return self._stream.params

    @params.setter
    def params(self, params: Arrays) -> None:
        self._stream.params = self._parameters(params)

    def refresh(self) -> None:
        """Go on with the values that ``params`` has now. Call it after they were changed in place, as by online
        learning: the steps use copies of some weights, made when the parameters were set."""
        self._stream.refresh()


def check_streams(system: System) -> None:
    """Raise UnsupportedError where the forward ``system`` reads a later time step, which a stream does not have yet."""
    if system.look_ahead is not None:
        node, read = system.look_ahead
        raise UnsupportedError(
            f"edge {read.signal!r} -> {node!r}", f"delay={read.delay}, a look-ahead",
            "delays >= 0: a stream does not have the later steps", "run whole sequences by forward, or remove the edge",
        )  # fmt: skip


def checked_batch(batch: object) -> int:
    """``batch`` as an int; raises OptionError."""
    if isinstance(batch, bool) or not isinstance(batch, int | np.integer) or batch < 1:
        raise OptionError("batch", repr(batch), "an integer >= 1", "give the number of sequences")
    return int(batch)
