"""The labels of a picture's arrows: what they say, and where they stand without covering each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rnngraph.listing import time_text
from rnngraph.model import Edge, EffectiveWeight, Model

LONGEST = 20  # characters of a name
MOST_LINES = 3
MOST_DELAYS = 5  # that a label lists
FONT_SIZE = 7
CHARACTER, LINE = 0.055, 0.13  # about how wide and high a character of a label is, in inches
MARGIN = 0.03
SHARES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # of a curve, where a label may stand
AWAY = (0.0, 0.1, 0.2, 0.3)  # from the curve, in inches, where it stands beside it

Position = tuple[float, float]


class Box(NamedTuple):
    """A rectangle of the picture."""

    left: float
    low: float
    right: float
    high: float

    def overlap(self, other: Box) -> float:
        """The area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.high, other.high) - max(self.low, other.low)
        return max(width, 0.0) * max(height, 0.0)

    def has(self, point: Position) -> bool:
        return self.left <= point[0] <= self.right and self.low <= point[1] <= self.high


class Bend(NamedTuple):
    """One Bezier curve of third degree."""

    start: Position
    first: Position
    second: Position
    end: Position

    def at(self, share: float) -> Position:
        rest = 1 - share
        weights = (rest**3, 3 * share * rest**2, 3 * share**2 * rest, share**3)
        x, y = (sum(weight * point[axis] for weight, point in zip(weights, self, strict=True)) for axis in (0, 1))
        return x, y


class Label(NamedTuple):
    """The text of one arrow: at ``share`` of ``bend`` if there is room, else elsewhere on it. ``side``: on the curve
    (0), under it (-1) or over it (1)."""

    lines: tuple[str, ...]
    color: str
    bend: Bend
    share: float
    side: int = 0

    def box(self, point: Position, away: float = 0.0) -> Box:
        """What the text covers where it stands at ``point`` of the curve, or so far away from it."""
        width = CHARACTER * max(map(len, self.lines), default=0) + 2 * MARGIN
        height = LINE * len(self.lines) + 2 * MARGIN
        x, y = point[0], point[1] + self.side * (height / 2 + MARGIN + away)
        return Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)

    def boxes(self) -> list[Box]:
        """Where it may stand, what is wanted most first."""
        shares = sorted(SHARES, key=lambda share: abs(share - self.share))
        return [
            self.box(self.bend.at(share), away)
            for away in (AWAY if self.side else AWAY[:1])
            for share in (self.share, *shares)
        ]


def placed(labels: Sequence[Label], nodes: Iterable[Box]) -> list[Box]:
    """A place for each label: clear of nodes and of the labels before it, then of other arrows, as far as there is."""
    taken = list(nodes)
    curves = [[label.bend.at(k / 20) for k in range(21)] for label in labels]
    found = []
    for own, label in enumerate(labels):
        others = [point for number, curve in enumerate(curves) if number != own for point in curve]

        def cost(choice: tuple[int, Box], others: list[Position] = others) -> float:
            rank, box = choice
            return 100 * sum(map(box.overlap, taken)) + 0.05 * sum(map(box.has, others)) + 0.01 * rank

        _, box = min(enumerate(label.boxes()), key=cost)
        taken.append(box)
        found.append(box)
    return found


def label_lines(edges: Sequence[Edge], model: Model) -> tuple[str, ...]:
    """What stands at the arrow of these edges: a line for each weight and time; one line for all delays that share
    their parameters."""
    shared = {name: weight for weight in model.weights for name in weight.slices}
    groups: dict[str, list[Edge]] = {}
    for number, edge in enumerate(edges):
        weight = shared.get(edge.parameter or "")
        groups.setdefault(weight.name if weight else f"{number}", []).append(edge)
    lines = [_line(group, shared.get(group[0].parameter or "")) for group in groups.values()]
    if len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES - 1], f"… {len(lines)} in all"]
    return tuple(lines)


def _line(edges: list[Edge], weight: EffectiveWeight | None) -> str:
    if weight is None:
        (edge,) = edges
        name = short((edge.parameter if edge.port == "s" else edge.port) or edge.structure)
        return f"{name}, {time_text(edge.delay)}" if edge.delay else name
    name = short(str(weight.expression))
    delays = sorted(edge.delay for edge in edges)
    if weight.logits is not None:
        times = [time_text(delay) for delay in dict.fromkeys((delays[0], delays[-1]))]
        return f"{name}, {'…'.join(times)} learned"
    if len(delays) > MOST_DELAYS:
        listed = f"{', '.join(map(str, delays[:2]))}, …, {delays[-1]}"
    else:
        listed = ", ".join(map(str, delays))
    return f"{name}, a delay per {'pair' if len(weight.nodes) > 1 else 'unit'}: {listed}"


def short(text: str, longest: int = LONGEST) -> str:
    """Text on one line that matplotlib does not read as a formula; of a long one the beginning and the end."""
    shown = "".join(character if character.isprintable() else "?" for character in text)
    if len(shown) > longest:
        head = longest // 2
        shown = f"{shown[:head]}…{shown[head + 1 - longest :]}"
    return shown.replace("$", r"\$")
