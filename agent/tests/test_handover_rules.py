# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules of a handover: who can take over, what is refused, who goes first afterwards."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.builders import (
    ME,
    NOW,
    cluster,
    member,
    peer,
    peers,
    primary,
    row,
    standby,
    sync_key,
    synchronous,
    unlocked,
    view,
)
from pgherd.actions import EndHandover, HandOver, TakeKey
from pgherd.decide import decide
from pgherd.handover import Handover
from pgherd.rules.handover import MISSED_SECONDS, STAND_BACK_SECONDS, heirs, obstacle
from pgherd.settings import Tags

if TYPE_CHECKING:
    from pgherd.model import Cluster
    from pgherd.view import View

SWITCHOVER = Handover(ME, None)
TO_PG2 = Handover(ME, "pg2")
FAILOVER = Handover(None, "pg2")
BOTH = (row("pg2"), row("pg3"))
WALL = 1767225600.0


def leading(request: Handover | None = SWITCHOVER, **changes: Any) -> View:
    """Return the view of a leader whom pg2 and pg3 follow and who is asked to hand over."""
    instance = changes.pop("instance", primary(replication=BOTH))
    known = {"cluster": cluster(ME, handover=request), "wall": WALL}
    return view(instance, **{**known, **changes})


def rule(seen: View) -> str:
    return decide(seen).rule.name


def refusal(seen: View) -> str:
    """Return why the request is refused."""
    action = decide(seen).actions[0]
    assert isinstance(action, EndHandover), action
    assert action.state == "refused"
    return action.result


def asked(request: Handover, **changes: Any) -> Cluster:
    return cluster(ME, handover=request, **changes)


class TestWhoCanTakeOver:
    def test_the_one_with_the_most_wal_is_the_best(self) -> None:
        seen = leading(instance=primary(replication=(row("pg2", 0x2000), row("pg3"))))
        assert [each.name for each in heirs(seen, SWITCHOVER)] == ["pg3", "pg2"]

    def test_a_preferred_one_is_better(self) -> None:
        preferred = member("pg2", tags={"failover_priority": 5})
        seen = leading(
            instance=primary(replication=(row("pg2", 0x2000), row("pg3"))),
            cluster=asked(SWITCHOVER, members=[preferred]),
        )
        assert heirs(seen, SWITCHOVER)[0].name == "pg2"

    def test_one_that_has_the_failover_slots_is_better_still(self) -> None:
        """A subscriber would find no slot on the other one (PostgreSQL 17)."""
        has = member("pg3", pgherd={"failover_slots": ["sub"]})
        preferred = member("pg2", tags={"failover_priority": 5})
        slots = {"sub": {"type": "logical", "failover": True}}
        seen = leading(
            instance=primary(replication=BOTH, slots=slots),
            cluster=asked(SWITCHOVER, members=[preferred, has]),
        )
        assert [each.name for each in heirs(seen, SWITCHOVER)] == ["pg3", "pg2"]

    def test_so_is_one_that_has_copied_the_permanent_slots(self) -> None:
        """Before PostgreSQL 17."""
        has = member("pg3", pgherd={"failover_slots": ["sub"]})
        preferred = member("pg2", tags={"failover_priority": 5})
        config = {"slots": {"sub": {"type": "logical", "database": "app", "plugin": "pgoutput"}}}
        known = asked(SWITCHOVER, members=[preferred, has], config=config)
        for slots, best in (({"sub": {"type": "logical"}}, "pg3"), ({}, "pg2")):
            seen = leading(instance=primary(replication=BOTH, slots=slots), cluster=known)
            assert heirs(seen, SWITCHOVER)[0].name == best

    def test_only_the_candidate_counts_when_one_is_named(self) -> None:
        assert [each.name for each in heirs(leading(), TO_PG2)] == ["pg2"]

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            ({"state": "starting"}, "is not running"),
            ({"tags": {"nofailover": True}}, "nofailover"),
            ({"pgherd": {"unfit": True}}, "may not lead now"),
        ],
    )
    def test_what_it_says_itself_counts(self, data: dict[str, Any], words: str) -> None:
        seen = leading(cluster=asked(TO_PG2, members=[member("pg2", **data)]))
        assert words in (obstacle(seen, "pg2", TO_PG2) or "")
        assert refusal(seen) == f"switchover is not possible: {obstacle(seen, 'pg2', TO_PG2)}"

    def test_a_stranger_cannot(self) -> None:
        assert "no member" in (obstacle(leading(), "pg9", Handover(ME, "pg9")) or "")

    def test_whoever_is_not_streamed_to_cannot(self) -> None:
        """R13."""
        catching_up = leading(instance=primary(replication=(row("pg2", state="catchup"),)))
        assert "does not stream" in refusal(replace(catching_up, cluster=asked(TO_PG2)))
        assert "no good candidates" in refusal(catching_up)

    @pytest.mark.parametrize(("behind", "possible"), [(1048576, True), (1048577, False)])
    def test_whoever_is_too_far_behind_cannot(self, behind: int, *, possible: bool) -> None:
        """R13: what is missing has to be sent while nobody can write."""
        rows = (row("pg2", 0x200000 - behind),)
        seen = leading(TO_PG2, instance=primary(location=0x200000, replication=rows))
        assert (obstacle(seen, "pg2", TO_PG2) is None) is possible

    def test_a_switchover_goes_to_a_synchronous_standby_only(self) -> None:
        """R15; what only others have acknowledged it may lack while the old leader is away."""
        led = synchronous(ME, sync_key(ME, "pg3", 0), handover=TO_PG2)
        seen = leading(cluster=led)
        assert "no synchronous standby" in refusal(seen)
        to_any = replace(led, handover=FAILOVER)
        assert decide(replace(seen, cluster=to_any)).rule.name == "hand_over"


