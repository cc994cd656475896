# SPDX-License-Identifier: GPL-3.0-or-later
"""What the stories share: the way into the cluster, and an application's database behind it."""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from lab import Lab, Settings
from lab.cluster import MEMBERS, Cluster
from lab.entrance import IMPATIENT_SECONDS, PATIENT_SECONDS, Crowd, Entrance
from lab.knocks import Knocks
from lab.pgbench import initialize
from lab.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.client import Client
    from lab.losses import Mend
    from lab.wire import Target

WITHIN = 120.0
SCALE = 10


@dataclass(frozen=True)
class Bench:
    """The lab, the way in, and an application's database with pgbench's tables."""

    lab: Lab
    entrance: Entrance
    target: Target

    @property
    def cluster(self) -> Cluster:
        return self.entrance.cluster

    def say(self, text: str) -> None:
        """Print what people like to know."""
        sys.stdout.write(f"\n{text}\n")

    def standbys(self, leader: str) -> list[str]:
        return [host for host in MEMBERS if host != leader]

    def pooler_of(self, client: Client) -> str:
        """Return the member whose pooler *client* wrote through: the leader's goes by a socket."""
        address = client.commits[-1].through
        if not address:
            return self.cluster.await_healthy(WITHIN)
        return next(host for host in MEMBERS if self.lab.settings.address(host) == address)

    @contextlib.contextmanager
    def patient(self, number: int = 3) -> Iterator[Crowd]:
        """Have clients write that wait, from when all is well until all is well."""
        self.entrance.await_whole()
        with Crowd(self.entrance, self.target, number, PATIENT_SECONDS) as crowd:
            yield crowd
            self.entrance.await_whole()

    @contextlib.contextmanager
    def impatient(self, number: int = 6) -> Iterator[Crowd]:
        """Have clients write that give up what is silent, from when all is well until it is."""
        self.entrance.await_whole()
        with Crowd(self.entrance, self.target, number, IMPATIENT_SECONDS) as crowd:
            yield crowd
            self.entrance.await_whole()

    def survive(self, what: str, lose: Callable[[Crowd], Mend]) -> Crowd:
        """Break what *lose* breaks under clients, mend it by what that returns, account for all.

        Prints how long a client had to wait, for the loss and for the return.
        """
        door = Knocks(self.target.host, self.target.port)
        with self.impatient() as crowd, door:
            broken = time.monotonic()
            mend = lose(crowd)
            try:
                crowd.await_rows(100)
            finally:
                mended = time.monotonic()
                mend()
            self.entrance.await_whole()
            crowd.await_rows(50)
            whole = time.monotonic()
            loss, back = crowd.outage(broken, mended), crowd.outage(mended, whole)
            silent = door.longest(broken, mended)
        self.say(
            f"{what}: {loss:.2f} s without a commit, the address silent for {silent:.2f} s; "
            f"{back:.2f} s when it came back; {crowd.acknowledged} rows acknowledged, "
            f"{crowd.lost} lost; {len(crowd.clients)} clients gave up {crowd.broken} connections"
        )
        assert crowd.lost == 0
        return crowd

    def lead(self, heir: str) -> str:
        """Have *heir* lead, and return it."""
        leader = self.entrance.await_whole()
        if leader != heir:
            body = {"leader": leader, "candidate": heir}
            status, text = self.cluster.ask(leader, "POST", "/switchover", body)
            assert status == 200, text
            assert self.entrance.await_whole() == heir
        return heir

    def lead_elsewhere(self, *, than: str) -> str:
        """Have another host lead than one; return who does."""
        leader = self.entrance.await_whole()
        return leader if leader != than else self.lead(self.standbys(leader)[0])

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until *condition* holds; an agent that does not answer does not end the wait."""
        until(condition, WITHIN, "What was asked for", passing=(OSError,), every=0.02)


@pytest.fixture(scope="session")
def bench() -> Bench:
    lab = Lab(Settings.from_environment())
    entrance = Entrance(lab, Cluster(lab.settings))
    target = entrance.application()
    initialize(target, SCALE)
    return Bench(lab, entrance, target)
