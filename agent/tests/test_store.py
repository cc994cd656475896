# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster's keys: every test runs over the real etcd and over the imitation other tests use."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.builders import ME, SYSTEM_ID
from agent.tests.fakes import MemoryEtcd
from pgherd.errors import StoreUnavailableError
from pgherd.etcd import Compare, Delete, Etcd, KeyValue, Put
from pgherd.handover import Handover
from pgherd.model import Cluster, LeaderKey, SyncKey
from pgherd.quorum import Electing
from pgherd.store import Store, dump, parse_cluster

if TYPE_CHECKING:
    from collections.abc import Sequence

BASE = "/service/demo/"
WITHIN = 20.0


@pytest.fixture(params=["memory", "real"])
def etcd(request: pytest.FixtureRequest) -> Etcd:
    if request.param == "memory":
        return MemoryEtcd()
    real: Etcd = request.getfixturevalue("real_etcd")
    return real


@pytest.fixture
def store(etcd: Etcd) -> Store:
    return Store(etcd, "service", "demo", ME)


@pytest.fixture
def rival(etcd: Etcd) -> Store:
    """Return the store of another member of the same cluster."""
    return Store(etcd, "/service/", "demo", "pg2")


async def keys(etcd: Etcd) -> dict[str, KeyValue]:
    """Return what is there, by name relative to the cluster's base."""
    _, found = await etcd.range(BASE)
    return {each.key.removeprefix(BASE): each for each in found}


async def lead(store: Store) -> tuple[LeaderKey, int]:
    """Take the free key on a new lease; return the key and the lease."""
    lease = await store.etcd.lease_grant(60)
    assert await store.take_leader(lease)
    leader = (await store.load()).leader
    assert leader is not None
    return leader, lease


class TestTheLeaderKey:
    async def test_one_of_two_gets_it(self, etcd: Etcd, store: Store, rival: Store) -> None:
        ours, theirs = await etcd.lease_grant(60), await etcd.lease_grant(60)
        won = await asyncio.gather(store.take_leader(ours), rival.take_leader(theirs))
        assert sorted(won) == [False, True]
        leader = (await store.load()).leader
        assert leader is not None
        assert (leader.name, leader.lease) == ((ME, ours) if won[0] else ("pg2", theirs))

    async def test_it_holds_the_plain_member_name(self, etcd: Etcd, store: Store) -> None:
        """vip-manager and patronictl read it so."""
        _, lease = await lead(store)
        found = (await keys(etcd))["leader"]
        assert (found.value, found.lease) == (ME, lease)

    async def test_it_goes_with_the_lease(self, etcd: Etcd, store: Store, rival: Store) -> None:
        _, lease = await lead(store)
        await etcd.lease_revoke(lease)
        assert (await rival.load()).leader is None
        assert (await lead(rival))[0].name == "pg2"

    async def test_it_is_released_only_by_its_holder(
        self, etcd: Etcd, store: Store, rival: Store
    ) -> None:
        old, lease = await lead(store)
        await etcd.lease_revoke(lease)
        new, _ = await lead(rival)
        assert not await store.release_leader(old, {})
        assert (await store.load()).leader == new
        assert await rival.release_leader(new, {})
        assert (await store.load()).leader is None

    async def test_it_moves_to_another_lease_and_stays_the_same_key(
        self, etcd: Etcd, store: Store
    ) -> None:
        old, lease = await lead(store)
        longer = await etcd.lease_grant(120)
        assert await store.move_leader(old, longer)
        await etcd.lease_revoke(lease)
        moved = (await store.load()).leader
        assert moved == LeaderKey(ME, longer, old.create_revision)

    async def test_it_does_not_move_once_somebody_else_holds_it(
        self, etcd: Etcd, store: Store, rival: Store
    ) -> None:
        old, lease = await lead(store)
        await etcd.lease_revoke(lease)
        new, _ = await lead(rival)
        assert not await store.move_leader(old, await etcd.lease_grant(60))
        assert (await store.load()).leader == new


OURS = SyncKey(ME, Electing(frozenset({"pg2", "pg3"}), 1))
THEIRS = SyncKey("pg2", Electing(frozenset({ME}), 0))


