# SPDX-License-Identifier: GPL-3.0-or-later
"""Noticing that a disk is full, read-only or dead."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from agent.tests.postgres_processes import WITHIN
from pgherd.clock import boottime
from pgherd.disk import PROBE_FILE, RESERVE_BYTES, DiskProbe, examine
from pgherd.waiting import until
from pgherd.wal import SEGMENT_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NEEDED = SEGMENT_BYTES + RESERVE_BYTES
LIMIT = 2.0


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A directory that looks like a database's."""
    return database(tmp_path / "data")


def database(path: Path) -> Path:
    """Make *path* look like a data directory."""
    (path / "pg_wal").mkdir(parents=True)
    (path / "PG_VERSION").write_text("17\n")
    return path


@contextlib.contextmanager
def mounted(path: Path, size: int) -> Iterator[None]:
    """Have a file system of its own at *path*."""
    path.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(path)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(path: Path, left: int) -> None:
    """Leave *left* bytes of the file system below *path*."""
    (path / "filling").unlink(missing_ok=True)
    state = os.statvfs(path)
    size = state.f_bavail * state.f_frsize - left
    with (path / "filling").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)


class TestExamining:
    def test_a_good_disk_has_no_problem(self, data_dir: Path) -> None:
        assert examine(data_dir, "") == ""
        assert (data_dir / PROBE_FILE).stat().st_size > 0

    def test_a_directory_without_a_database_is_left_alone(self, tmp_path: Path) -> None:
        assert examine(tmp_path, "") == ""
        assert examine(tmp_path / "none", "") == ""
        assert list(tmp_path.iterdir()) == []

    def test_one_that_is_being_replaced_is_no_problem(self, data_dir: Path) -> None:
        (data_dir / "pg_wal").rmdir()
        assert examine(data_dir, "") == ""

    def test_a_full_disk_is_told_and_counts_as_full_until_there_is_room(
        self, tmp_path: Path
    ) -> None:
        with mounted(tmp_path / "disk", 3 * NEEDED):
            data_dir = database(tmp_path / "disk/data")
            assert examine(data_dir, "") == ""
            fill(data_dir, NEEDED - 65536)
            full = examine(data_dir, "")
            assert full == f"the disk of {data_dir} is full: less than 32 MB are left"
            fill(data_dir, NEEDED + (1 << 20))
            assert examine(data_dir, "") == ""
            assert "is full" in examine(data_dir, full)
            (data_dir / "filling").unlink()
            assert examine(data_dir, full) == ""

    def test_the_wal_may_be_on_a_disk_of_its_own(self, tmp_path: Path) -> None:
        with mounted(tmp_path / "wal", 3 * NEEDED):
            data_dir = database(tmp_path / "data")
            (data_dir / "pg_wal").rmdir()
            (data_dir / "pg_wal").symlink_to(tmp_path / "wal")
            assert examine(data_dir, "") == ""
            assert (tmp_path / "wal" / PROBE_FILE).exists()
            fill(tmp_path / "wal", NEEDED - 65536)
            assert examine(data_dir, "").startswith(f"the disk of {data_dir}/pg_wal is full")

    def test_larger_segments_need_more_room(self, tmp_path: Path) -> None:
        with mounted(tmp_path / "disk", 3 * NEEDED):
            data_dir = database(tmp_path / "disk/data")
            with (data_dir / "pg_wal" / ("0" * 24)).open("wb") as segment:
                segment.truncate(4 * NEEDED)
            assert "is full" in examine(data_dir, "")

    def test_a_read_only_disk_is_told(self, tmp_path: Path) -> None:
        with mounted(tmp_path / "disk", 2 * NEEDED):
            data_dir = database(tmp_path / "disk/data")
            remount = ["mount", "-o", "remount,ro", str(tmp_path / "disk")]
            subprocess.run(remount, check=True)
            assert examine(data_dir, "") == f"{data_dir} is on a read-only file system"

    def test_an_error_of_the_disk_is_told(
        self, data_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(descriptor: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(os, "fsync", fail)
        assert examine(data_dir, "") == f"{data_dir} cannot be used: Input/output error"

    @pytest.mark.parametrize("before", ["", "it was full"])
    def test_an_error_of_this_process_says_nothing_new(
        self, data_dir: Path, monkeypatch: pytest.MonkeyPatch, before: str
    ) -> None:
        def fail(*_: object) -> int:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        monkeypatch.setattr(os, "open", fail)
        assert examine(data_dir, before) == before


async def test_a_disk_that_hangs_is_noticed_and_so_is_its_return(data_dir: Path) -> None:
    # Opening a FIFO for writing hangs until somebody reads it.
    os.mkfifo(data_dir / PROBE_FILE)
    probe = DiskProbe(data_dir, LIMIT, boottime)
    task = asyncio.create_task(probe.run())
    assert probe.look() == ""

    async def hangs() -> bool:
        return probe.look() != ""

    async def is_fine() -> bool:
        return not await hangs()

    try:
        await until(hangs, every=0.05, within=WITHIN)
        assert probe.look() == f"a write to {data_dir} did not end within 2 s"
        reader = os.open(data_dir / PROBE_FILE, os.O_RDONLY | os.O_NONBLOCK)
        (data_dir / PROBE_FILE).unlink()
        await until(is_fine, every=0.05, within=WITHIN)
        os.close(reader)
    finally:
        task.cancel()
        await asyncio.wait({task})
