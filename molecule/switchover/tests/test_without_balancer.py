# SPDX-License-Identifier: GPL-3.0-or-later
"""`cluster_balancer: none`: the address leads straight to a PgBouncer, and holds as well.

The last of the scenario by its name: it takes the balancers out, and puts them back at its end.
"""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from lab import losses
from lab.cluster import MEMBERS
from lab.entrance import POOLER_RW, RO, RW
from lab.pgbench import Load
from lab.planned import render, under_pgbench
from lab.playbook import deploy, run

if TYPE_CHECKING:
    from lab.losses import Loss
    from molecule.switchover.tests.conftest import Bench

pytestmark = [pytest.mark.timeout(900), pytest.mark.thorough]

STATISTICS: Final = 7000
SETTING: Final = {"cluster_balancer": "none"}
MOVES: Final = losses.of_the_address("pooler")


@pytest.fixture(scope="module")
def straight(bench: Bench) -> Bench:
    """Take the balancers out; the same as before, by the way that is left."""
    deploy(SETTING)
    return replace(bench, target=replace(bench.target, port=POOLER_RW))


def listens(address: str, port: int) -> bool:
    """Tell whether anybody takes connections there."""
    try:
        with socket.create_connection((address, port), timeout=10):
            return True
    except ConnectionRefusedError:
        return False


def entry(bench: Bench) -> list[str]:
    """Return where writers are told to come in."""
    found = json.loads(bench.cluster.rest(MEMBERS[0], "/cluster")[1])
    addresses: list[str] = found["pgherd"]["endpoints"]["rw"]
    return addresses


def test_no_haproxy_is_left(straight: Bench) -> None:
    show = ["systemctl", "show", "--value", "-p", "ActiveState", "-p", "UnitFileState", "haproxy"]
    for host in MEMBERS:
        assert sorted(straight.lab.exec(host, show)[1].split()) == ["disabled", "inactive"]
    addresses = [*map(straight.lab.settings.address, MEMBERS), straight.target.host]
    doors = [(address, port) for address in addresses for port in (RW, RO, STATISTICS)]
    assert [door for door in doors if listens(*door)] == []
    assert entry(straight) == [f"{straight.target.host}:{POOLER_RW}"]


def test_a_second_run_changes_nothing_and_costs_clients_nothing(straight: Bench) -> None:
    with straight.patient() as crowd:
        outcome = run(variables=SETTING)
    assert outcome.code == 0, outcome.output[-3000:]
    assert set(outcome.changed.values()) == {0}, outcome.output[-3000:]
    assert (crowd.letdowns, crowd.broken, crowd.lost) == ([], 0, 0)


def test_a_planned_switchover_fails_no_transaction(straight: Bench) -> None:
    host = straight.entrance.vip_host()
    # From the host of the address, and to it, when all is done.
    straight.lead(host)
    with straight.patient() as crowd:
        load = Load(8, "simple")
        costs, report = under_pgbench(straight.entrance, straight.target, crowd, load, len(MEMBERS))
    straight.say(
        f"{len(costs)} switchovers through the VIP, straight onto PgBouncer\n{render(costs)}\n"
        f"{report.processed} transactions of pgbench, {report.failed} failed; "
        f"{crowd.acknowledged} rows of 3 clients acknowledged, {crowd.lost} lost"
    )
    assert report.processed > 0
    assert (report.failed, report.errors) == (0, ())
    assert (crowd.letdowns, crowd.broken, crowd.lost) == ([], 0, 0)
    assert straight.entrance.vip_host() == host, "the address moved, and nothing was lost"


def test_a_pgbouncer_that_is_killed_is_back_at_once(straight: Bench) -> None:
    host = straight.entrance.vip_host()
    killed = losses.killed("pooler")
    crowd = straight.survive("PgBouncer killed", lambda _: killed(straight.lab, host))
    assert crowd.broken > 0, "nobody was connected to it"


@pytest.mark.parametrize(("what", "lose"), MOVES.items(), ids=list(MOVES))
def test_the_address_moves_and_no_row_is_lost(straight: Bench, what: str, lose: Loss) -> None:
    host = straight.entrance.vip_host()
    leader = straight.lead_elsewhere(than=host)
    straight.survive(f"on the VIP's host: {what}", lambda _: lose(straight.lab, host))
    assert straight.entrance.vip_host() != host
    assert straight.entrance.await_whole() == leader


def test_balancers_come_back_and_the_poolers_leave_the_address(bench: Bench) -> None:
    deploy()
    with bench.patient() as crowd:
        assert entry(bench) == [f"{bench.target.host}:{RW}"]
        assert not listens(bench.target.host, POOLER_RW)
        crowd.await_rows(100)
    assert (crowd.letdowns, crowd.broken, crowd.lost) == ([], 0, 0)
