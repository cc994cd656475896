# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard kills when the deadline has passed, and not before."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest_asyncio

from agent.tests.builders import NOW
from agent.tests.fakes import Clock
from pgherd.guard import InProcessGuard

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Guarded:
    """A running guard over something that notes when it was killed."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.kills = 0
        self.killed = asyncio.Event()
        self.guard = InProcessGuard(self.clock, self._kill)

    def _kill(self) -> None:
        self.kills += 1
        self.killed.set()

    async def look(self) -> None:
        """Let the guard run until it waits again."""
        for _ in range(10):
            await asyncio.sleep(0)


@pytest_asyncio.fixture
async def guarded() -> AsyncIterator[Guarded]:
    known = Guarded()
    running = asyncio.create_task(known.guard.run())
    await known.look()
    yield known
    assert not running.done()
    running.cancel()


async def test_it_kills_once_when_the_deadline_has_passed(guarded: Guarded) -> None:
    guarded.guard.arm(NOW)
    async with asyncio.timeout(10):
        await guarded.killed.wait()
    guarded.clock.now += 100
    await guarded.look()
    assert guarded.kills == 1


async def test_it_wakes_by_itself_at_the_deadline(guarded: Guarded) -> None:
    """Nobody tells it that the time has come: the agent's loop may hang."""
    guarded.guard.arm(NOW + 0.01)
    await guarded.look()
    assert guarded.kills == 0
    guarded.clock.now += 0.01
    async with asyncio.timeout(10):
        await guarded.killed.wait()


async def test_a_renewal_puts_the_deadline_off(guarded: Guarded) -> None:
    guarded.guard.arm(NOW + 5)
    await guarded.look()
    guarded.guard.arm(NOW + 10)
    guarded.clock.now = NOW + 9
    await guarded.look()
    assert guarded.kills == 0


async def test_an_earlier_deadline_counts_at_once(guarded: Guarded) -> None:
    guarded.guard.arm(NOW + 1000)
    await guarded.look()
    guarded.guard.arm(NOW - 1)
    async with asyncio.timeout(10):
        await guarded.killed.wait()


async def test_disarmed_it_kills_nobody(guarded: Guarded) -> None:
    guarded.guard.arm(NOW + 5)
    await guarded.look()
    guarded.guard.disarm()
    guarded.clock.now = NOW + 100
    await guarded.look()
    assert guarded.kills == 0


async def test_it_guards_again_after_it_has_killed(guarded: Guarded) -> None:
    guarded.guard.arm(NOW)
    async with asyncio.timeout(10):
        await guarded.killed.wait()
    guarded.killed.clear()
    guarded.guard.arm(NOW)
    async with asyncio.timeout(10):
        await guarded.killed.wait()
    assert guarded.kills == 2
