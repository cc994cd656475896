# SPDX-License-Identifier: GPL-3.0-or-later
"""What is remembered from view to view: settled settings, stalled standbys, counts and times."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.builders import (
    ME,
    NOW,
    cluster,
    lease,
    primary,
    row,
    standby,
    starting,
    stopped,
    sync_key,
    synchronous,
    view,
)
from pgherd.model import LeaderKey
from pgherd.tracking import Tracker

if TYPE_CHECKING:
    from pgherd.model import Cluster, Instance
    from pgherd.view import View

STALL = 2.5
ANY_ONE = 'ANY 1 ("pg2","pg3")'
LED = synchronous(ME, sync_key(ME, "pg2,pg3"))


class Tracked:
    """A tracker, and the time of its last view."""

    def __init__(self) -> None:
        self.tracker = Tracker(STALL)
        self.now = NOW

    def see(
        self,
        instance: Instance,
        known: Cluster | None = LED,
        *,
        after: float = 0.1,
        answers: bool = True,
        operation: str | None = None,
    ) -> View:
        """Have one view of *instance*, *after* seconds after the one before."""
        self.now += after
        self.tracker.look(known, instance, self.now, answers=answers, operation=operation)
        good = lease(self.now - NOW + 4)
        seen = view(instance, cluster=known, now=self.now, lease=good, store_answers=answers)
        return self.tracker.complete(seen)


@pytest.fixture
def tracked() -> Tracked:
    return Tracked()


def waits(names: str = ANY_ONE, **flushed: int) -> Instance:
    """Return a primary at 0x3000 that has *names* in force, standbys having *flushed* so much."""
    rows = tuple(row(name, flush) for name, flush in flushed.items())
    return primary(sync_names=names, replication=rows)


class TestSettled:
    """From then on every acknowledged commit is on as many standbys as the names ask for."""

    def test_it_is_seen_then_the_checkpointer_then_where_wal_is_then_who_has_it(
        self, tracked: Tracked
    ) -> None:
        level = waits(pg2=0x3000, pg3=0x2000)
        assert [tracked.see(level).settled for _ in range(5)] == [False, False, False, True, True]

    def test_the_position_is_that_of_the_view_after_an_idle_checkpointer(
        self, tracked: Tracked
    ) -> None:
        """A backend may have acknowledged without waiting until then."""
        for _ in range(2):
            tracked.see(waits(pg2=0x3000))
        tracked.see(replace(waits(pg2=0x3000), location=0x4000))
        for flush, is_settled in ((0x3FFF, False), (0x4000, True), (0x3FFF, True)):
            later = replace(waits(pg2=flush), location=0x9000)
            assert tracked.see(later).settled is is_settled

    def test_a_busy_checkpointer_has_not_read_it_yet(self, tracked: Tracked) -> None:
        """Until it has, backends of a primary that had no names before do not wait at all."""
        busy = replace(waits(pg2=0x3000), checkpointer_idle=False)
        for _ in range(5):
            assert not tracked.see(busy).settled
        idle = replace(waits(pg2=0x3000), location=0x5000)
        for _ in range(3):
            assert not tracked.see(idle).settled
        assert tracked.see(waits(pg2=0x5000)).settled

    def test_idle_when_the_setting_was_first_seen_proves_nothing(self, tracked: Tracked) -> None:
        tracked.see(waits(pg2=0x3000))
        busy = replace(waits(pg2=0x3000), checkpointer_idle=False)
        assert not tracked.see(busy).settled
        assert not tracked.see(busy).settled

    @pytest.mark.parametrize(
        ("names", "flushed", "is_settled"),
        [
            ('ANY 2 ("pg2","pg3")', {"pg2": 0x3000, "pg3": 0x2FFF}, False),
            ('ANY 2 ("pg2","pg3")', {"pg2": 0x3000, "pg3": 0x3000}, True),
            ('2 ("pg2","pg3")', {"pg2": 0x3000}, False),
            ('ANY 1 ("pg2")', {"pg3": 0x3000}, False),
            ("", {}, True),
            ('ANY 1 ("pg2")', {}, False),
        ],
    )
    def test_as_many_of_those_named_must_have_it_as_are_asked_for(
        self, tracked: Tracked, names: str, flushed: dict[str, int], *, is_settled: bool
    ) -> None:
        seen = [tracked.see(waits(names, **flushed)).settled for _ in range(5)]
        assert seen[-1] is is_settled

    @pytest.mark.parametrize(
        "changes",
        [{"sync_names": 'ANY 1 ("pg2")'}, {"timeline": 2}],
        ids=["other names", "another timeline"],
    )
    def test_another_setting_begins_anew(self, tracked: Tracked, changes: dict[str, Any]) -> None:
        level = waits(pg2=0x3000)
        for _ in range(4):
            tracked.see(level)
        other = replace(level, **changes)
        assert [tracked.see(other).settled for _ in range(4)] == [False, False, False, True]

    def test_a_view_of_anything_else_begins_anew(self, tracked: Tracked) -> None:
        """It may have been restarted or demoted, and promoted by somebody else meanwhile."""
        level = waits(pg2=0x3000)
        for _ in range(4):
            tracked.see(level)
        tracked.see(starting(in_recovery=None))
        assert [tracked.see(level).settled for _ in range(4)] == [False, False, False, True]

    def test_a_standby_has_nothing_settled(self, tracked: Tracked) -> None:
        for _ in range(5):
            assert not tracked.see(standby()).settled


class TestStalled:
    def moves(self, tracked: Tracked, flush: int, **changes: Any) -> frozenset[str]:
        """Return who is stalled when pg2 has flushed up to *flush*."""
        after = changes.pop("after", 1.0)
        instance = replace(waits(pg2=flush, pg3=0x3000), **changes)
        return tracked.see(instance, after=after).stalled

    def test_one_that_does_not_move_though_there_is_wal_is_after_a_while(
        self, tracked: Tracked
    ) -> None:
        assert not self.moves(tracked, 0x2000)
        assert not self.moves(tracked, 0x2000, after=STALL)
        assert self.moves(tracked, 0x2000, after=0.1) == {"pg2"}

    def test_one_that_moves_is_not_however_far_it_is_behind(self, tracked: Tracked) -> None:
        for flush in range(0x10, 0x20):
            assert not self.moves(tracked, flush)

    def test_one_that_has_all_there_is_is_not(self, tracked: Tracked) -> None:
        for _ in range(5):
            assert not self.moves(tracked, 0x3000)

    def test_one_that_moves_again_is_none_any_more(self, tracked: Tracked) -> None:
        for _ in range(5):
            self.moves(tracked, 0x2000)
        assert not self.moves(tracked, 0x2001)

    def test_its_time_begins_when_it_is_first_seen_behind(self, tracked: Tracked) -> None:
        """Rounds of an idle leader are far apart; what is written just before one is no stall."""
        for _ in range(3):
            self.moves(tracked, 0x3000, after=10)
        assert not self.moves(tracked, 0x3000, after=10, location=0x3100)
        assert not self.moves(tracked, 0x3000, after=STALL, location=0x3100)
        assert self.moves(tracked, 0x3000, after=0.1, location=0x3100) == {"pg2", "pg3"}

    def test_a_new_connection_gets_new_time(self, tracked: Tracked) -> None:
        self.moves(tracked, 0x2000)
        tracked.see(primary(), after=STALL)
        assert not self.moves(tracked, 0x2000)

    def test_without_a_flushed_position_time_counts_too(self, tracked: Tracked) -> None:
        """One whose walsender has just begun is not refused at once."""
        instance = primary(replication=(row("pg2", None),))
        assert not tracked.see(instance).stalled
        assert tracked.see(instance, after=STALL + 0.1).stalled == {"pg2"}


class TestAlone:
    def test_it_is_counted_from_when_the_last_standby_went(self, tracked: Tracked) -> None:
        assert tracked.see(waits(pg2=0x3000)).alone_since is None
        first = tracked.see(waits())
        assert first.alone_since == first.now
        assert tracked.see(waits()).alone_since == first.now
        assert tracked.see(waits(pg2=0x3000)).alone_since is None
        again = tracked.see(waits())
        assert again.alone_since == again.now

    def test_a_standby_that_stalls_leaves_it_alone(self, tracked: Tracked) -> None:
        assert tracked.see(waits(pg2=0x2000)).alone_since is None
        assert tracked.see(waits(pg2=0x2000), after=STALL + 0.1).alone_since is not None

    def test_a_standby_is_never_alone(self, tracked: Tracked) -> None:
        assert tracked.see(standby()).alone_since is None

    def test_a_new_primary_counts_from_its_first_view_as_one(self, tracked: Tracked) -> None:
        tracked.see(standby())
        first = tracked.see(waits())
        assert first.promoted_at == first.alone_since == first.now
        later = tracked.see(waits())
        assert later.promoted_at == first.now

    def test_a_restart_of_postgresql_counts_as_a_promotion(self, tracked: Tracked) -> None:
        """The standbys have to connect again as well."""
        tracked.see(waits(pg2=0x3000))
        tracked.see(stopped("in production"))
        again = tracked.see(waits())
        assert again.promoted_at == again.alone_since == again.now


class TestStarts:
    def test_a_start_that_never_answered_is_a_failure(self, tracked: Tracked) -> None:
        tracked.see(starting())
        assert tracked.see(stopped()).start_failures == 1
        assert tracked.see(stopped()).start_failures == 1

    def test_one_that_ends_slowly_has_not_failed_to_start(self, tracked: Tracked) -> None:
        tracked.see(primary())
        tracked.see(starting())
        assert tracked.see(stopped()).start_failures == 0
        tracked.see(starting())
        assert tracked.see(stopped()).start_failures == 1

    def test_one_that_takes_long_has_not_failed(self, tracked: Tracked) -> None:
        for _ in range(3):
            assert tracked.see(starting()).start_failures == 0

    @pytest.mark.parametrize(
        ("known", "former"),
        [
            (cluster(ME, history=((1, 5, "", "2026", ME),), sync=sync_key(ME, "pg2")), None),
            (cluster(None, history=((1, 5, ""),)), None),
            (cluster(None, history=((1, 5, "", "2026", "pg3"),)), "pg3"),
            (synchronous(None, sync_key("pg2")), "pg2"),
        ],
    )
    def test_who_led_before_us_is_known_from_etcd_after_a_restart(
        self, tracked: Tracked, known: Cluster, former: str | None
    ) -> None:
        tracked.see(standby(), known)
        found = tracked.tracker.former_leader
        assert (found.name if found else None) == former

    def test_one_under_way_is_counted_from_its_first_view(self, tracked: Tracked) -> None:
        first = tracked.see(starting())
        assert tracked.see(starting()).starting_since == first.now
        assert tracked.see(standby()).starting_since is None

    def test_an_answer_makes_up_for_failures(self, tracked: Tracked) -> None:
        tracked.see(starting())
        tracked.see(stopped())
        assert tracked.see(standby()).start_failures == 0

    def test_what_an_operation_stops_has_not_failed(self, tracked: Tracked) -> None:
        tracked.see(starting())
        assert tracked.see(stopped(), operation="start primary").start_failures == 0

    @pytest.mark.parametrize("operation", ["demote", "stop", "switchover"])
    def test_one_that_was_stopped_has_not_failed_to_start(
        self, tracked: Tracked, operation: str
    ) -> None:
        """It answers no more while it stops; its leader would give the key up for that."""
        tracked.see(primary())
        tracked.see(starting(in_recovery=None), operation=operation)
        assert tracked.see(stopped("shut down")).start_failures == 0


class TestTheLeader:
    def test_the_free_key_is_counted_from_when_it_was_seen_gone(self, tracked: Tracked) -> None:
        assert tracked.see(standby(), cluster()).unlocked_since is None
        first = tracked.see(standby(), cluster(None))
        assert tracked.see(standby(), cluster(None)).unlocked_since == first.now
        assert tracked.see(standby(), cluster(None), answers=False).unlocked_since is None

    def test_the_last_leader_but_us_is_remembered(self, tracked: Tracked) -> None:
        tracked.see(standby(), cluster("pg2"))
        tracked.see(standby(), cluster(None))
        tracked.see(standby(), cluster(ME))
        assert tracked.tracker.former_leader == LeaderKey("pg2", 99, 5)

    def test_how_long_we_are_held_back_is_told(self, tracked: Tracked) -> None:
        tracked.tracker.held_back_until = NOW + 10
        assert tracked.see(standby(), cluster(None)).is_held_back
        assert not tracked.see(standby(), cluster(None), after=10).is_held_back

    def test_nobody_is_held_back_once_somebody_else_has_led(self, tracked: Tracked) -> None:
        """A switchover back, seconds after the one there, was left to a third member."""
        tracked.tracker.held_back_until = NOW + 10
        assert tracked.see(standby(), cluster("pg2"), answers=False).is_held_back
        tracked.see(standby(), cluster("pg2"))
        assert not tracked.see(standby(), cluster(None)).is_held_back
