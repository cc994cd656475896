# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of the slot of a member that has left."""

from __future__ import annotations

import pytest
from ansible_collections.pgherd.cluster.plugins.modules.member_slot import (
    plan,
    settle,
    slot_name,
)


@pytest.mark.parametrize(("active", "action"), [("", "nothing"), ("t", "wait"), ("f", "drop")])
def test_plan(active: str, action: str) -> None:
    assert plan(active) == action


def test_its_reader_is_waited_for() -> None:
    seen = iter(["t", "f"])
    assert settle(lambda: next(seen), 60) == "drop"


def test_not_for_ever() -> None:
    assert settle(lambda: "t", 0) == "wait"


def test_names_are_made_as_the_agents_make_them() -> None:
    assert slot_name("PG-3.Example'") == "pg_3_example_"
    assert len(slot_name("x" * 70)) == 63
