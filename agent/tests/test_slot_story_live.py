# SPDX-License-Identifier: GPL-3.0-or-later
"""A logical subscriber's slot over real loops and real PostgreSQL before 17, whoever leads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from agent.tests.live_agents import WITHIN, Agents, LiveAgent, ended
from agent.tests.postgres_processes import INSTALLED, MISSING, Node, nodes
from pgherd.waiting import until

if TYPE_CHECKING:
    from pgherd.view import View

# A story of a minute, more on a busy machine.
pytestmark = pytest.mark.timeout(400)

FEED: Final = {"type": "logical", "database": "postgres", "plugin": "test_decoding"}
CHANGES: Final = "SELECT data FROM pg_logical_slot_get_changes('feed', NULL, NULL)"


@pytest.fixture(autouse=True)
def _installed() -> None:
    if not INSTALLED:
        pytest.fail(MISSING, pytrace=False)


class Subscriber:
    """Takes the changes of whoever leads; `words` is what it has got."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.written: list[str] = []

    async def write(self, node: Node) -> int:
        """Write one row more at *node*."""
        word = f"word {len(self.written)}"
        position = await node.write(word)
        self.written.append(word)
        return position

    async def take(self, node: Node) -> None:
        """Take what *node* has; those that are known already may come again."""
        found = [row["data"].split("'") for row in await node.postgres.query(CHANGES)]
        words = [parts[1] for parts in found if len(parts) == 3]
        self.words += [word for word in words if word not in self.words]

    async def goes_on(self, leader: LiveAgent, *others: LiveAgent) -> None:
        """Write and take, until all *others* have a copy to go on with."""

        async def is_copied() -> bool:
            await self.write(leader.node)
            await leader.node.postgres.checkpoint()
            await self.take(leader.node)
            for agent in (leader, *others):
                agent.wake.set()
            return all(agent.loop.view.copied_slots == {"feed"} for agent in others)

        await until(is_copied, every=0.5, within=WITHIN)


def has_slot(view: View) -> bool:
    return "feed" in view.instance.slots


async def test_a_subscriber_loses_nothing_over_failover_return_and_switchover() -> None:
    cluster = Agents(postgresql={"parameters": {"wal_level": "logical"}})
    subscriber = Subscriber()
    async with nodes(3) as (one, two, three), ended(cluster):
        first = await cluster.start(one)
        await first.leads()
        second, third = await cluster.start(two), await cluster.start(three)
        await second.follows(one)
        await third.follows(one)
        started = {agent: agent.loop.view.instance.started_at for agent in (second, third)}

        await cluster.configure(slots={"feed": FEED})
        await first.comes_to(has_slot, "makes the slot")
        await subscriber.goes_on(first, second, third)
        for agent in (second, third):
            assert agent.loop.view.instance.started_at != started[agent], "restarted for it"

        position = await subscriber.write(one)
        for agent in (second, third):
            await agent.node.catches_up(position)
        await first.crash()
        heir, other = await led_by(second, third)
        assert has_slot(heir.loop.view)
        await subscriber.write(heir.node)
        await subscriber.take(heir.node)
        assert subscriber.words == subscriber.written

        first = await cluster.start(one)
        await first.follows(heir.node)
        await subscriber.goes_on(heir, other, first)

        await subscriber.write(heir.node)
        await cluster.ask_for_leader(heir.node.config.name, "pg1")
        await first.leads()
        await subscriber.write(one)
        await subscriber.take(one)
        assert subscriber.words == subscriber.written


async def led_by(*agents: LiveAgent) -> tuple[LiveAgent, LiveAgent]:
    """Wait until one of two leads; return that one and the other."""

    async def is_led() -> bool:
        return any(each.loop.view.instance.is_primary and each.loop.view.holds_key
                   for each in agents)  # fmt: skip

    await until(is_led, every=0.05, within=WITHIN)
    heir = next(each for each in agents if each.loop.view.instance.is_primary)
    return heir, next(each for each in agents if each is not heir)
