# SPDX-License-Identifier: GPL-3.0-or-later
"""Drivers of applications connect by the strings of docs/clients.md, and stay in a switchover.

libpq's are tried always, the others when PGHERD_DRIVERS names them (`make drivers`).
"""

from __future__ import annotations

import json
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest

from lab import Lab, Settings, processes
from lab.applications import DRIVERS, HOST, Applications
from lab.cluster import CLUSTER_NAME, MEMBERS, Cluster
from lab.documented import kind, strings
from lab.entrance import Entrance
from lab.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# Compilers for all drivers are many packages.
pytestmark = pytest.mark.timeout(900)

KINDS: Final = tuple(os.environ.get("PGHERD_DRIVERS", "libpq uri").split())
MOVING: Final = "An address that moves"
ROWS: Final = 250
# Enough that who begins at once still writes when the last one, a Java perhaps, has begun.
HELD_ROWS: Final = 500 if len(KINDS) == 2 else 1000
BEGUN: Final = 50
WITHIN: Final = 60.0


def shown(section: str) -> list[tuple[str, str, bool]]:
    """Return kind, string and whether it is for reading, of each that is to be tried."""
    count: dict[str, int] = {}
    found = []
    for string in strings(section):
        name = kind(string)
        # Of each kind the one for writing comes first.
        count[name] = count.get(name, 0) + 1
        if name in KINDS:
            found.append((name, string, count[name] == 2))
    return found


def await_rows(applications: Applications, runs: Iterable[str]) -> None:
    """Wait until each of *runs* has begun to write."""
    until(
        lambda: min(applications.written(run) for run in runs),
        WITHIN,
        "They all write",
        holds=lambda written: written >= BEGUN,
    )


def come_to(wanted: Any, ask: Callable[[], Any]) -> None:
    """Ask until the answer is *wanted*: balancers learn a moment later who leads no more."""
    until(ask, WITHIN, f"The answer is {wanted}", holds=lambda told: told == wanted)


@pytest.fixture(scope="session")
def entrance() -> Entrance:
    lab = Lab(Settings.from_environment())
    return Entrance(lab, Cluster(lab.settings))


@pytest.fixture(scope="session")
def applications(entrance: Entrance) -> Applications:
    found = Applications(entrance.lab, entrance.cluster)
    found.install([*KINDS, "retry"])
    found.prepare()
    return found


@pytest.mark.parametrize("name", sorted(set(DRIVERS) - {"retry"}))
def test_every_driver_has_its_strings(name: str) -> None:
    found = [string for string in strings(MOVING) if kind(string) == name]
    assert len(found) == 2


@pytest.mark.parametrize(
    "section", [MOVING, "Several hosts", "The servers themselves"], ids=["vip", "hosts", "servers"]
)
def test_they_reach_whom_they_want(
    applications: Applications, entrance: Entrance, section: str
) -> None:
    entrance.await_whole()
    for name, string, reads in shown(section):
        if reads:
            wanted = {"standby": True, "rows": 0, "errors": []}
            come_to(wanted, partial(applications.run, name, string, "nobody's"))
        else:
            told = applications.run(name, string, uuid.uuid4().hex, 2)
            assert told == {"standby": False, "rows": 2, "errors": []}, string


def test_a_held_connection_outlives_a_switchover(
    applications: Applications, entrance: Entrance
) -> None:
    """Those of all drivers at once, which prepare their statement before it and use it after."""
    leader = entrance.await_whole()
    writers = {
        uuid.uuid4().hex: (name, string) for name, string, reads in shown(MOVING) if not reads
    }
    with ThreadPoolExecutor(len(writers)) as pool:
        tasks = {
            run: pool.submit(applications.run, name, string, run, HELD_ROWS)
            for run, (name, string) in writers.items()
        }
        await_rows(applications, writers)
        assert not any(task.done() for task in tasks.values())
        status, text = entrance.cluster.ask(leader, "POST", "/switchover", {"leader": leader})
        assert status == 200, text
        told = {writers[run][0]: task.result() for run, task in tasks.items()}
    assert entrance.await_whole() != leader
    assert told == {
        name: {"standby": False, "rows": HELD_ROWS, "errors": []} for name, _ in writers.values()
    }


def test_who_tries_again_has_every_row_once(applications: Applications, entrance: Entrance) -> None:
    leader, run = entrance.await_whole(), uuid.uuid4().hex
    [string, _] = [each for each in strings(MOVING) if kind(each) == "libpq"]
    with ThreadPoolExecutor(1) as pool:
        task = pool.submit(applications.run, "retry", string, run, ROWS)
        await_rows(applications, [run])
        assert not task.done()
        processes.signal(entrance.lab, leader, processes.POSTMASTER, "KILL")
        assert task.result() == {"rows": ROWS}
    entrance.await_whole()
    assert applications.written(run) == ROWS


def test_psql_knows_the_services_on_a_data_node(
    applications: Applications, entrance: Entrance
) -> None:
    entrance.await_whole()
    ask = "SELECT pg_is_in_recovery()"
    for host in MEMBERS:
        for use, standby in (("rw", "f"), ("ro", "t")):
            where = f"service={CLUSTER_NAME}-{use} dbname=shop user=app"
            come_to(standby, partial(applications.psql, host, where, ask))


def test_what_the_command_prints_is_the_lab_s_entry(
    applications: Applications, entrance: Entrance
) -> None:
    lab = entrance.lab
    for host in MEMBERS:
        command = ["pgherd", "dsn", "--ro", "-d", "shop", "-U", "app"]
        printed = lab.exec(host, command)[1].strip()
        come_to("t", partial(applications.psql, HOST, printed, "SELECT pg_is_in_recovery()"))
        _, body = entrance.cluster.rest(host, "/cluster")
        endpoints = json.loads(body)["pgherd"]["endpoints"]
        vip = lab.settings.vip
        assert endpoints == {"rw": [f"{vip}:5000"], "ro": [f"{vip}:5001"], "direct": False}
