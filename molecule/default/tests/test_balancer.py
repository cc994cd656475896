# SPDX-License-Identifier: GPL-3.0-or-later
"""HAProxy of every host: where it leads, what it tells, and what a reload costs."""

from __future__ import annotations

from dataclasses import replace
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Final

import pytest

from lab import Lab, Settings
from lab.cluster import MEMBERS, Cluster
from lab.entrance import RO, RW, Entrance
from lab.progress import Progress
from lab.wait import until
from lab.wire import Wire

if TYPE_CHECKING:
    from lab.wire import Target

SETTINGS: Final = Settings.from_environment()
STATISTICS: Final = 7000
SECONDS_MAX: Final = 20.0
on_every_host = pytest.mark.parametrize("name", MEMBERS)


@pytest.fixture(scope="module")
def lab() -> Lab:
    """The hosts."""
    return Lab(SETTINGS, Progress(quiet=True))


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    """The cluster."""
    return Cluster(SETTINGS)


@pytest.fixture(scope="module")
def application(lab: Lab, cluster: Cluster) -> Target:
    """The way in for an application, through the address that moves."""
    return Entrance(lab, cluster).application()


def page(name: str, path: str) -> tuple[int, str]:
    """Return code and text of the statistics' listener of the host *name*."""
    connection = HTTPConnection(SETTINGS.address(name), STATISTICS, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def fit(name: str, backend: str) -> set[str]:
    """Return the servers of *backend* that the HAProxy of *name* sends clients to."""
    rows = [line.split(",") for line in page(name, "/;csv")[1].splitlines()]
    return {row[1] for row in rows if row[0] == backend and row[17].startswith("UP")} - {"BACKEND"}


@on_every_host
def test_writers_reach_the_primary_and_readers_a_standby(application: Target, name: str) -> None:
    through = replace(application, host=SETTINGS.address(name))
    for port, in_recovery in ((RW, "f"), (RO, "t")):
        for _ in MEMBERS:
            with Wire(replace(through, port=port), 10) as wire:
                assert wire.query("SELECT pg_is_in_recovery()") == [(in_recovery,)], port


@on_every_host
def test_balancers_agree_with_the_agents(cluster: Cluster, name: str) -> None:
    leader = cluster.await_healthy(60)
    expected = [set(MEMBERS), set(MEMBERS) - {leader}]
    until(
        lambda: [fit(name, "rw"), fit(name, "ro")],
        SECONDS_MAX,
        f"{name}'s balancer holds {expected} for fit",
        holds=lambda found: found == expected,
    )


@on_every_host
def test_statistics_metrics_and_health_are_served(name: str) -> None:
    for path, text in (
        ("/", "Statistics Report"),
        ("/metrics", 'haproxy_backend_active_servers{proxy="rw"} 3'),
        ("/health", "200 OK"),
        ("/ready", "ready"),
    ):
        code, body = page(name, path)
        assert code == 200, path
        assert text in body, path


@on_every_host
def test_half_of_the_cores_are_left_to_servers_and_poolers(lab: Lab, name: str) -> None:
    cores = int(lab.exec(name, ["nproc"])[1])
    assert f"haproxy_process_nbthread {max(1, cores // 2)}\n" in page(name, "/metrics")[1]


def test_a_reload_ends_no_connection(lab: Lab, application: Target) -> None:
    (name, *_) = MEMBERS
    running = ["sh", "-c", "pgrep --parent $(systemctl show --property=MainPID --value haproxy)"]
    before = lab.exec(name, running)[1].split()
    with Wire(replace(application, host=SETTINGS.address(name)), 10) as wire:
        wire.query("SELECT 1")
        lab.exec(name, ["systemctl", "reload", "haproxy"])
        until(
            lambda: set(lab.exec(name, running)[1].split()) - set(before),
            SECONDS_MAX,
            "The next process has taken over",
        )
        for _ in range(3):
            with Wire(replace(application, host=SETTINGS.address(name)), 10) as another:
                another.query("SELECT 1")
        wire.query("SELECT 1")
