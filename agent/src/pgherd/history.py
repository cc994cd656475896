# SPDX-License-Identifier: GPL-3.0-or-later
"""Timeline histories: who branched off where, and whether our WAL is part of somebody's past."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pgherd.model import parse_lsn

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# PostgreSQL takes such lines in a history file for comments (timeline.c).
PLACEHOLDER: Final = "# pgherd has given this number to a leader whose timeline is not known here\n"


@dataclass(frozen=True)
class Branch:
    """Timeline *timeline* ended at *end* (bytes), for *reason*."""

    timeline: int
    end: int
    reason: str


def skip_timelines(wal: Path, numbers: Iterable[int]) -> None:
    """Have the next promotion use none of these *numbers*, all from our own plus one on.

    PostgreSQL gives a new timeline the number after the last history file it finds in a row
    (findNewestTimeLine). A file that names no parent is never followed. It is archived like a real
    one: without it a restore would take the row to end there.

    :param wal: the directory `pg_wal`.
    :raises OSError: it cannot be written.
    """
    for number in numbers:
        path = wal / f"{number:08X}.history"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            continue
        with os.fdopen(descriptor, "w") as file:
            file.write(PLACEHOLDER)
            file.flush()
            os.fsync(file.fileno())
        (wal / "archive_status" / f"{path.name}.ready").touch(0o600)


def parse_history(text: str) -> tuple[Branch, ...]:
    """Read a timeline history file (`00000003.history`); lines that are none are skipped."""
    branches = []
    for line in text.splitlines():
        parts = line.split("\t", 2)
        if len(parts) >= 2 and parts[0].strip().isdigit():
            reason = parts[2] if len(parts) == 3 else ""
            branches.append(Branch(int(parts[0]), parse_lsn(parts[1].strip()), reason.strip()))
    return tuple(branches)


@dataclass(frozen=True)
class Past:
    """The WAL that somebody holds: its timelines, oldest first, and where it ends (bytes)."""

    timeline: int
    branches: tuple[Branch, ...]
    end: int

    @property
    def path(self) -> tuple[tuple[int, int | None], ...]:
        """Each timeline and where the next one branched off; the last one is open."""
        ended = tuple((branch.timeline, branch.end) for branch in self.branches)
        return (*ended, (self.timeline, None))

    @property
    def timelines(self) -> tuple[int, ...]:
        return tuple(timeline for timeline, _ in self.path)


@dataclass(frozen=True)
class Parting:
    """Where two pasts go apart, as far as their history files tell.

    :param timeline: the last timeline they share, 0 for none.
    :param begin: where it began, bytes.
    :param end: up to where they share it; None when neither has left it.
    """

    timeline: int
    begin: int
    end: int | None


def parting(ours: Past, theirs: Past) -> Parting:
    """Return where *ours* and *theirs* go apart.

    Two timelines of one number are one only if they branched off at the same place: each of two
    members may have been promoted to it. A history of ours that is missing is taken for theirs.
    """
    path = ours.path
    if not ours.branches and ours.timeline in theirs.timelines:
        path = theirs.path[: theirs.timelines.index(ours.timeline)] + path
    shared, begin, start = 0, 0, 0
    for (timeline, end), (other, other_end) in zip(path, theirs.path, strict=False):
        if timeline != other:
            break
        shared, begin = timeline, start
        if end is None or other_end is None or end != other_end:
            known = [each for each in (end, other_end) if each is not None]
            return Parting(shared, begin, min(known, default=None))
        start = end
    return Parting(shared, begin, start)


def has_left(ours: Past, theirs: Past) -> int | None:
    """Return where our WAL left *theirs* (R25), None when it is part of it by the history files."""
    fork = parting(ours, theirs).end
    if fork is None or (ours.end <= fork and ours.timeline in theirs.timelines):
        return None
    return min(fork, ours.end)