class TestTheLeader:
    def test_it_hands_over_to_the_best(self) -> None:
        assert decide(leading()).actions[0] == HandOver(SWITCHOVER, member("pg2"))

    def test_not_before_its_time(self) -> None:
        seen = leading(Handover(ME, None, at=WALL + 1))
        assert rule(seen) == "lead"
        assert rule(replace(seen, wall=WALL + 1)) == "hand_over"

    def test_nor_long_after_it(self) -> None:
        """R13: nobody expects it any more."""
        seen = leading(Handover(ME, None, at=WALL))
        assert rule(replace(seen, wall=WALL + MISSED_SECONDS)) == "hand_over"
        assert "its time has passed" in refusal(replace(seen, wall=WALL + MISSED_SECONDS + 1))

    def test_what_failed_here_is_not_tried_again(self) -> None:
        action = decide(leading(handover_failure="pg2 is gone")).actions[0]
        assert action == EndHandover(SWITCHOVER, "failed", "Switchover failed: pg2 is gone")

    @pytest.mark.parametrize(
        ("request_", "fired"),
        [(SWITCHOVER, "refuse_handover"), (TO_PG2, "hand_over"), (FAILOVER, "hand_over")],
    )
    def test_in_maintenance_mode_somebody_has_to_be_named(
        self, request_: Handover, fired: str
    ) -> None:
        """R42."""
        assert rule(leading(cluster=asked(request_, config={"pause": True}))) == fired

    def test_in_maintenance_mode_nothing_scheduled_happens(self) -> None:
        """R42."""
        scheduled = Handover(ME, "pg2", at=WALL)
        assert rule(leading(cluster=asked(scheduled, config={"pause": True}))) == "lead"

    @pytest.mark.parametrize("store_answers", [True, False])
    def test_it_needs_etcd_and_the_key(self, *, store_answers: bool) -> None:
        seen = leading(store_answers=store_answers, lease=None)
        assert "handover" not in rule(seen)
        assert "hand_over" not in rule(seen)

    def test_a_sick_leader_does_not_take_its_time(self) -> None:
        led = synchronous(ME, sync_key(ME, "pg2,pg3"), handover=SWITCHOVER)
        seen = leading(instance=primary(replication=BOTH, disk="it is full"), cluster=led)
        assert rule(seen) == "hand_over_unfit"

    def test_the_next_leader_writes_down_what_came_of_it(self) -> None:
        other = Handover("pg2", "pg3")
        action = decide(leading(other)).actions[0]
        assert action == EndHandover(other, "done", 'Switched over to "pg1" instead of "pg3"')


HEIR = {"name": ME, "position": 0x2FFF}


