# SPDX-License-Identifier: GPL-3.0-or-later
"""What is killed as an instance, and what is left alone."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from agent.tests.doomed import FakePostgres
from pgherd.guard_instance import DoomedInstance

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[FakePostgres]:
    known = FakePostgres(tmp_path)
    yield known
    known.end()


def doomed(postgres: FakePostgres, cage: str = "") -> DoomedInstance:
    return DoomedInstance(str(postgres.data_dir), cage)


def test_every_process_in_the_data_directory_is_found_and_killed(postgres: FakePostgres) -> None:
    processes = [postgres.start(), postgres.start()]
    assert doomed(postgres).processes() == {each.pid for each in processes}
    doomed(postgres).kill()
    assert [each.wait(10) for each in processes] == [-signal.SIGKILL, -signal.SIGKILL]
    assert doomed(postgres).processes() == set()


def test_what_it_has_started_goes_with_it(postgres: FakePostgres) -> None:
    """An archive command, say: it must not go on writing either."""
    process, child = postgres.start_with_child()
    assert doomed(postgres).processes() == {process.pid, child}


def test_a_dead_process_that_nobody_has_asked_about_counts_as_gone(postgres: FakePostgres) -> None:
    process = postgres.start()
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert doomed(postgres).processes() == set()


def test_a_program_that_an_upgrade_has_replaced_is_found(postgres: FakePostgres) -> None:
    process = postgres.start()
    postgres.program.unlink()
    assert doomed(postgres).processes() == {process.pid}


def test_another_instance_is_left_alone(postgres: FakePostgres, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    process = postgres.start(directory=other)
    doomed(postgres).kill()
    assert doomed(postgres).processes() == set()
    assert process.poll() is None


def test_a_persons_shell_in_the_data_directory_is_left_alone(postgres: FakePostgres) -> None:
    process = postgres.start(program="/bin/sh")
    doomed(postgres).kill()
    assert process.poll() is None


def test_the_cage_is_killed_in_one_write(postgres: FakePostgres, tmp_path: Path) -> None:
    cage = tmp_path / "cage"
    cage.mkdir()
    (cage / "cgroup.procs").write_text("11\n12\n")
    instance = doomed(postgres, str(cage))
    assert instance.processes() == {11, 12}
    instance.kill()
    assert (cage / "cgroup.kill").read_text() == "1"


def test_a_cage_that_is_gone_holds_nobody(postgres: FakePostgres, tmp_path: Path) -> None:
    instance = doomed(postgres, str(tmp_path / "none"))
    instance.kill()
    assert instance.processes() == set()


def test_without_a_data_directory_there_is_nothing(tmp_path: Path) -> None:
    assert DoomedInstance(str(tmp_path / "none"), "").processes() == set()
