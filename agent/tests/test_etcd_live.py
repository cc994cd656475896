# SPDX-License-Identifier: GPL-3.0-or-later
"""The etcd client against real etcd processes: transactions, leases, watches, sick members."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from agent.tests import etcd_processes
from pgherd.errors import LeaseLostError, StoreError, StoreUnavailableError
from pgherd.etcd import Compare, Delete, Etcd, Put

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.tests.etcd_processes import EtcdMember

KEY = "/test/key"
WITHIN = 20.0


async def value_of(etcd: Etcd, key: str = KEY) -> str | None:
    """Return what *key* holds, None when it is absent."""
    _, found = await etcd.range(key)
    return next((each.value for each in found if each.key == key), None)


@contextlib.asynccontextmanager
async def client(
    endpoints: list[str], within: float = 5, hedge_delay: float = 0.05
) -> AsyncIterator[Etcd]:
    """Return a client that is closed at the end."""
    etcd = Etcd(endpoints, timeout=within, hedge_delay=hedge_delay)
    try:
        yield etcd
    finally:
        await etcd.close()


async def split_by_role(
    etcd: Etcd, members: list[EtcdMember]
) -> tuple[EtcdMember, list[EtcdMember]]:
    """Return raft's leader and its followers."""
    statuses = {each.endpoint: await etcd.member_status(each.endpoint) for each in members}
    ahead = [m for m in members if statuses[m.endpoint].member_id == statuses[m.endpoint].leader_id]
    assert len(ahead) == 1
    return ahead[0], [each for each in members if each is not ahead[0]]


class TestTransactions:
    async def test_a_transaction_is_done_only_if_its_compares_hold(self, real_etcd: Etcd) -> None:
        free = Compare(KEY, "create_revision", 0)
        assert await real_etcd.txn([free], [Put(KEY, "first")])
        assert not await real_etcd.txn([free], [Put(KEY, "second")])
        assert await value_of(real_etcd) == "first"

    @pytest.mark.parametrize("target", ["create_revision", "mod_revision", "lease", "value"])
    async def test_every_kind_of_compare_tells_equal_from_different(
        self, real_etcd: Etcd, target: str
    ) -> None:
        lease = await real_etcd.lease_grant(60)
        await real_etcd.txn([], [Put(KEY, "old", lease)])
        await real_etcd.txn([], [Put(KEY, "now", lease)])
        _, [found] = await real_etcd.range(KEY)
        actual = getattr(found, target)
        other = "else" if target == "value" else actual + 1
        assert not await real_etcd.txn([Compare(KEY, target, other)], [Delete(KEY)])
        assert await real_etcd.txn([Compare(KEY, target, actual)], [Delete(KEY)])
        assert await value_of(real_etcd) is None
        await real_etcd.lease_revoke(lease)

    async def test_a_key_written_again_keeps_its_create_revision(self, real_etcd: Etcd) -> None:
        await real_etcd.txn([], [Put(KEY, "1")])
        _, [first] = await real_etcd.range(KEY)
        await real_etcd.txn([], [Put(KEY, "2")])
        revision, [second] = await real_etcd.range(KEY)
        assert second.create_revision == first.create_revision
        assert second.mod_revision > first.mod_revision
        assert revision >= second.mod_revision

    async def test_a_range_holds_the_keys_below_the_prefix_and_no_others(
        self, real_etcd: Etcd
    ) -> None:
        names = ["/test/a/1", "/test/a/2", "/test/b", "/test/a0"]
        await real_etcd.txn([], [Put(name, "grüße\n") for name in names])
        _, found = await real_etcd.range("/test/a/")
        assert [(each.key, each.value) for each in found] == [
            ("/test/a/1", "grüße\n"),
            ("/test/a/2", "grüße\n"),
        ]

    async def test_a_refused_request_is_no_outage(self, real_etcd: Etcd) -> None:
        """etcd refuses two writes of one key in one transaction; no other member would not."""
        with pytest.raises(StoreError, match="duplicate key") as caught:
            await real_etcd.txn([], [Put(KEY, "1"), Put(KEY, "2")])
        assert not isinstance(caught.value, StoreUnavailableError)


