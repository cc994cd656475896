# SPDX-License-Identifier: GPL-3.0-or-later
"""Finding a postmaster, learning of its death, killing it; a `cat` plays the postmaster."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from pgherd.postmaster import Cage, Postmaster, clear_leftovers, find

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Running:
    """A process that works in a data directory and is named in its postmaster.pid."""

    def __init__(self, data_dir: Path) -> None:
        data_dir.mkdir()
        self.data_dir = data_dir
        self.process = subprocess.Popen(["cat"], cwd=data_dir, stdin=subprocess.PIPE)
        self.died = asyncio.Event()
        (data_dir / "postmaster.pid").write_text(f"{self.process.pid}\n{data_dir}\n")

    def find(self) -> Postmaster | None:
        return find(self.data_dir, self.died.set)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    known = Running(tmp_path / "data")
    yield known
    known.process.kill()
    known.process.communicate()


async def test_a_running_postmaster_is_found(running: Running) -> None:
    found = running.find()
    assert found is not None
    assert found.pid == running.process.pid
    assert found.is_alive


async def test_its_death_is_noticed_without_asking(running: Running) -> None:
    """Issue 1371 and 3.3 of Patroni: no loop is awaited."""
    found = running.find()
    assert found is not None
    running.process.kill()
    async with asyncio.timeout(20):
        await running.died.wait()
    assert not found.is_alive
    assert await found.wait(None)


async def test_waiting_for_its_death_is_bounded(running: Running) -> None:
    found = running.find()
    assert found is not None
    assert not await found.wait(0)
    assert found.is_alive


async def test_a_signal_reaches_it(running: Running) -> None:
    found = running.find()
    assert found is not None
    found.send(signal.SIGTERM)
    async with asyncio.timeout(20):
        assert await found.wait(None)
    assert running.process.wait() == -signal.SIGTERM


async def test_a_signal_to_a_dead_one_is_lost_quietly(running: Running) -> None:
    found = running.find()
    assert found is not None
    running.process.kill()
    running.process.wait()
    # Its death may not have been noticed yet: both ways have to be fine.
    found.send(signal.SIGTERM)
    async with asyncio.timeout(20):
        await found.wait(None)
    found.send(signal.SIGTERM)
    assert not found.is_alive


async def test_the_pid_of_another_process_is_no_postmaster(
    running: Running, tmp_path: Path
) -> None:
    """The pid file outlived its postmaster and the number was given to somebody else."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "postmaster.pid").write_text(f"{running.process.pid}\n")
    assert find(other, running.died.set) is None


async def test_the_pid_of_a_dead_process_is_no_postmaster(running: Running) -> None:
    running.process.kill()
    running.process.wait()
    assert running.find() is None


@pytest.mark.parametrize("content", [None, "", "\n", "x\n", "-1\n", "0\n", "99999999999\n"])
async def test_a_missing_or_damaged_pid_file_names_no_postmaster(
    tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "postmaster.pid").write_text(content)
    assert find(tmp_path, lambda: None) is None


class TestLeftovers:
    """What stands in the way of a start although no postmaster runs."""

    @pytest.fixture
    def cage(self, tmp_path: Path) -> Cage:
        path = tmp_path / "postgres"
        path.mkdir()
        (path / "cgroup.procs").write_text("")
        return Cage(path)

    async def test_a_pid_that_now_is_another_process_is_forgotten(
        self, running: Running, tmp_path: Path, cage: Cage
    ) -> None:
        """After a reboot the number may be the agent's; PostgreSQL would refuse to start."""
        pid_file = tmp_path / "postmaster.pid"
        pid_file.write_text(f"{running.process.pid}\n")
        await clear_leftovers(tmp_path, cage)
        assert not pid_file.exists()
        assert running.process.poll() is None

    async def test_where_backends_may_be_left_the_pid_file_stays(
        self, running: Running, tmp_path: Path
    ) -> None:
        pid_file = tmp_path / "postmaster.pid"
        pid_file.write_text(f"{running.process.pid}\n")
        await clear_leftovers(tmp_path, Cage(None))
        assert pid_file.exists()

    async def test_a_dead_postmaster_is_waited_for_until_it_is_reaped(
        self, running: Running, cage: Cage
    ) -> None:
        """Its pidfd tells of the death before that; PostgreSQL takes it for alive till then."""
        found = running.find()
        assert found is not None
        running.process.kill()
        assert await found.wait(10)
        clearing = asyncio.create_task(clear_leftovers(running.data_dir, cage))
        done, _ = await asyncio.wait({clearing}, timeout=0.1)
        assert not done
        running.process.wait()
        async with asyncio.timeout(10):
            await clearing


class TestCage:
    """The cgroup's files stand in for the kernel's: a test may not make cgroups everywhere."""

    def test_without_a_cgroup_commands_run_as_they_are(self) -> None:
        cage = Cage(None)
        assert cage.wrap(["a", "b"]) == ["a", "b"]
        assert cage.is_empty
        cage.kill()

    def test_a_command_enters_the_cgroup_before_it_runs(self, tmp_path: Path) -> None:
        command = Cage(tmp_path).wrap(["sh", "-c", 'echo "$$ $1"', "name", "two words"])
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        pid = (tmp_path / "cgroup.procs").read_text().strip()
        assert output == f"{pid} two words\n"

    def test_a_command_that_cannot_enter_does_not_run(self, tmp_path: Path) -> None:
        command = Cage(tmp_path / "none").wrap(["touch", str(tmp_path / "ran")])
        assert subprocess.run(command, check=False, capture_output=True).returncode != 0
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize(("procs", "empty"), [("", True), ("\n", True), ("12\n13\n", False)])
    def test_it_is_empty_when_no_process_is_left(
        self, tmp_path: Path, procs: str, empty: bool
    ) -> None:
        (tmp_path / "cgroup.procs").write_text(procs)
        assert Cage(tmp_path).is_empty is empty

    def test_all_are_killed_in_one_write(self, tmp_path: Path) -> None:
        Cage(tmp_path).kill()
        assert (tmp_path / "cgroup.kill").read_text() == "1"

    def test_a_cgroup_that_is_gone_holds_nobody(self, tmp_path: Path) -> None:
        gone = Cage(tmp_path / "none")
        assert gone.is_empty
        gone.kill()