def orphaned(heir: dict[str, Any] | None = None, **changes: Any) -> View:
    """Return what a standby sees once the leader has left the lead to *heir*."""
    return unlocked(cluster=cluster(None, status={"heir": heir or HEIR}), **changes)


class TestTheHeir:
    def test_it_takes_the_key_without_anybody_s_vote(self) -> None:
        left = synchronous(None, sync_key(ME, "pg2,pg3", 1))
        seen = unlocked(cluster=replace(left, status={"heir": HEIR}))
        assert decide(seen).actions == (TakeKey(left.sync),)

    def test_not_before_it_has_the_shutdown_checkpoint(self) -> None:
        seen = orphaned({"name": ME, "position": 0x3000})
        assert rule(seen) == "take_key"
        assert decide(seen).rule is not decide(orphaned()).rule

    def test_not_when_somebody_has_led_since(self) -> None:
        """`/sync` names every new leader: what it has acknowledged we may lack."""
        left = synchronous(None, sync_key("pg3", "pg1,pg2", 1))
        seen = unlocked(cluster=replace(left, status={"heir": HEIR}))
        assert rule(seen) == "stop_receiving"

    @pytest.mark.parametrize(
        "changes", [{"lease": None}, {"tags": Tags(nofailover=True)}, {"held_back_until": NOW + 1}]
    )
    def test_not_while_it_may_not_lead(self, changes: dict[str, Any]) -> None:
        assert rule(orphaned(**changes)) == "cannot_lead"

    def test_in_maintenance_mode_too(self) -> None:
        seen = orphaned()
        assert seen.cluster is not None
        paused = replace(seen, cluster=replace(seen.cluster, config={"pause": True}))
        assert rule(paused) == "inherit"

    @pytest.mark.parametrize("heir", [{"name": ME}, {"name": ME, "position": "?"}, "pg1", None])
    def test_a_damaged_name_is_nobody(self, heir: Any) -> None:
        assert cluster(None, status={"heir": heir}).heir is None


class TestTheOthers:
    def test_they_leave_it_the_first_go(self) -> None:
        seen = orphaned({"name": "pg2", "position": 1})
        assert rule(seen) == "leave_it_to_heir"
        late = replace(seen, unlocked_since=NOW - STAND_BACK_SECONDS)
        assert rule(late) == "take_key"

    @pytest.mark.parametrize("request_", [FAILOVER, Handover("pg3", "pg2")])
    def test_they_leave_it_to_a_candidate(self, request_: Handover) -> None:
        seen = unlocked(cluster=cluster(None, handover=request_))
        assert rule(seen) == "leave_it_to_candidate"
        assert rule(replace(seen, unlocked_since=NOW - STAND_BACK_SECONDS)) == "take_key"

    def test_not_to_one_that_is_gone(self) -> None:
        seen = unlocked(cluster=cluster(None, handover=Handover(None, "pg9")))
        assert rule(seen) == "take_key"

    def test_they_have_cast_their_vote_before(self) -> None:
        """A candidate that is nobody's heir needs it."""
        left = synchronous(None, sync_key("pg3", "pg1,pg2"))
        seen = unlocked(cluster=replace(left, handover=Handover("pg3", "pg2")))
        assert rule(seen) == "stop_receiving"


class TestAFailover:
    def test_the_candidate_leads_whatever_it_lacks(self) -> None:
        """R14, R15: the operator has decided so."""
        left = synchronous(None, sync_key("pg3", "pg2", 0))
        seen = unlocked(
            standby(upstream=None, receiver_status=None),
            cluster=replace(left, handover=Handover(None, ME)),
            peers=peers(peer("pg2", position=0x9000)),
        )
        assert rule(seen) == "take_key_as_asked"

    def test_not_while_a_primary_lives(self) -> None:
        seen = unlocked(
            cluster=cluster(None, handover=Handover(None, ME)), peers=peers(peer(role="primary"))
        )
        assert rule(seen) == "primary_still_alive"

    def test_a_switchover_forces_nothing(self) -> None:
        left = synchronous(None, sync_key("pg3", "pg1,pg2"))
        seen = unlocked(
            standby(upstream=None, receiver_status=None),
            cluster=replace(left, handover=Handover("pg3", ME)),
        )
        assert rule(seen) == "votes_missing"
