# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a standby's connection is news: its walsender's process is watched."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest_asyncio

from pgherd.walsenders import Walsenders

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

WITHIN = 20.0


def pidfds() -> set[str]:
    """Return the descriptors of this process that stand for other processes."""
    descriptors = Path("/proc/self/fd")
    found = set()
    for each in descriptors.iterdir():
        with contextlib.suppress(OSError):
            if "pidfd" in str(each.readlink()):
                found.add(each.name)
    return found


class Watched:
    """Processes that wait, and who is told when one has ended."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.count = 0
        self.senders = Walsenders(self._end)
        self.processes: list[asyncio.subprocess.Process] = []

    def _end(self) -> None:
        self.count += 1
        self.ended.set()

    async def begin(self) -> int:
        """Begin a process that waits for ever; return its id."""
        process = await asyncio.create_subprocess_exec("sleep", "infinity")
        self.processes.append(process)
        return process.pid

    async def end(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        [process] = [each for each in self.processes if each.pid == pid]
        await process.wait()

    async def tells(self) -> None:
        """Wait until an end is told."""
        async with asyncio.timeout(WITHIN):
            await self.ended.wait()
        self.ended.clear()


@pytest_asyncio.fixture
async def watched() -> AsyncIterator[Watched]:
    known = Watched()
    yield known
    known.senders.watch([])
    for process in known.processes:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_the_end_of_one_is_told_at_once_and_once(watched: Watched) -> None:
    first, second = await watched.begin(), await watched.begin()
    watched.senders.watch([first, second])
    await watched.end(first)
    await watched.tells()
    watched.senders.watch([second])
    await watched.end(second)
    await watched.tells()
    assert watched.count == 2


async def test_the_same_ones_again_change_nothing(watched: Watched) -> None:
    pid = await watched.begin()
    for _ in range(3):
        watched.senders.watch([pid])
    await watched.end(pid)
    await watched.tells()
    await asyncio.sleep(0)
    assert watched.count == 1


async def test_one_that_is_not_watched_any_more_ends_unnoticed(watched: Watched) -> None:
    first, second = await watched.begin(), await watched.begin()
    watched.senders.watch([first, second])
    watched.senders.watch([second])
    await watched.end(first)
    await watched.end(second)
    await watched.tells()
    assert watched.count == 1


async def test_one_that_is_gone_already_is_left_out(watched: Watched) -> None:
    """The next look at PostgreSQL shows it."""
    first, second = await watched.begin(), await watched.begin()
    await watched.end(first)
    watched.senders.watch([first, second])
    await watched.end(second)
    await watched.tells()
    assert watched.count == 1


async def test_no_descriptor_is_left_open(watched: Watched) -> None:
    pid = await watched.begin()
    before = pidfds()
    watched.senders.watch([pid])
    assert len(pidfds() - before) == 1
    watched.senders.watch([])
    assert pidfds() == before
