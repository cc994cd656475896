# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands between clients and their database breaks, part by part: no row is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab import losses

if TYPE_CHECKING:
    from lab.losses import Loss
    from molecule.switchover.tests.conftest import Bench

pytestmark = pytest.mark.timeout(400)


def test_the_host_of_the_vip_is_lost(bench: Bench) -> None:
    host = bench.entrance.vip_host()
    leader = bench.lead_elsewhere(than=host)
    bench.survive("host of the VIP lost", lambda _: losses.host_lost(bench.lab, host))
    assert bench.entrance.await_whole() == leader


def test_an_haproxy_is_killed_for_good(bench: Bench) -> None:
    host = bench.entrance.vip_host()
    leader = bench.entrance.await_whole()
    dead = losses.dead("haproxy")
    bench.survive("HAProxy killed for good on the VIP's host", lambda _: dead(bench.lab, host))
    assert bench.entrance.vip_host() != host, "the VIP stays where no HAProxy is"
    assert bench.entrance.await_whole() == leader


def test_an_haproxy_that_is_killed_is_back_at_once(bench: Bench) -> None:
    host = bench.entrance.vip_host()
    killed = losses.killed("haproxy")
    bench.survive("HAProxy killed", lambda _: killed(bench.lab, host))


@pytest.mark.parametrize(
    ("how", "lose"),
    [("once", losses.killed("pooler")), ("for good", losses.dead("pooler"))],
    ids=["once", "for good"],
)
def test_a_pgbouncer_is_killed(bench: Bench, how: str, lose: Loss) -> None:
    leader = bench.entrance.await_whole()
    crowd = bench.survive(
        f"PgBouncer killed {how}",
        lambda crowd: lose(bench.lab, bench.pooler_of(crowd.clients[0])),
    )
    assert crowd.broken > 0, "nobody was connected to it"
    assert bench.entrance.await_whole() == leader


def test_the_primary_s_host_is_lost(bench: Bench) -> None:
    host = bench.lead_elsewhere(than=bench.entrance.vip_host())
    bench.survive("host of the primary lost", lambda _: losses.host_lost(bench.lab, host))


def test_the_host_of_both_the_primary_and_the_vip_is_lost(bench: Bench) -> None:
    host = bench.lead(bench.entrance.vip_host())
    lost = "host of the primary and the VIP lost"
    bench.survive(lost, lambda _: losses.host_lost(bench.lab, host))
