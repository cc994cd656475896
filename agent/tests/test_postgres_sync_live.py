# SPDX-License-Identifier: GPL-3.0-or-later
"""Synchronous replication over real PostgreSQL processes: names, votes, promotions, restarts."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from agent.tests.postgres_processes import INSTALLED, MISSING, WITHIN, nodes
from pgherd.errors import NotAnsweringError, PostgresError
from pgherd.postgres import Postgres
from pgherd.postmaster import Cage
from pgherd.quorum import NOBODY_ACKNOWLEDGES
from pgherd.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agent.tests.postgres_processes import Node
    from pgherd.model import Instance

PG2 = 'ANY 1 ("pg2")'


@pytest.fixture(autouse=True)
def _installed() -> None:
    if not INSTALLED:
        pytest.fail(MISSING, pytrace=False)


async def becomes(node: Node, condition: Callable[[Instance], bool]) -> Instance:
    """Wait until what *node* looks like fulfils *condition*; return it."""
    return await node._becomes(condition)


@contextlib.asynccontextmanager
async def client(node: Node) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """Connect as a client does, whose commits wait as the server says."""
    postgres = node.config.postgres
    session = await psycopg.AsyncConnection.connect(
        f"host={postgres.socket_directory} port={postgres.port} user=postgres dbname=postgres "
        "application_name=client",
        autocommit=True,
    )
    try:
        yield session
    finally:
        await session.close()


@contextlib.asynccontextmanager
async def restarted(node: Node) -> AsyncIterator[None]:
    """Have another agent process take *node* over and write its files, `work_mem` being new."""
    after = Postgres(node.config, lambda: None, Cage(None))
    try:
        after.adopt(await after.observe())
        assert await after.configure(node.config, {"work_mem": "5MB"}, may_wait=True)
        yield
    finally:
        await after._connection.close()


async def waits_for_standby(node: Node) -> bool:
    """Tell whether a client's commit waits for an acknowledgement."""
    [row] = await node.postgres.query(
        "SELECT count(*) AS count FROM pg_stat_activity "
        "WHERE application_name = 'client' AND wait_event = 'SyncRep'"
    )
    return bool(row["count"])


async def configured_to_wait(node: Node) -> None:
    """Tell *node* that commits of its cluster may have to wait."""
    await node.postgres.configure(node.config, {}, may_wait=True)


class TestNames:
    async def test_they_come_into_force_and_what_is_observed_tells_so(self) -> None:
        async with nodes(2) as [first, second]:
            await first.create()
            await second.copy(first)
            await first.postgres.set_sync_names(PG2)
            seen = await becomes(first, lambda instance: instance.sync_names == PG2)
            assert seen.acknowledging.standbys == {"pg2"}
            position = await first.write("x")
            seen = await becomes(first, lambda instance: has_flushed(instance, position))
            [row] = seen.replication
            assert (row["application_name"], row["state"]) == ("pg2", "streaming")
            assert row["pid"] > 0
            assert (await becomes(first, lambda instance: instance.checkpointer_idle)).is_primary
            await first.postgres.set_sync_names("")
            await becomes(first, lambda instance: instance.sync_names == "")

    async def test_a_commit_waits_while_nobody_acknowledges(self) -> None:
        async with nodes(1) as [node]:
            await node.create()
            await node.write("before")
            await node.postgres.set_sync_names(PG2)
            await becomes(node, lambda instance: instance.sync_names == PG2)
            await becomes(node, lambda instance: instance.checkpointer_idle)
            async with client(node) as session:
                statement = "INSERT INTO words VALUES ('waits')"
                inserting = asyncio.create_task(session.execute(statement))
                await until(lambda: waits_for_standby(node), every=0.02, within=WITHIN)
                assert not inserting.done()
                await node.postgres.set_sync_names("")
                async with asyncio.timeout(WITHIN):
                    await inserting

    async def test_our_own_statements_wait_for_nobody(self) -> None:
        async with nodes(1) as [node]:
            await node.create()
            await node.postgres.set_sync_names(PG2)
            await becomes(node, lambda instance: instance.sync_names == PG2)
            await node.write("x")

    async def test_the_end_of_a_standbys_connection_wakes_the_agent(self) -> None:
        async with nodes(2) as [first, second]:
            await first.create()
            await second.copy(first)
            await first.postgres.set_sync_names(PG2)
            await becomes(first, lambda instance: bool(instance.acknowledging.standbys))
            await becomes(first, lambda instance: bool(instance.replication))
            first.woken.clear()
            second.postgres.kill()
            async with asyncio.timeout(WITHIN):
                await first.woken.wait()
            assert not first.died.is_set()

    async def test_whoever_does_not_acknowledge_is_not_watched(self) -> None:
        async with nodes(2) as [first, second]:
            await first.create()
            await second.copy(first)
            await becomes(first, lambda instance: bool(instance.replication))
            assert first.postgres._senders._watched == {}


