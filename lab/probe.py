# SPDX-License-Identifier: GPL-3.0-or-later
"""The probe: a client that writes numbered rows without end and remembers what was acknowledged.

What it remembers of a row is enough to say, after a failover, whether the row had to survive:
`flushed` is a position of the primary's log taken after the acknowledgement, so the row's commit
ends at or before it. A row whose `flushed` lies at or before the point where the new timeline
branched off must be there; one beyond it may have died with the old primary.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from lab.wait import until
from lab.wire import Target, Wire, WireError

if TYPE_CHECKING:
    from collections.abc import Sequence

TABLE: Final = "pgherd_probe"
SEEK_SECONDS: Final = 0.02
UNKNOWN_POSITION: Final = 1 << 64
# The file that is written tells the timeline.
SEGMENT: Final = "pg_walfile_name(pg_current_wal_insert_lsn())"
CREATE: Final = (
    f"CREATE TABLE IF NOT EXISTS {TABLE} "
    "(run text, number bigint, written timestamptz DEFAULT clock_timestamp(), "
    "PRIMARY KEY (run, number))"
)


def position(text: str) -> int:
    """Return the bytes that a log position such as `0/3000148` stands for."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


@dataclass(frozen=True)
class Acknowledged:
    """A row whose commit the server confirmed; times of time.monotonic()."""

    number: int
    at: float
    host: str
    flushed: int
    sent: float = 0.0
    timeline: int = 0


@dataclass(frozen=True)
class Gap:
    """The longest time without an acknowledged write, and who acknowledged around it."""

    seconds: float
    before: str
    after: str


@dataclass(frozen=True)
class Losses:
    """Rows that were acknowledged and are gone: explained by the switch point, or not."""

    tail: tuple[int, ...]
    unexplained: tuple[int, ...]


@dataclass
class Probe:
    """Writes a row every *interval_seconds* to whichever target is no standby.

    run: a name for this run's rows; targets: where the primary may be.
    timeout_seconds: after that long a connection counts as dead and the next one is sought.
    """

    targets: Sequence[Target]
    run: str
    interval_seconds: float = 0.01
    timeout_seconds: float = 0.5
    acknowledged: list[Acknowledged] = field(default_factory=list)
    unknown: set[int] = field(default_factory=set)
    errors: deque[str] = field(default_factory=lambda: deque(maxlen=100))
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to write, in a thread."""
        self._thread = threading.Thread(target=self._write, name="probe", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End to write; returns when the last statement is over."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def await_rows(self, count: int, after: float, timeout_seconds: float) -> None:
        """Wait until *count* rows were acknowledged since *after* (a time of time.monotonic()).

        Raises LabError, with the last error met, when that takes *timeout_seconds*.
        """
        until(
            # The list only grows, so its tail tells whether enough came.
            lambda: len(self.acknowledged) >= count and self.acknowledged[-count].at > after,
            timeout_seconds,
            f"{count} writes more",
            tell=lambda _: self.errors[-1] if self.errors else "no error",
            every=0.01,
        )

    def gap(self) -> Gap:
        """Return the longest time between two acknowledged writes; needs two of them."""
        pairs = zip(self.acknowledged, self.acknowledged[1:], strict=False)
        before, after = max(pairs, key=lambda pair: pair[1].at - pair[0].at)
        return Gap(after.at - before.at, before.host, after.host)

    def present(self, wire: Wire) -> set[int]:
        """Return the numbers of this run's rows that *wire*'s server has; raises WireError."""
        rows = wire.query(f"SELECT number FROM {TABLE} WHERE run = '{self.run}'", 30)
        return {int(row[0]) for row in rows}

    def losses(self, present: set[int], old_host: str, switch_position: int) -> Losses:
        """Return the acknowledged rows that are not *present*.

        old_host: the primary that was lost; switch_position: where the new timeline branched
        off the one that old_host wrote.
        """
        gone = [row for row in self.acknowledged if row.number not in present]
        tail = [r for r in gone if r.host == old_host and r.flushed > switch_position]
        rest = [r for r in gone if r not in tail]
        return Losses(tuple(r.number for r in tail), tuple(r.number for r in rest))

    def _write(self) -> None:
        wire: Wire | None = None
        number = 0
        prepared = False
        while not self._stop.is_set():
            if wire is None:
                wire = self._connect()
                if wire is None:
                    return
            try:
                if not prepared:
                    wire.query(CREATE, 10)
                    prepared = True
                number += 1
                self._write_row(wire, number)
            except WireError as error:
                self.errors.append(str(error))
                wire = None
                continue
            self._stop.wait(self.interval_seconds)
        if wire is not None:
            wire.close()

    def _write_row(self, wire: Wire, number: int) -> None:
        self.unknown.add(number)
        sent = time.monotonic()
        insert = f"INSERT INTO {TABLE} (run, number) VALUES ('{self.run}', {number})"
        segment = wire.query(f"{insert} RETURNING {SEGMENT}")[0][0]
        at = time.monotonic()
        if wire.warnings:
            # The wait for the standbys was cancelled: that is no acknowledgement.
            self.errors.append(wire.warnings[-1])
            return
        self.unknown.discard(number)
        flushed = UNKNOWN_POSITION
        try:
            flushed = position(wire.query("SELECT pg_current_wal_flush_lsn()")[0][0])
        finally:
            timeline = int(segment[:8], 16)
            host = wire.target.host
            self.acknowledged.append(Acknowledged(number, at, host, flushed, sent, timeline))

    def _connect(self) -> Wire | None:
        """Ask every target again and again; return the first that is no standby, None to stop.

        Each target is asked in a thread of its own: one that hangs delays no other.
        """
        found: queue.SimpleQueue[Wire] = queue.SimpleQueue()
        over = threading.Event()
        seekers = [
            threading.Thread(target=self._seek, args=(target, found, over), daemon=True)
            for target in self.targets
        ]
        for seeker in seekers:
            seeker.start()
        wire: Wire | None = None
        while wire is None and not self._stop.is_set():
            try:
                wire = found.get(timeout=0.1)
            except queue.Empty:
                continue
        over.set()
        return wire

    def _seek(self, target: Target, found: queue.SimpleQueue[Wire], over: threading.Event) -> None:
        while not over.is_set():
            try:
                wire = Wire(target, self.timeout_seconds)
                if wire.query("SELECT pg_is_in_recovery()")[0][0] != "f" or over.is_set():
                    wire.close()
                else:
                    found.put(wire)
                    return
            except WireError as error:
                self.errors.append(str(error))
            over.wait(SEEK_SECONDS)
