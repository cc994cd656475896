# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmark of faults found, as tables in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.outages import COUNTED
from bench.page import row
from bench.samples import number, unique
from bench.systems import PGHERD, SYSTEMS

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.outages import Figure, Outages
    from bench.samples import Spread

BASE: Final = "normal"
NONE: Final = "none"
IMAGE: Final = "![Seconds without a commit, rows lost and seconds with two primaries](failover.svg)"
HEADS: Final[tuple[tuple[Figure, str], ...]] = (
    ("gap", "Seconds without a commit"),
    ("lost", "Acknowledged rows lost"),
    ("overlap", "Seconds with two primaries"),
    ("doubt", "Rows in doubt"),
)


def titles(outages: Outages) -> tuple[str, ...]:
    """Return what the systems of *outages* are called."""
    return tuple(SYSTEMS[system].title for system in outages.systems)


def tables(outages: Outages) -> str:
    """Return a table of every figure, and of the times as multiples of pgherd's."""
    parts = []
    for figure, head in HEADS:

        def spread(system: str, fault: str, of: Figure = figure) -> str:
            return cell(outages.spread(system, fault, of), counted=of in COUNTED)

        parts.append(_table(outages, head, spread))
        if figure == "gap" and BASE in outages.systems:
            words = f"The same, {SYSTEMS[BASE].title}'s is 1"
            parts.append(_table(outages, words, lambda *at: _ratio(outages, *at)))
    return "\n".join(parts)


def cell(spread: Spread | None, *, counted: bool) -> str:
    """Return *spread* in words: whole numbers where something is *counted*."""
    if spread is None:
        return NONE
    if spread.least == spread.greatest == 0:
        return "0"
    if not counted:
        return str(spread)
    if spread.least == spread.greatest:
        return f"{spread.median:g}"
    return f"{spread.median:g} ({spread.least:g} to {spread.greatest:g})"


def _ratio(outages: Outages, system: str, fault: str) -> str:
    ratio = outages.ratio(system, BASE, fault)
    return NONE if ratio is None else number(ratio)


def _table(outages: Outages, head: str, words: Callable[[str, str], str]) -> str:
    systems = outages.systems
    lines = [row(head, list(titles(outages))), row("---", ["---:"] * len(systems))]
    lines += [row(fault, [words(at, fault) for at in systems]) for fault in outages.faults]
    return "\n".join([*lines, ""])


def circumstances(outages: Outages) -> str:
    """Return in words what was measured, when and where, and the rows that were lost in all."""
    good = outages.good.values()
    days = sorted({sample.taken[:10] for sample in good})
    cores = max(sample.cores for sample in good)
    first = f"- {' and '.join(days)}, {cores} cores; rounds of each fault: {outages.rounds}."
    lines = [first, *(f"- {software}." for software in unique(sample.software for sample in good))]
    for system in outages.systems:
        acknowledged, lost = outages.lost(system)
        met = sum(sample.system == system for sample in good)
        load = cell(outages.load(system), counted=False)
        lines.append(
            f"- {SYSTEMS[system].title}: {lost} of {acknowledged} acknowledged rows lost in {met} "
            f"faults; the machine's load average {load}."
        )
    return "\n".join([*lines, ""])


def figures(outages: Outages) -> str:
    """Return all that the documentation shows of *outages*."""
    return f"{IMAGE}\n\n{tables(outages)}\n{circumstances(outages)}"


def verdicts(outages: Outages) -> list[str]:
    """Return, a line each, what pgherd lost, and the samples that have no figures."""
    lines = []
    for system in outages.systems:
        acknowledged, lost = outages.lost(system)
        if SYSTEMS[system].family == PGHERD:
            words = "lost no row" if lost == 0 else f"LOST {lost} ROWS"
            lines.append(f"{SYSTEMS[system].title} {words} of {acknowledged}")
    lines += [f"without figures: {', '.join(map(str, sample.key))}" for sample in outages.failed]
    return lines