async def sync_revision(store: Store) -> int:
    return (await store.load()).sync_revision


class TestTheSyncKey:
    async def test_a_leader_writes_it_as_patroni_does(self, etcd: Etcd, store: Store) -> None:
        leader, _ = await lead(store)
        assert await store.write_sync(leader, OURS, 0)
        assert (await keys(etcd))["sync"].value == (
            '{"leader":"pg1","sync_standby":"pg2,pg3","quorum":1}'
        )
        read = (await store.load()).sync
        assert read is not None
        assert (read.leader, read.electing) == (OURS.leader, OURS.electing)
        assert read.revision == await sync_revision(store) > 0

    async def test_it_is_written_only_over_the_value_that_was_judged(self, store: Store) -> None:
        leader, _ = await lead(store)
        assert await store.write_sync(leader, THEIRS, 0)
        assert not await store.write_sync(leader, OURS, 0)
        assert not await store.write_sync(leader, None, 0)
        assert await store.write_sync(leader, OURS, await sync_revision(store))

    async def test_a_deposed_leader_writes_nothing(
        self, etcd: Etcd, store: Store, rival: Store
    ) -> None:
        leader, lease = await lead(store)
        await etcd.lease_revoke(lease)
        await lead(rival)
        assert not await store.write_sync(leader, OURS, 0)
        assert not await store.write_sync(leader, None, 0)
        assert "sync" not in await keys(etcd)

    async def test_it_is_deleted(self, etcd: Etcd, store: Store) -> None:
        leader, _ = await lead(store)
        await store.write_sync(leader, OURS, 0)
        assert await store.write_sync(leader, None, await sync_revision(store))
        assert "sync" not in await keys(etcd)
        assert await sync_revision(store) == 0

    async def test_where_it_names_nobody_it_keeps_the_number_of_a_timeline(
        self, etcd: Etcd, store: Store
    ) -> None:
        """Patroni reads it like a key that is not there."""
        assert await store.take_leader(await etcd.lease_grant(60), 0, SyncKey("", timeline=4))
        value = (await keys(etcd))["sync"].value
        assert value == '{"leader":null,"sync_standby":null,"quorum":0,"timeline":4}'
        read = await store.load()
        assert (read.sync, read.last_timeline) == (None, 4)

    async def test_it_changes_hands_with_the_leader_key(self, etcd: Etcd, store: Store) -> None:
        lease = await etcd.lease_grant(60)
        assert await store.take_leader(lease, 0, OURS)
        found = await keys(etcd)
        assert found["leader"].mod_revision == found["sync"].mod_revision
        assert found["sync"].lease == 0

    @pytest.mark.parametrize("is_there", [True, False])
    async def test_one_that_has_changed_since_ends_the_attempt_as_a_whole(
        self, etcd: Etcd, store: Store, *, is_there: bool
    ) -> None:
        """The votes were counted against another electorate."""
        if is_there:
            await etcd.txn([], [Put(BASE + "sync", dump(THEIRS.published()))])
        before = await sync_revision(store)
        await etcd.txn([], [Put(BASE + "sync", dump(THEIRS.published()))])
        assert not await store.take_leader(await etcd.lease_grant(60), before, OURS)
        found = await keys(etcd)
        assert "leader" not in found
        assert found["sync"].value == dump(THEIRS.published())

    async def test_the_loser_of_the_race_does_not_touch_it(
        self, etcd: Etcd, store: Store, rival: Store
    ) -> None:
        await lead(rival)
        assert not await store.take_leader(await etcd.lease_grant(60), 0, OURS)
        assert "sync" not in await keys(etcd)

    async def test_a_retaken_key_leaves_its_value_alone(self, etcd: Etcd, store: Store) -> None:
        leader, lease = await lead(store)
        await store.write_sync(leader, OURS, 0)
        await etcd.lease_revoke(lease)
        revision = await sync_revision(store)
        assert await store.take_leader(await etcd.lease_grant(60), revision)
        assert (await keys(etcd))["sync"].value == dump(OURS.published())


