# SPDX-License-Identifier: GPL-3.0-or-later
"""HAProxy with the configuration that Patroni's documentation gives, and its forms of the check."""

from __future__ import annotations

import csv
import io
import sys
import time
import urllib.request
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from lab.cluster import MEMBERS, REST_PORT
from lab.patroni_tools import HOST
from lab.probe import Probe
from lab.wait import until
from lab.wire import Target, Wire, WireError

if TYPE_CHECKING:
    from lab import Lab
    from lab.cluster import Cluster
    from lab.patroni_tools import Tools

WRITES: Final = 5000
READS: Final = 5001
STATISTICS: Final = 7000
# Patroni's file asks for `OPTIONS /` by saying nothing, its template for confd for the head.
CHECKS: Final = {
    ("primary", WRITES): "",
    ("replicas", READS): " HEAD /replica",
    ("primary_head", 5002): " HEAD /primary",
    ("primary_get", 5003): " GET /read-write",
    ("replicas_near", 5004): " GET /replica?lag=1MB",
    ("quorum", 5005): " OPTIONS /quorum",
    ("read_only", 5006): " OPTIONS /read-only",
    ("asynchronous", 5007): " OPTIONS /async",
}
CONFIGURATION: Final = f"""\
global
    maxconn 100
defaults
    log global
    mode tcp
    retries 2
    timeout client 30m
    timeout connect 4s
    timeout server 30m
    timeout check 5s
listen stats
    mode http
    bind *:{STATISTICS}
    stats enable
    stats uri /
"""
LISTENER: Final = """\
listen {name}
    bind *:{port}
    option httpchk{check}
    http-check expect status 200
    default-server inter 3s fall 3 rise 2 on-marked-down shutdown-sessions
"""
SERVER: Final = "    server {name} {address}:5432 maxconn 100 check port {check}\n"
# Three failed checks and two good ones at three seconds each, and then some.
SEEN_SECONDS_MAX: Final = 60.0

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module", autouse=True)
def balancer(tools: Tools, lab: Lab) -> None:
    """HAProxy in ops1, in front of all members."""
    text = CONFIGURATION
    for (name, port), check in CHECKS.items():
        text += LISTENER.format(name=name, port=port, check=check)
        for member in MEMBERS:
            address = lab.settings.address(member)
            text += SERVER.format(name=member, address=address, check=REST_PORT)
    tools.put(HOST, "/etc/haproxy", [("haproxy.cfg", text.encode())])
    lab.exec(HOST, ["systemctl", "restart", "haproxy"])


def up(lab: Lab) -> dict[str, set[str]]:
    """Return the members that HAProxy holds for up, by listener."""
    url = f"http://{lab.settings.address(HOST)}:{STATISTICS}/;csv"
    with urllib.request.urlopen(url, timeout=5) as answer:
        rows = list(csv.DictReader(io.StringIO(answer.read().decode())))
    found: dict[str, set[str]] = {name: set() for name, _ in CHECKS}
    for row in rows:
        # `UP 1/3` is one whose last check failed, and which still gets connections.
        if row["svname"] in MEMBERS and row["status"].startswith("UP"):
            found[row["# pxname"]].add(row["svname"])
    return found


def await_up(lab: Lab, leader: str) -> None:
    """Wait until every listener has those members up that it must; raises LabError."""
    others = set(MEMBERS) - {leader}
    wanted: dict[str, set[str]] = {
        "primary": {leader},
        "primary_head": {leader},
        "primary_get": {leader},
        "replicas": others,
        "replicas_near": others,
        "quorum": others,
        "read_only": set(MEMBERS),
        "asynchronous": set(),
    }
    until(
        lambda: up(lab),
        SEEN_SECONDS_MAX,
        f"{leader} and the others are up where they must",
        holds=lambda found: found == wanted,
        every=0.2,
    )


def through(cluster: Cluster, port: int) -> Target:
    """Return how a client reaches PostgreSQL by the balancer's *port*."""
    address = cluster.settings.address(HOST)
    return replace(cluster.target(MEMBERS[0]), host=address, port=port)


def address_behind(cluster: Cluster, port: int) -> tuple[str, str]:
    """Return which server answers at *port*, and whether it is a standby."""
    with Wire(through(cluster, port), 5) as wire:
        row = wire.query("SELECT host(inet_server_addr()), pg_is_in_recovery()")[0]
    return row[0], row[1]


def test_writes_reach_the_leader_and_reads_the_standbys(
    lab: Lab, cluster: Cluster, leader: str, standbys: tuple[str, ...]
) -> None:
    await_up(lab, leader)
    assert address_behind(cluster, WRITES) == (lab.settings.address(leader), "f")
    found = {address_behind(cluster, READS) for _ in range(4)}
    assert found == {(lab.settings.address(name), "t") for name in standbys}


def test_writes_follow_a_switchover(
    lab: Lab, cluster: Cluster, tools: Tools, leader: str, standbys: tuple[str, ...]
) -> None:
    await_up(lab, leader)
    probe = Probe([through(cluster, WRITES)], run=uuid.uuid4().hex)
    session = Wire(through(cluster, WRITES), 30)
    probe.start()
    try:
        probe.await_rows(50, after=0, timeout_seconds=30)
        tools.patronictl("switchover", "--candidate", standbys[0], "--force")
        await_up(lab, standbys[0])
        switched = time.monotonic()
        probe.await_rows(50, after=switched, timeout_seconds=30)
    finally:
        probe.stop()
    # Whoever was on the old leader was told so, and not left on a standby.
    with pytest.raises(WireError):
        session.query("SELECT 1")
    assert address_behind(cluster, WRITES) == (lab.settings.address(standbys[0]), "f")
    with Wire(cluster.target(standbys[0]), 10) as wire:
        present = probe.present(wire)
    assert {row.number for row in probe.acknowledged} <= present
    sys.stdout.write(
        f"\nHAProxy, Patroni's configuration: {probe.gap().seconds:.2f} s without a commit "
        f"over a switchover, {len(probe.acknowledged)} rows, none lost\n"
    )
