# SPDX-License-Identifier: GPL-3.0-or-later
"""Logical slots of a real primary before PostgreSQL 17, copied to a real standby, and promoted."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.builders import NOW, THEIRS, cluster, view
from agent.tests.postgres_processes import INSTALLED, MISSING, WITHIN, nodes
from pgherd.model import LeaderKey, Member
from pgherd.pgquery import Connection
from pgherd.slot_copies import SlotCopies
from pgherd.slot_keeper import SlotKeeper
from pgherd.slot_state import snapshot_name
from pgherd.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.tests.postgres_processes import Node
    from pgherd.model import Instance
    from pgherd.view import View

FEED = {"slots": {"feed": {"type": "logical", "database": "postgres", "plugin": "test_decoding"}}}
CHANGES = "SELECT data FROM pg_logical_slot_get_changes('feed', NULL, NULL) WHERE data LIKE '%%x%%'"


@pytest.fixture(autouse=True)
def _installed() -> None:
    if not INSTALLED:
        pytest.fail(MISSING, pytrace=False)


class Pair:
    """A primary and a standby, whose agent goes round as told."""

    def __init__(self, first: Node, second: Node) -> None:
        self.first = first
        self.second = second
        self.keeper = SlotKeeper(second.postgres)
        self.copies = second.postgres.copies
        self.now = NOW
        self.term = 5

    async def begin(self) -> None:
        """Make both; the slot is there after that, with everything consumed."""
        for node in (self.first, self.second):
            node.postgres.files.copies_slots = True
        await self.first.create()
        await self.first.write("before")
        await self.second.copy(self.first)
        await self.make_slot()

    async def make_slot(self) -> None:
        await self.first.postgres.query(
            "SELECT pg_create_logical_replication_slot('feed', 'test_decoding')"
        )
        await self.consume()

    async def consume(self) -> list[str]:
        """Be the subscriber: take what the primary has for it."""
        await self.first.postgres.checkpoint()
        return await changes(self.first)

    async def position(self) -> int | None:
        slot = (await self.first.postgres.observe()).slots.get("feed")
        return slot["confirmed"] if slot else None

    async def seen(self, instance: Instance | None = None, **config: Any) -> View:
        """Return what the standby's agent sees now."""
        key = LeaderKey("pg1", THEIRS, self.term)
        known = cluster("pg1", members=[self.first.member], config={**FEED, **config})
        position = await self.position()
        known = replace(known, leader=key, status={"slots": {"feed": position}} if position else {})
        instance = instance or await self.second.postgres.observe()
        return replace(view(instance, cluster=known), me="pg2", now=self.now)

    async def round(self, **config: Any) -> None:
        """Have the standby's agent go round once, long after the last time."""
        self.now += 20
        seen = await self.seen(**config)
        self.copies.note(seen)
        await self.keeper.keep(seen)
        works = [*self.keeper._beside.values(), self.copies._looking]
        for work in works:
            if work is not None:
                await work

    def due(self) -> tuple[str, ...]:
        """Return what a restart of the standby would give it."""
        return self.copies.due

    async def restart(self) -> None:
        """Restart the standby."""
        await self.second.postgres.stop(WITHIN)
        await self.second.postgres.start_standby(self.first.member)
        await self.second.streams()

    async def becomes_ready(self) -> None:
        """Go round, with some traffic, until the copy is one to go on with."""

        async def is_ready() -> bool:
            await self.first.write("xt")
            await self.consume()
            await self.second.catches_up((await self.first.postgres.observe()).position)
            await self.round()
            return self.copies.ready == {"feed"}

        await until(is_ready, every=0.05, within=WITHIN)

    async def reconnect(self) -> None:
        """Interrupt the stream; it is soon there again."""
        receiver = "SELECT pid FROM pg_stat_wal_receiver WHERE status = 'streaming'"
        before = await self.second.postgres.query(receiver)
        await self.first.postgres.query("SELECT pg_terminate_backend(pid) FROM pg_stat_replication")

        async def is_back() -> bool:
            return await self.second.postgres.query(receiver) not in ([], before)

        await until(is_back, every=0.05, within=WITHIN)

    def replace_agent(self) -> None:
        """Go on with another agent."""
        self.copies = self.second.postgres.copies = SlotCopies(self.second.postgres)
        self.keeper = SlotKeeper(self.second.postgres)

    async def promote(self) -> None:
        """Lose the primary and promote the standby."""
        seen = await self.seen()
        await self.first.postgres.stop_now()
        await self.copies.before_promotion(seen)
        await self.second.postgres.promote("", WITHIN)


