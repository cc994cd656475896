# SPDX-License-Identifier: GPL-3.0-or-later
"""The data directory as a directory: new ones grow beside it, old ones are set aside.

What is removed is renamed first and goes in a thread: a large directory takes its time, and the
agent has none to wait.
"""

from __future__ import annotations

import shutil
import threading
import time
from typing import TYPE_CHECKING, Final

from pgherd.errors import PostgresError

if TYPE_CHECKING:
    from pathlib import Path

# pg_rewind works on a directory of this suffix, so that half of its work is never started.
REWINDING: Final = "rewinding"
# A directory that is being replaced waits here, in case that fails.
REPLACED: Final = "replaced"
TRASH: Final = "trash"
# Stands beside a data directory that a command is still filling in its place.
FILLING: Final = "filling"


def beside(data_dir: Path, suffix: str) -> Path:
    """Return the path beside *data_dir*, on the same file system, that *suffix* names."""
    return data_dir.with_name(f"{data_dir.name}.{suffix}")


def staging(data_dir: Path) -> Path:
    """Return a new empty directory beside *data_dir*, on the same file system.

    What is made there moves into place when it is whole, so that an interrupted copy is never taken
    for a data directory.

    :raises PostgresError: *data_dir* holds something, or the directory cannot be made.
    """
    if beside(data_dir, FILLING).exists():
        # A method that failed, or an agent that died, has left half of a directory.
        discard(data_dir)
    if data_dir.is_dir() and any(data_dir.iterdir()):
        raise PostgresError(
            f"{data_dir} is not empty and holds no database; it is left as it is. "
            "Move its content away and this member goes on by itself."
        )
    path = beside(data_dir, "new")
    discard(path)
    beside(data_dir, FILLING).unlink(missing_ok=True)
    # What pg_rewind left half done is of no use to anybody.
    discard(beside(data_dir, REWINDING))
    sweep(data_dir.parent, data_dir.name)
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
    discard(beside(data_dir, REPLACED))


def fill_in_place(data_dir: Path, *, keeps_leftovers: bool) -> Path:
    """Make *data_dir* ready for a command that fills it in its place; return the mark beside it.

    Until the mark is removed the directory does not count as data, whatever is in it.

    :param keeps_leftovers: what an earlier try has left may be of use to the next one.
    :raises PostgresError: there is something in *data_dir* that no such try has left.
    """
    mark = beside(data_dir, FILLING)
    if data_dir.is_dir() and any(data_dir.iterdir()):
        if not mark.exists():
            raise PostgresError(
                f"{data_dir} is not empty and holds no database; it is left as it is. "
                "Move its content away and this member goes on by itself."
            )
        if not keeps_leftovers:
            discard(data_dir)
    discard(beside(data_dir, REWINDING))
    sweep(data_dir.parent, data_dir.name)
    try:
        mark.touch(0o600)
        data_dir.mkdir(0o700, exist_ok=True)
    except OSError as error:
        raise PostgresError(f"{data_dir} cannot be made: {error.strerror}") from error
    return mark


def holds_data(data_dir: Path) -> bool:
    """Tell whether there is a whole data directory."""
    return (data_dir / "PG_VERSION").exists() and not beside(data_dir, FILLING).exists()


def set_aside(data_dir: Path, suffix: str) -> Path | None:
    """Rename *data_dir*, replacing what was set aside so before; None when there is none.

    :raises OSError: it cannot be renamed.
    """
    if not data_dir.exists():
        return None
    aside = beside(data_dir, suffix)
    discard(aside)
    data_dir.rename(aside)
    return aside


def discard(path: Path) -> None:
    """Have the directory *path*, if there is one, be gone at once."""
    if path.exists():
        base = path.name.rpartition(".")[0]
        trash = path.with_name(f"{base}.{TRASH}.{time.time_ns()}")
        path.rename(trash)
        _remove(trash)


def sweep(directory: Path, name: str) -> None:
    """Go on with what an earlier agent was discarding in *directory*, of names like *name*."""
    for trash in directory.glob(f"{name}.{TRASH}.*"):
        _remove(trash)


def _remove(path: Path) -> None:
    threading.Thread(target=shutil.rmtree, args=(path, True), name="trash", daemon=True).start()
