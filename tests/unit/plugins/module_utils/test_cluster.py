# SPDX-License-Identifier: GPL-3.0-or-later
"""When a cluster is healthy."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.pgherd.cluster.plugins.module_utils._cluster import (
    assess,
    describe,
    is_well,
)

LEADER = {"name": "pg1", "role": "leader", "state": "running"}
STANDBY = {"name": "pg2", "role": "replica", "state": "streaming"}
# The leader of a standby cluster is a standby itself; an archive may be all it has.
FIRST_STANDBY = {"name": "pg1", "role": "standby_leader", "state": "streaming"}
ARCHIVE = {"state": "in archive recovery"}


@pytest.mark.parametrize(
    ("members", "problems"),
    [
        ([LEADER, STANDBY], []),
        ([], ["there is no leader", "pg1 has not shown up in the cluster",
              "pg2 has not shown up in the cluster"]),
        ([LEADER], ["pg2 has not shown up in the cluster"]),
        ([LEADER, STANDBY | {"state": "starting"}], ["pg2 is `starting`"]),
        ([LEADER, STANDBY | {"state": "running"}], ["pg2 is `running`"]),
        ([LEADER | {"state": "starting"}, STANDBY], ["pg1 is `starting`"]),
        ([LEADER, STANDBY | {"role": "leader", "state": "running"}], ["there are 2 leaders"]),
        ([FIRST_STANDBY, STANDBY], []),
        ([FIRST_STANDBY | ARCHIVE, STANDBY], []),
        ([FIRST_STANDBY | {"state": "running"}, STANDBY], ["pg1 is `running`"]),
        ([LEADER, STANDBY | ARCHIVE], ["pg2 is `in archive recovery`"]),
        ([LEADER, STANDBY | ARCHIVE | {"tags": {"nostream": True}}], []),
        ([LEADER | {"role": "replica"}, STANDBY], ["there is no leader", "pg1 is `running`"]),
    ],
)  # fmt: skip
def test_assess(members: list[dict[str, Any]], problems: list[str]) -> None:
    assert assess(members, ["pg1", "pg2"]) == problems


def test_members_that_lead_or_stream_are_well() -> None:
    starting = STANDBY | {"name": "pg3", "state": "starting"}
    assert [is_well(member) for member in (LEADER, STANDBY, starting)] == [True, True, False]


def test_what_a_cluster_is_in_a_modules_words() -> None:
    members = [
        LEADER | {"timeline": 3},
        STANDBY | {"lag": 12},
        STANDBY | {"name": "pg3", "lag": "unknown", "state": "starting"},
    ]
    assert describe({"members": members, "pause": True}) == {
        "leader": "pg1",
        "timeline": 3,
        "paused": True,
        "members": members,
        "well": ["pg1", "pg2"],
        "lag_bytes": {"pg2": 12, "pg3": None},
    }


@pytest.mark.parametrize("members", [[], [STANDBY], [LEADER, FIRST_STANDBY]])
def test_without_one_leader_nobody_leads(members: list[dict[str, Any]]) -> None:
    found = describe({"members": members})
    assert (found["leader"], found["timeline"], found["paused"]) == ("", None, False)
