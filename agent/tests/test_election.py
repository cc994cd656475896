# SPDX-License-Identifier: GPL-3.0-or-later
"""The election: which standby takes a free key, in every small world.

R-numbers are those of the checklist of Patroni's behaviours that the design refers to.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.builders import (
    ME,
    NOW,
    cluster,
    lease,
    member,
    peer,
    peers,
    primary,
    standby,
    sync_key,
    synchronous,
    unlocked,
    view,
)
from pgherd.actions import (
    Follow,
    StopReceiving,
)
from pgherd.decide import decide
from pgherd.handover import Handover
from pgherd.model import Cluster, SyncKey
from pgherd.quorum import Acknowledging, Electing, holds
from pgherd.settings import Tags

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgherd.view import Peer, View

# A standby that has stopped receiving: what it has is its vote.
SILENT = standby(upstream=None, receiver_status=None)
FAILSAFE = {name: f"http://{name}:8008" for name in ("pg1", "pg2", "pg3")}


def fired(seen: View) -> str:
    """Return the name of the rule that fires for *seen*."""
    return decide(seen).rule.name


class TestElection:
    """R7 to R12."""

    @pytest.mark.parametrize(("behind", "rule"), [(1048576, "take_key"), (1048577, "cannot_lead")])
    def test_maximum_lag_on_failover_is_counted_from_what_the_leader_published(
        self, behind: int, rule: str
    ) -> None:
        """R8."""
        seen = unlocked(standby(received=0x3000), cluster=cluster(None, optime=0x3000 + behind))
        assert fired(seen) == rule

    def test_maximum_lag_on_failover_is_the_clusters(self) -> None:
        """R8."""
        strict = cluster(None, optime=0x3001, config={"maximum_lag_on_failover": 0})
        assert fired(unlocked(cluster=strict)) == "cannot_lead"

    @pytest.mark.parametrize(
        ("wanted", "timeline", "rule"),
        [
            (True, 2, "cannot_lead"),
            (True, None, "cannot_lead"),
            (True, 3, "take_key"),
            (False, 2, "take_key"),
        ],
    )
    def test_check_timeline_keeps_those_of_an_ended_timeline_out(
        self, wanted: bool, timeline: int | None, rule: str
    ) -> None:
        """R8."""
        history = ((1, 10, "no recovery target specified"), (2, 20, "no recovery target specified"))
        ended = cluster(None, history=history, config={"check_timeline": wanted})
        assert fired(unlocked(standby(timeline=timeline), cluster=ended)) == rule

    @pytest.mark.parametrize("held", [None, lease(0)], ids=["none", "over"])
    def test_nobody_runs_without_a_good_lease(self, held: Any) -> None:
        assert fired(unlocked(lease=held)) == "cannot_lead"

    @pytest.mark.parametrize("can_lead", [True, False])
    def test_a_live_primary_ends_the_race_whatever_its_limits(self, can_lead: bool) -> None:
        """R9, without its hole: a primary tagged nofailover is noticed as well."""
        alive = peer(role="primary", can_lead=can_lead, timeline=None, position=0)
        assert fired(unlocked(peers=peers(alive))) == "primary_still_alive"

    def test_a_longer_history_beats_more_wal(self) -> None:
        """R12: the timeline comes first."""
        newer = peer(timeline=2, position=0x10)
        assert fired(unlocked(peers=peers(newer))) == "peer_is_ahead"
        older = peer(timeline=1, position=0x9000)
        assert fired(unlocked(standby(timeline=2), peers=peers(older))) == "take_key"

    def test_nobody_waits_for_a_peer_that_cannot_lead(self) -> None:
        """R9: those with nofailover are not counted."""
        unfit = peer(position=0x9000, can_lead=False)
        assert fired(unlocked(peers=peers(unfit))) == "take_key"

    @pytest.mark.parametrize(
        ("answer", "rule"),
        [
            (peer("pg0"), "peer_is_preferred"),
            (peer("pg2"), "take_key"),
            (peer("pg2", priority=2), "peer_is_preferred"),
            (peer("pg0", priority=0), "take_key"),
            (peer("pg0", position=0x2FFF), "take_key"),
        ],
    )
    def test_equals_are_ordered_by_priority_then_by_name(self, answer: Any, rule: str) -> None:
        """R9."""
        assert fired(unlocked(peers=peers(answer))) == rule

    def test_an_equal_that_cannot_lead_is_not_waited_for(self) -> None:
        assert fired(unlocked(peers=peers(peer("pg0", can_lead=False)))) == "take_key"

    def test_the_preferred_one_of_two_equals_has_no_veto(self) -> None:
        seen = unlocked(peers=peers(peer("pg0")), unlocked_since=NOW - 1.99)
        assert fired(seen) == "peer_is_preferred"
        assert fired(replace(seen, unlocked_since=NOW - 2)) == "take_key"


def electing(*answers: Peer, sync: SyncKey | None = None, **changes: Any) -> View:
    """Return what pg1 sees in an election with `/sync`: pg2 led, pg1 and pg3 acknowledged."""
    known = {"cluster": synchronous(None, sync or sync_key()), "peers": peers(*answers)}
    return unlocked(changes.pop("instance", SILENT), **{**known, **changes})


class TestVotes:
    """Two of pg1, pg2 and pg3 have every commit that pg2 has acknowledged."""

    def test_the_own_vote_and_one_more_are_enough_for_a_quorum_of_one(self) -> None:
        assert fired(electing()) == "votes_missing"
        assert fired(electing(peer("pg3"))) == "take_key"

    def test_whom_sync_names_needs_nobodys_vote(self) -> None:
        """It had every commit when it took the key, and nobody has led since."""
        assert fired(electing(sync=sync_key(ME, "pg2,pg3", 2))) == "take_key"
        ahead = electing(peer("pg3", position=0x3001), sync=sync_key(ME, "pg2,pg3", 2))
        assert fired(ahead) == "peer_is_ahead"

    def test_the_former_leader_votes_too(self) -> None:
        assert fired(electing(peer("pg2"))) == "take_key"

    @pytest.mark.parametrize(("quorum", "rule"), [(0, "take_key"), (2, "votes_missing")])
    def test_the_quorum_is_what_etcd_says(self, quorum: int, rule: str) -> None:
        assert fired(electing(peer("pg3"), sync=sync_key(quorum=quorum))) == rule

    @pytest.mark.parametrize(
        "answer",
        [
            peer("pg4"),
            peer("pg3", receives=True),
            peer("pg3", position=0),
            peer("pg3", role=""),
            peer("pg3", position=0x3001, can_lead=False),
            peer("pg3", timeline=2, position=0x10, can_lead=False),
        ],
        ids=["stranger", "receives", "no position", "not running", "ahead", "later timeline"],
    )
    def test_an_answer_that_proves_nothing_is_no_vote(self, answer: Peer) -> None:
        assert fired(electing(answer)) == "votes_missing"

    def test_one_that_is_behind_votes_though_it_may_not_lead(self) -> None:
        assert fired(electing(peer("pg3", position=1, can_lead=False))) == "take_key"

    def test_the_vote_of_a_later_position_on_an_older_timeline_counts(self) -> None:
        instance = standby(timeline=2, upstream=None, receiver_status=None)
        seen = electing(peer("pg3", timeline=1, position=0x9000), instance=instance)
        assert fired(seen) == "take_key"

    def test_who_is_no_voter_needs_a_whole_quorum_of_others(self) -> None:
        """Its own copy proves nothing: it need not have a single one of the last commits."""
        others = sync_key("pg2", "pg3,pg4")
        assert fired(electing(peer("pg3"), sync=others)) == "votes_missing"
        assert fired(electing(peer("pg3"), peer("pg4"), sync=others)) == "take_key"

    def test_a_leader_that_had_nobody_is_succeeded_by_nobody(self) -> None:
        alone = sync_key("pg2", "", 0)
        assert fired(electing(peer("pg3"), peer("pg4"), sync=alone)) == "votes_missing"
        assert fired(electing(peer("pg2"), sync=alone)) == "take_key"

    def test_a_peer_that_is_ahead_and_can_lead_goes_first(self) -> None:
        assert fired(electing(peer("pg3", position=0x3001))) == "peer_is_ahead"

    def test_equals_are_still_ordered_by_priority_and_name(self) -> None:
        seen = electing(peer("pg3", priority=2))
        assert fired(seen) == "peer_is_preferred"
        assert fired(replace(seen, unlocked_since=NOW - 2)) == "take_key"

    def test_with_votes_the_lag_behind_what_was_published_is_moot(self) -> None:
        """What q + 1 members do not have was never acknowledged, however much WAL it is."""
        far = replace(synchronous(None, sync_key()), optime=0x3000 + 2**30)
        assert fired(electing(peer("pg3"), cluster=far)) == "take_key"
        none = replace(far, sync=None)
        assert fired(electing(peer("pg3"), cluster=none)) == "cannot_lead"

    @pytest.mark.parametrize(
        "instance",
        [
            standby(receiver_status="streaming", upstream=None),
            standby(receiver_status=None, upstream="pg2:5432"),
            standby(receiver_status="waiting"),
        ],
    )
    def test_a_standby_that_receives_or_would_stops_that_first(self, instance: Any) -> None:
        """Also one that may not lead itself: the others need its vote."""
        seen = electing(peer("pg3"), instance=instance, tags=Tags(nofailover=True))
        assert decide(seen).actions == (StopReceiving(),)

    def test_without_sync_nobody_stops_receiving(self) -> None:
        assert fired(unlocked(standby())) == "take_key"

    @pytest.mark.parametrize(
        "changes",
        [
            {"held_back_until": NOW + 0.1},
            {"instance": replace(SILENT, disk="it is full")},
            {"watchdog_missing": True},
            {"tags": Tags(nofailover=True)},
            {"lease": None},
        ],
        ids=["held back", "sick disk", "no watchdog", "nofailover", "no lease"],
    )
    def test_who_may_not_lead_does_not_stand(self, changes: dict[str, Any]) -> None:
        seen = electing(peer("pg3"), **changes)
        assert fired(seen) == "cannot_lead"
        assert not seen.can_lead

    def test_who_gave_the_key_up_stands_again_when_its_time_is_over(self) -> None:
        assert fired(electing(peer("pg3"), held_back_until=NOW)) == "take_key"


class TestAPrimaryWithoutItsKey:
    def test_it_retakes_a_free_key_while_sync_names_it(self) -> None:
        seen = unlocked(primary(), cluster=synchronous(None, sync_key(ME, "pg2,pg3")))
        assert fired(seen) == "retake_key"

    def test_once_another_has_led_it_steps_down(self) -> None:
        seen = unlocked(primary(), cluster=synchronous(None, sync_key("pg2", "pg1,pg3")))
        assert fired(seen) == "demote_without_key"

    def test_a_free_key_is_not_retaken_by_an_unfit_one(self) -> None:
        free = synchronous(None, sync_key(ME, "pg2,pg3"))
        seen = unlocked(primary(disk="it is full"), cluster=free)
        assert fired(seen) == "demote_without_key"

    def test_a_key_that_came_without_an_election_is_given_up(self) -> None:
        """Somebody put our name there: pg2's commits may be missing here."""
        led = synchronous(ME, sync_key("pg2", "pg1,pg3"))
        assert fired(view(SILENT, cluster=led)) == "give_up_unelected_key"


