# SPDX-License-Identifier: GPL-3.0-or-later
"""Moments as people type them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import click
import pytest

from pgherd.commands.schedule import moment, parse_schedule

ZONE = timezone(timedelta(hours=1))
NOW = datetime(2026, 11, 23, 12, 30, 15, tzinfo=ZONE)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-11-23T22:30", "2026-11-23T22:30:00+01:00"),
        ("2026-11-23 22:30:05", "2026-11-23T22:30:05+01:00"),
        ("2026-11-23T22:30Z", "2026-11-23T22:30:00+00:00"),
        ("2026-11-23T22:30-05:00", "2026-11-23T22:30:00-05:00"),
        ("22:30", "2026-11-23T22:30:00+01:00"),
        ("06:15", "2026-11-24T06:15:00+01:00"),
        ("+90s", "2026-11-23T12:31:45+01:00"),
        ("+10min", "2026-11-23T12:40:15+01:00"),
        ("+ 2h", "2026-11-23T14:30:15+01:00"),
        ("+1d", "2026-11-24T12:30:15+01:00"),
    ],
)
def test_a_moment_is_what_people_mean(text: str, meant: str) -> None:
    found = moment(text, NOW)
    assert found is not None
    assert found.isoformat() == meant


@pytest.mark.parametrize("text", ["now", "", " now "])
def test_now_is_no_moment_to_wait_for(text: str) -> None:
    assert moment(text, NOW) is None
    assert parse_schedule(text) is None


@pytest.mark.parametrize("text", ["soon", "25:00", "+10", "2026-13-01T00:00"])
def test_what_is_no_moment_is_refused_with_examples(text: str) -> None:
    with pytest.raises(click.UsageError, match="is no moment: write"):
        parse_schedule(text)


def test_what_is_sent_names_its_time_zone() -> None:
    sent = parse_schedule("2126-11-23T22:30")
    assert sent is not None
    assert datetime.fromisoformat(sent).tzinfo is not None
