# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking a backup, by the one host that shall."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pgherd_backup import agents, pgbackrest, programs
from pgherd_backup.errors import BackupError

if TYPE_CHECKING:
    from pgherd_backup.settings import Settings


def should_act(settings: Settings, seen: agents.Seen) -> bool:
    """Tell whether it is this host's turn: a repository host's always, else the leader's.

    Asked when the timer fires, so it is right after a failover (issue 7).
    """
    return settings.member in ("", seen.leader)


def take(settings: Settings, kind: str, *, if_leader: bool) -> dict[str, Any]:
    """Take a backup of *kind* (full, diff, incr) into every repository; return what came of it.

    :param if_leader: do nothing, and say so, where it is another host's turn.
    :raises BackupError: nobody leads, or a backup failed; those that can be taken are.
    """
    seen = agents.look(settings)
    if if_leader and not should_act(settings, seen):
        return {"acted": False, "leader": seen.leader, "backups": []}
    if not seen.leader:
        raise BackupError("nobody leads the cluster: there is nothing to back up")
    # Without a standby the primary is read: slower for clients, better than no backup.
    source = [] if seen.standbys else ["--no-backup-standby"]
    taken, failures = [], []
    for number in settings.repositories:
        began = time.time()
        try:
            programs.watch(
                pgbackrest.words(
                    settings, f"--repo={number}", f"--type={kind}", "--log-level-console=info",
                    "--log-level-stderr=off", *source, "backup",
                )
            )  # fmt: skip
        except BackupError as error:
            failures.append(f"repository {number}: {error}")
            continue
        taken.append(_newest(settings, number, time.time() - began))
    if failures:
        raise BackupError("; ".join(failures))
    return {"acted": True, "leader": seen.leader, "backups": taken}


def _newest(settings: Settings, number: int, seconds: float) -> dict[str, Any]:
    for repository in pgbackrest.info(settings):
        if repository.number == number and repository.backups:
            backup = max(repository.backups, key=lambda each: each.stopped)
            return {
                "label": backup.label,
                "type": backup.type,
                "repository": number,
                "size": backup.size,
                "stored": backup.stored,
                "seconds": round(seconds, 1),
            }
    raise BackupError(f"repository {number} does not know of the backup that was just taken")
