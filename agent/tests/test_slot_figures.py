# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told of slots."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.tests.builders import cluster, member, primary, slot, standby, view
from pgherd.settings import Tags
from pgherd.slot_figures import missing_failover_slots, slot_rows

COPIED = slot(type="logical", failover=True, synced=True)


def test_a_row_tells_what_a_slot_holds_back() -> None:
    slots = {
        "pg2": slot(0x2000, active=True),
        "pg3": slot(None, wal_status="lost"),
        "mine": slot(temporary=True),
        "ahead": slot(0x9000, type="logical"),
    }
    used = {"type": "physical", "active": True, "lost": False, "retained_bytes": 0x1000}
    lost = {"type": "physical", "active": False, "lost": True, "retained_bytes": 0}
    ahead = {"type": "logical", "active": False, "lost": False, "retained_bytes": 0}
    assert slot_rows(primary(slots=slots)) == {"ahead": ahead, "pg2": used, "pg3": lost}


@pytest.mark.parametrize(
    ("theirs", "missing"),
    [(["a", "b"], ["b"]), (["a"], []), (None, []), ("ab", []), ([], [])],
)
def test_a_standby_tells_which_of_its_leaders_slots_it_lacks(
    theirs: Any, missing: list[str]
) -> None:
    known = cluster(members=[member("pg2", role="primary", pgherd={"failover_slots": theirs})])
    slots = {"a": COPIED, "b": {**COPIED, "temporary": True}}
    assert missing_failover_slots(view(standby(slots=slots), cluster=known)) == missing


def test_one_that_never_leads_needs_none_where_they_are_not_copied_by_postgresql() -> None:
    known = cluster(members=[member("pg2", role="primary", pgherd={"failover_slots": ["a"]})])
    seen = replace(view(standby(), cluster=known), tags=Tags(nofailover=True))
    assert missing_failover_slots(seen) == []


def test_a_primary_lacks_none() -> None:
    assert missing_failover_slots(view(primary(), cluster=cluster("pg1"))) == []
