# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom a member copies and a standby streams from: the leader, a standby, another cluster.

R-numbers are those of the checklist of Patroni's behaviours that the design refers to.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.builders import (
    ME,
    NOW,
    SYSTEM_ID,
    THEIRS,
    cluster,
    lease,
    member,
    peer,
    peers,
    primary,
    row,
    standby,
    starting,
    stopped,
    sync_key,
    synchronous,
    unlocked,
    view,
)
from pgherd.actions import (
    Action,
    Clone,
    Demote,
    Follow,
    KeepSlots,
    Lead,
    Promote,
    Rejoin,
    ReleaseKey,
    Retire,
    StartStandby,
    WriteSync,
)
from pgherd.decide import decide
from pgherd.handover import Handover
from pgherd.model import Cluster, Instance, LeaderKey, Member, Remote, SyncKey
from pgherd.relays import BEHIND_BYTES, leaves_leader
from pgherd.rules.sync import standbys
from pgherd.settings import Tags

if TYPE_CHECKING:
    from pgherd.view import View

PG2 = cluster().members["pg2"]
# The leader is pg2; pg3 streams from it, in its term.
RELAY = member("pg3", replication_state="streaming", xlog_location=0x3000, pgherd={"terms": [5]})
FROM_PG3 = Tags(replicatefrom="pg3")
OVER_PG3 = standby(upstream="pg3:5432")
FOLLOWED: dict[str, Any] = {"host": "a,b", "port": 5433, "primary_slot_name": "ours"}
REMOTE = Remote(data=FOLLOWED)
FROM_REMOTE = standby(upstream="a,b:5433", upstream_slot="ours")


def fired(seen: View) -> str:
    """Return the name of the rule that fires for *seen*."""
    return decide(seen).rule.name


def actions(seen: View) -> tuple[Action, ...]:
    """Return what is asked for when *seen* is."""
    return decide(seen).actions


def relayed(*, relay: Member = RELAY, others: tuple[Member, ...] = ()) -> Cluster:
    """Return a cluster that pg2 leads, with *relay* between the leader and us."""
    return cluster(members=[relay, *others])


def followed(leader: str | None = ME, members: tuple[Member, ...] = (), **more: Any) -> Cluster:
    """Return a standby cluster; whoever leads it is no primary."""
    named = {leader: member(leader, role="standby_leader")} if leader else {}
    named.update({each.name: each for each in members})
    return cluster(leader, members=named.values(), config={"standby_cluster": FOLLOWED}, **more)


class TestAMemberWithoutData:
    @pytest.mark.parametrize(
        "changes",
        [
            {"lease": None},
            {"lease": lease(0)},
            {"tags": Tags(nofailover=True)},
            {"store_answers": False},
            {"cluster": cluster(None, initialize="")},
            {"cluster": cluster(None, initialize=SYSTEM_ID)},
        ],
        ids=["no lease", "lease over", "nofailover", "etcd silent", "claimed", "initialized"],
    )
    def test_the_cluster_is_not_created_twice_nor_by_the_wrong_member(
        self, changes: dict[str, Any]
    ) -> None:
        """R39."""
        seen = unlocked(Instance(), **{"cluster": cluster(None, initialize=None), **changes})
        assert fired(seen) == "wait_for_source"

    def test_a_clonefrom_member_spares_the_leader(self) -> None:
        """R40."""
        willing = member("pg3", tags={"clonefrom": True})
        assert decide(view(Instance(), cluster=cluster(members=[willing]))).actions == (
            Clone(willing),
        )

    def test_a_clonefrom_member_that_does_not_run_is_no_source(self) -> None:
        """R40."""
        ill = member("pg3", tags={"clonefrom": True}, state="starting")
        assert decide(view(Instance(), cluster=cluster(members=[ill]))).actions == (Clone(PG2),)

    def test_a_leader_that_does_not_run_yet_is_awaited(self) -> None:
        seen = view(Instance(), cluster=cluster(members=[member("pg2", state="starting")]))
        assert fired(seen) == "wait_for_source"

    def test_a_leader_that_has_not_published_itself_is_awaited(self) -> None:
        unknown = replace(cluster(), members={ME: member(ME)})
        assert fired(view(Instance(), cluster=unknown)) == "wait_for_source"

    def test_a_leader_that_lost_its_data_hands_the_key_over(self) -> None:
        """4.1 step 9: kept, the key would leave the cluster without a primary for good."""
        assert decide(view(Instance(), cluster=cluster(ME))).actions == (Demote(), ReleaseKey())


