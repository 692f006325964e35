"""What a kernel is given, checked layer by layer where units that the caller names one by one run as layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from codegen.program import Program
from rnngraph.data import Array, check_inputs, check_targets
from rnngraph.errors import DataError


class Boundary:
    """The inputs and outputs of a program, by unit and by layer."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.units = {name: layer.units for name, layer in program.layers.items()}
        within = {unit: name for name, units in self.units.items() for unit in units}
        self.input_sizes = self._by_layer(program.inputs, within)
        self.output_sizes = self._by_layer(program.outputs, within)
        self.within = within

    def _by_layer(self, sizes: Mapping[str, int], within: Mapping[str, str]) -> dict[str, int]:
        found: dict[str, int] = {}
        for name, size in sizes.items():
            layer = within.get(name)
            found[layer or name] = len(self.units[layer]) if layer else size
        return found

    def inputs(self, inputs: Any, dtype: DTypeLike) -> tuple[dict[str, Array], int, int]:
        """The inputs, units of a layer side by side, with T and batch. Raises DataError as ``check_inputs`` does."""
        if len(self.input_sizes) < len(self.program.inputs):
            joined = self._joined(inputs, self.input_sizes)
            if joined is not None:
                try:
                    return check_inputs(joined, self.input_sizes, dtype)
                except DataError:
                    if joined.keys() == inputs.keys():  # that of the single unit says more
                        raise
        return check_inputs(inputs, self.program.inputs, dtype)

    def targets(
        self, targets: Any, losses: Mapping[str, str], T: int, batch: int, dtype: DTypeLike
    ) -> dict[str, Array]:
        """The targets, units of a layer side by side. Raises DataError as ``check_targets`` does."""
        by_layer = {self.within.get(name, name): loss for name, loss in losses.items()}
        if len(by_layer) < len(losses):
            joined = self._joined(targets, by_layer)
            if joined is not None:
                try:
                    return check_targets(joined, self.output_sizes, by_layer, T, batch, dtype)
                except DataError:
                    if joined.keys() == targets.keys():
                        raise
        return check_targets(targets, self.program.outputs, losses, T, batch, dtype)

    def with_loss(self, targets: Mapping[str, Any], losses: Mapping[str, str]) -> dict[str, Any]:
        """The targets of outputs that have a loss, by unit or by layer as they are given."""
        known = {*losses, *(self.within[name] for name in losses if name in self.within)}
        return {name: value for name, value in targets.items() if name in known}

    def _joined(self, given: Any, names: Mapping[str, object]) -> dict[str, Any] | None:
        """What is given by layer; None where it cannot be put together."""
        if not isinstance(given, Mapping):
            return None
        joined: dict[str, Any] = {}
        taken = 0
        try:
            for name in names:
                units = self.units.get(name, ())
                if name in given:
                    joined[name] = given[name]
                    taken += 1
                elif units:
                    arrays = [given[unit] for unit in units]
                    if not all(isinstance(array, np.ndarray) and array.shape[2] == 1 for array in arrays):
                        return None
                    joined[name] = np.concatenate(arrays, axis=2)
                    taken += len(units)
        except (KeyError, ValueError, IndexError):
            return None
        return joined if taken == len(given) else None
