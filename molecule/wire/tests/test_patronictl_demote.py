# SPDX-License-Identifier: GPL-3.0-or-later
"""patronictl: the whole cluster becomes a standby of another one, and stands on its own again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from lab import LabError
from lab.cluster import CLUSTER_NAME, MEMBERS
from lab.wire import WireError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.cluster import Cluster
    from lab.patroni_tools import Tools

FORCE: Final = "--force"
HEALTHY_SECONDS_MAX: Final = 90
# The other cluster's archive; that it has nothing yet is no error.
NOTHING_YET: Final = "/bin/false"

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def standing_alone(tools: Tools, cluster: Cluster) -> Iterator[None]:
    """The cluster, which stands on its own again whatever became of the test."""
    yield
    tools.patronictl("edit-config", "--set", "standby_cluster=null", FORCE)
    cluster.await_healthy(HEALTHY_SECONDS_MAX)


@pytest.mark.usefixtures("standing_alone")
def test_demote_cluster_and_promote_cluster(tools: Tools, cluster: Cluster, leader: str) -> None:
    with pytest.raises(LabError, match="Cluster is already in the required state"):
        tools.patronictl("promote-cluster", CLUSTER_NAME, FORCE)
    cluster.query(leader, "CREATE TABLE IF NOT EXISTS demoted (n bigint)")
    words = ("--restore-command", NOTHING_YET, FORCE)
    said = tools.patronictl("demote-cluster", CLUSTER_NAME, *words)
    assert "cluster is successfully demoted" in said
    rows = tools.listed()
    assert [row["Role"] for row in rows.values()].count("Standby Leader") == 1
    found = tools.check("cluster_has_leader")
    assert found.figures["is_standby_leader"] == 1
    for name in MEMBERS:
        with pytest.raises(WireError, match="read-only transaction"):
            cluster.query(name, "INSERT INTO demoted VALUES (1)")
        assert tools.check("node_is_primary", ask=[name]).code == 2
    first = next(name for name, row in rows.items() if row["Role"] == "Standby Leader")
    assert tools.check("node_is_leader", "--is-standby-leader", ask=[first]).code == 0
    assert tools.patronictl("dsn", "--role", "standby-leader").startswith("host=")
    said = tools.patronictl("promote-cluster", CLUSTER_NAME, FORCE)
    assert "cluster is successfully promoted" in said
    now = cluster.await_healthy(HEALTHY_SECONDS_MAX)
    cluster.query(now, "INSERT INTO demoted VALUES (1)")
    assert tools.check("cluster_has_leader").figures["is_leader"] == 1
    cluster.query(now, "DROP TABLE demoted")
