# SPDX-License-Identifier: GPL-3.0-or-later
"""How old the WAL is that a standby lacks: from what the leader had written when."""

from __future__ import annotations

import pytest

from agent.tests.builders import cluster, member, primary, row, standby
from pgherd.lag import MOST_MARKS, Progress


def progress(*marks: tuple[int, float]) -> Progress:
    """Return what a leader remembers that was at these positions at these times."""
    known = Progress()
    for position, now in marks:
        known.note(position, now)
    return known


class TestAge:
    def test_who_has_everything_is_not_behind(self) -> None:
        assert progress((100, 1.0), (200, 2.0)).age(200, 50.0) == 0

    def test_it_is_counted_from_when_the_first_missing_byte_was_written(self) -> None:
        assert progress((100, 1.0), (200, 2.0), (300, 3.0)).age(100, 10.0) == 9.0
        assert progress((100, 1.0), (200, 2.0), (300, 3.0)).age(200, 10.0) == 8.0

    def test_between_two_marks_writing_was_even(self) -> None:
        assert progress((100, 1.0), (200, 2.0)).age(150, 10.0) == pytest.approx(8.5)

    def test_an_idle_hour_is_no_lag_of_the_write_after_it(self) -> None:
        """The time of the last commit that was applied would say an hour."""
        known = progress((100, 0.0), (100, 3600.0), (200, 3601.0))
        assert known.age(100, 3601.5) == 1.5

    def test_a_standby_that_stands_still_falls_behind(self) -> None:
        """PostgreSQL's own replay_lag keeps the last value it measured."""
        known = progress((100, 1.0), (200, 2.0))
        assert [known.age(100, now) for now in (2.0, 62.0)] == [1.0, 61.0]

    def test_what_is_older_than_our_memory_is_as_old_as_that_at_least(self) -> None:
        assert progress((100, 5.0), (200, 6.0)).age(40, 10.0) == 5.0

    def test_without_a_memory_nothing_is_said(self) -> None:
        assert Progress().age(40, 10.0) == 0

    def test_long_times_are_remembered_in_few_marks(self) -> None:
        known = progress(*((second * 10, float(second)) for second in range(100_000)))
        assert len(known._marks) <= MOST_MARKS
        assert known.age(500_000, 100_000.0) == pytest.approx(50_000, rel=0.05)
        assert known.age(999_980, 99_999.0) == pytest.approx(1.0)


class TestBehind:
    def test_of_a_standby_that_streams_postgresql_tells(self) -> None:
        leader = primary(replication=(row("pg2", replay=0x2000),), location=0x3000)
        known = cluster("pg1", members=[member("pg2", replay_lsn=0x1000)])
        seen = progress((0x2000, 1.0))
        assert seen.behind(leader, known, 5.0) == {"pg2": {"lag": 0x1000, "lag_seconds": 4.0}}

    def test_of_others_their_member_key(self) -> None:
        known = cluster("pg1", members=[member("pg3", replay_lsn=0x3000)])
        told = progress().behind(primary(location=0x3000), known, 5.0)
        assert told == {"pg3": {"lag": 0, "lag_seconds": 0.0}}

    def test_a_standby_does_not_know(self) -> None:
        assert progress().behind(standby(), cluster(), 5.0) == {}

    def test_who_leads_no_more_forgets(self) -> None:
        known = progress((0x1000, 1.0), (0x2000, 2.0))
        known.look(standby(), 3.0)
        known.look(primary(location=0x5000), 4.0)
        assert known.age(0x1000, 10.0) == 6.0
