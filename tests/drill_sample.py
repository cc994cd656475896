# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a drill as a realistic failover leaves them: 100 rows/s, some seconds without any."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

WALL = 1_800_000_000.0
START, FAULT, END = 100.0, 110.0, 140.0
META: dict[str, Any] = {
    "drill": "host_stop",
    "cluster": "main",
    "target": "pg1",
    "started": "2027-01-15T08:00:00Z",
    "profile": "normal",
    "settings": {"ttl": 10, "note": "<b>bold</b>"},
    "versions": {"postgresql": "17.4"},
    "thresholds": {"rto_seconds_max": 7},
}


def state(t: float, member: str, role: str, rule: str, timeline: int = 1) -> dict[str, Any]:
    """Return a line of an agent's state."""
    running = "running" if role == "leader" else "streaming"
    return {"kind": "state", "member": member, "t": t, "role": role, "timeline": timeline,
            "rule": rule, "state": "unknown" if role == "silent" else running}  # fmt: skip


def probe(gap: float = 5.0) -> list[dict[str, Any]]:
    """Return the probe's lines of a failover from pg1 to pg2 with *gap* seconds without rows."""
    dice = random.Random(6)
    lines: list[dict[str, Any]] = [
        {"kind": "start", "t": START, "wall": WALL, "run": "ab", "interval": 0.01,
         "entry": "10.0.0.9:5000", "members": ["pg1", "pg2", "pg3"]},
        state(START, "pg1", "leader", "lead"),
        state(START, "pg2", "replica", "follow"),
        state(START, "pg3", "replica", "follow"),
        state(FAULT + 0.4, "pg1", "silent", ""),
        state(FAULT + gap - 0.6, "pg3", "replica", "wait_for_sync"),
        state(FAULT + gap - 0.5, "pg2", "leader", "promote", 2),
        state(FAULT + gap, "pg2", "leader", "lead", 2),
        state(FAULT + gap + 1, "pg3", "replica", "follow", 2),
        state(FAULT + 20, "pg1", "replica", "rewind", 2),
        state(FAULT + 22, "pg1", "replica", "follow", 2),
    ]  # fmt: skip
    for number in range(1, int((END - START) * 100)):
        sent = START + number / 100
        old, new = sent < FAULT, sent >= FAULT + gap
        if old or new:
            host, timeline = ("pg1", 1) if old else ("pg2", 2)
            took = min(dice.lognormvariate(-5.6, 0.5), 0.009 if old else 0.2)
            row = {"sent": sent, "t": sent + took, "number": number, "timeline": timeline}
            lines.append({"kind": "ack", "host": host, **row})
            if number % 20 == 0:
                lines.append({"kind": "witness", "member": host, **row})
        elif number % 25 == 0:
            lines.append({"kind": "error", "t": sent, "error": "refused"})
    lines.append({"kind": "doubt", "t": FAULT + 1, "sent": FAULT, "number": 1000, "error": "gone"})
    return [*sorted(lines, key=lambda line: float(line["t"])), {"kind": "end", "t": END}]


def events() -> list[dict[str, Any]]:
    """Return what the playbook noted."""
    return [
        {"wall": WALL + 10, "name": "fault", "target": "pg1", "text": "Power off <pg1>"},
        {"wall": WALL + 27, "name": "undo", "target": "pg1", "text": "Power on"},
        {"wall": WALL + 33, "name": "recovered", "target": "", "text": "Healthy"},
        {"wall": WALL + 35, "name": "redundant", "target": "", "text": "All stream"},
    ]


def rows() -> dict[str, Any]:
    """Return which rows exist at the end: all but the one in doubt."""
    every = [[1, 999], [1001, 9999]]
    return {"present": every, "witness": {"pg1": every, "pg2": every}}


def write(directory: Path, lines: list[dict[str, Any]] | None = None, **more: Any) -> Path:
    """Write a drill's files; *more* is laid on meta.json. Return the directory."""
    directory.mkdir(parents=True)
    text = "".join(json.dumps(line) + "\n" for line in lines or probe())
    (directory / "probe.jsonl").write_text(text)
    (directory / "events.json").write_text(json.dumps(events()))
    (directory / "rows.json").write_text(json.dumps(rows()))
    (directory / "meta.json").write_text(json.dumps({**META, **more}))
    return directory
