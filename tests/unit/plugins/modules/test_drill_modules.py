# SPDX-License-Identifier: GPL-3.0-or-later
"""What the drill's modules write: SQL that cannot be turned around, and events in order."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from ansible_collections.pgherd.cluster.plugins.module_utils._drill_faults import Fault
from ansible_collections.pgherd.cluster.plugins.modules.drill_fault import absent
from ansible_collections.pgherd.cluster.plugins.modules.drill_login import statements
from ansible_collections.pgherd.cluster.plugins.modules.drill_probe import note

if TYPE_CHECKING:
    from pathlib import Path


def test_a_login_is_made_anew_and_taken_away() -> None:
    made = statements("present", "pgherd_drill_x1", "abcdefGHIJ12")
    assert made.index("DROP ROLE") < made.index("CREATE ROLE pgherd_drill_x1 LOGIN")
    assert made.index("log_statement") < made.index("abcdefGHIJ12")
    gone = statements("absent", "pgherd_drill_x1", "")
    assert "DROP OWNED BY" in gone
    assert "CREATE" not in gone


@pytest.mark.parametrize(
    ("name", "password", "says"),
    [
        ("pgherd_drill_;", "abcdefGHIJ12", "`pgherd_drill_;` is none"),
        ("postgres", "abcdefGHIJ12", "`postgres` is none"),
        ("pgherd_drill_1", "it's", "12 letters and digits"),
    ],
)
def test_what_sql_cannot_hold_is_refused(name: str, password: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        statements("present", name, password)


def test_events_are_written_one_behind_the_other(tmp_path: Path) -> None:
    path = tmp_path / "events.json"
    note(path, [{"name": "fault", "target": "pg1", "wall": 12.5}])
    assert note(path, []) == json.loads(path.read_text())
    first, second = note(path, [{"name": "undo"}])
    assert [first, second] == json.loads(path.read_text())
    assert first == {"wall": 12.5, "name": "fault", "target": "pg1", "text": ""}
    assert second["wall"] > first["wall"]


def test_a_program_that_a_fault_needs_is_missed() -> None:
    lacking = absent(Fault("leader", "", needs=("no-such-program-1f", "sh")))
    assert "no-such-program-1f" in lacking
    assert "sh" not in lacking
