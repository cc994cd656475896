# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's own connection over a real server: dropping it under a waiting statement."""

from __future__ import annotations

import asyncio
import os

import pytest

from agent.tests.postgres_processes import INSTALLED, MISSING, WITHIN, nodes
from pgherd.errors import NotAnsweringError
from pgherd.pgquery import Connection


@pytest.fixture(autouse=True)
def _installed() -> None:
    if not INSTALLED:
        pytest.fail(MISSING, pytrace=False)


@pytest.mark.parametrize("way", ["close", "time out"])
async def test_a_dropped_connection_leaves_what_is_opened_after_it_alone(way: str) -> None:
    """A switchover once waited in vain for the end of a program.

    The connection was closed under a statement; the pidfd of the next program got the number of
    its socket, and the event loop stopped watching that when the statement gave up.
    """
    loop = asyncio.get_running_loop()
    async with nodes(1) as [node]:
        await node.create()
        connection = Connection(node.postgres.local_conninfo(), WITHIN)
        await connection.query("SELECT 1")
        within = WITHIN if way == "close" else 0.2
        waiting = asyncio.create_task(connection.query("SELECT pg_sleep(3600)", within=within))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if way == "close":
            await connection.close()
        else:
            await asyncio.wait({waiting})
        heard = asyncio.Event()
        reading, writing = os.pipe()
        loop.add_reader(reading, heard.set)
        try:
            with pytest.raises(NotAnsweringError):
                await waiting
            os.write(writing, b".")
            async with asyncio.timeout(WITHIN):
                await heard.wait()
        finally:
            loop.remove_reader(reading)
            os.close(reading)
            os.close(writing)
        assert await connection.query("SELECT 1 AS one") == [{"one": 1}]
        await connection.close()
