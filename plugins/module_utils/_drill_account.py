# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill cost, from the files that its probe left. Private to the collection.

All times of the result are seconds; those of one moment count from the fault on (or from the
probe's start if nothing was broken), so that moments before it are negative.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LEADING = ("leader", "primary", "standby_leader")
Line = dict[str, Any]


class DrillError(ValueError):
    """A drill's files cannot be judged; the text says why."""


@dataclass(frozen=True)
class Drill:
    """What is known of one drill: the probe's lines, events, rows at the end and settings."""

    lines: list[Line]
    events: list[Line]
    rows: Line
    meta: Line

    @property
    def start(self) -> Line:
        """The probe's first line."""
        return self.lines[0]

    def of(self, *kinds: str) -> list[Line]:
        """Return the probe's lines of *kinds*, the earliest first."""
        return sorted((x for x in self.lines if x["kind"] in kinds), key=lambda x: float(x["t"]))

    def probe_time(self, wall: float) -> float:
        """Return the probe's time of an epoch second."""
        return float(wall - self.start["wall"] + self.start["t"])

    def event(self, name: str) -> float | None:
        """Return the probe's time of the first event called *name*."""
        found = [self.probe_time(x["wall"]) for x in self.events if x["name"] == name]
        return min(found, default=None)

    @property
    def zero(self) -> float:
        """The probe's time from which moments count."""
        fault = self.event("fault")
        return float(self.start["t"]) if fault is None else fault

    @property
    def end(self) -> float:
        """The probe's last time."""
        return max(float(x["t"]) for x in self.lines)


def read_lines(text: str) -> list[Line]:
    """Return the probe's lines; a last line that was cut short is left out.

    Raises DrillError for another line that is wrong and for a file that has no start.
    """
    raw = text.splitlines(keepends=True)
    if raw and not raw[-1].endswith("\n"):
        raw.pop()
    lines = [checked(number, line) for number, line in enumerate(raw, 1)]
    if not lines or lines[0]["kind"] != "start":
        raise DrillError("probe.jsonl does not begin with the probe's start: did the probe run?")
    return lines


def checked(number: int, text: str) -> Line:
    """Return line *number* of the probe if it has what every line has; raises DrillError."""
    try:
        line = json.loads(text)
    except ValueError as error:
        raise DrillError(f"line {number} of probe.jsonl cannot be read: {error}") from error
    if not isinstance(line, dict) or not {"kind", "t"} <= set(line):
        raise DrillError(f"line {number} of probe.jsonl is no object with `kind` and `t`")
    return line


def overlap(lines: Iterable[Line]) -> float:
    """Return the seconds in which two members, or two timelines, took and acknowledged writes.

    A term of a member on a timeline lasts from its first acknowledgement until the last statement
    that it acknowledged was sent: one in flight when another takes over may be confirmed late
    without harm.
    """
    spans: dict[tuple[str, int], tuple[float, float]] = {}
    for line in lines:
        key = (line.get("member") or line["host"], line["timeline"])
        begin, end = spans.get(key, (line["t"], line["sent"]))
        spans[key] = (min(begin, line["t"]), max(end, line["sent"]))
    both = [(max(a[0], b[0]), min(a[1], b[1])) for a, b in combinations(spans.values(), 2)]
    total, done = 0.0, -math.inf
    for first, last in sorted(both):
        begin = max(first, done)
        if last > begin:
            total += last - begin
            done = last
    return total


def missing(numbers: Iterable[int], ranges: Sequence[Sequence[int]]) -> list[int]:
    """Return those of *numbers* that are in none of the *ranges* [first, last], sorted."""
    ordered = sorted((first, last) for first, last in ranges)
    absent, at = [], 0
    for number in sorted(set(numbers)):
        while at < len(ordered) and ordered[at][1] < number:
            at += 1
        if at == len(ordered) or number < ordered[at][0]:
            absent.append(number)
    return absent


def longest_gap(drill: Drill) -> tuple[float, float]:
    """Return begin and end (probe's time) of the longest wait that lasted past the fault."""
    times = [float(drill.start["t"]), *(float(x["t"]) for x in drill.of("ack")), drill.end]
    gaps = [gap for gap in zip(times, times[1:]) if gap[1] > drill.zero]
    return max(gaps, key=lambda gap: gap[1] - gap[0], default=(drill.end, drill.end))


def percentiles(acks: Iterable[Line]) -> dict[str, float] | None:
    """Return p50, p95, p99 and max of the latencies in milliseconds; None without any."""
    ordered = sorted((x["t"] - x["sent"]) * 1000 for x in acks)
    if not ordered:
        return None
    share = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    last = len(ordered)
    return {
        name: round(ordered[max(0, math.ceil(part * last) - 1)], 3) for name, part in share.items()
    }


def leaders(drill: Drill) -> tuple[str | None, str | None, float | None]:
    """Return who led when the fault came, who at the end, and when a new term was seen first."""
    before: Line | None = None
    now: dict[str, Line] = {}
    latest: str | None = None
    seen: float | None = None
    for line in drill.of("state"):
        leads = line["role"] in LEADING
        if line["t"] <= drill.zero:
            before = line if leads else before
        elif leads and seen is None and (before is None or is_new(line, before)):
            seen = float(line["t"])
        now[line["member"]] = line
        latest = line["member"] if leads else latest
    if latest is not None and now[latest]["role"] not in LEADING:
        others = [name for name, line in now.items() if line["role"] in LEADING]
        latest = others[-1] if others else None
    return (before["member"] if before else None), latest, seen


def is_new(line: Line, before: Line) -> bool:
    """Return whether *line*'s leader is another, or leads another timeline, than *before*'s."""
    other = line["member"] != before["member"]
    return bool(other or (line.get("timeline") or 0) > (before.get("timeline") or 0))


def rules(drill: Drill) -> list[Line]:
    """Return the rules that members' agents changed to from the fault on: member, rule, when."""
    last: dict[str, str] = {}
    fired: list[Line] = []
    for line in drill.of("state"):
        rule, member = line.get("rule"), line["member"]
        if rule and rule != last.get(member):
            last[member] = rule
            if line["t"] >= drill.zero:
                at = round(line["t"] - drill.zero, 3)
                fired.append({"seconds": at, "member": member, "rule": rule})
    return fired


def lost_rows(drill: Drill) -> dict[str, list[int]]:
    """Return the numbers of acknowledged rows that are not there: of `entry` and each witness."""
    lost = {"entry": missing((x["number"] for x in drill.of("ack")), drill.rows["present"])}
    by_member: dict[str, list[int]] = {}
    for line in drill.of("witness"):
        by_member.setdefault(line["member"], []).append(line["number"])
    for member, numbers in sorted(by_member.items()):
        lost[member] = missing(numbers, drill.rows.get("witness", {}).get(member, []))
    return {name: numbers for name, numbers in lost.items() if numbers}


def account(drill: Drill) -> Line:
    """Return the figures of *drill*; what was not seen is None. Raises DrillError."""
    if "present" not in drill.rows:
        raise DrillError("rows.json has no `present`: the rows were not read back after the drill")
    zero, acks = drill.zero, drill.of("ack")
    gap = longest_gap(drill)
    before, after, seen = leaders(drill)
    acknowledged = {x["number"] for x in acks}
    doubtful = {x["number"] for x in drill.of("doubt")} - acknowledged
    absent = missing(doubtful, drill.rows["present"])
    lost = lost_rows(drill)
    marks = {name: drill.event(name) for name in ("undo", "recovered", "redundant")}
    since = {name: None if at is None else round(at - zero, 3) for name, at in marks.items()}
    return {
        "fault_made": drill.event("fault") is not None,
        "rto_seconds": round(gap[1] - gap[0], 3),
        "gap": [round(gap[0] - zero, 3), round(gap[1] - zero, 3)],
        "resumed": bool(acks) and acks[-1]["t"] >= gap[1],
        "rows_acknowledged": len(acknowledged) + len(drill.of("witness")),
        "rows_lost": sum(len(numbers) for numbers in lost.values()),
        "lost": lost,
        "rows_in_doubt": len(doubtful),
        "rows_in_doubt_present": len(doubtful) - len(absent),
        "in_doubt": sorted(doubtful),
        "client_errors": len(drill.of("error", "doubt")),
        "overlap_seconds": round(overlap(drill.of("ack", "witness")), 3),
        "leader_seconds": None if seen is None else round(seen - zero, 3),
        "undo_seconds": since["undo"],
        "recovered_seconds": since["recovered"],
        "redundancy_seconds": since["redundant"],
        "leader_before": before,
        "leader_after": after,
        "rules": rules(drill),
        "latency_before": percentiles(x for x in acks if x["t"] <= min(zero, gap[0])),
        "latency_after": percentiles(x for x in acks if x["t"] > max(zero, gap[1])),
    }
