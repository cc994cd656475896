# SPDX-License-Identifier: GPL-3.0-or-later
"""The poolers of a host, over a real PgBouncer between clients and a real server.

The server has two addresses, and stands for two members: which of them a client reaches it tells.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import ANY

import psycopg
import pytest

from agent.tests.builders import ME, cluster, config, member, primary, view
from agent.tests.pooler_processes import WITHIN, PoolerProcess, Server
from agent.tests.postgres_processes import unprivileged
from pgherd.clock import boottime
from pgherd.handover import Handover
from pgherd.long_transactions import (
    YOUNG_SECONDS,
    end_transactions,
    long_transactions,
    outlast,
)
from pgherd.pgquery import Connection
from pgherd.pooler_config import PoolerConfig
from pgherd.pooler_target import Target
from pgherd.pooling import Pooling
from pgherd.postgres import Postgres
from pgherd.postmaster import Cage
from pgherd.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from pgherd.view import View

SWITCHOVER = Handover("pg2", None, id="abc")
WHERE = "SELECT host(inet_server_addr())"


class Site:
    """A server, a PgBouncer, and the agent's part that sees to it."""

    def __init__(self, server: Server, process: PoolerProcess) -> None:
        self.server = server
        self.process = process
        self.limit = 10.0
        self.pooling = self.agent()
        self._tasks: list[asyncio.Task[None]] = []

    def agent(self) -> Pooling:
        """Return what an agent that begins has."""
        databases = {"*": "user=postgres"}
        pooler = PoolerConfig(self.process.socket, None, databases, self.limit)
        own = replace(
            config().postgres,
            socket_directory=self.server.directory,
            port=self.server.port,
            connect_host=self.address(0),
            connect_port=self.server.port,
        )
        return Pooling(replace(config(), pooler=pooler, postgres=own), boottime)

    def begin(self) -> None:
        """Have an agent see to the pooler, in the place of the one before."""
        for task in self._tasks:
            task.cancel()
        self.pooling = self.agent()
        self._tasks = [asyncio.create_task(self.pooling.run())]

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.process.kill()

    def address(self, index: int) -> str:
        return self.server.addresses[index]

    def seen(self, index: int, **changes: Any) -> View:
        """Return what a round sees while the address *index* leads."""
        url = f"postgres://{self.address(index)}:{self.server.port}/postgres"
        name = f"pg{index + 2}"
        leader = member(name, role="primary", conn_url=url)
        return view(cluster=cluster(name, members=[leader], **changes))

    async def leads(self, index: int, **changes: Any) -> None:
        """Have the address *index* lead, and wait until the pooler points there."""
        self.pooling.look(self.seen(index, **changes))
        await self.holds(lambda: not self.pooling.problem() and not self.pooling.awaits_leader)

    async def is_under_way(self) -> None:
        """Wait until a transaction is."""
        console = await self.process.console()

        async def check() -> bool:
            rows = await console.command("SHOW SERVERS")
            return any(row["state"] == "active" for row in rows)

        await until(check, every=0.01, within=WITHIN)
        console.close()

    async def holds(self, condition: Any) -> None:
        async def check() -> bool:
            return bool(condition())

        await until(check, every=0.01, within=WITHIN)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    # PgBouncer's console lets in its own user only, and neither it nor PostgreSQL runs as root.
    with unprivileged(), tempfile.TemporaryDirectory(prefix="pgherd-") as directory:
        made = Server(Path(directory))
        made.start()
        yield made
        made.stop()


@pytest.fixture
async def site(server: Server) -> AsyncIterator[Site]:
    with tempfile.TemporaryDirectory(prefix="pgherd-") as directory:
        process = PoolerProcess(Path(directory) / "pooler")
        await process.start()
        made = Site(server, process)
        made.begin()
        try:
            await made.leads(0)
            yield made
        finally:
            await made.end()


async def one(client: psycopg.AsyncConnection[Any], sql: str = WHERE) -> Any:
    row = await (await client.execute(sql)).fetchone()
    return row[0] if row else None


async def test_the_server_of_this_host_is_reached_by_its_socket(site: Site) -> None:
    async with await site.process.client() as client:
        assert await one(client) == site.address(0)
        site.pooling.look(view(primary(), cluster=cluster(ME)))
        await site.holds(lambda: site.pooling.state.target == site.pooling.state.leader)
        assert site.pooling.state.target == Target(ME, site.address(0), site.server.port)

        async def has_no_address() -> bool:
            return await one(client) is None

        await until(has_no_address, every=0.05, within=WITHIN)
        await site.leads(1)
        assert await one(client) == site.address(1)