class TestFailsafe:
    """A leader without etcd may hold the promises of a majority."""

    PROMISING = cluster(None, config={"failsafe_mode": True}, failsafe=FAILSAFE)

    def free(self, *answers: Peer, **changes: Any) -> View:
        """Return what pg1 sees of a free key in failsafe mode."""
        return unlocked(**{"cluster": self.PROMISING, "peers": peers(*answers), **changes})

    def test_a_majority_of_the_members_must_answer(self) -> None:
        assert fired(self.free()) == "minority"
        assert fired(self.free(peer("pg4"))) == "minority"
        assert fired(self.free(peer("pg3"))) == "take_key"

    def test_half_of_the_members_is_no_majority(self) -> None:
        four = replace(self.PROMISING, failsafe={**FAILSAFE, "pg4": "http://pg4:8008"})
        assert fired(self.free(peer("pg3"), cluster=four)) == "minority"
        assert fired(self.free(peer("pg3"), peer("pg4"), cluster=four)) == "take_key"

    def test_one_that_the_leader_did_not_know_does_not_stand(self) -> None:
        others = {name: url for name, url in FAILSAFE.items() if name != ME}
        known = replace(self.PROMISING, failsafe=others)
        assert fired(self.free(peer("pg2"), peer("pg3"), cluster=known)) == "minority"

    def test_one_promise_anywhere_is_in_the_way(self) -> None:
        assert fired(self.free(peer("pg3", promised_to="pg2"))) == "promised"
        assert fired(self.free(peer("pg3"), promised_to="pg2")) == "promised"
        assert fired(self.free(peer("pg3"), promised_to="somebody")) == "promised"

    def test_promises_to_oneself_are_not(self) -> None:
        assert fired(self.free(peer("pg3", promised_to=ME), promised_to=ME)) == "take_key"

    def test_who_has_promised_streams_on_from_whoever_asked(self) -> None:
        """Its commits wait for somebody who has them."""
        sync = synchronous(None, sync_key("pg2"), failsafe_mode=True)
        promised = {"cluster": sync, "promised_to": "pg2", "promised": member("pg2")}
        assert decide(unlocked(standby(), **promised)).actions == ()
        assert fired(unlocked(standby(), **promised)) == "keep_promise"
        elsewhere = decide(unlocked(SILENT, **promised))
        assert elsewhere.actions == (Follow(member("pg2")),)

    @pytest.mark.parametrize(
        "known",
        [
            synchronous(None, sync_key("pg3"), failsafe_mode=True),
            synchronous(None, sync_key("pg2")),
            synchronous(None, None, failsafe_mode=True),
        ],
        ids=["another led last", "mode off", "no sync"],
    )
    def test_of_nobody_else_is_it_known_that_its_wal_is_ours(self, known: Any) -> None:
        seen = unlocked(SILENT, cluster=known, promised_to="pg2", promised=member("pg2"))
        assert fired(seen) != "keep_promise"

    def test_with_the_mode_off_neither_counts(self) -> None:
        off = cluster(None, failsafe=FAILSAFE)
        assert fired(self.free(cluster=off, promised_to="pg2")) == "take_key"

    def test_before_a_leader_has_written_the_members_down_there_is_nobody_to_ask(self) -> None:
        assert fired(self.free(cluster=replace(self.PROMISING, failsafe={}))) == "take_key"


