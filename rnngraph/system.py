"""A System: numbered equations over discrete time that ``vjp`` and ``jvp`` map to a System again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rnngraph.cost import Cost, cost
from rnngraph.display import as_latex, as_text
from rnngraph.equations import Carry, Equation, Read, Signal, Total, Weight


@dataclass(frozen=True)
class System:
    """See the module's docstring. ``title`` says what it computes; ``outputs`` are the signals returned.

    ``rule`` is the learning rule of its gradient, ``online`` when that goes forward in time, ``noise_seed`` where its
    random signs start; ``dropped`` is what an approximate rule leaves out of the sensitivities.
    ``output_sensitivities`` maps (output, parameter) to the signal d output(t)/d parameter and whether that is local.
    ``carry`` has what "bptt-rtrl" takes from block to block; T is then the length of a block in every equation.
    ``state_depths`` has, for each input or node that an edge with a delay leaves, the longest such delay;
    ``ahead_depths`` the longest look-ahead, ``ahead_names`` the name by which the values after T stand in a state.
    ``weights`` are the effective weights that equations read in place of parameters, ``weight_gradients`` what comes
    back through them, each after those that it reads.
    ``layers`` has the units of each signal that was declared unit by unit (``rnngraph.units``).
    ``losses`` maps an output to its loss's name; ``input_adjoints`` and ``state_adjoints`` map an input or node to the
    adjoint signal whose values in 1..T, or at t <= 0, are the gradient with respect to it, ``ahead_adjoints`` to that
    whose values at t > T are. ``directions`` maps each
    parameter that ``jvp`` added to the one whose direction it is. ``windows`` is (k1, k2) where the adjoints and
    gradients are those of truncated backpropagation: the equations hold in each window by itself, and a gradient is
    the sum over the windows.
    """

    title: str
    signals: Mapping[str, Signal]
    parameters: Mapping[str, tuple[int, ...]]
    equations: tuple[Equation, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    totals: tuple[Total, ...] = ()
    losses: Mapping[str, str] = field(default_factory=dict)
    input_adjoints: Mapping[str, str] = field(default_factory=dict)
    state_adjoints: Mapping[str, str] = field(default_factory=dict)
    state_depths: Mapping[str, int] = field(default_factory=dict)
    ahead_depths: Mapping[str, int] = field(default_factory=dict)
    ahead_names: Mapping[str, str] = field(default_factory=dict)
    ahead_adjoints: Mapping[str, str] = field(default_factory=dict)
    weights: tuple[Weight, ...] = ()
    weight_gradients: tuple[Weight, ...] = ()
    forget_biases: frozenset[str] = frozenset()
    rule: str = "bptt"
    online: bool = False
    noise_seed: int = 0
    dropped: tuple[str, ...] = ()
    output_sensitivities: Mapping[tuple[str, str], tuple[str, bool]] = field(default_factory=dict)
    directions: Mapping[str, str] = field(default_factory=dict)
    windows: tuple[int, int] | None = None
    carry: Carry | None = None
    layers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def equation_of(self, signal: str) -> Equation:
        """The equation that defines ``signal``; KeyError when it is given from outside."""
        return self._by_signal[signal]

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shapes of the parameters and of the effective weights that equations may read."""
        effective = [weight.shapes() for weight in self.weights]
        return {**self.parameters, **{name: shape for part in effective for name, shape in part.items()}}

    @cached_property
    def _by_signal(self) -> dict[str, Equation]:
        return {equation.signal: equation for equation in self.equations}

    @cached_property
    def look_ahead(self) -> tuple[str, Read] | None:
        """A node with what its forward equation reads of a later time step; None where no node reads ahead."""
        for equation in self.equations:
            signal = self.signals[equation.signal]
            if signal.kind in ("unit", "sum"):
                for read in equation.reads():
                    if read.delay < 0:
                        return signal.origin or signal.name, read
        return None

    def total(self, name: str) -> Total:
        """The total called ``name``; KeyError when there is none."""
        for total in self.totals:
            if total.name == name:
                return total
        raise KeyError(name)

    def __str__(self) -> str:
        return as_text(self)

    def latex(self) -> str:
        """The numbered equations as LaTeX: an ``align`` environment, then what the symbols mean."""
        return as_latex(self)

    def cost(self) -> Cost:
        """FLOPs of a time step and what is kept, as formulas in the sizes and in numbers; printing it gives a table."""
        return cost(self)
