# SPDX-License-Identifier: GPL-3.0-or-later
"""An operator's commands are really run: bounded, heard, taken along."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from pgherd.errors import CommandError
from pgherd.hooks import before_stop, run_command
from pgherd.waiting import until

if TYPE_CHECKING:
    from pathlib import Path


def script(directory: Path, text: str) -> str:
    """Return the path of an executable shell script."""
    path = directory / "script"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


async def test_words_arguments_and_environment_arrive_as_they_are(tmp_path: Path) -> None:
    command = script(tmp_path, f'printf "%s|" "$@" "$WORD" > {tmp_path}/out')
    await run_command(f"{command} 'two words'", "a b", "$HOME", environment={"WORD": "x y"})
    assert (tmp_path / "out").read_text() == "two words|a b|$HOME|x y|"


async def test_what_it_tells_is_logged_and_is_the_reason_of_its_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    command = script(tmp_path, "echo one; echo two >&2; exit 3")
    with pytest.raises(CommandError, match="script ended with exit code 3: two"):
        await run_command(command)
    assert [each.getMessage() for each in caplog.records] == ["script: one", "script: two"]


async def test_one_that_cannot_be_started_says_why() -> None:
    with pytest.raises(CommandError, match="no-such-program"):
        await run_command("/no-such-program")


async def test_one_that_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    mark = tmp_path / "child"
    command = script(tmp_path, f"(echo $$ > {mark}; exec sleep 1000) & wait")
    with pytest.raises(CommandError, match=r"killed after 0\.5 s"):
        await run_command(command, within=0.5)

    async def is_gone() -> bool:
        found = await asyncio.create_subprocess_exec(
            *("pgrep", "-f", f"sh {tmp_path}/script"), stdout=asyncio.subprocess.DEVNULL
        )
        return await found.wait() != 0

    await until(is_gone, every=0.05, within=30)


async def test_what_it_leaves_running_is_not_waited_for(tmp_path: Path) -> None:
    command = script(tmp_path, f"sleep 1000 & echo $! > {tmp_path}/pid")
    async with asyncio.timeout(60):
        await run_command(command)
    pid = (tmp_path / "pid").read_text().strip()
    killer = await asyncio.create_subprocess_exec("kill", pid)
    assert await killer.wait() == 0


async def test_a_failing_before_stop_changes_nothing(tmp_path: Path) -> None:
    await before_stop("")
    await before_stop(script(tmp_path, f"touch {tmp_path}/done; exit 1"))
    assert (tmp_path / "done").exists()