@pytest.mark.parametrize("quorum", [0, 1, 2])
@pytest.mark.parametrize("leader", ["pg0", "pg1", "pg2"])
def test_a_candidate_with_votes_has_what_every_group_of_acknowledgers_has(
    quorum: int, leader: str
) -> None:
    """Every world of three: whoever takes the key has each commit that could be acknowledged."""
    names = {f"pg{index}" for index in range(3)}
    electorate = Electing(frozenset(names - {leader}), quorum)
    acknowledging = Acknowledging(2 - quorum, electorate.voters)
    assert holds(electorate, acknowledging)
    for positions in itertools.product((1, 2, 3), repeat=3):
        held = dict(zip(sorted(names), positions, strict=True))
        # A commit at 3 is acknowledged when the leader and `count` of the others have it.
        have = [name for name in electorate.voters if held[name] >= 3]
        if held[leader] < 3 or len(have) < acknowledging.count:
            continue
        for me in names:
            answers = [peer(name, position=held[name]) for name in names - {me}]
            for heard in itertools.product((True, False), repeat=2):
                chosen = [each for each, is_heard in zip(answers, heard, strict=True) if is_heard]
                seen = unlocked(
                    replace(SILENT, received=held[me], replayed=held[me]),
                    me=me,
                    cluster=synchronous(None, SyncKey(leader, electorate, 8)),
                    peers=peers(*chosen),
                    unlocked_since=NOW - 5,
                )
                takes = fired(seen) == "take_key"
                assert not takes or held[me] >= 3, (held, me, chosen)


