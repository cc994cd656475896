# SPDX-License-Identifier: GPL-3.0-or-later
"""The data directory as a directory."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from pgherd.datadir import REPLACED, REWINDING, beside, discard, put_in_place, set_aside, staging
from pgherd.errors import PostgresError

if TYPE_CHECKING:
    from pathlib import Path


def filled(path: Path) -> Path:
    """Make *path* a directory that holds something."""
    path.mkdir()
    (path / "PG_VERSION").write_text("17\n")
    return path


def left(directory: Path) -> list[str]:
    """Return what *directory* holds when all that is being removed is gone."""
    for thread in threading.enumerate():
        if thread.name == "trash":
            thread.join()
    return sorted(path.name for path in directory.iterdir())


def test_a_new_directory_grows_beside_its_place_over_what_was_left_of_others(
    tmp_path: Path,
) -> None:
    for suffix in ("new", REWINDING, "trash.17"):
        filled(tmp_path / f"data.{suffix}")
    path = staging(tmp_path / "data")
    assert list(path.iterdir()) == []
    assert left(tmp_path) == ["data.new"]


def test_a_place_that_is_taken_is_left_as_it_is(tmp_path: Path) -> None:
    data_dir = filled(tmp_path / "data")
    with pytest.raises(PostgresError, match="is left as it is"):
        staging(data_dir)
    path = filled(tmp_path / "data.new")
    with pytest.raises(PostgresError, match="in the way"):
        put_in_place(path, data_dir)
    assert left(tmp_path) == ["data", "data.new"]


def test_what_is_put_in_place_replaces_what_waited_for_it(tmp_path: Path) -> None:
    filled(tmp_path / f"data.{REPLACED}")
    put_in_place(filled(tmp_path / "data.new"), tmp_path / "data")
    assert left(tmp_path) == ["data"]


def test_what_is_set_aside_replaces_what_was_before(tmp_path: Path) -> None:
    assert set_aside(tmp_path / "data", "failed") is None
    for word in ("first", "second"):
        (filled(tmp_path / "data") / "word").write_text(word)
        assert set_aside(tmp_path / "data", "failed") == tmp_path / "data.failed"
    assert (tmp_path / "data.failed/word").read_text() == "second"
    assert left(tmp_path) == ["data.failed"]


def test_what_is_discarded_is_gone_at_once(tmp_path: Path) -> None:
    path = filled(beside(tmp_path / "data.d", "new"))
    discard(path)
    assert not path.exists()
    discard(path)
    assert left(tmp_path) == []
