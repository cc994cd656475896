# SPDX-License-Identifier: GPL-3.0-or-later
"""Which holders of a lock are known to be gone."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from ansible_collections.pgherd.cluster.plugins.action.etcd_lock import (
    is_dead,
    started_at,
    token_of,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_a_process_that_runs_is_not_dead() -> None:
    pid = os.getpid()
    assert not is_dead({"pid": pid, "token": token_of(pid)})


def test_a_process_that_ended_is_dead() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        lock = {"pid": process.pid, "token": token_of(process.pid)}
        assert not is_dead(lock)
        process.kill()
    assert is_dead(lock)


def test_a_number_that_is_used_again_is_another_process() -> None:
    pid = os.getpid()
    assert is_dead({"pid": pid, "token": f"{token_of(pid)}0"})


def test_nothing_is_known_of_another_controller() -> None:
    assert not is_dead({"pid": 1, "token": "elsewhere/boot/space 1 5"})
    assert not is_dead({"pid": 0, "token": ""})


def test_names_of_processes_may_look_like_anything(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    words = " ".join(str(number) for number in range(4, 30))
    (tmp_path / "7" / "stat").write_text(f"7 (a) b) S {words}", encoding="utf-8")
    assert started_at(7, tmp_path) == "22"
    assert started_at(8, tmp_path) == ""
