# SPDX-License-Identifier: GPL-3.0-or-later
"""Cascades and standby clusters over real PostgreSQL processes and real loops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.live_agents import Agents, LiveAgent, ended
from agent.tests.postgres_processes import INSTALLED, MISSING, Node, nodes

if TYPE_CHECKING:
    from pathlib import Path


# Each is a story of a minute, more on a busy machine.
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(autouse=True)
def _installed() -> None:
    if not INSTALLED:
        pytest.fail(MISSING, pytrace=False)


def address(node: Node) -> dict[str, Any]:
    """Return `standby_cluster` for following *node*."""
    return {"host": node.member.host, "port": node.member.port}


async def arrive(position: int, *agents: LiveAgent) -> None:
    """Wait until the WAL up to *position* is applied everywhere."""
    for agent in agents:
        await agent.comes_to(
            lambda view: view.instance.is_standby and (view.instance.replayed or 0) >= position,
            "has applied it",
        )


def attic(node: Node) -> Path:
    return node.postgres.data_dir.with_name("data.diverged")


async def test_a_cascade_falls_back_to_the_leader_and_outlives_it() -> None:
    cluster = Agents()
    async with nodes(3) as (one, two, three), ended(cluster):
        first = await cluster.start(one)
        await first.leads()
        second = await cluster.start(two)
        await second.follows(one)
        # It has all that pg2 has, and must not be elected in its place.
        third = await cluster.start(three, replicatefrom="pg2", nofailover=True)
        await third.follows(two)
        await arrive(await one.write("over pg2"), third)
        assert third.body["tags"]["replicatefrom"] == "pg2"
        await second.crash()
        await third.follows(one)
        second = await cluster.start(two)
        await second.follows(one)
        await third.follows(two)
        await arrive(await one.write("over pg2 again"), third)
        await first.crash()
        await second.leads()
        await third.follows(two)
        await arrive(await two.write("from pg2"), third)
        assert await three.words() == ["from pg2", "over pg2", "over pg2 again"]


async def test_a_standby_cluster_follows_fails_over_and_changes_places_there_and_back() -> None:
    async with nodes(3) as (one, two, three):
        home, away = Agents(), Agents(standby_cluster=address(one))
        async with ended(home, away):
            first = await home.start(one)
            await first.leads()
            second = await away.start(two)
            await second.follows(one)
            third = await away.start(three)
            await third.follows(two)
            await arrive(await one.write("at home"), second, third)
            assert (second.body["role"], third.body["role"]) == ("standby_leader", "replica")

            await away.ask_for_leader("pg2", "pg3")
            await third.follows(one)
            await second.follows(three)
            await third.comes_to(
                lambda view: view.cluster is not None and view.cluster.handover is None,
                "has told that it leads",
            )

            await third.crash()
            await second.follows(one)
            third = await away.start(three)
            await third.follows(two)

            held = home.term
            await home.configure(standby_cluster=address(two))
            await first.follows(two)
            assert home.term == held
            await away.configure(standby_cluster=None)
            await second.leads()
            await arrive(await two.write("away"), first, third)

            held = away.term
            await away.configure(standby_cluster=address(one))
            await second.follows(one)
            assert away.term == held
            await home.configure(standby_cluster=None)
            await first.leads()
            await third.follows(two)
            await arrive(await one.write("back"), second, third)
            for node in (one, two, three):
                assert await node.words() == ["at home", "away", "back"]
                assert not attic(node).exists()


async def test_wal_that_the_other_cluster_lost_is_rewound_everywhere() -> None:
    """R28: asynchronous, the standby cluster may be ahead of who is elected over there."""
    async with nodes(4) as (one, two, three, four):
        home, away = Agents(), Agents(standby_cluster=address(one))
        async with ended(home, away):
            first = await home.start(one)
            await first.leads()
            second = await home.start(two)
            await second.follows(one)
            third = await away.start(three)
            await third.follows(one)
            fourth = await away.start(four)
            await fourth.follows(three)
            await arrive(await one.write("kept"), second, third, fourth)
            await second.crash()
            await arrive(await one.write("lost"), third, fourth)
            await first.crash()
            second = await home.start(two)
            await second.leads()
            await away.configure(standby_cluster=address(two))
            await third.follows(two)
            await fourth.follows(three)
            await arrive(await two.write("new"), third, fourth)
            for node in (two, three, four):
                assert await node.words() == ["kept", "new"]
            assert attic(three).exists()


async def test_a_member_that_does_not_stream_lives_from_the_archive_and_can_lead() -> None:
    archive = {
        "archive_mode": True,
        "archive_command": "mkdir -p ../../archive && cp %p ../../archive/%f",
        "restore_command": "cp ../../archive/%f %p",
    }
    cluster = Agents()
    async with nodes(2, **archive) as (one, two), ended(cluster):
        first = await cluster.start(one)
        await first.leads()
        second = await cluster.start(two, nostream=True)
        await second.comes_to(lambda view: view.instance.is_standby, "is a standby")
        position = await one.write("archived")
        await one.postgres.query("SELECT pg_switch_wal()")
        await arrive(position, second)
        assert not second.loop.view.instance.receives
        assert second.body["replication_state"] == "in archive recovery"
        assert second.body["tags"] == {"nostream": True}
        await first.crash()
        await second.leads()
        assert await two.words() == ["archived"]
