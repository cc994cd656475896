# SPDX-License-Identifier: GPL-3.0-or-later
"""A replica method of the agent, and its way to begin a cluster: data out of a backup."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd_backup import pgbackrest, programs
from pgherd_backup.errors import RefusedError
from pgherd_backup.planning import usable
from pgherd_backup.recovery import close, private_instance, recover, restore, tidy

if TYPE_CHECKING:
    from pathlib import Path

    from pgherd_backup.settings import Settings
    from pgherd_backup.target import Target


def make_replica(settings: Settings, data_dir: Path) -> None:
    """Fill *data_dir* by the newest backup; the agent makes a standby of it.

    What the member had before is taken over where it is right (pgBackRest's delta).

    :raises BackupError: it cannot be done; the agent tries its next method then.
    """
    # The old data are touched only if there is something to take their place.
    if not any(not each.error for found in usable(settings) for each in found.backups):
        raise RefusedError("there is no backup that can be used")
    replaced = data_dir.with_name(data_dir.name + ".replaced")
    if replaced.is_dir() and not any(data_dir.iterdir()):
        tablespaces = replaced / "pg_tblspc"
        if tablespaces.is_dir() and any(tablespaces.iterdir()):
            raise RefusedError(f"{replaced} has tablespaces elsewhere, which would be overwritten")
        data_dir.rmdir()
        replaced.rename(data_dir)
        programs.tell(f"taking over what is right of {replaced}")
        for name in ("postmaster.pid", "postmaster.opts", "standby.signal", "recovery.signal"):
            (data_dir / name).unlink(missing_ok=True)
    restore(pgbackrest.words(settings, "--type=standby"), data_dir, settings.processes)
    # The agent's own configuration says where WAL is to be had.
    tidy(data_dir)


def begin_cluster(
    settings: Settings, data_dir: Path, *, config: Path, stanza: str, target: Target
) -> None:
    """Fill *data_dir* with another cluster, recovered to *target* and cleanly stopped.

    :param config: pgBackRest's, with the repository of that cluster; *stanza* is its name there.
    :raises BackupError: a step failed.
    """
    command = [pgbackrest.PROGRAM, f"--config={config}", f"--stanza={stanza}"]
    chosen = [f"--set={target.backup}"] if target.backup else []
    restore([*command, *chosen, *target.options()], data_dir, settings.processes)
    # What begins here is archived by the cluster that it is to be, once that has a stanza.
    instance = private_instance(settings, data_dir, archive_command="/bin/false")
    recover(instance)
    close(instance)
    tidy(data_dir)
