# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for every decision, tried on some ten thousand views.

R-numbers are those of the checklist of Patroni's behaviours that the design refers to.
"""

from __future__ import annotations

import itertools
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.builders import (
    ME,
    NOW,
    THEIRS,
    cluster,
    lease,
    peer,
    peers,
    primary,
    row,
    standby,
    starting,
    stopped,
    sync_key,
    synchronous,
    view,
)
from pgherd.actions import (
    Action,
    Bootstrap,
    Clone,
    Demote,
    Follow,
    Lead,
    Promote,
    Rejoin,
    ReleaseKey,
    SetSyncNames,
    StartPrimary,
    StartStandby,
    StopAndLeave,
    StopReceiving,
    TakeKey,
    WriteSync,
)
from pgherd.decide import decide
from pgherd.model import Instance, LeaderKey, Process
from pgherd.quorum import NOBODY_ACKNOWLEDGES, Electing, holds, parse_names
from pgherd.settings import Tags

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgherd.view import View

AHEAD = peer(position=0x4000)


def many_views() -> Iterator[View]:
    """Yield some ten thousand views: every sort of instance with every sort of cluster."""
    instances = [
        Instance(), stopped(), stopped("in production"), stopped(system_id="666"), starting(),
        starting(upstream="pg3:5432"), starting(in_recovery=None), primary(), standby(),
        standby(upstream="pg3:5432"),
    ]  # fmt: skip
    clusters = [
        None, cluster(), cluster(ME), cluster(ME, numbered=2), cluster(None),
        cluster(None, initialize=None),
        cluster(ME, config={"pause": True}), cluster(None, config={"pause": True}),
        replace(cluster(), members={}), replace(cluster(ME), leader=LeaderKey(ME, THEIRS, 5)),
    ]  # fmt: skip
    answers = [peers(), peers(AHEAD), peers(peer(role="primary")), peers(peer("pg0"))]
    leases = [None, lease(0), lease()]
    flags = itertools.product([True, False], repeat=2)
    extras: list[dict[str, Any]] = [
        {},
        {"operation": "rejoin"},
        {"stopping": True},
        {"diverged": True},
        {"start_failures": 1, "starting_since": NOW - 400},
    ]
    dimensions = (instances, clusters, answers, leases, list(flags), extras)
    for instance, known, answered, held, (is_there, nofailover), extra in itertools.product(
        *dimensions
    ):
        yield view(
            instance,
            cluster=known,
            peers=answered,
            lease=held,
            store_answers=is_there,
            tags=Tags(nofailover=nofailover),
            unlocked_since=NOW,
            **extra,
        )


VIEWS = [(seen, decide(seen)) for seen in many_views()]


class TestWhateverTheView:
    def test_a_primary_without_a_good_lease_is_demoted_unless_paused(self) -> None:
        """R1, R6."""
        wrong = [
            (seen, decision.rule.name)
            for seen, decision in VIEWS
            if seen.instance.may_write
            and not seen.has_lease
            and not seen.settings.pause
            and decision.actions != (Demote(),)
        ]
        assert wrong == []

    def test_a_primary_is_left_running_only_with_its_key_or_about_to_take_it(self) -> None:
        for seen, decision in VIEWS:
            if seen.instance.may_write and not seen.settings.pause and not seen.holds_key:
                stays = Demote() not in decision.actions and StopAndLeave() not in decision.actions
                is_free = seen.is_unlocked and seen.has_lease
                assert is_free or not stays, decision.rule.name

    @pytest.mark.parametrize("action", [Promote(timeline=2), StartPrimary(), Lead(), ReleaseKey()])
    def test_only_the_holder_of_the_key_acts_as_a_leader(self, action: Action) -> None:
        """R4, R23."""
        asked = [seen for seen, decision in VIEWS if action in decision.actions]
        assert asked
        assert all(seen.holds_key for seen in asked)

    def test_the_key_is_taken_only_when_it_is_free_and_by_one_who_may_lead(self) -> None:
        """R8."""
        asked = [
            seen
            for seen, decision in VIEWS
            if any(isinstance(action, TakeKey) for action in decision.actions)
        ]
        assert asked
        for seen in asked:
            assert seen.is_unlocked
            assert seen.has_lease
            assert seen.instance.process is Process.RUNNING
            assert not seen.tags.nofailover
            assert not any(peer.is_primary for peer in seen.peers.values())

    def test_in_pause_nothing_is_started_stopped_or_elected(self) -> None:
        """R42."""
        moving = (StartPrimary, StartStandby, Rejoin, Promote, StopReceiving, Bootstrap)
        for seen, decision in VIEWS:
            if not seen.settings.pause or seen.stopping:
                continue
            assert not any(isinstance(each, moving) for each in decision.actions)
            assert Demote() not in decision.actions or not seen.instance.has_data
            is_taken = any(isinstance(each, TakeKey) for each in decision.actions)
            assert not is_taken or seen.instance.is_primary

    def test_foreign_data_is_never_touched(self) -> None:
        touching = (Rejoin, StartStandby, StartPrimary, Clone, Bootstrap, Promote, Follow)
        for seen, decision in VIEWS:
            is_foreign = seen.instance.system_id == "666" and seen.store_answers
            if is_foreign and seen.cluster and seen.cluster.initialize:
                assert not any(isinstance(each, touching) for each in decision.actions)

    def test_the_same_view_gives_the_same_decision_and_stays_as_it_was(self) -> None:
        for seen, decision in VIEWS[::7]:
            before = deepcopy(seen)
            assert decide(seen) == decision
            assert seen == before

    def test_only_differences_of_time_matter(self) -> None:
        """No clock is read: a view moved in time as a whole gives the same decision."""
        for seen, decision in VIEWS[::7]:
            moved = replace(
                seen,
                now=seen.now + 1e6,
                lease=seen.lease and replace(seen.lease, valid_until=seen.lease.valid_until + 1e6),
                unlocked_since=seen.unlocked_since and seen.unlocked_since + 1e6,
                starting_since=seen.starting_since and seen.starting_since + 1e6,
            )
            assert decide(moved) == decision


def synchronous_views() -> Iterator[View]:
    """Yield some ten thousand views of clusters with synchronous replication."""
    names = ["", 'ANY 1 ("pg2","pg3")', '1 ("pg2")', NOBODY_ACKNOWLEDGES]
    replicas = [(), (row("pg2"),), (row("pg2"), row("pg3"))]
    instances = [
        primary(sync_names=name, replication=rows)
        for name, rows in itertools.product(names, replicas)
    ]
    instances += [
        standby(), standby(upstream=None, receiver_status=None), stopped("in production"),
        starting(in_recovery=None), primary(disk="it is full"),
    ]  # fmt: skip
    syncs = [
        None, sync_key(ME, "", 0), sync_key(ME, "pg2", 0, timeline=2), sync_key(ME, "pg2,pg3", 1),
        sync_key(ME, "pg2,pg3", 2), sync_key(ME, "pg2,pg3", 1, isolated=True),
        sync_key("pg2", "pg1,pg3", 1), sync_key("pg2", "pg1,pg3", 0),
    ]  # fmt: skip
    settings: list[dict[str, Any]] = [
        {}, {"synchronous_mode": "on"}, {"synchronous_mode": "off"},
        {"synchronous_mode_strict": True}, {"failsafe_mode": True},
    ]  # fmt: skip
    answers = [peers(), peers(peer("pg2")), peers(peer("pg2", receives=True), peer("pg3"))]
    extras: list[dict[str, Any]] = [
        {"settled": True},
        {"alone_since": NOW - 0.1},
        {"alone_since": NOW - 1.5, "promoted_at": NOW - 100},
        {"store_answers": False},
    ]
    leaders = [None, ME, "pg2"]
    for instance, leader, sync, asked, answered, extra in itertools.product(
        instances, leaders, syncs, settings, answers, extras
    ):
        known = synchronous(leader, sync, **asked)
        yield view(instance, cluster=known, peers=answered, unlocked_since=NOW - 5, **extra)


SYNCHRONOUS = [(seen, decide(seen)) for seen in synchronous_views()]


class TestWithSynchronousReplication:
    def asked(self, kind: type[Any]) -> list[tuple[View, Any]]:
        """Return where an action of *kind* is asked for, and that action; never nowhere."""
        found = [
            (seen, action)
            for seen, decision in SYNCHRONOUS
            for action in decision.actions
            if isinstance(action, kind)
        ]
        assert found
        return found

    def test_every_step_keeps_the_inequality_or_lets_nobody_else_lead(self) -> None:
        for seen, action in self.asked(WriteSync):
            if seen.settings.synchronous_mode == "off":
                continue
            electing = action.sync.electing
            same = seen.sync is not None and electing == seen.sync.electing
            fits = holds(electing, seen.instance.acknowledging)
            assert same or electing == Electing() or fits, (seen, action)

    def test_names_are_set_only_where_they_fit_the_votes(self) -> None:
        for seen, action in self.asked(SetSyncNames):
            if seen.settings.synchronous_mode == "off":
                assert seen.sync is None
                continue
            assert seen.sync is not None
            names, electing = parse_names(action.names), seen.sync.electing
            same = names == seen.instance.acknowledging
            assert same or holds(electing, names), (seen, action)

    def test_before_a_setting_is_settled_no_election_becomes_easier(self) -> None:
        for seen, action in self.asked(WriteSync):
            if seen.settled or seen.sync is None or seen.sync.leader != ME or action.sync is None:
                continue
            old, new = seen.sync.electing, action.sync.electing
            assert new == Electing() or (old.voters <= new.voters and old.quorum <= new.quorum)

    def test_strict_mode_never_stops_waiting(self) -> None:
        for seen, action in self.asked(SetSyncNames):
            strict = seen.settings.synchronous_mode_strict
            assert action.names or not strict

    @pytest.mark.parametrize("kind", [WriteSync, SetSyncNames])
    def test_only_a_leader_that_hears_etcd_changes_anything(self, kind: type[Action]) -> None:
        for seen, _ in self.asked(kind):
            assert seen.holds_key
            assert seen.store_answers
            # Before its promotion a leader may begin with /sync, naming nobody else, or ask for
            # another number of its timeline, no more.
            before = decide(seen).rule.name in ("begin_sync", "reserve_timeline")
            assert seen.instance.is_primary or before

    def test_nobody_takes_the_key_without_the_votes(self) -> None:
        for seen, _ in self.asked(TakeKey):
            sync = seen.sync
            if sync is None or sync.leader == ME:
                continue
            votes = [name for name, peer in seen.peers.items()
                     if name in sync.electorate and not peer.receives]  # fmt: skip
            own = ME in sync.electorate
            assert len(votes) + own > sync.electing.quorum, seen
            assert seen.instance.is_standby

    def test_whoever_takes_the_key_has_a_final_position_or_is_the_leader_of_before(self) -> None:
        for seen, _ in self.asked(TakeKey):
            if seen.sync is not None and seen.instance.is_standby:
                assert seen.instance.upstream is None
                assert seen.instance.receiver_status is None

    def test_sync_names_whoever_takes_the_key(self) -> None:
        for seen, action in self.asked(TakeKey):
            if seen.sync is not None:
                assert action.sync is not None
                assert action.sync.leader == ME
            elif action.sync is not None:
                assert not action.sync.leader
                assert action.sync.electing == Electing()

    @pytest.mark.parametrize("kind", [Promote, StartPrimary])
    def test_a_primary_begins_only_on_a_fresh_read_with_names_that_fit(
        self, kind: type[Action]
    ) -> None:
        for seen, action in self.asked(kind):
            assert seen.store_answers
            assert seen.holds_key
            if seen.settings.synchronous_mode != "off" and seen.sync is not None:
                if seen.sync.leader == ME:
                    assert holds(seen.sync.electing, parse_names(action.names))
                assert action.names or not seen.settings.synchronous_mode_strict

    def test_nobody_is_promoted_while_sync_names_another(self) -> None:
        assert all(seen.sync is None or seen.sync.leader == ME for seen, _ in self.asked(Promote))

    def test_a_standby_stops_receiving_only_while_nobody_leads(self) -> None:
        assert all(seen.is_unlocked for seen, _ in self.asked(StopReceiving))

    def test_the_key_is_given_up_only_with_postgresql_stopped(self) -> None:
        for _, decision in SYNCHRONOUS:
            if ReleaseKey() in decision.actions:
                is_standby = decision.rule.name == "give_up_unelected_key"
                assert is_standby or decision.actions[0] == Demote()