async def changes(node: Node) -> list[str]:
    """Take the rows that the slot has for its subscriber."""
    rows = await node.postgres.query(CHANGES)
    return [row["data"].partition("'")[2].rstrip("'") for row in rows]


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    # Slots are kept for members that the tests do not have.
    async with nodes(2, wal_level="logical") as [first, second]:
        made = Pair(first, second)
        await made.begin()
        yield made


async def test_a_subscriber_goes_on_after_a_failover(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    await pair.round()
    assert pair.due() == ("feed",)
    await pair.restart()
    assert "feed" in (await pair.second.postgres.observe()).slots
    await pair.round()
    assert pair.due() == ()
    await pair.becomes_ready()
    position = await pair.first.write("x1")
    await pair.second.catches_up(position)
    await pair.promote()
    await pair.second.write("x2")
    assert await changes(pair.second) == ["x1", "x2"]
    assert "left behind" not in caplog.text


async def test_a_copy_that_does_not_know_what_was_running_is_not_ready(pair: Pair) -> None:
    """Decoding that begins there leaves out what is committed until those have ended."""
    await pair.round()
    await pair.restart()
    await pair.becomes_ready()
    pair.term += 1
    at = (await pair.second.postgres.observe()).slots["feed"]["restart"]
    (pair.second.postgres.data_dir / snapshot_name(at)).unlink()
    for _ in range(4):
        await pair.round()
    after = (await pair.second.postgres.observe()).slots["feed"]["restart"]
    assert (after, pair.copies.ready) == (at, frozenset())
    await pair.becomes_ready()


async def test_nothing_is_lost_that_is_committed_beside_a_long_transaction(pair: Pair) -> None:
    await pair.round()
    async with open_transaction(pair.first):
        await pair.consume()
        await pair.restart()
        await pair.becomes_ready()
        await pair.first.postgres.checkpoint()
        await pair.first.write("x3")
        position = await pair.first.write("x4")
        await pair.second.catches_up(position)
        await pair.promote()
    await pair.second.write("x5")
    found = await changes(pair.second)
    assert [word for word in found if word != "xt"] == ["x3", "x4", "x5"]


@contextlib.asynccontextmanager
async def open_transaction(node: Node) -> AsyncIterator[None]:
    """Keep a transaction that has written something open, and end it with the server at last."""
    connection = Connection(node.postgres.local_conninfo(), WITHIN)
    await connection.query("BEGIN")
    await connection.query("INSERT INTO public.words VALUES ('open')")
    try:
        yield
    finally:
        await connection.close()


async def test_a_copy_that_is_not_ready_is_dropped_by_a_promotion(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    await pair.round()
    await pair.restart()
    assert "feed" in (await pair.second.postgres.observe()).slots
    await pair.promote()
    assert "feed" not in (await pair.second.postgres.observe()).slots
    assert "slot feed is left behind by this promotion: the copy here was not ready" in caplog.text
    instance = await pair.second.postgres.observe()
    leads = replace(await pair.seen(instance), me="pg1")
    await pair.keeper.keep(replace(leads, now=NOW + 1000))
    assert "feed" not in (await pair.second.postgres.observe()).slots, "an empty one is no copy"


async def test_a_subscriber_that_is_ahead_of_the_new_leader_fails(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    await pair.round()
    await pair.restart()
    await pair.becomes_ready()
    seen = await pair.seen()
    status = {"slots": {"feed": seen.instance.position + 1}}
    assert seen.cluster is not None
    seen = replace(seen, cluster=replace(seen.cluster, status=status))
    await pair.copies.before_promotion(seen)
    assert "feed" not in (await pair.second.postgres.observe()).slots
    assert "its subscriber has more than this member" in caplog.text


async def test_another_leader_makes_it_prove_itself_anew(pair: Pair) -> None:
    await pair.round()
    await pair.restart()
    await pair.becomes_ready()
    pair.term += 1
    pair.copies.note(await pair.seen())
    assert pair.copies.ready == frozenset()
    await pair.becomes_ready()


async def test_so_does_an_interruption_when_it_is_over(pair: Pair) -> None:
    """Not when it begins: the leader may be lost, and this standby promoted."""
    await pair.round()
    await pair.restart()
    await pair.becomes_ready()
    seen = await pair.seen()
    pair.copies.note(replace(seen, instance=replace(seen.instance, receiver_status=None)))
    assert pair.copies.ready == {"feed"}
    pair.copies.note(seen)
    assert pair.copies.ready == frozenset()


async def test_the_next_agent_knows_what_is_ready(pair: Pair) -> None:
    await pair.round()
    await pair.restart()
    await pair.becomes_ready()
    pair.replace_agent()
    await pair.round()
    assert pair.copies.ready == {"feed"}
    await pair.reconnect()
    pair.replace_agent()
    await pair.round()
    assert pair.copies.ready == frozenset(), "nobody knows what was kept meanwhile"


async def test_without_feedback_nothing_is_copied(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    pair.second.postgres.files.copies_slots = False
    await pair.restart()
    await pair.round()
    assert pair.due() == ()
    assert "hot_standby_feedback is off" in caplog.text


async def test_what_the_leader_has_no_more_goes_here_too(pair: Pair) -> None:
    await pair.round()
    await pair.restart()
    await pair.first.postgres.slots.drop("feed")
    await pair.round()
    assert "feed" in (await pair.second.postgres.observe()).slots
    await pair.round()
    assert "feed" not in (await pair.second.postgres.observe()).slots


async def test_where_its_wal_is_gone_it_is_not_copied(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    """A copy without the WAL it needs would be of no use, and a server starts with it."""
    data_dir = pair.second.postgres.data_dir
    await pair.round()
    await pair.second.postgres.stop(WITHIN)
    for _ in range(2):
        await pair.first.write("x")
        await pair.first.postgres.query("SELECT pg_switch_wal()")
    await pair.second.postgres.start_standby(None)
    await pair.second.postgres.stop(WITHIN)
    state = data_dir / "pg_replslot/feed"
    assert not state.exists()
    control = await pair.second.postgres.programs.control(data_dir)
    segments = sorted((data_dir / "pg_wal").glob("0000000*"))
    assert control.checkpoint
    for path in segments:
        path.rename(path.with_suffix(".gone"))
    settings = {"wal_level": "logical", "hot_standby_feedback": True, "max_replication_slots": 10}
    upstream = pair.second.postgres.files.upstream(pair.first.member)
    await pair.copies.before_start(upstream, settings)
    assert not state.exists()
    assert "WAL it needs is not here" in caplog.text
    for path in segments:
        path.with_suffix(".gone").rename(path)


async def test_a_leader_that_cannot_be_asked_holds_no_start_up(pair: Pair) -> None:
    await pair.round()
    await pair.second.postgres.stop(WITHIN)
    pair.copies._leader = Member("pg1", {"conn_url": "postgres://127.0.0.1:1/postgres"})
    pair.first.member = pair.copies._leader
    await pair.second.postgres.start_standby(pair.first.member)
    await pair.second.postgres.wait_until_answering(WITHIN)
    assert "feed" not in (await pair.second.postgres.observe()).slots