class TestARunningStandby:
    def test_a_diverged_standby_waits_for_its_leader_to_settle(self) -> None:
        """R26."""
        young = member("pg2", role="primary", checkpoint_after_promote=False)
        seen = view(diverged=True, cluster=cluster(members=[young]))
        assert fired(seen) == "stream"

    def test_a_leader_without_an_address_cannot_be_followed(self) -> None:
        unknown = replace(cluster(), members={ME: member(ME)})
        assert fired(view(standby(upstream="pg3:5432"), cluster=unknown)) == "stream"

    def test_a_standby_that_follows_nobody_follows_the_leader(self) -> None:
        """R41."""
        assert fired(view(standby(upstream=None))) == "follow"

    def test_only_the_holder_of_the_key_is_promoted(self) -> None:
        """R4: the name in the key is not enough."""
        named = replace(cluster(ME), leader=LeaderKey(ME, THEIRS, 5))
        assert "promote" not in fired(view(standby(), cluster=named))


class TestATagThatNamesAnother:
    """R41: `replicatefrom`."""

    def test_that_one_is_streamed_from(self) -> None:
        seen = view(tags=FROM_PG3, cluster=relayed())
        assert actions(seen) == (Follow(RELAY),)
        assert actions(replace(seen, instance=OVER_PG3)) == (KeepSlots(),)

    @pytest.mark.parametrize(
        "changes",
        [
            {"state": "stopped"},
            {"state": "crashed"},
            {"replication_state": "in archive recovery"},
            {"pgherd": {"terms": [4]}},
            {"pgherd": {}},
            {"conn_url": ""},
        ],
        ids=["stopped", "crashed", "not streaming", "of the term before", "unknown", "no address"],
    )
    def test_when_it_is_of_no_use_the_leader_is(self, changes: dict[str, Any]) -> None:
        """Only what streams in the leader's own term has the leader's WAL for certain."""
        lame = Member("pg3", {**RELAY.data, **changes})
        assert actions(view(OVER_PG3, tags=FROM_PG3, cluster=relayed(relay=lame))) == (Follow(PG2),)

    @pytest.mark.parametrize("named", ["pg2", ME, "pg9"], ids=["leader", "itself", "nobody"])
    def test_the_leader_itself_nobody_and_oneself_mean_the_leader(self, named: str) -> None:
        seen = view(OVER_PG3, tags=Tags(replicatefrom=named), cluster=relayed())
        assert actions(seen) == (Follow(PG2),)

    @pytest.mark.parametrize(
        ("theirs", "further"), [(ME, None), ("pg4", ME)], ids=["of two", "of three"]
    )
    def test_a_circle_is_broken_at_each_of_its_members(
        self, theirs: str, further: str | None
    ) -> None:
        relay = Member("pg3", {**RELAY.data, "tags": {"replicatefrom": theirs}})
        others = (member("pg4", tags={"replicatefrom": further}),) if further else ()
        seen = view(OVER_PG3, tags=FROM_PG3, cluster=relayed(relay=relay, others=others))
        assert actions(seen) == (Follow(PG2),)

    def test_a_circle_of_others_is_none_of_ours(self) -> None:
        relay = Member("pg3", {**RELAY.data, "tags": {"replicatefrom": "pg4"}})
        other = member("pg4", tags={"replicatefrom": "pg3"})
        seen = view(tags=FROM_PG3, cluster=relayed(relay=relay, others=(other,)))
        assert actions(seen) == (Follow(relay),)

    def test_one_far_behind_is_not_waited_for(self) -> None:
        far = standby(received=0x3000 + BEHIND_BYTES + 1)
        assert fired(view(far, tags=FROM_PG3, cluster=relayed())) == "stream"
        near = standby(received=0x3000 + BEHIND_BYTES)
        assert fired(view(near, tags=FROM_PG3, cluster=relayed())) == "follow"

    def test_what_came_from_it_is_never_ahead_of_it(self) -> None:
        """Members publish their position every few seconds."""
        far = replace(OVER_PG3, received=0x3000 + BEHIND_BYTES + 1)
        assert fired(view(far, tags=FROM_PG3, cluster=relayed())) == "stream"

    def test_one_that_sends_nothing_is_given_up_for_a_while(self) -> None:
        mute = replace(OVER_PG3, receiver_status=None)
        seen = view(mute, tags=FROM_PG3, cluster=relayed())
        assert fired(seen) == "stream"
        assert actions(replace(seen, fruitless="pg3")) == (Follow(PG2),)

    def test_our_wal_is_compared_with_the_leaders_before_that(self) -> None:
        assert fired(view(tags=FROM_PG3, cluster=relayed(), diverged=None)) == "compare_first"
        assert actions(view(OVER_PG3, tags=FROM_PG3, cluster=relayed(), diverged=True)) == (
            Rejoin(PG2),
        )

    def test_one_that_starts_looks_for_its_wal_there(self) -> None:
        seen = view(starting(upstream="pg2:5432"), tags=FROM_PG3, cluster=relayed())
        assert actions(seen) == (Follow(RELAY),)


