# SPDX-License-Identifier: GPL-3.0-or-later
"""What health says of backups, of gaps in the archive and of restore drills."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.pgherd.cluster.plugins.module_utils._health import (
    CHECKS,
    Allowed,
    Seen,
    skipped,
)

NOW = 1_796_126_400
DRILL = {"verdict": "passed", "finished_at": NOW - 86400, "finished": "2026-11-30 12:00:00+00:00"}


def told(**changes: Any) -> dict[str, Any]:
    """Return what backup_info found, all of it well."""
    repository = {
        "number": 1,
        "problem": "",
        "missing_wal_since_newest": [],
        "backups": [{"stopped": NOW - 3600, "error": False}],
    }
    given = {"now": NOW, "drill": DRILL}
    given |= {name: changes.pop(name) for name in ("drill",) if name in changes}
    return {**given, "repositories": [{**repository, **changes}]}


def said(check: str, backups: dict[str, Any]) -> str:
    """Return what *check* says, in one line."""
    return "; ".join(CHECKS[check](Seen({}, backups=backups), Allowed()))


def test_all_is_well() -> None:
    assert said("backup", told()) == said("restore_drill", told()) == ""


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"problem": "unable to read"}, "repository 1: unable to read"),
        ({"backups": []}, "repository 1 has no backup: take one (pgherd.cluster.backup)"),
        ({"backups": [{"stopped": NOW, "error": True}]}, "repository 1 has no backup"),
        (
            {"backups": [{"stopped": NOW - 40 * 3600, "error": False}]},
            "the newest backup of repository 1 is 40 h old, 36 are allowed",
        ),
        ({"missing_wal_since_newest": ["0A", "0B"]}, "repository 1 lacks 2 segments of WAL since"),
    ],
)
def test_what_is_wrong_with_a_repository_is_said(changes: dict[str, Any], sentence: str) -> None:
    assert said("backup", told(**changes)).startswith(sentence)


def test_a_repository_that_nobody_reaches_is_said_once() -> None:
    backups = {"problem": "ops1 cannot be reached"}
    assert said("backup", backups) == (
        "nobody knows what backups there are: ops1 cannot be reached"
    )
    assert said("restore_drill", backups) == ""


@pytest.mark.parametrize(
    ("drill", "sentence"),
    [
        (None, "no backup was ever restored to see if it can be"),
        (
            {
                **DRILL,
                "verdict": "failed",
                "checks": [
                    {"name": "backup", "verdict": "passed"},
                    {"name": "restore", "verdict": "failed"},
                ],
            },
            "the last restore drill failed (restore), at 2026-11-30 12:00:00 UTC",
        ),
        (
            {**DRILL, "finished_at": NOW - 20 * 86400},
            "the last restore drill was 20 days ago, 8 are allowed",
        ),
    ],
)
def test_what_drills_have_not_shown_is_said(drill: Any, sentence: str) -> None:
    assert said("restore_drill", told(drill=drill)).startswith(sentence)


def test_without_a_word_of_backups_nothing_is_looked_at() -> None:
    assert said("backup", {}) == said("restore_drill", {}) == ""
    assert skipped(Seen({}), ["backup", "restore_drill"]) == dict.fromkeys(
        ("backup", "restore_drill"), "nobody said what backups there are"
    )
