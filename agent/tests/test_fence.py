# SPDX-License-Identifier: GPL-3.0-or-later
"""Fence agents: one that works, one that fails, one that hangs, and the package's own dummy."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.postgres_processes import WITHIN
from pgherd.config import Fencing
from pgherd.fence import FenceError, fence, find_agent

if TYPE_CHECKING:
    from pathlib import Path

HOSTS = {"pg1": {"plug": 7}, "pg2": {"plug": 8}}
DUMMY = find_agent("fence_dummy")


@pytest.fixture
def fencing(tmp_path: Path) -> Any:
    """Return a function that makes a fence agent of shell lines, and its configuration."""

    def make(body: str, **changes: Any) -> Fencing:
        path = tmp_path / "fence_test"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return Fencing(**{"mode": "required", "agent": str(path), "hosts": HOSTS, **changes})

    return make


async def test_it_gets_the_options_of_all_and_of_the_host_on_its_standard_input(
    fencing: Any, tmp_path: Path
) -> None:
    options = {"ip": "192.0.2.9", "password": "a b=c", "plug": 1, "ssl": True, "verbose": False}
    configured = fencing(f'cat > {tmp_path}/input; echo "$#" > {tmp_path}/count', options=options)
    await fence(configured, "pg2", WITHIN)
    assert (tmp_path / "input").read_text().splitlines() == [
        "ip=192.0.2.9",
        "password=a b=c",
        "plug=8",
        "ssl=1",
        "verbose=0",
        "action=off",
        "nodename=pg2",
    ]
    assert (tmp_path / "count").read_text() == "0\n"


async def test_one_that_fails_is_told_with_what_it_said_but_not_with_secrets(fencing: Any) -> None:
    body = "cat | grep password >&2; echo 'ERROR: wrong: s3cret' >&2; echo bye >&2; exit 1"
    configured = fencing(body, options={"password": "s3cret", "key": ""})
    with pytest.raises(FenceError) as caught:
        await fence(configured, "pg1", WITHIN)
    program = configured.agent
    assert str(caught.value) == f"{program} could not fence pg1 (exit code 1): ERROR: wrong: ***"


@pytest.mark.parametrize(("said", "told"), [("", "it left no message"), ("a\nb", "b")])
async def test_without_an_error_line_the_last_one_is_told(
    fencing: Any, said: str, told: str
) -> None:
    with pytest.raises(FenceError, match=f": {told}$"):
        await fence(fencing(f"cat > /dev/null; printf '{said}' >&2; exit 2"), "pg1", WITHIN)


async def test_one_that_hangs_has_failed_and_is_killed_with_its_children(
    fencing: Any, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "fifo")
    # The child holds the FIFO open, and would do so for ever.
    configured = fencing(f"sh -c 'exec > {tmp_path}/fifo; echo on; exec tail -f /dev/null' & wait")
    async with asyncio.timeout(WITHIN):
        fenced = asyncio.create_task(fence(configured, "pg1", 1.0))
        with await asyncio.to_thread((tmp_path / "fifo").open) as output:
            assert await asyncio.to_thread(output.readline) == "on\n"
            with pytest.raises(FenceError, match="did not fence pg1 within 1 s"):
                await fenced
            assert await asyncio.to_thread(output.read) == ""


async def test_a_caller_that_is_cancelled_takes_it_along(fencing: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    configured = fencing(f"exec > {tmp_path}/fifo; echo on; exec tail -f /dev/null")
    async with asyncio.timeout(WITHIN):
        fenced = asyncio.create_task(fence(configured, "pg1", WITHIN))
        with await asyncio.to_thread((tmp_path / "fifo").open) as output:
            assert await asyncio.to_thread(output.readline) == "on\n"
            fenced.cancel()
            assert await asyncio.to_thread(output.read) == ""
    with pytest.raises(asyncio.CancelledError):
        await fenced


async def test_a_host_that_is_not_named_cannot_be_fenced(fencing: Any) -> None:
    with pytest.raises(FenceError, match=r"^pg9 cannot be fenced: fencing\.hosts does not name it"):
        await fence(fencing("exit 0"), "pg9", WITHIN)


async def test_a_program_that_is_not_there_cannot_fence(fencing: Any) -> None:
    with pytest.raises(FenceError, match="there is no program fence_none"):
        await fence(fencing("exit 0", agent="fence_none"), "pg1", WITHIN)


def test_options_show_in_no_repr() -> None:
    shown = repr(Fencing(options={"password": "s3cret"}, hosts={"pg1": {"password": "s3cret"}}))
    assert "s3cret" not in shown


@pytest.mark.skipif(DUMMY is None, reason="there is no fence_dummy (Debian: fence-agents)")
class TestDummy:
    """ClusterLabs' own fence agent for tests."""

    def configured(self, **options: Any) -> Fencing:
        return Fencing("required", "fence_dummy", options=options, hosts={"pg1": {}})

    async def test_one_that_works_switches_the_host_off(self, tmp_path: Path) -> None:
        status = tmp_path / "status"
        status.write_text("on")
        await fence(self.configured(status_file=str(status)), "pg1", WITHIN)
        assert status.read_text() == "off"

    async def test_a_secret_that_it_repeats_is_not_told(self) -> None:
        # It warns of options that it does not know, and shows their values.
        fails = self.configured(type="fail", plug=1, power_timeout=1, password="s3cret")
        with pytest.raises(FenceError, match="could not fence pg1") as caught:
            await fence(fails, "pg1", WITHIN)
        assert "s3cret" not in str(caught.value)

    async def test_one_that_is_slow_has_failed(self, tmp_path: Path) -> None:
        status = tmp_path / "status"
        status.write_text("on")
        slow = self.configured(status_file=str(status), delay=60)
        with pytest.raises(FenceError, match="within 1 s"):
            await fence(slow, "pg1", 1.0)
        assert status.read_text() == "on"
