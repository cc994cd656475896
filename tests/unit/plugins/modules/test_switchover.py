# SPDX-License-Identifier: GPL-3.0-or-later
"""What a switchover asks for, and what it refuses before anything is changed."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible_collections.pgherd.cluster.plugins.module_utils._operation import Plan
from ansible_collections.pgherd.cluster.plugins.modules.switchover import plan

LATER = "2030-01-01T03:00:00+00:00"
PARAMS = {
    "candidate": "",
    "leader": "",
    "scheduled": "",
    "transactions": "cancel",
    "transaction_timeout_seconds": None,
}


def cluster(*, mode: str = "quorum", pg2: Any = None, **more: Any) -> dict[str, Any]:
    """Return a cluster led by pg1, with pg3 as a standby that does not acknowledge."""
    standby = {"name": "pg2", "role": "quorum_standby", "state": "streaming", "lag": 0}
    members = [
        {"name": "pg1", "role": "leader", "state": "running"},
        {**standby, **(pg2 or {})},
        {"name": "pg3", "role": "replica", "state": "streaming", "lag": 0},
    ]
    return {"members": members, "pgherd": {"synchronous_mode": mode}, **more}


def wanted(seen: dict[str, Any], config: dict[str, Any] | None = None, **params: Any) -> Plan:
    """Return the plan for *params*, the rest of them as by default."""
    return plan(seen, config or {}, {**PARAMS, **params})


def test_the_best_standby_is_asked_for_without_a_candidate() -> None:
    assert wanted(cluster()) == Plan(body={"leader": "pg1", "transactions": "cancel"})


def test_all_that_is_given_is_sent() -> None:
    asked = wanted(
        cluster(),
        candidate="pg2",
        leader="pg1",
        scheduled=LATER,
        transactions="wait",
        transaction_timeout_seconds=0.0,
    )
    assert asked.body == {
        "leader": "pg1",
        "candidate": "pg2",
        "scheduled_at": LATER,
        "transactions": "wait",
        "transaction_timeout": 0.0,
    }


def test_who_leads_already_is_left_alone() -> None:
    assert wanted(cluster(), candidate="pg1") == Plan()
    # Also when who led before is named, as a second run does.
    assert wanted(cluster(), candidate="pg1", leader="pg2") == Plan()


@pytest.mark.parametrize(
    ("planned", "is_there"),
    [
        ({"at": "2030-01-01T04:00:00+01:00", "from": "pg1", "to": "pg2"}, True),
        ({"at": LATER, "from": "pg1", "to": "pg3"}, False),
        ({"at": LATER, "from": "pg1"}, False),
        ({"at": "2030-01-01T05:00:00+00:00", "from": "pg1", "to": "pg2"}, False),
        ({"at": "soon", "from": "pg1", "to": "pg2"}, False),
        ({}, False),
    ],
)
def test_what_is_planned_is_not_planned_again(planned: dict[str, str], is_there: bool) -> None:
    asked = wanted(cluster(scheduled_switchover=planned), candidate="pg2", scheduled=LATER)
    assert (asked == Plan()) is is_there


def test_a_standby_leader_hands_over_too() -> None:
    seen = cluster(mode="off")
    seen["members"][0]["role"] = "standby_leader"
    seen["members"][1] |= {"role": "replica", "state": "in archive recovery"}
    assert wanted(seen, candidate="pg2").body is not None


@pytest.mark.parametrize(
    ("seen", "params", "reason"),
    [
        ({"members": []}, {}, "nobody leads"),
        (cluster(), {"candidate": "pg9"}, "candidate: pg9 is no member .* pg1, pg2, pg3"),
        (cluster(), {"leader": "pg2"}, "leader: pg2 does not lead, pg1 does"),
        (cluster(), {"scheduled": "tonight"}, "scheduled: tonight is no time"),
        (cluster(), {"scheduled": "2030-01-01T03:00:00"}, "with a time zone"),
        (cluster(pause=True), {}, "paused: name a candidate"),
        (cluster(pause=True), {"candidate": "pg2", "scheduled": LATER}, "paused, and nothing"),
        (cluster(pg2={"tags": {"nofailover": True}}), {"candidate": "pg2"}, "nofailover"),
        (cluster(pg2={"state": "starting"}), {"candidate": "pg2"}, "it is `starting`"),
        (cluster(pg2={"lag": "unknown"}), {"candidate": "pg2"}, "nobody knows how far pg2"),
        (cluster(pg2={"lag": 1048577}), {"candidate": "pg2"}, "1048577 bytes behind"),
        (cluster(), {"candidate": "pg3"}, "no commit waits for pg3.*name one of pg2"),
        (cluster(pg2={"role": "replica"}), {"candidate": "pg2"}, "once there are any"),
        ({"members": cluster()["members"][:1]}, {}, "pg1 is the only member"),
    ],
)
def test_what_cannot_be_is_refused(seen: Any, params: dict[str, Any], reason: str) -> None:
    refused = wanted(seen, **params)
    assert refused.body is None
    assert re.search(reason, refused.refusal), refused.refusal


def test_the_configuration_says_how_far_behind_a_candidate_may_be() -> None:
    seen = cluster(pg2={"lag": 2000})
    assert wanted(seen, {"maximum_lag_on_failover": 1000}, candidate="pg2").refusal
    assert not wanted(seen, {"maximum_lag_on_failover": 2000}, candidate="pg2").refusal


def test_without_synchronous_commits_any_standby_may_lead() -> None:
    assert wanted(cluster(mode="off"), candidate="pg3").body is not None
    assert wanted(cluster(pause=True), candidate="pg2").body is not None
