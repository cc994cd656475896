# SPDX-License-Identifier: GPL-3.0-or-later
"""Seeing WAL that is not the leader's, over real PostgreSQL processes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agent.tests.postgres_processes import INSTALLED, MISSING, WITHIN, Node, nodes
from pgherd.divergence import Divergence, diverged, past_of
from pgherd.errors import NotAnsweringError
from pgherd.history import Past
from pgherd.model import format_lsn
from pgherd.rejoin import is_diverged, rejoin
from pgherd.salvage import Salvage
from pgherd.wal import segment_bytes, segment_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture(autouse=True)
def _installed() -> None:
    if not INSTALLED:
        pytest.fail(MISSING, pytrace=False)


@pytest.fixture
async def three() -> AsyncIterator[list[Node]]:
    """A primary and two standbys that have replayed one row."""
    async with nodes(3) as made:
        first, second, third = made
        await first.create()
        await second.copy(first)
        await third.copy(first)
        position = await first.write("both")
        await second.catches_up(position)
        await third.catches_up(position)
        yield made


async def crash(node: Node) -> None:
    """Kill every process of *node*."""
    node.died.clear()
    node.postgres.kill()
    async with asyncio.timeout(WITHIN):
        await node.died.wait()


async def promote_again(node: Node) -> None:
    """Have the primary *node* go on with its next timeline."""
    await node.postgres.stop(WITHIN)
    await node.postgres.start_standby(None)
    await node.postgres.wait_until_answering(WITHIN)
    await node.postgres.promote("", WITHIN)
    await node.postgres.checkpoint()


async def found(node: Node, leader: Node) -> Divergence | None:
    """Return what the running *node* holds that is not *leader*'s."""
    past = past_of(node.postgres, await node.postgres.observe())
    return await diverged(node.postgres, past, leader.member, WITHIN)


async def switch_wal(node: Node) -> None:
    """Fill the rest of the segment up with padding."""
    await node.postgres.query("SELECT pg_switch_wal()")


def made_in_advance(node: Node, timeline: int, position: int) -> None:
    """Leave empty segments behind *position*, as PostgreSQL does before it writes to them.

    So many of them that one is likely to come first when the directory is read.
    """
    wal = node.postgres.data_dir / "pg_wal"
    size = segment_bytes(wal)
    for number in range(1, 65):
        with (wal / segment_name(timeline, position + number * size, size)).open("wb") as file:
            file.truncate(size)


async def test_two_promoted_to_one_timeline_at_one_position(three: list[Node]) -> None:
    """Patroni's issue 1251: their history files say the same, and pg_rewind sees nothing."""
    first, second, third = three
    await first.postgres.stop(WITHIN)
    stopped = (await first.postgres.observe()).control
    assert stopped is not None
    for node in (second, third):
        await node.catches_up(stopped.checkpoint + 1)
        await node.postgres.promote("", WITHIN)
    [fork] = second.postgres.local_history(2)
    assert third.postgres.local_history(2)[0].end == fork.end
    await third.write("lost")
    end = (await third.postgres.observe()).position
    whole = await second.postgres.observe()
    shared = replace(whole, location=fork.end)
    assert not await is_diverged(second.postgres, shared, third.member, WITHIN)

    # What one holds is more than what the other one has written at all.
    seen = await found(third, second)
    assert seen is not None
    assert (seen.timeline, seen.leader_timeline, seen.is_rewindable) == (2, 2, False)

    for word in ("kept", "kept as well", "and this"):
        await second.write(word)
    seen = await found(third, second)
    assert seen is not None
    # Their first records differ in what they say of the time.
    assert fork.end <= seen.start < fork.end + 256
    assert seen.end >= end
    assert (seen.by_files, seen.is_rewindable) == (False, False)
    start = format_lsn(seen.start)
    assert str(seen) == (
        f"WAL from {start} to {format_lsn(seen.end)} of timeline 2 is not part of the cluster "
        f"(leader pg2 went on at {start} with timeline 2)"
    )

    # The leader's next history calls its second timeline what ours is called.
    await promote_again(second)
    seen = await found(third, second)
    assert seen is not None
    assert (seen.timeline, seen.leader_timeline, seen.is_rewindable) == (2, 3, False)

    await second.postgres.slots.ensure(["pg3"], {})
    await rejoin(third.postgres, second.member, second.member, True, WITHIN)
    await third.streams()
    await third.catches_up(await second.write("later"))
    assert "lost" not in await third.words()
    assert await third.words() == await second.words()


