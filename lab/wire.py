# SPDX-License-Identifier: GPL-3.0-or-later
"""A PostgreSQL connection whose every step has a deadline.

libpq's own connect_timeout has a floor of two seconds, and a driver that is cancelled asks the
server's leave first. A client of a host that vanished can afford neither; so this one waits on the
socket itself and, when time is up, closes it.
"""

from __future__ import annotations

import select
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

if TYPE_CHECKING:
    from types import TracebackType

OK_STATUSES: Final = frozenset({pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK})


class WireError(Exception):
    """The server did not do what was asked, or not in time; the connection is closed."""


@dataclass(frozen=True)
class Target:
    """Where to connect and as whom."""

    host: str
    user: str
    password: str
    dbname: str = "postgres"
    port: int = 5432

    def __repr__(self) -> str:
        """Show everything but the password."""
        return f"Target({self.user}@{self.host}:{self.port}/{self.dbname})"


class Wire:
    """One connection; not to be shared between threads."""

    def __init__(self, target: Target, timeout_seconds: float) -> None:
        """Connect within *timeout_seconds*, which later bounds every query; raises WireError."""
        self.target = target
        self.timeout_seconds = timeout_seconds
        self.warnings: list[str] = []
        conninfo = make_conninfo(
            host=target.host,
            port=target.port,
            user=target.user,
            password=target.password,
            dbname=target.dbname,
            application_name="pgherd-probe",
        )
        self._connection = pq.PGconn.connect_start(conninfo.encode())
        deadline = time.monotonic() + timeout_seconds
        while True:
            status = self._connection.connect_poll()
            if status == pq.PollingStatus.OK:
                break
            if status == pq.PollingStatus.FAILED:
                raise self._failure(self._connection.get_error_message())
            self._wait(deadline, writing=status == pq.PollingStatus.WRITING)
        self._connection.nonblocking = 1
        self._connection.notice_handler = self._note

    def __enter__(self) -> Wire:
        """Return the connection itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.close()

    def query(self, sql: str, timeout_seconds: float | None = None) -> list[tuple[str, ...]]:
        """Return the rows of *sql* as text, NULL as an empty one; raises WireError.

        sql: one statement or several; the rows are those of the last.
        timeout_seconds: bounds this statement alone, where it may take longer than the rest.
        What the server warned of on the way is in `warnings` afterwards.
        """
        self.warnings.clear()
        deadline = time.monotonic() + (timeout_seconds or self.timeout_seconds)
        try:
            self._connection.send_query(sql.encode())
            while self._connection.flush():
                self._wait(deadline, writing=True)
            rows: list[tuple[str, ...]] = []
            while True:
                while self._connection.is_busy():
                    self._wait(deadline)
                    self._connection.consume_input()
                result = self._connection.get_result()
                if result is None:
                    return rows
                if result.status not in OK_STATUSES:
                    raise self._failure(result.get_error_message())
                rows = _rows(result)
        except psycopg.Error as error:
            raise self._failure(str(error)) from error

    def close(self) -> None:
        """Close the socket at once, asking nobody."""
        self._connection.finish()

    def _note(self, result: pq.abc.PGresult) -> None:
        self.warnings.append(result.get_error_message().strip())

    def _wait(self, deadline: float, *, writing: bool = False) -> None:
        socket = self._connection.socket
        left = max(0.0, deadline - time.monotonic())
        ready = select.select([socket], [socket] if writing else [], [], left)
        if not (ready[0] or ready[1]):
            raise self._failure(f"no answer in {self.timeout_seconds:g} s")

    def _failure(self, reason: str) -> WireError:
        self.close()
        return WireError(f"{self.target.host}: {reason.strip()}")


def _rows(result: pq.abc.PGresult) -> list[tuple[str, ...]]:
    return [
        tuple((result.get_value(row, column) or b"").decode() for column in range(result.nfields))
        for row in range(result.ntuples)
    ]
