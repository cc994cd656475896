# SPDX-License-Identifier: GPL-3.0-or-later
"""The chart of a benchmark of the client's path: bars of shares of direct, in SVG.

A panel for every script and figure; in it a group of bars for every number of clients, one bar
for each path. Bars begin at direct's 1 and double with every line, up or down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.bars import Panel, Sheet, render
from bench.path_report import BASE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.samples import Figure, Results

_FIGURES: Final[tuple[tuple[Figure, str], ...]] = (
    ("tps", "throughput, direct is 1 (more is better)"),
    ("p99_ms", "p99 latency, direct is 1 (less is better)"),
)


def chart(results: Results, titles: Mapping[str, str]) -> str:
    """Return the SVG of *results*; *titles* is what the paths are called."""
    paths = tuple(path for path in results.paths if path != BASE)
    sheet = Sheet(
        module="bench.path",
        title="The paths to the primary, compared with going there directly",
        description="Bars: throughput and latency of each path as shares of a direct "
        "connection's, by number of clients.",
        head="The client's path, compared with a direct connection",
        legend=tuple(titles[path] for path in paths),
        foot=f"Medians of {results.rounds} rounds; lines: least and greatest. Direct is 1.",
        columns=2,
    )
    panels = [
        _panel(results, paths, script, figure, words)
        for script in results.scripts
        for figure, words in _FIGURES
    ]
    return render(sheet, panels)


def _panel(
    results: Results, paths: tuple[str, ...], script: str, figure: Figure, words: str
) -> Panel:
    shares = {
        (f"{clients} clients", path): results.share(path, BASE, script, clients, figure)
        for clients in results.clients
        for path in paths
    }
    groups = tuple(f"{clients} clients" for clients in results.clients)
    return Panel(f"{script.capitalize()}: {words}", groups, paths, shares)