async def test_two_promoted_to_one_timeline_at_two_positions(three: list[Node]) -> None:
    first, second, third = three
    await second.postgres.stop(WITHIN)
    await third.catches_up(await first.write("lost with the first"))
    await first.postgres.stop(WITHIN)
    await second.postgres.start_standby(None)
    await second.postgres.wait_until_answering(WITHIN)
    await second.postgres.promote("", WITHIN)
    await third.postgres.promote("", WITHIN)
    await third.write("lost")
    seen = await found(third, second)
    assert seen is not None
    [fork] = second.postgres.local_history(2)
    assert (seen.start, seen.by_files, seen.is_rewindable) == (fork.end, True, False)

    # From another number on pg_rewind looks at where the histories part.
    await promote_again(second)
    seen = await found(third, second)
    assert seen is not None
    assert (seen.start, seen.by_files, seen.is_rewindable) == (fork.end, True, True)
    await second.postgres.slots.ensure(["pg3"], {})
    await rejoin(third.postgres, second.member, second.member, True, WITHIN)
    await third.streams()
    await third.catches_up(await second.write("later"))
    assert await third.words() == ["both", "later"]


async def test_two_that_write_on_the_first_timeline(three: list[Node]) -> None:
    """A standby that was started as a primary by hand, and crashed."""
    first, _, third = three
    await third.postgres.stop(WITHIN)
    await third.postgres.start_primary()
    await third.postgres.wait_until_answering(WITHIN)
    await first.write("kept")
    await switch_wal(first)
    await first.write("beyond its padding")
    many = "INSERT INTO public.words SELECT md5(n::text) FROM generate_series(1, 5000) AS n"
    await third.postgres.query(many)
    assert await found(third, first) is not None
    lost = await third.write("lost")
    # Padding is the same everywhere, and there is nothing else near the end.
    await switch_wal(third)
    padded = (await third.postgres.observe()).position
    await switch_wal(first)
    await first.write("far ahead")
    seen = await found(third, first)
    assert seen is not None
    assert seen.start < lost
    await crash(third)
    made_in_advance(third, 1, padded)
    control = (await third.postgres.observe()).control
    assert control is not None
    past = await Salvage(third.postgres).past(control)
    assert past == Past(1, (), past.end)
    assert lost < past.end <= padded
    seen = await diverged(third.postgres, past, first.member, WITHIN)
    assert seen is not None
    assert (seen.timeline, seen.leader_timeline, seen.is_rewindable) == (1, 1, False)
    await rejoin(third.postgres, first.member, first.member, True, WITHIN)
    await third.streams()
    await third.catches_up(await first.write("later"))
    assert await third.words() == await first.words()


async def test_a_standby_that_follows_has_not_diverged(three: list[Node]) -> None:
    first, second, third = three
    assert await found(third, first) is None
    await third.postgres.stop(WITHIN)
    for _ in range(3):
        await first.write("a segment of its own")
        await switch_wal(first)
    control = (await third.postgres.observe()).control
    assert control is not None
    past = await Salvage(third.postgres).past(control)
    assert past.end > 0
    assert await diverged(third.postgres, past, first.member, WITHIN) is None

    # What a crash has left is no other than what the leader had.
    await third.postgres.start_standby(first.member)
    await third.catches_up(await first.write("more"))
    assert await found(third, first) is None
    await crash(third)
    control = (await third.postgres.observe()).control
    assert control is not None
    past = await Salvage(third.postgres).past(control)
    assert await diverged(third.postgres, past, first.member, WITHIN) is None

    # The leader cannot lack what it has sent.
    flushed = (await first.postgres.observe()).position
    beyond = replace(past, end=flushed + 0x1000000)
    seen = await diverged(third.postgres, beyond, first.member, WITHIN)
    assert seen is not None
    assert flushed <= seen.start < beyond.end
    assert not seen.is_rewindable

    await second.catches_up((await first.postgres.observe()).position)
    await first.postgres.stop(WITHIN)
    await second.postgres.promote("", WITHIN)
    await second.postgres.slots.ensure(["pg3"], {})
    await third.postgres.start_standby(second.member)
    await third.catches_up(await second.write("on the second timeline"))
    assert (await third.postgres.observe()).timeline == 2
    for _ in range(2):
        assert await found(third, second) is None
        await switch_wal(second)
        await third.catches_up((await second.postgres.observe()).position)


async def test_one_that_does_not_answer_or_is_no_primary_leaves_it_open(three: list[Node]) -> None:
    first, second, third = three
    with pytest.raises(NotAnsweringError, match="not a primary"):
        await found(third, second)
    await first.postgres.stop(WITHIN)
    with pytest.raises(NotAnsweringError):
        await found(third, first)

    # One that crashes just after its promotion has a control file that names the old timeline.
    await second.postgres.promote("", WITHIN)
    end = await second.write("on the second timeline")
    await crash(second)
    control = (await second.postgres.observe()).control
    assert control is not None
    past = await Salvage(second.postgres).past(control)
    assert past.timelines == (1, 2)
    assert past.end >= end
