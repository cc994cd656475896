# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the disks below the data directory still take writes.

PostgreSQL itself tells too late or not at all: a full disk ends it in a loop of crashes, a
read-only or dead one lets it read from memory for a long time (Patroni's issues 1732 and 2380).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import threading
from typing import TYPE_CHECKING, Final

from pgherd.hang import Probe
from pgherd.wal import segment_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from pgherd.effects import Clock

# Neither pg_basebackup nor pg_rewind copies what begins with `pgsql_tmp` (PostgreSQL documentation,
# 55.4 "BASE_BACKUP", and pg_rewind, "How It Works").
PROBE_FILE: Final = "pgsql_tmp.pgherd"
PROBE: Final = b"pgherd writes this to see whether the disk takes it.\n"
# PostgreSQL needs room for its next WAL segment; this much on top is for everything else.
RESERVE_BYTES: Final = 16 << 20
# A disk found full counts as full until it has this many times the room.
ROOM_AGAIN: Final = 2
# These say something of this process, not of the disk.
NOT_THE_DISK: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR})


class DiskProbe(Probe):
    """Writes a small file and looks at the free room, in a thread that may hang.

    :param hang_timeout: seconds after which a write that does not end counts as a dead disk.
    """

    def __init__(self, data_dir: Path, hang_timeout: float, clock: Clock) -> None:
        super().__init__(hang_timeout, clock)
        self._data_dir = data_dir
        self._clock = clock
        self._known = ""

    def look(self) -> str:
        """Return what is wrong with the disks, empty when nothing is; never waits."""
        limit = self._pace.limit
        if self._silence.seconds(self._clock()) >= limit:
            return f"a write to {self._data_dir} did not end within {limit:g} s"
        return self._known

    async def look_once(self) -> bool:
        """Write and look; any outcome is an answer, only silence is none."""
        self._known = await self._in_thread()
        return True

    async def _in_thread(self) -> str:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str] = loop.create_future()

        def tell(found: str) -> None:
            if not answer.done():
                answer.set_result(found)

        def work() -> None:
            found = examine(self._data_dir, self._known)
            # The agent may have ended while the disk hung.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(tell, found)

        # Not a pool's thread: the agent would wait for it when it ends.
        threading.Thread(target=work, name="disk", daemon=True).start()
        return await answer


def examine(data_dir: Path, before: str) -> str:
    """Return what is wrong with the file systems of *data_dir* and its WAL, empty when nothing is.

    A directory without a database is left alone.

    :param before: what was found the last time.
    """
    try:
        if not (data_dir / "PG_VERSION").exists():
            return ""
        wal = data_dir / "pg_wal"
        directories = [data_dir]
        if wal.stat().st_dev != data_dir.stat().st_dev:
            directories.append(wal)
        needed = (segment_bytes(wal) + RESERVE_BYTES) * (ROOM_AGAIN if before else 1)
        found = [_examine_one(directory, needed) for directory in directories]
    except FileNotFoundError:
        # The directory is being replaced.
        return ""
    except OSError as error:
        if error.errno in NOT_THE_DISK:
            return before
        return f"{error.filename or data_dir} cannot be used: {error.strerror}"
    return "; ".join(problem for problem in found if problem)


def _examine_one(directory: Path, needed: int) -> str:
    state = os.statvfs(directory)
    if state.f_flag & os.ST_RDONLY:
        return f"{directory} is on a read-only file system"
    if state.f_bavail * state.f_frsize < needed:
        return f"the disk of {directory} is full: less than {needed >> 20} MB are left"
    _write(directory / PROBE_FILE)
    return ""


def _write(path: Path) -> None:
    # Made anew each time, so that it needs a block of its own.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, PROBE)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