class TestWhoAcknowledges:
    """R30."""

    def rows(self, **tags: Any) -> list[str]:
        """Return who counts of pg2, with *tags*, and pg3, which both stream from us."""
        tagged = member("pg2", tags=tags)
        leading = primary(replication=(row("pg2"), row("pg3")))
        led = synchronous(ME, sync_key(ME, "pg2,pg3"), members=[tagged])
        return [known.name for known, _ in standbys(view(leading, cluster=led))]

    def test_who_is_to_stream_from_another_standby_does_not_count(self) -> None:
        assert self.rows(replicatefrom="pg3") == ["pg3"]

    @pytest.mark.parametrize("named", ["pg9", ME, "pg2"])
    def test_it_does_where_there_is_no_such_standby(self, named: str) -> None:
        assert self.rows(replicatefrom=named) == ["pg2", "pg3"]

    def test_nor_does_who_is_not_to_stream_at_all(self) -> None:
        assert self.rows(nostream=True) == ["pg3"]

    def test_both_of_a_circle_do(self) -> None:
        two = member("pg2", tags={"replicatefrom": "pg3"})
        three = member("pg3", tags={"replicatefrom": "pg2"})
        known = cluster(ME, members=[two, three])
        assert not any(leaves_leader(known, each) for each in (two, three))

    def test_one_whose_standby_does_not_run_does(self) -> None:
        two = member("pg2", tags={"replicatefrom": "pg3"})
        three = member("pg3", state="crashed")
        assert not leaves_leader(cluster(ME, members=[two, three]), two)


class TestAMemberThatDoesNotStream:
    """The tag `nostream`: it gets its WAL from the archive."""

    TAGS = Tags(nostream=True)
    QUIET = standby(upstream=None, receiver_status=None)

    def test_it_is_left_to_its_archive(self) -> None:
        assert actions(view(self.QUIET, tags=self.TAGS)) == (KeepSlots(),)

    def test_its_wal_is_still_compared(self) -> None:
        assert actions(view(self.QUIET, tags=self.TAGS, diverged=True)) == (Rejoin(PG2),)

    def test_its_start_may_take_what_the_archive_takes(self) -> None:
        slow = view(starting(upstream=None), tags=self.TAGS, starting_since=NOW - 60)
        assert fired(slow) == "wait_for_postgres"

    def test_it_can_be_elected(self) -> None:
        assert fired(unlocked(self.QUIET, tags=self.TAGS)) == "take_key"


class TestTheLeaderOfAStandbyCluster:
    """R44: it holds the key, streams from the other cluster and is not promoted."""

    def test_it_streams_from_the_remote_primary_and_keeps_the_keys(self) -> None:
        assert actions(view(cluster=followed())) == (Follow(REMOTE), Lead())
        assert actions(view(FROM_REMOTE, cluster=followed())) == (Lead(),)

    def test_another_slot_there_is_another_place(self) -> None:
        seen = view(replace(FROM_REMOTE, upstream_slot=""), cluster=followed())
        assert actions(seen) == (Follow(REMOTE), Lead())

    def test_without_a_host_it_has_an_archive_only(self) -> None:
        config = {"standby_cluster": {"restore_command": "cp x y"}}
        seen = view(cluster=cluster(ME, config=config))
        assert fired(seen) == "follow"
        quiet = standby(upstream=None, receiver_status=None)
        assert fired(replace(seen, instance=quiet)) == "lead_standbys"

    def test_nothing_is_acknowledged_there_so_nobody_has_to_be_awaited(self) -> None:
        """What `/sync` said before must not hold the promotion up later."""
        led = followed(sync=sync_key("pg2"), sync_revision=8)
        kept = WriteSync(SyncKey("", timeline=1))
        assert actions(view(FROM_REMOTE, cluster=led)) == (kept, Lead())
        assert actions(view(FROM_REMOTE, cluster=followed(numbered=1, sync_revision=9))) == (
            Lead(),
        )

    def test_what_it_has_and_the_remote_has_not_goes(self) -> None:
        """R28: the remote cluster had a failover, and we were ahead of its new primary."""
        assert actions(view(FROM_REMOTE, cluster=followed(), diverged=True)) == (Rejoin(REMOTE),)

    def test_it_is_promoted_when_the_cluster_follows_nobody_any_more(self) -> None:
        assert fired(view(FROM_REMOTE, cluster=cluster(ME))) == "reserve_timeline"
        seen = view(FROM_REMOTE, cluster=cluster(ME, numbered=2))
        assert actions(seen) == (Promote(timeline=2),)

    def test_synchronous_replication_begins_before_its_first_commit(self) -> None:
        """Until a standby has every commit nobody else may be elected."""
        seen = view(FROM_REMOTE, cluster=synchronous(ME))
        [begun] = actions(seen)
        assert isinstance(begun, WriteSync)
        assert begun.sync is not None
        assert begun.sync.electorate == {ME}
        sync = replace(begun.sync, revision=9)
        assert fired(replace(seen, cluster=synchronous(ME, sync))) == "promote"

    @pytest.mark.parametrize("lost", [{"lease": None}, {"store_answers": False}])
    def test_without_the_key_nothing_happens(self, lost: dict[str, Any]) -> None:
        seen = view(FROM_REMOTE, cluster=cluster(ME), **lost)
        assert "promote" not in fired(seen)


