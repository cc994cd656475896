# SPDX-License-Identifier: GPL-3.0-or-later
"""Stopping real PostgreSQL processes soon, whoever holds them up."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from agent.tests.postgres_processes import INSTALLED, MISSING, WITHIN, nodes
from pgherd.errors import PostgresError
from pgherd.model import Process
from pgherd.stopping import checkpoint_first, shut_down_promptly
from pgherd.waiting import until


@pytest.fixture(autouse=True)
def _installed() -> None:
    if not INSTALLED:
        pytest.fail(MISSING, pytrace=False)


async def test_a_server_that_nobody_holds_up_is_stopped_in_good_order() -> None:
    async with nodes(1) as [node]:
        await node.create()
        await checkpoint_first(node.postgres, WITHIN)
        await shut_down_promptly(node.postgres, WITHIN)
        seen = await node.postgres.observe()
        assert seen.control is not None
        assert seen.control.state == "shut down"


async def test_a_standby_that_hangs_holds_up_neither_the_stop_nor_the_data() -> None:
    """Patroni's issue 3522: the server waits for its walsenders for wal_sender_timeout."""
    async with nodes(2, wal_sender_timeout="10min") as [first, second]:
        await first.create()
        await second.copy(first)
        [row] = await second.postgres.query(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walreceiver'"
        )
        os.kill(row["pid"], signal.SIGSTOP)
        try:
            await first.write("more than the receiver takes")
            async with asyncio.timeout(WITHIN):
                await shut_down_promptly(first.postgres, 10 * WITHIN)
        finally:
            os.kill(row["pid"], signal.SIGCONT)
        seen = await first.postgres.observe()
        assert seen.process is Process.STOPPED
        assert seen.control is not None
        assert seen.control.state == "shut down"


async def test_a_slow_archive_command_does_not_hold_up_the_stop() -> None:
    """Patroni's issue 1905."""
    parameters = {"archive_mode": "on", "archive_command": "sleep 600"}
    async with nodes(1, **parameters) as [node]:
        await node.create()
        await node.write("a row")
        await node.postgres.query("SELECT pg_switch_wal()")

        async def archives() -> bool:
            [row] = await node.postgres.query(
                "SELECT count(*) AS found FROM pg_ls_archive_statusdir() WHERE name ~ 'ready$'"
            )
            return bool(row["found"])

        await until(archives, every=0.05, within=WITHIN)
        async with asyncio.timeout(WITHIN):
            await shut_down_promptly(node.postgres, 10 * WITHIN)
        seen = await node.postgres.observe()
        assert seen.control is not None
        assert seen.control.state == "shut down"


async def test_one_that_does_not_stop_is_stopped_immediately() -> None:
    async with nodes(1) as [node]:
        await node.create()
        [row] = await node.postgres.query(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'"
        )
        os.kill(row["pid"], signal.SIGSTOP)
        await shut_down_promptly(node.postgres, 0.5)
        seen = await node.postgres.observe()
        assert seen.process is Process.STOPPED
        assert seen.control is not None
        assert seen.control.state == "in production"


async def test_a_checkpoint_that_fails_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async with nodes(1) as [node]:
        await checkpoint_first(node.postgres, 1)
        assert "no checkpoint before the stop" in caplog.text
        with pytest.raises(PostgresError):
            await node.postgres.checkpoint(1)


async def test_a_logical_subscriber_that_hangs_does_not_hold_up_the_stop() -> None:
    """The server would wait until the subscriber has everything; its slot keeps it instead."""
    async with nodes(1, wal_level="logical", wal_sender_timeout="10min") as [node]:
        await node.create()
        query = node.postgres.query
        await query("SELECT pg_create_logical_replication_slot('sub', 'test_decoding')")
        config = node.postgres.config.postgres
        subscriber = await asyncio.create_subprocess_exec(
            *(str(config.bin_dir / "pg_recvlogical"), "--dbname", node.postgres.local_conninfo()),
            *("--slot", "sub", "--start", "--file", "-"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:

            async def is_sending() -> bool:
                [row] = await query("SELECT count(*) AS found FROM pg_stat_replication")
                return bool(row["found"])

            async def is_stuck() -> bool:
                [row] = await query(
                    "SELECT count(*) AS found FROM pg_stat_activity "
                    "WHERE backend_type = 'walsender' AND wait_event = 'WalSenderWriteData'"
                )
                return bool(row["found"])

            await until(is_sending, every=0.05, within=WITHIN)
            subscriber.send_signal(signal.SIGSTOP)
            await query(
                "CREATE TABLE public.much AS SELECT repeat('x', 1000) FROM generate_series(1, 2e4)"
            )
            # Whose connection is full can say no goodbye; before that it goes at the first word.
            await until(is_stuck, every=0.05, within=WITHIN)
            await node.postgres.shut_down(WITHIN)
        finally:
            subscriber.kill()
            await subscriber.wait()
        await node.postgres.ended(WITHIN)
        seen = await node.postgres.observe()
        assert seen.control is not None
        assert seen.control.state == "shut down"
