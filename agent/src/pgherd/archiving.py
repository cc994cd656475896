# SPDX-License-Identifier: GPL-3.0-or-later
"""How the local instance's archiver is, asked beside the loop: a long queue takes long to list."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from pgherd.errors import PostgresError
from pgherd.pgquery import Connection

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)

# Between two looks, and how long one may take, seconds.
LOOK_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 5.0

# No row where nothing is archived: a standby leaves it to its primary, unless archive_mode is
# always. What waits is in archive_status, a file for each segment.
ARCHIVER: Final = """
SELECT a.last_archived_wal AS archived, a.last_archived_time::text AS archived_at,
       a.last_failed_wal AS failed, a.last_failed_time::text AS failed_at,
       a.last_failed_time > COALESCE(a.last_archived_time, '-infinity') AS failing,
       w.number AS waiting, w.seconds AS waiting_seconds
  FROM pg_stat_archiver a,
       (SELECT count(*) AS number,
               COALESCE(GREATEST(extract(epoch FROM clock_timestamp() - min(modification)), 0),
                        0)::float8 AS seconds
          FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready') w
 WHERE current_setting('archive_mode') = 'always'
    OR (current_setting('archive_mode') = 'on' AND NOT pg_is_in_recovery())
"""


def archiver_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what is told of the archiver, by the rows of `ARCHIVER`; empty where there is none."""
    if not rows:
        return {}
    told = {name: value for name, value in rows[0].items() if value is not None}
    return {**told, "failing": bool(rows[0]["failing"])}


class Archiving:
    """What was found last.

    :param conninfo: how to reach the local instance, as one who may list its directories.
    :ivar found: as `GET /patroni` tells it; empty where nothing is archived, or nobody knows.
    """

    def __init__(self, conninfo: str) -> None:
        self._connection = Connection(conninfo, ANSWER_SECONDS)
        self.found: Mapping[str, Any] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        try:
            while True:
                await self.look()
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            await self._connection.close()

    async def look(self) -> None:
        """Ask once."""
        try:
            self.found = archiver_of(await self._connection.query(ARCHIVER))
        except PostgresError as error:
            log.debug("nobody knows how the archiver is: %s", error)
            self.found = {}
