# SPDX-License-Identifier: GPL-3.0-or-later
"""Moments as people and Patroni write them (ISO 8601), and as seconds since the epoch."""

from __future__ import annotations

from datetime import UTC, datetime


class ScheduleError(ValueError):
    """A moment that is none, or that leaves open which one it is.

    :ivar is_ambiguous: the time zone is missing.
    """

    def __init__(self, text: str, *, is_ambiguous: bool) -> None:
        super().__init__(text)
        self.is_ambiguous = is_ambiguous


def parse_time(text: str) -> float:
    """Return the seconds since the epoch that the ISO timestamp *text* stands for.

    :raises ScheduleError: it is none, or has no time zone.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ScheduleError(text, is_ambiguous=False) from error
    if moment.tzinfo is None:
        raise ScheduleError(text, is_ambiguous=True)
    return moment.timestamp()


def iso(at: float) -> str:
    """Return *at*, seconds since the epoch, as ISO timestamp in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat()