class TestARelease:
    async def test_it_says_that_nobody_needs_to_be_fenced(self, etcd: Etcd, store: Store) -> None:
        leader, _ = await lead(store)
        assert await store.release_leader(leader, {"optime": 5, "slots": {"pg2": 1}})
        assert json.loads((await keys(etcd))["status"].value) == {
            "optime": 5, "slots": {"pg2": 1}, "released": ME,
        }  # fmt: skip

    async def test_one_who_does_not_lead_any_more_says_nothing(
        self, etcd: Etcd, store: Store, rival: Store
    ) -> None:
        leader, lease = await lead(store)
        await etcd.lease_revoke(lease)
        await lead(rival)
        assert not await store.release_leader(leader, {})
        found = await keys(etcd)
        assert found["leader"].value == "pg2"
        assert "status" not in found


class TestFencing:
    async def test_a_deposed_leaders_write_changes_nothing(
        self, etcd: Etcd, store: Store, rival: Store
    ) -> None:
        old, lease = await lead(store)
        assert await store.write_as_leader(old, {"status": {"optime": 1}})
        await etcd.lease_revoke(lease)
        assert not await store.write_as_leader(old, {"status": {"optime": 2}})
        await lead(rival)
        assert not await store.write_as_leader(old, {"status": {"optime": 3}})
        assert not await store.adopt_initialize(old, "666")
        assert (await store.load()).optime == 1
        assert (await store.load()).initialize is None

    async def test_even_the_same_member_needs_its_present_term(
        self, etcd: Etcd, store: Store
    ) -> None:
        """The name alone would let a write of an earlier term through."""
        old, lease = await lead(store)
        await etcd.lease_revoke(lease)
        new, _ = await lead(store)
        assert not await store.write_as_leader(old, {"status": {"optime": 1}})
        assert await store.write_as_leader(new, {"status": {"optime": 2}, "history": [[1, 9, ""]]})
        cluster = await store.load()
        assert (cluster.optime, cluster.history) == (2, ((1, 9, ""),))

    async def test_a_repaired_initialize_key_is_bound_to_no_lease(
        self, etcd: Etcd, store: Store
    ) -> None:
        leader, lease = await lead(store)
        assert await store.adopt_initialize(leader, SYSTEM_ID)
        await etcd.lease_revoke(lease)
        assert (await store.load()).initialize == SYSTEM_ID


