# SPDX-License-Identifier: GPL-3.0-or-later
"""The chart of the benchmark of faults: bars of times and of lost rows, in SVG.

A panel for every figure; in it a group of bars for every fault, one bar for each system.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.bars import Panel, Sheet, render
from bench.failover_report import HEADS, titles
from bench.outages import COUNTED
from bench.samples import number

if TYPE_CHECKING:
    from bench.outages import Figure, Outages


def chart(outages: Outages) -> str:
    """Return the SVG of *outages*."""
    sheet = Sheet(
        module="bench.failover",
        title="What faults cost the clients of pgherd and of Patroni",
        description="Bars: seconds without a commit, acknowledged rows lost and seconds with two "
        "primaries, by fault, for each system.",
        head="The same faults with pgherd and with Patroni (ttl/loop_wait/retry_timeout)",
        legend=titles(outages),
        foot=f"Medians; rounds of each fault: {outages.rounds}; lines: least and greatest. A line "
        "up is twice as much. Less is better.",
        columns=1,
    )
    panels = [_panel(outages, figure, head) for figure, head in HEADS if figure != "doubt"]
    return render(sheet, panels)


def _panel(outages: Outages, figure: Figure, head: str) -> Panel:
    spreads = {
        (fault, system): outages.spread(system, fault, figure)
        for fault in outages.faults
        for system in outages.systems
    }
    form = "{:g}".format if figure in COUNTED else _number
    return Panel(head, outages.faults, outages.systems, spreads, begin=None, form=form)


def _number(value: float) -> str:
    return number(value) if value else "0"
