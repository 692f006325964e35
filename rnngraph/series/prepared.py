"""``Prepared``: data in the form that ``fit`` and a kernel take, with the state that the first samples gave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rnngraph.notes import Origin

Array: TypeAlias = NDArray[Any]
KEYS = ("inputs", "targets", "weights", "state")


@dataclass(frozen=True, eq=False)
class Prepared(Mapping[str, Any]):
    """One batch of sequences, side by side.

    ``inputs`` (T, batch, size) and ``targets`` (T, batch, size), or integers (T, batch), by node; ``weights`` (T,
    batch), 0 where a step does not count, or None where all do; ``state`` (depth, batch, size) by node, the values
    before the first step, oldest first; those in ``ahead`` (name in the state -> node) lie after the last step, for a
    network that looks ahead; None where data made by hand do not tell. ``lengths``: the steps of each sequence without
    its padding. ``dropped``: how many samples of each series went into the state. ``warmup`` and ``tail``: how many of
    the first and of the last steps do not count, as they depend on what the samples do not tell. ``origins``: what the
    values of a unit in the state are, where they are those of an input or target (of its measured values, or scaled).
    ``order``: the place that each sequence has in what ``pad`` or ``buckets`` was given, empty elsewhere.
    ``fed_back_gaps``: by delay, the steps (T, batch) that would read a gap of an output that is fed back, if a window
    began less than that many steps before.

    It is a mapping with the four keys that functions of a kernel take as arguments: ``rg.fit(kernel, params,
    prepared)``, ``kernel.loss_and_gradient(params, **prepared)``, ``kernel.forward(params, prepared.inputs,
    prepared.state)``.
    """

    inputs: dict[str, Array]
    targets: dict[str, Array]
    weights: Array | None
    state: dict[str, Array]
    lengths: tuple[int, ...]
    dropped: int = 0
    warmup: int = 0
    ahead: Mapping[str, str] | None = field(default_factory=dict)
    tail: int = 0
    origins: Mapping[str, Origin] = field(default_factory=dict)
    order: tuple[int, ...] = ()
    fed_back_gaps: Mapping[int, Array] = field(default_factory=dict)

    @property
    def data(self) -> tuple[dict[str, Array], dict[str, Array], Array | None, dict[str, Array]]:
        """The tuple (inputs, targets, weights, state), one of the forms of data that ``fit`` takes."""
        return self.inputs, self.targets, self.weights, self.state

    def __getitem__(self, key: str) -> Any:
        if key not in KEYS:
            raise KeyError(key)
        return getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return iter(KEYS)

    def __len__(self) -> int:
        return len(KEYS)

    def __str__(self) -> str:
        batch = len(self.lengths)
        shortest, longest = min(self.lengths), max(self.lengths)
        steps = f"{longest} steps" if shortest == longest else f"{shortest} to {longest} steps"
        lines = [f"{_count(batch, 'sequence')} of {steps}"]
        if self.dropped:
            lines[0] += f"; {_count(self.dropped, 'sample')} went into the state"
        shown = [("input", name, array.shape) for name, array in self.inputs.items()]
        shown += [("target", name, array.shape) for name, array in self.targets.items()]
        shown += [("state", name, array.shape) for name, array in self.state.items()]
        width = max(len(name) for _, name, _ in shown)
        lines += [f"  {what:7} {name:{width}}  {shape}" for what, name, shape in shown]
        if self.weights is not None:
            lines.append(f"  weights: {np.count_nonzero(self.weights)} of {self.weights.size} steps count")
        return "\n".join(lines)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
