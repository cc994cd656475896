# SPDX-License-Identifier: GPL-3.0-or-later
"""Slots kept from round to round: who is remembered, what is dropped when, what is written."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from agent.tests.builders import ME, NOW, cluster, member, primary, row, slot, standby, view
from agent.tests.fakes import Rig
from pgherd.errors import PostgresError
from pgherd.model import Process
from pgherd.slot_keeper import ADVANCE_SECONDS, SlotKeeper

if TYPE_CHECKING:
    from pathlib import Path

    from pgherd.model import Cluster, Instance
    from pgherd.view import View

LOGICAL: Final[dict[str, Any]] = {"type": "logical", "database": "app", "plugin": "pgoutput"}
FEED: Final = {"slots": {"feed": LOGICAL}}
OTHERS = {"pg2": slot(active=True), "pg3": slot(active=True)}


class Kept:
    """One node's slots over scripted surroundings; `now` moves on as told."""

    def __init__(self, directory: Path) -> None:
        self.postgres = Rig(directory, primary()).postgres
        self.keeper = SlotKeeper(self.postgres)
        self.now = NOW

    @property
    def calls(self) -> list[tuple[str, ...]]:
        """What was asked of PostgreSQL since the last look."""
        calls = list(self.postgres.calls)
        self.postgres.calls.clear()
        return calls

    async def leads(self, known: Cluster | None = None, **slots: Any) -> dict[str, Any]:
        """Do a leader's round, with *slots* beside those of the members; return /status."""
        instance = primary(slots={**OTHERS, **slots})
        seen = replace(view(instance, cluster=known or cluster(ME)), now=self.now)
        written = self.keeper.status(seen)
        await self.keeper.keep(seen)
        return written

    async def follows(self, instance: Instance, known: Cluster | None = None) -> None:
        """Do a standby's round."""
        seen = view(instance, cluster=known or cluster())
        await self.keeper.keep(replace(seen, now=self.now))


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def config(**settings: Any) -> Cluster:
    """Return what pg1 as the leader sees of a cluster with *settings*."""
    return cluster(ME, config=settings)


class TestALeader:
    async def test_it_makes_what_is_missing(self, kept: Kept) -> None:
        await kept.keeper.keep(view(primary(), cluster=cluster(ME)))
        assert kept.calls == [("create_slot", "pg2"), ("create_slot", "pg3")]

    async def test_an_absent_members_slot_is_kept_for_its_time_and_then_dropped(
        self, kept: Kept
    ) -> None:
        await kept.leads(pg9=slot())
        kept.now = NOW + 1800
        await kept.leads(pg9=slot())
        assert kept.calls == []
        kept.now = NOW + 1801
        await kept.leads(pg9=slot())
        assert kept.calls == [("drop_slot", "pg9")]

    async def test_with_no_such_time_it_is_dropped_at_once(self, kept: Kept) -> None:
        await kept.leads(config(member_slots_ttl=0), pg9=slot())
        assert kept.calls == [("drop_slot", "pg9")]

    async def test_a_member_that_comes_back_has_its_time_anew(self, kept: Kept) -> None:
        await kept.leads(pg9=slot())
        kept.now = NOW + 1000
        await kept.leads(cluster(ME, members=[member("pg9")]), pg9=slot())
        kept.now = NOW + 2000
        await kept.leads(pg9=slot())
        assert kept.calls == []

    async def test_so_has_one_that_only_streams_its_agent_being_away(self, kept: Kept) -> None:
        await kept.leads(pg9=slot())
        kept.now = NOW + 1000
        await kept.leads(pg9=slot(active=True))
        kept.now = NOW + 2000
        await kept.leads(pg9=slot())
        assert kept.calls == []

    @pytest.mark.parametrize(
        "other",
        [slot(active=True), slot(temporary=True), slot(**LOGICAL)],
        ids=["in use", "a session's", "a subscriber's"],
    )
    async def test_slots_that_are_nobodys_leftover_stay(
        self, kept: Kept, other: dict[str, Any]
    ) -> None:
        await kept.leads(pg9=other)
        kept.now = NOW + 10_000
        await kept.leads(pg9=other)
        assert kept.calls == []

    async def test_so_do_those_that_are_to_be_ignored(self, kept: Kept) -> None:
        known = config(member_slots_ttl=0, ignore_slots=[{"name": "pg9", "type": "physical"}])
        await kept.leads(known, pg9=slot(), pg8=slot())
        assert kept.calls == [("drop_slot", "pg8")]

    async def test_nothing_is_dropped_in_pause(self, kept: Kept) -> None:
        await kept.leads(config(member_slots_ttl=0, pause=True), pg9=slot())
        assert kept.calls == []

    async def test_nor_what_subscribers_wait_for(self, kept: Kept) -> None:
        instance = primary(slots={**OTHERS, "pg9": slot()}, subscribers_wait_for=frozenset({"pg9"}))
        kept.postgres.instance = instance
        await kept.keeper.keep(view(instance, cluster=config(member_slots_ttl=0)))
        assert kept.calls == []

    async def test_what_postgresql_refuses_does_not_keep_it_from_the_rest(
        self, kept: Kept, caplog: pytest.LogCaptureFixture
    ) -> None:
        kept.postgres.fails["create_slot"] = PostgresError("all slots are in use")
        for _ in range(2):
            await kept.keeper.keep(view(primary(), cluster=cluster(ME)))
        assert [call[1] for call in kept.calls] == ["pg2", "pg3"] * 2
        assert caplog.text.count("all slots are in use") == 2, "once for each of them"

    async def test_while_etcd_is_silent_nothing_changes(self, kept: Kept) -> None:
        """R38."""
        seen = view(primary(slots={"pg9": slot()}), cluster=config(member_slots_ttl=0))
        await kept.keeper.keep(replace(seen, store_answers=False))
        assert kept.calls == []


