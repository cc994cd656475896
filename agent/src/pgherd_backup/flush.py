# SPDX-License-Identifier: GPL-3.0-or-later
"""Having all that was written until now in the archive, and rows that prove it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pgherd_backup.errors import BackupError
from pgherd_backup.instance import Instance

if TYPE_CHECKING:
    from pgherd_backup.settings import Settings

LOOK_SECONDS: Final = 0.2
# A row each time; what is older than two weeks goes (issue 7: a row known to be there, and how
# fresh it is).
CANARY: Final = """
SET client_min_messages = warning;
CREATE SCHEMA IF NOT EXISTS pgherd;
CREATE TABLE IF NOT EXISTS pgherd.canary (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    written timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE INDEX IF NOT EXISTS canary_written ON pgherd.canary (written);
DELETE FROM pgherd.canary WHERE written < clock_timestamp() - interval '14 days';
INSERT INTO pgherd.canary DEFAULT VALUES;
"""
SWITCH: Final = "SELECT pg_walfile_name(pg_switch_wal())"
ARCHIVED: Final = """
SELECT COALESCE(last_archived_wal, '') || ' ' ||
       COALESCE((last_failed_time > COALESCE(last_archived_time, '-infinity'))::text, 'false')
  FROM pg_stat_archiver"""


def own(settings: Settings) -> Instance:
    """Return the member of this host, to be asked over its socket."""
    return Instance(
        Path(settings.data_dir),
        Path(settings.socket_dir),
        Path(settings.bin_dir),
        port=settings.port,
    )


def write_canary(settings: Settings) -> bool:
    """Write a row of proof where the primary is; tell whether it is here."""
    server = own(settings)
    if not server.answers() or server.query("SELECT pg_is_in_recovery()") != "f":
        return False
    server.query(CANARY)
    return True


def flush(settings: Settings, within: float) -> str:
    """Have the primary of this host archive all it wrote; return the segment that ends it.

    :param within: seconds.
    :raises BackupError: there is no primary here, or the archive did not take it in time.
    """
    if not write_canary(settings):
        raise BackupError("there is no primary on this host")
    server = own(settings)
    name = server.query(SWITCH)
    deadline = time.monotonic() + within
    while True:
        newest, _, failing = server.query(ARCHIVED).partition(" ")
        if newest[:24] >= name:
            return name
        if time.monotonic() >= deadline:
            why = "its last attempt failed" if failing == "true" else "it takes long"
            raise BackupError(
                f"{name} was not archived within {within:g} s: {why}. A restore of what is in the "
                "archive goes without it: restore_flush_seconds=0"
            )
        time.sleep(LOOK_SECONDS)
