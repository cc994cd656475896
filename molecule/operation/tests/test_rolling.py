# SPDX-License-Identifier: GPL-3.0-or-later
"""All members restarted as one operation, while a client writes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from lab.cluster import MEMBERS

if TYPE_CHECKING:
    from molecule.operation.tests.conftest import Bench

pytestmark = pytest.mark.timeout(400)


def ended(bench: Bench, number: str) -> dict[str, Any]:
    """Wait until operation *number* has ended; return how."""
    found: dict[str, Any] = {}

    def is_over() -> bool:
        found.clear()
        found.update(json.loads(bench.cluster.rest("pg1", f"/operations/{number}")[1]))
        return found["state"] not in ("running", "scheduled")

    bench.until(is_over)
    return found


def roll(bench: Bench, **body: Any) -> dict[str, Any]:
    status, text = bench.cluster.ask(bench.leader, "POST", "/rolling_restart", body)
    assert status == 202
    return ended(bench, json.loads(text)["id"])


def configure(bench: Bench, connections: int) -> None:
    """Ask for another max_connections, and wait until all whom it concerns say that it waits."""
    parameters = {"parameters": {"max_connections": connections}}
    status, text = bench.cluster.ask(bench.leader, "PATCH", "/config", {"postgresql": parameters})
    assert status == 200, text
    leader, shown = (
        bench.leader,
        int(bench.cluster.query(bench.leader, "SHOW max_connections")[0][0]),
    )
    hosts = MEMBERS if connections > shown else (leader,)
    bench.until(lambda: set(hosts) <= waiting(bench))


def waiting(bench: Bench) -> set[str]:
    """Return who has published that settings wait for a restart: a plan is made of that."""
    members = json.loads(bench.cluster.rest("pg1", "/cluster")[1])["members"]
    return {member["name"] for member in members if member.get("pending_restart")}


def connections(bench: Bench) -> set[str]:
    return {bench.cluster.query(host, "SHOW max_connections")[0][0] for host in MEMBERS}


def test_everybody_is_restarted_and_one_switchover_is_all_that_clients_see(bench: Bench) -> None:
    leader = bench.leader
    before = {host: bench.started_at(host) for host in MEMBERS}
    with bench.writing("rolling restart of three members") as written:
        entry = roll(bench)
    assert (entry["state"], entry["kind"]) == ("done", "rolling_restart")
    assert entry["details"]["plan"][-1] == leader
    assert bench.leader != leader
    assert all(bench.started_at(host) > before[host] for host in MEMBERS)
    assert written.lost == 0


def test_what_is_raised_is_raised_on_standbys_first(bench: Bench) -> None:
    leader = bench.leader
    configure(bench, 220)
    with bench.writing("rolling restart that raises max_connections") as written:
        entry = roll(bench, pending=True)
    assert entry["state"] == "done", entry
    assert entry["details"]["plan"][-1] == leader
    assert connections(bench) == {"220"}
    assert written.lost == 0


def test_what_is_lowered_is_lowered_on_the_primary_first(bench: Bench) -> None:
    leader = bench.leader
    configure(bench, 210)
    with bench.writing("rolling restart that lowers max_connections") as written:
        entry = roll(bench, pending=True)
    assert entry["state"] == "done", entry
    assert entry["details"]["plan"][0] == leader == bench.leader
    assert connections(bench) == {"210"}
    assert not any(bench.shown(host).get("pending_restart") for host in MEMBERS)
    assert written.lost == 0


def test_it_is_called_off(bench: Bench) -> None:
    body = {"scheduled_at": "2099-01-01T00:00:00+00:00"}
    status, text = bench.cluster.ask(bench.leader, "POST", "/rolling_restart", body)
    assert (status, json.loads(text)["state"]) == (202, "scheduled")
    answer = bench.cluster.ask(bench.leader, "DELETE", "/rolling_restart")
    assert answer == (200, "rolling restart cancelled")
    assert ended(bench, json.loads(text)["id"])["state"] == "cancelled"