class TestStarts:
    async def test_a_primary_starts_with_its_names(self) -> None:
        async with nodes(1) as [node]:
            await node.create()
            await node.postgres.stop(WITHIN)
            await node.postgres.start_primary(PG2)
            await node.postgres.wait_until_answering(WITHIN)
            assert (await node.postgres.observe()).sync_names == PG2

    async def test_an_agent_that_is_restarted_leaves_the_names_of_a_primary_alone(self) -> None:
        async with nodes(1) as [node]:
            await node.create()
            await node.postgres.set_sync_names(PG2)
            await becomes(node, lambda instance: instance.sync_names == PG2)
            async with restarted(node):
                await until(lambda: has_setting(node, "work_mem", "5MB"), every=0.02, within=WITHIN)
            assert await has_setting(node, "synchronous_standby_names", PG2)

    async def test_an_agent_that_is_restarted_leaves_the_upstream_of_a_standby_alone(self) -> None:
        async with nodes(2) as [first, second]:
            await first.create()
            await second.copy(first)
            before = (await second.postgres.observe()).upstream
            async with restarted(second):
                await until(
                    lambda: has_setting(second, "work_mem", "5MB"), every=0.02, within=WITHIN
                )
            assert before is not None
            assert (await second.streams()).upstream == before

    async def test_a_standby_is_ready_to_wait_for_nobody_in_particular(self) -> None:
        """What its checkpointer reads now holds when it is promoted."""
        async with nodes(2) as [first, second]:
            await first.create()
            await second.copy(first)
            await configured_to_wait(second)
            seen = await becomes(second, lambda instance: instance.sync_names != "")
            assert seen.sync_names == NOBODY_ACKNOWLEDGES
            await second.postgres.configure(second.config, {})
            await becomes(second, lambda instance: instance.sync_names == "")


class TestVotes:
    async def test_a_standby_that_is_told_so_receives_nothing_any_more(self) -> None:
        async with nodes(2) as [first, second]:
            await first.create()
            await second.copy(first)
            await second.catches_up(await first.write("one"))
            await second.postgres.stop_receiving(WITHIN)
            voted = await second.postgres.observe()
            assert (voted.upstream, voted.receiver_status) == (None, None)
            assert voted.position > 0
            await first.write("two")
            await becomes(first, lambda instance: not instance.replication)
            assert (await second.postgres.observe()).position == voted.position

            await second.postgres.follow(first.member)
            await second.streams()
            await second.catches_up((await first.postgres.observe()).position)
            assert await second.words() == ["one", "two"]

    async def test_one_that_was_copied_by_hand_votes_too(self) -> None:
        """`pg_basebackup -R` writes where to stream from into a file that is read after ours."""
        async with nodes(2) as [first, second]:
            await first.create()
            await second.copy(first)
            auto = second.postgres.data_dir / "postgresql.auto.conf"
            port = first.config.postgres.port
            auto.write_text(f"primary_conninfo = 'host=127.0.0.1 port={port} user=replicator'\n")
            await second.postgres.stop_receiving(WITHIN)
            assert (await second.postgres.observe()).upstream is None

    async def test_one_that_receives_nothing_is_done_at_once(self) -> None:
        async with nodes(2) as [first, second]:
            await first.create()
            await second.copy(first)
            for _ in range(2):
                await second.postgres.stop_receiving(WITHIN)
            assert (await second.postgres.observe()).receiver_status is None

    async def test_without_an_answer_there_is_no_vote(self) -> None:
        async with nodes(1) as [node]:
            await node.create()
            await node.postgres.stop(WITHIN)
            with pytest.raises(NotAnsweringError):
                await node.postgres.stop_receiving(0.2)


