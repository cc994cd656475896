# SPDX-License-Identifier: GPL-3.0-or-later
"""Slots of a real PostgreSQL: what is observed of them, how they are made, moved and dropped."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agent.tests.builders import ME, cluster, view
from agent.tests.postgres_processes import INSTALLED, MISSING, WITHIN, nodes
from pgherd.errors import PostgresError
from pgherd.slot_keeper import SlotKeeper

if TYPE_CHECKING:
    from agent.tests.postgres_processes import Node

FEED = {"slots": {"feed": {"type": "logical", "database": "postgres", "plugin": "pgoutput"}}}


@pytest.fixture(autouse=True)
def _installed() -> None:
    if not INSTALLED:
        pytest.fail(MISSING, pytrace=False)


async def keep(node: Node, keeper: SlotKeeper, **config: object) -> set[str]:
    """Do a leader's round with *config*; return the slots there are then."""
    known = cluster(ME, config=config)
    await keeper.keep(view(await node.postgres.observe(), cluster=known))
    for task in list(keeper._beside.values()):
        await task
    return set((await node.postgres.observe()).slots)


async def test_a_leader_makes_what_is_needed_and_drops_what_is_not() -> None:
    async with nodes(1, wal_level="logical") as [node]:
        await node.create()
        keeper = SlotKeeper(node.postgres)
        query = node.postgres.query
        await query("SELECT pg_create_physical_replication_slot('left_over')")
        await query("SELECT pg_create_logical_replication_slot('mine', 'pgoutput')")
        assert await keep(node, keeper, **FEED) == {"pg2", "pg3", "feed", "left_over", "mine"}
        slots = (await node.postgres.observe()).slots
        assert slots["feed"]["database"] == "postgres"
        assert (slots["feed"]["plugin"], slots["feed"]["type"]) == ("pgoutput", "logical")
        assert slots["feed"]["confirmed"] >= slots["feed"]["restart"] > 0
        assert (slots["pg2"]["xmin"], slots["pg2"]["wal_status"]) == (None, "reserved")
        assert (slots["pg2"]["failover"], slots["pg2"]["synced"]) == (False, False)
        left = await keep(node, keeper, member_slots_ttl=0)
        assert left == {"pg2", "pg3", "mine"}, "nobody's logical slot is dropped"


async def test_a_slot_of_another_plugin_is_made_anew() -> None:
    async with nodes(1, wal_level="logical") as [node]:
        await node.create()
        await node.postgres.query("SELECT pg_create_logical_replication_slot('feed', 'pgoutput')")
        other = {"feed": {"type": "logical", "database": "template1", "plugin": "pgoutput"}}
        await keep(node, SlotKeeper(node.postgres), slots=other)
        assert (await node.postgres.observe()).slots["feed"]["database"] == "template1"


async def test_without_logical_wal_the_rest_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    async with nodes(1) as [node]:
        await node.create()
        assert await keep(node, SlotKeeper(node.postgres), **FEED) == {"pg2", "pg3"}
        assert "wal_level" in caplog.text


async def test_a_slot_that_has_lost_its_wal_is_made_anew() -> None:
    async with nodes(1, max_slot_wal_keep_size="1MB", wal_keep_size="0", min_wal_size="32MB") as [
        node
    ]:
        await node.create()
        keeper = SlotKeeper(node.postgres)
        await keep(node, keeper)
        for _ in range(4):
            await node.write("x")
            await node.postgres.query("SELECT pg_switch_wal()")
        await node.postgres.checkpoint()
        lost = (await node.postgres.observe()).slots["pg2"]
        assert lost["wal_status"] == "lost"
        await keep(node, keeper)
        assert (await node.postgres.observe()).slots["pg2"]["wal_status"] == "reserved"


async def test_one_in_use_is_not_dropped() -> None:
    async with nodes(2) as [first, second]:
        await first.create()
        await second.copy(first)
        await first.postgres.slots.drop("pg2")
        assert "pg2" in (await first.postgres.observe()).slots
        await second.postgres.stop(WITHIN)
        await first.postgres.slots.drop("pg2")
        assert (await first.postgres.observe()).slots == {}


async def test_a_standby_follows_the_leaders_slots() -> None:
    async with nodes(2) as [first, second]:
        await first.create()
        await second.copy(first)
        keeper = SlotKeeper(second.postgres)
        known = replace(cluster("pg1"), status={})
        seen = replace(view(await second.postgres.observe(), cluster=known), me="pg2")
        await keeper.keep(seen)
        before = (await second.postgres.observe()).slots
        assert set(before) == {"pg1", "pg3"}
        position = await first.write("x")
        instance = await second.catches_up(position)
        known = replace(known, status={"slots": {"pg3": position}})
        await keeper.keep(replace(seen, instance=instance, cluster=known, now=seen.now + 60))
        after = (await second.postgres.observe()).slots
        assert after["pg3"]["restart"] == position
        assert after["pg1"]["restart"] == before["pg1"]["restart"], "nobody knows where it is"


async def test_what_postgresql_refuses_is_an_error_of_ours() -> None:
    async with nodes(1) as [node]:
        await node.create()
        with pytest.raises(PostgresError, match="wal_level"):
            await node.postgres.slots.create_logical("x", "postgres", "pgoutput", WITHIN)
