# SPDX-License-Identifier: GPL-3.0-or-later
"""One answer for all who ask at the same time, and never one from before the question."""

from __future__ import annotations

import asyncio

import pytest

from pgherd.shared import Shared


class Work:
    """Something that takes as long as it is told to, and counts how often it was begun."""

    def __init__(self) -> None:
        self.begun = 0
        self.go = asyncio.Event()
        self.was_begun = asyncio.Event()

    async def __call__(self) -> int:
        self.begun += 1
        self.was_begun.set()
        number = self.begun
        await self.go.wait()
        if number == 3:
            raise OSError("three")
        return number


async def test_who_asks_at_once_is_answered_together() -> None:
    work = Work()
    work.go.set()
    shared = Shared(work)
    assert await asyncio.gather(*(shared.get() for _ in range(50))) == [1] * 50
    assert await shared.get() == 2


async def test_who_asks_later_gets_a_later_answer() -> None:
    work = Work()
    shared = Shared(work)
    first = asyncio.create_task(shared.get())
    await work.was_begun.wait()
    late = [asyncio.create_task(shared.get()) for _ in range(50)]
    await asyncio.sleep(0)
    assert work.begun == 1
    work.go.set()
    assert await first == 1
    assert await asyncio.gather(*late) == [2] * 50


async def test_a_failure_is_told_to_all_who_wait_and_to_nobody_else() -> None:
    work = Work()
    work.go.set()
    shared = Shared(work)
    await shared.get()
    await shared.get()
    answers = await asyncio.gather(*(shared.get() for _ in range(3)), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["three"] * 3
    assert await shared.get() == 4


async def test_one_who_gives_up_leaves_the_others_their_answer() -> None:
    work = Work()
    shared = Shared(work)
    gone, stays = asyncio.create_task(shared.get()), asyncio.create_task(shared.get())
    await work.was_begun.wait()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    work.go.set()
    assert await stays == 1