class TestDemotingACluster:
    def test_the_primary_stops_and_the_key_stays(self) -> None:
        assert actions(view(primary(), cluster=followed())) == (Retire(),)

    def test_not_in_maintenance_mode(self) -> None:
        """R42."""
        paused = replace(followed(), config={"standby_cluster": FOLLOWED, "pause": True})
        assert fired(view(primary(), cluster=paused)) == "lead"

    def test_not_on_what_etcd_said_long_ago(self) -> None:
        assert fired(view(primary(), cluster=followed(), store_answers=False)) == "lead"

    @pytest.mark.parametrize("state", ["shut down", "in production"])
    def test_it_comes_up_as_a_standby_and_is_compared(self, state: str) -> None:
        """Nobody else is elected, and it is not started as the primary that it was."""
        led = followed(sync=sync_key(ME, "pg2,pg3"))
        assert actions(view(stopped(state), cluster=led)) == (StartStandby(None),)

    def test_a_standby_that_was_rewound_needs_wal_of_the_remote_to_come_up(self) -> None:
        assert actions(view(stopped("in archive recovery"), cluster=followed())) == (
            StartStandby(REMOTE),
        )

    def test_the_others_follow_the_leader_wherever_it_gets_its_wal_from(self) -> None:
        others = followed("pg2")
        assert actions(view(standby(upstream=None), cluster=others)) == (
            Follow(others.members["pg2"]),
        )
        assert actions(view(cluster=others)) == (KeepSlots(),)

    def test_their_wal_is_measured_by_the_remotes(self) -> None:
        assert actions(view(cluster=followed("pg2"), diverged=True)) == (Rejoin(REMOTE),)

    def test_they_start_towards_the_leader(self) -> None:
        others = followed("pg2")
        assert actions(view(stopped(), cluster=others)) == (StartStandby(others.members["pg2"]),)


class TestElectionsInAStandbyCluster:
    def test_nobody_needs_votes(self) -> None:
        """What a standby lacks the remote primary has."""
        free = followed(None, sync=sync_key("pg2"), sync_revision=8)
        assert fired(unlocked(standby(), cluster=free)) == "take_key"

    def test_a_moment_ahead_is_not_ahead(self) -> None:
        """They stream on; each would see the other one ahead of itself for ever."""
        free = unlocked(cluster=followed(None))
        assert fired(replace(free, peers=peers(peer(position=0x4000)))) == "take_key"
        far = peer(position=0x3001 + free.settings.maximum_lag_on_failover)
        assert fired(replace(free, peers=peers(far))) == "peer_is_ahead"

    def test_the_lead_is_handed_over_without_a_stop(self) -> None:
        leading = replace(FROM_REMOTE, replication=(row("pg2"), row("pg3")))
        asked = view(leading, cluster=followed(handover=Handover(ME, "pg2")))
        assert (fired(asked), actions(asked)) == ("hand_over_standbys", (ReleaseKey(),))
        wrong = view(FROM_REMOTE, cluster=followed(handover=Handover(ME, "pg2")))
        assert fired(wrong) == "refuse_handover"

    def test_who_was_asked_for_says_that_it_leads(self) -> None:
        led = followed(handover=Handover("pg2", ME))
        assert fired(view(FROM_REMOTE, cluster=led)) == "finish_handover"

    def test_an_empty_member_copies_the_leader(self) -> None:
        led = followed("pg2")
        assert actions(view(Instance(), cluster=led)) == (Clone(led.members["pg2"]),)
