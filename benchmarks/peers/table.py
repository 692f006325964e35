"""The figures as Markdown and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.peers import first_result, memory
from benchmarks.peers.result import ONE_THREAD, Result
from benchmarks.peers.targets import Verdict, reached, verdicts, wanted_ratios
from benchmarks.peers.works import NUMPY, OURS, WORKS, C

TITLES = {work.name: work.title for work in WORKS} | {
    first_result.NAME: first_result.TITLE,
    memory.NAME: memory.TITLE,
}
LEGEND = """\
T time steps, B sequences, I inputs, H units; float32. "forward + gradient" is the mean squared error and its gradient
by all weights. Every competitor runs in a process of its own; all compute the same numbers, which is checked first.
They take turns; a figure is the median of all calls, in ms. In brackets: the competitor's figure divided by that of
rnngraph numpy, and by that of rnngraph c. Above 1, ours is ahead. With several threads, other work on the machine can
cost a figure many times its value: those are worth something on a quiet machine only (see the load averages).
"""


def markdown(results: Sequence[Result], machine: Mapping[str, str], notes: Sequence[str] = ()) -> str:
    """The whole page: the targets, then the figures by number of threads and work."""
    threads = list(dict.fromkeys(result.threads for result in results))
    lines = ["# rnngraph beside its peers on the CPU", "", LEGEND, _facts(machine)]
    for number in threads:
        if number == ONE_THREAD and (found := verdicts(results, number)):
            lines += ["", "## Targets, one thread", "", *_targets(found, wanted_ratios(results, number))]
    for number in threads:
        lines += ["", f"## Threads: {number}"]
        for work in dict.fromkeys(result.work for result in results if result.threads == number):
            here = [result for result in results if (result.threads, result.work) == (number, work)]
            lines += ["", f"### {TITLES[work]}", "", *_figures(here)]
    missing = dict.fromkeys(
        f"{r.work} {r.case}: {r.competitor} left out: {r.note}"
        for r in results
        if r.note and not any(r.note in line for line in notes)
    )
    if remarks := [*_choices(results), *missing, *notes]:
        lines += ["", "## Notes", "", *(f"- {line}" for line in remarks)]
    return "\n".join(lines) + "\n"


def as_json(results: Sequence[Result], machine: Mapping[str, str], notes: Sequence[str] = ()) -> str:
    """The same as data; values in ms, of the work "memory" in MB."""
    targets = [
        {
            **verdict.target._asdict(),
            "peer": verdict.peer,
            "value": verdict.value,
            "ours": {
                name: {"value": value, "ratio": ratio, "reached": None if wanted is None else reached(ratio, wanted)}
                for name, (value, ratio, wanted) in verdict.ours.items()
            },
        }
        for verdict in verdicts(results, ONE_THREAD)
    ]
    data = {"machine": machine, "targets": targets, "results": [result._asdict() for result in results]}
    return json.dumps(data | {"notes": list(notes)}, indent=2) + "\n"


def write(folder: Path, results: Sequence[Result], machine: Mapping[str, str], notes: Sequence[str] = ()) -> None:
    """Writes peers.md and peers.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "peers.md").write_text(markdown(results, machine, notes), encoding="utf-8")
    (folder / "peers.json").write_text(as_json(results, machine, notes), encoding="utf-8")


def _facts(machine: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in machine.items())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [" | ".join(head), " | ".join(["---"] * len(head)), *(" | ".join(row) for row in rows)]


def _targets(found: Sequence[Verdict], wanted_count: int) -> list[str]:
    rows = []
    for verdict in found:
        row = [verdict.target.title, verdict.target.case, verdict.peer, f"{verdict.value:.3g}"]
        for name in OURS:
            if name not in verdict.ours:
                row += ["-"] * 4
                continue
            value, ratio, wanted = verdict.ours[name]
            met = "-" if wanted is None else "yes" if reached(ratio, wanted) else "**no**"
            row += [f"{value:.3g}", f"{ratio:.2f}", "-" if wanted is None else f"{wanted:g}", met]
        rows.append(row)
    count = [met for row in rows for met in (row[7], row[11]) if met != "-"]
    head = ["work", "size", "peer", "its figure"]
    for name in OURS:
        head += [name, "peer / ours", "target", "reached"]
    missing = f"; {wanted_count - len(count)} not measured" if wanted_count > len(count) else ""
    summary = (
        f"{count.count('yes')} of {wanted_count} reached{missing}. ms; memory in MB. Of several peers, the best counts."
    )
    return [summary, "", *_table(head, rows)]


def _figures(results: Sequence[Result]) -> list[str]:
    names = list(dict.fromkeys(r.competitor for r in results if r.value is not None))
    values = {(r.case, r.task, r.competitor): r.value for r in results if r.value is not None}
    rows = []
    for case, task in dict.fromkeys((case, task) for case, task, _ in values):
        ours = {name: values.get((case, task, name)) for name in (NUMPY, C)}
        row = [case, task]
        for name in names:
            value = values.get((case, task, name))
            ratios = [f"{value / own:.2f}" if own else "-" for own in ours.values()] if value is not None else []
            row.append("-" if value is None else f"{value:.3g}" + ("" if name in OURS else f" ({', '.join(ratios)})"))
        rows.append(row)
    return _table(["size", "task", *names], rows)


def _choices(results: Sequence[Result]) -> list[str]:
    """The settings of competitors that have several: one line each, by number of threads."""
    found: dict[tuple[str, str, str], dict[str, list[str]]] = {}
    for r in results:
        if r.choice:
            work = found.setdefault((r.competitor, r.work, r.threads), {})
            work.setdefault(r.choice, []).append(f"{r.case} {r.task}")
    return [
        f"{competitor}, {work}, {threads} thread(s): "
        + "; ".join(f"{choice} at {', '.join(places)}" for choice, places in chosen.items())
        for (competitor, work, threads), chosen in found.items()
    ]