def candidates(count: int) -> Iterator[tuple[tuple[int, int, int], ...]]:
    """Yield every world of *count* members with (timeline, position, priority) each."""
    histories = ((1, 0x3000), (2, 0x2000), (2, 0x3000))
    kinds = [(*history, priority) for history in histories for priority in (1, 2)]
    return itertools.product(kinds, repeat=count)


def seen_by(
    index: int, world: tuple[tuple[int, int, int], ...], hears: set[int], waited: float
) -> View:
    """Return what member *index* of *world* sees when only the members *hears* answer."""
    timeline, position, priority = world[index]
    answers = [
        peer(f"pg{other}", timeline=world[other][0], position=world[other][1],
             priority=world[other][2])
        for other in hears - {index}
    ]  # fmt: skip
    return unlocked(
        standby(timeline=timeline, received=position, replayed=position),
        me=f"pg{index}",
        tags=Tags(failover_priority=priority),
        peers=peers(*answers),
        unlocked_since=NOW - waited,
    )


def takers(world: tuple[tuple[int, int, int], ...], waited: float) -> list[int]:
    """Return who takes the key when everybody hears everybody."""
    everybody = set(range(len(world)))
    return [
        index
        for index in everybody
        if decide(seen_by(index, world, everybody, waited)).rule.name == "take_key"
    ]


