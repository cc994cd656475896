# SPDX-License-Identifier: GPL-3.0-or-later
"""The steady state: slots of members on every node, the history, etcd's own leader."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.builders import ME, NOW, cluster, member, primary, standby, view
from agent.tests.fakes import MemoryEtcd, Rig
from pgherd.errors import PostgresError, StoreUnavailableError
from pgherd.etcd import KeyValue, MemberStatus
from pgherd.history import Branch
from pgherd.upkeep import RAFT_CHECK_SECONDS, SLOT_ADVANCE_SECONDS, Upkeep

if TYPE_CHECKING:
    from pathlib import Path

    from pgherd.model import Cluster, Instance
    from pgherd.view import View


def slot(**changes: Any) -> dict[str, Any]:
    """Return an inactive physical slot."""
    return {"type": "physical", "active": False, "temporary": False, "restart": 100, **changes}


FAILSAFE = {name: f"http://{name}:8008/patroni" for name in ("pg1", "pg2", "pg3")}
SLOTS = {"pg2": slot(active=True), "pg3": slot(active=True)}


class Kept:
    """A leader's, or a standby's, upkeep over scripted surroundings."""

    def __init__(self, directory: Path) -> None:
        self.rig = Rig(directory, primary())
        self.upkeep: Upkeep = self.rig.loop.upkeep

    @property
    def calls(self) -> list[tuple[str, ...]]:
        return self.rig.postgres.calls

    async def leads(self, instance: Instance, known: Cluster | None = None) -> View:
        """Do a leader's round with *instance*."""
        seen = view(instance, cluster=known or cluster(ME))
        await self.upkeep.lead(seen)
        return seen

    async def stands_by(self, instance: Instance, known: Cluster | None = None) -> None:
        """Do a standby's round with *instance*."""
        await self.upkeep.keep_standby_slots(view(instance, cluster=known or cluster()))


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


class TestALeadersSlots:
    """R35, R36."""

    async def test_every_other_member_has_one(self, kept: Kept) -> None:
        await kept.leads(primary(slots={"pg2": slot()}))
        assert kept.calls == [("ensure_slots", "pg2", "pg3")] or kept.calls == [
            ("ensure_slots", "pg3")
        ]

    async def test_without_use_slots_nothing_is_made(self, kept: Kept) -> None:
        off = cluster(ME, config={"postgresql": {"use_slots": False}})
        await kept.leads(primary(), off)
        assert kept.calls == []

    async def test_an_absent_members_slot_is_kept_for_its_time_and_then_dropped(
        self, kept: Kept
    ) -> None:
        instance = primary(slots={**SLOTS, "pg9": slot()})
        await kept.leads(instance)
        kept.rig.clock.now = NOW + 1800
        await kept.leads(instance)
        assert kept.calls == []
        kept.rig.clock.now = NOW + 1801
        await kept.leads(instance)
        assert kept.calls == [("drop_slot", "pg9")]

    async def test_a_member_that_comes_back_has_its_time_anew(self, kept: Kept) -> None:
        instance = primary(slots={**SLOTS, "pg9": slot()})
        await kept.leads(instance)
        kept.rig.clock.now = NOW + 1000
        await kept.leads(instance, cluster(ME, members=[member("pg9")]))
        kept.rig.clock.now = NOW + 2000
        await kept.leads(instance)
        assert kept.calls == []

    @pytest.mark.parametrize(
        "other", [slot(active=True), slot(temporary=True), slot(type="logical")]
    )
    async def test_slots_that_are_nobodys_leftover_stay(
        self, kept: Kept, other: dict[str, Any]
    ) -> None:
        instance = primary(slots={**SLOTS, "pg9": other})
        await kept.leads(instance)
        kept.rig.clock.now = NOW + 10_000
        await kept.leads(instance)
        assert kept.calls == []

    async def test_what_postgresql_refuses_does_not_end_the_round(self, kept: Kept) -> None:
        kept.rig.postgres.fails["ensure_slots"] = PostgresError("all slots are in use")
        await kept.leads(primary())
        assert [call[0] for call in kept.calls] == ["ensure_slots"]


