"""What a training run measured, epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SHOWN_ROWS = 10


@dataclass
class History:
    """Record of ``fit``; entry k of each list belongs to epoch k + 1.

    ``loss``: mean over the epoch's mini-batches, each measured before its update and weighted by its steps.
    ``validation_loss``: after the epoch's last update; empty without validation data.
    ``gradient_norm``: mean over the mini-batches of the gradient's global norm before clipping.
    ``seconds``: wall time, validation included.
    ``stopped``: why the run ended; "" while it runs.
    """

    loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    gradient_norm: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    stopped: str = ""

    @property
    def epochs(self) -> int:
        """Number of complete epochs."""
        return len(self.loss)

    @property
    def best_epoch(self) -> int | None:
        """Number (from 1) of the first epoch with the lowest validation loss; without validation data, loss."""
        losses = self.validation_loss or self.loss
        return 1 + losses.index(min(losses)) if losses else None

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and text, ready for JSON."""
        return {
            "loss": list(self.loss),
            "validation_loss": list(self.validation_loss),
            "gradient_norm": list(self.gradient_norm),
            "seconds": list(self.seconds),
            "best_epoch": self.best_epoch,
            "stopped": self.stopped,
        }

    def __str__(self) -> str:
        """Table of at most about ten epochs, evenly spread, with the first, the best (starred) and the last."""
        best = self.best_epoch
        if best is None:
            return f"no complete epoch; {self.stopped or 'running'}"
        stride = max(1, -(-self.epochs // SHOWN_ROWS))
        shown = sorted({*range(1, self.epochs + 1, stride), best, self.epochs})
        validated = bool(self.validation_loss)
        lines = [
            f"{'epoch':>6}  {'loss':>10}" + f"  {'validation':>10}" * validated + f"  {'grad norm':>10}  {'seconds':>8}"
        ]
        for epoch in shown:
            k = epoch - 1
            checked = f"  {self.validation_loss[k]:>10.4g}" if validated else ""
            star = " *" if epoch == best else ""
            measured = f"{self.gradient_norm[k]:>10.4g}  {self.seconds[k]:>8.3g}"
            lines.append(f"{epoch:>6}  {self.loss[k]:>10.4g}{checked}  {measured}{star}")
        lines.append(f"{self.stopped or 'running'}; * best epoch; {sum(self.seconds):.3g} s in all")
        return "\n".join(lines)
