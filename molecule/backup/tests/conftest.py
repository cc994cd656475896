# SPDX-License-Identifier: GPL-3.0-or-later
"""What the stories of backups share: the cluster, and what its repository holds."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest

from lab import Lab, Settings
from lab.cluster import MEMBERS, Cluster
from lab.wait import until
from lab.wire import WireError

if TYPE_CHECKING:
    from collections.abc import Callable

# The lab's inventory asks for it, and every playbook of these stories with it.
os.environ["PGHERD_LAB_BACKUP"] = "pgbackrest"

# Beyond this something is broken rather than slow on a busy machine.
WITHIN: Final = 180.0
KEEPER: Final = "ops1"
REPOSITORY: Final = "/var/lib/pgbackrest"
PROGRAM: Final = "/usr/local/bin/pgherd-backup"


@dataclass(frozen=True)
class Backups:
    """The lab, its cluster, and its repository host."""

    lab: Lab
    cluster: Cluster

    @property
    def leader(self) -> str:
        return self.cluster.await_healthy(WITHIN)

    def write(self, sql: str) -> list[tuple[str, ...]]:
        """Return the rows of *sql* on whoever leads."""
        return self.cluster.query(self.leader, sql, 60)

    def run(self, host: str, *words: str) -> tuple[int, str]:
        """Run our program on *host*; return its exit code and what it tells."""
        return self.lab.exec(host, [PROGRAM, *words], check=False)

    def info(self) -> dict[str, Any]:
        """Return what the first repository holds, asked of its host."""
        text = self.lab.exec(KEEPER, [PROGRAM, "info", "--json"])[1]
        return dict(json.loads(text)["repositories"][0])

    def shell(self, host: str, script: str) -> str:
        return self.lab.exec(host, ["sh", "-c", script])[1].strip()

    def started(self) -> dict[str, str]:
        """Return when each member's PostgreSQL was started."""
        sql = "SELECT pg_postmaster_start_time()"
        return {host: self.cluster.query(host, sql)[0][0] for host in MEMBERS}

    def until(self, what: str, condition: Callable[[], bool]) -> None:
        """Wait until *condition* holds."""
        until(condition, WITHIN, what, passing=(OSError, WireError))

    def await_archived(self) -> None:
        """Wait until all that was written is in the archive."""
        self.lab.exec(self.leader, [PROGRAM, "flush", f"--within={WITHIN:g}"])


@pytest.fixture(scope="session")
def backups() -> Backups:
    lab = Lab(Settings.from_environment())
    return Backups(lab, Cluster(lab.settings))