async def test_a_client_s_connection_lives_on_while_the_leader_changes(site: Site) -> None:
    async with await site.process.client() as client:
        assert await one(client) == site.address(0)
        await site.leads(1)
        assert await one(client) == site.address(1)
        await site.leads(0)
        assert await one(client) == site.address(0)


async def test_a_paused_pooler_lets_nobody_begin_and_nobody_fail(site: Site) -> None:
    async with await site.process.client() as busy, await site.process.client() as idle:
        assert await one(idle) == site.address(0)
        under_way = asyncio.create_task(one(busy, "SELECT 1 FROM pg_sleep(0.3)"))
        await site.is_under_way()
        assert await site.pooling.pause("abc", 5) == ""
        assert await under_way == 1
        waiting = asyncio.create_task(one(idle))
        coming = asyncio.create_task(site.process.client())
        done, _ = await asyncio.wait({waiting, coming}, timeout=0.3)
        assert waiting not in done
        assert site.pooling.problem() == ""
        assert await site.pooling.resume("abc") == ""
        assert await waiting == site.address(0)
        async with await coming as new:
            assert await one(new) == site.address(0)
    assert site.pooling.paused_seconds("abc") is not None


async def test_a_transaction_that_goes_on_is_told_of(site: Site) -> None:
    async with await site.process.client() as busy:
        await busy.execute("BEGIN")
        assert "transactions are under way: postgres in postgres" in (
            await site.pooling.pause("abc", 0.1)
        )
        # It is paused all the same, and complete when that transaction ends.
        assert site.pooling.paused_for == "abc"
        again = asyncio.create_task(site.pooling.pause("abc", 10))
        await busy.execute("COMMIT")
        assert await again == ""
        assert await site.pooling.pause("other", 1) == "it is paused for abc"
        await site.pooling.resume("other")
        assert site.pooling.paused_for == "abc"


async def test_an_incomplete_pause_can_be_left(site: Site) -> None:
    async with await site.process.client() as busy, await site.process.client() as idle:
        await busy.execute("BEGIN")
        assert await site.pooling.pause("abc", 0.1) != ""
        assert await site.pooling.resume("abc") == ""
        assert await one(idle) == site.address(0)
        assert await one(busy) == site.address(0)


async def test_another_leader_ends_the_pause(site: Site) -> None:
    async with await site.process.client() as client:
        await one(client)
        assert await site.pooling.pause("abc", 5) == ""
        waiting = asyncio.create_task(one(client))
        await site.leads(1, handover=SWITCHOVER)
        assert await waiting == site.address(1)


async def test_an_operation_that_came_to_nothing_ends_the_pause(site: Site) -> None:
    async with await site.process.client() as client:
        await one(client)
        assert await site.pooling.pause("abc", 5) == ""
        site.pooling.look(site.seen(0, handover=SWITCHOVER))
        # While nobody leads it goes on, also when the request has gone.
        site.pooling.look(view(cluster=cluster(None)))
        waiting = asyncio.create_task(one(client))
        await asyncio.wait({waiting}, timeout=0.2)
        assert not waiting.done()
        site.pooling.look(site.seen(0))
        assert await waiting == site.address(0)


async def test_a_view_from_before_the_request_ends_no_pause(site: Site) -> None:
    assert await site.pooling.pause("abc", 5) == ""
    site.pooling.look(site.seen(0))
    site.pooling.look(site.seen(0, handover=SWITCHOVER))
    assert site.pooling.paused_for == "abc"


async def test_the_pause_is_over_after_a_bound_whatever_happens(site: Site) -> None:
    site.limit = 0.3
    site.begin()
    await site.leads(0)
    async with await site.process.client() as client:
        assert await site.pooling.pause("abc", 5) == ""
        assert await one(client) == site.address(0)
    assert site.pooling.paused_for == ""


async def test_the_next_agent_resumes_what_the_last_one_left_paused(site: Site) -> None:
    async with await site.process.client() as client:
        await one(client)
        assert await site.pooling.pause("abc", 5) == ""
        site.begin()
        assert await one(client) == site.address(0)


async def test_an_agent_that_ends_leaves_nothing_paused(site: Site) -> None:
    async with await site.process.client() as client:
        await one(client)
        assert await site.pooling.pause("abc", 5) == ""
        await site.pooling.end()
        assert await one(client) == site.address(0)


