# SPDX-License-Identifier: GPL-3.0-or-later
"""The steady state of a leader: its keys, the history, etcd's own leader."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.builders import ME, cluster, primary, slot, view
from agent.tests.fakes import MemoryEtcd, Rig
from pgherd.errors import StoreUnavailableError
from pgherd.etcd import KeyValue, MemberStatus
from pgherd.history import Branch
from pgherd.upkeep import RAFT_CHECK_SECONDS, Upkeep

if TYPE_CHECKING:
    from pathlib import Path

    from pgherd.model import Cluster, Instance
    from pgherd.view import View


FAILSAFE = {name: f"http://{name}:8008/patroni" for name in ("pg1", "pg2", "pg3")}
SLOTS = {"pg2": slot(active=True), "pg3": slot(active=True)}


class Kept:
    """A leader's upkeep over scripted surroundings."""

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


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


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

    def test_no_more_are_kept_than_is_asked_for(self, kept: Kept) -> None:
        """max_timelines_history: patroni.md 3.1."""
        kept.rig.postgres.history = self.BRANCHES
        asked = cluster(ME, config={"max_timelines_history": 1})
        rows = kept.upkeep._history(asked, primary(timeline=3))
        assert rows is not None
        assert [row[0] for row in rows] == [2]

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
