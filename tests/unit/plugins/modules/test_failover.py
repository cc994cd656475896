# SPDX-License-Identifier: GPL-3.0-or-later
"""When a failover is asked for, and when a switchover is what the user wants."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.pgherd.cluster.plugins.module_utils._operation import Plan
from ansible_collections.pgherd.cluster.plugins.modules.failover import plan


def cluster(state: str = "running", role: str = "leader", **tags: bool) -> dict[str, Any]:
    """Return a cluster of pg1, in that state and role, and pg2 with *tags*."""
    members = [
        {"name": "pg1", "role": role, "state": state},
        {"name": "pg2", "role": "replica", "state": "streaming", "tags": tags},
    ]
    return {"members": members}


@pytest.mark.parametrize(
    ("seen", "candidate", "force", "wanted"),
    [
        (cluster(role="replica"), "pg2", False, Plan(body={"candidate": "pg2"})),
        (cluster(state="stopped"), "pg2", False, Plan(body={"candidate": "pg2"})),
        (cluster(), "pg2", True, Plan(body={"candidate": "pg2"})),
        (cluster(), "pg1", False, Plan()),
    ],
)
def test_what_is_asked_for(seen: dict[str, Any], candidate: str, force: bool, wanted: Plan) -> None:
    assert plan(seen, candidate, force) == wanted


@pytest.mark.parametrize(
    ("seen", "candidate", "reason"),
    [
        (cluster(), "pg9", "pg9 is no member of the cluster: its members are pg1, pg2"),
        (cluster(), "pg2", "pg1 leads and runs: a switchover loses nothing"),
        (cluster(role="replica", nofailover=True), "pg2", "tagged nofailover"),
    ],
)
def test_what_is_refused(seen: dict[str, Any], candidate: str, reason: str) -> None:
    refused = plan(seen, candidate, force=False)
    assert refused.body is None
    assert reason in refused.refusal
