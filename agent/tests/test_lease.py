# SPDX-License-Identifier: GPL-3.0-or-later
"""The lease: how long it is good for, how it is lost, how an agent's successor takes it over."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agent.tests.builders import NOW
from agent.tests.fakes import Clock, MemoryEtcd
from pgherd.clock import boot_id
from pgherd.config import Timing
from pgherd.errors import StoreUnavailableError
from pgherd.etcd import Put
from pgherd.lease import LeaseKeeper

if TYPE_CHECKING:
    from pathlib import Path

    from pgherd.etcd import KeyValue

TIMING = Timing(lease_ttl=5, keepalive_interval=1)
PREFIX = "/service/demo/"
# What a lease of five seconds is good for, counted from before the request.
GOOD_FOR = 5 - TIMING.margin


class Keeper:
    """A lease keeper, the etcd it talks to and what it has told."""

    def __init__(self, path: Path, delay: float = 0.0) -> None:
        self.path = path / "demo.lease"
        self.clock = Clock()
        self.etcd = MemoryEtcd(self.clock, delay)
        self.changes = 0
        self.deadlines: list[float] = []
        self.keeper = self.successor()

    def successor(self) -> LeaseKeeper:
        """Return the keeper of the next agent process on this host."""
        keeper = LeaseKeeper(self.etcd, TIMING, self.clock, self.path, self._changed, prefix=PREFIX)
        keeper.on_renewal(self.deadlines.append)
        return keeper

    def _changed(self) -> None:
        self.changes += 1

    @property
    def valid_until(self) -> float:
        assert self.keeper.lease is not None
        return self.keeper.lease.valid_until


@pytest.fixture
def kept(tmp_path: Path) -> Keeper:
    return Keeper(tmp_path)


@pytest.fixture
def slow(tmp_path: Path) -> Keeper:
    """Return a keeper whose every request takes 0.8 s."""
    return Keeper(tmp_path, delay=0.8)


class TestValidity:
    @pytest.mark.parametrize(("ttl", "margin"), [(2, 0.3), (3, 0.3), (5, 0.5), (30, 3.0)])
    def test_the_margin_is_a_tenth_and_never_less_than_is_needed_to_kill(
        self, ttl: int, margin: float
    ) -> None:
        assert Timing(lease_ttl=ttl).margin == pytest.approx(margin)

    async def test_it_counts_from_before_the_grant_was_asked_for(self, slow: Keeper) -> None:
        assert await slow.keeper.renew()
        assert slow.clock.now == NOW + 0.8
        assert slow.valid_until == NOW + GOOD_FOR

    async def test_it_counts_from_before_the_renewal_was_sent(self, slow: Keeper) -> None:
        await slow.keeper.renew()
        slow.clock.now = NOW + 2
        assert await slow.keeper.renew()
        assert slow.valid_until == NOW + 2 + GOOD_FOR

    async def test_it_ends_before_etcd_gives_the_key_to_others(self, slow: Keeper) -> None:
        """etcd counts from when it received the request: never before it was sent."""
        await slow.keeper.renew()
        earliest_loss = NOW + TIMING.lease_ttl
        assert slow.valid_until <= earliest_loss - TIMING.margin

    async def test_a_failed_renewal_prolongs_nothing(self, kept: Keeper) -> None:
        await kept.keeper.renew()
        kept.clock.now = NOW + 3
        kept.etcd.is_down = True
        assert not await kept.keeper.renew()
        assert kept.valid_until == NOW + GOOD_FOR

    async def test_a_lease_that_has_run_out_here_may_live_on_in_etcd(self, kept: Keeper) -> None:
        """Renewed late, it is good again: the keys on it were never gone."""
        await kept.keeper.renew()
        kept.clock.now = NOW + 60
        assert await kept.keeper.renew()
        assert kept.valid_until == NOW + 60 + GOOD_FOR
        assert len(kept.etcd.leases) == 1

    async def test_every_renewal_tells_the_guard_its_deadline(self, kept: Keeper) -> None:
        await kept.keeper.renew()
        kept.clock.now = NOW + 1
        await kept.keeper.renew()
        assert kept.deadlines == [NOW + GOOD_FOR, NOW + 1 + GOOD_FOR]


class TestLoss:
    async def test_a_lost_lease_is_forgotten_at_once_and_told(self, kept: Keeper) -> None:
        await kept.keeper.renew()
        kept.etcd.leases.clear()
        told = kept.changes
        # Not "well, see you in an interval": another one is wanted now.
        assert not await kept.keeper.renew()
        assert kept.keeper.lease is None
        assert kept.changes == told + 1

    async def test_one_that_keys_hang_on_is_not_lost(self, kept: Keeper) -> None:
        """A member that is behind says so; a majority knows better."""
        await kept.keeper.renew()
        lease = kept.keeper.lease
        assert lease is not None
        await kept.etcd.txn([], [Put(PREFIX + "leader", "pg1", lease.id)])
        told, known = kept.changes, dict(kept.etcd.leases)
        kept.etcd.leases.clear()
        assert not await kept.keeper.renew()
        assert (kept.keeper.lease, kept.changes) == (lease, told)
        kept.etcd.leases.update(known)
        assert await kept.keeper.renew()
        kept.etcd.keys.clear()
        kept.etcd.leases.clear()
        await kept.keeper.renew()
        assert kept.keeper.lease is None

    async def test_without_an_answer_it_is_not_lost_either(
        self, kept: Keeper, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await kept.keeper.renew()
        lease = kept.keeper.lease
        kept.etcd.leases.clear()

        async def silence(prefix: str) -> tuple[int, list[KeyValue]]:
            raise StoreUnavailableError("no answer")

        monkeypatch.setattr(kept.etcd, "range", silence)
        assert not await kept.keeper.renew()
        assert kept.keeper.lease == lease

    async def test_another_one_is_got_with_the_next_renewal(self, kept: Keeper) -> None:
        await kept.keeper.renew()
        first = kept.keeper.lease
        kept.etcd.leases.clear()
        await kept.keeper.renew()
        kept.clock.now = NOW + 1
        assert await kept.keeper.renew()
        assert first is not None
        assert kept.keeper.lease is not None
        assert kept.valid_until == NOW + 1 + GOOD_FOR

    async def test_without_etcd_there_is_none(self, kept: Keeper) -> None:
        kept.etcd.is_down = True
        assert not await kept.keeper.renew()
        assert kept.keeper.lease is None

    async def test_given_back_it_takes_its_keys_and_its_file_along(self, kept: Keeper) -> None:
        await kept.keeper.renew()
        kept.keeper.save()
        await kept.keeper.revoke()
        assert kept.keeper.lease is None
        assert kept.etcd.leases == {}
        assert not kept.path.exists()

    async def test_given_back_no_other_one_is_got(self, kept: Keeper) -> None:
        """The renewals go on beside the stop for a moment."""
        await kept.keeper.renew()
        await kept.keeper.revoke()
        await kept.keeper.renew()
        assert kept.keeper.lease is None
        assert kept.etcd.leases == {}

    async def test_that_it_could_not_be_given_back_is_told(self, kept: Keeper) -> None:
        await kept.keeper.renew()
        kept.etcd.is_down = True
        with pytest.raises(StoreUnavailableError):
            await kept.keeper.revoke()
        assert kept.keeper.lease is None


class TestSuccession:
    async def test_the_next_agent_goes_on_with_the_lease(self, kept: Keeper) -> None:
        await kept.keeper.renew()
        kept.clock.now = NOW + 2
        await kept.keeper.renew()
        kept.keeper.save()
        successor = kept.successor()
        successor.adopt()
        assert successor.lease == kept.keeper.lease
        assert await successor.renew()
        assert len(kept.etcd.leases) == 1

    async def test_after_a_crash_the_deadline_is_the_last_one_written(self, kept: Keeper) -> None:
        """Earlier than the true one, never later."""
        await kept.keeper.renew()
        kept.clock.now = NOW + 2
        await kept.keeper.renew()
        successor = kept.successor()
        successor.adopt()
        assert successor.lease is not None
        assert successor.lease.valid_until == NOW + GOOD_FOR

    async def test_a_lease_of_an_earlier_boot_is_not_taken_over(self, kept: Keeper) -> None:
        """Deadlines on CLOCK_BOOTTIME mean nothing after a reboot."""
        await kept.keeper.renew()
        kept.keeper.save()
        saved = json.loads(kept.path.read_text())
        assert saved["boot_id"] == boot_id()
        kept.path.write_text(json.dumps({**saved, "boot_id": "another"}))
        successor = kept.successor()
        successor.adopt()
        assert successor.lease is None

    @pytest.mark.parametrize("content", [None, "", "{", "[]", "{}", '{"lease": 1}', "null"])
    def test_a_missing_or_damaged_file_is_no_lease(self, kept: Keeper, content: str | None) -> None:
        if content is not None:
            kept.path.write_text(content)
        kept.keeper.adopt()
        assert kept.keeper.lease is None

    async def test_the_file_is_not_for_others(self, kept: Keeper) -> None:
        await kept.keeper.renew()
        assert kept.path.stat().st_mode & 0o777 == 0o600


class TestAnotherTtl:
    async def test_it_takes_effect_with_another_lease(self, kept: Keeper) -> None:
        await kept.keeper.renew()
        old = kept.keeper.lease
        kept.keeper.retime(replace(TIMING, lease_ttl=30))
        needed = [kept.keeper.needs_other_ttl]
        new = await kept.keeper.grant_other()
        assert kept.keeper.lease == old
        assert kept.keeper.switch(new) == old
        assert kept.keeper.lease == new
        assert [*needed, kept.keeper.needs_other_ttl] == [True, False]
        assert new.valid_until == NOW + 30 - 3
        assert kept.etcd.leases[new.id] == 30

    async def test_until_then_the_old_lease_is_renewed_for_its_own_ttl(self, kept: Keeper) -> None:
        """A longer ttl that etcd has not granted would promise what others do not keep."""
        await kept.keeper.renew()
        kept.keeper.retime(replace(TIMING, lease_ttl=30))
        kept.clock.now = NOW + 1
        await kept.keeper.renew()
        assert kept.valid_until <= NOW + 1 + GOOD_FOR

    async def test_a_ttl_wanted_between_the_grant_and_the_switch_is_not_taken_for_granted(
        self, kept: Keeper
    ) -> None:
        await kept.keeper.renew()
        kept.keeper.retime(replace(TIMING, lease_ttl=2))
        new = await kept.keeper.grant_other()
        kept.keeper.retime(replace(TIMING, lease_ttl=60))
        kept.keeper.switch(new)
        await kept.keeper.renew()
        assert kept.etcd.leases[new.id] == 2
        assert kept.valid_until < NOW + 2
        assert kept.keeper.needs_other_ttl

    async def test_the_successor_is_told_the_ttl_that_was_granted(self, kept: Keeper) -> None:
        await kept.keeper.renew()
        kept.keeper.retime(replace(TIMING, lease_ttl=30))
        kept.keeper.switch(await kept.keeper.grant_other())
        successor = kept.successor()
        successor.adopt()
        assert successor.lease == kept.keeper.lease
        assert successor.needs_other_ttl

    async def test_a_renewal_under_way_does_not_bring_the_old_lease_back(
        self, kept: Keeper
    ) -> None:
        await kept.keeper.renew()
        kept.keeper.retime(replace(TIMING, lease_ttl=30))
        new = await kept.keeper.grant_other()
        etcd = kept.etcd

        class Meanwhile(MemoryEtcd):
            async def lease_keepalive(self, lease: int) -> None:
                kept.keeper.switch(new)
                await etcd.lease_keepalive(lease)

        kept.keeper._etcd = Meanwhile(kept.clock)
        await kept.keeper.renew()
        assert kept.keeper.lease == new


async def test_the_keeper_renews_until_it_is_cancelled(kept: Keeper) -> None:
    kept.keeper.retime(replace(TIMING, keepalive_interval=0.001))
    renewed = asyncio.Event()

    def count(deadline: float) -> None:
        kept.deadlines.append(deadline)
        if len(kept.deadlines) >= 3:
            renewed.set()

    kept.keeper.on_renewal(count)
    running = asyncio.create_task(kept.keeper.run())
    async with asyncio.timeout(10):
        await renewed.wait()
    running.cancel()
    assert len(kept.etcd.leases) == 1
