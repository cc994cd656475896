# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole cluster is stopped, and started again."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from lab.cluster import CLUSTER_NAME, MEMBERS
from lab.playbook import changes, play

if TYPE_CHECKING:
    from molecule.operation.tests.conftest import Bench

pytestmark = pytest.mark.timeout(400)

UNITS = ("etcd", "pgherd-guard", "pgherd", "pgbouncer-rw", "pgbouncer-ro", "haproxy", "keepalived")


def states(bench: Bench) -> set[str]:
    """Return the states of all units of the cluster on all its hosts."""
    words = ["systemctl", "is-active", *UNITS]
    found = (bench.lab.exec(host, words, check=False)[1].split() for host in MEMBERS)
    return {state for states in found for state in states}


def servers(bench: Bench) -> list[str]:
    """Return the hosts on which a PostgreSQL runs."""
    words = ["pgrep", "-x", "postgres"]
    return [host for host in MEMBERS if bench.lab.exec(host, words, check=False)[0] == 0]


def test_a_cluster_is_stopped_when_that_is_meant_and_started_with_all_it_had(
    bench: Bench,
) -> None:
    leader, table = bench.leader, f"kept_{uuid.uuid4().hex}"
    unmeant = play("stop")
    assert unmeant.code != 0
    assert f"say -e stop_confirm={CLUSTER_NAME}" in " ".join(unmeant.output.split())
    limited = play("stop", "--limit", f"{leader}", stop_confirm=CLUSTER_NAME)
    assert limited.code != 0
    assert "would take the lead" in " ".join(limited.output.split())
    assert changes(play("start")) == 0
    assert states(bench) == {"active"}
    bench.cluster.query(leader, f"CREATE TABLE {table} AS SELECT 1 AS one")
    meant = {"stop_confirm": CLUSTER_NAME, "stop_etcd": True}
    try:
        assert changes(play("stop", **meant)) > 0
        assert states(bench) == {"inactive"}
        assert servers(bench) == []
        assert changes(play("stop", **meant)) == 0
        assert "Not well:" in play("status").output
    finally:
        started = play("start")
    assert changes(started) > 0
    assert states(bench) == {"active"}
    assert f"{CLUSTER_NAME} runs: {bench.leader} leads." in started.output
    assert len(bench.cluster.query(bench.leader, f"SELECT one FROM {table}")) == 1
    bench.cluster.query(bench.leader, f"DROP TABLE {table}")
    assert changes(play("start")) == 0


def test_a_paused_cluster_is_not_stopped_halfway(bench: Bench) -> None:
    assert bench.leader
    try:
        assert changes(play("pause")) == 1
        refused = play("stop", stop_confirm=CLUSTER_NAME)
        assert refused.code != 0
        assert "run pgherd.cluster.resume first" in " ".join(refused.output.split())
    finally:
        play("resume")
    assert len(servers(bench)) == len(MEMBERS)
