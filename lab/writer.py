# SPDX-License-Identifier: GPL-3.0-or-later
"""A writer inside a host: commits on its own node's PostgreSQL whenever that one takes writes.

It knows no network, so a cut host's writer goes on. It is copied to the host and runs alone there:
nothing of the lab may be imported. For every commit that was acknowledged cleanly it appends a
line to its log: the row's number (which is when the statement was sent), when the acknowledgement
was read (both in nanoseconds of CLOCK_MONOTONIC, which all hosts of an engine share) and the
timeline written on. A commit that came with a warning is none: PostgreSQL acknowledges one so
when the wait for its standbys was cancelled.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg

if TYPE_CHECKING:
    from typing import TextIO

CONNINFO: Final = "host=/var/run/postgresql dbname=postgres connect_timeout=2"
PAUSE_SECONDS: Final = 0.02
STANDBY_SECONDS: Final = 0.05
INSERT: Final = (
    "INSERT INTO pgherd_writer (run, node, number) VALUES (%s, %s, %s) "
    "RETURNING left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)"
)


def write(run: str, node: str, log: TextIO) -> None:
    """Write over one connection until it fails; raises psycopg.Error."""
    warnings: list[str] = []
    with psycopg.connect(CONNINFO, autocommit=True, application_name="lab-writer") as connection:
        connection.add_notice_handler(lambda notice: warnings.append(notice.message_primary or ""))
        while connection.execute("SELECT pg_is_in_recovery()").fetchone() != (False,):
            time.sleep(STANDBY_SECONDS)
        while True:
            number = time.monotonic_ns()
            row = connection.execute(INSERT, (run, node, number)).fetchone()
            acknowledged = time.monotonic_ns()
            if row is not None and not warnings:
                log.write(f"{number} {acknowledged} {int(row[0], 16)}\n")
            warnings.clear()
            time.sleep(PAUSE_SECONDS)


def main(run: str, node: str, path: str) -> None:
    """Write for ever, over one connection after the other."""
    with Path(path).open("a", buffering=1, encoding="utf-8") as log:
        while True:
            try:
                write(run, node, log)
            except psycopg.Error:
                time.sleep(STANDBY_SECONDS)


if __name__ == "__main__":
    main(*sys.argv[1:])