class TestPgBouncerThatDies:
    async def test_it_is_noticed_and_found_again(self, site: Site) -> None:
        await site.process.kill()
        await site.holds(lambda: site.pooling.problem() == "PgBouncer does not answer")
        await site.process.start()
        await site.holds(lambda: not site.pooling.problem())
        async with await site.process.client() as client:
            assert await one(client) == site.address(0)

    async def test_it_comes_back_pointing_at_who_leads_by_then(self, site: Site) -> None:
        await site.process.kill()
        await site.holds(site.pooling.problem)
        site.pooling.look(site.seen(1))
        await site.holds(lambda: not site.pooling.awaits_leader)
        await site.process.start()
        async with await site.process.client() as client:
            assert await one(client) == site.address(1)

    async def test_it_is_paused_again_if_it_should_be(self, site: Site) -> None:
        assert await site.pooling.pause("abc", 5) == ""
        await site.process.kill()
        await site.holds(site.pooling.problem)
        await site.process.start()
        await site.holds(lambda: not site.pooling.problem())
        coming = asyncio.create_task(site.process.client())
        await asyncio.wait({coming}, timeout=0.3)
        assert not coming.done()
        await site.leads(1)
        async with await coming as client:
            assert await one(client) == site.address(1)


async def test_an_outage_is_not_longer_for_logins_that_failed_in_it(site: Site) -> None:
    """PgBouncer makes no connection for `server_login_retry` after one has failed."""
    await site.leads(2)
    coming = asyncio.create_task(site.process.client())
    await site.holds(lambda: "connect failed" in site.process.log())
    await site.leads(1)
    async with asyncio.timeout(2.0), await coming as client:
        assert await one(client) == site.address(1)


async def test_clients_under_load_see_no_error_while_it_is_pointed_elsewhere(site: Site) -> None:
    """PgBouncer's issue 498: new clients were refused after PAUSE, RELOAD, RESUME."""
    places: list[str] = []
    is_over = asyncio.Event()

    async def stay() -> None:
        async with await site.process.client() as client:
            while not is_over.is_set():
                places.append(await one(client))

    async def come_and_go() -> None:
        while not is_over.is_set():
            async with await site.process.client() as client:
                places.append(await one(client))

    tasks = [asyncio.create_task(work()) for work in (stay,) * 6 + (come_and_go,) * 6]
    for turn in range(1, 11):
        before = len(places)
        await site.holds(lambda before=before: len(places) > before + 20)
        assert await site.pooling.pause(f"turn {turn}", 5) == ""
        await site.leads(turn % 2)
    is_over.set()
    await asyncio.gather(*tasks)
    assert {*places} == {site.address(0), site.address(1)}


async def test_a_file_that_cannot_be_written_is_told_of(site: Site) -> None:
    file = site.process.target_file
    file.unlink()
    file.mkdir()
    site.pooling.look(site.seen(1))
    await site.holds(lambda: site.pooling.state.problem)
    await site.holds(lambda: site.pooling.problem() != "")
    file.rmdir()
    await site.leads(1)


async def test_long_transactions_are_found_and_ended(site: Site) -> None:
    """The oldest first; those that have just begun, and our own, are not among them."""
    postgres = Postgres(config(), lambda: None, Cage(None))
    postgres._connection = Connection(f"host=127.0.0.1 port={site.server.port} user=postgres", 10)
    async with await site.process.client() as busy, await site.process.client() as young:
        await busy.execute("BEGIN")

        async def is_long() -> bool:
            return bool(await long_transactions(postgres))

        await until(is_long, every=0.05, within=WITHIN)
        await young.execute("BEGIN")
        [row] = await long_transactions(postgres)
        assert (row["user"], row["database"]) == ("postgres", "postgres")
        assert row["age"] > YOUNG_SECONDS
        assert await outlast(postgres, 0, lambda: True) == [row | {"age": ANY}]
        await end_transactions(postgres, [row])
        assert await outlast(postgres, 10, lambda: True) == []
        with pytest.raises(psycopg.OperationalError):
            await busy.execute("COMMIT")
        await young.execute("COMMIT")
    await postgres._connection.close()


async def test_a_transaction_that_grows_old_meanwhile_is_not_waited_for(site: Site) -> None:
    """With many clients there is always one; each ends by itself in the pause."""
    postgres = Postgres(config(), lambda: None, Cage(None))
    postgres._connection = Connection(f"host=127.0.0.1 port={site.server.port} user=postgres", 10)
    async with await site.process.client() as busy, await site.process.client() as later:
        await busy.execute("BEGIN")

        async def is_long() -> bool:
            return bool(await long_transactions(postgres))

        await until(is_long, every=0.05, within=WITHIN)
        looked = asyncio.Event()

        def is_wanted() -> bool:
            looked.set()
            return True

        waiting = asyncio.create_task(outlast(postgres, WITHIN, is_wanted))
        await looked.wait()
        await later.execute("BEGIN")

        async def are_both_long() -> bool:
            return len(await long_transactions(postgres)) == 2

        await until(are_both_long, every=0.05, within=WITHIN)
        await busy.execute("COMMIT")
        assert await waiting == []
        await later.execute("COMMIT")
    await postgres._connection.close()