class TestAStandbysSlots:
    """R35: whoever is promoted can be streamed from at once."""

    async def test_every_other_member_has_one_here_too(self, kept: Kept) -> None:
        await kept.stands_by(standby())
        assert kept.calls == [("ensure_slots", "pg2", "pg3")]

    @pytest.mark.parametrize(
        ("position", "replayed", "target"),
        [("0/500", 0x900, 0x500), ("0/900", 0x500, 0x500), (None, 0x500, 0x500)],
        ids=["the member is behind", "we are behind", "the member is unknown"],
    )
    async def test_they_hold_back_no_more_than_their_member_or_we_need(
        self, kept: Kept, position: str | None, replayed: int, target: int
    ) -> None:
        known = cluster(members=[member("pg3", receive_lsn=position)])
        slots = {"pg2": slot(active=True), "pg3": slot(restart=0x100)}
        await kept.stands_by(standby(slots=slots, replayed=replayed), known)
        assert kept.calls == [("advance_slot", "pg3", str(target))]

    @pytest.mark.parametrize(
        "other",
        [slot(active=True), slot(type="logical"), slot(restart=None), slot(restart=0x9000)],
    )
    async def test_others_are_left_where_they_are(self, kept: Kept, other: dict[str, Any]) -> None:
        await kept.stands_by(standby(slots={"pg2": slot(active=True), "pg3": other}))
        assert kept.calls == []

    async def test_they_are_moved_now_and_then_only(self, kept: Kept) -> None:
        instance = standby(slots={"pg2": slot(), "pg3": slot(active=True)})
        await kept.stands_by(instance)
        kept.rig.clock.now = NOW + SLOT_ADVANCE_SECONDS
        await kept.stands_by(instance)
        assert len(kept.calls) == 1
        kept.rig.clock.now = NOW + SLOT_ADVANCE_SECONDS + 0.1
        await kept.stands_by(instance)
        assert len(kept.calls) == 2


class TestTheHistory:
    """R45."""

    BRANCHES = (Branch(1, 100, "first"), Branch(2, 200, "second"))

    def rows(self, kept: Kept, timeline: int, known: tuple[Any, ...]) -> list[list[Any]] | None:
        kept.rig.postgres.history = self.BRANCHES[: timeline - 1]
        return kept.upkeep._history(cluster(ME, history=known), primary(timeline=timeline))

    def test_the_first_timeline_has_none(self, kept: Kept) -> None:
        assert self.rows(kept, 1, ()) is None

    def test_a_new_row_names_the_time_and_the_new_leader(self, kept: Kept) -> None:
        rows = self.rows(kept, 2, ())
        assert rows is not None
        [row] = rows
        assert (row[:3], row[4], len(row)) == ([1, 100, "first"], ME, 5)

    def test_known_rows_stay_as_they_are(self, kept: Kept) -> None:
        known = (1, 100, "first", "2026-01-01T00:00:00+00:00", "pg9")
        rows = self.rows(kept, 3, (known,))
        assert rows is not None
        assert rows[0] == list(known)
        assert (rows[1][0], rows[1][4]) == (2, ME)

    def test_of_older_timelines_nobody_knows_the_leader(self, kept: Kept) -> None:
        rows = self.rows(kept, 3, ())
        assert rows is not None
        assert [len(row) for row in rows] == [3, 5]

    def test_a_complete_one_is_not_written_again(self, kept: Kept) -> None:
        assert self.rows(kept, 2, ((1, 100, "first", "t", ME),)) is None

    def test_without_the_file_nothing_is_written(self, kept: Kept) -> None:
        kept.rig.postgres.history = ()
        assert kept.upkeep._history(cluster(ME), primary(timeline=2)) is None


