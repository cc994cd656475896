# SPDX-License-Identifier: GPL-3.0-or-later
"""Bringing a data directory back onto the leader's history: nothing, pg_rewind, or a new copy."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from pgherd.divergence import diverged, past_of
from pgherd.salvage import Salvage

if TYPE_CHECKING:
    from pgherd.divergence import Divergence
    from pgherd.history import Past
    from pgherd.model import Instance, Member
    from pgherd.postgres import Postgres

log = logging.getLogger(__name__)

# How long a rejoin, which holds nothing up, waits for each answer of the leader, seconds.
HISTORY_SECONDS: Final = 5.0


async def is_diverged(
    postgres: Postgres, instance: Instance, leader: Member, within: float
) -> bool:
    """Tell whether the running instance has applied WAL that *leader*'s history does not have.

    The two may call their timelines the same.

    :param within: seconds the leader has for each answer.
    :raises PostgresError: the leader does not answer, or is no primary yet.
    """
    past = past_of(postgres, instance)
    return await diverged(postgres, past, leader, within) is not None


async def rejoin(
    postgres: Postgres,
    leader: Member,
    upstream: Member | None,
    use_rewind: bool,
    stop_within: float,
) -> None:
    """Stop the instance if it runs, put it onto *leader*'s history, start it as a standby.

    :param upstream: whom it streams from then.
    :param stop_within: seconds that stopping in fast mode may take.
    :raises PostgresError: the leader went away, or neither rewind nor a new copy succeeded.
    """
    instance = await postgres.observe()
    past = past_of(postgres, instance) if instance.is_running else None
    # Asked before it stops: without an answer it had better go on.
    found = await diverged(postgres, past, leader, HISTORY_SECONDS) if past else None
    await postgres.stop(stop_within)
    if past is None:
        control = await postgres.programs.control(postgres.data_dir)
        past = await Salvage(postgres).past(control)
        found = await diverged(postgres, past, leader, HISTORY_SECONDS)
    if found is not None:
        await _undo(postgres, leader, found, past, use_rewind)
    await postgres.start_standby(upstream)


async def _undo(
    postgres: Postgres, leader: Member, found: Divergence, past: Past, use_rewind: bool
) -> None:
    salvage = Salvage(postgres)
    obstacle = await salvage.obstacle(found, use_rewind)
    await salvage.archive(found)
    place = await salvage.keep(found, past, whole=bool(obstacle))
    if obstacle:
        log.warning("pg_rewind cannot be used: %s", obstacle)
    elif await salvage.rewind(leader):
        return
    else:
        # Its failure says nothing if the leader is gone (R27): then this is tried again later.
        await postgres.leader_history(leader, HISTORY_SECONDS)
    log.warning("copying the data of %s anew", leader.name)
    await salvage.copy_anew(leader, found, place)
