# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster made ready for a benchmark of its client's path, and put back as it was."""

from __future__ import annotations

import contextlib
import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.byhand import PORT as BY_HAND_PORT
from bench.byhand import ByHand
from bench.pgbench import DATABASE, ROLE, Bench
from bench.pgpool import PORT as PGPOOL_PORT
from bench.pgpool import PgPool
from lab.cluster import MEMBERS, Cluster
from lab.entrance import RW, Entrance
from lab.errors import LabError
from lab.stage import HEALTHY_SECONDS_MAX, await_synchronous
from lab.store import Store
from lab.wait import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.hosts import Lab

CLIENT: Final = "ops1"
POOLER_PORT: Final = 6432
# HAProxy has such a port only where it is asked for.
DIRECT_PORT: Final = 5002
# Beyond the clients of a path: PgPool-II's spare children, the pools, the agent.
CONNECTIONS_SPARE: Final = 250
# Of them, those that only superusers get, and PgPool-II's.
RESERVED: Final = 20
PENDING_SECONDS_MAX: Final = 30
ROOM_SECONDS_MAX: Final = 60
ROLLING_SECONDS_MAX: Final = 180


@dataclass(frozen=True)
class Route:
    """A way from the client to the primary: what it is called, and where it begins."""

    name: str
    address: str
    port: int


@dataclass(frozen=True)
class Ground:
    """What a benchmark stands on: who leads, who has the VIP, and the programs that measure."""

    lab: Lab
    cluster: Cluster
    leader: str
    proxy: str
    bench: Bench
    pgpool: PgPool

    def routes(self) -> list[Route]:
        """Return the ways that this cluster has.

        All proxies that a client may talk to are those of one host: the one that has the VIP.
        """
        address, settings = self.lab.settings.address, self.lab.settings
        return [
            Route("direct", address(self.leader), 5432),
            Route("pgbouncer", address(self.proxy), POOLER_PORT),
            Route("haproxy", settings.vip, DIRECT_PORT),
            Route("chain", settings.vip, RW),
            Route("hand", address(self.proxy), BY_HAND_PORT),
            Route("pgpool", address(self.proxy), PGPOOL_PORT),
        ]

    def await_room(self, clients: int) -> None:
        """Return when the servers of the clients before have ended, so that as many more may come.

        Raises LabError or WireError.
        """
        sql = "SELECT count(*), current_setting('max_connections') FROM pg_stat_activity"
        until(
            lambda: self.cluster.query(self.leader, sql, ROOM_SECONDS_MAX)[0],
            ROOM_SECONDS_MAX,
            f"There is room for {clients} connections",
            holds=lambda row: int(row[0]) + clients + RESERVED <= int(row[1]),
            tell=lambda row: f"{row[0]} of {row[1]} are not given back",
        )


@contextlib.contextmanager
def prepared(lab: Lab, cluster: Cluster, clients: int) -> Iterator[Ground]:
    """Yield a ground on which *clients* may connect straight to the primary.

    It has a database, a role and PgPool-II, and the servers allow more connections; all of that is
    taken away again. Raises LabError or WireError.
    """
    proxy = Entrance(lab, cluster).vip_host()
    password = secrets.token_hex(16)
    addresses = tuple(lab.settings.address(host) for host in MEMBERS)
    bench, pgpool = Bench(lab, CLIENT), PgPool(lab, proxy, addresses, password)
    by_hand = ByHand(lab, proxy, password)
    try:
        leader = allow(lab, cluster, clients + CONNECTIONS_SPARE)
        _drop(cluster, leader)
        cluster.query(leader, f"CREATE ROLE {ROLE} LOGIN PASSWORD '{password}'")
        cluster.query(leader, f"CREATE DATABASE {DATABASE} OWNER {ROLE}", 60)
        bench.install(password)
        bench.fill(lab.settings.address(leader))
        pgpool.install()
        pgpool.stop()
        by_hand.start(lab.settings.address(leader), 5432, DATABASE)
        yield Ground(lab, cluster, leader, proxy, bench, pgpool)
    finally:
        by_hand.remove()
        pgpool.remove()
        leader = allow(lab, cluster, None)
        _drop(cluster, leader)


def allow(lab: Lab, cluster: Cluster, connections: int | None) -> str:
    """Have all servers allow so many *connections*, None for what the role says; return who leads.

    Raises LabError when the servers do not come to it.
    """
    leader = cluster.await_healthy(HEALTHY_SECONDS_MAX)
    before = Store(lab).config()
    change = {"postgresql": {"parameters": {"max_connections": connections}}}
    status, text = cluster.ask(leader, "PATCH", "/config", change)
    if status != 200:
        raise LabError(f"max_connections cannot be changed: {status} {text.strip()}")
    if Store(lab).config() != before:
        _await_pending(cluster)
        words = ["pgherd", "restart", "--rolling", "--pending", "--force"]
        lab.exec(leader, ["timeout", str(ROLLING_SECONDS_MAX), *words])
    return await_synchronous(cluster, Store(lab))


def _await_pending(cluster: Cluster) -> None:
    """Return when every member knows that it waits for a restart; raises LabError."""
    until(
        lambda: [host for host in MEMBERS if not _is_pending(cluster, host)],
        PENDING_SECONDS_MAX,
        "Every member has taken max_connections over",
        holds=lambda waiting: not waiting,
    )


def _is_pending(cluster: Cluster, host: str) -> bool:
    return "pending_restart" in json.loads(cluster.rest(host, "/patroni")[1])


def _drop(cluster: Cluster, leader: str) -> None:
    cluster.query(leader, f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)", 60)
    cluster.query(leader, f"DROP ROLE IF EXISTS {ROLE}")
