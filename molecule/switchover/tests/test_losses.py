# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands between clients and their database breaks, part by part: no row is lost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from lab import processes

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.entrance import Crowd
    from molecule.switchover.tests.conftest import Bench

pytestmark = pytest.mark.timeout(400)


def survive(bench: Bench, what: str, lose: Callable[[Crowd], Callable[[], object]]) -> Crowd:
    """Break what *lose* breaks under clients, mend it by what that returns, and account for all.

    Prints how long a client had to wait, for the loss and for the return.
    """
    with bench.impatient() as crowd:
        broken = time.monotonic()
        mend = lose(crowd)
        crowd.await_rows(100)
        mended = time.monotonic()
        loss = crowd.outage(broken, mended)
        mend()
        bench.entrance.await_whole()
        crowd.await_rows(50)
        back = crowd.outage(mended, time.monotonic())
    bench.say(
        f"{what}: {loss:.2f} s without a commit, {back:.2f} s when it came back, "
        f"{crowd.acknowledged} rows acknowledged, {crowd.lost} lost; {len(crowd.clients)} clients "
        f"gave up {crowd.broken} connections"
    )
    assert crowd.lost == 0
    return crowd


def lose_host(bench: Bench, host: str) -> Callable[[Crowd], Callable[[], object]]:
    """Return what takes *host* away, as a power cut does."""

    def lose(_: Crowd) -> Callable[[], object]:
        bench.lab.kill(host)
        return lambda: bench.lab.start(host)

    return lose


def lead_elsewhere(bench: Bench, *, than: str) -> str:
    """Have another host lead than one; return who does."""
    leader = bench.entrance.await_whole()
    return leader if leader != than else lead(bench, bench.standbys(leader)[0])


def lead(bench: Bench, heir: str) -> str:
    """Have *heir* lead, and return it."""
    leader = bench.entrance.await_whole()
    if leader != heir:
        body = {"leader": leader, "candidate": heir}
        status, text = bench.cluster.ask(leader, "POST", "/switchover", body)
        assert status == 200, text
        assert bench.entrance.await_whole() == heir
    return heir


def test_the_host_of_the_vip_is_lost(bench: Bench) -> None:
    host = bench.entrance.vip_host()
    leader = lead_elsewhere(bench, than=host)
    survive(bench, "host of the VIP lost", lose_host(bench, host))
    assert bench.entrance.await_whole() == leader


def test_an_haproxy_is_killed_for_good(bench: Bench) -> None:
    host = bench.entrance.vip_host()
    leader = bench.entrance.await_whole()

    def lose(_: Crowd) -> Callable[[], object]:
        processes.keep_down(bench.lab, host, ["haproxy"])
        return bring_back

    def bring_back() -> None:
        found.append(bench.entrance.vip_host())
        processes.bring_back(bench.lab, host, ["haproxy"])

    found: list[str] = []
    survive(bench, "HAProxy killed for good on the VIP's host", lose)
    assert found != [host], "the VIP stays where no HAProxy is"
    assert bench.entrance.await_whole() == leader


def test_an_haproxy_that_is_killed_is_back_at_once(bench: Bench) -> None:
    host = bench.entrance.vip_host()
    before = processes.pid(bench.lab, host, "haproxy")

    def lose(_: Crowd) -> Callable[[], object]:
        processes.signal(bench.lab, host, "haproxy", "KILL")
        return lambda: processes.await_back(bench.lab, host, "haproxy", before)

    survive(bench, "HAProxy killed", lose)


@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
def test_a_pgbouncer_is_killed(bench: Bench, for_good: bool) -> None:
    def lose(crowd: Crowd) -> Callable[[], object]:
        host = bench.host_at(crowd.clients[0].commits[-1].through)
        before = processes.pid(bench.lab, host, "pooler")
        if for_good:
            processes.keep_down(bench.lab, host, ["pooler"])
            return lambda: processes.bring_back(bench.lab, host, ["pooler"])
        processes.signal(bench.lab, host, "pooler", "KILL")
        return lambda: processes.await_back(bench.lab, host, "pooler", before)

    leader = bench.entrance.await_whole()
    crowd = survive(bench, f"PgBouncer killed {'for good' if for_good else 'once'}", lose)
    assert crowd.broken > 0, "nobody was connected to it"
    assert bench.entrance.await_whole() == leader


def test_the_primary_s_host_is_lost(bench: Bench) -> None:
    host = lead_elsewhere(bench, than=bench.entrance.vip_host())
    survive(bench, "host of the primary lost", lose_host(bench, host))


def test_the_host_of_both_the_primary_and_the_vip_is_lost(bench: Bench) -> None:
    host = lead(bench, bench.entrance.vip_host())
    survive(bench, "host of the primary and the VIP lost", lose_host(bench, host))
