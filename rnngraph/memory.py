"""How much memory the sensitivities of a compiled network take, and the refusal of what is beyond a limit.

Sensitivities grow with the units times the parameters: n^3 numbers for each sequence of a dense network of n units.
"""

from __future__ import annotations

import dataclasses
import math
import numbers

from codegen.program import Program
from codegen.sweep import RowBuffer, Sweep
from rnngraph.cost import contribution_reads, forward_signals
from rnngraph.errors import OptionError, UnsupportedError
from rnngraph.gradient import differentiate
from rnngraph.rules import Rule
from rnngraph.schedule import build_schedule
from rnngraph.system import System

LIMIT = 8 * 2**30
CHEAPER = (Rule("snap", order=1), Rule("rflo"))  # by their distance from the exact gradient


def check_memory_limit(limit: object) -> float:
    """A number of bytes > 0 (infinity: no limit), or OptionError."""
    if isinstance(limit, bool) or not isinstance(limit, numbers.Real) or math.isnan(limit) or limit <= 0:
        raise OptionError("memory_limit", repr(limit), "a number of bytes > 0", f"leave it out for {in_words(LIMIT)}")
    return float(limit)


@dataclasses.dataclass(frozen=True)
class SensitivityMemory:
    """``buffers``: the matrices per sequence that one function works with; ``itemsize``: bytes of a number; ``system``:
    what it computes, a gradient or else the Jacobian of the outputs."""

    system: System
    buffers: tuple[RowBuffer, ...]
    itemsize: int
    limit: float

    def bytes(self, batch: int = 1) -> int:
        """What ``batch`` sequences at once need."""
        return batch * sum(_bytes(buffer, self.itemsize) for buffer in self.buffers)

    def check(self, batch: int = 1) -> None:
        """Raise OptionError where ``batch`` sequences need more than the limit."""
        need = self.bytes(batch)
        if need <= self.limit:
            return
        largest = max(self.buffers, key=lambda buffer: _bytes(buffer, self.itemsize))
        sequences = f"{batch} sequences" if batch > 1 else "one sequence"
        raise OptionError(
            "memory_limit",
            f"{in_words(need)} for the sensitivities of {sequences} {self._purpose}; the largest is "
            f"{largest.name}, {largest.slots} times {largest.rows} x {largest.columns} numbers a sequence",
            f"{in_words(self.limit)} at most",
            f"{self._nearest(batch)}, or raise memory_limit",
        )

    @property
    def _learns(self) -> bool:
        return any(total.kind == "gradient" for total in self.system.totals)

    @property
    def _purpose(self) -> str:
        return f"by method={self.system.rule!r}" if self._learns else "for the Jacobian of the outputs"

    def _nearest(self, batch: int) -> str:
        """The remedies: fewer sequences, the rules nearest to this one that fit, BPTT."""
        remedies = []
        fits = int(self.limit // self.bytes(1))
        if 1 <= fits < batch:
            remedies.append(f"give {fits} sequences at once")
        if not self._learns:
            return ", or ".join([*remedies, "use kernel.jacobian(..., method='bptt')"])
        for rule in CHEAPER:
            if str(rule) == self.system.rule:
                continue
            try:
                need = batch * self.itemsize * _needed(differentiate(without_gradient(self.system), rule))
            except UnsupportedError:
                continue
            if need <= self.limit:
                options = ", ".join(f"{name}={getattr(rule, name)}" for name, _ in rule.info.options)
                call = f"method={rule.name!r}" + (f", {options}" if options else "")
                remedies.append(f"use {call} (approximate; {in_words(need)})")
                break
        return ", or ".join([*remedies, "use method='bptt' (exact; its memory grows with T)"])


def sensitivity_memory(system: System, program: Program, limit: float) -> SensitivityMemory:
    """The memory of a program's sensitivities; its System gives the remedies their numbers."""
    found: dict[str, RowBuffer] = {}
    for function in program.functions:
        for statement in function.body:
            if isinstance(statement, Sweep):
                found |= statement.held()
    return SensitivityMemory(system, tuple(found.values()), 8 if program.dtype == "float64" else 4, limit)


def _needed(system: System) -> int:
    """How many numbers the sweep of a System that is not compiled yet works with."""
    schedule = build_schedule(system)
    depths = {equation.signal: 0 for equation in schedule.sweep}
    reads = [read for equation in schedule.sweep for read in equation.reads()]
    reads += [read for total in system.totals for piece in total.contributions for read in contribution_reads(piece)]
    for read in reads:
        if read.signal in depths:
            depths[read.signal] = max(depths[read.signal], read.delay)
    signals = schedule.signals
    return sum((depth + 1) * signals[name].rows * signals[name].size for name, depth in depths.items())


def without_gradient(system: System) -> System:
    """The network and its loss alone."""
    kept = forward_signals(system)
    return dataclasses.replace(
        system,
        title="forward and loss",
        signals={name: signal for name, signal in system.signals.items() if name in kept},
        equations=tuple(equation for equation in system.equations if equation.signal in kept),
        totals=tuple(total for total in system.totals if total.kind == "loss"),
        rule="bptt",
        online=False,
        carry=None,
        dropped=(),
        input_adjoints={},
        state_adjoints={},
    )


def in_words(size: float) -> str:
    """Bytes as text: 512 bytes, 1.5 MiB."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}" if math.isfinite(size) else "no limit"
    return f"{size:.0f} bytes"


def _bytes(buffer: RowBuffer, itemsize: int) -> int:
    return itemsize * buffer.slots * buffer.rows * buffer.columns
