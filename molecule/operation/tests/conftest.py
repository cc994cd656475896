# SPDX-License-Identifier: GPL-3.0-or-later
"""What the stories share: the cluster, and a client that writes while something is asked for."""

from __future__ import annotations

import contextlib
import json
import sys
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from lab import Lab, Settings
from lab.cluster import Cluster
from lab.collection import make_importable
from lab.probe import Probe
from lab.wait import until
from lab.wire import Wire, WireError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

make_importable()

# Beyond this something is broken rather than slow on a busy machine.
WITHIN = 120.0


@dataclass
class Written:
    """What a client saw while it wrote without end; read once the client has stopped."""

    longest: float = 0.0
    acknowledged: int = 0
    lost: int = 0


@dataclass(frozen=True)
class Bench:
    """The lab and its cluster."""

    lab: Lab
    cluster: Cluster

    @property
    def leader(self) -> str:
        return self.cluster.await_healthy(WITHIN)

    @property
    def standbys(self) -> list[str]:
        leader = self.leader
        return [member.name for member in self.cluster.members() if member.name != leader]

    def shown(self, host: str) -> dict[str, Any]:
        """Return what `GET /patroni` of *host* says."""
        _, body = self.cluster.rest(host, "/patroni")
        return dict(json.loads(body))

    def stored(self) -> dict[str, Any]:
        """Return the dynamic configuration."""
        return dict(json.loads(self.cluster.rest(self.leader, "/config")[1]))

    def acknowledging(self) -> list[str]:
        """Return the members that a commit may wait for."""
        rows = json.loads(self.cluster.rest(self.leader, "/cluster")[1])["members"]
        return [row["name"] for row in rows if row["role"] in ("quorum_standby", "sync_standby")]

    def await_whole(self) -> None:
        """Wait until commits wait for both standbys, so that any host may be lost."""
        self.until(lambda: len(self.acknowledging()) == 2)

    def data_directory(self, host: str) -> str:
        return self.cluster.query(host, "SHOW data_directory")[0][0]

    def shell(self, host: str, script: str) -> str:
        """Return what the shell *script* prints in *host*; raises LabError when it fails."""
        return self.lab.exec(host, ["sh", "-c", script])[1]

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until *condition* holds; an agent that does not answer does not end the wait."""
        until(condition, WITHIN, "What was asked for", passing=(OSError, WireError))

    def has_restarted(self, host: str, before: str) -> bool:
        """Tell whether *host*'s PostgreSQL is another one than the one started at *before*."""
        return self.started_at(host) != before

    def started_at(self, host: str) -> str:
        """Return when *host*'s postmaster was started."""
        return self.cluster.query(host, "SELECT pg_postmaster_start_time()")[0][0]

    def writing(self, what: str) -> contextlib.AbstractContextManager[Written]:
        """Write while *what* is done; afterwards say for how long there was no commit."""
        return self.writing_to(None, what)

    @contextlib.contextmanager
    def writing_to(self, host: str | None, what: str) -> Iterator[Written]:
        """Write to *host*, or to whoever leads, while *what* is done; as `writing` does."""
        written = Written()
        targets = (self.cluster.target(host),) if host else self.cluster.targets()
        probe = Probe(targets, run=uuid.uuid4().hex)
        probe.start()
        try:
            probe.await_rows(100, after=0, timeout_seconds=WITHIN)
            yield written
            probe.await_rows(100, after=time.monotonic(), timeout_seconds=WITHIN)
        finally:
            probe.stop()
        with Wire(self.cluster.target(self.leader), 30) as wire:
            present = probe.present(wire)
        written.longest = probe.gap().seconds
        written.acknowledged = len(probe.acknowledged)
        written.lost = sum(row.number not in present for row in probe.acknowledged)
        sys.stdout.write(
            f"\n{what}: {written.longest:.2f} s without a commit, "
            f"{written.acknowledged} rows acknowledged, {written.lost} lost\n"
        )


@pytest.fixture(scope="session")
def bench() -> Bench:
    lab = Lab(Settings.from_environment())
    return Bench(lab, Cluster(lab.settings))


@pytest.fixture(autouse=True)
def whole(bench: Bench) -> None:
    """Begin every story with a whole cluster, whatever the one before it did."""
    bench.await_whole()
