# SPDX-License-Identifier: GPL-3.0-or-later
"""How a real PostgreSQL's archiver is told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agent.tests.postgres_processes import INSTALLED, MISSING, WITHIN, nodes
from pgherd.archiving import Archiving, archiver_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from agent.tests.postgres_processes import Node


async def told(node: Node, holds: Callable[[Any], bool]) -> dict[str, Any]:
    """Return what is told of the archiver once it *holds*."""
    archiving = Archiving(node.postgres.local_conninfo())
    async with asyncio.timeout(WITHIN):
        while not holds(archiving.found):
            await asyncio.sleep(0.1)
            await archiving.look()
    await archiving._connection.close()
    return dict(archiving.found)


async def test_a_command_that_fails_and_one_that_does_not() -> None:
    if not INSTALLED:
        pytest.fail(MISSING, pytrace=False)
    async with nodes(1, archive_mode="on", archive_command="false") as [node]:
        await node.create()
        await node.write("x")
        await node.postgres.query("SELECT pg_switch_wal()")
        failing = await told(node, lambda found: bool(found.get("failing")))
        assert failing["failed"]
        assert failing["failed_at"]
        assert failing["waiting"] >= 1
        assert failing["waiting_seconds"] >= 0
        assert "archived" not in failing
        await node.postgres.query("ALTER SYSTEM SET archive_command = 'true'")
        await node.postgres.query("SELECT pg_reload_conf()")
        well = await told(node, lambda found: found.get("waiting") == 0)
        assert (well["failing"], well["waiting_seconds"]) == (False, 0)
        assert well["archived"] >= failing["failed"]


async def test_where_nothing_is_archived_nothing_is_told() -> None:
    if not INSTALLED:
        pytest.fail(MISSING, pytrace=False)
    async with nodes(1) as [node]:
        await node.create()
        archiving = Archiving(node.postgres.local_conninfo())
        archiving.found = {"failing": True}
        await archiving.look()
        assert archiving.found == {}
        await archiving._connection.close()
        await node.postgres.query("SELECT 1")


async def test_nor_where_nobody_answers() -> None:
    archiving = Archiving("host=/nowhere")
    archiving.found = {"failing": True}
    await archiving.look()
    assert archiving.found == {}


def test_an_archiver_that_has_done_nothing_yet_does_not_fail() -> None:
    row = {"archived": None, "failed": None, "failing": None, "waiting": 0, "waiting_seconds": 0.0}
    assert archiver_of([row]) == {"failing": False, "waiting": 0, "waiting_seconds": 0.0}
