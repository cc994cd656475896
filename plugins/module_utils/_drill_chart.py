# SPDX-License-Identifier: GPL-3.0-or-later
"""The timeline of a drill as an SVG picture. Private to the collection.

The picture carries its own colours, light and dark, so that it stands in a page and alone.
"""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.pgherd.cluster.plugins.module_utils._drill_account import Drill, Line

WIDTH, LEFT, RIGHT = 960, 92, 16
TOP, PLOT, LANE, PITCH = 74, 170, 20, 46
COLUMNS = 420
LEVELS = ("leader", "replica", "silent", "down")
STYLE = """
.dt{font:12px system-ui,sans-serif;--ink:#1c2733;--soft:#5d6b7a;--rule:#d9dfe6;--bg:#fff;
--leader:#1d66c2;--replica:#8fc7b0;--silent:#b9c1ca;--down:#d65a4a;--gap:#d6453a;--lat:#5b49b5}
@media(prefers-color-scheme:dark){.dt{--ink:#e6ebf0;--soft:#a3b0bd;--rule:#35414d;--bg:#151b21;
--leader:#5b9cf0;--replica:#3f8a70;--silent:#596570;--down:#c8503f;--gap:#f0786c;--lat:#a99af5}}
.dt text{fill:var(--ink)}.dt .soft{fill:var(--soft);font-size:11px}.dt .bg{fill:var(--bg)}
.dt .grid{stroke:var(--rule)}.dt .lat{stroke:var(--lat);stroke-width:2;fill:none}
.dt .gap{fill:var(--gap);opacity:.16}.dt .gaptext{fill:var(--gap);font-weight:600}
.dt .mark{stroke:var(--ink);stroke-dasharray:4 3}.dt .err{stroke:var(--gap)}
.dt .leader{fill:var(--leader)}.dt .replica{fill:var(--replica)}.dt .silent{fill:var(--silent)}
.dt .down{fill:var(--down)}.dt .in{font-size:11px}.dt .in.leader{fill:var(--bg)}
.dt .wit{stroke:var(--leader);stroke-width:2}
""".strip()


def chart(drill: Drill, figures: Line) -> str:
    """Return the picture as one `svg` element."""
    members = [str(name) for name in drill.start["members"]]
    height = TOP + PLOT + 34 + PITCH * len(members) + 34
    picture = Picture(drill, figures, members)
    body = "".join([*picture.axis(), *picture.latency(), *picture.lanes(), *picture.marks()])
    text = (
        f"Timeline: {figures['rto_seconds']:.2f} seconds without a commit; the lanes show the "
        f"role of {', '.join(members)} over time. The tables of the report have the same figures."
    )
    return (
        f'<svg class="dt" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'role="img" aria-labelledby="dt-title dt-desc"><title id="dt-title">Timeline of the '
        f'drill</title><desc id="dt-desc">{escape(text)}</desc><style>{STYLE}</style>'
        f'<rect class="bg" width="{WIDTH}" height="{height}"/>{body}</svg>'
    )


def step_of(span: float) -> float:
    """Return the distance of time's marks: 1, 2 or 5 of a power of ten, about ten in *span*."""
    rough = max(span, 0.001) / 10
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


def level(line: Line) -> str:
    """Return how a member's lane is painted: leader, replica, silent or down."""
    role, state = str(line["role"]), str(line.get("state") or "")
    if role == "silent":
        return "silent"
    if role in {"down", "stopped"} or state in {"stopped", "crashed", "stopping", "start failed"}:
        return "down"
    return "leader" if role in {"leader", "primary", "standby_leader"} else "replica"


def buckets(acks: list[Line], begin: float, end: float) -> dict[int, tuple[float, float]]:
    """Return the least and the greatest latency (ms) of each column in which one was seen."""
    found: dict[int, tuple[float, float]] = {}
    for ack in acks:
        column = min(int((ack["t"] - begin) / max(end - begin, 0.001) * COLUMNS), COLUMNS - 1)
        value = (ack["t"] - ack["sent"]) * 1000
        low, high = found.get(column, (value, value))
        found[column] = (min(low, value), max(high, value))
    return found


