# SPDX-License-Identifier: GPL-3.0-or-later
"""patronictl: who leads is changed, at once or later, and what was planned is called off."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import pytest

from lab import LabError
from lab.cluster import CLUSTER_NAME
from lab.patroni_tools import after

if TYPE_CHECKING:
    from lab.cluster import Cluster
    from lab.patroni_tools import Tools

FORCE: Final = "--force"
HEALTHY_SECONDS_MAX: Final = 90

pytestmark = pytest.mark.timeout(240)


def history(tools: Tools) -> list[dict[str, Any]]:
    """Return the rows of `patronictl history`."""
    found: list[dict[str, Any]] = json.loads(tools.patronictl("history", "--format", "json"))
    return found


def await_leader(cluster: Cluster, name: str) -> None:
    """Wait until *name* leads and the others stream from it."""
    cluster.await_members(
        f"{name} leads and the others stream",
        lambda members: any(member.leads and member.name == name for member in members),
        HEALTHY_SECONDS_MAX,
    )
    assert cluster.await_healthy(HEALTHY_SECONDS_MAX) == name


def test_switchover_to_a_candidate_is_in_the_history(
    tools: Tools, cluster: Cluster, leader: str, standbys: tuple[str, ...]
) -> None:
    before = history(tools)
    timeline = tools.listed()[leader]["TL"]
    words = ("--leader", leader, "--candidate", standbys[1], FORCE)
    said = tools.patronictl("switchover", CLUSTER_NAME, *words)
    assert said.startswith("Current cluster topology")
    assert f'Successfully switched over to "{standbys[1]}"' in said
    # What it shows afterwards is read after the answer: the change is over by then.
    assert re.search(rf"\| {standbys[1]} +\| [0-9.]+ +\| Leader ", said.rpartition("over to")[2])
    await_leader(cluster, standbys[1])
    assert tools.listed()[standbys[1]]["TL"] == timeline + 1
    rows = history(tools)
    assert len(rows) == len(before) + 1
    assert (rows[-1]["TL"], rows[-1]["New Leader"]) == (timeline, standbys[1])
    assert datetime.fromisoformat(rows[-1]["Timestamp"]).tzinfo is not None
    assert "New Leader" in tools.patronictl("history")


def test_switchover_to_anybody(tools: Tools, cluster: Cluster, standbys: tuple[str, ...]) -> None:
    said = tools.patronictl("switchover", FORCE)
    found = re.search(r'Successfully switched over to "(\w+)"', said)
    assert found is not None, said
    assert found[1] in standbys
    await_leader(cluster, found[1])


def test_switchover_with_every_question_answered(
    tools: Tools, cluster: Cluster, leader: str, standbys: tuple[str, ...]
) -> None:
    answers = "\n".join([leader, standbys[0], "now", "y", ""])
    said = tools.patronictl("switchover", CLUSTER_NAME, typed=answers)
    assert f"Candidate {sorted(standbys)!r}" in said
    assert f'Successfully switched over to "{standbys[0]}"' in said
    await_leader(cluster, standbys[0])


def test_failover_to_a_candidate(tools: Tools, cluster: Cluster, standbys: tuple[str, ...]) -> None:
    said = tools.patronictl("failover", CLUSTER_NAME, "--candidate", standbys[1], FORCE)
    assert f'Successfully failed over to "{standbys[1]}"' in said
    await_leader(cluster, standbys[1])


def test_what_cannot_be_done_is_refused(
    tools: Tools, leader: str, standbys: tuple[str, ...]
) -> None:
    for words, text in (
        (("switchover", "--candidate", leader), f"Member {leader} is already the leader"),
        (("switchover", "--candidate", "nobody"), "Member nobody does not exist in cluster"),
        (("switchover", "--leader", standbys[0]), f"Member {standbys[0]} is not the leader"),
        (("failover",), "Failover could be performed only to a specific candidate"),
    ):
        with pytest.raises(LabError, match=text):
            tools.patronictl(*words, FORCE)
    said = tools.patronictl("switchover", "--scheduled", after(-3600), FORCE)
    assert "Switchover failed, details: 422, Cannot schedule switchover in the past" in said
    assert tools.listed()[leader]["Role"] == "Leader"


def test_a_scheduled_switchover_is_shown_and_can_be_called_off(
    tools: Tools, leader: str, standbys: tuple[str, ...]
) -> None:
    assert "No pending scheduled switchover" in tools.patronictl(
        "flush", CLUSTER_NAME, "switchover"
    )
    words = ("--candidate", standbys[0], "--scheduled", after(3600), FORCE)
    said = tools.patronictl("switchover", CLUSTER_NAME, *words)
    assert "Switchover scheduled" in said
    try:
        footer = tools.patronictl("list").rpartition("+\n")[2]
        assert "Switchover scheduled at: " in footer
        assert f"from: {leader}" in footer
        assert f"to: {standbys[0]}" in footer
        found = tools.check("cluster_has_scheduled_action")
        assert found.code == 2
        assert found.figures["scheduled_switchover"] == 1
    finally:
        said = tools.patronictl("flush", CLUSTER_NAME, "switchover", FORCE)
    assert "Success: scheduled switchover deleted" in said
    assert "scheduled" not in tools.patronictl("list")
    assert tools.check("cluster_has_scheduled_action").code == 0


def test_a_scheduled_switchover_happens(
    tools: Tools, cluster: Cluster, standbys: tuple[str, ...]
) -> None:
    words = ("--candidate", standbys[0], "--scheduled", tools.soon(), FORCE)
    assert "Switchover scheduled" in tools.patronictl("switchover", CLUSTER_NAME, *words)
    await_leader(cluster, standbys[0])
    assert "scheduled" not in tools.patronictl("list")
