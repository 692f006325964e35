"""Open-loop training, closing the loop, closed-loop training: one network from first weights to simulation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import networkx as nx

import rnngraph as rg
from examples.cascaded_tanks.networks import Kind
from examples.cascaded_tanks.record import Array, Record


@dataclass(frozen=True)
class Trained:
    """A trained network, and its errors on the estimation record in volts at each stage.

    ``one_step``: in open loop, one step ahead, after the first stage; ``closed``: as simulation, with the same
    weights in closed loop; ``refined``: as simulation, after the second stage; ``left_out``: the same on the samples
    that were not learned, step by step of the second stage. ``given``: how many measured levels a free run starts from.
    """

    params: Any
    given: int
    one_step: float
    closed: float
    refined: float
    left_out: tuple[float, ...] = ()


class Trainer:
    """Both graphs of a kind and their kernels, compiled once for all seeds."""

    def __init__(self, kind: Kind, record: Record) -> None:
        self.kind = kind
        self.record = record
        self.closed: nx.MultiDiGraph = kind.build(record.top)
        self.opened: nx.MultiDiGraph = rg.open_loop(self.closed)
        self.closed_kernel = rg.compile(self.closed, loss="mse", dtype="float64")
        self.open_kernel = rg.compile(self.opened, loss="mse", dtype="float64")

    def train(self, seed: int, left_out: Array | None = None, steps: tuple[int, int] | None = None) -> Trained:
        """Train from first weights; ``left_out`` (T,) marks samples that are not learned, ``steps`` cuts both stages.

        Samples left out are inputs of the open loop all the same, as a network measures the level there too.
        """
        kind, record = self.kind, self.record
        open_steps, closed_steps = steps or (kind.open_steps, kind.closed_steps)
        weights = None if left_out is None else 1.0 - left_out
        optimizer = rg.LevenbergMarquardt(weight_decay=kind.weight_decay)

        params = self.open_kernel.init(seed)
        data = record.prepared(self.opened, weights)
        rg.fit(self.open_kernel, params, data, optimizer, open_steps, progress=False)
        one_step = self.open_kernel.loss(params, **data)

        _, kept = rg.close_loop(self.opened, params)
        params = self.closed_kernel.init(seed)
        params.update(kept)
        data = record.prepared(self.closed, weights)
        closed = self.closed_kernel.loss(params, **data)
        unseen = None if left_out is None else record.prepared(self.closed, left_out)
        history = rg.fit(self.closed_kernel, params, data, optimizer, closed_steps, validation=unseen, progress=False)
        refined = self.closed_kernel.loss(params, **data)
        return Trained(
            params,
            data.dropped,
            *(record.volts(loss) for loss in (one_step, closed, refined)),
            tuple(record.volts(loss) for loss in history.validation_loss),
        )

    def free_run(self, trained: Trained, series: dict[str, Array]) -> Array:
        """The simulated level in volts (T - given,): from the input of ``series`` and its first measured levels.

        It sees no later one: the closed network has no input but u, and only the state comes from levels.
        """
        scaling = self.record.scaling
        prepared = rg.prepare(scaling.scale(series), self.closed)
        outputs, _ = self.closed_kernel.forward(trained.params, prepared.inputs, prepared.state)
        level: Array = scaling.unscale(outputs)["y"][:, 0, 0]
        return level
