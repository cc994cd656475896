# SPDX-License-Identifier: GPL-3.0-or-later
"""Stopping a primary in good order, and soon."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from pgherd.errors import PostgresError

if TYPE_CHECKING:
    from pgherd.postgres import Postgres

log = logging.getLogger(__name__)

# After its shutdown checkpoint a server only waits for standbys and for the archiver, seconds.
LINGER_SECONDS: Final = 1.0


async def checkpoint_first(postgres: Postgres, within: float) -> None:
    """Write a checkpoint while clients go on, so that the one of the stop is short.

    :param within: seconds; a failure, or one that takes longer, is logged.
    """
    try:
        await postgres.checkpoint(within)
    except PostgresError as error:
        log.warning("no checkpoint before the stop, which may take longer: %s", error)


async def shut_down_promptly(postgres: Postgres, within: float) -> None:
    """Stop a primary in fast mode, and do not wait for what does not matter to its data any more.

    Once the shutdown checkpoint is written the server waits for walsenders, whose standbys may
    hang, and for archive_command, which may take for ever; it is ended then.

    :param within: seconds until it is stopped immediately.
    """
    try:
        await postgres.shut_down(within)
    except PostgresError as error:
        log.warning("stopping PostgreSQL immediately: %s", error)
        await postgres.stop_now()
        return
    if not await postgres.ended(LINGER_SECONDS):
        log.warning("PostgreSQL is shut down but for what it still sends or archives: ending it")
        await postgres.stop_now()
