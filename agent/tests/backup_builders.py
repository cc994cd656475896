# SPDX-License-Identifier: GPL-3.0-or-later
"""Repositories and segments for tests of backups, with defaults."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pgherd_backup.pgbackrest import Backup, Repository
from pgherd_backup.settings import Settings
from pgherd_backup.wal import segment_name
from pgherd_backup.walscan import Found

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# 2026-12-01 12:00:00 UTC: when the first backup ended.
NOON: Final = 1796126400
MIB: Final = 2**20


def names(first: int, last: int, timeline: int = 1) -> list[str]:
    """Return the segments from number *first* to number *last* of a timeline."""
    return [segment_name(timeline, number) for number in range(first, last + 1)]


def backup(**changes: Any) -> Backup:
    """Return a full backup that ended at noon with the segment 5, of 100 MiB."""
    known = Backup(
        label="20261201-115500F",
        type="full",
        repository=1,
        started=NOON - 300,
        stopped=NOON,
        size=100 * MIB,
        stored=20 * MIB,
        first_wal=segment_name(1, 4),
        last_wal=segment_name(1, 5),
        start_lsn=0x4000028,
        stop_lsn=0x5000100,
        error=False,
        database=1,
    )
    return replace(known, **changes)


def later(minutes: int, number: int, **changes: Any) -> Backup:
    """Return a backup that ended *minutes* after noon in the segment *number*."""
    at = NOON + 60 * minutes
    given = {
        "label": f"20261201-115500F_20261201-12{minutes:02d}00I",
        "type": "incr",
        "started": at - 30,
        "stopped": at,
        "first_wal": segment_name(1, number),
        "last_wal": segment_name(1, number),
        "start_lsn": (number << 24) + 0x28,
        "stop_lsn": (number << 24) + 0x100,
    }
    return backup(**{**given, **changes})


def repository(*backups: Backup, **changes: Any) -> Repository:
    """Return a repository with *backups*, or with the one of noon."""
    held = backups or (backup(),)
    return replace(
        Repository(1, "", held, "17-1", segment_name(1, 1), segment_name(1, 9)), **changes
    )


class Wal:
    """Archived segments that say what they are told to: each one a commit, a minute apart."""

    def __init__(
        self, numbers: Sequence[str], points: dict[str, str] | None = None, xids: int = 700
    ) -> None:
        self.names = list(numbers)
        self.read: list[str] = []
        self._points = points or {}
        self._first_xid = xids

    def at(self, name: str) -> float:
        """Return when the transaction of the segment *name* ended."""
        return NOON + 60.0 * (self.names.index(name) - 1)

    def segment(self, name: str) -> Found:
        self.read.append(name)
        points = frozenset(point for point, where in self._points.items() if where == name)
        number = self._first_xid + self.names.index(name)
        return Found(self.at(name), frozenset({number}), points)

    def last_end(self, given: Sequence[str]) -> float | None:
        return self.at(given[-1]) if given else None


def settings(place: Path, **changes: Any) -> Settings:
    """Return those of a member whose everything is below *place*."""
    known = Settings(
        stanza="demo",
        member="pg1",
        data_dir=str(place / "data"),
        bin_dir=str(place / "bin"),
        port=5432,
        socket_dir=str(place),
        agents={"pg1": "http://127.0.0.1:1", "pg2": "http://127.0.0.1:2"},
        repositories=[1],
        scratch_dir=str(place / "scratch"),
        report_dir=str(place),
        metrics_file=str(place / "drill.prom"),
        processes=1,
        canary_seconds=60,
    )
    return replace(known, **changes)
