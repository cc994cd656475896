# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rejoin overwrites is kept, bounded in number and size."""

from __future__ import annotations

import shutil
import threading
from collections import namedtuple
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pgherd.config import KeepDiverged
from pgherd.datadir import beside
from pgherd.divergence import Divergence
from pgherd.history import Branch, Past
from pgherd.kept import LEFT_FREE, MEGABYTE, Attic

if TYPE_CHECKING:
    from pathlib import Path

Usage = namedtuple("Usage", "total used free")

FOUND = Divergence(2, 3 * MEGABYTE + 0x148, 5 * MEGABYTE, "pg2", 3, by_files=True)
PAST = Past(2, (Branch(1, 2 * MEGABYTE, ""),), 5 * MEGABYTE)
SEGMENTS = [f"00000002000000000000000{number}" for number in range(2, 6)]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data directory with segments of 1 MB."""
    wal = tmp_path / "data/pg_wal"
    wal.mkdir(parents=True)
    (tmp_path / "data/PG_VERSION").write_text("17\n")
    for name in (*SEGMENTS, "000000010000000000000001", "000000030000000000000004"):
        (wal / name).write_bytes(name.encode().ljust(MEGABYTE, b"."))
    (wal / "00000002.history").write_text("1\t0/200000\tx\n")
    return tmp_path / "data"


def attic(data_dir: Path, count: int = 2, max_mb: int = 100) -> Attic:
    """Return the place where what *data_dir* held is kept."""
    return Attic(data_dir, KeepDiverged(count, max_mb), "pg1")


def kept(data_dir: Path) -> list[Path]:
    """Return what is kept, oldest first, what is thrown away being gone."""
    for thread in threading.enumerate():
        if thread.name == "trash":
            thread.join()
    return sorted((data_dir.parent / "data.diverged").iterdir())


class TestWal:
    def test_segments_from_the_parting_on_are_copied_with_histories_and_a_note(
        self, data_dir: Path
    ) -> None:
        place = attic(data_dir).keep_wal(FOUND, PAST)
        assert place is not None
        assert kept(data_dir) == [place]
        names = sorted(path.name for path in place.iterdir())
        assert names == ["00000002.history", *SEGMENTS[1:], "about.txt"]
        original = data_dir / "pg_wal" / SEGMENTS[1]
        assert (place / SEGMENTS[1]).read_bytes() == original.read_bytes()
        assert (place / SEGMENTS[1]).stat().st_ino != original.stat().st_ino
        note = (place / "about.txt").read_text()
        assert "member pg1" in note
        assert "from:   0/300148\nto:     0/500000\nleader: pg2" in note
        assert "pg_waldump --path=. --timeline=2 --start=0/300148" in note

    def test_the_same_one_is_not_kept_twice(self, data_dir: Path) -> None:
        first = attic(data_dir).keep_wal(FOUND, PAST)
        # A try that failed half way may have written more.
        again = replace(FOUND, end=FOUND.end + 100)
        assert attic(data_dir).keep_wal(again, PAST) == first
        other = replace(FOUND, start=FOUND.start + 8)
        assert attic(data_dir).keep_wal(other, PAST) != first

    def test_the_oldest_go_when_there_are_too_many(self, data_dir: Path) -> None:
        places = [
            attic(data_dir).keep_wal(replace(FOUND, start=FOUND.start + 8 * each), PAST)
            for each in range(3)
        ]
        assert kept(data_dir) == places[1:]

    def test_the_oldest_go_when_all_are_too_large(self, data_dir: Path) -> None:
        places = [
            attic(data_dir, 9, 7).keep_wal(replace(FOUND, start=FOUND.start + 8 * each), PAST)
            for each in range(4)
        ]
        assert kept(data_dir) == places[2:]

    def test_of_too_much_the_beginning_is_kept(
        self, data_dir: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        place = attic(data_dir, 2, 2).keep_wal(FOUND, PAST)
        assert place is not None
        assert (place / SEGMENTS[2]).exists()
        assert not (place / SEGMENTS[3]).exists()
        assert f"WAL from {SEGMENTS[3]} on is too much to be kept" in caplog.text

    def test_the_disk_is_not_filled_up_for_it(
        self, data_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        free = Usage(0, 0, LEFT_FREE + MEGABYTE)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
        place = attic(data_dir).keep_wal(FOUND, PAST)
        assert place is not None
        assert (place / SEGMENTS[1]).exists()
        assert not (place / SEGMENTS[2]).exists()

    @pytest.mark.parametrize(("count", "max_mb"), [(0, 100), (2, 0)])
    def test_nothing_is_kept_when_told_so(self, data_dir: Path, count: int, max_mb: int) -> None:
        assert attic(data_dir, count, max_mb).keep_wal(FOUND, PAST) is None
        assert attic(data_dir, count, max_mb).keep_directory(FOUND, None) is None
        assert not (data_dir.parent / "data.diverged").exists()

    def test_a_copy_that_fails_leaves_nothing(
        self, data_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(shutil, "copy2", fail)
        with pytest.raises(OSError, match="No space"):
            attic(data_dir).keep_wal(FOUND, PAST)
        assert not list((data_dir.parent / "data.diverged").glob("*Z"))

    def test_what_a_killed_agent_left_half_copied_goes(self, data_dir: Path) -> None:
        stamp = data_dir.parent / "data.diverged/20260101T000000.000000Z"
        for left in (beside(stamp, "new"), beside(stamp, "trash.17")):
            left.mkdir(parents=True)
        place = attic(data_dir).keep_wal(FOUND, PAST)
        assert kept(data_dir) == [place]

    def test_what_others_put_there_is_left_alone(self, data_dir: Path) -> None:
        theirs = data_dir.parent / "data.diverged/mine"
        theirs.mkdir(parents=True)
        for each in range(4):
            attic(data_dir, 1).keep_wal(replace(FOUND, start=FOUND.start + 8 * each), PAST)
        assert theirs.exists()
        assert len(kept(data_dir)) == 2


class TestDirectory:
    def test_it_is_moved_and_may_be_given_back(self, data_dir: Path) -> None:
        moved = attic(data_dir).keep_directory(FOUND, None)
        assert moved is not None
        assert not data_dir.exists()
        assert (moved / "PG_VERSION").exists()
        assert (moved.parent / "about.txt").exists()
        attic(data_dir).give_back(moved)
        assert (data_dir / "PG_VERSION").exists()
        # A place of which nothing is left but the note would take the room of another.
        assert not moved.parent.exists()

    def test_it_may_join_its_wal(self, data_dir: Path) -> None:
        for each in range(2):
            attic(data_dir).keep_wal(replace(FOUND, start=FOUND.start + 8 * each), PAST)
        oldest, newest = kept(data_dir)
        moved = attic(data_dir).keep_directory(FOUND, oldest)
        assert moved == oldest / "data"
        assert kept(data_dir) == [oldest, newest]
        attic(data_dir).give_back(moved)
        assert (oldest / SEGMENTS[1]).exists()

    def test_one_that_is_too_large_stays(self, data_dir: Path) -> None:
        assert attic(data_dir, 2, 5).keep_directory(FOUND, None) is None
        assert data_dir.exists()