class TestPromotion:
    async def test_not_even_the_first_commit_is_acknowledged_by_the_new_primary_alone(
        self,
    ) -> None:
        async with nodes(2) as [first, second]:
            await first.create()
            await second.copy(first)
            await second.catches_up(await first.write("before"))
            await configured_to_wait(second)
            await becomes(second, lambda instance: instance.sync_names != "")
            await first.postgres.stop(WITHIN)
            async with client(second) as session:
                inserting = asyncio.create_task(insert_as_soon_as_possible(session))
                await second.postgres.promote('ANY 1 ("pg1")', WITHIN)
                promoted = await second.postgres.observe()
                assert (promoted.is_primary, promoted.sync_names) == (True, 'ANY 1 ("pg1")')
                await until(lambda: waits_for_standby(second), every=0.02, within=WITHIN)
                assert not inserting.done()

                # Who acknowledges lets it go.
                await second.postgres.slots.ensure(["pg1"], {})
                await first.postgres.start_standby(second.member)
                async with asyncio.timeout(WITHIN):
                    await inserting
            seen = await becomes(
                second, lambda instance: has_flushed(instance, instance.location or 0)
            )
            assert seen.replication[0]["application_name"] == "pg1"

    async def test_it_stays_a_standby_when_the_lease_has_run_out_at_the_last_moment(self) -> None:
        """An agent may be frozen between its decision and the promotion."""
        async with nodes(2) as [first, second]:
            await first.create()
            await second.copy(first)
            with pytest.raises(PostgresError, match="lease"):
                await second.postgres.promote(PG2, WITHIN, lambda: False)
            assert (await second.postgres.observe()).is_standby

    async def test_its_timeline_gets_the_number_that_was_reserved(self) -> None:
        """Standbys on the old timeline find their way past the numbers that were left out."""
        async with nodes(3) as [first, second, third]:
            await first.create()
            await second.copy(first)
            await third.copy(first)
            position = await first.write("before")
            await second.catches_up(position)
            await third.catches_up(position)
            await first.postgres.stop(WITHIN)
            assert await second.postgres.reserve_timeline(1, 4)
            await second.postgres.promote("", WITHIN)
            assert not await second.postgres.reserve_timeline(1, 4)
            assert (await second.postgres.observe()).timeline == 4
            [branch] = second.postgres.local_history(4)
            assert branch.timeline == 1
            await second.postgres.slots.ensure(["pg3"], {})
            await third.postgres.follow(second.member)
            await third.catches_up(await second.write("after"))
            assert (await third.postgres.observe()).timeline == 4
            assert await third.words() == ["after", "before"]
            # Without the files in between a restore from the archive would stop at timeline 1.
            waiting = second.postgres.data_dir / "pg_wal" / "archive_status"
            names = {path.name for path in waiting.glob("*.history.*")}
            assert {"00000002.history.ready", "00000003.history.ready"} <= names

    async def test_what_an_operator_altered_is_not_in_its_way(self) -> None:
        """ALTER SYSTEM writes into a file that is read after ours and copied to everybody."""
        async with nodes(2) as [first, second]:
            await first.create()
            await first.postgres.query("ALTER SYSTEM SET synchronous_standby_names = ''")
            await first.postgres.query("ALTER SYSTEM SET work_mem = '7MB'")
            await second.copy(first)
            await second.postgres.promote(PG2, WITHIN)
            assert (await second.postgres.observe()).sync_names == PG2
            assert await has_setting(second, "work_mem", "7MB")


async def insert_as_soon_as_possible(session: psycopg.AsyncConnection[Any]) -> None:
    """Insert a row, again and again until the server takes it."""
    while True:
        try:
            await session.execute("INSERT INTO words VALUES ('first')")
        except psycopg.errors.ReadOnlySqlTransaction:
            await asyncio.sleep(0)
        else:
            return


async def has_setting(node: Node, name: str, value: str) -> bool:
    """Tell whether *node* has setting *name* in force."""
    [row] = await node.postgres.query("SELECT current_setting(%s) AS value", [name])
    return bool(row["value"] == value)


def has_flushed(instance: Instance, position: int) -> bool:
    """Tell whether the only standby has flushed up to *position*."""
    return [row["flush"] or 0 for row in instance.replication] >= [position]
