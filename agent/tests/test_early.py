# SPDX-License-Identifier: GPL-3.0-or-later
"""The renewal before all else, against real etcd processes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.builders import config
from agent.tests.etcd_processes import free_ports
from pgherd.clock import boottime
from pgherd.early import NAME, Notes, renew
from pgherd.guard_orders import Orders, orders_path
from pgherd.start import Foothold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgherd.etcd import Etcd

SOURCE = Path(__file__).parents[1] / "src"


class Before:
    """An agent that has led on real etcd, and then died."""

    def __init__(self, directory: Path, etcd: Etcd) -> None:
        self.directory = directory
        self.path = directory / "pgherd.yml"
        self.etcd = etcd
        self.use(etcd.endpoints)

    def use(self, endpoints: Sequence[str], **sections: Any) -> None:
        """Have the agent know these endpoints of etcd."""
        hosts = [endpoint.partition("://")[2] for endpoint in endpoints]
        self.config = config(self.directory, etcd3={"hosts": hosts}, **sections)
        self.foothold = Foothold(self.path, self.config)
        self.foothold.keeper._etcd = self.etcd

    async def lead(self, *, deadline: float | None) -> float:
        """Take a lease, have the guard watch it, die; return when."""
        await self.foothold.take()
        if deadline is None:
            self.foothold.guard_process.disarm()
        else:
            self.foothold.guard_process.arm(deadline)
        return boottime()

    @property
    def deadline(self) -> float | None:
        orders = Orders.read(orders_path(self.directory, "demo"))
        assert orders is not None
        return orders.deadline

    async def renew(self, path: Path | None = None) -> bool:
        """Start another agent: do what it does first."""
        return await asyncio.to_thread(renew, path or self.path, self.directory)


@pytest.fixture
def before(tmp_path: Path, real_etcd: Etcd) -> Before:
    return Before(tmp_path, real_etcd)


async def test_the_lease_is_renewed_and_the_deadline_put_off(before: Before) -> None:
    died = await before.lead(deadline=boottime())
    assert await before.renew()
    timing = before.config.timing
    assert before.deadline is not None
    assert before.deadline > died + timing.lease_ttl - timing.margin
    assert before.deadline < boottime() + timing.lease_ttl - timing.margin / 2
    lease = before.foothold.keeper.lease
    assert lease is not None
    await before.etcd.lease_keepalive(lease.id)


async def test_what_was_not_guarded_is_not_guarded_now(before: Before) -> None:
    await before.lead(deadline=None)
    assert not await before.renew()
    assert before.deadline is None


async def test_a_lease_that_has_ended_puts_nothing_off(before: Before) -> None:
    until = boottime()
    await before.lead(deadline=until)
    lease = before.foothold.keeper.lease
    assert lease is not None
    await before.etcd.lease_revoke(lease.id)
    assert not await before.renew()
    assert before.deadline == until


async def test_a_dead_endpoint_is_passed_over(before: Before) -> None:
    [dead] = free_ports(1)
    before.use([f"http://127.0.0.1:{dead}", *before.etcd.endpoints])
    await before.lead(deadline=boottime())
    assert await before.renew()


async def test_without_etcd_it_is_left_to_the_agent(before: Before) -> None:
    [dead] = free_ports(1)
    before.use([f"http://127.0.0.1:{dead}"])
    until = boottime()
    await before.lead(deadline=until)
    assert not await before.renew()
    assert before.deadline == until


async def test_the_lease_of_another_agent_is_not_ours_to_renew(before: Before) -> None:
    """Two agents may share a runtime directory."""
    await before.lead(deadline=boottime())
    assert not await before.renew(before.directory / "other.yml")


async def test_nothing_of_another_boot_is_renewed(before: Before) -> None:
    await before.lead(deadline=boottime())
    notes = before.directory / NAME
    notes.write_text(notes.read_text().replace('"boot_id": "', '"boot_id": "x'))
    assert not await before.renew()


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"boot_id": 1}'])
def test_missing_or_damaged_notes_are_no_notes(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / NAME).write_text(content)
    assert not renew(tmp_path / "pgherd.yml", tmp_path)


async def test_what_answers_and_is_no_etcd_renews_nothing(before: Before) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhello")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await before.lead(deadline=boottime())
    notes = Notes(
        boot_id=before.foothold.guard_process._boot_id,
        config=str(before.path),
        lease=str(before.foothold.lease_file),
        orders=str(orders_path(before.directory, "demo")),
        endpoints=[f"http://127.0.0.1:{port}"],
        cacert=None,
        cert=None,
        key=None,
        margin=0.5,
        within=5.0,
    )
    notes.write(before.directory)
    assert not await before.renew()
    server.close()


def test_it_needs_none_of_the_agents_libraries() -> None:
    code = (
        "import sys, pgherd.early;"
        "print(*sorted({'asyncio', 'aiohttp', 'yaml', 'logging', 'ssl'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == ""
