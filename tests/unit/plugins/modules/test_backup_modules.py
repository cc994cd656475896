# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules that ask of backups and run long commands: what they say and what they read."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.pgherd.cluster.plugins.modules.backup_info import (
    command,
    complaint,
    target_options,
)
from ansible_collections.pgherd.cluster.plugins.modules.backup_job import (
    is_running,
    new_lines,
    parse_show,
    seconds,
)


def params(**changes: Any) -> dict[str, Any]:
    """Return the options of backup_info with their defaults."""
    known = {
        "query": "plan",
        "type": "latest",
        "target": "",
        "exclusive": False,
        "set": "",
        "timeline": "latest",
        "repository": 0,
        "beside": "",
        "keep_old": True,
        "program": "/pgherd-backup",
    }
    return {**known, **changes}


def test_the_program_is_asked_for_a_plan() -> None:
    assert command(params()) == [
        "/pgherd-backup", "plan", "--json", "--type=latest", "--timeline=latest", "--repo=0",
        "--keep-old",
    ]  # fmt: skip
    asked = command(params(keep_old=False, beside="copy"))
    assert asked[-2:] == ["--no-keep-old", "--beside=copy"]


def test_the_program_is_asked_what_there_is() -> None:
    assert command(params(query="info")) == ["/pgherd-backup", "info", "--json"]


def test_a_target_may_begin_with_a_dash() -> None:
    """Each option is one word with its value: none is taken for another option."""
    words = target_options(params(type="name", target="-x", set="20261201-120000F", exclusive=True))
    assert words == [
        "--type=name", "--timeline=latest", "--target=-x", "--set=20261201-120000F",
        "--exclusive", "--repo=0",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "said", "told"),
    [
        (3, "pgherd-backup: refused: no room\n", "Nothing was changed. no room."),
        (1, "pgherd-backup: it broke\n", "it broke"),
        (1, "", "it ended with 1"),
    ],
)
def test_what_went_wrong_is_told(code: int, said: str, told: str) -> None:
    assert complaint(code, said) == told


RUNNING = "ActiveState=activating\nSubState=start\nResult=success\nDescription=a b=c\n"


def test_a_unit_is_read() -> None:
    shown = parse_show(RUNNING + "\nnonsense\n")
    assert shown["Description"] == "a b=c"
    assert is_running(shown)


@pytest.mark.parametrize(
    ("active", "sub", "runs"),
    [
        ("active", "exited", False),
        ("active", "running", True),
        ("deactivating", "stop-sigterm", True),
        ("failed", "failed", False),
        ("inactive", "dead", False),
    ],
)
def test_a_unit_that_is_over_is_known(active: str, sub: str, runs: bool) -> None:
    assert is_running({"ActiveState": active, "SubState": sub}) == runs


def test_how_long_it_took_is_by_systemds_clock() -> None:
    times = {
        "ExecMainStartTimestampMonotonic": "1000000",
        "ExecMainExitTimestampMonotonic": "3560000",
    }
    assert seconds(times) == 2.6
    assert seconds({}) == 0.0


def test_only_whole_lines_are_shown_each_once() -> None:
    lines, offset = new_lines(b"one\ntwo\nthr", 0)
    assert (lines, offset) == (["one", "two"], 8)
    assert new_lines(b"one\ntwo\nthree\n", offset) == (["three"], 14)
    assert new_lines(b"", 14) == ([], 14)