class TestLeases:
    async def test_a_key_goes_with_its_lease(self, real_etcd: Etcd) -> None:
        lease = await real_etcd.lease_grant(60)
        await real_etcd.txn([], [Put(KEY, "x", lease)])
        _, [found] = await real_etcd.range(KEY)
        assert found.lease == lease
        await real_etcd.lease_revoke(lease)
        assert await value_of(real_etcd) is None

    async def test_a_lease_that_is_kept_alive_outlives_one_that_is_not(
        self, real_etcd: Etcd
    ) -> None:
        kept, left = await real_etcd.lease_grant(2), await real_etcd.lease_grant(2)
        await real_etcd.txn([], [Put("/test/kept", "x", kept), Put("/test/left", "x", left)])
        revision, _ = await real_etcd.range("/test/")

        async def keep() -> None:
            while True:
                await real_etcd.lease_keepalive(kept)
                await asyncio.sleep(0.2)

        keeping = asyncio.create_task(keep())
        async with asyncio.timeout(WITHIN):
            gone = await anext(real_etcd.watch("/test/", revision + 1))
        assert gone == {"/test/left"}
        assert not keeping.done()
        keeping.cancel()
        assert await value_of(real_etcd, "/test/kept") == "x"
        with pytest.raises(LeaseLostError):
            await real_etcd.lease_keepalive(left)

    async def test_a_lost_lease_cannot_be_renewed_nor_written_on(self, real_etcd: Etcd) -> None:
        lease = await real_etcd.lease_grant(60)
        await real_etcd.lease_revoke(lease)
        with pytest.raises(LeaseLostError):
            await real_etcd.lease_keepalive(lease)
        with pytest.raises(LeaseLostError):
            await real_etcd.txn([], [Put(KEY, "x", lease)])
        assert await value_of(real_etcd) is None

    async def test_revoking_a_lease_twice_is_fine(self, real_etcd: Etcd) -> None:
        lease = await real_etcd.lease_grant(60)
        await real_etcd.lease_revoke(lease)
        await real_etcd.lease_revoke(lease)
        with pytest.raises(LeaseLostError):
            await real_etcd.lease_keepalive(lease)


class TestWatches:
    async def test_a_watch_yields_what_changed_since_its_revision(self, real_etcd: Etcd) -> None:
        await real_etcd.txn([], [Put("/test/before", "x")])
        revision, _ = await real_etcd.range("/test/")
        await real_etcd.txn([], [Put("/test/a", "x"), Put("/test/b", "x")])
        changes = real_etcd.watch("/test/", revision + 1)
        async with asyncio.timeout(WITHIN):
            assert await anext(changes) == {"/test/a", "/test/b"}
            await real_etcd.txn([], [Put("/other", "x")])
            await real_etcd.txn([], [Delete("/test/a")])
            assert await anext(changes) == {"/test/a"}

    async def test_a_watch_from_before_the_compaction_ends(self, real_etcd: Etcd) -> None:
        """Its caller reads all keys again and starts another one."""
        for number in range(3):
            await real_etcd.txn([], [Put(KEY, str(number))])
        revision, _ = await real_etcd.range(KEY)
        await real_etcd._call("/v3/kv/compaction", {"revision": str(revision)})
        async with asyncio.timeout(WITHIN):
            assert [change async for change in real_etcd.watch("/test/", revision - 2)] == []

    async def test_a_watch_on_a_dead_endpoint_fails_and_the_next_goes_elsewhere(
        self, real_etcd: Etcd
    ) -> None:
        [dead] = etcd_processes.free_ports(1)
        revision, _ = await real_etcd.range("/test/")
        await real_etcd.txn([], [Put(KEY, "x")])
        async with client([f"http://127.0.0.1:{dead}", *real_etcd.endpoints]) as etcd:
            with pytest.raises(StoreUnavailableError, match=str(dead)):
                await anext(etcd.watch("/test/", revision + 1))
            async with asyncio.timeout(WITHIN):
                assert await anext(etcd.watch("/test/", revision + 1)) == {KEY}