class TestEveryElectionOfTwoAndThree:
    @pytest.mark.parametrize("count", [2, 3])
    def test_exactly_one_takes_the_key_at_once(self, count: int) -> None:
        wrong = [world for world in candidates(count) if len(takers(world, 0)) != 1]
        assert wrong == []

    @pytest.mark.parametrize("count", [2, 3])
    def test_after_the_grace_of_ties_only_the_best_histories_take_it(self, count: int) -> None:
        """Equals may all try: etcd creates the key once."""
        for world in candidates(count):
            best = max(history[:2] for history in world)
            won = takers(world, 2.0)
            assert won
            assert {world[index][:2] for index in won} == {best}

    def test_the_best_one_takes_it_whoever_it_hears(self) -> None:
        subsets = [set(chosen) for size in range(4) for chosen in
                   itertools.combinations(range(3), size)]  # fmt: skip
        for world in candidates(3):
            order = sorted(range(3), key=lambda each: (world[each], -each), reverse=True)
            for hears in subsets:
                decision = decide(seen_by(order[0], world, hears, 0))
                assert decision.rule.name == "take_key", (world, hears)


class TestARemovedCluster:
    """`patronictl remove` on a living cluster deletes `/sync`, too: it does not elect blindly."""

    def test_no_standby_leads_it(self) -> None:
        """R10."""
        seen = unlocked(cluster=Cluster(revision=11))
        assert decide(seen).rule.name == "wait_for_initialize"

    def test_its_primary_goes_on(self) -> None:
        seen = unlocked(primary(), cluster=Cluster(revision=11))
        assert decide(seen).rule.name == "retake_key"

    def test_somebody_may_be_told_to(self) -> None:
        asked = Cluster(revision=11, handover=Handover(None, ME))
        assert decide(unlocked(cluster=asked)).rule.name == "take_key_as_asked"
