# SPDX-License-Identifier: GPL-3.0-or-later
"""Timeline histories: who branched off where, and whether our WAL is part of somebody's past."""

from __future__ import annotations

from dataclasses import dataclass

from pgherd.model import parse_lsn


@dataclass(frozen=True)
class Branch:
    """Timeline *timeline* ended at *end* (bytes), for *reason*."""

    timeline: int
    end: int
    reason: str


def parse_history(text: str) -> tuple[Branch, ...]:
    """Read a timeline history file (`00000003.history`); lines that are none are skipped."""
    branches = []
    for line in text.splitlines():
        parts = line.split("\t", 2)
        if len(parts) >= 2 and parts[0].strip().isdigit():
            reason = parts[2] if len(parts) == 3 else ""
            branches.append(Branch(int(parts[0]), parse_lsn(parts[1].strip()), reason.strip()))
    return tuple(branches)


def switch_point(branches: tuple[Branch, ...], timeline: int) -> int | None:
    """Return where *timeline* ended in this history, None when it is no part of it."""
    return next((branch.end for branch in branches if branch.timeline == timeline), None)


def has_diverged(
    branches: tuple[Branch, ...], leader_timeline: int, timeline: int, position: int
) -> bool:
    """Tell whether WAL up to *position* on *timeline* is no part of the leader's past (R25).

    :param branches: the history of *leader_timeline*.
    :param position: the end of the WAL we hold, bytes.
    """
    if timeline == leader_timeline:
        return False
    end = switch_point(branches, timeline)
    return end is None or position > end
