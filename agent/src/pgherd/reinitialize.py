# SPDX-License-Identifier: GPL-3.0-or-later
"""Replacing this member's data by a new copy because an operator asks for it, and rereading files.

The data is only put out of the way here; the rule `clone` then makes the copy, as for any member
that has no data.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pgherd.answers import Answer
from pgherd.datadir import REPLACED, discard
from pgherd.kept import LEFT_FREE, directory_bytes
from pgherd.restarts import ROUND_SECONDS
from pgherd.wanted import FAILED
from pgherd.wishes import Reinitialize

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgherd.loop import Loop
    from pgherd.model import Member

log = logging.getLogger(__name__)

# What is about to be thrown away need not be stopped for long, seconds.
STOP_SECONDS: Final = 30.0
# The leader has this long for each answer before anything is stopped, seconds.
LEADER_SECONDS: Final = 5.0


async def post_reinitialize(loop: Loop, body: Mapping[str, Any]) -> Answer:
    """Have a new copy replace the data of this member (`POST /reinitialize`)."""
    view = loop.view
    if view.leader is None:
        return Answer(503, "Cluster has no leader, can not reinitialize")
    if view.leader.name == view.me:
        return Answer(503, "I am the leader, can not reinitialize")
    under_way = view.activity or loop.operations.current
    if loop.wanted.restart is not None:
        under_way = "restart"
    if under_way and body.get("force") is not True:
        return Answer(503, f"{under_way.split()[0]} already in progress")
    log.warning("a new copy of the data was asked for")
    await loop.operations.cancel()
    loop.wanted.end_restart(FAILED)
    loop.wanted.reinitialize = Reinitialize(
        loop.effects.clock(),
        from_leader=body.get("from_leader") is True,
        is_cleared=not view.instance.has_data,
    )
    loop.wake.set()
    # Whoever asks for the state after this answer shall not see the one before.
    await loop.changed(lambda view: view.reinitialize is not None, ROUND_SECONDS)
    return Answer(200, "reinitialize started")


async def post_reload(loop: Loop, body: Mapping[str, Any]) -> Answer:
    """Read the configuration file again, and have PostgreSQL do so (`POST /reload`)."""
    problems = loop.reread()
    if problems:
        return Answer(500, "the new configuration is not used: " + "; ".join(problems))
    await loop.effects.postgres.reload()
    loop.callbacks.note("on_reload")
    return Answer(202, "reload scheduled")


async def clear_data(loop: Loop, leader: Member) -> None:
    """Stop PostgreSQL and put its data out of the way.

    It stays beside its place until the copy is there, if the disk has room for both.

    :param leader: is asked first: without it there would be nothing to copy.
    :raises PostgresError: it does not answer, or PostgreSQL does not stop.
    """
    postgres, wanted = loop.effects.postgres, loop.wanted
    await postgres.leader_history(leader, LEADER_SECONDS)
    await postgres.stop(STOP_SECONDS)
    data_dir = postgres.data_dir
    if data_dir.exists():
        size = await asyncio.to_thread(directory_bytes, data_dir)
        free = shutil.disk_usage(data_dir).free - LEFT_FREE
        aside = postgres.set_aside(REPLACED)
        if free < size and aside is not None:
            log.warning("the disk has no room for the old data beside the new: it goes first")
            discard(aside)
    if wanted.reinitialize is not None:
        wanted.reinitialize = replace(wanted.reinitialize, is_cleared=True)
