"""The legend of a rule that runs in blocks: what a block is, its end state, and what is carried to the next block."""

from __future__ import annotations

from rnngraph.display.indexed import ENTRY, PASSED, SUMMED, UNIT, entry_text
from rnngraph.display.notation import ATOM, Piece
from rnngraph.display.writer import Writer
from rnngraph.equations import Carry, Contribution, Outer, PointwiseSum, fresh_name, reads_of
from rnngraph.system_like import SystemLike

WRITTEN_OUT = 3  # moments of a state; of more the first and the last are named


def block_lines(system: SystemLike, writer: Writer) -> list[str]:
    """One line for each thing to know; none for a rule without blocks."""
    return _Carried(system, system.carry, writer).lines() if system.carry is not None else []


class _Carried:
    """Writes the lines. ``s`` is the joint state, ``J`` its derivative over a block, ``e`` the error at its start."""

    def __init__(self, system: SystemLike, carry: Carry, writer: Writer) -> None:
        self.system, self.carry, self.writer, self.math = system, carry, writer, writer.math
        taken = [*system.signals, *system.shapes, *system.constants]
        self.s, self.J, self.e = (writer.name(fresh_name(name, taken)) for name in ("s", "J", "e"))
        self.P = {name: writer.name(fresh_name(f"P_{name}", taken)) for name in system.shapes}
        self.parameters = [name for name in system.shapes if name in carry.direct or name in carry.initial.values()]

    def lines(self) -> list[str]:
        """See ``block_lines``."""
        math, before = self.math, self.writer.signs.before
        delta, prime = self.writer.name("delta_v") + "(t)", math("f'")
        length = self.carry.length
        lines = [
            f"a sequence is cut into blocks of {length} step{'s' if length > 1 else ''}, the last of which may be"
            f" shorter; the equations hold in each block by itself: there {math('t')} counts from the block's first"
            f" step and {math('T')} is the number of its steps. {math('L')} and each gradient are sums over all blocks",
            f"at {math(before)} the first block has the values above; each other block has those with which the block"
            " before it ended",
            f"{math(delta)} is the derivative of the block's part of {math('L')} by {math('v(t)')}, 0 for"
            f" {math('t > T')} as each product with it; {prime} is the derivative of {math('f')}; at"
            f" {math(before)} a delta has only what comes from deltas at {math(self.writer.signs.steps)}",
        ]
        if not self.carry.starts:
            return [*lines, "the network has no state: nothing is carried from block to block"]
        return [*lines, *self._joint_state(), *self._recursions()]

    def _joint_state(self) -> list[str]:
        math, writer, carry = self.math, self.writer, self.carry
        row = entry_text(((PASSED, carry.size),), "", 1)
        unit = f"{self.s}{row}(T)"
        names = {state: writer.name(state) for state in carry.starts}
        lines = [
            f"{math(f'v[{UNIT}](t)')} is unit {math(UNIT)} of {math('v(t)')}; an index that can only be 1 is left out;"
            f" {math(writer.sum_index(PASSED, f'x[{PASSED}]'))} is the sum over all {math(PASSED)}",
            f"{math(f'{self.s}(T)')}: the joint state at the end of the block, {carry.size} units:"
            f" {self._moments(names, 'T')}, one after the other; {math(f'{self.s}(0)')}, that at its start:"
            f" {self._moments(names, '')}",
        ]
        for state, seed in carry.seeds.items():
            value = f"{names[state]}{entry_text((), UNIT, self.system.signals[state].size)}(t)"
            lines.append(
                f"{math(f'{self._rows(seed)}(t)')}: 1 where {math(unit)} is {math(value)}, else 0; also at"
                f" {math(writer.signs.before)}"
            )
        lambda_v, pair = writer.name("Lambda_v"), entry_text(((PASSED, carry.size),), UNIT, 2)
        adjoints = {state: writer.name(name) for state, name in carry.adjoints.items()}
        errors = {state: writer.name(self.system.state_adjoints[state]) for state in carry.starts}
        jacobian = self.J + entry_text(((PASSED, carry.size),), SUMMED, carry.size)
        column = entry_text(((SUMMED, carry.size),), "", 1)
        return [
            *lines,
            f"{math(f'{lambda_v}{pair}(t)')}: derivative of {math(unit)} by"
            f" {math(f'v[{UNIT}](t)')}, 0 for {math('t > T')}; at {math(writer.signs.before)} it has only its"
            f" {math('E')}, where it has one, and what comes from {math(writer.name('Lambda'))} at"
            f" {math(writer.signs.steps)}",
            f"{math(jacobian)}: derivative of {math(unit)} by {math(f'{self.s}{column}(0)')} for each sequence, made of"
            f" {self._moments(adjoints, '')}, the columns in the order of {math(self.s)}",
            f"{math(self.e + row)}: derivative of the block's part of {math('L')} by {math(f'{self.s}{row}(0)')} for"
            f" each sequence, made of {self._moments(errors, '')}",
        ]

    def _recursions(self) -> list[str]:
        math = self.math
        lines = []
        for name in self.parameters:
            entry = self._entry(name)
            carried = f"{self.P[name]}{self._index(PASSED, name)}"
            row = entry_text(((PASSED, self.carry.size),), "", 1)
            added = self._sum(PASSED, self._product(carried, self.e + row))
            gradient = self.writer.derivative(name, self._parameter_index(name))
            anew = f"{carried} {self.writer.signs.becomes} {self._next(name)}"
            lines += [
                f"{math(carried)}: derivative of {math(f'{self.s}{row}(0)')} by {math(entry)} through all earlier"
                f" blocks, for each sequence; {self._start(name)}",
                f"at the end of each block {math(gradient)} gets, beside what its equation says,"
                f" {math(added)} of each sequence; then {math(anew)}, for each sequence by itself",
            ]
        without = [math(self.writer.name(name)) for name in self.system.shapes if name not in self.parameters]
        if without:
            lines.append(f"nothing is carried for {', '.join(without)}, which the state does not depend on")
        return lines

    def _start(self, name: str) -> str:
        states = [state for state, initial in self.carry.initial.items() if initial == name]
        if not states:
            return "0 before the first block"
        unit = self.s + entry_text(((PASSED, self.carry.size),), "", 1) + "(0)"
        size = self.system.signals[states[0]].size
        named = " or ".join(
            self.math(f"{self.writer.name(state)}{entry_text((), ENTRY[1], size)}(t)") for state in states
        )
        return (
            f"before the first block 1 where {self.math(unit)} is {named} at a {self.math(self.writer.signs.before)}"
            " and that state is not given, else 0"
        )

    def _next(self, name: str) -> str:
        jacobian = self.J + entry_text(((PASSED, self.carry.size),), SUMMED, self.carry.size)
        before = self._sum(SUMMED, self._product(jacobian, f"{self.P[name]}{self._index(SUMMED, name)}"))
        pieces = self.carry.direct.get(name, ())
        return " + ".join([before, *(self.writer.sum_time(self._piece(piece)) for piece in pieces)])

    def _piece(self, piece: Contribution) -> str:
        if isinstance(piece, Outer):
            left = self.writer.name(piece.left) + entry_text((), ENTRY[0], self.system.signals[piece.left].size)
            time = f"(t-{piece.left_delay})" if piece.left_delay else "(t)"
            return self._product(left + time, f"{self._rows(piece.right, ENTRY[1])}(t)")
        assert isinstance(piece, PointwiseSum)
        (read,) = reads_of(piece.expression)
        return f"{self._rows(read.signal, ENTRY[1])}(t)"

    def _rows(self, name: str, unit: str = UNIT) -> str:
        """An entry of a signal with a row for each unit of the end state."""
        size = self.system.signals[name].size
        return self.writer.name(name) + entry_text(((PASSED, self.carry.size),), unit, size)

    def _index(self, row: str, name: str) -> str:
        """The index of P, less what can only be 1: a unit of the state and an entry of the parameter."""
        letters = self._letters(name)
        return entry_text(((row, self.carry.size),), letters, 2 if letters else 1)

    def _letters(self, name: str) -> str:
        shape = self.system.shapes[name]
        letters = ENTRY[-len(shape) :] if shape else ()
        return "".join(letter for letter, count in zip(letters, shape, strict=True) if count > 1)

    def _parameter_index(self, name: str) -> str:
        letters = self._letters(name)
        return f"[{','.join(letters)}]" if letters else ""

    def _entry(self, name: str) -> str:
        return self.writer.name(name) + self._parameter_index(name)

    def _sum(self, index: str, text: str) -> str:
        return self.writer.sum_index(index, text) if self.carry.size > 1 else text

    def _product(self, left: str, right: str) -> str:
        return self.writer.multiply(Piece(left, ATOM, True), Piece(right, ATOM, True))

    def _moments(self, names: dict[str, str], last: str) -> str:
        """Each name at the last moments of its state, oldest first; ``last`` is T, or empty for 0."""
        found = []
        for state, name in names.items():
            times = [f"{last}-{k}" if k else last or "0" for k in reversed(range(self.system.state_depths[state]))]
            written = [self.math(f"{name}({time})") for time in times]
            found += [written[0], "...", written[-1]] if len(written) > WRITTEN_OUT else written
        return ", ".join(found)
