# SPDX-License-Identifier: GPL-3.0-or-later
"""The data directory as a directory: new ones grow beside it, old ones are set aside."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from pgherd.errors import PostgresError

if TYPE_CHECKING:
    from pathlib import Path


def staging(data_dir: Path) -> Path:
    """Return a new empty directory beside *data_dir*, on the same file system.

    What is made there moves into place when it is whole, so that an interrupted copy is never taken
    for a data directory.

    :raises PostgresError: *data_dir* holds something, or the directory cannot be made.
    """
    if data_dir.is_dir() and any(data_dir.iterdir()):
        raise PostgresError(
            f"{data_dir} is not empty and holds no database; it is left as it is. "
            "Move its content away and this member goes on by itself."
        )
    path = data_dir.with_name(data_dir.name + ".new")
    shutil.rmtree(path, ignore_errors=True)
    try:
        path.mkdir(0o700)
    except OSError as error:
        raise PostgresError(
            f"{path} cannot be made: {error.strerror}. New data grows beside its place, so "
            f"{path.parent} must be writable for the user of the agent."
        ) from error
    return path


def put_in_place(path: Path, data_dir: Path) -> None:
    """Rename *path* to *data_dir*, which must be absent or empty.

    :raises PostgresError: it is neither; nothing is lost.
    """
    try:
        path.rename(data_dir)
    except OSError as error:
        raise PostgresError(f"{data_dir} is in the way: {error.strerror}") from error


def set_aside(data_dir: Path, suffix: str) -> Path | None:
    """Rename *data_dir*, replacing what was set aside so before; None when there is none."""
    if not data_dir.exists():
        return None
    aside = data_dir.with_name(f"{data_dir.name}.{suffix}")
    shutil.rmtree(aside, ignore_errors=True)
    data_dir.rename(aside)
    return aside