class TestSickMembers:
    async def test_a_frozen_member_costs_a_hedge_and_the_preference(
        self, real_etcd: Etcd, etcd_members: list[EtcdMember]
    ) -> None:
        """Section 7 number 11: a hung member must not cost the lease."""
        leader, [follower, other] = await split_by_role(real_etcd, etcd_members)
        endpoints = [follower.endpoint, other.endpoint, leader.endpoint]
        async with client(endpoints) as etcd:
            lease = await etcd.lease_grant(60)
            assert etcd._order()[0] == follower.endpoint
            with follower.frozen():
                await etcd.lease_keepalive(lease)
                assert etcd._order()[0] == other.endpoint
                assert await etcd.txn([], [Put(KEY, "x", lease)])
                assert await value_of(etcd) == "x"
            assert etcd._order()[0] == other.endpoint
            etcd._preferred_until = 0
            assert etcd._order()[0] == follower.endpoint
            await etcd.lease_revoke(lease)

    async def test_who_watches_is_told_when_the_preferred_endpoint_hangs(
        self, real_etcd: Etcd, etcd_members: list[EtcdMember]
    ) -> None:
        """A watch on a hung member is silent for good; events would be missed unnoticed."""
        leader, [follower, other] = await split_by_role(real_etcd, etcd_members)
        async with client([follower.endpoint, other.endpoint, leader.endpoint]) as etcd:
            await etcd.range(KEY)
            moving = asyncio.create_task(etcd.moved())
            await asyncio.wait({moving}, timeout=0)
            with follower.frozen():
                await etcd.range(KEY)
                async with asyncio.timeout(WITHIN):
                    await moving

    async def test_a_dead_endpoint_is_passed_over_at_once(
        self, real_etcd: Etcd, etcd_members: list[EtcdMember]
    ) -> None:
        """No hedge delay is waited for: this one is longer than the whole request may take."""
        [port] = etcd_processes.free_ports(1)
        dead = f"http://127.0.0.1:{port}"
        async with client([dead, etcd_members[0].endpoint], within=10, hedge_delay=60) as etcd:
            assert await etcd.txn([], [Put(KEY, "x")])
            assert etcd._order()[0] == etcd_members[0].endpoint

    async def test_without_any_endpoint_the_error_names_them_all(self) -> None:
        endpoints = [f"http://127.0.0.1:{port}" for port in etcd_processes.free_ports(3)]
        async with client(endpoints) as etcd:
            with pytest.raises(StoreUnavailableError) as caught:
                await etcd.range("/")
        assert all(endpoint in str(caught.value) for endpoint in endpoints)

    async def test_when_all_members_hang_the_request_ends_and_says_who_is_silent(
        self, real_etcd: Etcd, etcd_members: list[EtcdMember]
    ) -> None:
        with contextlib.ExitStack() as stack:
            for each in etcd_members:
                stack.enter_context(each.frozen())
            async with client(list(real_etcd.endpoints), within=0.3) as etcd:
                with pytest.raises(StoreUnavailableError) as caught:
                    await etcd.range("/")
        assert all(f"{each.endpoint}: no answer" in str(caught.value) for each in etcd_members)

    async def test_a_member_without_quorum_is_unavailable_not_refusing(
        self, real_etcd: Etcd, etcd_members: list[EtcdMember]
    ) -> None:
        """So the next member is asked, and no lease is taken for lost."""
        leader, [alone, other] = await split_by_role(real_etcd, etcd_members)
        lease = await real_etcd.lease_grant(60)
        with leader.frozen(), other.frozen():
            async with client([alone.endpoint], within=WITHIN) as etcd:
                answers = await asyncio.gather(
                    etcd.range("/"),
                    etcd.txn([], [Put(KEY, "x")]),
                    etcd.lease_grant(60),
                    etcd.lease_keepalive(lease),
                    return_exceptions=True,
                )
        assert [type(answer) for answer in answers] == [StoreUnavailableError] * 4


class TestMembers:
    async def test_the_member_list_names_every_voter_and_its_urls(
        self, real_etcd: Etcd, etcd_members: list[EtcdMember]
    ) -> None:
        listed = await real_etcd.member_ids()
        expected = {}
        for each in etcd_members:
            status = await real_etcd.member_status(each.endpoint)
            expected[status.member_id] = (each.endpoint,)
        assert listed == expected

    async def test_a_learner_is_not_listed_as_a_voter(self, real_etcd: Etcd) -> None:
        [port] = etcd_processes.free_ports(1)
        before = await real_etcd.member_ids()
        added = await real_etcd._call(
            "/v3/cluster/member/add",
            {"peerURLs": [f"http://127.0.0.1:{port}"], "isLearner": True},
        )
        try:
            assert await real_etcd.member_ids() == before
        finally:
            learner = added["member"]["ID"]
            await real_etcd._call("/v3/cluster/member/remove", {"ID": learner})

    async def test_raft_leadership_is_handed_to_the_member_named(
        self, real_etcd: Etcd, etcd_members: list[EtcdMember]
    ) -> None:
        leader, [follower, _] = await split_by_role(real_etcd, etcd_members)
        target = (await real_etcd.member_status(follower.endpoint)).member_id
        await real_etcd.transfer_leadership(leader.endpoint, target)
        assert (await real_etcd.member_status(follower.endpoint)).leader_id == target

    async def test_a_status_is_asked_of_one_member_only(self, real_etcd: Etcd) -> None:
        [port] = etcd_processes.free_ports(1)
        with pytest.raises(StoreUnavailableError):
            await real_etcd.member_status(f"http://127.0.0.1:{port}")
