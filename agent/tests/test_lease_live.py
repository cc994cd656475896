# SPDX-License-Identifier: GPL-3.0-or-later
"""The lease against real etcd processes, one of which hangs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agent.tests.test_etcd_live import split_by_role
from pgherd.clock import boottime
from pgherd.config import Timing
from pgherd.errors import LeaseLostError
from pgherd.etcd import Etcd, Put
from pgherd.lease import LeaseKeeper

if TYPE_CHECKING:
    from pathlib import Path

    from agent.tests.etcd_processes import EtcdMember

WITHIN = 60.0
FAST = Timing(2, 0.4, 1.0, 0.25, 0.5, 0.1)
NORMAL = Timing()
PREFIX = "/test/"


class Renewals:
    """A keeper that renews, and how much of its lease was left whenever it had done so."""

    def __init__(self, etcd: Etcd, timing: Timing, directory: Path) -> None:
        self.left: list[float] = []
        self._deadline: float | None = None
        self._enough = asyncio.Event()
        self._count = 0
        self.keeper = LeaseKeeper(
            etcd, timing, boottime, directory / "lease", lambda: None, prefix=PREFIX
        )
        self.keeper.on_renewal(self._note)

    def _note(self, deadline: float) -> None:
        if self._deadline is not None:
            self.left.append(self._deadline - boottime())
        self._deadline = deadline
        self._count -= 1
        if self._count <= 0:
            self._enough.set()

    async def see(self, count: int) -> None:
        """Wait for so many more renewals."""
        self._count = count
        self._enough.clear()
        async with asyncio.timeout(WITHIN):
            await self._enough.wait()


@pytest.mark.parametrize(("role", "timing"), [("follower", FAST), ("leader", NORMAL)])
async def test_a_member_that_hangs_costs_no_lease(
    real_etcd: Etcd, etcd_members: list[EtcdMember], tmp_path: Path, role: str, timing: Timing
) -> None:
    """It is the one on the agent's own host, the first to be asked."""
    leader, [follower, other] = await split_by_role(real_etcd, etcd_members)
    hanging, well = (leader, follower) if role == "leader" else (follower, leader)
    etcd = Etcd(
        [hanging.endpoint, other.endpoint, well.endpoint],
        timeout=timing.etcd_timeout,
        hedge_delay=timing.hedge_delay,
    )
    renewals = Renewals(etcd, timing, tmp_path)
    running = asyncio.create_task(renewals.keeper.run())
    await renewals.see(3)
    lease = renewals.keeper.lease
    with hanging.frozen():
        await renewals.see(8)
    running.cancel()
    await etcd.close()
    assert lease is not None
    assert renewals.keeper.lease is not None
    assert renewals.keeper.lease.id == lease.id
    # Each renewal came while the one before was still good.
    assert min(renewals.left) > 0


async def test_a_lease_is_let_go_of_when_nothing_hangs_on_it(
    real_etcd: Etcd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One member may claim that there is no such lease; etcd as a whole knows."""
    keeper = Renewals(real_etcd, NORMAL, tmp_path).keeper
    await keeper.renew()
    lease = keeper.lease
    assert lease is not None
    await real_etcd.txn([], [Put(PREFIX + "leader", "pg1", lease.id)])

    async def unknown(number: int) -> None:
        raise LeaseLostError("etcd does not know the lease")

    with monkeypatch.context() as confused:
        confused.setattr(real_etcd, "lease_keepalive", unknown)
        assert not await keeper.renew()
    assert keeper.lease == lease
    assert await keeper.renew()
    await real_etcd.lease_revoke(lease.id)
    assert not await keeper.renew()
    assert keeper.lease is None
