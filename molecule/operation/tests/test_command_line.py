# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `pgherd` on the hosts: looking, waiting, handing over, changing, examining."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from molecule.operation.tests.conftest import Bench

pytestmark = pytest.mark.timeout(300)

# What `pgherd list` may cost, seconds of processor time: a busy machine's clock says less.
LIST_SECONDS = 0.3
TIMED = """
import resource, subprocess
subprocess.run(["pgherd", "list"], check=True, stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime)
"""


def run(bench: Bench, host: str, *words: str) -> tuple[int, str]:
    """Return exit code and output of a command on *host*."""
    code, output = bench.lab.exec(host, ["pgherd", *words], check=False)
    return code, output


def answer(bench: Bench, host: str, *words: str) -> Any:
    """Return what a command that goes well answers in JSON; what it tells people is left out."""
    quiet = ["sh", "-c", 'exec pgherd "$@" 2> /dev/null', "pgherd"]
    code, output = bench.lab.exec(host, [*quiet, *words, "--json"], check=False)
    assert code == 0, output
    return json.loads(output)


def test_the_list_is_quick(bench: Bench) -> None:
    code, output = bench.lab.exec(bench.standbys[0], ["python3", "-c", TIMED])
    assert code == 0, output
    assert float(output) <= LIST_SECONDS


def test_the_list_knows_lag_in_bytes_and_seconds(bench: Bench) -> None:
    leader = bench.leader
    told = answer(bench, bench.standbys[0], "list")
    rows = {row["name"]: row for row in told["members"]}
    assert rows[leader]["role"] == "leader"
    for name in bench.standbys:
        assert {"lag", "lag_seconds"} <= set(rows[name]["pgherd"])
        assert rows[name]["pgherd"]["upstream"] == leader


def test_a_standby_whose_replay_stands_still_falls_behind(bench: Bench) -> None:
    """PostgreSQL's own measure of time stands still with it."""
    leader, standby = bench.leader, bench.standbys[0]
    bench.cluster.query(standby, "SELECT pg_wal_replay_pause()")
    try:
        bench.cluster.query(leader, "SELECT pg_logical_emit_message(true, 'pgherd', 'x')")

        def is_behind() -> bool:
            rows = answer(bench, leader, "list")["members"]
            [row] = [row for row in rows if row["name"] == standby]
            return bool(row["pgherd"]["lag"] > 0 and row["pgherd"]["lag_seconds"] > 2)

        bench.until(is_behind)
    finally:
        bench.cluster.query(standby, "SELECT pg_wal_replay_resume()")


def test_a_switchover_by_command_loses_nothing(bench: Bench) -> None:
    old, candidate = bench.leader, bench.standbys[0]
    with bench.writing("switchover by command") as written:
        told = answer(bench, old, "switchover", "--candidate", candidate, "--force")
        assert told["message"] == f'Successfully switched over to "{candidate}"'
    assert answer(bench, old, "wait", "--leader", candidate, "--within", "30")
    entry = answer(bench, old, "wait", "--operation", told["operation"])
    assert (entry["state"], entry["candidate"]) == ("done", candidate)
    # Every agent reads of it in etcd, a moment after the new leader wrote it there.
    bench.until(lambda: answer(bench, old, "history")[-1][-1] == candidate)
    assert written.lost == 0


def test_a_state_that_does_not_come_is_4_and_a_refusal_1(bench: Bench) -> None:
    leader, standby = bench.leader, bench.standbys[0]
    assert run(bench, leader, "wait", "--leader", standby, "--within", "1")[0] == 4
    assert run(bench, leader, "switchover", "--candidate", leader, "--force")[0] == 1
    assert run(bench, leader, "switchover", "--candidate", standby)[0] == 2


def test_the_configuration_is_changed_and_nonsense_refused(bench: Bench) -> None:
    leader = bench.leader
    before = answer(bench, leader, "show-config")
    told = answer(bench, leader, "edit-config", "--set", "max_timelines_history=50", "--force")
    assert told["config"] == {**before, "max_timelines_history": 50}
    assert run(bench, leader, "edit-config", "--set", "max_timelines_histori=1", "--force")[0] == 1
    answer(bench, leader, "edit-config", "--set", "max_timelines_history=null", "--force")
    assert answer(bench, leader, "show-config") == before


def test_maintenance_begins_and_ends(bench: Bench) -> None:
    leader = bench.leader
    answer(bench, leader, "pause", "--wait")
    assert answer(bench, leader, "wait", "--paused", "--within", "5")["pause"] is True
    answer(bench, leader, "resume", "--wait")
    assert "pause" not in answer(bench, leader, "wait", "--not-paused", "--within", "5")


def test_a_standby_is_restarted_and_copied_anew(bench: Bench) -> None:
    leader, standby = bench.leader, bench.standbys[0]
    started = bench.started_at(standby)
    assert answer(bench, leader, "restart", standby, "--force")["ok"] is True
    assert bench.started_at(standby) != started
    told = answer(bench, leader, "reinit", standby, "--force", "--wait")
    assert told["results"] == [{"member": standby, "status": 200, "message": "streams again"}]
    assert run(bench, standby, "reinit", leader, "--force")[0] == 1


def test_sql_runs_where_it_is_meant_to(bench: Bench) -> None:
    standby = bench.standbys[0]
    sql = "SELECT pg_is_in_recovery() AS standby"
    assert answer(bench, standby, "query", "-c", sql) == [{"standby": False}]
    assert answer(bench, standby, "query", "-m", standby, "-c", sql) == [{"standby": True}]
    host = answer(bench, standby, "dsn", "--role", "leader")["host"]
    assert host == bench.lab.settings.address(bench.leader)


def test_a_healthy_host_is_found_healthy(bench: Bench) -> None:
    answer(bench, bench.leader, "wait", "--within", "60")
    found = answer(bench, bench.leader, "doctor")["findings"]
    areas = {each["area"] for each in found}
    assert {"agent", "guard", "cluster", "replication", "peers", "etcd", "disk"} <= areas


def test_a_host_without_its_guard_is_not(bench: Bench) -> None:
    standby = bench.standbys[0]
    bench.shell(standby, "systemctl stop pgherd-guard")
    try:
        code, output = run(bench, standby, "doctor", "--quiet")
        assert code == 1
        assert "pgherd-guard is inactive" in output
        assert "systemctl start pgherd-guard" in output
    finally:
        bench.shell(standby, "systemctl start pgherd-guard")


def test_the_man_page_and_the_completion_are_installed(bench: Bench) -> None:
    place = "/usr/local/share"
    page = bench.shell(bench.leader, f"cat {place}/man/man1/pgherd.1")
    assert page == bench.shell(bench.leader, "pgherd man")
    script = f"bash -c 'source {place}/bash-completion/completions/pgherd && complete -p pgherd'"
    assert "pgherd" in bench.shell(bench.leader, script)
