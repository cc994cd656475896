# SPDX-License-Identifier: GPL-3.0-or-later
"""Maintenance mode: PostgreSQL is left as it is, whatever becomes of the agents (R42)."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from lab.cluster import MEMBERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from molecule.operation.tests.conftest import Bench

pytestmark = pytest.mark.timeout(400)


def rule(bench: Bench, host: str) -> str:
    return str(bench.shown(host)["pgherd"]["rule"])


def set_pause(bench: Bench, value: Any) -> None:
    """Begin or end maintenance, and wait until every member knows."""
    status, text = bench.cluster.ask("pg1", "PATCH", "/config", {"pause": value})
    assert status == 200, text
    expected = True if value else None
    bench.until(lambda: all(bench.shown(host).get("pause") is expected for host in MEMBERS))


@pytest.fixture
def leader(bench: Bench) -> Iterator[str]:
    """Begin maintenance; return who leads. Maintenance ends with the test."""
    name = bench.leader
    set_pause(bench, True)
    try:
        yield name
    finally:
        for host in MEMBERS:
            bench.shell(host, "systemctl start pgherd")
        set_pause(bench, None)
        bench.cluster.await_healthy(120)


def key_holder(bench: Bench, ask: str) -> str | None:
    rows = json.loads(bench.cluster.rest(ask, "/cluster")[1])["members"]
    return next((row["name"] for row in rows if row["role"] == "leader"), None)


def streaming_from(bench: Bench, leader: str) -> set[str]:
    """Return who streams from *leader*, as it sees them."""
    rows = bench.shown(leader).get("replication", [])
    return {row["application_name"] for row in rows if row["state"] == "streaming"}


def test_members_and_the_cluster_say_so(bench: Bench, leader: str) -> None:
    assert json.loads(bench.cluster.rest(leader, "/cluster")[1])["pause"] is True


def test_a_primary_that_dies_is_neither_started_nor_succeeded(bench: Bench, leader: str) -> None:
    standbys = [host for host in MEMBERS if host != leader]
    timeline = bench.shown(leader)["timeline"]
    data = bench.data_directory(leader)
    version = bench.cluster.query(leader, "SHOW server_version_num")[0][0][:2]
    bench.shell(leader, f"kill -KILL $(head -n 1 {data}/postmaster.pid)")
    bench.until(lambda: bench.shown(leader)["state"] == "crashed")
    bench.until(lambda: key_holder(bench, leader) is None)
    bench.until(lambda: {rule(bench, host) for host in MEMBERS} == {"paused"})
    assert all(bench.shown(host)["role"] == "replica" for host in standbys)
    command = f"/usr/lib/postgresql/{version}/bin/pg_ctl start -s -D {data} -l /dev/null"
    bench.shell(leader, f"runuser -u postgres -- {command}")
    bench.until(lambda: key_holder(bench, leader) == leader)
    assert bench.shown(leader)["timeline"] == timeline


def test_postgres_outlives_an_agent_that_is_stopped(bench: Bench, leader: str) -> None:
    other = next(host for host in MEMBERS if host != leader)
    started = bench.started_at(leader)
    with bench.writing_to(leader, "the agent of a paused primary stopped") as written:
        bench.shell(leader, "systemctl stop pgherd")
        # The lease runs out, and nobody takes its place.
        bench.until(lambda: key_holder(bench, other) is None)
        bench.until(lambda: rule(bench, other) == "paused")
        bench.shell(leader, "systemctl start pgherd")
        bench.until(lambda: key_holder(bench, other) == leader)
    assert bench.started_at(leader) == started
    assert written.lost == 0


def test_a_restart_and_a_switchover_to_somebody_are_made_all_the_same(
    bench: Bench, leader: str
) -> None:
    started = bench.started_at(leader)
    answer = bench.cluster.ask(leader, "POST", "/restart", {})
    assert answer == (200, "restarted successfully")
    assert bench.has_restarted(leader, started)
    heir = next(host for host in MEMBERS if host != leader)
    # The heir's own word for it may be from before the restart.
    bench.until(lambda: heir in streaming_from(bench, leader))
    body = {"leader": leader, "candidate": heir}
    status, text = bench.cluster.ask(leader, "POST", "/switchover", body)
    assert (status, text) == (200, f'Successfully switched over to "{heir}"')
    bench.cluster.await_healthy(120)


def test_after_it_a_lost_primary_is_succeeded(bench: Bench) -> None:
    leader = bench.leader
    set_pause(bench, True)
    bench.shell(leader, f"kill -KILL $(head -n 1 {bench.data_directory(leader)}/postmaster.pid)")
    bench.until(lambda: rule(bench, leader) == "paused")
    with contextlib.suppress(OSError):
        set_pause(bench, None)
    assert bench.leader in MEMBERS
