# SPDX-License-Identifier: GPL-3.0-or-later
"""Which slots a node needs, what is done about them, whom logical subscribers wait for."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

import pytest

from agent.tests.builders import ME, cluster, member, primary, row, slot, standby, sync_key, view
from pgherd.quorum import NOBODY, Acknowledging, Electing, holds
from pgherd.settings import Tags
from pgherd.slots import (
    Advance,
    Create,
    Drop,
    Need,
    candidates,
    electable,
    failover_slots,
    in_the_way,
    needs,
    plan,
    status,
    waited_for,
)

if TYPE_CHECKING:
    from pgherd.model import Cluster, Instance
    from pgherd.view import View

FEED = {"feed": {"type": "logical", "database": "app", "plugin": "pgoutput"}}
LOGICAL: Final[dict[str, Any]] = {"type": "logical", "database": "app", "plugin": "pgoutput"}


def leads(instance: Instance | None = None, **config: Any) -> View:
    """Return what pg1 sees as the leader."""
    return view(instance or primary(), cluster=cluster(ME, config=config))


def follows(
    instance: Instance | None = None, *, known: Cluster | None = None, **status: Any
) -> View:
    """Return what pg1 sees as a standby of pg2, which has written *status*."""
    seen = known or cluster()
    return view(instance or standby(), cluster=replace(seen, status=status))


class TestNeeds:
    """R35."""

    def test_a_leader_needs_one_for_every_other_member(self) -> None:
        found = needs(leads())
        assert {name: need.is_used_here for name, need in found.items()} == {
            "pg2": True,
            "pg3": True,
        }

    def test_so_does_a_standby_although_nobody_streams_from_it(self) -> None:
        found = needs(follows())
        assert {name: need.is_used_here for name, need in found.items()} == {
            "pg2": False,
            "pg3": False,
        }

    def test_names_are_what_postgresql_takes(self) -> None:
        found = needs(view(primary(), cluster=cluster(ME, members=[member("PG-9.x")])))
        assert "pg_9_x" in found

    def test_without_use_slots_none_is_needed(self) -> None:
        off = {"use_slots": False}
        assert needs(leads(postgresql=off, slots={"archive": None})) == {}

    def test_with_no_time_for_absent_members_only_the_upstream_has_one(self) -> None:
        known = cluster(config={"member_slots_ttl": 0})
        assert needs(follows(known=known, retain_slots=["pg9"])) == {}
        assert set(needs(leads(member_slots_ttl=0))) == {"pg2", "pg3"}

    def test_a_standby_keeps_what_its_leader_wants_kept(self) -> None:
        found = needs(follows(slots={"pg9": 5}, retain_slots=["pg1", "pg3", "pg9"]))
        assert found["pg9"] == Need("pg9", position=5)
        assert "pg1" not in found

    def test_a_cascade_streams_from_another_standby(self) -> None:
        third = member("pg3", tags={"replicatefrom": ME})
        assert needs(follows(known=cluster(members=[third])))["pg3"].is_used_here
        third = member("pg3", tags={"replicatefrom": "pg2"})
        assert not needs(view(primary(), cluster=cluster(ME, members=[third])))["pg3"].is_used_here

    @pytest.mark.parametrize("elsewhere", ["pg3", "pg9"])
    def test_a_cascade_to_itself_or_to_nobody_streams_from_the_leader(self, elsewhere: str) -> None:
        third = member("pg3", tags={"replicatefrom": elsewhere})
        assert needs(view(primary(), cluster=cluster(ME, members=[third])))["pg3"].is_used_here

    def test_a_member_that_does_not_stream_needs_none(self) -> None:
        third = member("pg3", tags={"nostream": True})
        assert set(needs(view(primary(), cluster=cluster(ME, members=[third])))) == {"pg2"}

    def test_permanent_ones_are_on_all_nodes_logical_ones_where_they_are_copied(self) -> None:
        slots = {"archive": None, **FEED}
        found = needs(leads(slots=slots))
        assert found["archive"] == Need("archive")
        assert found["feed"] == Need("feed", "app", "pgoutput")
        found = needs(follows(known=cluster(config={"slots": slots}), slots={"archive": 9}))
        assert found["archive"] == Need("archive", position=9)
        assert found["feed"] == Need("feed", "app", "pgoutput")

    @pytest.mark.parametrize(
        "changes",
        [
            {"instance": standby(server_version=170002)},
            {"tags": Tags(nofailover=True)},
            {"tags": Tags(nostream=True)},
        ],
        ids=["PostgreSQL 17 copies by itself", "it never leads", "it has no feedback to give"],
    )
    def test_logical_ones_are_not_copied_in_vain(self, changes: dict[str, Any]) -> None:
        seen = follows(known=cluster(config={"slots": FEED}))
        assert "feed" in needs(seen)
        assert "feed" not in needs(replace(seen, **changes))

    def test_a_permanent_one_for_this_member_is_on_the_others(self) -> None:
        assert "pg1" not in needs(leads(slots={"pg1": None}))

    def test_a_members_slot_stays_physical(self) -> None:
        assert not needs(leads(slots={"pg2": FEED["feed"]}))["pg2"].is_logical

    @pytest.mark.parametrize(
        ("kind", "config", "is_there"),
        [
            ("primary", {}, True),
            ("standby", {}, False),
            ("standby", {"standby_cluster": {"host": "a"}}, True),
            ("primary", {"standby_cluster": {"host": "a"}}, False),
        ],
    )
    def test_some_are_for_one_kind_of_cluster(
        self, kind: str, config: dict[str, Any], is_there: bool
    ) -> None:
        found = needs(leads(slots={"archive": {"cluster_type": kind}}, **config))
        assert ("archive" in found) is is_there

    @pytest.mark.parametrize("damaged", [["pg3"], "x", None, {"pg3": "far"}])
    def test_positions_that_cannot_be_read_are_not_known(self, damaged: Any) -> None:
        assert needs(follows(slots=damaged, retain_slots="x"))["pg3"].position is None


def planned(seen: View, *unneeded: str) -> list[Any]:
    """Return the plan for what *seen* needs."""
    return plan(seen, needs(seen), unneeded)


OTHERS = {"pg2": slot(active=True), "pg3": slot(active=True)}


class TestAPlan:
    """R36."""

    def test_what_is_missing_is_made(self) -> None:
        seen = leads(primary(slots={"pg2": slot()}))
        assert planned(seen) == [Create(Need("pg3", is_used_here=True))]

    def test_what_nobody_needs_is_dropped_but_not_in_pause(self) -> None:
        [drop] = planned(leads(primary(slots={**OTHERS, "pg9": slot()})), "pg9")
        assert isinstance(drop, Drop)
        assert planned(leads(primary(slots={**OTHERS, "pg9": slot()}), pause=True), "pg9") == []

    @pytest.mark.parametrize(
        "flaw",
        [slot(wal_status="lost"), slot(**LOGICAL)],
        ids=["lost", "of another kind"],
    )
    def test_a_slot_that_is_of_no_use_is_made_anew(self, flaw: dict[str, Any]) -> None:
        steps = planned(leads(primary(slots={**OTHERS, "pg2": flaw})))
        assert [type(step) for step in steps] == [Drop, Create]
        assert planned(leads(primary(slots={**OTHERS, "pg2": flaw}), pause=True)) == []
        busy = {**flaw, "active": True}
        assert planned(leads(primary(slots={**OTHERS, "pg2": busy}))) == []

    def test_a_permanent_one_of_another_kind_is_made_anew(self) -> None:
        slots = {**OTHERS, "feed": slot(**{**LOGICAL, "plugin": "wal2json"})}
        steps = planned(leads(primary(slots=slots), slots=FEED))
        assert [type(step) for step in steps] == [Drop, Create]

    def test_a_logical_one_that_has_lost_its_wal_stays_so_that_its_subscriber_learns_it(
        self,
    ) -> None:
        slots = {**OTHERS, "feed": slot(**LOGICAL, wal_status="lost")}
        assert planned(leads(primary(slots=slots), slots=FEED)) == []

    def test_a_standby_makes_no_logical_slot_and_drops_a_copy_that_is_of_no_use(self) -> None:
        known = cluster(config={"slots": FEED})
        assert planned(follows(standby(slots=OTHERS), known=known)) == []
        for flaw in ({"wal_status": "lost"}, {"plugin": "wal2json"}):
            slots = {**OTHERS, "feed": slot(**{**LOGICAL, **flaw})}
            steps = planned(follows(standby(slots=slots), known=known))
            assert [type(step) for step in steps] == [Drop]

    def test_what_holds_back_vacuum_for_nobody_is_made_anew(self) -> None:
        held = {"pg2": slot(active=True), "pg3": slot(xmin=700)}
        assert [type(step) for step in planned(follows(standby(slots=held)))] == [Drop, Create]
        assert planned(leads(primary(slots=held))) == []

    def test_a_primarys_permanent_slot_is_its_users_own(self) -> None:
        slots = {**OTHERS, "archive": slot(0x10, xmin=700)}
        known = cluster(ME, config={"slots": {"archive": None}})
        known = replace(known, status={"slots": {"archive": 0x900}})
        assert planned(view(primary(slots=slots), cluster=known)) == []


class TestAdvancing:
    """R35: no more WAL is held than somebody needs."""

    @pytest.mark.parametrize(
        ("position", "replayed", "target"),
        [(0x500, 0x900, 0x500), (0x900, 0x500, 0x500)],
        ids=["the member is behind", "we are behind"],
    )
    def test_up_to_where_the_leaders_slot_is_and_we_have_come(
        self, position: int, replayed: int, target: int
    ) -> None:
        slots = {"pg2": slot(active=True), "pg3": slot(0x100)}
        seen = follows(standby(slots=slots, replayed=replayed), slots={"pg3": position})
        assert planned(seen) == [Advance("pg3", target)]

    def test_the_leaders_slot_counts_more_than_what_the_member_says(self) -> None:
        slots = {"pg2": slot(active=True), "pg3": slot(0x100)}
        known = cluster(members=[member("pg3", receive_lsn="0/900")])
        instance = standby(slots=slots, replayed=0x2000)
        assert planned(follows(instance, known=known)) == [Advance("pg3", 0x900)]
        assert planned(follows(instance, known=known, slots={"pg3": 0x500})) == [
            Advance("pg3", 0x500)
        ]

    @pytest.mark.parametrize(
        "other",
        [slot(active=True), slot(None), slot(0x9000), slot(temporary=True)],
        ids=["in use", "never used", "further already", "of a session"],
    )
    def test_others_are_left_where_they_are(self, other: dict[str, Any]) -> None:
        slots = {"pg2": slot(active=True), "pg3": other}
        assert planned(follows(standby(slots=slots), slots={"pg3": 0x2000})) == []

    def test_one_whose_user_is_nowhere_known_holds_on(self) -> None:
        slots = {"pg2": slot(active=True), "pg3": slot(0x100)}
        assert planned(follows(standby(slots=slots))) == []

    def test_a_leader_does_it_for_members_that_stream_from_others(self) -> None:
        third = member("pg3", tags={"replicatefrom": "pg2"}, receive_lsn="0/500")
        slots = {"pg2": slot(0x100), "pg3": slot(0x100)}
        seen = view(primary(slots=slots), cluster=cluster(ME, members=[third]))
        assert planned(seen) == [Advance("pg3", 0x500)]


class TestWhatIsPublished:
    """The key /status, as Patroni writes it."""

    def test_positions_of_members_and_permanent_slots_and_our_own(self) -> None:
        slots = {
            "pg2": slot(0x500),
            "pg3": slot(None),
            "pg9": slot(0x300),
            "feed": slot(0x100, **{**LOGICAL, "confirmed": 0x600}),
            "foreign": slot(0x100),
        }
        seen = leads(primary(slots=slots), slots=FEED)
        assert status(seen, needs(seen), ["pg9"]) == {
            "slots": {"feed": 0x600, "pg1": 0x3000, "pg2": 0x500, "pg9": 0x300},
            "retain_slots": ["pg1", "pg2", "pg3", "pg9"],
        }

    def test_with_no_time_for_absent_members_only_permanent_ones(self) -> None:
        slots = {"pg2": slot(0x500), "archive": slot(0x300)}
        seen = leads(primary(slots=slots), member_slots_ttl="0", slots={"archive": 0})
        assert status(seen, needs(seen), []) == {"slots": {"archive": 0x300}}

    def test_nothing_without_slots(self) -> None:
        seen = leads(primary(slots=OTHERS), postgresql={"use_slots": False})
        assert status(seen, needs(seen), []) == {}

    def test_a_copy_of_a_logical_one_moves_with_its_subscriber(self) -> None:
        known = cluster(config={"slots": FEED})
        copy = slot(0x100, **LOGICAL, confirmed=0x200)
        for position, steps in ((0x200, []), (0x300, [Advance("feed", 0x300, "app")])):
            seen = follows(standby(slots={**OTHERS, "feed": copy}), known=known,
                           slots={"feed": position})  # fmt: skip
            assert planned(seen) == steps

    def test_without_etcd_what_was_told_counts(self) -> None:
        """R38."""
        known = cluster()
        seen = follows(standby(slots={**OTHERS, "pg3": slot(0x10)}), known=known,
                       slots={"pg3": 0x20})  # fmt: skip
        silent = replace(seen, store_answers=False)
        assert planned(silent) == []
        assert planned(replace(silent, told={"pg3": 0x30})) == [Advance("pg3", 0x30)]


class TestFailoverSlots:
    """PostgreSQL 17, and what is copied before."""

    def test_before_it_those_that_are_copied_and_ready(self) -> None:
        slots = {"feed": slot(**LOGICAL), "other": slot(**LOGICAL)}
        known = cluster(config={"slots": {**FEED, "none": FEED["feed"]}})
        assert failover_slots(view(primary(slots=slots), cluster=known)) == ["feed"]
        seen = view(standby(slots=slots), cluster=known)
        assert failover_slots(seen) == []
        assert failover_slots(replace(seen, copied_slots=frozenset({"feed"}))) == ["feed"]

    def test_subscribers_can_go_on_from_a_primarys_own_and_a_standbys_copies(self) -> None:
        slots = {
            "own": slot(**LOGICAL, failover=True),
            "copied": slot(**LOGICAL, failover=True, synced=True),
            "half": slot(**LOGICAL, failover=True, synced=True, temporary=True),
            "lost": slot(**LOGICAL, failover=True, synced=True, wal_status="lost"),
            "plain": slot(**LOGICAL),
            "pg2": slot(),
        }
        of_17 = {"slots": slots, "server_version": 170002}
        assert failover_slots(view(primary(**of_17))) == ["copied", "own"]
        assert failover_slots(view(standby(**of_17))) == ["copied"]

    @pytest.mark.parametrize(
        ("theirs", "synced", "is_so"),
        [
            (["feed"], False, True),
            (["feed"], True, False),
            (["x"], False, False),
            (7, False, False),
        ],
    )
    def test_what_a_former_primary_has_of_its_own_is_in_the_way_of_a_copy(
        self, theirs: Any, synced: bool, is_so: bool
    ) -> None:
        leader = member("pg2", role="primary", pgherd={"failover_slots": theirs})
        left = slot(**LOGICAL, failover=True, synced=synced)
        seen = follows(known=cluster(members=[leader]))
        assert in_the_way(seen, "feed", left) is is_so
        assert not in_the_way(leads(), "feed", left)


class TestWhomSubscribersWaitFor:
    def test_as_many_as_commits_wait_for_those_that_stream_first(self) -> None:
        rule = Acknowledging(1, frozenset({"pg2", "pg3"}))
        assert waited_for(rule, ["pg3", "pg2"]) == ("pg3",)
        assert waited_for(rule, ["pg4", "pg3"]) == ("pg3",)

    def test_one_that_is_away_rather_than_too_few(self) -> None:
        rule = Acknowledging(2, frozenset({"pg2", "pg3", "pg4"}))
        assert waited_for(rule, ["pg4"]) == ("pg2", "pg4")
        assert waited_for(rule, []) == ("pg2", "pg3")

    def test_nobody_while_only_the_leader_may_lead(self) -> None:
        assert waited_for(Acknowledging(), ["pg2"]) == ()
        assert waited_for(Acknowledging(1, frozenset({NOBODY})), ["pg2"]) == ()

    def test_all_that_may_lead_where_commits_wait_for_nobody(self) -> None:
        assert waited_for(Acknowledging(), ["pg2"], anybody_may_lead=["pg3", "pg2"]) == (
            "pg2",
            "pg3",
        )

    def test_every_elected_leader_has_what_a_subscriber_has(self) -> None:
        """The theorem of `pgherd.quorum`, for all electorates and settings of four nodes."""
        names = ("pg2", "pg3", "pg4")
        groups = [frozenset(g) for size in range(4) for g in combinations(names, size)]
        for voters in groups:
            for standbys in groups:
                for quorum in range(len(voters) + 1):
                    for count in range(1, len(standbys) + 1):
                        rule = Acknowledging(count, standbys)
                        if holds(Electing(voters, quorum), rule):
                            self.check(voters, quorum, rule)

    def check(self, voters: frozenset[str], quorum: int, rule: Acknowledging) -> None:
        """Whoever streams: who has what was sent is in every group that may elect."""
        for size in range(len(rule.standbys) + 1):
            for streaming in combinations(sorted(rule.standbys), size):
                having = {"pg1", *waited_for(rule, streaming)}
                for asked in combinations(sorted(voters | {"pg1"}), quorum + 1):
                    assert having & set(asked), (voters, quorum, rule, streaming, asked)


class TestCandidates:
    def seen(self, *rows: dict[str, Any], **changes: Any) -> View:
        waits = changes.pop("waits", frozenset())
        instance = primary(replication=rows, subscribers_wait_for=waits)
        known = cluster(ME, sync=sync_key(ME, "pg2,pg3"))
        return view(instance, cluster=known, **changes)

    def test_the_furthest_ahead_comes_first(self) -> None:
        assert candidates(self.seen(row("pg2", 0x10), row("pg3", 0x20))) == ["pg3", "pg2"]

    def test_but_not_before_the_one_waited_for_already(self) -> None:
        rows = row("pg2", 0x10), row("pg3", 0x20)
        assert candidates(self.seen(*rows, waits=frozenset({"pg2"}))) == ["pg2", "pg3"]

    @pytest.mark.parametrize(
        "gone",
        [row("pg2", state="catchup"), row("pg2", None), row("pg9"), row(ME)],
        ids=["catches up", "says nothing", "no member", "ourselves"],
    )
    def test_who_does_not_stream_is_none(self, gone: dict[str, Any]) -> None:
        assert candidates(self.seen(gone, row("pg3"))) == ["pg3"]

    def test_nor_is_who_stands_still(self) -> None:
        seen = self.seen(row("pg2"), row("pg3"), stalled=frozenset({"pg2"}))
        assert candidates(seen) == ["pg3"]

    def test_without_synchronous_replication_one_too_far_behind_could_not_lead(self) -> None:
        rows = row("pg2", 0x1), row("pg3", 0x3000)
        settings = {"maximum_lag_on_failover": 0x100}
        seen = view(primary(replication=rows), cluster=cluster(ME, config=settings))
        assert candidates(seen) == ["pg3"]

    def test_who_may_not_lead_need_not_be_waited_for(self) -> None:
        third = member("pg3", tags={"nofailover": True})
        seen = view(primary(), cluster=cluster(ME, members=[third]))
        assert electable(seen, ["pg3", "pg2", "pg9"]) == ["pg2"]