class Raft(MemoryEtcd):
    """etcd whose member on this host leads raft; some members are silent."""

    def __init__(self, leader: int, silent: set[int]) -> None:
        super().__init__()
        self._endpoints = [f"http://{name}:2379" for name in ("127.0.0.1", "pg2", "pg3")]
        self.leader = leader
        self.silent = silent
        self.asked = 0
        self.moves: list[tuple[str, int]] = []

    async def member_status(self, endpoint: str) -> MemberStatus:
        self.asked += 1
        number = self._endpoints.index(endpoint) + 1
        if number in self.silent:
            raise StoreUnavailableError("silent")
        return MemberStatus(number, self.leader, "3.5.0")

    async def member_ids(self) -> dict[int, tuple[str, ...]]:
        return {index + 1: (endpoint,) for index, endpoint in enumerate(self._endpoints)}

    async def transfer_leadership(self, endpoint: str, target: int) -> None:
        self.moves.append((endpoint, target))


class TestEtcdsLeader:
    """A new raft leader restarts every lease: it shall not go down with PostgreSQL's host."""

    async def keep(self, kept: Kept, etcd: Raft) -> Raft:
        kept.rig.store._etcd = etcd
        await kept.upkeep._keep_raft_leader_away()
        return etcd

    @pytest.mark.parametrize(
        ("leader", "silent", "moves"),
        [
            (1, set(), [("http://127.0.0.1:2379", 2)]),
            (1, {2}, [("http://127.0.0.1:2379", 3)]),
            (1, {2, 3}, []),
            (2, set(), []),
        ],
        ids=["to the first other", "to a healthy one", "to nobody", "it is elsewhere already"],
    )
    async def test_it_is_asked_to_move_to_a_healthy_member(
        self, kept: Kept, leader: int, silent: set[int], moves: list[Any]
    ) -> None:
        assert (await self.keep(kept, Raft(leader, silent))).moves == moves

    async def test_it_is_looked_for_now_and_then_only(self, kept: Kept) -> None:
        etcd = await self.keep(kept, Raft(2, set()))
        await self.keep(kept, etcd)
        assert etcd.asked == 1
        kept.rig.clock.now += RAFT_CHECK_SECONDS
        await self.keep(kept, etcd)
        assert etcd.asked == 2

    async def test_an_etcd_elsewhere_is_none_of_our_business(self, kept: Kept) -> None:
        etcd = Raft(1, set())
        etcd._endpoints[0] = "http://192.0.2.1:2379"
        assert (await self.keep(kept, etcd)).asked == 0


async def test_a_leader_that_cannot_reach_etcd_leaves_its_keys_and_slots(kept: Kept) -> None:
    await kept.upkeep.lead(replace(view(primary(), cluster=cluster(ME)), store_answers=False))
    assert (kept.calls, kept.rig.etcd.writes) == ([], [])


class TestAFailsafeKey:
    """Who would be asked to wait, were etcd to fall silent."""

    async def writes(self, kept: Kept, known: Cluster) -> Any:
        """Do a leader's round; return what the key holds then, None when it was not written."""
        key = "/service/demo/failsafe"
        kept.rig.etcd.keys["/service/demo/leader"] = KeyValue("/service/demo/leader", ME, 5, 5, 77)
        await kept.leads(primary(slots=SLOTS), known)
        found = kept.rig.etcd.keys.get(key)
        return json.loads(found.value) if found else None

    async def test_it_names_every_member_and_its_address(self, kept: Kept) -> None:
        known = cluster(ME, config={"failsafe_mode": True})
        assert await self.writes(kept, known) == FAILSAFE

    async def test_it_is_not_written_again(self, kept: Kept) -> None:
        known = cluster(ME, config={"failsafe_mode": True}, failsafe=FAILSAFE)
        assert await self.writes(kept, known) is None

    async def test_it_follows_those_who_come_and_go(self, kept: Kept) -> None:
        two = {name: url for name, url in FAILSAFE.items() if name != "pg3"}
        known = cluster(ME, config={"failsafe_mode": True}, failsafe=two)
        assert await self.writes(kept, known) == FAILSAFE

    async def test_with_the_mode_off_it_is_not_written(self, kept: Kept) -> None:
        assert await self.writes(kept, cluster(ME, config={"ttl": 30})) is None
