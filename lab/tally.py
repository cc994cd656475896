# SPDX-License-Identifier: GPL-3.0-or-later
"""What some runs of each fault cost, as a table for a terminal, for a page and for programs."""

from __future__ import annotations

import json
import os
import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from lab.columns import align

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lab.stage import Account

HEAD: Final = (
    "fault", "kind", "runs", "no commit", "rows", "lost", "overlap", "in doubt", "redundant",
    "playbook added", "led", "leads", "verdict",
)  # fmt: skip
NUMBERS: Final = frozenset(range(2, 10))


@dataclass(frozen=True)
class Tally:
    """The accounts of every run of one fault, the first run first; at least one."""

    runs: tuple[Account, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """All that was wrong in any run, each said once."""
        return tuple(dict.fromkeys(problem for cost in self.runs for problem in cost.problems))

    @property
    def verdict(self) -> str:
        """What was wrong, and in how many of the runs; else ok."""
        failed = sum(bool(cost.problems) for cost in self.runs)
        said = "; ".join(self.problems) or "ok"
        return f"{failed} of {len(self.runs)}: {said}" if failed and len(self.runs) > 1 else said


def tallies(costs: Iterable[Account]) -> list[Tally]:
    """Return the accounts by fault, in the order in which the faults came first."""
    by_fault: dict[tuple[str, str], list[Account]] = {}
    for cost in costs:
        by_fault.setdefault((cost.kind, cost.fault), []).append(cost)
    return [Tally(tuple(runs)) for runs in by_fault.values()]


def seconds(values: Iterable[float | None]) -> str:
    """Return the median of what is known of *values*, and the least and greatest of several."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    middle = f"{statistics.median(known):.2f} s"
    return middle if len(known) == 1 else f"{middle} ({min(known):.2f} to {max(known):.2f})"


def cells(tally: Tally) -> tuple[str, ...]:
    """Return a row of the table: times as medians, rows summed, the worst of what must not be."""
    runs, last = tally.runs, tally.runs[-1]
    return (
        last.fault,
        last.kind,
        str(len(runs)),
        seconds(cost.gap for cost in runs),
        str(sum(cost.acknowledged for cost in runs)),
        str(max(cost.lost for cost in runs)),
        f"{max(cost.overlap for cost in runs):.2f} s",
        str(max(cost.doubt for cost in runs)),
        seconds(cost.redundancy for cost in runs),
        seconds(cost.added for cost in runs),
        last.before,
        last.after,
        tally.verdict,
    )


def render(found: Sequence[Tally]) -> str:
    """Return the table, its columns aligned: words to the left, numbers to the right."""
    return align([HEAD, *(cells(tally) for tally in found)], numbers=NUMBERS)


def added(found: Sequence[Tally]) -> str:
    """Return in a line what the playbook added to its drills; nothing when there were none."""
    known = [cost.added for tally in found for cost in tally.runs if cost.added is not None]
    if not known:
        return ""
    return (
        f"Around fault, recovery and redundancy the playbook added {seconds(known)} "
        f"to {len(known)} drills."
    )


def markdown(found: Sequence[Tally], about: Mapping[str, str]) -> str:
    """Return the table as a page has it, with what it is *about* before it."""
    rule = ["--:" if column in NUMBERS else "---" for column in range(len(HEAD))]
    rows = [HEAD, rule, *(cells(tally) for tally in found)]
    lines = [f"{'; '.join(f'{name}: {value}' for name, value in about.items())}.", ""]
    lines += [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    lines += ["", added(found)] if added(found) else []
    return "\n".join(lines) + "\n"


def dump(found: Sequence[Tally], about: Mapping[str, str]) -> str:
    """Return every run's figures as JSON; times in seconds, null for what was not seen."""
    rows = [
        {
            "fault": tally.runs[0].fault,
            "kind": tally.runs[0].kind,
            "passed": not tally.problems,
            "runs": [asdict(cost) for cost in tally.runs],
        }
        for tally in found
    ]
    return json.dumps({"about": dict(about), "rows": rows}, indent=2) + "\n"


def machine() -> str:
    """Return the machine in words, and how busy it is at the moment."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores, {pages / 2**30:.0f} GB, load {load:.1f} at the start"
