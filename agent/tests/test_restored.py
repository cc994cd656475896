# SPDX-License-Identifier: GPL-3.0-or-later
"""A member that a restore has left to lead: believed once, and only as it was left (issue 7)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.builders import SYSTEM_ID, cluster, control, peer, stopped, unlocked, view
from pgherd.actions import TakeKey
from pgherd.decide import decide
from pgherd.model import SyncKey
from pgherd.restored import forget, is_restored

if TYPE_CHECKING:
    from pathlib import Path

LEFT = {"system_id": SYSTEM_ID, "timeline": 1, "checkpoint": 0x1000}


def noted(data: Path, **changes: Any) -> bool:
    """Leave a note, and tell whether it is believed of a server that was stopped in good order."""
    data.with_name("data.restored").write_text(json.dumps({**LEFT, **changes}))
    return is_restored(data, control("shut down"))


def test_the_note_is_believed_as_long_as_nobody_has_started_the_server(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert not is_restored(data, control("shut down"))
    assert noted(data)
    assert not is_restored(data, control("in production"))
    assert not is_restored(data, control("shut down in recovery"))
    assert not is_restored(data, None)
    forget(data)
    assert not is_restored(data, control("shut down"))


@pytest.mark.parametrize("other", [{"checkpoint": 0x2000}, {"timeline": 2}, {"system_id": "1"}])
def test_the_note_of_another_state_is_worth_nothing(other: dict[str, Any], tmp_path: Path) -> None:
    assert not noted(tmp_path / "data", **other)


def test_a_damaged_note_is_worth_nothing(tmp_path: Path) -> None:
    (tmp_path / "data.restored").write_text("{")
    assert not is_restored(tmp_path / "data", control("shut down"))


RESTORED = stopped("shut down", is_restored=True)


def fired(seen: Any) -> str:
    """Return the name of the rule that fires for *seen*."""
    return decide(seen).rule.name


def test_it_takes_a_free_key_and_alone_has_the_commits() -> None:
    asked = cluster(None, config={"synchronous_mode": "quorum"})
    decision = decide(view(RESTORED, cluster=asked))
    assert decision.rule.name == "lead_restored"
    assert decision.actions == (TakeKey(SyncKey("pg1", timeline=1)),)


def test_it_does_not_where_somebody_leads_or_it_cannot_hold_the_key() -> None:
    assert fired(view(RESTORED)) == "rejoin"
    assert fired(unlocked(RESTORED, lease=None)) != "lead_restored"
    assert fired(unlocked(RESTORED, store_answers=False)) != "lead_restored"
    paused = cluster(None, config={"pause": True})
    assert fired(view(RESTORED, cluster=paused)) != "lead_restored"


def test_it_does_not_beside_a_living_primary() -> None:
    seen = unlocked(RESTORED, peers={"pg2": peer("pg2", role="primary")})
    assert fired(seen) != "lead_restored"
