"""What the Python module around a sweep in C holds for it: one array of sensitivities, and the sums of each thread."""

from __future__ import annotations

from codegen.printers.c_sweep import places_of
from codegen.printers.sweep import SweepPrinter, SweepText, carried_class, unit_lines
from codegen.sweep import Contract, Sweep


class CarriedText(SweepText):
    """Prints a sweep that is a part of a C function, whose threads add up in the workspace's attribute ``sums``."""

    def __init__(self, printer: SweepPrinter, sweep: Sweep, sums: str) -> None:
        super().__init__(printer, sweep)
        self.sums = sums
        for statement in sweep.body:
            if isinstance(statement, Contract):
                self.gradient_name(statement.gradient)

    def allocations(self) -> list[tuple[str, str]]:
        """None: what a step needs is in the table of the C function."""
        return []

    def unpacked(self) -> list[str]:
        """None."""
        return []

    def summed(self, xp: str) -> list[str]:
        """None."""
        return []

    def empty_sums(self, xp: str, size: str) -> list[str]:
        """The first thread's sums, which C begins at 0."""
        return [f"    swept = work.{self.sums}[:{size}]"] if self.gradients else []

    def carried_class(self, xp: str, signs: dict[str, int]) -> list[str]:
        """The sensitivities lie one after the other in one array, so that a call passes one address."""
        places, size = places_of(self.sweep)
        starts = ["self.values[...] = 0.0"]
        for buffer, start in places:
            if buffer.unit_of is not None:
                stop = start + buffer.slots * buffer.rows * buffer.columns
                shape = f"({buffer.slots}, self.batch, {buffer.rows}, {buffer.columns})"
                part = f"self.values[{start} * self.batch : {stop} * self.batch].reshape{shape}"
                starts += unit_lines(xp, buffer, part)
        return carried_class(xp, [f"self.values = {xp}.zeros({size} * batch, DTYPE)"], starts, signs)
