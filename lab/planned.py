# SPDX-License-Identifier: GPL-3.0-or-later
"""Planned switchovers through the clients' way in, under pgbench and clients of our own."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lab.cluster import MEMBERS
from lab.columns import align
from lab.errors import LabError
from lab.pgbench import Load, Pgbench, Report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.entrance import Crowd, Entrance
    from lab.wire import Target

HEAD: Final = ("", "pgbench", "lead", "pgbench stall", "client stall", "answer")


@dataclass(frozen=True)
class Moment:
    """A switchover by two clocks: from when it was asked for until all was well again."""

    old: str
    new: str
    answer: float
    begin: float
    end: float
    wall: float

    def by_wall(self, at: float) -> float:
        """Return a moment of time.monotonic() as one of time.time()."""
        return at - self.begin + self.wall


@dataclass(frozen=True)
class Handover:
    """What one switchover cost; times in seconds."""

    load: Load
    old: str
    new: str
    pgbench_stall: float
    client_stall: float
    answer: float

    def cells(self, number: int) -> tuple[str, ...]:
        """Return a row of the table."""
        return (
            str(number),
            f"{self.load.clients} {self.load.protocol}",
            f"{self.old} to {self.new}",
            f"{self.pgbench_stall:.2f} s",
            f"{self.client_stall:.2f} s",
            f"{self.answer:.2f} s",
        )


def switch(entrance: Entrance, crowd: Crowd, **options: Any) -> Moment:
    """Hand the lead over to the next member by name; returns when all is well again.

    options: further fields of the request. Raises LabError when it is refused or fails.
    """
    old = entrance.await_whole()
    new = MEMBERS[(MEMBERS.index(old) + 1) % len(MEMBERS)]
    begin, wall = time.monotonic(), time.time()
    body = {"leader": old, "candidate": new, **options}
    status, text = entrance.cluster.ask(old, "POST", "/switchover", body)
    answer = time.monotonic() - begin
    if status != 200:
        raise LabError(f"Switchover from {old} to {new}: {status} {text}")
    entrance.await_whole()
    crowd.await_rows(20)
    entrance.lab.progress.line(old, f"handed over to {new} in {answer:.2f} s")
    return Moment(old, new, answer, begin, time.monotonic(), wall)


def under_pgbench(
    entrance: Entrance, target: Target, crowd: Crowd, load: Load, times: int
) -> tuple[list[Handover], Report]:
    """Switch over *times* in a row under *load*; return what each cost, and pgbench's report.

    Raises LabError when one of them fails.
    """
    pgbench = Pgbench(target, load)
    pgbench.start()
    pgbench.await_clients()
    try:
        moments = [switch(entrance, crowd) for _ in range(times)]
    finally:
        report = pgbench.finish()
        entrance.lab.progress.line(
            "pgbench",
            f"{load.clients} {load.protocol}: {report.processed} transactions, {report.failed} "
            f"failed, {report.tps:.0f} tps; {'; '.join(report.errors[:3]) or 'no error'}",
        )
    costs = [
        Handover(
            load,
            moment.old,
            moment.new,
            report.longest(moment.wall, moment.by_wall(moment.end)),
            crowd.outage(moment.begin, moment.end),
            moment.answer,
        )
        for moment in moments
    ]
    return costs, report


def render(costs: Sequence[Handover]) -> str:
    """Return the table of the switchovers, median and worst below it."""
    rows = [HEAD, *(cost.cells(number) for number, cost in enumerate(costs, start=1))]
    for name, of in (("median", statistics.median), ("worst", max)):
        figures = (
            of(figure)
            for figure in (
                [cost.pgbench_stall for cost in costs],
                [cost.client_stall for cost in costs],
                [cost.answer for cost in costs],
            )
        )
        rows.append(("", name, "", *(f"{figure:.2f} s" for figure in figures)))
    return align(rows, numbers={0, 3, 4, 5})
