"""A progress bar on standard error, shown only where that is a terminal."""

from __future__ import annotations

import sys
import time
from types import TracebackType

try:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
except ImportError:  # a bare copy of the tree on a machine that only runs kernels: training goes without the bar
    CAN_DRAW = False
else:
    CAN_DRAW = True

SECONDS_BETWEEN_UPDATES = 0.1


class EpochBar:
    """Context manager that counts epochs; silent when off or when standard error is no terminal (a log, a pipe)."""

    def __init__(self, epochs: int, enabled: bool) -> None:
        # rich alone would draw into a log file when FORCE_COLOR is set, so the stream itself is asked too.
        self._progress: Progress | None = None
        self._shown_at = 0.0
        if enabled and CAN_DRAW and _is_terminal(sys.stderr):
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[measured]}"),
                console=Console(file=sys.stderr),
                refresh_per_second=4,
                # A callback's print must reach a piped standard output untouched.
                redirect_stdout=_is_terminal(sys.stdout),
            )
            self._task = self._progress.add_task("epoch", total=epochs, measured="")

    def __enter__(self) -> EpochBar:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, done: float, loss: float, validation_loss: float | None = None) -> None:
        """Show that ``done`` epochs (a fraction inside an epoch) are done; drops calls that come too fast."""
        if self._progress is None:
            return
        now = time.monotonic()
        whole = done == int(done)
        if not whole and now - self._shown_at < SECONDS_BETWEEN_UPDATES:
            return
        self._shown_at = now
        checked = "" if validation_loss is None else f"  validation {validation_loss:.4g}"
        self._progress.update(self._task, completed=int(done) if whole else done, measured=f"loss {loss:.4g}{checked}")


def _is_terminal(stream: object) -> bool:
    # A stream may be None (no console) or an object of the user's own without isatty.
    isatty = getattr(stream, "isatty", None)
    return bool(isatty and isatty())
