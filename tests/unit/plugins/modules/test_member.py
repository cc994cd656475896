# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose turn it is, and who is not touched."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.pgherd.cluster.plugins.modules.member import (
    Turns,
    body_of,
    order_of,
    plan,
)

PARAMS = {
    "name": [],
    "rolling": False,
    "state": "restarted",
    "pending_only": False,
    "from_leader": False,
}


def cluster(*pending: str, leader: str = "pg2") -> dict[str, Any]:
    """Return three members, of whom *pending* wait for a restart."""
    members = [
        {
            "name": name,
            "role": "leader" if name == leader else "replica",
            "pending_restart": name in pending,
        }
        for name in ("pg1", "pg2", "pg3")
    ]
    return {"members": members}


@pytest.mark.parametrize(
    ("seen", "params", "members"),
    [
        (cluster(), {"name": ["pg3"]}, ("pg3",)),
        # The leader last, nobody twice.
        (cluster(), {"name": ["pg2", "pg3", "pg1", "pg3"]}, ("pg1", "pg3", "pg2")),
        (cluster(), {"rolling": True}, ("pg1", "pg3", "pg2")),
        (cluster("pg1", "pg2"), {"rolling": True, "pending_only": True}, ("pg1", "pg2")),
        (cluster(), {"rolling": True, "pending_only": True}, ()),
        (cluster("pg1"), {"name": ["pg3"], "pending_only": True}, ()),
        (cluster(), {"name": ["pg2"], "state": "reloaded"}, ("pg2",)),
        (cluster(), {"name": ["pg1"], "state": "reinitialized"}, ("pg1",)),
    ],
)
def test_whose_turn_it_is(
    seen: dict[str, Any], params: dict[str, Any], members: tuple[str, ...]
) -> None:
    assert plan(seen, {**PARAMS, **params}) == Turns(members)


@pytest.mark.parametrize(
    ("seen", "params", "reason"),
    [
        (cluster(), {}, "nobody is named"),
        (cluster(), {"name": ["pg1", "pg9"]}, "pg9 is no member of the cluster"),
        (cluster(), {"name": ["pg1"], "rolling": True}, "leave out name"),
        (cluster(), {"rolling": True, "state": "reloaded"}, "say restarted"),
        (cluster(), {"name": ["pg2"], "state": "reinitialized"}, "pg2 leads"),
        (cluster(leader=""), {"name": ["pg2"], "state": "reinitialized"}, "nobody leads"),
    ],
)
def test_what_is_refused(seen: dict[str, Any], params: dict[str, Any], reason: str) -> None:
    refused = plan(seen, {**PARAMS, **params})
    assert refused.members == ()
    assert reason in refused.refusal


@pytest.mark.parametrize(
    ("params", "body"),
    [
        ({}, {}),
        ({"pending_only": True}, {"restart_pending": True}),
        ({"state": "reloaded", "pending_only": True}, {}),
        ({"state": "reinitialized", "from_leader": True}, {"from_leader": True}),
        ({"state": "reinitialized"}, {"from_leader": False}),
    ],
)
def test_what_is_sent(params: dict[str, Any], body: dict[str, Any]) -> None:
    assert body_of({**PARAMS, **params}) == body


@pytest.mark.parametrize(
    ("operation", "order"),
    [
        ({"details": {"plan": ["pg2", "pg1"]}}, ["pg2", "pg1"]),
        # The standbys before and after the leader.
        ({"details": {"plan": ["pg1", "pg3", "pg2", "pg1", "pg3"]}}, ["pg1", "pg3", "pg2"]),
        ({"details": {"plan": []}}, ["pg1", "pg2"]),
        ({}, ["pg1", "pg2"]),
    ],
)
def test_the_order_is_the_agents(operation: dict[str, Any], order: list[str]) -> None:
    assert order_of(operation, Turns(("pg1", "pg2"))) == order
