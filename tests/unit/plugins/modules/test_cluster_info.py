# SPDX-License-Identifier: GPL-3.0-or-later
"""For whom commits wait, and what is told when nobody answers."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.pgherd.cluster.plugins.module_utils._agents import Agents
from ansible_collections.pgherd.cluster.plugins.modules.cluster_info import more, sync_of

STANDBYS = [
    {"name": "pg3", "role": "quorum_standby"},
    {"name": "pg2", "role": "sync_standby"},
    {"name": "pg4", "role": "replica"},
    {"name": "pg1", "role": "leader"},
]
TOLD = {"synchronous_mode": "quorum", "strict": True, "acknowledgements": 1}


@pytest.mark.parametrize(
    ("cluster", "config", "expected"),
    [
        ({}, {}, ("off", False, [], 0)),
        ({"members": STANDBYS, "pgherd": TOLD}, {}, ("quorum", True, ["pg2", "pg3"], 1)),
        # Patroni tells it in its configuration alone.
        ({"members": STANDBYS}, {"synchronous_mode": True}, ("on", False, ["pg2", "pg3"], None)),
        ({}, {"synchronous_mode": "quorum", "synchronous_mode_strict": True},
         ("quorum", True, [], None)),
        ({}, {"synchronous_mode": False, "synchronous_mode_strict": True}, ("off", False, [], 0)),
        ({}, {"synchronous_mode": "on", "standby_cluster": {"host": "far"}}, ("off", False, [], 0)),
    ],
)  # fmt: skip
def test_for_whom_commits_wait(
    cluster: dict[str, Any], config: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    found = sync_of(cluster, config)
    assert tuple(found.values()) == expected
    assert list(found) == ["mode", "strict", "standbys", "acknowledgements"]


@pytest.mark.parametrize("cluster", [{}, {"members": STANDBYS}])
def test_what_no_agent_tells_is_empty(cluster: dict[str, Any]) -> None:
    found = more(Agents(("http://127.0.0.1:1",), timeout_seconds=1), cluster)
    assert (found["history"], found["config"]) == ([], {})
    assert found["sync"]["mode"] == "off"
