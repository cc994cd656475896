# SPDX-License-Identifier: GPL-3.0-or-later
"""Making the repositories know the cluster: pgBackRest's stanza, made or upgraded once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from pgherd_backup import agents, pgbackrest, programs
from pgherd_backup.errors import BackupError, ProgramError
from pgherd_backup.run import should_act

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgherd_backup.settings import Settings

# pgBackRest's codes of a stanza (`info --output=json`): the path is missing, the stanza's own too.
MISSING: Final = (1, 3)
# Its exit code when the cluster is not the one that the stanza is of (mismatch of version or id).
MISMATCH: Final = (28, 44, 51)
NO_BACKUP: Final = (
    "there is no backup yet: take one (pgherd.cluster.backup), or wait for the timers"
)
# Its exit code when archive_mode is still off: PostgreSQL has to be restarted first.
ARCHIVE_DISABLED: Final = 87


def statuses(raw: Sequence[dict[str, Any]]) -> dict[int, int]:
    """Return pgBackRest's code for every repository, by its number."""
    return {
        repository["key"]: repository["status"]["code"]
        for stanza in raw
        for repository in stanza.get("repo") or []
    }


def has_backup(raw: Sequence[dict[str, Any]]) -> bool:
    """Tell whether there is a backup that can be used, in any repository."""
    return any(not backup.get("error") for stanza in raw for backup in stanza.get("backup") or [])


def ensure(settings: Settings, within: float) -> dict[str, Any]:
    """Make or upgrade the stanza where it has to be; tell what was changed and what is missing yet.

    :param within: how long the first segment may take into the archive, seconds.
    :raises BackupError: it cannot be made, with pgBackRest's words.
    """
    seen = agents.look(settings)
    if not should_act(settings, seen):
        return {"changed": False, "acted": False}
    text = programs.output_of(pgbackrest.words(settings, "info", "--output=json", local=True))
    raw = json.loads(text, strict=False)
    codes = statuses(raw)
    lacking = [n for n in settings.repositories if codes.get(n, MISSING[0]) in MISSING]
    changed = _make_or_upgrade(settings) or bool(lacking)
    pending = "" if has_backup(raw) else NO_BACKUP
    if changed:
        try:
            programs.output_of(pgbackrest.words(settings, f"--archive-timeout={within:g}", "check"))
        except ProgramError as error:
            if error.code != ARCHIVE_DISABLED:
                raise
            pending = (
                "archive_mode is off until PostgreSQL is restarted (pgherd.cluster.restart_rolling)"
            )
    return {"changed": changed, "acted": True, "pending": pending}


def _make_or_upgrade(settings: Settings) -> bool:
    """Make what is missing, which changes nothing where nothing is; tell if it was upgraded."""
    try:
        programs.output_of(pgbackrest.words(settings, "stanza-create"))
    except ProgramError as error:
        if error.code not in MISMATCH:
            raise BackupError(f"the stanza {settings.stanza} cannot be made: {error}") from error
        programs.output_of(pgbackrest.words(settings, "stanza-upgrade"))
        return True
    return False
