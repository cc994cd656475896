# SPDX-License-Identifier: GPL-3.0-or-later
"""Restarts on request, new copies and reloads of a cluster that is written to."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from molecule.operation.tests.conftest import Bench

pytestmark = pytest.mark.timeout(300)


def timeline(bench: Bench, host: str) -> int:
    return int(bench.cluster.query(host, "SELECT timeline_id FROM pg_control_checkpoint()")[0][0])


def test_a_primary_restarts_in_place_and_leads_on(bench: Bench) -> None:
    leader = bench.leader
    before, started = timeline(bench, leader), bench.started_at(leader)
    with bench.writing("restart of the primary") as written:
        status, text = bench.cluster.ask(leader, "POST", "/restart", {"role": "primary"})
        assert (status, text) == (200, "restarted successfully")
    assert bench.leader == leader
    assert timeline(bench, leader) == before
    assert bench.started_at(leader) > started
    assert written.lost == 0


def test_a_standby_restarts_and_no_commit_waits_for_it(bench: Bench) -> None:
    """R34."""
    standby = bench.standbys[0]
    started = bench.started_at(standby)
    with bench.writing("restart of a synchronous standby") as written:
        status, text = bench.cluster.ask(standby, "POST", "/restart", {})
        assert (status, text) == (200, "restarted successfully")
    assert bench.started_at(standby) > started
    assert written.lost == 0
    bench.until(lambda: standby in bench.acknowledging())


def test_a_standby_that_hangs_does_not_hold_up_the_restart_of_the_primary(bench: Bench) -> None:
    leader, standby = bench.leader, bench.standbys[0]
    receiver = bench.shell(standby, "pgrep -f '[w]alreceiver'").strip()
    bench.shell(standby, f"kill -STOP {receiver}")
    try:
        with bench.writing("restart of the primary beside a standby that hangs") as written:
            status, text = bench.cluster.ask(leader, "POST", "/restart", {})
            assert (status, text) == (200, "restarted successfully")
    finally:
        bench.shell(standby, f"kill -CONT {receiver}")
    assert bench.leader == leader
    assert written.lost == 0


def test_what_a_restart_is_not_for_is_left_running(bench: Bench) -> None:
    leader = bench.leader
    status, text = bench.cluster.ask(leader, "POST", "/restart", {"restart_pending": True})
    assert (status, text) == (503, "restart conditions are not satisfied")


def test_a_scheduled_restart_outlives_the_agent(bench: Bench) -> None:
    standby = bench.standbys[0]
    at = datetime.now(UTC) + timedelta(seconds=25)
    body = {"schedule": at.isoformat(), "role": "replica"}
    assert bench.cluster.ask(standby, "POST", "/restart", body) == (202, "Restart scheduled")
    status, text = bench.cluster.ask(standby, "POST", "/restart", body)
    assert (status, text) == (409, "Another restart is already scheduled")
    started = bench.started_at(standby)
    bench.shell(standby, "systemctl restart pgherd")
    bench.until(lambda: bench.shown(standby).get("scheduled_restart") is not None)
    assert bench.started_at(standby) == started
    bench.until(lambda: bench.has_restarted(standby, started))
    assert datetime.now(UTC) >= at
    bench.until(lambda: bench.shown(standby).get("scheduled_restart") is None)


def test_a_scheduled_restart_is_taken_back(bench: Bench) -> None:
    standby = bench.standbys[0]
    body = {"schedule": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}
    assert bench.cluster.ask(standby, "POST", "/restart", body)[0] == 202
    deleted = bench.cluster.ask(standby, "DELETE", "/restart", {})
    assert deleted == (200, "scheduled restart deleted")
    assert bench.cluster.ask(standby, "DELETE", "/restart", {})[0] == 404


def streams(bench: Bench, host: str) -> bool:
    """Tell whether *host* is at work again; while its copy is made the old one still streams."""
    shown = bench.shown(host)
    return (shown["state"], shown.get("replication_state")) == ("running", "streaming")


def test_a_standby_is_copied_anew(bench: Bench) -> None:
    leader, standby = bench.leader, bench.standbys[-1]
    assert bench.cluster.ask(leader, "POST", "/reinitialize", {}) == (
        503,
        "I am the leader, can not reinitialize",
    )
    data = bench.data_directory(standby)
    bench.shell(standby, f"touch {data}/a-file-of-the-old-data")
    with bench.writing("a standby copied anew") as written:
        answer = bench.cluster.ask(standby, "POST", "/reinitialize", {})
        assert answer == (200, "reinitialize started")
        assert bench.shown(standby)["state"] == "creating replica"
        bench.until(lambda: streams(bench, standby))
    assert written.lost == 0
    assert "a-file-of-the-old-data" not in bench.shell(standby, f"ls {data}")
    bench.until(lambda: "replaced" not in bench.shell(standby, f"ls {data}/.."))


def test_a_reload_reads_the_configuration_file(bench: Bench) -> None:
    standby = bench.standbys[0]
    fragment = "/etc/pgherd/conf.d/99-test.yml"
    content = json.dumps({"tags": {"colour": "blue"}})
    bench.shell(standby, f"echo '{content}' > {fragment}")
    try:
        assert bench.cluster.ask(standby, "POST", "/reload", {}) == (202, "reload scheduled")
        bench.until(lambda: bench.shown(standby).get("tags") == {"colour": "blue"})
        bench.shell(standby, f"echo 'colour: blue' > {fragment}")
        status, text = bench.cluster.ask(standby, "POST", "/reload", {})
        assert status == 500
        assert "colour" in text
    finally:
        bench.shell(standby, f"rm {fragment}")
        bench.cluster.ask(standby, "POST", "/reload", {})
