# SPDX-License-Identifier: GPL-3.0-or-later
"""Bringing a data directory back onto the leader's history: nothing, pg_rewind, or a new copy."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from pgherd.errors import CommandError, PostgresError
from pgherd.history import has_diverged

if TYPE_CHECKING:
    from pgherd.model import Control, Instance, Member
    from pgherd.postgres import Postgres

log = logging.getLogger(__name__)

# How long a rejoin, which holds nothing up, waits for each answer of the leader, seconds.
HISTORY_SECONDS: Final = 5.0


async def is_diverged(
    postgres: Postgres, instance: Instance, leader: Member, within: float
) -> bool:
    """Tell whether the running instance has applied WAL that *leader*'s history does not have.

    WAL received and not applied does not count: the last bytes that came from a primary that died
    are often half a record, which the new primary has dropped and a standby overwrites.

    :param within: seconds the leader has for each of two answers.
    :raises PostgresError: the leader does not answer, or is no primary yet.
    """
    timeline, branches = await postgres.leader_history(leader, within)
    applied = instance.location or instance.replayed or 0
    return has_diverged(branches, timeline, instance.timeline or 0, applied)


async def _needs_rewind(postgres: Postgres, control: Control, leader: Member) -> bool:
    """Decide for a stopped instance (R25).

    A former primary that was stopped cleanly ends with its shutdown checkpoint: if the leader's
    history includes that record nothing diverged. One that crashed may hold more than its control
    file knows, so pg_rewind (which recovers it first) has the last word. A standby is judged when
    it runs and knows its position.
    """
    if not control.was_primary:
        return False
    timeline, branches = await postgres.leader_history(leader, HISTORY_SECONDS)
    if timeline == control.timeline:
        return False
    if not control.was_stopped_cleanly:
        return True
    # The record itself must lie before the switch point, not only its start; the smallest step is
    # one byte, since a switch point is always a record's end.
    return has_diverged(branches, timeline, control.timeline, control.checkpoint + 1)


async def rejoin(postgres: Postgres, leader: Member, use_rewind: bool, stop_within: float) -> None:
    """Stop the instance if it runs, put it onto *leader*'s history, start it as its standby.

    :param stop_within: seconds that stopping in fast mode may take.
    :raises PostgresError: neither rewind nor a new copy succeeded.
    """
    was_running = postgres.postmaster() is not None
    await postgres.stop(stop_within)
    control = await postgres.programs.control(postgres.data_dir)
    # A running standby is sent here because it has diverged.
    has_diverged_wal = was_running or await _needs_rewind(postgres, control, leader)
    if has_diverged_wal and not (use_rewind and await _rewind(postgres, leader)):
        await _clone_again(postgres, leader)
    await postgres.start_standby(leader)


async def _rewind(postgres: Postgres, leader: Member) -> bool:
    """Run pg_rewind against *leader*; tell whether it succeeded."""
    source = postgres.remote_conninfo(leader)
    # pg_rewind recovers a crashed target in single-user mode, which refuses standby mode.
    (postgres.data_dir / "standby.signal").unlink(missing_ok=True)
    try:
        await postgres.programs.run(
            "pg_rewind",
            f"--target-pgdata={postgres.data_dir}",
            f"--source-server={source}",
            report=True,
        )
    except CommandError as error:
        log.error("pg_rewind failed, the data directory will be copied anew: %s", error)
        return False
    return True


async def _clone_again(postgres: Postgres, leader: Member) -> None:
    """Copy the leader anew; the old directory is kept aside until the next time this happens.

    :raises PostgresError: pg_basebackup failed; the old directory is put back.
    """
    aside = postgres.set_aside("diverged")
    log.warning("the diverged data directory is kept as %s", aside)
    try:
        await postgres.clone(leader)
    except PostgresError:
        if aside is not None:
            aside.rename(postgres.data_dir)
        raise
