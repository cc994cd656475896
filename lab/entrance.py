# SPDX-License-Identifier: GPL-3.0-or-later
"""The clients' way into the cluster: the address that moves, the balancers, the poolers."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from lab.client import CREATE, ROWS_SECONDS_MAX, Client
from lab.cluster import MEMBERS
from lab.errors import LabError
from lab.stage import HEALTHY_SECONDS_MAX, await_synchronous
from lab.store import Store
from lab.wait import until
from lab.wire import Target, Wire, WireError

if TYPE_CHECKING:
    from types import TracebackType

    from lab.cluster import Cluster
    from lab.hosts import Lab

RW: Final = 5000
RO: Final = 5001
# Where the address leads without a balancer.
POOLER_RW: Final = 6432
APPLICATION: Final = "lab_application"
MAKE_ROLE: Final = (
    f"DO $$ BEGIN CREATE ROLE {APPLICATION} LOGIN; "
    "EXCEPTION WHEN duplicate_object THEN NULL; END $$"
)
WHOLE_SECONDS_MAX: Final = 60.0
# A client that waits for as long as it takes: what it is told is what went wrong.
PATIENT_SECONDS: Final = 60.0
# One that gives up what does not answer, as those do that mind the loss of a host.
IMPATIENT_SECONDS: Final = 0.5


@dataclass(frozen=True)
class Entrance:
    """Every method raises LabError when the hosts cannot be asked or do not do as they must."""

    lab: Lab
    cluster: Cluster

    def application(self) -> Target:
        """Make a role, a database and a table as applications have; return the way to them."""
        leader = self.cluster.await_healthy(HEALTHY_SECONDS_MAX)
        password = uuid.uuid4().hex
        direct = self.cluster.target(leader)
        with Wire(direct, 30) as wire:
            wire.query(MAKE_ROLE)
            wire.query(f"ALTER ROLE {APPLICATION} PASSWORD '{password}'")
            if not wire.query(f"SELECT 1 FROM pg_database WHERE datname = '{APPLICATION}'"):
                wire.query(f"CREATE DATABASE {APPLICATION} OWNER {APPLICATION}")
        target = Target(self.lab.settings.vip, APPLICATION, password, APPLICATION, RW)
        with Wire(replace(target, host=direct.host, port=direct.port), 30) as wire:
            wire.query(CREATE)
        return target

    def vip_hosts(self) -> list[str]:
        """Return the hosts that have the address that moves: one, while all is well."""
        running = [host.name for host in self.lab.status() if host.state == "running"]
        look = ["ip", "-brief", "-4", "address", "show", "to", self.lab.settings.vip]
        return [host for host in MEMBERS if host in running and self.lab.exec(host, look)[1]]

    def vip_host(self) -> str:
        """Wait until one host has the address that moves; return it."""
        [host] = until(
            self.vip_hosts,
            WHOLE_SECONDS_MAX,
            f"One host has {self.lab.settings.vip}",
            holds=lambda found: len(found) == 1,
        )
        return host

    def pooler(self, host: str) -> dict[str, Any]:
        """Return what *host*'s agent says of its pooler for writes, and its status as `status`.

        Raises OSError while the agent does not answer.
        """
        status, body = self.cluster.rest(host, "/pooler/rw")
        return {**json.loads(body), "status": status}

    def await_whole(self) -> str:
        """Wait until every host plays its part again; return who leads.

        One leads, the others may all be elected, every pooler leads there and is not paused.
        """
        leader = await_synchronous(self.cluster, Store(self.lab))
        self.vip_host()
        until(
            lambda: [self.pooler(host) for host in MEMBERS],
            WHOLE_SECONDS_MAX,
            "Every pooler leads to the primary",
            holds=lambda found: all(it["status"] == 200 and not it["paused"] for it in found),
            passing=(OSError,),
        )
        return leader


@dataclass
class Crowd:
    """Clients that write while something happens, as a context; judged when that is over."""

    entrance: Entrance
    target: Target
    number: int
    patience_seconds: float
    clients: list[Client] = field(default_factory=list)
    lost: int = 0

    def __enter__(self) -> Crowd:
        """Begin to write; returns when all clients do."""
        self.clients = [Client(self.target, self.patience_seconds) for _ in range(self.number)]
        for client in self.clients:
            client.start()
        self.await_rows(50)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """See every client write again, unless something failed; end, and count what is lost."""
        try:
            if kind is None:
                self.await_rows(50)
        finally:
            for client in self.clients:
                client.stop()
        if kind is None:
            self.lost = self._count_lost()

    def await_rows(self, count: int, within: float = ROWS_SECONDS_MAX) -> None:
        """Wait until every client has had *count* rows more acknowledged; raises LabError."""
        deadline = time.monotonic() + within
        wanted = [(client, len(client.commits) + count) for client in self.clients]
        for client, row in wanted:
            client.await_row(row, max(0.0, deadline - time.monotonic()))

    @property
    def acknowledged(self) -> int:
        """How many rows were acknowledged."""
        return sum(len(client.commits) for client in self.clients)

    @property
    def letdowns(self) -> list[str]:
        """All that went wrong, in the order in which it did."""
        found = [each for client in self.clients for each in client.letdowns]
        return [each.reason for each in sorted(found, key=lambda each: each.at)]

    @property
    def broken(self) -> int:
        """How many connections were lost."""
        return sum(client.connections - 1 for client in self.clients)

    def outage(self, since: float = float("-inf"), until: float = float("inf")) -> float:
        """Return the longest time that any client had to wait for a commit."""
        return max(client.longest(since, until) for client in self.clients)

    def _count_lost(self) -> int:
        leader = self.entrance.cluster.await_healthy(HEALTHY_SECONDS_MAX)
        direct = self.entrance.cluster.target(leader)
        try:
            with Wire(replace(self.target, host=direct.host, port=direct.port), 30) as wire:
                return sum(client.lost(wire) for client in self.clients)
        except WireError as error:
            raise LabError(f"The rows cannot be counted: {error}") from error
