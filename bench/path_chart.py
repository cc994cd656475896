# SPDX-License-Identifier: GPL-3.0-or-later
"""The chart of a benchmark of the client's path: bars of shares of direct, in SVG.

A panel for every script and figure; in it a group of bars for every number of clients, one bar
for each path. Bars begin at direct's 1 and double with every line, up or down. It is read on light
and dark ground, and without colours by the figures at the bars.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

from bench.path_report import BASE
from bench.samples import number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.samples import Figure, Results, Share

WIDTH: Final = 1040
HEAD: Final = 84
PANEL_HEIGHT: Final = 250
PANEL_GAP: Final = 52
MARGIN: Final = 56
FOOT: Final = 34
BAR_FILL: Final = 0.82
GROUP_FILL: Final = 0.86
# Paths have a colour each, by their order; the last is the peer's.
COLOURS: Final = (
    ("#0a5dc2", "#58a6ff"),
    ("#9a6700", "#d29922"),
    ("#1a7f37", "#3fb950"),
    ("#8250df", "#bc8cff"),
    ("#bf3989", "#f778ba"),
    ("#6e7781", "#8b949e"),
)
STYLE: Final = """\
    .ground { fill: #ffffff; stroke: #d0d7de; }
    .head { fill: #1f2328; font-size: 17px; font-weight: 600; }
    .name { fill: #1f2328; font-size: 14px; font-weight: 600; }
    .text { fill: #424a53; font-size: 12.5px; }
    .figure { fill: #1f2328; font-size: 10.5px; text-anchor: middle; }
    .middle { text-anchor: middle; }
    .end { text-anchor: end; }
    .grid { stroke: #d0d7de; stroke-width: 1; }
    .one { stroke: #1f2328; stroke-width: 1.4; stroke-dasharray: 5 4; }
    .spread { stroke: #1f2328; stroke-width: 1.2; fill: none; }
"""
DARK: Final = """\
      .ground { fill: #0d1117; stroke: #30363d; }
      .head, .name, .figure { fill: #f0f6fc; }
      .text { fill: #c9d1d9; }
      .grid { stroke: #30363d; }
      .one, .spread { stroke: #f0f6fc; }
"""


@dataclass(frozen=True)
class Panel:
    """One panel: what it shows, and the shares by number of clients and path, None for none."""

    title: str
    clients: tuple[int, ...]
    paths: tuple[str, ...]
    shares: Mapping[tuple[int, str], Share | None]

    @property
    def bounds(self) -> tuple[int, int]:
        """The powers of two that the scale ends with: below all bars and above them."""
        known = [share for share in self.shares.values() if share]
        least = min((share.least for share in known), default=1.0)
        most = max((share.greatest for share in known), default=1.0)
        return min(-1, math.floor(math.log2(least))), max(1, math.ceil(math.log2(most)))


def power(exponent: int) -> str:
    """Return two to the *exponent*, as people write it."""
    return f"1/{2**-exponent}" if exponent < 0 else str(2**exponent)


def chart(results: Results, titles: Mapping[str, str]) -> str:
    """Return the SVG of *results*; *titles* is what the paths are called."""
    paths = tuple(path for path in results.paths if path != BASE)
    panels = [
        _panel(results, paths, script, figure, words)
        for script in results.scripts
        for figure, words in _FIGURES
    ]
    rows = math.ceil(len(panels) / 2)
    height = HEAD + rows * (PANEL_HEIGHT + PANEL_GAP) + FOOT
    parts = [_opening(height, paths, titles)]
    for index, panel in enumerate(panels):
        left = MARGIN + (index % 2) * (WIDTH / 2)
        top = HEAD + (index // 2) * (PANEL_HEIGHT + PANEL_GAP)
        parts.append(_draw(panel, left, top, WIDTH / 2 - MARGIN - 24))
    foot = f"Medians of {results.rounds} rounds; lines: least and greatest. Direct is 1."
    parts.append(_text(MARGIN, height - 16, "text", foot))
    return "\n".join([*parts, "</svg>", ""])


_FIGURES: Final[tuple[tuple[Figure, str], ...]] = (
    ("tps", "throughput, direct is 1 (more is better)"),
    ("p99_ms", "p99 latency, direct is 1 (less is better)"),
)


def _panel(
    results: Results, paths: tuple[str, ...], script: str, figure: Figure, words: str
) -> Panel:
    shares = {
        (clients, path): results.share(path, BASE, script, clients, figure)
        for clients in results.clients
        for path in paths
    }
    return Panel(f"{script.capitalize()}: {words}", results.clients, paths, shares)


def _opening(height: float, paths: Sequence[str], titles: Mapping[str, str]) -> str:
    bars = zip(range(len(paths)), COLOURS, strict=False)
    light, dark = [], []
    for index, (day, night) in bars:
        light.append(f"    .bar{index} {{ fill: {day}; }}\n")
        dark.append(f"      .bar{index} {{ fill: {night}; }}\n")
    font = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
    words = "Bars: throughput and latency of each path as shares of a direct connection's"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" role="img"',
        f'     aria-labelledby="t d" font-family="{font}">',
        "  <!-- SPDX-License-Identifier: GPL-3.0-or-later -->",
        "  <!-- Written by python -m bench.path. -->",
        '  <title id="t">The paths to the primary, compared with going there directly</title>',
        f'  <desc id="d">{words}, by number of clients.</desc>',
        f"  <style>\n{STYLE}{''.join(light)}",
        f"    @media (prefers-color-scheme: dark) {{\n{DARK}{''.join(dark)}    }}\n  </style>",
        f'  <rect class="ground" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:g}"/>',
        _text(MARGIN, 32, "head", "The client's path, compared with a direct connection"),
    ]
    left = float(MARGIN)
    for index, path in enumerate(paths):
        parts.append(_rect(f"bar{index}", left, 45, 12, 12))
        parts.append(_text(left + 18, 56, "text", titles[path]))
        left += 18 + 7.2 * len(titles[path]) + 22
    return "\n".join(parts)


def _draw(panel: Panel, left: float, top: float, width: float) -> str:
    """Return *panel* with its upper left corner at *left*, *top*."""
    low, high = panel.bounds
    scale = Scale(top + PANEL_HEIGHT, (PANEL_HEIGHT - 44) / (high - low), low)
    parts = [_text(left, top + 14, "name", panel.title)]
    for exponent in range(low, high + 1):
        at = scale.at(2.0**exponent)
        parts.append(_line("grid", left, at, left + width, at))
        parts.append(_text(left - 8, at + 4, "text end", power(exponent)))
    group = width / len(panel.clients)
    bar = group * GROUP_FILL / len(panel.paths)
    for column, clients in enumerate(panel.clients):
        start = left + column * group + group * (1 - GROUP_FILL) / 2
        for index, path in enumerate(panel.paths):
            place = start + index * bar
            parts.append(_bar(panel.shares[clients, path], index, place, bar, scale))
        words, middle = f"{clients} clients", left + (column + 0.5) * group
        parts.append(_text(middle, top + PANEL_HEIGHT + 22, "text middle", words))
    parts.append(_line("one", left, scale.at(1), left + width, scale.at(1)))
    return "\n".join(parts)


@dataclass(frozen=True)
class Scale:
    """Where a ratio stands: *base* is the place of two to the *low*, a doubling is *step* up."""

    base: float
    step: float
    low: int

    def at(self, ratio: float) -> float:
        """Return the place of *ratio*."""
        return self.base - (math.log2(ratio) - self.low) * self.step


def _bar(share: Share | None, index: int, left: float, width: float, scale: Scale) -> str:
    middle = left + width * BAR_FILL / 2
    if share is None:
        return _text(middle, scale.at(1) - 5, "figure", "none")
    end, one = scale.at(share.median), scale.at(1)
    least, greatest = scale.at(share.least), scale.at(share.greatest)
    figure = greatest - 4 if share.median >= 1 else least + 11
    return "\n".join(
        [
            _rect(f"bar{index}", left, min(end, one), width * BAR_FILL, abs(end - one)),
            _line("spread", middle, least, middle, greatest),
            _text(middle, figure, "figure", number(share.median)),
        ]
    )


def _text(x: float, y: float, kind: str, words: str) -> str:
    return f'  <text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>'


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'  <line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _rect(kind: str, x: float, y: float, width: float, height: float) -> str:
    return (
        f'  <rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
        f'height="{height:.1f}"/>'
    )