class Picture:
    """The parts of one picture; each yields SVG elements."""

    def __init__(self, drill: Drill, figures: Line, members: list[str]) -> None:
        self.drill, self.figures, self.members = drill, figures, members
        marks = [drill.probe_time(event["wall"]) for event in drill.events]
        self.begin = min([float(drill.start["t"]), *marks])
        self.end = max([drill.end, self.begin + 0.001, *marks])
        self.bottom = TOP + PLOT + 34 + PITCH * len(members)

    def x(self, at: float) -> float:
        """Return the place of a probe's time."""
        share = float((at - self.begin) / (self.end - self.begin))
        return round(LEFT + min(max(share, 0.0), 1.0) * (WIDTH - LEFT - RIGHT), 1)

    def axis(self) -> Iterator[str]:
        """Draw the marks of time, in seconds from the fault on."""
        step = step_of(self.end - self.begin)
        first = math.ceil((self.begin - self.drill.zero) / step - 1e-9)
        last = math.floor((self.end - self.drill.zero) / step + 1e-9)
        for count in range(first, last + 1):
            x = self.x(self.drill.zero + count * step)
            yield f'<line class="grid" x1="{x}" x2="{x}" y1="{TOP}" y2="{self.bottom}"/>'
            yield (
                f'<text class="soft" x="{x}" y="{self.bottom + 15}" text-anchor="middle">'
                f"{count * step:g} s</text>"
            )

    def latency(self) -> Iterator[str]:
        """Draw the latencies (log scale), the errors and the gap."""
        acks = self.drill.of("ack")
        values = [max((ack["t"] - ack["sent"]) * 1000, 0.01) for ack in acks] or [1.0]
        low = math.floor(math.log10(min(values)))
        high = max(math.ceil(math.log10(max(values))), low + 1)

        def y(value: float) -> float:
            share = (math.log10(max(value, 10.0**low)) - low) / (high - low)
            return round(TOP + PLOT * (1 - share), 1)

        for power in range(low, high + 1):
            at = y(10.0**power)
            yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>'
            yield (
                f'<text class="soft" x="{LEFT - 8}" y="{at + 4}" text-anchor="end">'
                f"{10.0**power:g} ms</text>"
            )
        begin, end = (self.x(self.drill.zero + at) for at in self.figures["gap"])
        yield f'<rect class="gap" x="{begin}" y="{TOP}" width="{end - begin:.1f}" height="{PLOT}"/>'
        middle = min(max((begin + end) / 2, LEFT + 80), WIDTH - RIGHT - 80)
        yield (
            f'<text class="gaptext" x="{middle:.1f}" y="{TOP + 18}" text-anchor="middle">'
            f"{self.figures['rto_seconds']:.2f} s without a commit</text>"
        )
        width = (WIDTH - LEFT - RIGHT) / COLUMNS
        a, b = self.x(self.begin), self.end - self.begin
        path = []
        for column, (least, most) in sorted(buckets(acks, self.begin, self.begin + b).items()):
            x = a + (column + 0.5) * width
            path.append(f"M{x:.1f} {y(most) - 0.8:.1f}V{y(least) + 0.8:.1f}")
        yield f'<path class="lat" d="{"".join(path)}"><title>Latency of commits</title></path>'
        errors = sorted({round(self.x(x["t"])) for x in self.drill.of("error", "doubt")})
        ticks = "".join(f"M{x} {TOP + PLOT - 8}v8" for x in errors)
        yield f'<path class="err" d="{ticks}"><title>Errors that clients saw</title></path>'

    def lanes(self) -> Iterator[str]:
        """Draw a lane for each member: its role over time, rules, and its witness's rows."""
        for at, member in enumerate(self.members):
            top = TOP + PLOT + 34 + PITCH * at
            yield f'<text x="{LEFT - 8}" y="{top + 14}" text-anchor="end">{escape(member)}</text>'
            lines = [x for x in self.drill.of("state") if x["member"] == member]
            for line, after in zip(lines, [*lines[1:], None]):
                until = self.end if after is None else float(after["t"])
                yield from self.stretch(line, until, top)
            acks = [x for x in self.drill.of("witness") if x["member"] == member]
            ticks = "".join(f"M{x} {top + LANE + 1}v4" for x in sorted({round(self.x(w["t"]))
                                                                       for w in acks}))  # fmt: skip
            yield f'<path class="wit" d="{ticks}"><title>Rows of the witness</title></path>'
            yield from self.rule_names(member, top)

    def stretch(self, line: Line, until: float, top: float) -> Iterator[str]:
        """Draw one stretch of a member's lane."""
        begin, end, how = self.x(line["t"]), self.x(until), level(line)
        seconds = line["t"] - self.drill.zero
        what = f"{line['member']}: {line['role']}, {line.get('state') or how}, from {seconds:.2f} s"
        yield (
            f'<rect class="{how}" x="{begin}" y="{top}" width="{max(end - begin, 0.5):.1f}" '
            f'height="{LANE}"><title>{escape(what)}</title></rect>'
        )
        if end - begin > 52:
            yield f'<text class="in {how}" x="{begin + 5}" y="{top + 14}">{how}</text>'

    def rule_names(self, member: str, top: float) -> Iterator[str]:
        """Write the rules that fired where there is room; the report's table has all."""
        free = 0.0
        for rule in self.figures["rules"]:
            x = self.x(self.drill.zero + rule["seconds"])
            room = x + 6 * len(rule["rule"]) + 8
            if rule["member"] == member and x >= free and room <= WIDTH:
                yield f'<text class="soft" x="{x}" y="{top + 38}">{escape(rule["rule"])}</text>'
                free = room

    def marks(self) -> Iterator[str]:
        """Draw the events, their names on three lines so that neighbours can be read."""
        for at, event in enumerate(sorted(self.drill.events, key=lambda x: float(x["wall"]))):
            x, y = self.x(self.drill.probe_time(event["wall"])), 18 + at % 3 * 18
            text = f"{event['name']} {event.get('target') or ''}".strip()
            last = x + 7 * len(text) > WIDTH - RIGHT
            side = f'x="{x - 4}" text-anchor="end"' if last else f'x="{x + 4}"'
            yield f'<line class="mark" x1="{x}" x2="{x}" y1="{y - 10}" y2="{self.bottom}"/>'
            yield (
                f'<text {side} y="{y}">{escape(text)}'
                f"<title>{escape(str(event.get('text') or text))}</title></text>"
            )


def bars(values: list[tuple[str, float]], limit: float | None) -> str:
    """Return a small picture of a figure over drills: label and seconds, the last is this one."""
    top = max([value for _at, value in values] + ([limit] if limit else []) + [0.001])
    width = 14 * len(values) + 4
    parts: list[Any] = []
    for at, (label, value) in enumerate(values):
        tall = max(value / top * 50, 1)
        how = "leader" if at == len(values) - 1 else "silent"
        parts.append(
            f'<rect class="{how}" x="{2 + 14 * at}" y="{56 - tall:.1f}" width="10" '
            f'height="{tall:.1f}"><title>{escape(label)}: {value:.2f} s</title></rect>'
        )
    if limit:
        y = 56 - limit / top * 50
        parts.append(f'<line class="err" x1="0" x2="{width}" y1="{y:.1f}" y2="{y:.1f}"/>')
    return (
        f'<svg class="dt" viewBox="0 0 {width} 58" width="{width}" height="58" role="img" '
        f'aria-label="Seconds without a commit, earlier drills and this one">{"".join(parts)}</svg>'
    )