class TestBirth:
    """R39."""

    async def test_one_of_two_creates_the_cluster(
        self, etcd: Etcd, store: Store, rival: Store
    ) -> None:
        ours, theirs = await etcd.lease_grant(60), await etcd.lease_grant(60)
        won = await asyncio.gather(store.claim_initialize(ours), rival.claim_initialize(theirs))
        assert sorted(won) == [False, True]
        assert (await store.load()).initialize == ""

    async def test_the_claim_goes_with_a_member_that_dies_half_way(
        self, etcd: Etcd, store: Store, rival: Store
    ) -> None:
        lease = await etcd.lease_grant(60)
        assert await store.claim_initialize(lease)
        await etcd.lease_revoke(lease)
        assert await rival.claim_initialize(await etcd.lease_grant(60))

    async def test_a_cluster_appears_as_a_whole_and_outlives_its_creator(
        self, etcd: Etcd, store: Store
    ) -> None:
        lease = await etcd.lease_grant(60)
        await store.claim_initialize(lease)
        assert await store.complete_initialize(SYSTEM_ID, {"ttl": 30}, lease)
        cluster = await store.load()
        assert cluster.leader is not None
        assert (cluster.leader.name, cluster.leader.lease) == (ME, lease)
        await etcd.lease_revoke(lease)
        cluster = await store.load()
        assert (cluster.initialize, cluster.config, cluster.leader) == (
            SYSTEM_ID,
            {"ttl": 30},
            None,
        )

    async def test_a_lost_claim_creates_nothing(
        self, etcd: Etcd, store: Store, rival: Store
    ) -> None:
        lease = await etcd.lease_grant(60)
        await store.claim_initialize(lease)
        await etcd.lease_revoke(lease)
        await rival.claim_initialize(await etcd.lease_grant(60))
        again = await etcd.lease_grant(60)
        assert not await store.complete_initialize(SYSTEM_ID, {"ttl": 30}, again)
        cluster = await store.load()
        assert (cluster.initialize, cluster.config, cluster.leader) == ("", None, None)

    async def test_what_is_carried_out_twice_is_done_all_the_same(
        self, etcd: Etcd, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A hedged request may be, and the answer to the second one come first."""
        once = etcd.txn

        async def twice(compares: Sequence[Compare], operations: Sequence[Put | Delete]) -> bool:
            await once(compares, operations)
            return await once(compares, operations)

        lease = await etcd.lease_grant(60)
        monkeypatch.setattr(etcd, "txn", twice)
        assert await store.claim_initialize(lease)
        assert await store.complete_initialize(SYSTEM_ID, {"ttl": 30}, lease)
        assert (await store.load()).initialize == SYSTEM_ID

    async def test_a_claim_is_given_up_by_its_holder_only(
        self, etcd: Etcd, store: Store, rival: Store
    ) -> None:
        ours, theirs = await etcd.lease_grant(60), await etcd.lease_grant(60)
        await store.claim_initialize(ours)
        await rival.abandon_initialize(theirs)
        assert (await store.load()).initialize == ""
        await store.abandon_initialize(ours)
        assert (await store.load()).initialize is None


class TestTheMemberKey:
    async def test_it_is_compact_json_on_the_lease(self, etcd: Etcd, store: Store) -> None:
        lease = await etcd.lease_grant(60)
        await store.publish({"state": "running", "timeline": 1}, lease)
        found = (await keys(etcd))["members/pg1"]
        assert (found.value, found.lease) == ('{"state":"running","timeline":1}', lease)
        assert (await store.load()).members[ME].state == "running"

    async def test_it_is_written_again_only_when_it_or_its_lease_changes(
        self, etcd: Etcd, store: Store
    ) -> None:
        """Section 7 number 16: an idle cluster does not write."""
        first, second = await etcd.lease_grant(60), await etcd.lease_grant(60)
        revisions = []
        for data, lease in [
            ({"state": "running"}, first),
            ({"state": "running"}, first),
            ({"state": "stopped"}, first),
            ({"state": "stopped"}, second),
        ]:
            await store.publish(data, lease)
            revisions.append((await keys(etcd))["members/pg1"].mod_revision)
        assert revisions[0] == revisions[1]
        assert revisions[1] < revisions[2] < revisions[3]

    async def test_it_is_written_again_after_somebody_deleted_it(
        self, etcd: Etcd, store: Store
    ) -> None:
        lease = await etcd.lease_grant(60)
        await store.publish({"state": "running"}, lease)
        await etcd.txn([], [Delete(f"{BASE}members/pg1")])
        store.forget_published()
        await store.publish({"state": "running"}, lease)
        assert "members/pg1" in await keys(etcd)


class TestChanges:
    async def test_they_are_named_relative_to_the_cluster(self, etcd: Etcd, store: Store) -> None:
        revision = (await store.load()).revision
        await etcd.txn([], [Put("/service/demo2/leader", "x")])
        await etcd.txn([], [Put(f"{BASE}leader", "x"), Put(f"{BASE}members/pg2", "{}")])
        changes = store.changes(revision)
        async with asyncio.timeout(WITHIN):
            assert await anext(changes) == {"leader", "members/pg2"}

    async def test_what_the_load_has_seen_is_not_told_again(self, etcd: Etcd, store: Store) -> None:
        await etcd.txn([], [Put(f"{BASE}config", "{}")])
        changes = store.changes((await store.load()).revision)
        await etcd.txn([], [Put(f"{BASE}leader", "x")])
        async with asyncio.timeout(WITHIN):
            assert await anext(changes) == {"leader"}


class TestALostAnswer:
    async def test_of_a_race_that_was_won_is_looked_up(self) -> None:
        etcd = MemoryEtcd()
        store, lease = Store(etcd, "service", "demo", ME), await etcd.lease_grant(60)
        etcd.loses_answers = True
        assert await store.take_leader(lease)

    async def test_of_a_race_that_was_lost_is_looked_up(self) -> None:
        etcd = MemoryEtcd()
        await lead(Store(etcd, "service", "demo", "pg2"))
        etcd.loses_answers = True
        lease = await etcd.lease_grant(60)
        assert not await Store(etcd, "service", "demo", ME).take_leader(lease)

    async def test_of_a_move_is_looked_up(self) -> None:
        etcd = MemoryEtcd()
        store = Store(etcd, "service", "demo", ME)
        leader, _ = await lead(store)
        longer = await etcd.lease_grant(120)
        etcd.loses_answers = True
        assert await store.move_leader(leader, longer)

    async def test_of_a_publication_leads_to_another_one(self) -> None:
        etcd = MemoryEtcd()
        store, lease = Store(etcd, "service", "demo", ME), await etcd.lease_grant(60)
        etcd.loses_answers = True
        for _ in range(2):
            with pytest.raises(StoreUnavailableError):
                await store.publish({"state": "running"}, lease)
        assert etcd.writes == [f"{BASE}members/pg1"] * 2

    async def test_a_claim_that_cannot_be_given_up_now_is_left_to_the_lease(self) -> None:
        etcd = MemoryEtcd()
        store, lease = Store(etcd, "service", "demo", ME), await etcd.lease_grant(60)
        await store.claim_initialize(lease)
        etcd.is_down = True
        await store.abandon_initialize(lease)
        assert etcd.keys[f"{BASE}initialize"].lease == lease


def parse(**values: str) -> Cluster:
    """Read keys given by name; `__` stands for the slash."""
    named = {name.replace("__", "/"): text for name, text in values.items()}
    return parse_cluster(7, {name: KeyValue(name, text, 3, 4, 99) for name, text in named.items()})


class TestReading:
    def test_an_empty_directory_is_an_empty_cluster(self) -> None:
        assert parse() == Cluster(revision=7)

    def test_every_key_is_read(self) -> None:
        history: list[list[Any]] = [[1, 25, "no recovery target specified", "2026-01-01", "pg2"]]
        cluster = parse(
            initialize=SYSTEM_ID,
            leader="pg2",
            members__pg2='{"state":"running"}',
            config='{"ttl":30}',
            failover='{"member":"pg1"}',
            status='{"optime":67395656,"slots":{"pg1":1}}',
            history=json.dumps(history),
            sync='{"leader":"pg2","sync_standby":"pg1","quorum":0}',
        )
        assert cluster.initialize == SYSTEM_ID
        assert cluster.leader == LeaderKey("pg2", lease=99, create_revision=3)
        assert cluster.members["pg2"].is_running
        assert cluster.config == {"ttl": 30}
        assert cluster.handover == Handover(None, "pg1", id="4", revision=4)
        assert cluster.optime == 67395656
        assert cluster.status["slots"] == {"pg1": 1}
        assert cluster.history == (tuple(history[0]),)
        assert cluster.sync == SyncKey(
            "pg2", Electing(frozenset({"pg1"}), 0), cluster.sync_revision
        )

    def test_an_old_patronis_optime_is_read(self) -> None:
        """The key `optime/leader`, from before `status`."""
        assert parse(optime__leader="123").optime == 123

    @pytest.mark.parametrize("text", ["", "{", "[]", "1", "null", '"x"', "[1]", '{"optime":"x"}'])
    @pytest.mark.parametrize(
        "name",
        ["members__pg2", "config", "failover", "status", "history", "sync", "optime__leader"],
    )
    def test_a_damaged_key_does_not_hide_the_others(self, name: str, text: str) -> None:
        cluster = parse(leader="pg2", **{name: text})
        assert cluster.leader == LeaderKey("pg2", 99, 3)
        assert isinstance(cluster.optime, int)
        assert all(isinstance(row, tuple) for row in cluster.history)


def test_json_is_written_as_patroni_writes_it() -> None:
    assert dump({"a": [1, None], "b": True}) == '{"a":[1,null],"b":true}'
