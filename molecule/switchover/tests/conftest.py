# SPDX-License-Identifier: GPL-3.0-or-later
"""What the stories share: the way into the cluster, and an application's database behind it."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from lab import Lab, Settings
from lab.cluster import MEMBERS, Cluster
from lab.entrance import IMPATIENT_SECONDS, PATIENT_SECONDS, Crowd, Entrance
from lab.pgbench import initialize
from lab.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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

    def host_at(self, address: str) -> str:
        """Return the member whose address that is."""
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
