# SPDX-License-Identifier: GPL-3.0-or-later
"""A secret kept in a file on the controller, made once."""

from __future__ import annotations

import stat
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING

import pytest
from ansible_collections.pgherd.cluster.plugins.lookup.secret import (
    LENGTH,
    PLACEHOLDER,
    read_or_make,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_it_is_made_once_and_nobody_else_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "demo" / "one"
    secret = read_or_make(path, "create")
    assert len(secret) == LENGTH
    assert secret.isalnum()
    assert read_or_make(path, "create") == secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["one"]


def test_two_files_hold_two_secrets(tmp_path: Path) -> None:
    assert read_or_make(tmp_path / "one", "create") != read_or_make(tmp_path / "two", "create")


def test_processes_that_come_at_once_get_the_same(tmp_path: Path) -> None:
    with ProcessPoolExecutor(max_workers=4, mp_context=get_context("fork")) as pool:
        found = set(pool.map(read_or_make, [tmp_path / "one"] * 8, ["create"] * 8))
    assert len(found) == 1


def test_a_check_run_makes_nothing(tmp_path: Path) -> None:
    assert read_or_make(tmp_path / "new" / "one", "pretend") == PLACEHOLDER
    assert list(tmp_path.iterdir()) == []


def test_a_cluster_that_exists_gets_no_new_secret(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="copy the directory from the controller that made"):
        read_or_make(tmp_path / "one", "fail")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_is_no_secret(tmp_path: Path) -> None:
    (tmp_path / "one").touch()
    with pytest.raises(ValueError, match="one is empty"):
        read_or_make(tmp_path / "one", "create")