class TestPermanentSlots:
    async def test_a_logical_one_is_made_beside_the_loop(self, kept: Kept) -> None:
        await kept.leads(config(**FEED))
        assert kept.calls == []
        await asyncio.sleep(0)
        assert kept.calls == [("create_slot", "feed", "app", "pgoutput")]

    async def test_and_not_twice_at_a_time(self, kept: Kept) -> None:
        await kept.leads(config(**FEED))
        await kept.leads(config(**FEED))
        await asyncio.sleep(0)
        assert len(kept.calls) == 1

    async def test_that_it_cannot_be_made_is_said_once(
        self, kept: Kept, caplog: pytest.LogCaptureFixture
    ) -> None:
        kept.postgres.fails["create_slot"] = PostgresError("wal_level is not logical")
        for _ in range(3):
            await kept.leads(config(**FEED))
            await asyncio.gather(*kept.keeper._beside.values())
            await asyncio.sleep(0)
        assert caplog.text.count("wal_level is not logical") == 1
        assert len(kept.calls) == 3

    async def test_one_that_the_lead_has_left_behind_is_not_replaced_by_an_empty_one(
        self, kept: Kept, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Its subscriber would go on over it, without what it has missed."""
        known = replace(config(**FEED), status={"slots": {"feed": 0x500}})
        for _ in range(2):
            written = await kept.leads(known)
            assert written["slots"]["feed"] == 0x500, "the next agent must know, too"
            await asyncio.sleep(0)
        assert kept.calls == []
        assert caplog.text.count("must begin anew") == 1

    async def test_nor_one_whose_copy_was_not_ready_when_this_member_was_promoted(
        self, kept: Kept, caplog: pytest.LogCaptureFixture
    ) -> None:
        kept.postgres.copies.left = {"feed"}
        await kept.leads(config(**FEED), feed=slot(**LOGICAL))
        await kept.leads(config(**FEED))
        await asyncio.sleep(0)
        assert kept.calls == []
        assert caplog.text.count("must begin anew") == 1

    async def test_one_that_somebody_has_dropped_is_made_again(self, kept: Kept) -> None:
        known = replace(config(**FEED), status={"slots": {"feed": 0x500}})
        await kept.leads(known, feed=slot(**LOGICAL))
        await kept.leads(known)
        await asyncio.sleep(0)
        assert kept.calls == [("create_slot", "feed", "app", "pgoutput")]

    async def test_one_that_is_not_permanent_any_more_has_the_time_of_absent_members(
        self, kept: Kept
    ) -> None:
        feed = slot(**LOGICAL)
        await kept.leads(config(**FEED), feed=feed)
        await kept.leads(feed=feed)
        kept.now += 1801
        await kept.leads(feed=feed)
        assert kept.calls == [("drop_slot", "feed")]

    async def test_a_new_agent_knows_from_etcd_that_it_was_ours(self, kept: Kept) -> None:
        known = replace(config(member_slots_ttl=0), status={"slots": {"feed": 5}})
        await kept.leads(known, feed=slot(**LOGICAL), other=slot(**LOGICAL))
        assert kept.calls == [("drop_slot", "feed")]


class TestWhatALeaderWrites:
    async def test_absent_members_are_named_until_their_time_is_over(self, kept: Kept) -> None:
        before = replace(cluster(ME), status={"retain_slots": ["pg1", "pg2", "pg3", "pg9"]})
        assert "pg9" in (await kept.leads(before, pg9=slot()))["retain_slots"]
        kept.now += 1800
        assert "pg9" in (await kept.leads(before, pg9=slot()))["retain_slots"]
        kept.now += 1
        written = await kept.leads(before, pg9=slot())
        assert written["retain_slots"] == ["pg1", "pg2", "pg3"]
        assert set(written["slots"]) == {"pg1", "pg2", "pg3"}

    async def test_also_where_their_slot_is_not_on_this_node(self, kept: Kept) -> None:
        before = replace(cluster(ME), status={"retain_slots": ["pg9"]})
        assert "pg9" in (await kept.leads(before))["retain_slots"]
        kept.now += 1801
        assert "pg9" not in (await kept.leads(before))["retain_slots"]

    async def test_whose_slot_somebody_drops_is_named_no_more(self, kept: Kept) -> None:
        before = replace(cluster(ME), status={"retain_slots": ["pg9"]})
        assert "pg9" in (await kept.leads(before, pg9=slot()))["retain_slots"]
        silent = replace(primary(), process=Process.STARTING)
        seen = replace(view(silent, cluster=before), now=kept.now)
        assert "pg9" in kept.keeper.status(seen)["retain_slots"], "nobody knows what is there"
        assert "pg9" not in (await kept.leads(before))["retain_slots"]
        back = replace(before, members={**before.members, "pg9": member("pg9")})
        assert "pg9" in (await kept.leads(back))["retain_slots"]
        assert kept.calls == [("create_slot", "pg9")]

    async def test_a_new_leader_gives_them_their_time_anew(self, kept: Kept) -> None:
        before = replace(cluster(), status={"retain_slots": ["pg9"]})
        await kept.follows(standby(slots={**OTHERS, "pg9": slot()}), before)
        kept.now += 1801
        led = replace(cluster(ME), status={"retain_slots": ["pg9"]})
        assert "pg9" in (await kept.leads(led, pg9=slot()))["retain_slots"]
        assert kept.calls == []

    async def test_slots_of_other_people_are_not_named(self, kept: Kept) -> None:
        written = await kept.leads(backup=slot(), feed=slot(**LOGICAL))
        assert written["retain_slots"] == ["pg1", "pg2", "pg3"]
        assert set(written["slots"]) == {"pg1", "pg2", "pg3"}


class TestAStandby:
    """R35: whoever is promoted can be streamed from at once."""

    async def test_it_has_every_other_members_too(self, kept: Kept) -> None:
        await kept.follows(standby())
        assert kept.calls == [("create_slot", "pg2"), ("create_slot", "pg3")]

    async def test_they_are_moved_now_and_then_only(self, kept: Kept) -> None:
        known = replace(cluster(), status={"slots": {"pg3": 0x2000}})
        instance = standby(slots={"pg2": slot(active=True), "pg3": slot()})
        await kept.follows(instance, known)
        kept.now = NOW + ADVANCE_SECONDS
        await kept.follows(instance, known)
        assert kept.calls == [("advance_slot", "pg3", str(0x2000))]
        kept.now = NOW + ADVANCE_SECONDS + 0.1
        await kept.follows(instance, known)
        assert kept.calls == [("advance_slot", "pg3", str(0x2000))]

    async def test_what_its_leader_keeps_no_longer_goes_at_once(self, kept: Kept) -> None:
        instance = standby(slots={**OTHERS, "pg9": slot()})
        before = replace(cluster(), status={"retain_slots": ["pg9"]})
        await kept.follows(instance, before)
        assert kept.calls == []
        await kept.follows(instance, replace(before, status={"retain_slots": ["pg1"]}))
        assert kept.calls == [("drop_slot", "pg9")]

    async def test_of_a_leader_that_does_not_say_what_it_keeps_nothing_is_concluded(
        self, kept: Kept
    ) -> None:
        instance = standby(slots={**OTHERS, "pg9": slot()})
        await kept.follows(instance, cluster(members=[member("pg9")]))
        await kept.follows(instance)
        assert kept.calls == []

    async def test_other_peoples_have_the_time_of_absent_members(self, kept: Kept) -> None:
        instance = standby(slots={**OTHERS, "mine": slot(), "feed": slot(**LOGICAL)})
        known = replace(cluster(), status={"retain_slots": ["pg1", "pg2", "pg3"]})
        await kept.follows(instance, known)
        kept.now += 1800
        await kept.follows(instance, known)
        assert kept.calls == []
        kept.now += 1
        await kept.follows(instance, known)
        assert kept.calls == [("drop_slot", "mine")]

    async def test_a_former_primarys_failover_slots_make_way_for_copies(self, kept: Kept) -> None:
        leader = member("pg2", role="primary", pgherd={"failover_slots": ["feed"]})
        left = slot(**LOGICAL, failover=True)
        slots = {**OTHERS, "feed": left, "alone": left}
        await kept.follows(standby(slots=slots), cluster(members=[leader]))
        assert kept.calls == [("drop_slot", "feed")]
        kept.now += 1801
        await kept.follows(standby(slots=slots), cluster(members=[leader]))
        assert ("drop_slot", "alone") in kept.calls, "nobody can use it, and it holds WAL"

    async def test_copies_stay(self, kept: Kept) -> None:
        copied = slot(**LOGICAL, failover=True, synced=True)
        known = replace(
            cluster(config=FEED), status={"slots": {"feed": 5}, "retain_slots": ["pg1"]}
        )
        for _ in range(2):
            await kept.follows(standby(slots={**OTHERS, "feed": copied}), known)
            kept.now += 10_000
        assert kept.calls == []


class TestWithoutEtcd:
    """R38."""

    def silent(self, instance: Instance, known: Cluster, **told: int) -> View:
        return replace(view(instance, cluster=known), store_answers=False, told=told)

    async def test_copies_follow_what_the_leader_tells_and_nothing_else_changes(
        self, kept: Kept
    ) -> None:
        slots = {"pg3": slot(), "left_over": slot()}
        known = replace(cluster(), status={"slots": {"pg3": 0x1100}})
        await kept.keeper.keep(self.silent(standby(slots=slots), known, pg3=0x2000))
        assert kept.calls == [("advance_slot", "pg3", str(0x2000))]

    async def test_without_failsafe_mode_nothing_moves(self, kept: Kept) -> None:
        known = replace(cluster(), status={"slots": {"pg3": 0x1100}})
        await kept.keeper.keep(self.silent(standby(slots={"pg3": slot()}), known))
        assert kept.calls == []

    async def test_a_leader_lets_go_of_what_a_member_behind_another_has(self, kept: Kept) -> None:
        third = member("pg3", tags={"replicatefrom": "pg2"})
        instance = primary(slots={"pg2": slot(active=True), "pg3": slot()})
        known = cluster(ME, members=[third])
        await kept.keeper.keep(self.silent(instance, known, pg2=0x2000, pg3=0x1800))
        assert kept.calls == [("advance_slot", "pg3", str(0x1800))]


class TestFailoverSlots:
    """PostgreSQL 17: who copies slots, whom subscribers wait for."""

    async def test_a_standby_copies_from_the_leader_only(self, kept: Kept) -> None:
        of_leader = standby(slots=OTHERS, subscribers_wait_for=frozenset())
        copies = []
        for upstream in ("pg2:5432", "pg3:5432", "pg2:5432"):
            await kept.follows(replace(of_leader, upstream=upstream))
            copies.append(kept.postgres.files.syncs_slots)
        assert copies == [True, False, True]
        assert kept.calls == [("rewrite",), ("rewrite",)]

    async def test_subscribers_wait_for_who_streams(self, kept: Kept) -> None:
        files = kept.postgres.files
        instance = primary(slots=OTHERS, replication=(row("pg2"), row("pg3")))
        await kept.keeper.keep(
            view(replace(instance, subscribers_wait_for=frozenset()), cluster=cluster(ME))
        )
        chosen = [files.subscribers_wait_for]
        instance = replace(instance, replication=(row("pg3"),))
        known = frozenset({"pg2", "pg3"})
        for _ in range(2):
            await kept.keeper.keep(
                view(replace(instance, subscribers_wait_for=known), cluster=cluster(ME))
            )
        chosen.append(files.subscribers_wait_for)
        assert chosen == [("pg2", "pg3"), ("pg3",)]
        assert kept.calls == [("rewrite",), ("rewrite",)], "and nothing when nothing has changed"

    async def test_what_somebody_else_has_set_is_taken_back(self, kept: Kept) -> None:
        instance = primary(
            slots=OTHERS, replication=(row("pg2"),), subscribers_wait_for=frozenset({"pg2"})
        )
        seen = view(instance, cluster=cluster(ME))
        await kept.keeper.keep(seen)
        kept.postgres.files.paced_by = frozenset({"pg2"})
        await kept.keeper.keep(seen)
        assert kept.calls == [("rewrite",)]
        other = replace(instance, subscribers_wait_for=frozenset())
        await kept.keeper.keep(replace(seen, instance=other))
        assert kept.calls == [("rewrite",), ("reload",)]

    async def test_before_it_nothing_of_that_is_touched(self, kept: Kept) -> None:
        instance = primary(slots=OTHERS, replication=(row("pg2"),))
        await kept.keeper.keep(view(instance, cluster=cluster(ME)))
        assert kept.calls == []
        assert kept.postgres.files.subscribers_wait_for == ()
