# SPDX-License-Identifier: GPL-3.0-or-later
"""Charts of bars in SVG, for the documentation: panels of groups of bars on a scale of doublings.

They are read on light and dark ground, and without colours by the figures at the bars.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

from bench.samples import Spread, number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

WIDTH: Final = 1040
HEAD: Final = 84
PANEL_HEIGHT: Final = 250
PANEL_GAP: Final = 52
MARGIN: Final = 56
FOOT: Final = 34
BAR_FILL: Final = 0.82
GROUP_FILL: Final = 0.86
# Bars of a group have a colour each, by their order.
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
class Sheet:
    """What is around the panels: who writes it (a module), titles, the bars' names, the last line.

    columns: how many panels stand beside each other.
    """

    module: str
    title: str
    description: str
    head: str
    legend: tuple[str, ...]
    foot: str
    columns: int


@dataclass(frozen=True)
class Panel:
    """One panel: what it shows, its groups, their bars, and the spread of each, None for none.

    begin: the value at which bars begin, upwards or down; None for the foot of the scale, where
    there are zeros among the values. form: puts a value in words.
    """

    title: str
    groups: tuple[str, ...]
    bars: tuple[str, ...]
    spreads: Mapping[tuple[str, str], Spread | None]
    begin: float | None = 1.0
    form: Callable[[float], str] = number

    @property
    def bounds(self) -> tuple[int, int]:
        """The powers of two that the scale ends with: below all bars and above them."""
        known = [s for s in self.spreads.values() if s]
        values = [v for s in known for v in (s.least, s.median, s.greatest) if v > 0] or [1.0]
        low, high = math.floor(math.log2(min(values))), math.ceil(math.log2(max(values)))
        if self.begin is None:
            # The least bar is to be seen, too.
            return min(-1, low - 1), max(1, high)
        return min(-1, low), max(1, high)


def power(exponent: int) -> str:
    """Return two to the *exponent*, as people write it."""
    return f"1/{2**-exponent}" if exponent < 0 else str(2**exponent)


def render(sheet: Sheet, panels: Sequence[Panel]) -> str:
    """Return the SVG of *panels* on *sheet*."""
    rows = math.ceil(len(panels) / sheet.columns)
    height = HEAD + rows * (PANEL_HEIGHT + PANEL_GAP) + FOOT
    parts = [_opening(sheet, height)]
    for index, panel in enumerate(panels):
        row, column = divmod(index, sheet.columns)
        left = MARGIN + column * (WIDTH / sheet.columns)
        top = HEAD + row * (PANEL_HEIGHT + PANEL_GAP)
        parts.append(_draw(panel, left, top, WIDTH / sheet.columns - MARGIN - 24))
    parts.append(_text(MARGIN, height - 16, "text", sheet.foot))
    return "\n".join([*parts, "</svg>", ""])


def _opening(sheet: Sheet, height: float) -> str:
    light, dark = [], []
    for index, (day, night) in enumerate(COLOURS[: len(sheet.legend)]):
        light.append(f"    .bar{index} {{ fill: {day}; }}\n")
        dark.append(f"      .bar{index} {{ fill: {night}; }}\n")
    font = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" role="img"',
        f'     aria-labelledby="t d" font-family="{font}">',
        "  <!-- SPDX-License-Identifier: GPL-3.0-or-later -->",
        f"  <!-- Written by python -m {sheet.module}. -->",
        f'  <title id="t">{escape(sheet.title)}</title>',
        f'  <desc id="d">{escape(sheet.description)}</desc>',
        f"  <style>\n{STYLE}{''.join(light)}",
        f"    @media (prefers-color-scheme: dark) {{\n{DARK}{''.join(dark)}    }}\n  </style>",
        f'  <rect class="ground" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:g}"/>',
        _text(MARGIN, 32, "head", sheet.head),
    ]
    left = float(MARGIN)
    for index, words in enumerate(sheet.legend):
        parts.append(_rect(f"bar{index}", left, 45, 12, 12))
        parts.append(_text(left + 18, 56, "text", words))
        left += 18 + 7.2 * len(words) + 22
    return "\n".join(parts)


def _draw(panel: Panel, left: float, top: float, width: float) -> str:
    """Return *panel* with its upper left corner at *left*, *top*."""
    low, high = panel.bounds
    scale = Scale(top + PANEL_HEIGHT, (PANEL_HEIGHT - 44) / (high - low), low)
    begin = 2.0**low if panel.begin is None else panel.begin
    parts = [_text(left, top + 14, "name", panel.title)]
    for exponent in range(low, high + 1):
        at = scale.at(2.0**exponent)
        parts.append(_line("grid", left, at, left + width, at))
        parts.append(_text(left - 8, at + 4, "text end", power(exponent)))
    group = width / len(panel.groups)
    bar = group * GROUP_FILL / len(panel.bars)
    for column, words in enumerate(panel.groups):
        start = left + column * group + group * (1 - GROUP_FILL) / 2
        for index, name in enumerate(panel.bars):
            place = start + index * bar
            spread = panel.spreads[words, name]
            figure = "none" if spread is None else panel.form(spread.median)
            parts.append(_bar(spread, figure, f"bar{index}", (place, bar), scale, begin))
        middle = left + (column + 0.5) * group
        parts.append(_text(middle, top + PANEL_HEIGHT + 22, "text middle", words))
    if panel.begin is not None:
        parts.append(_line("one", left, scale.at(begin), left + width, scale.at(begin)))
    return "\n".join(parts)


@dataclass(frozen=True)
class Scale:
    """Where a value stands: *base* is the place of two to the *low*, a doubling is *step* up."""

    base: float
    step: float
    low: int

    def at(self, value: float) -> float:
        """Return the place of *value*; what is less than the foot of the scale is at its foot."""
        return self.base - (math.log2(max(value, 2.0**self.low)) - self.low) * self.step


def _bar(
    spread: Spread | None,
    figure: str,
    kind: str,
    place: tuple[float, float],
    scale: Scale,
    begin: float,
) -> str:
    """Return the bar of *spread* with its *figure*; place: its left side and its width."""
    left, width = place
    middle, start = left + width * BAR_FILL / 2, scale.at(begin)
    if spread is None:
        return _text(middle, start - 5, "figure", figure)
    end, least, greatest = (
        scale.at(value) for value in (spread.median, spread.least, spread.greatest)
    )
    foot = greatest - 4 if end <= start else least + 11
    return "\n".join(
        [
            _rect(kind, left, min(end, start), width * BAR_FILL, abs(end - start)),
            _line("spread", middle, least, middle, greatest),
            _text(middle, foot, "figure", figure),
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
