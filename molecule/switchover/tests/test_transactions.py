# SPDX-License-Identifier: GPL-3.0-or-later
"""A transaction is in the way of a switchover: it is waited for, ended, or it has its way."""

from __future__ import annotations

import contextlib
import json
import threading
from typing import TYPE_CHECKING, Any, Final

import pytest

from lab import processes
from lab.cluster import MEMBERS
from lab.entrance import PATIENT_SECONDS
from lab.wire import Wire, WireError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.entrance import Crowd
    from molecule.switchover.tests.conftest import Bench

pytestmark = pytest.mark.timeout(400)

TABLE: Final = "lab_transaction"
NOTE: Final = "/run/lab-watching"
# Kills the process in its first argument as soon as the agent says that its pooler is paused.
KILL_WHEN_PAUSED: Final = f"""
import json, os, pathlib, signal, sys, urllib.request
pid, url = int(sys.argv[1]), sys.argv[2]
pathlib.Path("{NOTE}").touch()
while True:
    with urllib.request.urlopen(url) as answer:
        if json.load(answer)["paused"]:
            break
os.kill(pid, signal.SIGKILL)
"""


@contextlib.contextmanager
def transaction(bench: Bench) -> Iterator[tuple[Wire, str]]:
    """Begin a transaction that has written; yields its connection and its process."""
    with Wire(bench.target, PATIENT_SECONDS) as wire:
        # A pooler may give one transaction the server process of another one before.
        wire.query(f"DROP TABLE IF EXISTS {TABLE}; CREATE TABLE {TABLE} (pid text)")
        wire.query("BEGIN")
        [(pid,)] = wire.query("SELECT pg_backend_pid()")
        wire.query(f"INSERT INTO {TABLE} VALUES ('{pid}')")
        yield wire, pid


def is_there(bench: Bench, pid: str) -> bool:
    with Wire(bench.target, PATIENT_SECONDS) as wire:
        return bool(wire.query(f"SELECT 1 FROM {TABLE} WHERE pid = '{pid}'"))


def switch(bench: Bench, **options: Any) -> tuple[str, str, int, str]:
    """Ask for a switchover; return who led and who was to, status and text of the answer."""
    leader = bench.entrance.await_whole()
    heir = bench.standbys(leader)[0]
    body = {"leader": leader, "candidate": heir, **options}
    return leader, heir, *bench.cluster.ask(leader, "POST", "/switchover", body)


def undisturbed(bench: Bench, crowd: Crowd, what: str) -> None:
    """Assert that the other clients did not notice more than a wait."""
    bench.say(
        f"{what}: {crowd.outage():.2f} s without a commit, {crowd.acknowledged} rows "
        f"acknowledged, {crowd.lost} lost, {len(crowd.letdowns)} errors"
    )
    for reason in crowd.letdowns[:5]:
        bench.say(reason)
    assert (crowd.letdowns, crowd.broken, crowd.lost) == ([], 0, 0)


def test_a_switchover_called_off_names_the_transaction_and_leaves_all_as_it_was(
    bench: Bench,
) -> None:
    with bench.patient() as crowd:
        with transaction(bench) as (wire, pid):
            leader, _, status, text = switch(bench, transactions="call-off", transaction_timeout=1)
            assert status not in (200, 202), text
            assert pid in text
            assert bench.target.user in text
            wire.query("COMMIT")
        assert bench.entrance.await_whole() == leader
    assert is_there(bench, pid)
    undisturbed(bench, crowd, "switchover called off for a transaction")


def test_a_transaction_that_is_cancelled_is_all_that_a_switchover_costs(bench: Bench) -> None:
    with bench.patient() as crowd:
        with transaction(bench) as (wire, pid):
            _, heir, status, text = switch(bench, transactions="cancel", transaction_timeout=1)
            assert status == 200, text
            with pytest.raises(WireError):
                wire.query("COMMIT")
        assert bench.entrance.await_whole() == heir
    assert not is_there(bench, pid)
    undisturbed(bench, crowd, "switchover with a transaction cancelled")


def test_a_transaction_that_is_waited_for_is_kept(bench: Bench) -> None:
    answers: list[tuple[str, str, int, str]] = []
    with bench.patient() as crowd:
        with transaction(bench) as (wire, pid):
            asking = threading.Thread(
                target=lambda: answers.append(switch(bench, transactions="wait"))
            )
            asking.start()
            bench.until(lambda: is_under_way(bench, MEMBERS[0]))
            rows = len(crowd.clients[0].commits)
            # Who is no part of that transaction goes on meanwhile.
            crowd.await_rows(100)
            wire.query("COMMIT")
        asking.join()
        [(_, heir, status, text)] = answers
        assert status == 200, text
        assert bench.entrance.await_whole() == heir
    assert len(crowd.clients[0].commits) > rows
    assert is_there(bench, pid)
    undisturbed(bench, crowd, "switchover that waited for a transaction")


def is_under_way(bench: Bench, host: str) -> bool:
    """Tell whether *host* knows of an operation that has not ended."""
    found = json.loads(bench.cluster.rest(host, "/operations")[1])
    return any(each["state"] == "running" for each in found)


def test_a_pause_ends_though_the_agent_that_made_it_is_killed(bench: Bench) -> None:
    with bench.patient() as crowd:
        host = bench.pooler_of(crowd.clients[0])
        agent = processes.pid(bench.lab, host, "agent")
        body = {"action": "pause", "operation": "lab", "within": 5}
        status, text = bench.cluster.ask(host, "POST", "/pooler", body)
        assert status == 200, text
        processes.signal(bench.lab, host, "agent", "KILL")
        processes.await_back(bench.lab, host, "agent", agent)
        crowd.await_rows(50)
    bench.say(
        f"agent killed while its pooler was paused: {crowd.outage():.2f} s without a commit, "
        f"{crowd.lost} rows lost, {len(crowd.letdowns)} errors"
    )
    # An agent that is late does not answer HAProxy, which then ends the sessions through its host.
    assert crowd.lost == 0


def test_a_leader_whose_agent_is_killed_in_a_switchover_keeps_nobody_waiting(
    bench: Bench,
) -> None:
    leader = bench.entrance.await_whole()
    pid = processes.pid(bench.lab, leader, "agent")
    url = f"http://{bench.lab.settings.address(leader)}:8008/pooler/rw"
    command = ["timeout", "60", "python3", "-c", KILL_WHEN_PAUSED, str(pid), url]
    bench.lab.exec(leader, ["rm", "-f", NOTE])
    with bench.patient() as crowd:
        watcher = threading.Thread(target=bench.lab.exec, args=(leader, command))
        watcher.start()
        bench.until(lambda: bench.lab.exec(leader, ["test", "-e", NOTE], check=False)[0] == 0)
        with contextlib.suppress(OSError):
            switch(bench)
        watcher.join()
        after = bench.entrance.await_whole()
        crowd.await_rows(50)
    bench.say(
        f"agent of the leader killed in a switchover from {leader}, {after} leads: "
        f"{crowd.outage():.2f} s without a commit, {crowd.lost} rows lost, "
        f"{len(crowd.letdowns)} errors"
    )
    assert crowd.lost == 0
