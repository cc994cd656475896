# SPDX-License-Identifier: GPL-3.0-or-later
"""Moments as people type them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final

import click

UNITS: Final = {"s": 1, "min": 60, "h": 3600, "d": 86400}


def moment(text: str, now: datetime) -> datetime | None:
    """Return the moment that *text* means, None for `now`.

    `2026-11-23T22:30` (in the time zone of *now* unless it names one), `22:30` (the next one),
    `+90s`, `+10min`, `+2h`, `+1d`.

    :raises ValueError: it means none.
    """
    text = text.strip()
    if text in ("", "now"):
        return None
    ahead = re.fullmatch(r"\+\s*(\d+)\s*(s|min|h|d)", text)
    if ahead:
        return now + timedelta(seconds=int(ahead[1]) * UNITS[ahead[2]])
    if re.fullmatch(r"\d{1,2}:\d{2}(:\d{2})?", text):
        hour, minute, *second = (int(part) for part in text.split(":"))
        at = now.replace(hour=hour, minute=minute, second=second[0] if second else 0, microsecond=0)
        return at if at > now else at + timedelta(days=1)
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=now.tzinfo)


def parse_schedule(text: str | None) -> str | None:
    """Return *text* as an ISO timestamp with its time zone, None for now.

    :raises click.UsageError: it is no moment.
    """
    try:
        at = moment(text or "now", datetime.now().astimezone())
    except ValueError as error:
        raise click.UsageError(
            f"{text!r} is no moment: write 2026-11-23T22:30, 22:30, +10min or now"
        ) from error
    return at.isoformat() if at else None


scheduled_option = click.option(
    "--scheduled",
    metavar="MOMENT",
    help="When: 2026-11-23T22:30 (with +01:00 or so, else local), 22:30, +10min, now.",
)
