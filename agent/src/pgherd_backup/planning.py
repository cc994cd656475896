# SPDX-License-Identifier: GPL-3.0-or-later
"""Planning with what the repositories and the disk of this host say."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from pgherd_backup import pgbackrest
from pgherd_backup.errors import BackupError, RefusedError
from pgherd_backup.plan import Plan, plan
from pgherd_backup.target import Target, check
from pgherd_backup.walscan import Scanner

if TYPE_CHECKING:
    from pathlib import Path

    from pgherd_backup.pgbackrest import Repository
    from pgherd_backup.settings import Settings


def directory_bytes(directory: Path) -> int:
    """Return how much there is in *directory*."""
    total = 0
    for path in directory.rglob("*"):
        try:
            if path.is_file() and not path.is_symlink():
                total += path.stat().st_size
        except OSError:
            continue
    return total


def free_bytes(directory: Path) -> int:
    """Return what is free where *directory* is, or will be."""
    there = next(each for each in (directory, *directory.parents) if each.exists())
    return shutil.disk_usage(there).free


def usable(settings: Settings, number: int = 0) -> list[Repository]:
    """Return the repositories that answer, the one *number* only if it is given.

    :raises RefusedError: none can be used, with what is wrong with each.
    """
    try:
        found = pgbackrest.info(settings)
    except BackupError as error:
        raise RefusedError(f"no repository answers: {error}") from error
    if number and number not in [each.number for each in found]:
        raise RefusedError(f"there is no repository {number}")
    chosen = [each for each in found if number in (0, each.number)]
    good = [each for each in chosen if not each.problem]
    if not good:
        said = "; ".join(f"repository {each.number}: {each.problem}" for each in chosen)
        raise RefusedError(
            f"nothing can be restored of the stanza {settings.stanza}: "
            f"{said or 'no repository knows it'}. Look at its name, at the cipher pass and at the "
            "repository"
        )
    return good


def make_plan(
    settings: Settings, target: Target, data_dir: Path, *, reuse: bool, number: int = 0
) -> Plan:
    """Return what a restore of *target* into *data_dir* would do.

    Of several repositories it is the first one in which *target* is possible.

    :param reuse: what is in *data_dir* is written over, not kept.
    :raises RefusedError: it is not possible, with what is.
    """
    check(target)
    repositories = usable(settings, number)
    refusals = []
    for repository in repositories:
        oldest = min((each.first_wal[8:] for each in repository.backups), default="")
        paths = pgbackrest.archived(settings, repository, since="0" * 8 + oldest)
        try:
            return plan(
                repository,
                target,
                list(paths),
                Scanner(settings, repository.number, paths),
                free=free_bytes(data_dir),
                reused=directory_bytes(data_dir) if reuse else 0,
            )
        except RefusedError as error:
            refusals.append(str(error))
    raise RefusedError("; ".join(dict.fromkeys(refusals)))
