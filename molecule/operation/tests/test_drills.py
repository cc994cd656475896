# SPDX-License-Identifier: GPL-3.0-or-later
"""Drills break a real cluster, mend it, and say what it cost."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from lab.cluster import REPOSITORY
from lab.playbook import command, environment, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.playbook import Outcome
    from molecule.operation.tests.conftest import Bench

pytestmark = pytest.mark.timeout(400)

MEANT = {"drill_confirm": "demo", "drill_without_backup": True}


def drill(name: str, directory: Path, **variables: object) -> Outcome:
    """Run the drill *name*, with reports in *directory*."""
    given = {**MEANT, "drill_directory": str(directory), "drill": name, **variables}
    return run("pgherd.cluster.failover_drill", given, (), timeout_seconds=350)


def results(directory: Path) -> list[dict[str, Any]]:
    """Return the results in *directory*, the oldest first."""
    return [json.loads(path.read_text()) for path in sorted(directory.glob("*/result.json"))]


@pytest.fixture
def reports(tmp_path: Path) -> Iterator[Path]:
    """A directory for reports."""
    yield tmp_path / "drills"
    shutil.rmtree(tmp_path)


def test_nothing_is_broken_unless_it_is_meant(bench: Bench, reports: Path) -> None:
    leader = bench.leader
    for name, variables, says in (
        ("switchover", {"drill_confirm": "other"}, "drill_confirm is `other`"),
        ("switchover", {"drill_without_backup": False}, "no backup of demo"),
        ("swichover", {}, "did you mean switchover?"),
        ("switchover", {"drill_probe_host": "pg1"}, "no drill breaks"),
        ("switchover", {"drill_target": "ops1"}, "choose of pg1, pg2, pg3"),
    ):
        outcome = drill(name, reports, **variables)
        assert outcome.code != 0
        assert says in " ".join(outcome.output.split()), outcome.output
    assert bench.leader == leader
    assert not reports.exists()


@contextlib.contextmanager
def firmware(bench: Bench, host: str) -> Iterator[None]:
    """Have *host* start again when it reboots, as firmware does; it must have when that is over."""
    container = bench.lab.container(host)
    booted = bench.shell(host, "stat -c %Y /proc/1")
    container.update(restart_policy={"Name": "always"})
    try:
        yield
        assert bench.shell(host, "stat -c %Y /proc/1") != booted
    finally:
        container.update(restart_policy={"Name": "no"})


def lose_the_leader(bench: Bench, reports: Path, **variables: object) -> dict[str, Any]:
    """Drill the loss of the leader's host, and return what its report says it cost."""
    leader = bench.leader
    outcome = drill("host_stop", reports, **variables)
    assert outcome.code == 0, outcome.output
    assert "Acknowledged rows lost" in outcome.output
    figures = results(reports)[-1]["figures"]
    assert figures["leader_before"] == leader
    assert figures["leader_after"] is not None
    assert figures["rows_lost"] == 0
    assert figures["overlap_seconds"] == 0
    assert figures["rows_acknowledged"] > 200
    assert 0 < figures["rto_seconds"] <= figures["redundancy_seconds"]
    return dict(figures)


def test_a_lost_host_costs_seconds_and_no_row(bench: Bench, reports: Path) -> None:
    figures = lose_the_leader(bench, reports)
    assert figures["leader_after"] != figures["leader_before"]
    page = sorted(reports.glob("*/report.html"))[-1].read_text()
    assert "<svg" in page
    assert "http" not in page.replace("http://www.w3.org/", "")
    logins = bench.cluster.query(bench.leader, "SELECT rolname FROM pg_roles")
    assert not any(row[0].startswith("pgherd_drill") for row in logins)


@pytest.mark.thorough
def test_a_host_without_a_switch_is_rebooted(bench: Bench, reports: Path) -> None:
    """And the second drill is compared with the first."""
    # A container may be back before its lease has run out, and goes on leading then.
    for _ in range(2):
        with firmware(bench, bench.leader):
            lose_the_leader(bench, reports, drill_power_off_command="")
    assert len(json.loads((reports / "history.json").read_text())) == 2


def test_a_fault_that_nobody_undoes_ends_by_itself(bench: Bench, reports: Path) -> None:
    """The controller is gone after the fault: the host mends itself."""
    leader = bench.leader
    outcome = drill(
        "network_partition", reports, drill_recovery_seconds=1, drill_undo_seconds=20,
        drill_hold_seconds=60,
    )  # fmt: skip
    assert outcome.code != 0
    assert "there are not 50 rows" in outcome.output
    bench.await_whole()
    _, text = bench.lab.exec(leader, ["iptables", "-w", "-S"])
    assert "PGHERD_DRILL" not in text


@pytest.mark.thorough
def test_an_interrupted_drill_ends_by_itself(bench: Bench, reports: Path) -> None:
    """Control-C on the controller: the host mends itself, and the next drill cleans up."""
    target = bench.leader
    given = {**MEANT, "drill_directory": str(reports), "drill": "pooler_loss"}
    line = command("pgherd.cluster.failover_drill", {**given, "drill_undo_seconds": 15})

    def pooler() -> str:
        words = ["systemctl", "is-active", "pgbouncer-rw"]
        return bench.lab.exec(target, words, check=False)[1].strip()

    with subprocess.Popen(
        line, cwd=REPOSITORY, env=environment(), stdout=subprocess.DEVNULL, start_new_session=True
    ) as run_of_it:
        bench.until(lambda: pooler() != "active")
        os.killpg(run_of_it.pid, signal.SIGINT)
    assert run_of_it.returncode != 0
    bench.until(lambda: pooler() == "active")
    bench.await_whole()
    outcome = drill("agent_crash", reports)
    assert outcome.code == 0, outcome.output
    logins = bench.cluster.query(bench.leader, "SELECT rolname FROM pg_roles")
    assert not any(row[0].startswith("pgherd_drill") for row in logins)


def test_a_drill_that_costs_too_much_fails_after_its_report(bench: Bench, reports: Path) -> None:
    outcome = drill("postgres_crash", reports, drill_thresholds={"rto_seconds_max": 0.001})
    assert outcome.code != 0
    assert "postgres_crash: " in outcome.output
    (result,) = results(reports)
    assert result["passed"] is False
    assert result["figures"]["rows_lost"] == 0
