# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon's parts live and end together."""

from __future__ import annotations

import asyncio

import pytest

from pgherd.agent import until_one_ends


class Part:
    """Something that runs until it is told to end, or is cancelled."""

    def __init__(self) -> None:
        self.end = asyncio.Event()
        self.failure: Exception | None = None
        self.was_cancelled = False

    async def run(self) -> None:
        try:
            await self.end.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        if self.failure is not None:
            raise self.failure


async def test_when_one_part_ends_the_others_are_cancelled() -> None:
    loop, keeper = Part(), Part()
    running = asyncio.create_task(until_one_ends(loop.run(), keeper.run()))
    await asyncio.sleep(0)
    loop.end.set()
    async with asyncio.timeout(10):
        await running
    assert keeper.was_cancelled


async def test_a_part_that_fails_ends_the_agent_and_is_told() -> None:
    """An agent that goes on without renewing its lease would only look alive."""
    loop, keeper = Part(), Part()
    keeper.failure = OSError(28, "No space left on device")
    running = asyncio.create_task(until_one_ends(loop.run(), keeper.run()))
    await asyncio.sleep(0)
    keeper.end.set()
    with pytest.raises(OSError, match="No space left"):
        async with asyncio.timeout(10):
            await running
    assert loop.was_cancelled
