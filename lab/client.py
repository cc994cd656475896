# SPDX-License-Identifier: GPL-3.0-or-later
"""A client as an application is one: it keeps its connection, and notices when it is let down.

It writes numbered rows through one entry point. With every row it asks for the last one before it:
that one must be there, whoever leads now. What it saw is kept to be judged after it has stopped.
"""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from lab.wait import until
from lab.wire import Target, Wire, WireError

if TYPE_CHECKING:
    from collections.abc import Sequence

TABLE: Final = "pgherd_client"
CREATE: Final = (
    f"CREATE TABLE IF NOT EXISTS {TABLE} (run text, number bigint, PRIMARY KEY (run, number))"
)
# What RETURNING reads is what was committed before: the row itself is not among it.
INSERT: Final = (
    f"INSERT INTO {TABLE} VALUES ('{{run}}', {{number}}) RETURNING "
    "coalesce(host(inet_server_addr()), ''), coalesce(host(inet_client_addr()), ''), "
    f"coalesce((SELECT max(number) FROM {TABLE} WHERE run = '{{run}}'), 0)"
)
RETRY_SECONDS: Final = 0.02
ROWS_SECONDS_MAX: Final = 120.0


@dataclass(frozen=True)
class Commit:
    """A row that was acknowledged, at a time of time.monotonic().

    server: the address of the PostgreSQL that has it; through: that of the pooler on the way. Both
    are empty when that pooler goes by a socket, for it is on the server's host.
    """

    number: int
    at: float
    server: str
    through: str


@dataclass(frozen=True)
class Letdown:
    """What went wrong for the client, and when."""

    at: float
    reason: str


@dataclass
class Client:
    """Commits a row every *interval_seconds* at *target*, over one connection while it holds.

    patience_seconds: without an answer for that long it gives a connection up and makes another.
    """

    target: Target
    patience_seconds: float
    interval_seconds: float = 0.01
    run: str = field(default_factory=lambda: uuid.uuid4().hex)
    commits: list[Commit] = field(default_factory=list)
    letdowns: list[Letdown] = field(default_factory=list)
    connections: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to write, in a thread; the table must be there."""
        self._thread = threading.Thread(target=self._write, name="client", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End to write; returns when the last statement is over."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def await_rows(self, count: int, within: float = ROWS_SECONDS_MAX) -> None:
        """Wait until *count* rows more were acknowledged; raises LabError."""
        self.await_row(len(self.commits) + count, within)

    def await_row(self, wanted: int, within: float) -> None:
        """Wait until *wanted* rows were acknowledged in all; raises LabError."""
        until(
            lambda: len(self.commits) >= wanted,
            within,
            f"{wanted} commits of a client",
            tell=lambda _: self._progress(),
            every=0.01,
        )

    def _progress(self) -> str:
        last = self.letdowns[-1].reason if self.letdowns else "none"
        return f"{len(self.commits)}, last error: {last}"

    def longest(self, since: float = float("-inf"), until: float = float("inf")) -> float:
        """Return the longest time without a commit between two moments."""
        return longest_between([commit.at for commit in self.commits], since, until)

    def lost(self, wire: Wire) -> int:
        """Return how many acknowledged rows *wire*'s server does not have; raises WireError."""
        rows = wire.query(f"SELECT number FROM {TABLE} WHERE run = '{self.run}'", 30)
        present = {int(row[0]) for row in rows}
        return sum(commit.number not in present for commit in self.commits)

    def _write(self) -> None:
        wire: Wire | None = None
        number = 0
        while not self._stop.is_set():
            number += 1
            try:
                if wire is None:
                    wire = Wire(self.target, self.patience_seconds)
                    self.connections += 1
                self._commit(wire, number)
            except WireError as error:
                self.letdowns.append(Letdown(time.monotonic(), str(error)))
                wire = None
                self._stop.wait(RETRY_SECONDS)
                continue
            self._stop.wait(self.interval_seconds)
        if wire is not None:
            wire.close()

    def _commit(self, wire: Wire, number: int) -> None:
        server, through, last = wire.query(INSERT.format(run=self.run, number=number))[0]
        now = time.monotonic()
        if wire.warnings:
            # The wait for the standbys was cancelled: that is no acknowledgement.
            self.letdowns.append(Letdown(now, wire.warnings[-1]))
            return
        if self.commits and int(last) < self.commits[-1].number:
            reason = f"row {self.commits[-1].number} was acknowledged, {last} is the last there is"
            self.letdowns.append(Letdown(now, reason))
        self.commits.append(Commit(number, now, server, through))


def longest_between(times: Sequence[float], since: float, until: float) -> float:
    """Return the longest time between two neighbours of *times* that touches since..until."""
    pairs = ((a, b) for a, b in pairwise(sorted(times)) if b >= since and a <= until)
    return max((b - a for a, b in pairs), default=0.0)
