# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon's parts live and end together."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pgherd.agent import successor_problems, until_one_ends


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


def program(directory: Path, body: str) -> str:
    """Return a program that stands for the agent's file, whatever that is by now."""
    path = directory / "pgherd"
    path.write_text(f"import sys\n{body}\n")
    return str(path)


async def test_the_program_that_is_there_now_judges_the_configuration(tmp_path: Path) -> None:
    """This process may be older than the program, and know less."""
    known = program(tmp_path, "sys.exit(sys.argv[1:] != ['check-config', '--config', '/c.yml'])")
    assert await successor_problems(known, Path("/c.yml")) == []


async def test_what_it_has_against_it_is_told(tmp_path: Path) -> None:
    known = program(tmp_path, "sys.exit('pgherd: scope: is missing')")
    assert await successor_problems(known, tmp_path) == ["pgherd: scope: is missing"]


async def test_a_program_that_is_broken_or_hangs_is_no_successor(tmp_path: Path) -> None:
    broken = program(tmp_path, "sys.exit(3)")
    assert await successor_problems(broken, tmp_path) == [f"{broken} check-config fails"]
    hanging = program(tmp_path, "sys.stdout.flush()\nimport threading\nthreading.Event().wait()")
    problems = await successor_problems(hanging, tmp_path, within=0.2)
    assert problems == [f"{hanging} check-config does not end"]
