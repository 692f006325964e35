"""What ``rg.prepare`` does to each sequence: the options, checked against the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rnngraph.errors import OptionError
from rnngraph.losses import resolve_losses
from rnngraph.model import Model
from rnngraph.notes import Notes
from rnngraph.series.missing import MISSING
from rnngraph.train import checks
from rnngraph.words import nearest

FILLS = ("samples", "initial")
# Losses whose outputs are logits: a measured class or probability is no value of theirs.
OF_LOGITS = ("cross_entropy", "binary_cross_entropy")


@dataclass(frozen=True)
class Plan:
    """``losses`` and ``horizons`` by learned output; ``ends``: the first and last steps to mask, None for a default."""

    model: Model
    losses: Mapping[str, object]
    notes: Notes
    horizons: Mapping[str, int]
    fill: str
    ends: tuple[int | None, int | None]
    missing: str

    def series(self, name: str) -> str:
        """The input or output whose samples a node's values are: mostly itself."""
        origin = self.notes.origins.get(name)
        return name if origin is None else origin.series

    def is_read(self, name: str) -> bool:
        """Whether the network reads the node's samples at every step, as those of an input."""
        return any(node.name == self.series(name) for node in self.model.inputs)

    def shift(self, name: str) -> int:
        """How many samples later the values of a node are taken: what a gate mixes with an output, as its targets."""
        series = self.series(name)
        return self.horizons.get(self.notes.mixed.get(series, series), 0)

    def depth(self, name: str) -> int:
        """How many samples of a node's series, which it has, go into its state."""
        if self.fill == "initial" or self.losses.get(name) in OF_LOGITS:
            return 0
        return self.model.depth(name)

    def reach(self, name: str) -> int:
        """How many samples after the last step go into a node's state: those of an input that is read ahead."""
        return self.model.ahead(name) if self.fill == "samples" and self.is_read(name) else 0


def make_plan(
    model: Model,
    loss: object,
    notes: Notes,
    horizon: object,
    fill: object,
    ends: tuple[int | None, int | None],
    missing: object,
) -> Plan:
    """The checked options. Raises OptionError for what is out of range, and what ``resolve_losses`` raises."""
    losses = resolve_losses(tuple(node.name for node in model.outputs), loss)
    checks.choice("fill", fill, FILLS, "use 'samples' to fill the state, 'initial' to keep all")
    checks.choice("missing", missing, MISSING, "use 'mask' for series with gaps")
    horizons = _horizons(horizon, losses)
    for name, given in zip(("warmup", "tail"), ends, strict=True):
        if given is not None:
            checks.count(name, given, least=0)
    plan = Plan(model, losses, notes, horizons, str(fill), ends, str(missing))
    for edge in model.edges:
        ahead = plan.shift(edge.source)
        mixed = edge.source in notes.gates.values()
        # A gate reads measured values at every step, also where no state is filled.
        early = edge.delay < ahead if mixed else 0 < edge.delay < ahead and fill == "samples"
        if early and losses.get(edge.source) not in OF_LOGITS:
            raise OptionError(
                "horizon", f"{ahead} with {'the unit' if mixed else 'the output'} {edge.source!r}, which "
                f"{edge.destination!r} reads with delay {edge.delay}",
                f"a horizon of at most {edge.delay}: the state would hold samples that lie ahead",
                "lower the horizon" if mixed else "use fill='initial'",
            )  # fmt: skip
    return plan


def _horizons(horizon: object, losses: Mapping[str, object]) -> dict[str, int]:
    if not isinstance(horizon, Mapping):
        return dict.fromkeys(losses, checks.count("horizon", horizon, least=0))
    given = {str(name): steps for name, steps in horizon.items()}
    for name in given:
        if name not in losses:
            close = nearest(name, losses)
            remedy = f"did you mean {close!r}?" if close else "name outputs with a loss"
            raise OptionError("horizon", f"the name {name!r}", f"one of {list(losses)}", remedy)
    return {name: checks.count("horizon", given.get(name, 0), least=0) for name in losses}
