# SPDX-License-Identifier: GPL-3.0-or-later
"""What cluster_info tells is what PostgreSQL and etcd say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible_collections.pgherd.cluster.plugins.module_utils._agents import Agents
from ansible_collections.pgherd.cluster.plugins.module_utils._cluster import wait
from ansible_collections.pgherd.cluster.plugins.modules.cluster_info import more

from lab.cluster import MEMBERS

if TYPE_CHECKING:
    from molecule.operation.tests.conftest import Bench


def test_it_tells_who_leads_for_whom_commits_wait_and_who_led(bench: Bench) -> None:
    nobody = "http://127.0.0.1:1"
    urls = [f"http://{bench.lab.settings.address(name)}:8008" for name in MEMBERS]
    agents = Agents((nobody, *urls))
    # An agent reads the history again when it sees it change.
    query = "SELECT timeline_id FROM pg_control_checkpoint()"
    timeline = int(bench.cluster.query(bench.leader, query)[0][0])
    bench.until(lambda: len(agents.history()) == timeline - 1)
    cluster, seen = wait(agents, list(MEMBERS), 30)
    told = {**seen, **more(agents, cluster)}
    assert (told["leader"], told["timeline"]) == (bench.leader, timeline)
    assert told["healthy"]
    assert not told["paused"]
    assert told["sync"] == {
        "mode": "quorum",
        "strict": False,
        "standbys": sorted(bench.standbys),
        "acknowledgements": 1,
    }
    assert sorted(told["lag_bytes"]) == sorted(bench.standbys)
    assert all(isinstance(lag, int) for lag in told["lag_bytes"].values())
    assert [row[0] for row in told["history"]] == list(range(1, timeline))
    assert told["config"] == bench.stored()
