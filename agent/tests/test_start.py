# SPDX-License-Identifier: GPL-3.0-or-later
"""The first moments of an agent: lease and guard go on before anything else is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agent.tests.builders import config
from agent.tests.fakes import MemoryEtcd
from pgherd.clock import boottime
from pgherd.guard_orders import Orders, orders_path
from pgherd.start import Foothold

SOURCE = Path(__file__).parents[1] / "src"


@pytest.fixture
def etcd(monkeypatch: pytest.MonkeyPatch) -> MemoryEtcd:
    known = MemoryEtcd()
    monkeypatch.setattr("pgherd.start.Etcd", lambda *args, **kwargs: known)
    return known


def foothold(directory: Path) -> Foothold:
    return Foothold(directory / "pgherd.yml", config(directory))


def deadline(directory: Path) -> float | None:
    orders = Orders.read(orders_path(directory, "demo"))
    return orders.deadline if orders is not None else None


async def test_a_guarded_primary_stays_guarded_for_another_lease(
    tmp_path: Path, etcd: MemoryEtcd
) -> None:
    """Its agent was killed: it must not be killed too, before the new one has looked at it."""
    before = foothold(tmp_path)
    await before.take()
    before.guard_process.arm(boottime())
    after = foothold(tmp_path)
    await after.take()
    assert len(etcd.leases) == 1
    lease = after.keeper.lease
    assert lease is not None
    assert deadline(tmp_path) == lease.valid_until + after.config.timing.margin / 2


async def test_what_was_no_primary_is_not_guarded(tmp_path: Path, etcd: MemoryEtcd) -> None:
    before = foothold(tmp_path)
    await before.take()
    before.guard_process.disarm()
    await foothold(tmp_path).take()
    assert deadline(tmp_path) is None


async def test_without_a_renewal_the_deadline_stands(tmp_path: Path, etcd: MemoryEtcd) -> None:
    before = foothold(tmp_path)
    await before.take()
    until = boottime()
    before.guard_process.arm(until)
    etcd.is_down = True
    await foothold(tmp_path).take()
    assert deadline(tmp_path) == until


async def test_where_nobody_was_before_there_is_a_lease_and_nothing_to_guard(
    tmp_path: Path, etcd: MemoryEtcd
) -> None:
    await foothold(tmp_path).take()
    assert len(etcd.leases) == 1
    assert deadline(tmp_path) is None


def test_it_does_not_wait_for_the_rest_of_the_agent_to_load() -> None:
    code = (
        "import sys, pgherd.start;"
        "print(*sorted({'psycopg', 'aiohttp.web', 'prometheus_client'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == ""
